//! Reads of a connection in the sizes that its flow calls for. rustls asks for 4 KiB at a time, which would be five system
//! calls for each full record: while bytes flow more is read ahead, into a buffer that is gone when they cease.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};

use crate::through::write_through;

/// Read ahead at most, bytes.
pub const AHEAD: usize = 192 * 1024;

/// A read that filled this much room and left none shows that more is there, bytes.
const LEAST: usize = 2 * 1024;

/// A stream that reads ahead while bytes flow. Writes pass through.
pub struct Bulk<S> {
    inner: S,
    ahead: BytesMut,
    /// The last read took all that there was room for.
    is_flowing: bool,
}

impl<S> Bulk<S> {
    /// Nothing is read ahead before something flows.
    pub fn new(inner: S) -> Self {
        Self { inner, ahead: BytesMut::new(), is_flowing: false }
    }

    /// The stream itself.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }
}

impl<S: AsyncRead + Unpin> Bulk<S> {
    fn read_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ahead.reserve(AHEAD);
        let room = self.ahead.capacity();
        let read = poll_read_buf(&mut self.inner, cx, &mut self.ahead);
        self.is_flowing = matches!(read, Poll::Ready(Ok(n)) if n == room);
        if self.ahead.is_empty() {
            self.ahead = BytesMut::new();
        }
        Poll::Ready(ready!(read).map(drop))
    }
}

/// One read into the spare capacity of `buffer`, which is not cleared before; 0: the end.
///
/// # Errors
/// The stream's.
pub fn poll_read_buf<S: AsyncRead + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    buffer: &mut BytesMut,
) -> Poll<io::Result<usize>> {
    use std::future::Future as _;
    use tokio::io::AsyncReadExt as _;
    // Nothing is lost when this future is dropped while pending.
    std::pin::pin!(stream.read_buf(buffer)).poll(cx)
}

impl<S: AsyncRead + Unpin> AsyncRead for Bulk<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let room = out.remaining();
        if this.ahead.is_empty() {
            if !this.is_flowing || room >= AHEAD {
                let before = out.filled().len();
                ready!(Pin::new(&mut this.inner).poll_read(cx, out))?;
                this.is_flowing = room >= LEAST && out.filled().len() - before == room;
                return Poll::Ready(Ok(()));
            }
            ready!(this.read_ahead(cx))?;
        }
        let length = room.min(this.ahead.len());
        out.put_slice(&this.ahead[..length]);
        this.ahead.advance(length);
        if this.ahead.is_empty() && !this.is_flowing {
            this.ahead = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

write_through!(Bulk);

#[cfg(test)]
mod tests;
