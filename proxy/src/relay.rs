//! Bytes both ways between two streams, half-close included, counted on the way.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::bulk::{AHEAD, poll_read_buf};
use crate::connect::Upstream;
use crate::metrics::Series;
use crate::through::write_through;

/// Room for the first bytes after a silence, bytes.
const SMALL: usize = 8 * 1024;

/// A read of this many bytes shows that more is there: TLS gives no more than a record at a time.
const RECORD: usize = 16 * 1024;

/// What any tunnel is made of.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Io for T {}

/// Bytes that went through, readable while they go.
#[derive(Clone, Default)]
pub struct Count(Arc<(AtomicU64, AtomicU64)>);

impl Count {
    /// `(to the caller, from the caller)` since the last call.
    pub fn take(&self) -> (u64, u64) {
        (self.0.0.swap(0, Ordering::Relaxed), self.0.1.swap(0, Ordering::Relaxed))
    }
}

/// How often the bytes of a connection that lives on are reported.
const REPORT: Duration = Duration::from_secs(5);

/// As [`run`], reporting to `series` now and then and at the end; ends where nothing moves for `idle`. Returns the bytes
/// sent to the caller in all.
pub async fn run_reported<A: Io, B: Io>(
    caller: A,
    upstream: B,
    series: Option<&Series>,
    idle: Option<Duration>,
) -> (u64, io::Result<()>) {
    let count = Count::default();
    // Whoever cuts the connection drops this future: what was counted until then is reported all the same.
    let mut report = Report { count: &count, series, sent: 0 };
    let mut copied = std::pin::pin!(run(caller, upstream, &count));
    let begun = tokio::time::Instant::now();
    // A quarter of the idle time more than it is close enough.
    let period = idle.map_or(REPORT, |idle| (idle / 4).clamp(Duration::from_millis(1), REPORT));
    let mut tick = tokio::time::interval_at(begun + period, period);
    let mut moved = begun;
    let result = loop {
        tokio::select! {
            result = &mut copied => break result,
            now = tick.tick() => {
                if report.now() {
                    moved = now;
                } else if idle.is_some_and(|idle| now.duration_since(moved) >= idle) {
                    break Ok(());
                }
            }
        }
    };
    report.now();
    (report.sent, result)
}

struct Report<'r> {
    count: &'r Count,
    series: Option<&'r Series>,
    sent: u64,
}

impl Report<'_> {
    /// Whether anything moved since the last report.
    fn now(&mut self) -> bool {
        let (sent, received) = self.count.take();
        self.sent += sent;
        if let Some(series) = self.series {
            series.tcp_bytes(sent, received);
        }
        sent + received > 0
    }
}

impl Drop for Report<'_> {
    fn drop(&mut self) {
        self.now();
    }
}

