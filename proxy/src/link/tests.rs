//! A link against a real server of h2, over a stream in memory.
#![allow(clippy::unwrap_used)]

use std::future::poll_fn;
use std::time::Duration;

use h2::server;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::*;
use crate::body::BodyError;

type Server = server::Connection<DuplexStream, Bytes>;
type Accepted = (Request<h2::RecvStream>, server::SendResponse<Bytes>);

/// A link, and the server at its other end.
async fn pair(builder: &server::Builder) -> (Link, Server) {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let (link, server) = tokio::join!(Link::open(ours), builder.handshake(theirs));
    (link.unwrap(), server.unwrap())
}

/// A link, and its server's requests; the server runs by itself.
async fn served(builder: &server::Builder) -> (Link, tokio::sync::mpsc::Receiver<Accepted>) {
    let (link, mut server) = pair(builder).await;
    let (give, take) = tokio::sync::mpsc::channel(16);
    tokio::spawn(async move {
        while let Some(Ok(accepted)) = server.accept().await {
            let _ = give.send(accepted).await;
        }
    });
    (link, take)
}

fn request(method: Method, body: Payload) -> Request<Payload> {
    Request::builder().method(method).uri("http://shop.prod/cart").version(http::Version::HTTP_2).body(body).unwrap()
}

async fn send(link: &Link, method: Method, body: Payload) -> Result<Response<Received>, Broken> {
    link.send(&mut request(method, body))?.await
}

/// Everything in it.
async fn read(body: impl Into<Payload>) -> Result<(Vec<u8>, Option<HeaderMap>), BodyError> {
    let whole = body.into().collect().await?;
    let trailers = whole.trailers().cloned();
    Ok((whole.to_bytes().to_vec(), trailers))
}

async fn read_request(stream: &mut h2::RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut whole = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        whole.extend_from_slice(&data);
    }
    Ok(whole)
}

/// A body that has begun and does not end: its link, itself, and who would send it.
async fn unending() -> (Link, Payload, h2::SendStream<Bytes>) {
    let (link, mut accepted) = served(&server::Builder::new()).await;
    let begin = async {
        let (_, mut respond) = accepted.recv().await.unwrap();
        respond.send_response(ok(), false).unwrap()
    };
    let (response, stream) = tokio::join!(send(&link, Method::GET, Payload::Empty), begin);
    let body = response.unwrap().into_body().into();
    (link, body, stream)
}

fn ok() -> Response<()> {
    Response::new(())
}

fn sized(length: usize) -> Response<()> {
    Response::builder().header(CONTENT_LENGTH, length).body(()).unwrap()
}

#[tokio::test]
async fn a_request_and_its_response_go_through_with_length_and_trailers() {
    let (link, mut accepted) = served(&server::Builder::new()).await;
    let serve = async {
        let (request, mut respond) = accepted.recv().await.unwrap();
        assert!(request.body().is_end_stream() && !request.headers().contains_key(CONTENT_LENGTH));
        let mut stream = respond.send_response(sized(5), false).unwrap();
        stream.send_data(Bytes::from_static(b"he"), false).unwrap();
        stream.send_data(Bytes::from_static(b"llo"), false).unwrap();
        stream.send_trailers(HeaderMap::from_iter([(http::header::ETAG, HeaderValue::from_static("x"))])).unwrap();
    };
    let (response, ()) = tokio::join!(send(&link, Method::GET, Payload::Empty), serve);
    let body = response.unwrap().into_body();
    assert_eq!(body.size_hint().exact(), Some(5));
    let (whole, trailers) = read(body).await.unwrap();
    assert_eq!((&*whole, trailers.unwrap()[http::header::ETAG].as_bytes()), (&b"hello"[..], &b"x"[..]));
}

