#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use http::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;

use super::*;
use crate::body::Payload;

/// A client of a connection whose requests `handle` answers, and the drain of its server.
async fn client<H, F>(handle: H) -> (h2::client::SendRequest<Bytes>, Drain, JoinHandle<()>)
where
    H: Fn(Request<Received>) -> F + Send + Unpin + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let (ours, theirs) = tokio::io::duplex(4096);
    let drain = Drain::default();
    let served = drain.clone();
    // `handle` need not be Sync, so what holds it must not be shared.
    let server = tokio::spawn(async move { Box::pin(serve(theirs, None, &served, handle)).await });
    let (sender, connection) = h2::client::handshake(ours).await.unwrap();
    tokio::spawn(connection);
    (sender.ready().await.unwrap(), drain, server)
}

fn full(text: &'static str) -> Response<Body> {
    Response::new(Body::new(Payload::Full(text.into()), None))
}

async fn text(body: &mut RecvStream) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        all.extend_from_slice(&data.unwrap());
    }
    all
}

#[tokio::test]
async fn a_response_says_its_date_and_its_length_where_they_are_known() {
    let (mut sender, ..) = client(async |_| full("twelve bytes")).await;
    let (response, _) = sender.send_request(Request::new(()), true).unwrap();
    let (head, mut body) = response.await.unwrap().into_parts();
    assert_eq!((head.status, &head.headers[CONTENT_LENGTH]), (StatusCode::OK, &HeaderValue::from_static("12")));
    assert!(head.headers[DATE].as_bytes().ends_with(b" GMT"));
    assert_eq!(text(&mut body).await, b"twelve bytes");
}

#[tokio::test]
async fn bodies_pass_in_both_directions_with_their_trailers() {
    let echo = async |request: Request<Received>| Response::new(Body::new(Payload::from(request.into_body()), None));
    let (mut sender, ..) = client(echo).await;
    let (response, mut send) = sender.send_request(Request::post("/").body(()).unwrap(), false).unwrap();
    send.send_data("one".into(), false).unwrap();
    let mut body = response.await.unwrap().into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), "one");
    send.send_data("two".into(), false).unwrap();
    send.send_trailers(http::HeaderMap::from_iter([(DATE, HeaderValue::from_static("never"))])).unwrap();
    assert_eq!(text(&mut body).await, b"two");
    assert_eq!(body.trailers().await.unwrap().unwrap()[DATE], "never");
}

#[tokio::test]
async fn nobody_goes_on_with_a_request_that_is_cancelled() {
    let (begun, dropped) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let tell = (Arc::clone(&begun), Arc::clone(&dropped));
    let (mut sender, ..) = client(move |_| {
        let (begun, dropped) = (Arc::clone(&tell.0), Told(Arc::clone(&tell.1)));
        async move {
            let _dropped = dropped;
            begun.notify_one();
            std::future::pending().await
        }
    })
    .await;
    let (response, mut send) = sender.send_request(Request::new(()), true).unwrap();
    begun.notified().await;
    send.send_reset(Reason::CANCEL);
    dropped.notified().await;
    drop(response);
}

struct Told(Arc<Notify>);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[tokio::test]
async fn a_tunnel_opens_with_2xx_and_carries_bytes_until_both_ends_are_done() {
    let (mut sender, ..) = client(async |mut request: Request<Received>| {
        let turn = request.extensions_mut().remove::<Turn>().unwrap();
        if request.uri().path() == "/refused" {
            return Response::builder().status(403).body(Body::new(Payload::Full("no".into()), None)).unwrap();
        }
        tokio::spawn(async move {
            let mut tunnel = turn.tunnel().await.unwrap();
            let mut read = Vec::new();
            tunnel.read_to_end(&mut read).await.unwrap();
            read.reverse();
            tunnel.write_all(&read).await.unwrap();
            tunnel.shutdown().await.unwrap();
        });
        Response::new(Body::new(Payload::Empty, None))
    })
    .await;
    let connect = |path| {
        let request = Request::builder().method("CONNECT").uri(format!("http://app{path}"));
        request.extension(h2::ext::Protocol::from_static("websocket")).body(()).unwrap()
    };
    let (response, mut send) = sender.send_request(connect("/"), false).unwrap();
    let mut body = response.await.unwrap().into_body();
    send.send_data("desserts".into(), true).unwrap();
    assert_eq!(text(&mut body).await, b"stressed");
    let (response, _send) = sender.send_request(connect("/refused"), false).unwrap();
    let (head, mut body) = response.await.unwrap().into_parts();
    assert_eq!((head.status, &*text(&mut body).await), (StatusCode::FORBIDDEN, &b"no"[..]));
}

#[tokio::test]
async fn a_drained_connection_serves_what_it_has_and_ends() {
    let (begun, end) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let tell = (Arc::clone(&begun), Arc::clone(&end));
    let (mut sender, drain, server) = client(move |_| {
        let (begun, end) = (Arc::clone(&tell.0), Arc::clone(&tell.1));
        async move {
            begun.notify_one();
            end.notified().await;
            full("at last")
        }
    })
    .await;
    let (response, _) = sender.send_request(Request::new(()), true).unwrap();
    begun.notified().await;
    drain.next();
    end.notify_one();
    assert_eq!(text(&mut response.await.unwrap().into_body()).await, b"at last");
    server.await.unwrap();
    assert!(sender.ready().await.is_err());
}
