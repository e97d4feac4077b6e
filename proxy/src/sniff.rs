//! Finds out what a connection speaks, reading no more than it must; a server that speaks first is heard too.

use std::future::Future;
use std::time::Duration;

use bytes::BytesMut;
use causeway_mesh::detect::{self, Detected};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::connect::Upstream;

/// A client that says nothing may be waiting for the server: after this the server is dialled and listened to as well.
const SILENCE: Duration = Duration::from_millis(5);

/// How long a first line may take to show what it is.
const DETECT: Duration = Duration::from_secs(10);

/// Who spoke first, and what.
pub enum Heard<T> {
    /// The client: what its bytes are.
    Client(Detected),
    /// The server; with the connection that was opened to hear it, and what it said.
    Server(Box<(Upstream, T)>, BytesMut),
    /// The client left without a word.
    Nobody,
}

/// Listens to the client, and after a moment of silence also to the server that `dial` connects to.
pub async fn both<S, T>(
    stream: &mut S,
    first: &mut BytesMut,
    dial: impl Future<Output = Option<(Upstream, T)>>,
) -> Heard<T>
where
    S: AsyncRead + Unpin,
{
    let mut dial = std::pin::pin!(async {
        tokio::time::sleep(SILENCE).await;
        dial.await
    });
    let mut dialled = None;
    let mut dialling = true;
    let mut said = BytesMut::new();
    let mut deadline = std::pin::pin!(tokio::time::sleep(DETECT));
    let mut timed = false;
    loop {
        tokio::select! {
            biased;
            read = stream.read_buf(first) => match read {
                Ok(0) if first.is_empty() => return Heard::Nobody,
                Ok(0) => return Heard::Client(Detected::Opaque),
                Ok(_) => match detect::classify(first) {
                    Detected::NeedMore => if !timed {
                        timed = true;
                        deadline.as_mut().reset(tokio::time::Instant::now() + DETECT);
                    },
                    found => return Heard::Client(found),
                },
                Err(_) => return Heard::Nobody,
            },
            result = &mut dial, if dialling => {
                dialling = false;
                dialled = result;
            }
            read = read_first(&mut dialled, &mut said), if dialled.is_some() => match (read, dialled.take()) {
                (Ok(n), Some(upstream)) if n > 0 => return Heard::Server(Box::new(upstream), said),
                // It closed. The client may still speak, and is then served by a connection of its own.
                _ => {}
            },
            () = &mut deadline, if timed => return Heard::Client(Detected::Opaque),
        }
    }
}

async fn read_first<T>(dialled: &mut Option<(Upstream, T)>, said: &mut BytesMut) -> std::io::Result<usize> {
    match dialled {
        Some((upstream, _)) => upstream.read_buf(said).await,
        None => std::future::pending().await,
    }
}

/// Listens to the client alone; None: it left.
pub async fn client<S: AsyncRead + Unpin>(stream: &mut S, first: &mut BytesMut) -> Option<Detected> {
    loop {
        // Silence may last: only a line that has begun is timed.
        let read = if first.is_empty() {
            stream.read_buf(first).await
        } else {
            match tokio::time::timeout(DETECT, stream.read_buf(first)).await {
                Ok(read) => read,
                Err(_) => return Some(Detected::Opaque),
            }
        };
        match read {
            Ok(0) | Err(_) => return (!first.is_empty()).then_some(Detected::Opaque),
            Ok(_) => match detect::classify(first) {
                Detected::NeedMore => {}
                found => return Some(found),
            },
        }
    }
}
