//! Serves the simple requests of an HTTP/1.1 connection, which nearly all are: the head came in one piece and no body
//! follows. Everything else, from a body to a head that must be refused, is left to `server` with all that was read.
//!
//! It keeps no buffer while nothing flows, reads no head twice but for the guard, and writes a head and the body that is
//! there with one call.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::BytesMut;
use causeway_mesh::http1::{Guard, Head, Limits, Step};
use http::{Method, Request, Response};
use tokio::io::AsyncWriteExt as _;

use crate::body::{Body, Received};
use crate::clock;
use crate::drain::{Drain, Phase};
use crate::guarded::Verdict;
use crate::relay::Io;
use crate::scratch;

mod head;
mod reply;

use reply::Writing;

/// What remains of a connection whose next request is not simple: the stream, and what was read of it.
pub type Rest<S> = Option<(S, BytesMut)>;

/// Serves `stream`, of which `first` has been read, until it ends (None) or something comes that is not simple. From
/// [`Phase::Draining`] on no connection is kept, and no request is read after `until`.
pub async fn serve<S, H, F>(
    mut stream: S,
    first: BytesMut,
    until: Option<Instant>,
    drain: &Drain,
    handle: &H,
) -> Rest<S>
where
    S: Io,
    H: Fn(Request<Received>, Arc<Verdict>) -> F,
    F: Future<Output = Response<Body>>,
{
    let verdict = Arc::new(Verdict::default());
    let mut held = first;
    let mut draining = std::pin::pin!(drain.reached(Phase::Draining));
    loop {
        if held.is_empty() && !has_come(&mut stream, &mut held, draining.as_mut()).await {
            return close(stream).await;
        }
        if until.is_some_and(|until| until <= clock::now()) {
            return close(stream).await;
        }
        let (request, closes) = match next(&mut held) {
            Next::Simple(request, closes) => (request, closes),
            Next::Begun if has_more(&mut stream, &mut held).await => continue,
            Next::Begun | Next::Other => return Some((stream, held)),
        };
        let is_head = *request.method() == Method::HEAD;
        // In a box, so that a connection has no room for it while it is idle.
        let handled = Box::pin(handle(request, Arc::clone(&verdict)));
        let response = while_there(&mut stream, &mut held, handled).await?;
        let closes = closes || drain.phase() >= Phase::Draining;
        let mut writing = Writing::new(response, is_head, closes);
        if write(&mut stream, &mut held, &mut writing).await.is_err() {
            return None;
        }
        if writing.closes() {
            return close(stream).await;
        }
    }
}

async fn close<S: Io>(mut stream: S) -> Rest<S> {
    let _ = stream.shutdown().await; // the peer may have closed before
    None
}

/// What stands first in the bytes that have come.
#[allow(clippy::large_enum_variant, reason = "it lives for a line, and nearly always it is the large one")]
enum Next {
    /// A request, taken out of them, and whether it is to be the last.
    Simple(Request<Received>, bool),
    /// Not all of a head.
    Begun,
    /// Something else.
    Other,
}

fn next(held: &mut BytesMut) -> Next {
    let mut guard = Guard::new(Limits::default());
    let length = match guard.step(held) {
        Step::Pass(length) if is_simple(guard.last_head()) => length,
        Step::NeedMore => return Next::Begun,
        Step::Pass(_) | Step::Refuse(_) => return Next::Other,
    };
    let bytes = if length == held.len() { std::mem::take(held) } else { held.split_to(length) };
    let bytes = bytes.freeze();
    match head::parse(&bytes) {
        Some((request, closes)) => Next::Simple(request, closes),
        None => {
            // What cannot be read is there again for whoever refuses it.
            *held = [&*bytes, &**held].concat().as_slice().into();
            Next::Other
        }
    }
}

/// Nothing follows the head, and nothing but an answer is expected.
fn is_simple(head: Head) -> bool {
    let has_body = head.is_chunked || head.content_length > 0;
    !(has_body || head.asks_for_tunnel() || head.names_h2c || head.is_http_1_0 || head.expects_continue)
}

/// Waits on an idle connection; false: it ended, or nothing more is wanted.
async fn has_come<S: Io>(stream: &mut S, held: &mut BytesMut, draining: Pin<&mut impl Future<Output = ()>>) -> bool {
    tokio::select! {
        biased;
        read = std::future::poll_fn(|cx| poll_read(stream, cx, held)) => matches!(read, Ok(n) if n > 0),
        () = draining => false,
    }
}

/// Takes what else is there already; false: nothing, and what may still come is to be waited for with a limit of time.
async fn has_more<S: Io>(stream: &mut S, held: &mut BytesMut) -> bool {
    std::future::poll_fn(|cx| Poll::Ready(matches!(poll_read(stream, cx, held), Poll::Ready(Ok(n)) if n > 0))).await
}

/// Awaits `handled` for as long as the client is there; None: it is gone, and nobody waits for what would come of it.
async fn while_there<S: Io, T>(
    stream: &mut S,
    held: &mut BytesMut,
    mut handled: Pin<Box<impl Future<Output = T>>>,
) -> Option<T> {
    std::future::poll_fn(|cx| match handled.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending if is_gone(stream, cx, held) => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// Whether the client has closed the connection. What it sends instead is the next request: it is kept, and while it is
/// there nothing more is read.
fn is_gone<S: Io>(stream: &mut S, cx: &mut Context<'_>, held: &mut BytesMut) -> bool {
    held.is_empty() && matches!(poll_read(stream, cx, held), Poll::Ready(Ok(0) | Err(_)))
}

/// One read to the end of `held`, which takes no more room than what has come; 0: the end of the stream.
fn poll_read<S: Io>(stream: &mut S, cx: &mut Context<'_>, held: &mut BytesMut) -> Poll<io::Result<usize>> {
    scratch::poll_read(stream, cx, |came| {
        held.extend_from_slice(came);
        came.len()
    })
}

/// Writes a response to its end.
///
/// # Errors
/// The client's connection broke, or the response did, which the client sees as a connection that breaks.
async fn write<S: Io>(stream: &mut S, held: &mut BytesMut, writing: &mut Writing) -> io::Result<()> {
    std::future::poll_fn(|cx| {
        loop {
            // What is on its way goes first; only a head waits for what there is of the body.
            let gathered = if writing.is_blocked() { Poll::Ready(false) } else { writing.poll_gather(cx)? };
            ready!(writing.poll_write(stream, cx))?;
            match gathered {
                Poll::Ready(true) => return Pin::new(&mut *stream).poll_flush(cx),
                Poll::Ready(false) => {}
                Poll::Pending => {
                    ready!(Pin::new(&mut *stream).poll_flush(cx))?;
                    let is_gone = is_gone(stream, cx, held);
                    return if is_gone {
                        Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
                    } else {
                        Poll::Pending
                    };
                }
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests;
