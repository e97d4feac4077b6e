//! Finds out what a connection speaks, reading no more than it must; a server that speaks first is heard too.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use causeway_mesh::detect::{self, Detected};
use causeway_mesh::sni::{self, Sni};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::connect::Upstream;

/// Where clients are known to speak first, the server is dialled and listened to only after this.
const SILENCE: Duration = Duration::from_millis(5);

/// Room for what a client says first, bytes: most heads of requests, and a ClientHello.
const FIRST: usize = 1024;

/// How long a first line, or a ClientHello that has begun, may take to show what it is.
const DETECT: Duration = Duration::from_secs(10);

/// Who spoke first on the connection before, to the same place: it spares servers of HTTP a connection that nobody uses.
#[derive(Default)]
pub struct Habit {
    is_client: AtomicBool,
}

impl Habit {
    fn silence(&self) -> Duration {
        if self.is_client.load(Ordering::Relaxed) { SILENCE } else { Duration::ZERO }
    }

    fn note(&self, is_client: bool) {
        // Written only where it changes, so that cores do not take the line from each other.
        if self.is_client.load(Ordering::Relaxed) != is_client {
            self.is_client.store(is_client, Ordering::Relaxed);
        }
    }
}

/// Who spoke first, and what.
pub enum Heard<T> {
    /// The client: what its bytes are, and the connection if one has been opened by then.
    Client(Detected, Option<Box<(Upstream, T)>>),
    /// The server; with the connection that was opened to hear it, and what it said.
    Server(Box<(Upstream, T)>, BytesMut),
    /// The client left without a word.
    Nobody,
}

/// Listens to the client and to the server that `dial` connects to: at once, unless `habit` says that clients speak
/// first here.
pub async fn both<S, T>(
    stream: &mut S,
    first: &mut BytesMut,
    habit: &Habit,
    dial: impl Future<Output = Option<(Upstream, T)>>,
) -> Heard<T>
where
    S: AsyncRead + Unpin,
{
    first.reserve(FIRST);
    let heard = listen(stream, first, habit.silence(), dial).await;
    match &heard {
        Heard::Client(..) => habit.note(true),
        Heard::Server(..) => habit.note(false),
        Heard::Nobody => {}
    }
    heard
}

async fn listen<S, T>(
    stream: &mut S,
    first: &mut BytesMut,
    silence: Duration,
    dial: impl Future<Output = Option<(Upstream, T)>>,
) -> Heard<T>
where
    S: AsyncRead + Unpin,
{
    let mut dial = std::pin::pin!(async {
        if !silence.is_zero() {
            tokio::time::sleep(silence).await;
        }
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
                Ok(0) => return Heard::Client(Detected::Opaque, dialled.map(Box::new)),
                Ok(_) => match detect::classify(first) {
                    Detected::NeedMore => if !timed {
                        timed = true;
                        deadline.as_mut().reset(tokio::time::Instant::now() + DETECT);
                    },
                    found => return Heard::Client(found, dialled.map(Box::new)),
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
            () = &mut deadline, if timed => return Heard::Client(Detected::Opaque, dialled.map(Box::new)),
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
    first.reserve(FIRST);
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

/// Reads on in the ClientHello that `first` begins: the name that it asks for, where it does. None: the client left, or
/// took too long, and what it wants cannot be known.
pub async fn server_name<S: AsyncRead + Unpin>(stream: &mut S, first: &mut BytesMut) -> Option<Option<String>> {
    let reading = async {
        loop {
            match sni::read(first) {
                Sni::Name(name) => return Some(Some(name)),
                Sni::Nameless | Sni::NoHello => return Some(None),
                Sni::NeedMore => {}
            }
            if !matches!(stream.read_buf(first).await, Ok(n) if n > 0) {
                return None;
            }
        }
    };
    tokio::time::timeout(DETECT, reading).await.unwrap_or(None)
}

#[cfg(test)]
mod tests;
