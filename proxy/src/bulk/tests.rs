#![allow(clippy::unwrap_used)]
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

use super::*;

#[tokio::test(start_paused = true)]
async fn all_bytes_come_in_order_whatever_the_sizes_of_reads() {
    let sent: Vec<u8> = (0..1_000_000u32).map(|n| (n / 7 % 251) as u8).collect();
    let (mut client, server) = duplex(100_000);
    let bytes = sent.clone();
    let writer = tokio::spawn(async move {
        let mut rest = &bytes[..];
        for size in (1..).map(|n: usize| n * 7919 % 90_000 + 1) {
            let (piece, after) = rest.split_at(size.min(rest.len()));
            client.write_all(piece).await.unwrap();
            rest = after;
            if rest.is_empty() {
                return;
            }
        }
    });
    let mut bulk = Bulk::new(server);
    let mut received = Vec::new();
    for size in (1..).map(|n: usize| n * 4099 % 9000 + 1) {
        let mut buffer = vec![0; size];
        match bulk.read(&mut buffer).await.unwrap() {
            0 => break,
            n => received.extend_from_slice(&buffer[..n]),
        }
    }
    writer.await.unwrap();
    assert!(received == sent, "{} of {}", received.len(), sent.len());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_held_while_little_flows_and_nothing_after_a_flow() {
    let (mut client, server) = duplex(200_000);
    let mut bulk = Bulk::new(server);
    let mut buffer = [0; 4096];
    client.write_all(&[1; 100]).await.unwrap();
    assert_eq!(bulk.read(&mut buffer).await.unwrap(), 100);
    assert_eq!(bulk.ahead.capacity(), 0);
    client.write_all(&[2; 50_000]).await.unwrap();
    let mut all = 0;
    while all < 50_000 {
        all += bulk.read(&mut buffer).await.unwrap();
    }
    assert_eq!((all, bulk.ahead.capacity()), (50_000, 0));
    // A flow that stops at the very end of what was read ahead.
    client.write_all(&[3; 4096]).await.unwrap();
    bulk.read_exact(&mut buffer).await.unwrap();
    assert!(bulk.is_flowing);
    assert!(tokio::time::timeout(std::time::Duration::from_secs(1), bulk.read(&mut buffer)).await.is_err());
    assert!(bulk.ahead.capacity() == 0 && !bulk.is_flowing);
}
