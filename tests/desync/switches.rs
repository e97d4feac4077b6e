//! Requests that would leave HTTP/1.1: CONNECT, Upgrade, and `Expect`.

use super::{Case, SMUGGLED, forward, message, post, refuse, seen};

pub(super) fn cases() -> Vec<Case> {
    [connect(), upgrade(), expect()].concat()
}

fn connect() -> Vec<Case> {
    let line = "CONNECT app.prod:80 HTTP/1.1";
    let with =
        |fields: &[&str], rest: &str| message(line, &[&["Host: app.prod:80", "X-Marker: CASE"], fields].concat(), rest);
    vec![
        refuse("connect", "with a length", &with(&["Content-Length: 5"], "hello")),
        refuse("connect", "with a length of 0", &with(&["Content-Length: 0"], SMUGGLED)),
        refuse("connect", "with a length that covers a request", &with(&["Content-Length: 74"], SMUGGLED)),
        refuse("connect", "with chunks", &with(&["Transfer-Encoding: chunked"], "0\r\n\r\n")),
        refuse("connect", "with identity", &with(&["Transfer-Encoding: identity"], SMUGGLED)),
        refuse("connect", "with both", &with(&["Content-Length: 5", "Transfer-Encoding: chunked"], "0\r\n\r\n")),
        refuse("connect", "another Host", &message(line, &["Host: other.prod:80", "X-Marker: CASE"], "")),
        refuse("connect", "another port in Host", &message(line, &["Host: app.prod:81", "X-Marker: CASE"], "")),
        refuse("connect", "no Host", &message(line, &["X-Marker: CASE"], "")),
        refuse("connect", "two Hosts", &with(&["Host: app.prod:80"], "")),
        refuse(
            "connect",
            "in HTTP/1.0 with a length",
            &message("CONNECT app.prod:80 HTTP/1.0", &["Content-Length: 5", "X-Marker: CASE"], "hello"),
        ),
    ]
}

fn upgrade() -> Vec<Case> {
    let mut cases = Vec::new();
    for value in [
        "web socket",
        "websocket;q=1",
        "\"websocket\"",
        "websocket/",
        "/13",
        "websocket/13/x",
        "(h2c)",
        "h2c\u{a0}",
        "@",
    ] {
        let fields = ["Connection: Upgrade", &format!("Upgrade: {value}")];
        cases.push(refuse("upgrade", &format!("to {value:?}"), &post(&fields, "")));
    }
    let framings: [&[&str]; 4] = [
        &["Content-Length: 5", "Transfer-Encoding: chunked"],
        &["Content-Length: 5", "Content-Length: 5"],
        &["Transfer-Encoding: identity"],
        &["Transfer-Encoding: chunked, chunked"],
    ];
    for framing in framings {
        for protocol in ["websocket", "h2c", "TLS/1.2"] {
            let upgrade = format!("Upgrade: {protocol}");
            let fields = [&["Connection: Upgrade", &upgrade][..], framing].concat();
            cases.push(refuse("upgrade", &format!("to {protocol} with {framing:?}"), &post(&fields, "0\r\n\r\n")));
        }
    }
    // A field that nobody asked to switch by is a field like any other.
    let ignored = post(&["Upgrade: websocket", "Content-Length: 5"], "hello");
    cases.push(forward("upgrade", "not named by Connection", &ignored, vec![seen("POST", "/p", "hello")]));
    let h2c = post(
        &["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk", "Content-Length: 5"],
        "hello",
    );
    cases.push(forward("upgrade", "to h2c, with a body", &h2c, vec![seen("POST", "/p", "hello")]));
    cases
}

fn expect() -> Vec<Case> {
    let mut cases = Vec::new();
    for value in [
        "",
        "100",
        "continue",
        "100-continue, x",
        "100-continue,100-continue",
        "x",
        "200-ok",
        "100-continue;q=1",
        "y 100-continue",
        "100 continue",
    ] {
        let fields = [&format!("Expect: {value}"), "Content-Length: 5"];
        cases.push(refuse("expect", &format!("{value:?}"), &post(&fields, "hello")));
    }
    let twice = ["Expect: 100-continue", "Expect: 100-continue", "Content-Length: 5"];
    cases.push(refuse("expect", "twice", &post(&twice, "hello")));
    let hidden = ["Expect: 100-continue", "Content-Length: 5", "Transfer-Encoding: chunked"];
    cases.push(refuse("expect", "with both framings", &post(&hidden, "0\r\n\r\n")));
    cases
}
