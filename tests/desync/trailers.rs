//! Trailer sections: fields that must not stand there, and lines that are no fields.

use super::{Case, SMUGGLED, post, refuse_body};

pub(super) fn cases() -> Vec<Case> {
    [forbidden(), malformed()].concat()
}

fn case(what: &str, trailers: &str) -> Case {
    let body = format!("5\r\nhello\r\n0\r\n{trailers}\r\n\r\n{SMUGGLED}");
    refuse_body("trailer", what, &post(&["Transfer-Encoding: chunked"], &body))
}

fn forbidden() -> Vec<Case> {
    [
        "Transfer-Encoding: chunked",
        "transfer-encoding: identity",
        "Content-Length: 5",
        "content-length: 0",
        "Host: other.prod",
        "HOST: app.prod",
        "Connection: close",
        "Connection: keep-alive",
        "Keep-Alive: timeout=5",
        "Upgrade: websocket",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABk",
        "TE: trailers",
        "Trailer: X-Other",
        "Expect: 100-continue",
        "Authorization: Bearer x",
        "Proxy-Authorization: Basic x",
        "Proxy-Connection: close",
        "Cookie: a=b",
        "Cache-Control: no-cache",
        "Content-Type: text/html",
        "Content-Encoding: gzip",
        "Content-Range: bytes 0-1/2",
        "Content-Location: /other",
        "Max-Forwards: 1",
        "Range: bytes=0-1",
        "If-Match: \"x\"",
        "If-None-Match: \"x\"",
        "X-Forwarded-Client-Cert: By=a;URI=b",
        "X-Forwarded-For: 192.0.2.1",
        "X-Forwarded-Host: other.prod",
        "X-Forwarded-Proto: https",
        "Forwarded: for=192.0.2.1",
    ]
    .map(|line| case(line, line))
    .to_vec()
}

fn malformed() -> Vec<Case> {
    let lines = [
        ("a request line", "GET /smuggled HTTP/1.1"),
        ("a request", "GET /smuggled HTTP/1.1\r\nHost: app.prod"),
        ("a name alone", "X-Trailer"),
        ("an empty name", ": a"),
        ("a space before the colon", "X-Trailer : a"),
        ("a space in the name", "X Trailer: a"),
        ("a leading space", " X-Trailer: a"),
        ("a leading tab", "\tX-Trailer: a"),
        ("folding", "X-Trailer: a\r\n b"),
        ("bare LF", "X-Trailer: a\nX-Other: b"),
        ("bare CR", "X-Trailer: a\rX-Other: b"),
        ("LF LF", "X-Trailer: a\n\nGET /smuggled HTTP/1.1"),
        ("CR CR LF", "X-Trailer: a\r\r\nX-Other: b"),
        ("NUL", "X-Trailer: a\u{0}"),
        ("a vertical tab", "X-Trailer: a\u{b}b"),
        ("DEL", "X-Trailer: a\u{7f}"),
        ("a Latin-1 name", "X-Tr\u{e4}iler: a"),
        ("NUL in the name", "X\u{0}Trailer: a"),
        ("a chunk", "5\r\nhello"),
        ("a number", "5"),
        ("a forbidden one behind a good one", "X-Trailer: a\r\nContent-Length: 5"),
        ("a forbidden one in other letters", "tRANSFER-eNCODING: chunked"),
        ("a forbidden one with a space", "Content-Length : 5"),
    ];
    let mut cases = lines.map(|(what, line)| case(what, line)).to_vec();
    let many: String = (0..150).map(|number| format!("X-{number}: a\r\n")).collect();
    cases.push(case("too many", many.trim_end()));
    cases.push(case("too long", &format!("X-Long: {}", "a".repeat(20_000))));
    cases
}