#[tokio::test]
async fn a_body_that_comes_from_one_connection_leaves_on_another_with_its_trailers() {
    let (from, mut source) = served(&server::Builder::new()).await;
    let (to, mut sink) = served(&server::Builder::new()).await;
    let serve = async {
        let (_, mut respond) = source.recv().await.unwrap();
        let mut stream = respond.send_response(ok(), false).unwrap();
        stream.send_data(Bytes::from_static(b"one"), false).unwrap();
        let (mut request, mut respond) = sink.recv().await.unwrap();
        assert!(!request.headers().contains_key(CONTENT_LENGTH));
        // Only now that the request has begun.
        stream.send_data(Bytes::from_static(b"two"), false).unwrap();
        stream.send_trailers(HeaderMap::from_iter([(http::header::ETAG, HeaderValue::from_static("x"))])).unwrap();
        assert_eq!(read_request(request.body_mut()).await.unwrap(), b"onetwo");
        assert_eq!(request.body_mut().trailers().await.unwrap().unwrap()[http::header::ETAG], "x");
        respond.send_response(ok(), true).unwrap();
    };
    let carry = async {
        let body = send(&from, Method::GET, Payload::Empty).await.unwrap().into_body();
        let response = send(&to, Method::POST, body.into()).await.unwrap();
        assert!(response.body().is_end_stream());
    };
    tokio::join!(serve, carry);
}

#[tokio::test]
async fn a_body_that_breaks_off_resets_its_stream_with_the_same_reason() {
    let (from, mut source) = served(&server::Builder::new()).await;
    let (to, mut sink) = served(&server::Builder::new()).await;
    let serve = async {
        let (_, mut respond) = source.recv().await.unwrap();
        let mut stream = respond.send_response(ok(), false).unwrap();
        stream.send_data(Bytes::from_static(b"one"), false).unwrap();
        let (mut request, _respond) = sink.recv().await.unwrap();
        assert_eq!(request.body_mut().data().await.unwrap().unwrap(), "one");
        stream.send_reset(Reason::ENHANCE_YOUR_CALM);
        let error = read_request(request.body_mut()).await.unwrap_err();
        assert_eq!(error.reason(), Some(Reason::ENHANCE_YOUR_CALM));
    };
    let carry = async {
        let body = send(&from, Method::GET, Payload::Empty).await.unwrap().into_body();
        assert!(send(&to, Method::POST, body.into()).await.is_err());
    };
    tokio::join!(serve, carry);
}

#[tokio::test]
async fn the_length_of_a_body_is_said_where_there_may_be_one() {
    let (link, mut accepted) = served(&server::Builder::new()).await;
    for (method, body, want) in [
        (Method::POST, Payload::Full(Bytes::from_static(b"abc")), Some("3")),
        (Method::GET, Payload::Full(Bytes::from_static(b"abc")), Some("3")),
        (Method::POST, Payload::Empty, Some("0")),
        (Method::DELETE, Payload::Empty, None),
    ] {
        let serve = async {
            let (request, mut respond) = accepted.recv().await.unwrap();
            assert_eq!(request.headers().get(CONTENT_LENGTH).map(|v| v.to_str().unwrap()), want);
            respond.send_response(ok(), true).unwrap();
        };
        let (response, ()) = tokio::join!(send(&link, method, body), serve);
        assert!(response.unwrap().body().is_end_stream());
    }
}

#[tokio::test]
async fn a_body_larger_than_every_window_arrives_whole_even_after_its_response() {
    let whole = Bytes::from((0..3_000_000u32).map(|i| (i % 251) as u8).collect::<Vec<u8>>());
    let mut small = server::Builder::new();
    small.initial_window_size(1000).initial_connection_window_size(70_000);
    for is_early in [false, true] {
        let (link, mut accepted) = served(&small).await;
        let serve = async {
            let (mut request, mut respond) = accepted.recv().await.unwrap();
            if is_early {
                let mut stream = respond.send_response(ok(), false).unwrap();
                stream.send_data(Bytes::from_static(b"early"), true).unwrap();
            }
            assert!(read_request(request.body_mut()).await.unwrap() == whole);
            if !is_early {
                respond.send_response(ok(), true).unwrap();
            }
        };
        let (response, ()) = tokio::join!(send(&link, Method::PUT, Payload::Full(whole.clone())), serve);
        assert_eq!(read(response.unwrap().into_body()).await.unwrap().0, if is_early { &b"early"[..] } else { b"" });
    }
}

