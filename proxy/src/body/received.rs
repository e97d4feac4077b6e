//! A body as it comes in, whoever reads the connection that it comes from.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use super::BodyError;
use crate::direct::Reading;
use crate::link::Answer;

/// What somebody sends, frame by frame.
pub enum Received {
    /// Nothing.
    Empty,
    /// From a connection that hyper reads.
    Hyper(Incoming),
    /// From a stream of an HTTP/2 connection.
    Stream(Answer),
    /// From an HTTP/1.1 connection that has no task.
    Direct(Reading),
}

impl From<Incoming> for Received {
    fn from(body: Incoming) -> Self {
        Self::Hyper(body)
    }
}

impl Received {
    /// Polls for the next frame.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self {
            Self::Empty => Poll::Ready(None),
            Self::Stream(body) => body.poll_frame(cx),
            Self::Direct(body) => body.poll_frame(cx),
            Self::Hyper(body) => Pin::new(body).poll_frame(cx).map(|frame| frame.map(|f| f.map_err(Into::into))),
        }
    }

    /// Whether nothing follows.
    pub fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Hyper(body) => body.is_end_stream(),
            Self::Stream(body) => body.is_end_stream(),
            Self::Direct(body) => body.is_end_stream(),
        }
    }

    /// What is known of the length of what follows.
    pub fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Hyper(body) => body.size_hint(),
            Self::Stream(body) => body.size_hint(),
            Self::Direct(body) => body.size_hint(),
        }
    }
}
