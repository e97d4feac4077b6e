//! Requests that look odd and are not ambiguous: refusing them would break clients.

use super::{Case, forward, get, message, post, seen};

pub(super) fn cases() -> Vec<Case> {
    [lengths(), chunked(), heads(), methods(), streams()].concat()
}

fn lengths() -> Vec<Case> {
    let body = "GET /smuggled HTTP/1.1\r\nHost: app.prod\r\n\r\n";
    let inside = post(&[&format!("Content-Length: {}", body.len())], body);
    vec![
        forward("fine", "a request inside a counted body", &inside, vec![seen("POST", "/p", body)]),
        forward("fine", "length 0", &post(&["Content-Length: 0"], ""), vec![seen("POST", "/p", "")]),
        forward("fine", "no length", &post(&[], ""), vec![seen("POST", "/p", "")]),
        forward(
            "fine",
            "length without a space",
            &post(&["Content-Length:5"], "hello"),
            vec![seen("POST", "/p", "hello")],
        ),
        forward(
            "fine",
            "length between spaces",
            &post(&["Content-Length: \t 5 \t "], "hello"),
            vec![seen("POST", "/p", "hello")],
        ),
        forward(
            "fine",
            "length in capitals",
            &post(&["CONTENT-LENGTH: 5"], "hello"),
            vec![seen("POST", "/p", "hello")],
        ),
        forward("fine", "a name like a length", &post(&["Content_Length: 5"], ""), vec![seen("POST", "/p", "")]),
        forward(
            "fine",
            "a name longer than a length",
            &post(&["X-Content-Length: 5"], ""),
            vec![seen("POST", "/p", "")],
        ),
        forward(
            "fine",
            "a name like an encoding",
            &post(&["Transfer_Encoding: chunked"], ""),
            vec![seen("POST", "/p", "")],
        ),
        forward(
            "fine",
            "100-continue",
            &post(&["Expect: 100-Continue", "Content-Length: 5"], "hello"),
            vec![seen("POST", "/p", "hello")],
        ),
    ]
}

fn chunked() -> Vec<Case> {
    let inside = "GET /smuggled HTTP/1.1\r\nHost: app.prod\r\n\r\n";
    let cases: [(&str, String, &str); 12] = [
        ("nothing", "0\r\n\r\n".to_owned(), ""),
        ("one", "5\r\nhello\r\n0\r\n\r\n".to_owned(), "hello"),
        ("two", "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n".to_owned(), "hello"),
        ("hexadecimal, capitals", format!("A\r\n{0}\r\na\r\n{0}\r\n0\r\n\r\n", "0123456789"), "01234567890123456789"),
        ("leading zeros", "0005\r\nhello\r\n000\r\n\r\n".to_owned(), "hello"),
        ("an extension", "5;a\r\nhello\r\n0;b=c\r\n\r\n".to_owned(), "hello"),
        ("a quoted extension", "5;a=\"b; \\\" c\"\r\nhello\r\n0\r\n\r\n".to_owned(), "hello"),
        ("several extensions", "5;a;b=c;d=\"\"\r\nhello\r\n0\r\n\r\n".to_owned(), "hello"),
        ("a request inside", format!("{:x}\r\n{inside}\r\n0\r\n\r\n", inside.len()), inside),
        ("line ends inside", "7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n".to_owned(), "\r\n0\r\n\r\n"),
        ("a trailer", "5\r\nhello\r\n0\r\nX-Trailer: a\r\n\r\n".to_owned(), "hello"),
        ("two trailers", "5\r\nhello\r\n0\r\nX-Trailer: a\r\nGrpc-Status: 0\r\n\r\n".to_owned(), "hello"),
    ];
    let mut list: Vec<Case> = cases
        .iter()
        .map(|(what, body, expected)| {
            let bytes = post(&["Transfer-Encoding: chunked"], body);
            forward("fine", &format!("chunked, {what}"), &bytes, vec![seen("POST", "/p", expected)])
        })
        .collect();
    for field in ["transfer-encoding:chunked", "TRANSFER-ENCODING: CHUNKED", "Transfer-Encoding: \t chunked \t"] {
        let bytes = post(&[field], "5\r\nhello\r\n0\r\n\r\n");
        list.push(forward("fine", &format!("chunked as {field:?}"), &bytes, vec![seen("POST", "/p", "hello")]));
    }
    list
}

