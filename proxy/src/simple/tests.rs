#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderValue};
use http::{HeaderMap, StatusCode};
use http_body::Frame;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::*;
use crate::body::Payload;

const GET: &str = "GET /a?b HTTP/1.1\r\nhost: x\r\n\r\n";

fn full(text: &'static str) -> Response<Body> {
    Response::new(Body::new(Payload::Full(Bytes::from_static(text.as_bytes())), None))
}

/// Serves `said` with `answer`, and gives what came out until the connection ended, and what is left of the connection.
async fn talk(said: &[u8], answer: impl Fn(&Request<Received>) -> Response<Body>) -> (String, Option<Vec<u8>>) {
    let (mut client, server) = duplex(64 * 1024);
    client.write_all(said).await.unwrap();
    client.shutdown().await.unwrap();
    let handle = |request: Request<Received>, _: Arc<Verdict>| std::future::ready(answer(&request));
    let rest = serve(server, BytesMut::new(), None, &Drain::default(), &handle).await;
    let rest = rest.map(|(_, held)| held.to_vec());
    let mut out = String::new();
    client.read_to_string(&mut out).await.unwrap();
    (without_date(&out), rest)
}

fn without_date(text: &str) -> String {
    assert!(!text.starts_with("HTTP/") || text.contains("\r\ndate: "), "{text}");
    text.split_inclusive("\r\n").filter(|line| !line.starts_with("date: ")).collect()
}

