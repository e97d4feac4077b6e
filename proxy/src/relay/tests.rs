#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

/// Gives pieces, one with each read, and then an error; takes what is written.
struct Broken {
    pieces: Vec<usize>,
    given: u8,
}

impl AsyncRead for Broken {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Some(left) = this.pieces.first_mut() else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        let length = out.remaining().min(*left);
        for _ in 0..length {
            out.put_slice(&[this.given]);
            this.given = this.given.wrapping_add(1);
        }
        *left -= length;
        if *left == 0 {
            this.pieces.remove(0);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Broken {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn run_to_end<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[tokio::test(start_paused = true)]
async fn a_connection_on_which_nothing_moves_ends_and_one_in_use_goes_on() {
    let ((mut caller, near), (far, mut server)) = (tokio::io::duplex(64), tokio::io::duplex(64));
    let begun = tokio::time::Instant::now();
    let relayed = tokio::spawn(run_reported(near, far, None, Some(Duration::from_secs(2))));
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        caller.write_all(b"x").await.unwrap();
        server.read_u8().await.unwrap();
    }
    let (sent, result) = relayed.await.unwrap();
    assert!(sent == 0 && result.is_ok());
    let lived = begun.elapsed();
    assert!((7..=8).contains(&lived.as_secs()), "{lived:?}");
    assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 0, "both sides are closed");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_came_before_an_error_is_delivered_before_it_is_told(
        pieces in prop::collection::vec(1usize..80_000, 0..6),
        room in 1usize..40_000,
    ) {
        let length: usize = pieces.iter().sum();
        run_to_end(async {
            let (ours, mut theirs) = tokio::io::duplex(room);
            let reader = tokio::spawn(async move {
                let mut all = Vec::new();
                let _ = theirs.read_to_end(&mut all).await;
                all
            });
            let count = Count::default();
            let error = run(Broken { pieces, given: 0 }, ours, &count).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            let all = reader.await.unwrap();
            assert_eq!(all.len(), length);
            assert!(all.iter().enumerate().all(|(at, byte)| *byte == at as u8));
            assert_eq!(count.take(), (0, length as u64));
        });
    }

    #[test]
    fn all_bytes_come_in_order_however_they_are_cut_and_each_end_is_told_by_itself(
        up in prop::collection::vec(any::<u8>(), 0..200_000),
        down in prop::collection::vec(any::<u8>(), 0..200_000),
        rooms in prop::array::uniform2(1usize..70_000),
    ) {
        run_to_end(async {
            let (mut caller, ours) = tokio::io::duplex(rooms[0]);
            let (theirs, mut upstream) = tokio::io::duplex(rooms[1]);
            let (sent, wanted) = (up.clone(), down.clone());
            let client = tokio::spawn(async move {
                caller.write_all(&sent).await.unwrap();
                caller.shutdown().await.unwrap();
                let mut all = Vec::new();
                caller.read_to_end(&mut all).await.unwrap();
                assert!(all == wanted);
            });
            let server = tokio::spawn(async move {
                let mut all = Vec::new();
                upstream.read_to_end(&mut all).await.unwrap();
                upstream.write_all(&down).await.unwrap();
                upstream.shutdown().await.unwrap();
                assert!(all == up);
            });
            run(ours, theirs, &Count::default()).await.unwrap();
            client.await.unwrap();
            server.await.unwrap();
        });
    }
}
