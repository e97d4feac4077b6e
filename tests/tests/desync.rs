//! The desync corpus through a real pair of proxies: what is ambiguous never reaches the application, what is not
//! arrives framed anew. Needs no root and no namespace.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../desync/corpus.rs"]
mod corpus;
#[path = "../desync/http2.rs"]
mod http2;
#[path = "../desync/pair.rs"]
mod pair;
#[path = "../desync/recorder.rs"]
mod recorder;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use causeway_tests::eventually;
use corpus::{Case, Expected, Request};
use pair::Pair;
use recorder::Recorder;

/// What a client gets, at most this long after it has sent.
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn no_ambiguous_request_of_an_application_leaves_its_proxy() {
    let recorder = Recorder::start();
    let pair = Pair::start(recorder.address());
    judge_all(&recorder, pair.outbound(), Entry::Application);
}

#[test]
fn no_ambiguous_request_in_plain_text_enters_the_application() {
    let recorder = Recorder::start();
    let pair = Pair::start(recorder.address());
    pair.permit_plaintext();
    eventually("plain text is permitted", || {
        let case = corpus::all().into_iter().find(|case| case.name == "fine: length 0").unwrap();
        exchange(pair.inbound(), &case.bytes, &["POST"]).is_ok_and(|answers| answers.statuses == [200])
    });
    judge_all(&recorder, pair.inbound(), Entry::PlainText);
}

#[test]
fn no_malformed_http2_request_reaches_the_application() {
    let recorder = Recorder::start();
    let pair = Pair::start(recorder.address());
    let cases = http2::all();
    let mut wrong = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let before = recorder.http2_requests();
        let passed = http2::exchange(pair.outbound(), case, &marker(number));
        let seen = recorder.http2_requests() - before;
        if passed != case.passes || seen != usize::from(case.passes) {
            wrong.push(format!("{}: answered 200: {passed}, the application got {seen} requests", case.name));
        }
    }
    let faults = recorder.faults();
    assert!(wrong.is_empty() && faults.is_empty(), "{}\n{}", wrong.join("\n"), faults.join("\n"));
    assert!(recorder.requests().is_empty(), "what comes by HTTP/2 goes on by HTTP/2");
}

/// Sends every case, then looks at everything that the backend has received.
fn judge_all(recorder: &Recorder, address: SocketAddr, entry: Entry) {
    let cases = corpus::all();
    let mut wrong = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        if let Err(what) = judge(recorder, address, entry, case, &marker(number)) {
            wrong.push(format!("{}: {what}", case.name));
        }
    }
    // Whatever came late counts as well.
    for (number, case) in cases.iter().enumerate() {
        if matches!(case.expected, Expected::RefuseHead(_)) && recorder.has_received(&marker(number)) {
            wrong.push(format!("{}: bytes of a refused head have reached the backend", case.name));
        }
    }
    let faults = recorder.faults();
    assert!(
        wrong.is_empty() && faults.is_empty(),
        "{} of {} wrong:\n{}\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n"),
        faults.join("\n")
    );
    let _ = writeln!(std::io::stderr(), "{} cases, 0 unsafe", cases.len());
}

/// Which door a client comes to.
#[derive(Clone, Copy)]
enum Entry {
    /// The outbound listener, which speaks HTTP only.
    Application,
    /// An inbound listener, which finds out what its client speaks.
    PlainText,
}

impl Entry {
    /// Whether the case begins with what is not HTTP/1 here.
    fn may_cut(self, case: &Case) -> bool {
        match self {
            Self::Application => case.name == "before: the HTTP/2 preface",
            Self::PlainText => case.name.starts_with("before: ") || case.name.starts_with("line: "),
        }
    }
}

fn marker(number: usize) -> String {
    format!("m-{number:04}-m")
}

