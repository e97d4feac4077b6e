#![allow(clippy::unwrap_used)]

use bytes::BufMut as _;
use http::{HeaderMap, Method, StatusCode};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::*;

/// What a request came to.
#[derive(Debug, PartialEq)]
struct Answered {
    status: StatusCode,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
    /// Why the body broke off.
    broken: Option<String>,
    /// Another request can be sent.
    is_ready: bool,
}

/// Sends a request to a server that says `said` once it has read the head, and ends the connection where `ends`; both
/// ends see at most `room` bytes at once.
async fn ask(method: Method, said: &[u8], ends: bool, room: usize) -> Result<Answered, Unanswered> {
    let (ours, mut theirs) = tokio::io::duplex(room);
    let direct: Direct<DuplexStream> = Direct::new(ours, OF_AN_APPLICATION);
    let said = said.to_vec();
    let asked = format!("{method} /path?query HTTP/1.1\r\nhost: app\r\nx-one: 1\r\nx-one: 2\r\n\r\n");
    let server = tokio::spawn(async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(theirs.read_u8().await.unwrap());
        }
        assert_eq!(head, asked.as_bytes());
        let _ = theirs.write_all(&said).await;
        (!ends).then_some(theirs)
    });
    let mut request = Request::builder().method(method).uri("/path?query").header("host", "app");
    request = request.header("x-one", "1").header("x-one", "2");
    let response = direct.exchange(&request.body(Payload::Empty).unwrap()).await?;
    let (head, mut reading) = response.into_parts();
    let mut answered =
        Answered { status: head.status, body: Vec::new(), trailers: None, broken: None, is_ready: false };
    while let Some(frame) = std::future::poll_fn(|cx| reading.poll_frame(cx)).await {
        match frame.map(http_body::Frame::into_data) {
            Ok(Ok(data)) => answered.body.extend_from_slice(&data),
            Ok(Err(frame)) => answered.trailers = frame.into_trailers().ok(),
            Err(error) => answered.broken = Some(error.to_string()),
        }
    }
    assert!(reading.is_end_stream() || answered.broken.is_some());
    let _open = if answered.broken.is_none() { server.await.unwrap() } else { None };
    answered.is_ready = direct.is_ready();
    assert_eq!(direct.into_stream().is_some(), answered.is_ready);
    Ok(answered)
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Of a GET, on a connection that stays open.
fn answer(said: &str) -> Result<Answered, String> {
    run(ask(Method::GET, said.as_bytes(), false, 4096)).map_err(|e| e.to_string())
}

fn whole(body: &str, is_ready: bool) -> Answered {
    Answered { status: StatusCode::OK, body: body.into(), trailers: None, broken: None, is_ready }
}

fn written(request: &Request<Payload>) -> String {
    let mut head = Vec::new();
    head::write(request, &mut head);
    String::from_utf8(head).unwrap()
}

#[test]
fn a_head_is_written_in_origin_form_without_transfer_encoding() {
    let request = Request::get("/a?b=c").header("Host", "app").header("transfer-encoding", "chunked");
    let head = written(&request.header("x-one", "1").body(Payload::Empty).unwrap());
    assert_eq!(head, "GET /a?b=c HTTP/1.1\r\nhost: app\r\nx-one: 1\r\n\r\n");
    assert_eq!(written(&Request::options("*").body(Payload::Empty).unwrap()), "OPTIONS * HTTP/1.1\r\n\r\n");
    let mut uri = http::Uri::from_static("http://app?x=1").into_parts();
    (uri.scheme, uri.authority) = (None, None);
    let request = Request::get(http::Uri::from_parts(uri).unwrap()).body(Payload::Empty).unwrap();
    assert_eq!(written(&request), "GET /?x=1 HTTP/1.1\r\n\r\n");
}

#[test]
fn a_body_ends_where_its_head_says() {
    let cases = [
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", "hi", true),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\nContent-Length: 2\r\n\r\nhi", "hi", true),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "", true),
        ("HTTP/1.1 200 OK\r\nconnection: x, Close\r\ncontent-length: 2\r\n\r\nhi", "hi", false),
        ("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi", "hi", false),
        ("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nhi", "hi", true),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi and more", "hi", false),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n2;x=y\r\nhi\r\n1\r\n!\r\n0\r\n\r\n", "hi!", true),
        ("HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", "hi", true),
        ("HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "", false),
    ];
    for (said, body, is_ready) in cases {
        assert_eq!(answer(said).unwrap(), whole(body, is_ready), "{said}");
    }
    let unframed = run(ask(Method::GET, b"HTTP/1.1 200 OK\r\n\r\nto the end", true, 4)).unwrap();
    assert_eq!(unframed, whole("to the end", false));
}

#[test]
fn some_responses_have_no_body_whatever_their_head_says() {
    for (method, status) in [(Method::HEAD, 200), (Method::GET, 204), (Method::GET, 304)] {
        for framing in ["content-length: 5", "transfer-encoding: chunked"] {
            let said = format!("HTTP/1.1 {status} x\r\n{framing}\r\n\r\n");
            let answered = run(ask(method.clone(), said.as_bytes(), false, 4096)).unwrap();
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(answered, Answered { status, ..whole("", true) }, "{method} {said}");
        }
    }
}

#[test]
fn trailers_come_behind_the_last_chunk() {
    let said = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\ngrpc-status: 0\r\nx: y\r\n\r\n";
    let answered = answer(said).unwrap();
    let trailers = answered.trailers.as_ref().unwrap();
    assert_eq!((&trailers["grpc-status"], &trailers["x"]), (&"0".parse().unwrap(), &"y".parse().unwrap()));
    assert_eq!((&*answered.body, answered.is_ready), (&b"hi"[..], true));
}

