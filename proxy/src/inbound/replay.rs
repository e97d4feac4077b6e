//! Remembers what a TLS acceptor has read of a ClientHello, so that a connection which is not for the mesh can be
//! carried on as the bytes that it is.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, ReadBuf};

use crate::through::write_through;

/// A stream that keeps a copy of what is read until [`Replay::stop`].
pub struct Replay<S> {
    inner: S,
    copy: Option<BytesMut>,
}

impl<S> Replay<S> {
    /// Begins to remember.
    pub fn new(inner: S) -> Self {
        Self { inner, copy: Some(BytesMut::new()) }
    }

    /// The bytes are for the acceptor: forgets them and remembers no more.
    pub fn stop(&mut self) {
        self.copy = None;
    }

    /// What was read, and the stream behind it.
    pub fn into_parts(self) -> (BytesMut, S) {
        (self.copy.unwrap_or_default(), self.inner)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Replay<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        let before = out.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, out))?;
        if let Some(copy) = &mut this.copy {
            copy.extend_from_slice(&out.filled()[before..]);
        }
        Poll::Ready(Ok(()))
    }
}

write_through!(Replay);
