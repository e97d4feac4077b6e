//! The request line: spaces, methods, targets, versions, and what stands before it.

use super::{Case, called, message, refuse};

pub(super) fn cases() -> Vec<Case> {
    [shapes(), methods(), targets(), versions(), before()].concat()
}

fn with(line: &str) -> String {
    message(line, &["Host: app.prod", "X-Marker: CASE"], "")
}

fn shapes() -> Vec<Case> {
    [
        "GET  /g HTTP/1.1",
        "GET /g  HTTP/1.1",
        "GET /g HTTP/1.1 ",
        " GET /g HTTP/1.1",
        "\tGET /g HTTP/1.1",
        "GET\t/g HTTP/1.1",
        "GET /g\tHTTP/1.1",
        "GET /g HTTP/1.1\t",
        "GET\u{b}/g HTTP/1.1",
        "GET\u{c}/g HTTP/1.1",
        "GET\r/g HTTP/1.1",
        "GET /g HTTP/1.1\r",
        "GET /g\u{0} HTTP/1.1",
        "GET\u{0} /g HTTP/1.1",
        "\u{0}GET /g HTTP/1.1",
        "GET\u{a0}/g\u{a0}HTTP/1.1",
        "GET /g",
        "GET /g ",
        "GET",
        "GET ",
        "/g HTTP/1.1",
        " /g HTTP/1.1",
        "GET HTTP/1.1",
        "GET  HTTP/1.1",
        "GET /g /h HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET /g HTTP/1.1 HTTP/1.1",
        "GET /g HTTP/1.1 Host: other.prod",
        "GET /g,HTTP/1.1",
        "GET /g HTTP/1.1\nX-Line: a",
        "GET /g HTTP/1.1\rX-Line: a",
        "GET /g HTTP/1.1\n\nGET /smuggled HTTP/1.1",
        "GET /g HTTP/1.1\r\n X-Fold: a",
        "Host: app.prod",
    ]
    .map(|line| refuse("line", &format!("{line:?}"), &with(line)))
    .to_vec()
}

fn methods() -> Vec<Case> {
    let long = "A".repeat(200);
    let mut methods: Vec<String> =
        ["G@T", "GET/", "GE:T", "(GET)", "\"GET\"", "GET,", "G=T", "[GET]", "<GET>", "G\\T", "G;T", "G?T", "{GET}"]
            .map(str::to_owned)
            .to_vec();
    methods.push(long);
    for byte in [0x01, 0x08, 0x1b, 0x7f, 0x80, 0xa0, 0xff] {
        methods.push(format!("GE{}T", char::from(byte)));
    }
    let name = |method: &str| if method.len() > 20 { "long".to_owned() } else { format!("{method:?}") };
    let mut cases: Vec<Case> = methods
        .iter()
        .map(|method| refuse("line", &format!("method {}", name(method)), &with(&format!("{method} /g HTTP/1.1"))))
        .collect();
    // Which form a target may have depends on the method.
    for line in [
        "CONNECT /g HTTP/1.1",
        "CONNECT http://app.prod/ HTTP/1.1",
        "CONNECT app.prod HTTP/1.1",
        "CONNECT app.prod: HTTP/1.1",
        "CONNECT app.prod:80/ HTTP/1.1",
        "CONNECT * HTTP/1.1",
        "CONNECT :80 HTTP/1.1",
        "CONNECT user@app.prod:80 HTTP/1.1",
        "GET app.prod:80 HTTP/1.1",
        "GET * HTTP/1.1",
        "POST * HTTP/1.1",
        "options * HTTP/1.1",
        "connect app.prod:80 HTTP/1.1",
    ] {
        cases.push(refuse("line", &format!("form {line}"), &with(line)));
    }
    cases
}