#[test]
fn what_is_no_response_is_an_error_and_the_end_of_the_connection() {
    let too_many: String = (0..101).map(|n| format!("x-{n}: 1\r\n")).collect();
    let cases = [
        ("SSH-2.0-OpenSSH\r\n".to_owned(), "not HTTP/1"),
        ("HTTP/1.1 099 x\r\n\r\n".to_owned(), "the status is none"),
        ("HTTP/1.1 101 x\r\n\r\n".to_owned(), "switches protocols"),
        (format!("HTTP/1.1 200 OK\r\n{too_many}\r\n"), "too many fields"),
        (format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(HEAD)), "too long"),
        ("HTTP/1.1 200 OK\r\nx: 1\r\n folded\r\n\r\n".to_owned(), "not HTTP/1"),
        ("HTTP/1.1 200 OK\r\nx : 1\r\n\r\n".to_owned(), "not HTTP/1"),
        ("HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nhi".to_owned(), "no number"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2,\r\n\r\nhi".to_owned(), "no number"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nhi".to_owned(), "differ"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(), "both"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n".to_owned(), "not `chunked`"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n".to_owned(), "not `chun"),
        ("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(), "not `chunked`"),
    ];
    for (said, why) in cases {
        let error = answer(&said).unwrap_err();
        assert!(error.contains(why), "{said}: {error}");
    }
}

#[test]
fn a_body_that_breaks_off_or_is_not_well_formed_is_an_error() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    for (said, ends, why) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\nhi".to_owned(), true, "ended before the body"),
        (format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\nhi", 1 << 20), true, "ended before the body"),
        (format!("{chunked}2\r\nhi\r\n"), true, "ended before the body"),
        (format!("{chunked}2\r\nhi\r\n0\r\n"), true, "ended before the body"),
        (format!("{chunked}-2\r\nhi\r\n"), false, "chunk"),
        (format!("{chunked}2\r\nhi!\r\n"), false, "chunk"),
        (format!("{chunked}10000000000000000\r\nhi"), false, "chunk"),
        (format!("{chunked}2;{}", "x".repeat(5000)), false, "too long"),
        (format!("{chunked}0\r\nbad trailer\r\n\r\n"), false, "trailers"),
        (format!("{chunked}0\r\n{}\r\n", "x: y\r\n".repeat(101)), false, "trailers"),
    ] {
        let answered = run(ask(Method::GET, said.as_bytes(), ends, 8192)).unwrap();
        let broken = answered.broken.unwrap_or_default();
        assert!(broken.contains(why) && !answered.is_ready, "{said}: {broken}");
    }
}

#[test]
fn a_connection_that_idles_or_waits_for_more_keeps_no_room() {
    let room = scratch::kept(&[0; 100]).as_ptr() as usize;
    for said in [
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx: y\r\n\r\n",
    ] {
        run(async {
            let (ours, mut theirs) = tokio::io::duplex(4096);
            let direct: Direct<DuplexStream> = Direct::new(ours, OF_AN_APPLICATION);
            theirs.write_all(said.as_bytes()).await.unwrap();
            let request = Request::get("/").body(Payload::Empty).unwrap();
            let (head, mut body) = direct.exchange(&request).await.unwrap().into_parts();
            drop(head);
            let mut context = Context::from_waker(Waker::noop());
            while let Poll::Ready(Some(frame)) = body.poll_frame(&mut context) {
                drop(frame.unwrap());
            }
            // This thread's room is used again and again only if nobody has anything there.
            for _ in 0..1000 {
                let next = scratch::kept(&[0; 100]).as_ptr() as usize;
                assert!((room..room + scratch::SHARED).contains(&next), "{said}");
            }
        });
    }
}

#[test]
fn silence_is_told_from_half_of_an_answer() {
    let silent = run(ask(Method::GET, b"", true, 64)).unwrap_err();
    assert!(silent.is_silent && !silent.is_unsent, "{silent}");
    let half = run(ask(Method::GET, b"HTTP/1.1 2", true, 64)).unwrap_err();
    assert!(!half.is_silent, "{half}");
}

#[test]
fn a_connection_on_which_something_came_unasked_is_not_ready() {
    run(async {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let direct: Direct<DuplexStream> = Direct::new(ours, OF_AN_APPLICATION);
        assert!(direct.is_ready() && !direct.is_closed());
        theirs.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await.unwrap();
        assert!(!direct.is_ready() && direct.is_closed());
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_body_is_the_same_however_it_is_cut_on_its_way(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..200), 0..8),
        is_chunked in any::<bool>(),
        has_trailers in any::<bool>(),
        room in 1usize..300,
    ) {
        let body = chunks.concat();
        let mut said = bytes::BytesMut::from("HTTP/1.1 200 OK\r\n");
        if is_chunked {
            said.put_slice(b"transfer-encoding: chunked\r\n\r\n");
            for chunk in &chunks {
                said.put_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                said.put_slice(chunk);
                said.put_slice(b"\r\n");
            }
            said.put_slice(if has_trailers { b"0\r\nx: y\r\n\r\n" } else { b"0\r\n\r\n" });
        } else {
            said.put_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
            said.put_slice(&body);
        }
        let answered = run(ask(Method::GET, &said, false, room)).unwrap();
        prop_assert_eq!(&answered.body, &body);
        prop_assert!(answered.is_ready && answered.broken.is_none());
        prop_assert_eq!(answered.trailers.is_some(), is_chunked && has_trailers);
    }
}