#[tokio::test]
async fn what_is_read_makes_room_for_more() {
    let (link, mut accepted) = served(&server::Builder::new()).await;
    let length = 3 * crate::server::CONNECTION_WINDOW as usize;
    let serve = async {
        let (_, mut respond) = accepted.recv().await.unwrap();
        let mut stream = respond.send_response(sized(length), false).unwrap();
        stream.send_data(vec![7; length].into(), true).unwrap();
    };
    let (response, ()) = tokio::join!(send(&link, Method::GET, Payload::Empty), serve);
    assert_eq!(read(response.unwrap().into_body()).await.unwrap().0.len(), length);
}

#[tokio::test]
async fn a_stream_that_is_refused_was_not_looked_at_and_a_reset_one_may_have_been() {
    let (link, mut accepted) = served(&server::Builder::new()).await;
    for (reason, is_unprocessed) in [(Reason::REFUSED_STREAM, true), (Reason::INTERNAL_ERROR, false)] {
        let serve = async {
            let (_, mut respond) = accepted.recv().await.unwrap();
            respond.send_reset(reason);
        };
        let (response, ()) = tokio::join!(send(&link, Method::GET, Payload::Empty), serve);
        let broken = response.err().unwrap();
        assert_eq!((broken.is_unprocessed(), broken.is_closing(), broken.is_unsent), (is_unprocessed, false, false));
        assert!(!link.is_over());
    }
}

#[tokio::test]
async fn a_connection_that_goes_away_serves_what_it_has_begun_and_gives_back_what_follows() {
    let (link, mut server) = pair(&server::Builder::new()).await;
    let mut first = Box::pin(send(&link, Method::GET, Payload::Empty));
    let (request, mut respond) = tokio::select! {
        _ = &mut first => panic!("answered by nobody"),
        accepted = server.accept() => accepted.unwrap().unwrap(),
    };
    assert_eq!(request.uri().path(), "/cart");
    server.graceful_shutdown();
    let server = tokio::spawn(async move { while server.accept().await.is_some() {} });
    let mut next = request_until_unsent(&link).await;
    assert_eq!((next.uri().path(), next.headers()["x-is"].as_bytes()), ("/cart", &b"here"[..]));
    assert!(link.is_over());
    assert!(link.send(&mut next).err().unwrap().is_unsent);
    respond.send_response(ok(), false).unwrap().send_data(Bytes::from_static(b"done"), true).unwrap();
    assert_eq!(read(first.await.unwrap().into_body()).await.unwrap().0, b"done");
    drop(link);
    server.await.unwrap();
}

