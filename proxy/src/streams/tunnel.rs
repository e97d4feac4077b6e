//! The bytes of a CONNECT over HTTP/2 (RFC 9113 section 8.5, RFC 8441): a stream's data, both ways.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

/// A stream that has become a connection.
pub struct Tunnel {
    receive: RecvStream,
    send: SendStream<Bytes>,
    /// Received, not read yet.
    held: Bytes,
}

/// Where a request's tunnel is to be had, once its response has opened it.
#[derive(Clone)]
pub struct Turn(Arc<Mutex<Option<oneshot::Receiver<Tunnel>>>>);

impl Turn {
    /// And who is told of it.
    pub(super) fn new() -> (Self, oneshot::Sender<Tunnel>) {
        let (tells, told) = oneshot::channel();
        (Self(Arc::new(Mutex::new(Some(told)))), tells)
    }

    /// Waits for it; None: the response opened none, or somebody else has it.
    pub async fn tunnel(self) -> Option<Tunnel> {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        told?.await.ok()
    }
}

impl Tunnel {
    pub(super) fn new(receive: RecvStream, send: SendStream<Bytes>) -> Self {
        Self { receive, send, held: Bytes::new() }
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.held.is_empty() {
            match ready!(this.receive.poll_data(cx)) {
                Some(Ok(data)) => {
                    // Refused only where more is released than came.
                    let _ = this.receive.flow_control().release_capacity(data.len());
                    this.held = data;
                }
                // Who has reset the stream in good order sends nothing more either.
                Some(Err(error)) if matches!(error.reason(), Some(Reason::NO_ERROR | Reason::CANCEL)) => {
                    return Poll::Ready(Ok(()));
                }
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = this.held.len().min(out.remaining());
        out.put_slice(&this.held[..length]);
        this.held.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let this = self.get_mut();
        this.send.reserve_capacity(data.len());
        while this.send.capacity() == 0 {
            match ready!(this.send.poll_capacity(cx)) {
                Some(room) => room.map_err(io::Error::other)?,
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            };
        }
        let length = this.send.capacity().min(data.len());
        this.send.send_data(Bytes::copy_from_slice(&data[..length]), false).map_err(io::Error::other)?;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // the connection's task writes
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Where the stream is reset there is nobody to tell.
        let _ = self.get_mut().send.send_data(Bytes::new(), true);
        Poll::Ready(Ok(()))
    }
}
