//! An application that records each byte it receives and reads requests as strictly as the grammar allows. It shares no
//! code with the proxies.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::corpus::{Request, text};
use super::http2::{self, PREFACE};

/// A running application. Its threads end with the test's process.
pub struct Recorder {
    address: SocketAddr,
    log: Arc<Mutex<Log>>,
}

#[derive(Default)]
struct Log {
    /// Complete requests in the order of their ends.
    requests: Vec<Request>,
    /// Complete requests by HTTP/2.
    http2_requests: usize,
    /// All bytes of each connection.
    streams: Vec<Vec<u8>>,
    /// What no proxy should send.
    faults: Vec<String>,
}

impl Recorder {
    /// Listens on a free port of loopback.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Mutex::new(Log::default()));
        let shared = Arc::clone(&log);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let log = Arc::clone(&shared);
                std::thread::spawn(move || serve(stream, &log));
            }
        });
        Self { address, log }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Complete requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.log.lock().unwrap().requests.clone()
    }

    /// How many complete requests have come by HTTP/2.
    pub fn http2_requests(&self) -> usize {
        self.log.lock().unwrap().http2_requests
    }

    /// Whether `marker` stands in any byte received.
    pub fn has_received(&self, marker: &str) -> bool {
        let log = self.log.lock().unwrap();
        log.streams.iter().any(|stream| stream.windows(marker.len()).any(|window| window == marker.as_bytes()))
    }

    /// What was not HTTP/1.1 with one plain framing.
    pub fn faults(&self) -> Vec<String> {
        self.log.lock().unwrap().faults.clone()
    }
}

fn serve(mut stream: TcpStream, log: &Mutex<Log>) {
    let number = {
        let mut log = log.lock().unwrap();
        log.streams.push(Vec::new());
        log.streams.len() - 1
    };
    let (mut buffer, mut piece) = (Vec::new(), [0; 4096]);
    let mut peeked = [0; PREFACE.len()];
    if stream.peek(&mut peeked).is_ok_and(|length| length > 3 && PREFACE.starts_with(&peeked[..length])) {
        let mut preface = [0; PREFACE.len()];
        if stream.read_exact(&mut preface).is_ok() {
            http2::answer(stream, || log.lock().unwrap().http2_requests += 1);
        }
        return;
    }
    loop {
        match parse(&buffer) {
            Err(fault) => {
                let shown: String = text(&buffer).chars().take(200).collect();
                log.lock().unwrap().faults.push(format!("the backend got {fault}: {shown:?}"));
                return;
            }
            Ok(Some((request, length))) => {
                buffer.drain(..length);
                let body = if request.method == "HEAD" { "" } else { "ok" };
                log.lock().unwrap().requests.push(request);
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{body}");
                if stream.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
            Ok(None) => match stream.read(&mut piece) {
                // A request cut off is what a refused body looks like.
                Ok(0) | Err(_) => return,
                Ok(length) => {
                    buffer.extend_from_slice(&piece[..length]);
                    log.lock().unwrap().streams[number].extend_from_slice(&piece[..length]);
                }
            },
        }
    }
}

/// The first request and its length; `None` while it is incomplete.
fn parse(buffer: &[u8]) -> Result<Option<(Request, usize)>, String> {
    let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = text(&buffer[..end]);
    if head.replace("\r\n", "").contains(['\r', '\n', '\0']) {
        return Err("a bare CR, LF or NUL".to_owned());
    }
    let mut lines = head.split("\r\n");
    let words: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let [method, target, "HTTP/1.1"] = words[..] else {
        return Err("a bad request line".to_owned());
    };
    let mut fields = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or("a line without a colon")?;
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err("a bad field name".to_owned());
        }
        fields.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()));
    }
    let values = |name: &str| fields.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect::<Vec<_>>();
    if values("host").len() != 1 {
        return Err("not one Host".to_owned());
    }
    let hop = ["http2-settings", "upgrade", "proxy-connection", "keep-alive"];
    if let Some(name) = hop.iter().find(|name| !values(name).is_empty()) {
        return Err(format!("a field for one hop, {name}"));
    }
    let rest = &buffer[end + 4..];
    let (body, length) = match (&values("content-length")[..], &values("transfer-encoding")[..]) {
        ([], []) => (Vec::new(), 0),
        ([length], []) if !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit()) => {
            let length: usize = length.parse().map_err(|_| "a bad length")?;
            let Some(body) = rest.get(..length) else { return Ok(None) };
            (body.to_vec(), length)
        }
        ([], ["chunked"]) => match parse_chunks(rest)? {
            Some(parsed) => parsed,
            None => return Ok(None),
        },
        other => return Err(format!("two framings or an odd one, {other:?}")),
    };
    let request = Request { method: method.to_owned(), target: target.to_owned(), body };
    Ok(Some((request, end + 4 + length)))
}

/// A chunked body without extensions, and its length on the wire.
fn parse_chunks(rest: &[u8]) -> Result<Option<(Vec<u8>, usize)>, String> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let Some(end) = rest[at..].windows(2).position(|window| window == b"\r\n") else { return Ok(None) };
        let digits = text(&rest[at..at + end]);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(format!("a chunk size {digits:?}"));
        }
        let size = usize::from_str_radix(&digits, 16).map_err(|_| "a chunk size that overflows")?;
        at += end + 2;
        if size == 0 {
            return trailers(&rest[at..]).map(|length| length.map(|length| (body, at + length)));
        }
        let Some(data) = rest.get(at..at + size + 2) else { return Ok(None) };
        let Some(data) = data.strip_suffix(b"\r\n") else { return Err("chunk data without its end".to_owned()) };
        body.extend_from_slice(data);
        at += size + 2;
    }
}

/// The length of a trailer section with its empty line.
fn trailers(rest: &[u8]) -> Result<Option<usize>, String> {
    let mut at = 0;
    loop {
        let Some(end) = rest[at..].windows(2).position(|window| window == b"\r\n") else { return Ok(None) };
        let line = text(&rest[at..at + end]);
        at += end + 2;
        match line.split_once(':') {
            _ if line.is_empty() => return Ok(Some(at)),
            Some((name, _)) if !["content-length", "transfer-encoding", "host"].contains(&&*name.to_lowercase()) => {}
            _ => return Err(format!("a trailer {line:?}")),
        }
    }
}
