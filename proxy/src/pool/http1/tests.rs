#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// Both ends of a connection.
async fn connection() -> (Upstream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (ours, theirs) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (Upstream::Plain(ours.unwrap()), theirs.unwrap().0)
}

/// Answers every request, however long its body, until the connection ends.
async fn serve(mut stream: TcpStream) {
    let mut read = [0; 1024];
    while let Ok(1..) = stream.read(&mut read).await {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await;
    }
}

fn get() -> Request<Payload> {
    Request::new(Payload::Empty)
}

async fn answered(checkout: &mut Checkout, mut request: Request<Payload>) {
    let response = checkout.send(&mut request).await.map_err(|unanswered| unanswered.error).unwrap();
    let body = Payload::from(response.into_body()).collect().await.unwrap().to_bytes();
    assert_eq!(body, "hi");
}

#[tokio::test]
async fn a_limit_of_requests_that_comes_later_holds_for_connections_that_are_kept() {
    let pool = Arc::new(Http1Pool::default());
    let unlimited = Bounds::default();
    let two = Bounds { requests: 2, ..unlimited };
    let mut others = Vec::new();
    for _ in 0..2 {
        let (ours, theirs) = connection().await;
        others.push(theirs);
        pool.place().lend(ours, unlimited, None, None).give_back();
    }
    pool.checkout(unlimited).unwrap().give_back();
    // One had a request, which leaves it another; the other had two.
    pool.checkout(two).unwrap().give_back();
    assert!(pool.checkout(two).is_none() && pool.is_empty());
}

#[tokio::test]
async fn a_kept_connection_goes_on_with_hyper_from_the_first_body_on() {
    let pool = Arc::new(Http1Pool::default());
    let (ours, theirs) = connection().await;
    tokio::spawn(serve(theirs));
    let mut checkout = pool.place().lend(ours, Bounds::default(), None, None);
    answered(&mut checkout, get()).await;
    checkout.give_back();
    let mut checkout = pool.checkout(Bounds::default()).unwrap();
    answered(&mut checkout, Request::post("/").body(Payload::Full("body".into())).unwrap()).await;
    assert!(matches!(checkout.sender, Sender::Hyper(_)));
    answered(&mut checkout, get()).await;
}

#[tokio::test]
async fn a_connection_that_the_server_has_closed_is_not_used_again() {
    let pool = Arc::new(Http1Pool::default());
    let (ours, theirs) = connection().await;
    let server = tokio::spawn(serve(theirs));
    let mut checkout = pool.place().lend(ours, Bounds::default(), None, None);
    answered(&mut checkout, get()).await;
    checkout.give_back();
    server.abort();
    let _ = server.await;
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match pool.checkout(Bounds::default()) {
            None => break,
            Some(checkout) => checkout.give_back(),
        }
        assert!(Instant::now() < deadline, "nobody noticed");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_is_silent_on_a_kept_connection_may_be_sent_again_if_it_may_be_repeated() {
    for (method, may) in [("GET", true), ("POST", false)] {
        let (ours, mut theirs) = connection().await;
        let pool = Arc::new(Http1Pool::default());
        pool.place().lend(ours, Bounds::default(), None, None).give_back();
        let mut checkout = pool.checkout(Bounds::default()).unwrap();
        let closing = tokio::spawn(async move {
            let _ = theirs.read(&mut [0; 1024]).await; // the request was on its way
        });
        let mut request = Request::builder().method(method).uri("/again").body(Payload::Empty).unwrap();
        let unanswered = checkout.send(&mut request).await.err().unwrap();
        assert_eq!((unanswered.is_unsent, request.uri().path()), (may, "/again"), "{method}: {}", unanswered.error);
        closing.await.unwrap();
    }
}

#[tokio::test]
async fn what_is_silent_on_a_new_connection_may_be_sent_again_only_where_it_stands_in_for_a_kept_one() {
    for stands_in in [false, true] {
        let (ours, mut theirs) = connection().await;
        let mut checkout = Arc::new(Http1Pool::default()).place().lend(ours, Bounds::default(), None, None);
        if stands_in {
            checkout.stand_in();
        }
        let closing = tokio::spawn(async move {
            let _ = theirs.read(&mut [0; 1024]).await;
        });
        let unanswered = checkout.send(&mut get()).await.err().unwrap();
        assert_eq!(unanswered.is_unsent, stands_in, "{}", unanswered.error);
        closing.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn idle_connections_are_closed_in_time_without_anybody_asking_for_one() {
    let pool = Arc::new(Http1Pool::default());
    let (ours, mut theirs) = connection().await;
    pool.place().lend(ours, Bounds { idle: Duration::ZERO, ..Bounds::default() }, None, None).give_back();
    assert_eq!(theirs.read(&mut [0; 1]).await.unwrap(), 0);
    assert!(pool.is_empty() && !pool.is_swept.load(Ordering::Relaxed));
}

#[tokio::test]
async fn a_connection_whose_certificate_has_ended_is_not_lent_again() {
    let pool = Arc::new(Http1Pool::default());
    let now = Instant::now();
    for (until, is_lent) in [(None, true), (Some(now + Duration::from_secs(60)), true), (Some(now), false)] {
        let (ours, _theirs) = connection().await;
        pool.place().lend(ours, Bounds::default(), None, until).give_back();
        assert_eq!(pool.checkout(Bounds::default()).is_some(), is_lent, "{until:?}");
        assert!(pool.is_empty());
    }
}

#[tokio::test]
async fn there_are_no_more_places_than_are_asked_for_and_each_is_free_again_when_its_connection_ends() {
    let pool = Arc::new(Http1Pool::default());
    let (ours, _theirs) = connection().await;
    let open = pool.place_below(2).unwrap().lend(ours, Bounds::default(), None, None);
    let coming = pool.place_below(2).unwrap();
    assert!(pool.place_below(2).is_none());
    drop(coming);
    let coming = pool.place_below(2).unwrap();
    assert!(pool.place_below(2).is_none());
    drop(open);
    assert!(pool.place_below(2).is_some());
    drop(coming);
    assert!(pool.is_empty());
}