/// Copies until both directions have ended. `caller`'s bytes are counted.
///
/// # Errors
/// Either side's; the other is then closed by being dropped.
pub async fn run<A: Io, B: Io>(mut caller: A, mut upstream: B, count: &Count) -> io::Result<()> {
    let (mut up, mut down) = (Way::default(), Way::default());
    std::future::poll_fn(|cx| {
        let up = up.poll(cx, &mut caller, &mut upstream, &count.0.1, true)?;
        let down = down.poll(cx, &mut upstream, &mut caller, &count.0.0, false)?;
        if up.is_ready() && down.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

/// One direction. Its buffer grows with the flow and is given back when nothing flows.
#[derive(Default)]
struct Way {
    buffer: BytesMut,
    is_flowing: bool,
    is_unflushed: bool,
    state: State,
    /// Why nothing more comes, told once what came before is written.
    broken: Option<io::Error>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// Nothing more comes; the other side is being told.
    Ending,
    Ended,
}

impl Way {
    /// Moves what can be moved; ready at the end. Bytes are added to `count` when they are read, or when written.
    fn poll<A: Io, B: Io>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut A,
        to: &mut B,
        count: &AtomicU64,
        when_read: bool,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.state == State::Open && self.buffer.is_empty() {
                if let Some(error) = self.broken.take() {
                    return Poll::Ready(Err(error));
                }
                match self.fill(cx, from) {
                    Poll::Ready(Ok(0)) => self.state = State::Ending,
                    Poll::Ready(Ok(n)) => {
                        if when_read {
                            count.fetch_add(n as u64, Ordering::Relaxed);
                        }
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {
                        ready!(self.flush(cx, to))?;
                        return Poll::Pending;
                    }
                }
            }
            while !self.buffer.is_empty() {
                let Poll::Ready(written) = Pin::new(&mut *to).poll_write(cx, &self.buffer)? else {
                    ready!(self.flush(cx, to))?;
                    return Poll::Pending;
                };
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.buffer.advance(written);
                self.is_unflushed = true;
                if !when_read {
                    count.fetch_add(written as u64, Ordering::Relaxed);
                }
            }
            match self.state {
                State::Open => {}
                State::Ending => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.state = State::Ended;
                }
                State::Ended => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Reads what is there; while bytes flow more than a record, so that several are written with one call.
    fn fill<A: Io>(&mut self, cx: &mut Context<'_>, from: &mut A) -> Poll<io::Result<usize>> {
        let filled = ready!(self.read(cx, from))?;
        let was_flowing = self.is_flowing;
        while self.is_flowing && self.buffer.len() + RECORD <= AHEAD {
            match self.read(cx, from) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Err(error)) => {
                    self.broken = Some(error);
                    break;
                }
                // An end is told again.
                Poll::Ready(Ok(0)) | Poll::Pending => break,
            }
        }
        self.is_flowing = was_flowing;
        Poll::Ready(Ok(if filled == 0 { 0 } else { self.buffer.len() }))
    }

    fn read<A: Io>(&mut self, cx: &mut Context<'_>, from: &mut A) -> Poll<io::Result<usize>> {
        self.buffer.reserve(if self.is_flowing { AHEAD - self.buffer.len() } else { SMALL });
        let room = self.buffer.capacity() - self.buffer.len();
        let read = poll_read_buf(from, cx, &mut self.buffer);
        self.is_flowing = matches!(read, Poll::Ready(Ok(n)) if n >= room.min(RECORD));
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        read
    }

    /// Sends what the stream holds back, once nothing follows at once.
    fn flush<B: Io>(&mut self, cx: &mut Context<'_>, to: &mut B) -> Poll<io::Result<()>> {
        if self.is_unflushed {
            ready!(Pin::new(to).poll_flush(cx))?;
            self.is_unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

/// A stream of which the first bytes have been read already.
pub struct Prefixed<S> {
    first: BytesMut,
    inner: S,
}

impl<S> Prefixed<S> {
    /// `first`, then the rest of `inner`.
    pub fn new(first: BytesMut, inner: S) -> Self {
        Self { first, inner }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.first.is_empty() {
            return Pin::new(&mut this.inner).poll_read(cx, out);
        }
        let n = this.first.len().min(out.remaining());
        out.put_slice(&this.first[..n]);
        this.first.advance(n);
        if this.first.is_empty() {
            this.first = BytesMut::new(); // give the memory back: the connection may live for days
        }
        Poll::Ready(Ok(()))
    }
}

write_through!(Prefixed);

impl AsyncRead for Upstream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, out),
            Self::Tls(stream) => match ready!(Pin::new(stream).poll_read(cx, out)) {
                // A peer that ends without close_notify: a truncation, which an application must see as an error.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
                }
                other => Poll::Ready(other),
            },
        }
    }
}

impl AsyncWrite for Upstream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, data),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, data),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, data),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, data),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}

/// Ends `stream` with a reset, which tells a TCP caller that this was no orderly end.
pub fn reset(stream: &TcpStream) {
    let _ = socket2::SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO));
}

#[cfg(test)]
mod tests;
