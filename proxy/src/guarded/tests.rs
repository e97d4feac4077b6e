#![allow(clippy::unwrap_used)]
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::*;

const GET: &[u8] = b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n";

/// Everything that comes out until the stream ends, fails, or is quiet for good.
async fn passed(input: &[&[u8]]) -> (Vec<u8>, Option<(Reject, String)>) {
    let (mut client, server) = duplex(1 << 16);
    let mut guarded = Guarded::new(server, BytesMut::new());
    let verdict = guarded.verdict();
    for piece in input {
        client.write_all(piece).await.unwrap();
    }
    let mut out = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(Ok(n)) = tokio::time::timeout(Duration::from_millis(50), guarded.read(&mut buffer)).await {
        if n == 0 {
            break;
        }
        out.extend_from_slice(&buffer[..n]);
    }
    (out, verdict.refused().cloned())
}

#[tokio::test(start_paused = true)]
async fn valid_requests_pass_whole_however_they_are_cut() {
    let body = b"POST /b HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let all = [GET, &body[..], GET].concat();
    for cut in 0..all.len() {
        let (out, refused) = passed(&[&all[..cut], &all[cut..]]).await;
        assert_eq!(out, all, "cut at {cut}");
        assert_eq!(refused, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_head_is_replaced_behind_the_requests_before_it() {
    let bad = b"GET /b HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n";
    let (out, refused) = passed(&[GET, bad, GET]).await;
    assert_eq!(out, [GET, STAND_IN].concat(), "nothing of the refused head, nothing after it");
    assert_eq!(refused.unwrap().0, Reject::AmbiguousRequest);
}

#[tokio::test(start_paused = true)]
async fn a_refused_body_fails_the_read() {
    let (mut client, server) = duplex(1 << 16);
    let mut guarded = Guarded::new(server, BytesMut::new());
    let head = b"POST /b HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    client.write_all(head).await.unwrap();
    let mut buffer = [0; 1024];
    assert_eq!(guarded.read(&mut buffer).await.unwrap(), head.len());
    client.write_all(b"0x3\r\nabc\r\n").await.unwrap();
    let error = guarded.read(&mut buffer).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(guarded.verdict().refused().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_end_is_refused_in_time() {
    let (mut client, server) = duplex(1 << 16);
    let mut guarded = Guarded::new(server, BytesMut::new());
    let verdict = guarded.verdict();
    client.write_all(b"GET / HTTP/1.1\r\nhos").await.unwrap();
    let began = tokio::time::Instant::now();
    let mut out = vec![0; STAND_IN.len()];
    guarded.read_exact(&mut out).await.unwrap();
    assert_eq!(out, STAND_IN);
    assert_eq!(verdict.refused().unwrap().0, Reject::RequestTimeout);
    assert!((HEAD_TIMEOUT..HEAD_TIMEOUT + Duration::from_secs(1)).contains(&began.elapsed()));
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_not_timed() {
    let (mut client, server) = duplex(1 << 16);
    let mut guarded = Guarded::new(server, BytesMut::new());
    let mut buffer = [0; 1024];
    client.write_all(GET).await.unwrap();
    assert_eq!(guarded.read(&mut buffer).await.unwrap(), GET.len());
    assert!(tokio::time::timeout(HEAD_TIMEOUT * 10, guarded.read(&mut buffer)).await.is_err());
    assert_eq!(guarded.verdict().refused(), None);
    client.write_all(GET).await.unwrap();
    assert_eq!(guarded.read(&mut buffer).await.unwrap(), GET.len());
}

#[tokio::test(start_paused = true)]
async fn after_the_switch_bytes_pass_as_they_are() {
    let (mut client, server) = duplex(1 << 16);
    let mut guarded = Guarded::new(server, BytesMut::new());
    let mut buffer = [0; 1024];
    let connect = b"CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n";
    client.write_all(connect).await.unwrap();
    assert_eq!(guarded.read(&mut buffer).await.unwrap(), connect.len());
    guarded.verdict().tunnel();
    client.write_all(b"\x16\x03\x01 anything\0").await.unwrap();
    assert_eq!(guarded.read(&mut buffer).await.unwrap(), 13);
}

#[tokio::test(start_paused = true)]
async fn bytes_sent_before_the_switch_are_never_tunnelled() {
    let (mut client, server) = duplex(1 << 16);
    let mut guarded = Guarded::new(server, BytesMut::new());
    let mut buffer = [0; 1024];
    let early = b"CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\nGET /smug";
    client.write_all(early).await.unwrap();
    assert_eq!(guarded.read(&mut buffer).await.unwrap(), early.len() - 9);
    guarded.verdict().tunnel();
    assert!(guarded.read(&mut buffer).await.is_err());
}