fn heads() -> Vec<Case> {
    let fine = |what: &str, bytes: String| forward("fine", what, &bytes, vec![seen("GET", "/g", "")]);
    let host = |line: &str| message("GET /g HTTP/1.1", &[line, "X-Marker: CASE"], "");
    let mut cases = vec![
        fine("an empty value", get(&["X-Field:"])),
        fine("a value of spaces", get(&["X-Field:   "])),
        fine("a colon in a value", get(&["X-Field: a:b"])),
        fine("a tab in a value", get(&["X-Field: a\tb"])),
        fine("Latin-1 in a value", get(&["X-Field: \u{e9}t\u{e9}"])),
        fine("a name of odd token bytes", get(&["!#$%&'*+-.^_`|~: a"])),
        fine("an underscore in a name", get(&["X_Field: a"])),
        fine("a repeated name", get(&["X-Field: a", "X-Field: b"])),
        fine("TE", get(&["TE: trailers", "Connection: TE"])),
        fine("Trailer", get(&["Trailer: X-Trailer"])),
        fine("empty list elements", get(&["Connection: , keep-alive,,"])),
        fine("Host without a space", host("Host:app.prod")),
        fine("Host between spaces", host("Host: \t app.prod \t ")),
        fine("Host in capitals", host("HOST: APP.PROD")),
        fine("Host with its port", host("Host: app.prod:80")),
        fine("an empty line before", format!("\r\n{}", get(&[]))),
    ];
    let target = "/a%20b/../c;d=e,f?q=%23&r=[x]|{y}";
    let bytes = message(&format!("GET {target} HTTP/1.1"), &["Host: app.prod", "X-Marker: CASE"], "");
    // Only the framing is judged here; whether the path is rewritten on its way is not.
    cases.push(forward("odd path", "all kinds of bytes in a target", &bytes, vec![seen("GET", target, "")]));
    let old = message("GET /g HTTP/1.0", &["Host: app.prod", "X-Marker: CASE"], "");
    cases.push(fine("HTTP/1.0", old));
    cases
}

fn methods() -> Vec<Case> {
    let mut cases = Vec::new();
    for method in ["GET", "DELETE", "OPTIONS", "PUT", "PATCH", "PROPFIND", "REPORT", "X-OWN"] {
        let line = format!("{method} /m HTTP/1.1");
        let fields = ["Host: app.prod", "X-Marker: CASE", "Content-Length: 5"];
        let bytes = message(&line, &fields, "hello");
        cases.push(forward("fine", &format!("{method} with a body"), &bytes, vec![seen(method, "/m", "hello")]));
        let fields = ["Host: app.prod", "X-Marker: CASE", "Transfer-Encoding: chunked"];
        let bytes = message(&line, &fields, "5\r\nhello\r\n0\r\n\r\n");
        cases.push(forward("fine", &format!("{method} with chunks"), &bytes, vec![seen(method, "/m", "hello")]));
    }
    let head = message("HEAD /m HTTP/1.1", &["Host: app.prod", "X-Marker: CASE"], "");
    cases.push(forward("fine", "HEAD", &head, vec![seen("HEAD", "/m", "")]));
    cases
}

fn streams() -> Vec<Case> {
    let one = get(&[]);
    let two = post(&["Content-Length: 5"], "hello");
    let three = post(&["Transfer-Encoding: chunked"], "5\r\nhello\r\n0\r\n\r\n");
    let seen_get = || seen("GET", "/g", "");
    let seen_post = || seen("POST", "/p", "hello");
    vec![
        forward("fine", "two GETs", &format!("{one}{one}"), vec![seen_get(), seen_get()]),
        forward(
            "fine",
            "counted, chunked, GET",
            &format!("{two}{three}{one}"),
            vec![seen_post(), seen_post(), seen_get()],
        ),
        forward("fine", "an empty line between", &format!("{two}\r\n{one}"), vec![seen_post(), seen_get()]),
        forward("fine", "twenty", &format!("{one}{two}").repeat(10), vec![[seen_get(), seen_post()]; 10].concat()),
    ]
}