fn targets() -> Vec<Case> {
    let mut targets: Vec<String> = [
        "/g#",
        "/g#x",
        "#",
        "/#/../x",
        "/g?q#x",
        "http://app.prod/#x",
        "http://app.prod#x",
        "*#",
        "g",
        "g/h",
        "./g",
        "../g",
        "?q",
        "app.prod/g",
        "http:/app.prod/g",
        "http:app.prod/g",
        "http:///g",
        "http://",
        "http://?x",
        "://app.prod/",
        "ftp://app.prod/g",
        "file:///etc/passwd",
        "gopher://app.prod/",
        "javascript:1",
        "ws://app.prod/g",
        "htt://app.prod/g",
        "http//app.prod/g",
        "http://user@app.prod/g",
        "http://user:pass@app.prod/g",
        "http://app.prod@other.prod/g",
        "http://app.prod:/g",
        "http://app.prod:x/g",
        "http://app.prod:99999/g",
        "http://[::1/g",
        "http://app.prod\\@other/g",
        "http://app.prod,other.prod/g",
        "http://app%2eprod/g",
        "\\g",
        "\"/g\"",
        "<g>",
        "@app.prod/g",
        ":80/g",
        "**",
        "*/g",
    ]
    .map(str::to_owned)
    .to_vec();
    for byte in [0x01, 0x08, 0x09, 0x0b, 0x0c, 0x1b, 0x1f, 0x7f, 0x80, 0x85, 0xa0, 0xc3, 0xff] {
        targets.push(format!("/g{}h", char::from(byte)));
    }
    targets
        .iter()
        .map(|target| refuse("line", &format!("target {target:?}"), &with(&format!("GET {target} HTTP/1.1"))))
        .collect()
}

fn versions() -> Vec<Case> {
    let mut versions: Vec<String> = [
        "",
        "HTTP",
        "HTTP/",
        "HTTP/1",
        "HTTP/1.",
        "HTTP/.1",
        "HTTP/0.9",
        "HTTP/1.2",
        "HTTP/1.3",
        "HTTP/1.9",
        "HTTP/2",
        "HTTP/2.0",
        "HTTP/3.0",
        "HTTP/9.9",
        "HTTP/11",
        "HTTP/1.10",
        "HTTP/1.11",
        "HTTP/01.1",
        "HTTP/1.01",
        "HTTP/1.1.1",
        "HTTP/1,1",
        "HTTP/1 1",
        "HTTP/ 1.1",
        "HTTP /1.1",
        "HTTP/-1.1",
        "HTTP/+1.1",
        "HTTP/1.1a",
        "HTTP/1.1;",
        "HTTP/1.1,",
        "http/1.1",
        "Http/1.1",
        "hTTP/1.1",
        "HTTP\\1.1",
        "HTTP-1.1",
        "HTTPS/1.1",
        "HTP/1.1",
        "XHTTP/1.1",
        "ICY/1.0",
        "RTSP/1.0",
        "SIP/2.0",
        "1.1",
        "/1.1",
        "HTTP/A.B",
        "HTTP/0x1.1",
        "HTTP/1.\u{b9}",
        "HTTP//1.1",
        "\"HTTP/1.1\"",
        "HTTP/1.1#",
    ]
    .map(str::to_owned)
    .to_vec();
    for byte in [0x00, 0x0b, 0x0c, 0x7f, 0x80, 0xa0] {
        versions.push(format!("HTTP/1.1{}", char::from(byte)));
    }
    versions
        .iter()
        .map(|version| refuse("line", &format!("version {version:?}"), &with(&format!("GET /g {version}"))))
        .collect()
}

fn before() -> Vec<Case> {
    let plain = with("GET /g HTTP/1.1");
    let mut cases: Vec<Case> = [
        ("two empty lines", "\r\n\r\n"),
        ("three empty lines", "\r\n\r\n\r\n"),
        ("LF", "\n"),
        ("LF LF", "\n\n"),
        ("CR", "\r"),
        ("CR CR LF", "\r\r\n"),
        ("CRLF LF", "\r\n\n"),
        ("CRLF CR", "\r\n\r"),
        ("a space line", " \r\n"),
        ("a space", " "),
        ("a tab", "\t"),
        ("a line of text", "garbage\r\n"),
        ("a field", "X-Before: a\r\n"),
        ("a chunk", "5\r\nhello\r\n"),
        ("the last chunk", "0\r\n\r\n"),
        ("a byte order mark", "\u{ef}\u{bb}\u{bf}"),
        ("the HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("a PROXY line", "PROXY TCP4 192.0.2.1 192.0.2.2 1 80\r\n"),
    ]
    .map(|(what, bytes)| refuse("before", what, &format!("{bytes}{plain}")))
    .to_vec();
    for byte in [0x00, 0x01, 0x0b, 0x0c, 0x16, 0x7f, 0x80, 0xff] {
        cases.push(refuse("before", &called(byte), &format!("{}{plain}", char::from(byte))));
    }
    cases
}
