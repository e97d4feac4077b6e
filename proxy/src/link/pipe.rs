//! The body of a message on its way into its stream, no faster than the peer's windows allow.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body;

use crate::body::{BodyError, Payload};

/// Ends when the body has been sent, or has broken off, or the peer wants no more of it; what came of a request is told
/// by its response.
pub struct Pipe<B = Payload> {
    body: B,
    stream: SendStream<Bytes>,
    /// Read, not yet sent; and whether it is the last.
    held: Option<(Bytes, bool)>,
}

impl<B: Body<Data = Bytes, Error = BodyError> + Unpin> Pipe<B> {
    /// Sends `body` into `stream`.
    pub fn new(body: B, stream: SendStream<Bytes>) -> Self {
        Self { body, stream, held: None }
    }

    /// Sends what is held once there is room for some of it; true: it was the last.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, h2::Error>> {
        let Some((_, is_last)) = self.held else { return Poll::Ready(Ok(false)) };
        while self.stream.capacity() == 0 {
            match ready!(self.stream.poll_capacity(cx)) {
                Some(room) => room?,
                None => return Poll::Ready(Ok(true)), // reset: nothing more can be sent
            };
        }
        let data = self.held.take().map(|(data, _)| data).unwrap_or_default();
        self.stream.send_data(data, is_last)?;
        Poll::Ready(Ok(is_last))
    }

    /// Reads and sends; true: all is sent.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, h2::Error>> {
        if ready!(self.poll_held(cx))? {
            return Poll::Ready(Ok(true));
        }
        // The connection's window is shared: nothing is asked of it before there is something to send, or a body that is
        // slow to come would keep from others what they could use.
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                self.stream.send_reset(reason(&error));
                return Poll::Ready(Ok(true));
            }
            None => {
                self.stream.send_data(Bytes::new(), true)?;
                return Poll::Ready(Ok(true));
            }
        };
        match frame.into_data() {
            Ok(data) => {
                let is_last = self.body.is_end_stream();
                if !data.is_empty() {
                    // h2 asks for the rest of it when it gets it.
                    self.stream.reserve_capacity(1);
                    self.held = Some((data, is_last));
                } else if is_last {
                    self.stream.send_data(data, true)?;
                    return Poll::Ready(Ok(true));
                }
                Poll::Ready(Ok(false))
            }
            Err(frame) => match frame.into_trailers() {
                Ok(trailers) => {
                    self.stream.reserve_capacity(0);
                    self.stream.send_trailers(trailers)?;
                    Poll::Ready(Ok(true))
                }
                Err(_) => Poll::Ready(Ok(false)), // nothing else is known
            },
        }
    }
}

impl<B: Body<Data = Bytes, Error = BodyError> + Unpin> Future for Pipe<B> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        loop {
            match this.poll_send(cx) {
                Poll::Ready(Ok(false)) => {}
                Poll::Ready(Ok(true)) => return Poll::Ready(()),
                Poll::Ready(Err(error)) => {
                    tracing::debug!(%error, "a body was not sent to its end");
                    return Poll::Ready(());
                }
                // To be woken when the peer wants no more.
                Poll::Pending => return this.stream.poll_reset(cx).map(|_| ()),
            }
        }
    }
}

/// What the peer is told where a body broke off: the reason of the other side, if it is such a stream.
fn reason(error: &BodyError) -> Reason {
    let mut next: Option<&(dyn Error + 'static)> = Some(&**error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return error.reason().unwrap_or(Reason::INTERNAL_ERROR);
        }
        next = error.source();
    }
    Reason::INTERNAL_ERROR
}
