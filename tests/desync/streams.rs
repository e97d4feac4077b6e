//! Several requests on one connection: what stands before the fault is served, what stands behind it is not.

use super::{Case, Expected, Request, SMUGGLED, get, latin1, message, post, seen};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (what, first, request) in first() {
        for (fault, second) in faults() {
            let bytes = latin1(&format!("{first}{second}{SMUGGLED}"));
            let name = format!("stream: {what}, then {fault}");
            cases.push(Case { name, bytes, expected: Expected::RefuseHead(vec![request.clone()]) });
        }
    }
    cases.push(second_body());
    cases
}

/// Requests that are fine. They carry no marker, since they reach the backend.
fn first() -> Vec<(&'static str, String, Request)> {
    let fine = |line: &str, fields: &[&str], rest: &str| message(line, &[&["Host: app.prod"], fields].concat(), rest);
    vec![
        ("GET", fine("GET /first HTTP/1.1", &[], ""), seen("GET", "/first", "")),
        ("a counted body", fine("POST /first HTTP/1.1", &["Content-Length: 3"], "abc"), seen("POST", "/first", "abc")),
        (
            "a chunked body",
            fine("PUT /first HTTP/1.1", &["Transfer-Encoding: chunked"], "3\r\nabc\r\n0\r\n\r\n"),
            seen("PUT", "/first", "abc"),
        ),
    ]
}

fn faults() -> Vec<(&'static str, String)> {
    vec![
        ("both framings", post(&["Content-Length: 5", "Transfer-Encoding: chunked"], "0\r\n\r\n")),
        ("two lengths", post(&["Content-Length: 5", "Content-Length: 5"], "hello")),
        ("a hidden encoding", post(&["Content-Length: 5", "Transfer-Encoding : chunked"], "0\r\n\r\n")),
        ("no Host", message("GET /g HTTP/1.1", &["X-Marker: CASE"], "")),
        ("bare LF", get(&["X-Line: a\nX-Other: b"])),
        ("too much data", format!("xx\r\n{}", get(&[]))),
        ("two empty lines", format!("\r\n\r\n{}", get(&[]))),
        (
            "HTTP/1.0 with an encoding",
            message("POST /p HTTP/1.0", &["X-Marker: CASE", "Transfer-Encoding: chunked"], "0\r\n\r\n"),
        ),
    ]
}

fn second_body() -> Case {
    let first = message("GET /first HTTP/1.1", &["Host: app.prod"], "");
    let second = post(&["Transfer-Encoding: chunked"], &format!("5\r\nhello\r\n0x0\r\n\r\n{SMUGGLED}"));
    Case {
        name: "stream: GET, then a bad last chunk".to_owned(),
        bytes: latin1(&format!("{first}{second}")),
        expected: Expected::RefuseBody(vec![seen("GET", "/first", "")]),
    }
}
