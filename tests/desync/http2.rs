//! HTTP/2 requests that are malformed, most of them two requests once written as HTTP/1; a client that sends whatever it
//! is told, since no library would; and an application that counts what it gets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What an HTTP/2 connection begins with.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Fields as they are sent.
pub type Fields = Vec<(String, String)>;

/// One stream.
#[derive(Clone, Debug)]
pub struct Case {
    /// What is special about it.
    pub name: String,
    /// Of the request, with its pseudo-fields. `CASE` in a value stands for the case's marker.
    pub fields: Fields,
    /// Sent when not empty.
    pub data: &'static str,
    /// Sent when not empty.
    pub trailers: Fields,
    /// Whether it is forwarded.
    pub passes: bool,
}

/// All cases.
pub fn all() -> Vec<Case> {
    [fine(), pseudo(), fields(), lengths(), trailers()].concat()
}

fn owned(fields: &[(&str, &str)]) -> Fields {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn request(method: &str, more: &[(&str, &str)]) -> Fields {
    let pseudo =
        [(":method", method), (":scheme", "http"), (":authority", "app.prod"), (":path", "/h2"), ("x-marker", "CASE")];
    owned(&[&pseudo[..], more].concat())
}

fn case(name: &str, fields: Fields, data: &'static str, passes: bool) -> Case {
    Case { name: name.to_owned(), fields, data, trailers: Vec::new(), passes }
}

fn fine() -> Vec<Case> {
    let cookies = [("cookie", "a=b"), ("cookie", "c=d")];
    // The h2 crate drops pseudo-fields in trailers instead of refusing them; a header map cannot carry them further.
    let mut with_pseudo = case("fine: a pseudo-field in trailers, dropped", request("POST", &[]), "hello", true);
    with_pseudo.trailers = owned(&[(":path", "/smuggled")]);
    let mut with_trailers = case("fine: trailers", request("POST", &[]), "hello", true);
    with_trailers.trailers = owned(&[("x-trailer", "a")]);
    vec![
        case("fine: GET", request("GET", &[]), "", true),
        case("fine: GET with data", request("GET", &[]), "hello", true),
        case("fine: POST", request("POST", &[]), "hello", true),
        case("fine: POST with its length", request("POST", &[("content-length", "5")]), "hello", true),
        case("fine: cookies", request("GET", &cookies), "", true),
        case("fine: te", request("GET", &[("te", "trailers")]), "", true),
        case("fine: host beside the authority", request("GET", &[("host", "app.prod")]), "", true),
        case(
            "fine: a request in the data",
            request("POST", &[]),
            "GET /smuggled HTTP/1.1\r\nHost: app.prod\r\n\r\n",
            true,
        ),
        with_trailers,
        with_pseudo,
    ]
}

/// One pseudo-field at a time replaced, repeated or left out.
fn pseudo() -> Vec<Case> {
    let mut cases = Vec::new();
    let odd = [
        (":path", "/h2 HTTP/1.1\r\nHost: other.prod\r\n\r\nGET /smuggled"),
        (":path", "/h2 HTTP/1.1\r\nTransfer-Encoding: chunked\r\nX: "),
        (":path", "/h2 /smuggled"),
        (":path", "/h2\r"),
        (":path", "/h2\n"),
        (":path", "/h2\0"),
        (":path", "/h2\t"),
        (":path", " /h2"),
        (":path", ""),
        (":path", "h2"),
        (":path", "http://other.prod/h2"),
        (":path", "/h2\u{ff}"),
        (":method", "GET /smuggled HTTP/1.1\r\nHost: app.prod\r\n\r\nGET"),
        (":method", "GET /smuggled HTTP/1.1"),
        (":method", "G\rT"),
        (":method", "G\nT"),
        (":method", "G T"),
        (":method", ""),
        (":method", "G:T"),
        (":authority", "app.prod\r\nTransfer-Encoding: chunked"),
        (":authority", "app.prod other.prod"),
        (":authority", "user@app.prod"),
        (":authority", "app.prod/x"),
        (":authority", "app.prod#x"),
        (":authority", "app.prod, other.prod"),
        (":authority", "app.prod:x"),
        (":authority", ""),
        (":scheme", "http\r\nX: y"),
        (":scheme", ""),
    ];
    for (name, value) in odd {
        let mut fields = request("GET", &[]);
        for field in fields.iter_mut().filter(|field| field.0 == name) {
            value.clone_into(&mut field.1);
        }
        cases.push(case(&format!("{name} is {value:?}"), fields, "", false));
    }
    for name in [":method", ":scheme", ":path", ":authority"] {
        let mut fields = request("GET", &[]);
        fields.retain(|field| field.0 != name);
        cases.push(case(&format!("{name} is missing"), fields.clone(), "", false));
        let mut fields = request("GET", &[]);
        let again = fields.iter().find(|field| field.0 == name).unwrap().clone();
        fields.insert(4, again.clone());
        cases.push(case(&format!("{name} comes twice"), fields, "", false));
        let mut fields = request("GET", &[]);
        fields.retain(|field| field.0 != name);
        fields.push(again);
        cases.push(case(&format!("{name} comes behind a field"), fields, "", false));
    }
    let mut fields = request("GET", &[]);
    fields.insert(0, (":status".to_owned(), "200".to_owned()));
    cases.push(case(":status in a request", fields, "", false));
    let mut fields = request("GET", &[]);
    fields.insert(0, (":other".to_owned(), "x".to_owned()));
    cases.push(case("an unknown pseudo-field", fields, "", false));
    cases
}

fn fields() -> Vec<Case> {
    [
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "identity"),
        ("connection", "close"),
        ("connection", "keep-alive, content-length"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "close"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("te", "trailers, gzip"),
        ("host", "other.prod"),
        ("host", "app.prod:8080"),
        ("x-field", "a\r\ntransfer-encoding: chunked"),
        ("x-field", "a\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: app.prod\r\n\r\n"),
        ("x-field", "a\rb"),
        ("x-field", "a\nb"),
        ("x-field", "a\0b"),
        ("x-field", "a\u{1}b"),
        ("x-field", "a\u{7f}b"),
        ("X-Field", "a"),
        ("Transfer-Encoding", "chunked"),
        ("x field", "a"),
        ("x-field ", "a"),
        (" x-field", "a"),
        ("x-field: a\r\nx-other", "b"),
        ("x-field\r\n", "a"),
        ("x-field:", "a"),
        ("transfer-encoding: chunked\r\nx", "a"),
        ("x\0field", "a"),
        ("x-f\u{ef}eld", "a"),
        ("", "a"),
        ("content-length ", "5"),
        ("transfer-encoding\t", "chunked"),
    ]
    .map(|(name, value)| {
        case(&format!("field {name:?} is {value:?}"), request("POST", &[(name, value)]), "hello", false)
    })
    .to_vec()
}

fn lengths() -> Vec<Case> {
    let mut cases: Vec<Case> =
        ["4", "6", "0", "+5", "-5", "5,5", "5, 5", " 5", "5 ", "0x5", "", "five", "18446744073709551621"]
            .map(|value| {
                case(&format!("length {value:?} of 5"), request("POST", &[("content-length", value)]), "hello", false)
            })
            .to_vec();
    let twice = [("content-length", "5"), ("content-length", "6")];
    cases.push(case("two lengths, different", request("POST", &twice), "hello", false));
    let back = [("content-length", "0"), ("content-length", "5")];
    cases.push(case("two lengths, the second right", request("POST", &back), "hello", false));
    cases
}

fn trailers() -> Vec<Case> {
    [
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
        ("x-trailer", "a\r\nb"),
        ("x-trailer", "a\0"),
        ("X-Trailer", "a"),
        ("x trailer", "a"),
    ]
    .map(|(name, value)| {
        let mut case = case(&format!("trailer {name:?} is {value:?}"), request("POST", &[]), "hello", false);
        case.trailers = owned(&[(name, value)]);
        case
    })
    .to_vec()
}

/// Sends a case on its own connection; whether the answer was 200, complete.
pub fn exchange(entry: SocketAddr, case: &Case, marker: &str) -> bool {
    let mut bytes = PREFACE.to_vec();
    frame(&mut bytes, SETTINGS, 0, 0, &[]);
    let ends = case.data.is_empty() && case.trailers.is_empty();
    let last = |ends: bool| if ends { END_STREAM } else { 0 };
    frame(&mut bytes, HEADERS, END_HEADERS | last(ends), 1, &block(&case.fields, marker));
    if !case.data.is_empty() {
        frame(&mut bytes, DATA, last(case.trailers.is_empty()), 1, case.data.as_bytes());
    }
    if !case.trailers.is_empty() {
        frame(&mut bytes, HEADERS, END_HEADERS | END_STREAM, 1, &block(&case.trailers, marker));
    }
    let mut stream = TcpStream::connect(entry).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let _ = stream.write_all(&bytes);
    is_ok(&mut stream)
}

/// Reads frames until the answer is decided.
fn is_ok(stream: &mut TcpStream) -> bool {
    let mut is_200 = false;
    while let Some(frame) = read_frame(stream) {
        match frame.kind {
            RESET | GOAWAY => return false,
            HEADERS if frame.stream == 1 => {
                // A change of the table's size may stand first; 0x88 is `:status: 200` (RFC 7541 appendix A).
                let first = frame.payload.iter().find(|byte| **byte & 0xe0 != 0x20);
                is_200 |= first == Some(&0x88);
            }
            _ => {}
        }
        if frame.stream == 1 && frame.ends_stream() {
            return is_200;
        }
    }
    false
}

/// The application's side of a connection, behind the preface: answers 200 to each complete request.
pub fn answer(mut stream: TcpStream, mut completed: impl FnMut()) {
    let mut out = Vec::new();
    frame(&mut out, SETTINGS, 0, 0, &[]);
    while stream.write_all(&out).is_ok() {
        out.clear();
        let Some(read) = read_frame(&mut stream) else { return };
        match read.kind {
            SETTINGS if read.flags & ACK == 0 => frame(&mut out, SETTINGS, ACK, 0, &[]),
            PING if read.flags & ACK == 0 => frame(&mut out, PING, ACK, 0, &read.payload),
            _ if read.ends_stream() => {
                completed();
                frame(&mut out, HEADERS, END_HEADERS | END_STREAM, read.stream, &[0x88]);
            }
            _ => {}
        }
    }
}

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    fn ends_stream(&self) -> bool {
        matches!(self.kind, HEADERS | DATA) && self.flags & END_STREAM != 0
    }
}

fn read_frame(stream: &mut TcpStream) -> Option<Frame> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).ok()?;
    let [a, b, c, kind, flags, s, t, u, v] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    stream.read_exact(&mut payload).ok()?;
    Some(Frame { kind, flags, stream: u32::from_be_bytes([s & 0x7f, t, u, v]), payload })
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Literal fields without indexing and without Huffman coding (RFC 7541 section 6.2.2).
fn block(fields: &Fields, marker: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, &value.replace("CASE", marker)] {
            let bytes = super::corpus::latin1(text);
            match u8::try_from(bytes.len()) {
                Ok(short @ 0..=126) => out.push(short),
                // 127 and a second byte with the rest.
                _ => out.extend_from_slice(&[127, u8::try_from(bytes.len() - 127).unwrap() & 127]),
            }
            out.extend_from_slice(&bytes);
        }
    }
    out
}
