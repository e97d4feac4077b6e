//! Writes of a multiplexed connection, gathered until its task has nothing more to say for now. HTTP/2 flushes behind each
//! DATA frame, and TLS makes a record and a system call of each flush: ten answers that are ready together would be ten of
//! both.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Gathered at most, bytes: what fits into one TLS record.
const MOST: usize = 16 * 1024;

/// Longer pieces are written from where they are, bytes.
const COPIED: usize = 4 * 1024;

/// Room that is kept for what comes next, bytes: some requests.
const KEPT: usize = 1024;

/// A stream whose writes are gathered. What is gathered is only written by [`Gathering`], by more that comes, and by its
/// end: a flush does nothing.
pub struct Gathered<S>(Arc<Mutex<Inner<S>>>);

struct Inner<S> {
    stream: S,
    held: BytesMut,
    /// The stream itself may hold something back until it is flushed, as TLS does.
    is_flushed: bool,
    /// Why nothing more can be written.
    broken: Option<io::ErrorKind>,
}

/// Runs the task of a connection, and writes what it has gathered whenever it waits.
pub struct Gathering<S, F> {
    connection: Pin<Box<F>>,
    stream: Arc<Mutex<Inner<S>>>,
}

/// Makes the stream for a connection, and what its task is to be wrapped in.
pub fn gather<S, F>(stream: S) -> (Gathered<S>, impl FnOnce(F) -> Gathering<S, F>) {
    let inner = Arc::new(Mutex::new(Inner { stream, held: BytesMut::new(), is_flushed: true, broken: None }));
    let stream = Arc::clone(&inner);
    (Gathered(inner), move |connection| Gathering { connection: Box::pin(connection), stream })
}

impl<S: AsyncWrite + Unpin, F: Future> Future for Gathering<S, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        let polled = this.connection.as_mut().poll(cx);
        if polled.is_ready() {
            // Its last words; who ends a connection in good order has shut it down, and with that flushed it.
            let _ = lock(&this.stream).poll_write_held(cx);
            return polled;
        }
        match lock(&this.stream).poll_write_held(cx) {
            Poll::Ready(Err(_)) => {}
            Poll::Ready(Ok(())) | Poll::Pending => return Poll::Pending,
        }
        // It hears of the error with its next read.
        this.connection.as_mut().poll(cx)
    }
}

fn lock<S>(inner: &Mutex<Inner<S>>) -> MutexGuard<'_, Inner<S>> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: AsyncWrite + Unpin> Inner<S> {
    fn poll_write_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        while !self.held.is_empty() {
            self.is_flushed = false;
            let wrote = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.held));
            match self.note(wrote)? {
                0 => return Poll::Ready(self.note(Err(io::ErrorKind::WriteZero.into()))),
                wrote => self.held.advance(wrote),
            }
        }
        if self.is_flushed {
            return Poll::Ready(Ok(()));
        }
        if self.held.capacity() > KEPT {
            self.held = BytesMut::new(); // an idle connection keeps no long buffer
        }
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(cx));
        self.is_flushed = flushed.is_ok();
        Poll::Ready(self.note(flushed))
    }

    fn poll_take(&mut self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.check()?;
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        let is_long = pieces.iter().any(|piece| piece.len() > COPIED);
        if is_long || self.held.len() + length > MOST {
            ready!(self.poll_write_held(cx))?;
        }
        if is_long {
            self.is_flushed = false;
            let wrote = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, pieces));
            return Poll::Ready(self.note(wrote));
        }
        self.held.reserve(length);
        pieces.iter().for_each(|piece| self.held.extend_from_slice(piece));
        Poll::Ready(Ok(length))
    }

    fn check(&self) -> io::Result<()> {
        self.broken.map_or(Ok(()), |kind| Err(kind.into()))
    }

    fn note<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            self.broken = Some(error.kind());
        }
        result
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut inner = lock(&self.0);
        if let Some(kind) = inner.broken {
            return Poll::Ready(Err(kind.into()));
        }
        Pin::new(&mut inner.stream).poll_read(cx, out)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        lock(&self.0).poll_take(cx, &[IoSlice::new(data)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        lock(&self.0).poll_take(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        lock(&self.0).stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(lock(&self.0).check())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = lock(&self.0);
        ready!(inner.poll_write_held(cx))?;
        Pin::new(&mut inner.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
