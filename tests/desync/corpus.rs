//! Requests that parsers are known to cut differently, with what must become of each. Shared by the guard's own tests
//! and by the end-to-end suite; no code here looks at the guard.
//!
//! Texts are Latin-1: each character is one byte. `CASE` in a text stands for the case's own marker, by which the end
//! to end suite knows whose bytes have reached the backend.

mod accepted;
mod chunks;
mod encodings;
mod fields;
mod hosts;
mod lengths;
mod lines;
mod streams;
mod switches;
mod trailers;

/// What a request smuggled behind another one asks for. The backend must never see it as a request.
pub const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: app.prod\r\nX-Marker: CASE\r\n\r\n";

/// One stream of bytes from a client.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its group and what is special about it.
    pub name: String,
    /// What the client sends, all at once.
    pub bytes: Vec<u8>,
    /// What must come of it.
    pub expected: Expected,
}

/// What must come of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// All requests are forwarded.
    Forward(Vec<Request>),
    /// These are forwarded. The next head is refused: no byte of it is forwarded.
    RefuseHead(Vec<Request>),
    /// These are forwarded. The next request's body is refused: its head may have been forwarded, its end must not be.
    RefuseBody(Vec<Request>),
}

/// A request as the backend must see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The whole body, without framing.
    pub body: Vec<u8>,
}

impl Case {
    /// The bytes with the case's marker in place of `CASE`.
    pub fn marked(&self, marker: &str) -> Vec<u8> {
        let text = text(&self.bytes);
        latin1(&text.replace("CASE", marker))
    }
}

/// All cases; names are unique.
pub fn all() -> Vec<Case> {
    [
        lengths::cases(),
        encodings::cases(),
        fields::cases(),
        hosts::cases(),
        lines::cases(),
        chunks::cases(),
        trailers::cases(),
        switches::cases(),
        streams::cases(),
        accepted::cases(),
    ]
    .concat()
}

/// The bytes of a Latin-1 text.
pub fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).expect("texts of the corpus are Latin-1")).collect()
}

/// The Latin-1 text of bytes.
pub fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// A request as the backend must see it.
pub(crate) fn seen(method: &str, target: &str, body: &str) -> Request {
    Request { method: method.to_owned(), target: target.to_owned(), body: latin1(body) }
}

/// A case whose head is refused.
pub(crate) fn refuse(group: &str, what: &str, bytes: &str) -> Case {
    Case { name: format!("{group}: {what}"), bytes: latin1(bytes), expected: Expected::RefuseHead(vec![]) }
}

/// A case whose body is refused.
pub(crate) fn refuse_body(group: &str, what: &str, bytes: &str) -> Case {
    Case { name: format!("{group}: {what}"), bytes: latin1(bytes), expected: Expected::RefuseBody(vec![]) }
}

/// A case that is forwarded.
pub(crate) fn forward(group: &str, what: &str, bytes: &str, requests: Vec<Request>) -> Case {
    Case { name: format!("{group}: {what}"), bytes: latin1(bytes), expected: Expected::Forward(requests) }
}

/// A POST with these field lines behind `Host`, and what follows the head.
pub(crate) fn post(fields: &[&str], rest: &str) -> String {
    message("POST /p HTTP/1.1", &[&["Host: app.prod", "X-Marker: CASE"], fields].concat(), rest)
}

/// A GET with these field lines behind `Host`, and nothing behind the head.
pub(crate) fn get(fields: &[&str]) -> String {
    message("GET /g HTTP/1.1", &[&["Host: app.prod", "X-Marker: CASE"], fields].concat(), "")
}

/// A head of these lines, and what follows it.
pub(crate) fn message(request_line: &str, fields: &[&str], rest: &str) -> String {
    let mut text = format!("{request_line}\r\n");
    for field in fields {
        text.push_str(field);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    text + rest
}

/// How a byte is called in a case's name.
pub(crate) fn called(byte: u8) -> String {
    format!("0x{byte:02x}")
}
