//! An HTTP/1.1 connection to an upstream that has no task: who sends a request over it writes it, and reads the response,
//! itself. For requests without body, which most are; what has one is hyper's matter, to which a connection can be given
//! between two requests.
//!
//! It keeps no buffer while nothing flows. A head is written with one call, and what comes is read to one place of its
//! size, of which the response's fields and its body are parts.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};
use http::{Request, Response};
use tokio::io::ReadBuf;

use crate::body::Payload;
use crate::connect::Upstream;
use crate::relay::Io;
use crate::scratch;

mod head;
mod reading;

use head::Parsed;
pub use reading::Reading;

/// Largest head of a response, bytes.
const HEAD: usize = 64 * 1024;

/// Fields of an application's response at most, and of any trailer section, as hyper takes.
pub const OF_AN_APPLICATION: usize = 100;

/// The same when a proxy of ours hands it on, with what it adds.
pub const OF_A_PROXY: usize = head::FIELDS;

/// A connection, used by one request at a time.
pub struct Direct<S = Upstream>(Arc<Mutex<Inner<S>>>);

struct Inner<S> {
    stream: S,
    /// What has been read and is not used yet.
    held: Bytes,
    state: State,
    /// Fields of a response at most.
    fields: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing is under way.
    Idle,
    /// A request or its response is.
    Busy,
    /// It cannot be used again.
    Over,
}

/// No response.
#[derive(Debug)]
pub struct Unanswered {
    error: io::Error,
    /// Not a byte of the request was taken.
    pub is_unsent: bool,
    /// Not a byte of a response came.
    pub is_silent: bool,
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl std::error::Error for Unanswered {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl<S: Io> Direct<S> {
    /// A connection that nothing was sent over, whose responses have at most so many `fields`.
    pub fn new(stream: S, fields: usize) -> Self {
        Self(Arc::new(Mutex::new(Inner { stream, held: Bytes::new(), state: State::Idle, fields })))
    }

    /// Whether a request can be sent. Looks whether the peer has closed it, or said what nobody asked for.
    pub fn is_ready(&self) -> bool {
        let mut inner = lock(&self.0);
        if inner.state == State::Idle {
            let mut byte = [0];
            let mut context = Context::from_waker(Waker::noop());
            if Pin::new(&mut inner.stream).poll_read(&mut context, &mut ReadBuf::new(&mut byte)).is_ready() {
                inner.state = State::Over;
            }
        }
        inner.state == State::Idle
    }

    /// Whether no request can be sent, as far as is known.
    pub fn is_closed(&self) -> bool {
        lock(&self.0).state != State::Idle
    }

    /// The stream, where nothing is under way on it.
    pub fn into_stream(self) -> Option<S> {
        let inner = Arc::into_inner(self.0)?.into_inner().unwrap_or_else(PoisonError::into_inner);
        (inner.state == State::Idle).then_some(inner.stream)
    }

    /// Sends a request without body, and awaits the head of its response. Who drops it ends the connection.
    ///
    /// # Errors
    /// The connection broke, or what came is no response; the connection is over then.
    pub async fn exchange(&self, request: &Request<Payload>) -> Result<Response<Reading<S>>, Unanswered> {
        lock(&self.0).state = State::Busy;
        let mut rest = None; // of the head: what one call did not take
        let mut is_unsent = true;
        let sent = std::future::poll_fn(|cx| {
            let mut inner = lock(&self.0);
            match &mut rest {
                Some(rest) => inner.poll_write(cx, rest, &mut is_unsent),
                None => scratch::text(
                    |head| head::write(request, head),
                    |mut head| {
                        let sent = inner.poll_write(cx, &mut head, &mut is_unsent);
                        rest = Some(Bytes::copy_from_slice(head));
                        sent
                    },
                ),
            }
        })
        .await;
        if let Err(error) = sent {
            return Err(Unanswered { error, is_unsent, is_silent: true });
        }
        let mut is_silent = true;
        let read = std::future::poll_fn(|cx| lock(&self.0).poll_head(cx, request.method(), &mut is_silent)).await;
        let (head, framing, keeps) = read.map_err(|error| Unanswered { error, is_unsent: false, is_silent })?;
        Ok(Response::from_parts(head, Reading::new(&self.0, framing, keeps)))
    }
}

fn lock<S>(inner: &Mutex<Inner<S>>) -> MutexGuard<'_, Inner<S>> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes so many bytes off what is held, which keeps no room, not even one that it shares, once nothing of it is left.
fn used(held: &mut Bytes, length: usize) {
    if length == held.len() {
        *held = Bytes::new();
    } else {
        held.advance(length);
    }
}

impl<S: Io> Inner<S> {
    fn poll_write(&mut self, cx: &mut Context<'_>, head: &mut impl Buf, is_unsent: &mut bool) -> Poll<io::Result<()>> {
        while head.has_remaining() {
            let wrote = ready!(Pin::new(&mut self.stream).poll_write(cx, head.chunk()))?;
            if wrote == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *is_unsent = false;
            head.advance(wrote);
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        method: &http::Method,
        is_silent: &mut bool,
    ) -> Poll<io::Result<head::Whole>> {
        loop {
            if !self.held.is_empty() {
                *is_silent = false;
                match head::parse(&mut self.held, method, self.fields).map_err(io::Error::other)? {
                    Parsed::Whole(whole) => return Poll::Ready(Ok(whole)),
                    Parsed::Interim => continue,
                    Parsed::Begun if self.held.len() > HEAD => {
                        return Poll::Ready(Err(io::Error::other("the head of the response is too long")));
                    }
                    Parsed::Begun => {}
                }
            }
            if ready!(self.poll_read(cx, scratch::kept))? == 0 {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the connection ended before the response",
                )));
            }
        }
    }

    /// One read to the end of what is held, or `kept` where nothing is; 0: the end of the stream.
    fn poll_read(&mut self, cx: &mut Context<'_>, kept: fn(&[u8]) -> Bytes) -> Poll<io::Result<usize>> {
        let Self { stream, held, .. } = self;
        scratch::poll_read(stream, cx, |came| {
            *held = match held.is_empty() {
                true => kept(came),
                false => [&**held, came].concat().into(),
            };
            came.len()
        })
    }
}

#[cfg(test)]
mod tests;