fn judge(recorder: &Recorder, address: SocketAddr, entry: Entry, case: &Case, marker: &str) -> Result<(), String> {
    let before = recorder.requests().len();
    let (Expected::Forward(requests) | Expected::RefuseHead(requests) | Expected::RefuseBody(requests)) =
        &case.expected;
    let methods: Vec<&str> = requests.iter().map(|request| request.method.as_str()).collect();
    let answers = exchange(address, &case.marked(marker), &methods)?;
    let forwarded: Vec<Request> = recorder.requests().split_off(before);
    if !same(case, requests, &forwarded) {
        return Err(format!("the backend saw {}", shown(&forwarded)));
    }
    let (served, rest) = answers.statuses.split_at(requests.len().min(answers.statuses.len()));
    if served.len() != requests.len() || served.iter().any(|status| *status != 200) {
        return Err(format!("answers {:?}", answers.statuses));
    }
    match (&case.expected, rest) {
        (Expected::Forward(_), []) => Ok(()),
        (Expected::RefuseHead(_) | Expected::RefuseBody(_), [400 | 431]) if answers.closed => Ok(()),
        // Once a body is under way, cutting the connection is an answer; to what is not HTTP/1 at all, the only one.
        (Expected::RefuseBody(_), []) if answers.closed => Ok(()),
        (Expected::RefuseHead(_), []) if answers.closed && entry.may_cut(case) => Ok(()),
        _ => Err(format!("answers {:?}, closed: {}", answers.statuses, answers.closed)),
    }
}

/// Whether the backend saw what it must. Paths may be normalised on their way; only framing is judged here.
fn same(case: &Case, expected: &[Request], seen: &[Request]) -> bool {
    if !case.name.starts_with("odd path") {
        return expected == seen;
    }
    let facts = |requests: &[Request]| requests.iter().map(|r| (r.method.clone(), r.body.clone())).collect::<Vec<_>>();
    facts(expected) == facts(seen)
}

fn shown(requests: &[Request]) -> String {
    let one = |request: &Request| format!("{} {} with {} bytes", request.method, request.target, request.body.len());
    if requests.is_empty() { "nothing".to_owned() } else { requests.iter().map(one).collect::<Vec<_>>().join(", ") }
}

struct Answers {
    /// Final answers, in order.
    statuses: Vec<u16>,
    /// The server has closed the connection.
    closed: bool,
}

/// Sends `bytes`, reads the answers to `methods` and one more if it comes, until the server closes. A client that got all
/// answers it asked for half-closes, which a server answers by closing.
fn exchange(entry: SocketAddr, bytes: &[u8], methods: &[&str]) -> Result<Answers, String> {
    let mut stream = TcpStream::connect(entry).map_err(|error| format!("connect: {error}"))?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(|error| error.to_string())?;
    // A server that refuses early may close before all is written.
    let _ = stream.write_all(bytes);
    let (mut received, mut piece) = (Vec::new(), [0; 4096]);
    let mut finished = false;
    loop {
        let statuses = parse_answers(&received, methods);
        if !finished && !methods.is_empty() && statuses.len() >= methods.len() {
            finished = true;
            let _ = stream.shutdown(Shutdown::Write);
        }
        match stream.read(&mut piece) {
            Ok(0) => return Ok(Answers { statuses, closed: true }),
            Ok(length) => received.extend_from_slice(&piece[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                return Ok(Answers { statuses, closed: true });
            }
            Err(_) => return Ok(Answers { statuses, closed: false }),
        }
    }
}

/// Statuses of the complete final answers in `received`; answers beyond `methods` have a body.
fn parse_answers(mut received: &[u8], methods: &[&str]) -> Vec<u16> {
    let mut statuses = Vec::new();
    while let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") {
        let head = corpus::text(&received[..end]).to_ascii_lowercase();
        received = &received[end + 4..];
        let status: u16 = head.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
        if (100..200).contains(&status) {
            continue;
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        let length: usize = if methods.get(statuses.len()) == Some(&"HEAD") { 0 } else { length.unwrap_or(0) };
        if received.len() < length {
            return statuses;
        }
        received = &received[length..];
        statuses.push(status);
    }
    statuses
}