#[tokio::test]
async fn requests_one_behind_the_other_are_answered_in_their_order() {
    let (out, rest) = talk(GET.repeat(3).as_bytes(), |request| {
        assert_eq!((request.uri().path(), request.uri().query()), ("/a", Some("b")));
        full("hello")
    })
    .await;
    assert_eq!(out, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello".repeat(3));
    assert_eq!(rest, None);
}

#[tokio::test]
async fn a_head_is_read_as_it_was_written() {
    let head =
        "\r\nOPTIONS * HTTP/1.1\r\nHOST: x:80\r\nX-A: \t one  two\t \r\nx-a:three\r\nEmpty:\r\nutf: \u{e4}\r\n\r\n";
    let (out, _) = talk(head.as_bytes(), |request| {
        assert_eq!(request.method(), Method::OPTIONS);
        assert_eq!(request.uri(), "*");
        let fields: Vec<(String, Vec<u8>)> =
            request.headers().iter().map(|(n, v)| (n.to_string(), v.as_bytes().to_vec())).collect();
        let want: [(&str, &[u8]); 5] =
            [("host", b"x:80"), ("x-a", b"one  two"), ("x-a", b"three"), ("empty", b""), ("utf", "\u{e4}".as_bytes())];
        assert_eq!(fields, want.map(|(n, v)| (n.to_owned(), v.to_vec())));
        full("")
    })
    .await;
    assert_eq!(out, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
}

#[tokio::test]
async fn what_is_not_simple_is_left_with_all_of_its_bytes() {
    for other in [
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nab",
        "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n\r\n",
        "CONNECT x:1 HTTP/1.1\r\nhost: x:1\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n", // refused by the guard
        "GET /<`> HTTP/1.1\r\nhost: x\r\n\r\nGET",      // the guard's, but no Uri
        "GET / HTTP/1.1\r\nhost:",                      // not whole
    ] {
        let said = [GET, other].concat();
        let (out, rest) = talk(said.as_bytes(), |_| full("hello")).await;
        assert_eq!(out, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", "{other}");
        assert_eq!(String::from_utf8(rest.unwrap()).unwrap(), other);
    }
}

#[tokio::test]
async fn a_head_of_which_the_rest_is_there_already_is_read_on() {
    let (mut client, server) = duplex(64 * 1024);
    let (first, rest) = GET.split_at(9);
    client.write_all(rest.as_bytes()).await.unwrap();
    client.shutdown().await.unwrap();
    let handle = |_: Request<Received>, _: Arc<Verdict>| std::future::ready(full("hello"));
    assert!(serve(server, first.as_bytes().into(), None, &Drain::default(), &handle).await.is_none());
    let mut out = String::new();
    client.read_to_string(&mut out).await.unwrap();
    assert!(out.ends_with("hello"), "{out}");
}

#[tokio::test]
async fn who_wants_to_close_is_told_so_and_closed() {
    let close = "GET / HTTP/1.1\r\nhost: x\r\nConnection: keep-alive, Close\r\n\r\n";
    let (out, rest) = talk([close, GET].concat().as_bytes(), |_| full("hello")).await;
    assert_eq!(out, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello");
    assert_eq!(rest, None);
    let (out, _) = talk(GET.repeat(2).as_bytes(), |_| {
        let mut response = full("no");
        response.headers_mut().insert("connection", HeaderValue::from_static("close"));
        response
    })
    .await;
    assert_eq!(out, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno");
}

#[tokio::test]
async fn responses_without_body_have_none_and_say_what_they_may() {
    let head = GET.replace("GET", "HEAD");
    let with_length = |status: u16, length: &'static str| {
        let mut response = Response::new(Body::new(Payload::Empty, None));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static(length));
        response
    };
    let (out, _) = talk(head.as_bytes(), |_| with_length(200, "77")).await;
    assert_eq!(out, "HTTP/1.1 200 OK\r\ncontent-length: 77\r\n\r\n");
    let (out, _) = talk(GET.as_bytes(), |_| with_length(304, "77")).await;
    assert_eq!(out, "HTTP/1.1 304 Not Modified\r\n\r\n");
    let (out, _) = talk(head.as_bytes(), |_| with_length(204, "0")).await;
    assert_eq!(out, "HTTP/1.1 204 No Content\r\n\r\n");
}

/// An application of HTTP/2 in this process, asked by hyper: its body comes in frames of its own, without any length.
async fn streamed(frames: Vec<Frame<Bytes>>) -> Response<Body> {
    let (near, far) = duplex(1 << 20);
    let frames = Arc::new(std::sync::Mutex::new(Some(frames)));
    tokio::spawn(async move {
        let service = hyper::service::service_fn(move |_| {
            let frames = frames.lock().unwrap().take().unwrap();
            let mut response = Response::new(Frames(frames.into(), 0));
            response.headers_mut().insert("trailer", HeaderValue::from_static("x-sum, x-end"));
            std::future::ready(Ok::<_, std::convert::Infallible>(response))
        });
        let executor = hyper_util::rt::TokioExecutor::new();
        let io = hyper_util::rt::TokioIo::new(far);
        let _ = hyper::server::conn::http2::Builder::new(executor).serve_connection(io, service).await;
    });
    let mut sender = crate::connect::http2_client().handshake(hyper_util::rt::TokioIo::new(near)).await.unwrap();
    tokio::spawn(sender.1);
    let request = Request::builder().uri("http://x/").body(Payload::Empty).unwrap();
    let response = sender.0.send_request(request).await.unwrap();
    response.map(|body| Body::new(Payload::from(Received::from(body)), None))
}

/// Breaks where a frame says `broken`, once what was before it has gone out.
struct Frames(std::collections::VecDeque<Frame<Bytes>>, usize);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let breaks = self.0.front().and_then(Frame::data_ref).is_some_and(|data| *data == "broken");
        if breaks && self.1 < 100 {
            self.1 += 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let next = self.0.pop_front().map(Ok);
        Poll::Ready(if breaks { Some(Err(io::ErrorKind::BrokenPipe.into())) } else { next })
    }
}

async fn talk_streamed(frames: Vec<Frame<Bytes>>) -> (String, bool) {
    let (mut client, server) = duplex(16);
    let served = tokio::spawn(async move {
        let asked = AtomicUsize::new(0);
        let frames = std::sync::Mutex::new(Some(frames));
        let handle = |_: Request<Received>, _: Arc<Verdict>| {
            asked.fetch_add(1, Ordering::Relaxed);
            streamed(frames.lock().unwrap().take().unwrap())
        };
        serve(server, GET.as_bytes().into(), None, &Drain::default(), &handle).await.is_none()
    });
    let mut out = Vec::new();
    let mut piece = [0; 1024];
    while !out.ends_with(b"0\r\n\r\n") && !out.ends_with(b"last\r\n\r\n") {
        match client.read(&mut piece).await.unwrap() {
            0 => break,
            n => out.extend_from_slice(&piece[..n]),
        }
    }
    drop(client);
    (without_date(&String::from_utf8(out).unwrap()), served.await.unwrap())
}

#[tokio::test]
async fn a_body_of_unknown_length_goes_in_chunks_with_the_trailers_that_were_announced() {
    let long = "l".repeat(100_000);
    let mut fields = HeaderMap::new();
    fields.insert("x-sum", HeaderValue::from_static("last"));
    fields.insert("x-other", HeaderValue::from_static("not announced"));
    let frames = vec![Frame::data("ab".into()), Frame::data(long.clone().into()), Frame::trailers(fields)];
    let (out, _) = talk_streamed(frames).await;
    let (head, body) = out.split_once("\r\n\r\n").unwrap();
    assert_eq!(head, "HTTP/1.1 200 OK\r\ntrailer: x-sum, x-end\r\ntransfer-encoding: chunked");
    let mut whole = String::new();
    let mut left = body;
    loop {
        let (size, rest) = left.split_once("\r\n").unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            assert_eq!(rest, "x-sum: last\r\n\r\n");
            break;
        }
        whole.push_str(&rest[..size]);
        left = rest[size..].strip_prefix("\r\n").unwrap();
    }
    assert_eq!(whole, format!("ab{long}"));
}

#[tokio::test]
async fn a_body_that_breaks_off_ends_the_connection_without_its_end() {
    let (out, is_over) = talk_streamed(vec![Frame::data("ab".into()), Frame::data("broken".into())]).await;
    assert!(out.contains("2\r\nab\r\n") && !out.contains("0\r\n\r\n"), "{out}");
    assert!(is_over);
}

/// A connection that is served in a task, and how often the handler was begun and dropped.
fn served(drain: Drain) -> (DuplexStream, Arc<[AtomicUsize; 2]>, tokio::task::JoinHandle<bool>) {
    let (client, server) = duplex(1024);
    let counts = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let seen = Arc::clone(&counts);
    let task = tokio::spawn(async move {
        let handle = |request: Request<Received>, _: Arc<Verdict>| {
            seen[0].fetch_add(1, Ordering::SeqCst);
            let dropped = Dropped(Arc::clone(&seen));
            async move {
                if request.uri().path() == "/never" {
                    std::future::pending::<()>().await;
                }
                drop(dropped);
                full("hello")
            }
        };
        serve(server, BytesMut::new(), None, &drain, &handle).await.is_none()
    });
    (client, counts, task)
}

struct Dropped(Arc<[AtomicUsize; 2]>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0[1].fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_client_that_leaves_ends_what_was_done_for_it() {
    let (mut client, counts, task) = served(Drain::default());
    client.write_all(b"GET /never HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    while counts[0].load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(counts[1].load(Ordering::SeqCst), 0);
    drop(client);
    assert!(task.await.unwrap());
    assert_eq!(counts[1].load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_idle_connection_ends_when_the_proxy_drains() {
    let drain = Drain::default();
    let (mut client, _, task) = served(drain.clone());
    client.write_all(GET.as_bytes()).await.unwrap();
    let mut piece = [0; 1024];
    let n = client.read(&mut piece).await.unwrap();
    assert!(piece[..n].ends_with(b"hello"));
    drain.next();
    assert!(task.await.unwrap());
    assert_eq!(client.read(&mut piece).await.unwrap(), 0);
}

#[tokio::test]
async fn an_answer_while_the_proxy_drains_is_the_last() {
    let drain = Drain::default();
    drain.next();
    let (client, server) = duplex(1024);
    let handle = |_: Request<Received>, _: Arc<Verdict>| std::future::ready(full("hello"));
    assert!(serve(server, GET.repeat(2).as_bytes().into(), None, &drain, &handle).await.is_none());
    let mut out = String::new();
    let mut client = client;
    client.read_to_string(&mut out).await.unwrap();
    assert_eq!(without_date(&out), "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello");
}

#[test]
fn an_idle_connection_is_small() {
    fn size<F: Future>(_: &F) -> usize {
        size_of::<F>()
    }
    let drain = Drain::default();
    let handle = |_: Request<Received>, _: Arc<Verdict>| async {
        tokio::task::yield_now().await;
        full("hello")
    };
    let (_, server) = duplex(1);
    let serving = serve(server, BytesMut::new(), None, &drain, &handle);
    assert!(size(&serving) < 1400, "{}", size(&serving));
}

#[tokio::test]
async fn no_request_is_read_after_the_peers_certificate_has_ended() {
    let now = clock::now();
    let later = now + std::time::Duration::from_secs(3600);
    for (until, answers) in [(None, 2), (Some(later), 2), (Some(now), 0)] {
        let (mut client, server) = duplex(64 * 1024);
        client.write_all(GET.repeat(2).as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        let handle = |_: Request<Received>, _: Arc<Verdict>| std::future::ready(full("hello"));
        assert!(serve(server, BytesMut::new(), until, &Drain::default(), &handle).await.is_none());
        let mut out = String::new();
        client.read_to_string(&mut out).await.unwrap();
        assert_eq!(out.matches("200 OK").count(), answers, "{until:?}: {out}");
    }
}
