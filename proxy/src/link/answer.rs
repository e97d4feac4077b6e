//! The body of a message as it comes in on a stream.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Frame, SizeHint};

use crate::body::BodyError;

/// Of one message.
pub struct Answer {
    stream: RecvStream,
    /// What is to come, where the message says it.
    left: Option<u64>,
    has_data: bool,
    /// Looked up once a frame: each look takes the connection's lock.
    is_end: bool,
}

impl Answer {
    /// The body of a message with these fields.
    pub fn new(stream: RecvStream, headers: &HeaderMap) -> Self {
        let is_end = stream.is_end_stream();
        let length = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
        Self { stream, left: if is_end { Some(0) } else { length }, has_data: !is_end, is_end }
    }

    /// Polls for the next frame. What is read makes room for more.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.is_end {
            return Poll::Ready(None);
        }
        if self.has_data {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // Refused only where more is released than came.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                    self.is_end = self.stream.is_end_stream();
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(self.broken(error)),
                None => self.has_data = false,
            }
        }
        match ready!(self.stream.poll_trailers(cx)) {
            Ok(trailers) => {
                self.is_end = true;
                Poll::Ready(trailers.map(|fields| Ok(Frame::trailers(fields))))
            }
            Err(error) => Poll::Ready(self.broken(error)),
        }
    }

    /// Who has said all that it has to say may ask for the rest of the request to be left out (RFC 9113 section 8.1).
    fn broken(&mut self, error: h2::Error) -> Option<Result<Frame<Bytes>, BodyError>> {
        let is_whole = error.reason() == Some(Reason::NO_ERROR) && self.left.is_none_or(|left| left == 0);
        (self.has_data, self.is_end) = (false, is_whole);
        (!is_whole).then(|| Err(error.into()))
    }

    /// Whether nothing follows.
    pub fn is_end_stream(&self) -> bool {
        self.is_end
    }

    /// What is known of the length of what follows.
    pub fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
