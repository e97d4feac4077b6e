//! Bodies in both directions, and the account of one exchange that ends with its response's body.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::metrics::Exchange;

pub mod copied;
pub mod kept;
mod received;

use copied::Source;
use kept::Kept;
pub use received::Received;

/// Why a body broke off: what the other side's connection says, or [`kept::Superseded`].
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// What a message carries: nothing, a few bytes of ours, or somebody's stream.
pub enum Payload {
    /// Nothing.
    Empty,
    /// Bytes made here.
    Full(Bytes),
    /// Passed through, frame by frame.
    Stream(Source),
    /// The same, of which the beginning is kept for another attempt.
    Kept(Kept),
}

impl From<Received> for Payload {
    fn from(body: Received) -> Self {
        Self::from(Source::from(body))
    }
}

impl From<Source> for Payload {
    fn from(body: Source) -> Self {
        if body.is_end_stream() { Self::Empty } else { Self::Stream(body) }
    }
}

impl http_body::Body for Payload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match this {
            Self::Empty => Poll::Ready(None),
            Self::Full(_) => match std::mem::replace(this, Self::Empty) {
                Self::Full(bytes) if !bytes.is_empty() => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                _ => Poll::Ready(None),
            },
            Self::Stream(body) => body.poll_frame(cx),
            Self::Kept(body) => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_empty(),
            Self::Stream(body) => body.is_end_stream(),
            Self::Kept(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(body) => body.size_hint(),
            Self::Kept(body) => body.size_hint(),
        }
    }
}

/// A response's body, with the account that is closed when it ends or is dropped.
pub struct Body {
    payload: Payload,
    exchange: Option<Exchange>,
}

impl Body {
    /// A body whose end closes `exchange`.
    pub fn new(payload: Payload, exchange: Option<Exchange>) -> Self {
        Self { payload, exchange }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.payload).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let (Some(exchange), Some(data)) = (&mut this.exchange, frame.data_ref()) {
                    exchange.sent(data.len());
                }
                if this.payload.is_end_stream() {
                    finish(&mut this.exchange);
                }
            }
            None => finish(&mut this.exchange),
            Some(Err(_)) => {
                if let Some(exchange) = this.exchange.take() {
                    exchange.broken();
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.payload.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.payload.size_hint()
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        // A body that is never polled because there is nothing in it has ended well too.
        if http_body::Body::is_end_stream(&self.payload) {
            finish(&mut self.exchange);
        }
    }
}

fn finish(exchange: &mut Option<Exchange>) {
    if let Some(exchange) = exchange.take() {
        exchange.complete();
    }
}
