#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::*;

/// Counts the writes that reach it, and holds them back until a flush as TLS may.
struct Counted {
    inner: DuplexStream,
    held: Vec<u8>,
    writes: Arc<AtomicUsize>,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, out)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.as_mut().poll_flush(cx))?;
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.held.extend_from_slice(data);
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while !this.held.is_empty() {
            let wrote = ready!(Pin::new(&mut this.inner).poll_write(cx, &this.held))?;
            this.held.drain(..wrote);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

fn counted(room: usize) -> (Counted, DuplexStream, Arc<AtomicUsize>) {
    let (inner, far) = duplex(room);
    let writes = Arc::new(AtomicUsize::new(0));
    (Counted { inner, held: Vec::new(), writes: Arc::clone(&writes) }, far, writes)
}

async fn forever() {
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn what_is_said_in_one_turn_is_written_at_once() {
    let (near, mut far, writes) = counted(64 * 1024);
    let (mut stream, gathering) = gather(near);
    tokio::spawn(gathering(async move {
        for _ in 0..10 {
            stream.write_all(&[7; 1000]).await.unwrap();
            stream.flush().await.unwrap();
        }
        forever().await;
    }));
    let mut all = vec![0; 10_000];
    far.read_exact(&mut all).await.unwrap();
    assert_eq!(all, [7; 10_000]);
    assert_eq!(writes.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn the_end_of_a_connection_loses_nothing() {
    let (near, mut far, _) = counted(16);
    let (mut stream, gathering) = gather(near);
    tokio::spawn(gathering(async move {
        stream.write_all(&[7; 1000]).await.unwrap();
        stream.shutdown().await.unwrap();
    }));
    let mut all = Vec::new();
    far.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, [7; 1000]);
}

/// Nothing is ever read, and nothing can be written.
struct Stuck;

impl AsyncRead for Stuck {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Stuck {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_connection_that_only_waits_hears_that_nothing_can_be_written() {
    let (mut stream, gathering) = gather(Stuck);
    let ended = gathering(async move {
        stream.write_all(&[7; 1000]).await.unwrap();
        stream.flush().await.unwrap();
        stream.read_u8().await.unwrap_err().kind()
    });
    let kind = tokio::time::timeout(std::time::Duration::from_secs(5), ended).await.unwrap();
    assert_eq!(kind, io::ErrorKind::BrokenPipe);
}

proptest! {
    #[test]
    fn every_byte_arrives_in_its_order_however_it_is_said(
        room in 1_usize..20_000,
        said in proptest::collection::vec((0_usize..20_000, any::<bool>(), any::<bool>()), 0..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let want: Vec<u8> = (0..said.iter().map(|(length, ..)| length).sum::<usize>()).map(|i| i as u8).collect();
        let got = runtime.block_on(async {
            let (near, mut far, _) = counted(room);
            let (mut stream, gathering) = gather(near);
            let all = want.clone();
            let speak = gathering(async move {
                let mut rest = &all[..];
                for (length, flushes, waits) in said {
                    let (piece, more) = rest.split_at(length);
                    rest = more;
                    stream.write_all(piece).await.unwrap();
                    if flushes {
                        stream.flush().await.unwrap();
                    }
                    if waits {
                        tokio::task::yield_now().await;
                    }
                }
                forever().await;
            });
            let mut got = vec![0; want.len()];
            tokio::select! {
                () = speak => {}
                read = far.read_exact(&mut got) => { read.unwrap(); }
            }
            got
        });
        prop_assert_eq!(got, want);
    }
}