/// Sends until the peer's farewell has come; what was sent before it is not looked at.
async fn request_until_unsent(link: &Link) -> Request<Payload> {
    loop {
        let mut next = request(Method::GET, Payload::Empty);
        next.headers_mut().insert("x-is", HeaderValue::from_static("here"));
        match link.send(&mut next) {
            Err(broken) => {
                assert!(broken.is_unsent && broken.is_closing());
                return next;
            }
            Ok(sending) => drop(sending),
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_request_after_the_last_one_of_a_connection_was_not_looked_at() {
    let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
    let link = Link::open(ours).await.unwrap();
    let mut sending = Box::pin(send(&link, Method::GET, Payload::Empty));
    let goodbye = async {
        // SETTINGS, then GOAWAY with no stream as the last and no error.
        theirs.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        let mut head = [0; 64];
        theirs.read_exact(&mut head).await.unwrap();
        theirs.write_all(&[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).await.unwrap();
    };
    let (response, ()) = tokio::join!(&mut sending, goodbye);
    let broken = response.err().unwrap();
    assert!(broken.is_unprocessed() && broken.is_closing() && !broken.is_unsent, "{broken}");
}

#[tokio::test]
async fn a_request_that_nobody_waits_for_is_cancelled_with_its_body() {
    let (_from, body, mut stream) = unending().await;
    let (to, mut sink) = served(&server::Builder::new()).await;
    let mut sending = Box::pin(send(&to, Method::POST, body));
    let (request, mut respond) = tokio::select! {
        _ = &mut sending => panic!("answered by nobody"),
        accepted = sink.recv() => accepted.unwrap(),
    };
    assert!(!request.body().is_end_stream());
    drop(sending);
    assert_eq!(poll_fn(|cx| respond.poll_reset(cx)).await.unwrap(), Reason::CANCEL);
    // Whoever sent the body learns of it.
    assert_eq!(poll_fn(|cx| stream.poll_reset(cx)).await.unwrap(), Reason::CANCEL);
}

#[tokio::test]
async fn a_peer_that_wants_no_more_ends_the_body() {
    let (_from, body, mut stream) = unending().await;
    let (to, mut sink) = served(&server::Builder::new()).await;
    let serve = async {
        let (_, mut respond) = sink.recv().await.unwrap();
        let mut answer = respond.send_response(ok(), false).unwrap();
        answer.send_data(Bytes::from_static(b"enough"), false).unwrap();
        (respond, answer)
    };
    let (answer, (_respond, mut reset)) = tokio::join!(send(&to, Method::POST, body), serve);
    let mut answer = Payload::from(answer.unwrap().into_body());
    assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), "enough");
    reset.send_reset(Reason::NO_ERROR);
    assert!(answer.frame().await.is_none());
    assert_eq!(poll_fn(|cx| stream.poll_reset(cx)).await.unwrap(), Reason::CANCEL);
}

#[tokio::test]
async fn a_response_that_ends_before_its_length_is_broken_whatever_the_reason() {
    let (link, mut accepted) = served(&server::Builder::new()).await;
    for reason in [Reason::NO_ERROR, Reason::INTERNAL_ERROR] {
        let serve = async {
            let (_, mut respond) = accepted.recv().await.unwrap();
            let mut stream = respond.send_response(sized(10), false).unwrap();
            stream.send_data(Bytes::from_static(b"half"), false).unwrap();
            (respond, stream)
        };
        let (response, (_respond, mut stream)) = tokio::join!(send(&link, Method::GET, Payload::Empty), serve);
        let mut body = Payload::from(response.unwrap().into_body());
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "half");
        assert_eq!(body.size_hint().exact(), Some(6));
        stream.send_reset(reason);
        let error = body.frame().await.unwrap().unwrap_err();
        assert_eq!(error.downcast_ref::<h2::Error>().unwrap().reason(), Some(reason));
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_silent_is_given_up_after_its_time() {
    let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
    let link = Link::open(ours).await.unwrap();
    let started = tokio::time::Instant::now();
    // It reads, and says nothing.
    tokio::spawn(async move { tokio::io::copy(&mut theirs, &mut tokio::io::sink()).await });
    let broken = send(&link, Method::GET, Payload::Empty).await.err().unwrap();
    assert!(!broken.is_unprocessed());
    assert_eq!(started.elapsed().as_secs(), (ASKED_EVERY + ANSWERED_WITHIN).as_secs());
    while !link.is_over() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_is_kept_while_nothing_is_sent() {
    let (link, mut accepted) = served(&server::Builder::new()).await;
    tokio::time::sleep(20 * ASKED_EVERY).await;
    assert!(!link.is_over());
    let serve = async {
        let (_, mut respond) = accepted.recv().await.unwrap();
        respond.send_response(ok(), true).unwrap();
    };
    let (response, ()) = tokio::join!(send(&link, Method::GET, Payload::Empty), serve);
    assert_eq!(response.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_connection_that_nobody_uses_any_more_is_closed_after_its_last_stream() {
    let (link, mut server) = pair(&server::Builder::new()).await;
    let mut sending = Box::pin(send(&link, Method::GET, Payload::Empty));
    let (_, mut respond) = tokio::select! {
        _ = &mut sending => panic!("answered by nobody"),
        accepted = server.accept() => accepted.unwrap().unwrap(),
    };
    let mut stream = respond.send_response(ok(), false).unwrap();
    let response = tokio::select! {
        response = sending => response.unwrap(),
        _ = server.accept() => panic!("ended early"),
    };
    drop(link);
    stream.send_data(Bytes::from_static(b"late"), true).unwrap();
    let (read, ended) = tokio::join!(read(response.into_body()), server.accept());
    assert_eq!(read.unwrap().0, b"late");
    assert!(ended.is_none());
}

#[tokio::test]
async fn a_connection_that_was_idle_is_closed_when_it_is_let_go() {
    let (link, mut server) = pair(&server::Builder::new()).await;
    // Both sides are at rest.
    for _ in 0..100 {
        let rest = tokio::time::timeout(Duration::ZERO, server.accept()).await;
        assert!(rest.is_err());
        tokio::task::yield_now().await;
    }
    drop(link);
    assert!(tokio::time::timeout(Duration::from_secs(5), server.accept()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_request_beyond_what_the_peer_takes_waits_and_is_cancelled_when_it_is_let_go() {
    let mut one = server::Builder::new();
    one.max_concurrent_streams(1);
    let (link, mut accepted) = served(&one).await;
    let serve = async {
        let (_, mut respond) = accepted.recv().await.unwrap();
        respond.send_response(ok(), true).unwrap();
    };
    tokio::join!(send(&link, Method::GET, Payload::Empty), serve).0.unwrap(); // its settings have come
    assert_eq!(link.most(), usize::MAX);
    let mut first = Box::pin(send(&link, Method::GET, Payload::Empty));
    let (_, mut respond) = tokio::select! {
        _ = &mut first => panic!("answered by nobody"),
        first = accepted.recv() => first.unwrap(),
    };
    let mut dropped = request(Method::PUT, Payload::Empty);
    drop(link.send(&mut dropped).unwrap());
    assert_eq!(link.most(), 1);
    let mut third = Box::pin(send(&link, Method::POST, Payload::Empty));
    tokio::select! {
        _ = &mut third => panic!("answered by nobody"),
        () = tokio::task::yield_now() => {}
    }
    respond.send_response(ok(), true).unwrap();
    first.await.unwrap();
    let serve = async {
        let (request, mut respond) = accepted.recv().await.unwrap();
        assert_eq!(request.method(), Method::PUT);
        assert_eq!(poll_fn(|cx| respond.poll_reset(cx)).await.unwrap(), Reason::CANCEL);
        let (request, mut respond) = accepted.recv().await.unwrap();
        assert_eq!(request.method(), Method::POST);
        respond.send_response(ok(), true).unwrap();
    };
    let (response, ()) = tokio::join!(third, serve);
    response.unwrap();
}

#[tokio::test]
async fn an_authority_is_parsed_once_while_it_stays_the_same() {
    let (link, _server) = pair(&server::Builder::new()).await;
    assert_eq!(link.authority("shop.prod:80").unwrap(), "shop.prod:80");
    assert_eq!(link.authority("shop.prod:80").unwrap(), "shop.prod:80");
    assert_eq!(link.authority("cart.prod").unwrap(), "cart.prod");
    assert!(link.authority("a b").is_err());
    assert_eq!(link.authority("SHOP.prod:80").unwrap().as_str(), "SHOP.prod:80");
}
