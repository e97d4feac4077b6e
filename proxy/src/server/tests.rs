#![allow(clippy::unwrap_used)]

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

use super::*;
use crate::body::Payload;
use crate::clock;

#[tokio::test]
async fn a_connection_that_has_carried_a_body_ends_with_the_peers_certificate() {
    let (mut client, server) = duplex(64 * 1024);
    let until = clock::now() + Duration::from_millis(200);
    let handle =
        |_: Request<Received>, _: Arc<Verdict>| std::future::ready(Response::new(Body::new(Payload::Empty, None)));
    let serving = async {
        http1(server, BytesMut::new(), Some(until), &Drain::default(), handle).await;
        assert!(clock::now() >= until, "not before");
    };
    let asking = async {
        client.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\nx").await.unwrap();
        let mut out = String::new();
        client.read_to_string(&mut out).await.unwrap();
        assert!(out.starts_with("HTTP/1.1 200 OK\r\n"), "{out}");
    };
    tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(serving, asking) }).await.unwrap();
}
