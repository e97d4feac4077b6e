//! The body of a response, read from its connection when it is asked for (RFC 9112 sections 6 and 7).

use std::future::Future as _;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use httparse::Status;
use tokio::io::AsyncReadExt as _;

use super::head::fields;
use super::{HEAD, Inner, OF_AN_APPLICATION, State, lock, used};
use crate::body::BodyError;
use crate::connect::Upstream;
use crate::relay::Io;
use crate::scratch::PIECE;

/// Read with one call where more than [`PIECE`] is to come, bytes.
const LONG: usize = 64 * 1024;

/// The line of a chunk's size with what else it says, bytes.
const SIZE_LINE: usize = 4 * 1024;

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none, or no more of it.
    Done,
    /// By its length, of which so much is to come.
    Counted(u64),
    /// By an empty chunk.
    Chunked(Chunk),
    /// By the end of the connection.
    Closed,
}

/// What is to come next of a body in chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunk {
    Size,
    Data(u64),
    DataEnd,
    Trailers,
}

impl Framing {
    /// Nothing of it has been read.
    pub fn chunked() -> Self {
        Self::Chunked(Chunk::Size)
    }
}

/// The body of one response.
pub struct Reading<S = Upstream> {
    connection: Option<Arc<Mutex<Inner<S>>>>,
    framing: Framing,
    /// The connection goes on behind it.
    keeps: bool,
}

impl<S: Io> Reading<S> {
    /// What follows a head.
    pub(super) fn new(connection: &Arc<Mutex<Inner<S>>>, framing: Framing, keeps: bool) -> Self {
        let mut reading = Self { connection: None, framing, keeps };
        if framing == Framing::Done {
            reading.end(&mut lock(connection));
        } else {
            reading.connection = Some(Arc::clone(connection));
        }
        reading
    }

    /// Polls for the next frame.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(connection) = self.connection.take() else { return Poll::Ready(None) };
        let frame = self.poll_next(&mut lock(&connection), cx);
        match frame {
            Poll::Ready(Err(error)) => {
                lock(&connection).state = State::Over;
                self.framing = Framing::Closed;
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(Ok(frame)) => {
                if self.framing != Framing::Done {
                    self.connection = Some(connection);
                }
                Poll::Ready(frame.map(Ok))
            }
            Poll::Pending => {
                self.connection = Some(connection);
                Poll::Pending
            }
        }
    }

    /// Whether nothing follows.
    pub fn is_end_stream(&self) -> bool {
        self.framing == Framing::Done
    }

    /// What is known of the length of what follows.
    pub fn size_hint(&self) -> SizeHint {
        match self.framing {
            Framing::Done => SizeHint::with_exact(0),
            Framing::Counted(left) => SizeHint::with_exact(left),
            Framing::Chunked(_) | Framing::Closed => SizeHint::default(),
        }
    }

    fn poll_next(&mut self, inner: &mut Inner<S>, cx: &mut Context<'_>) -> Poll<io::Result<Option<Frame<Bytes>>>> {
        loop {
            match self.framing {
                Framing::Done => return Poll::Ready(Ok(None)),
                Framing::Counted(left) => {
                    let data = ready!(inner.poll_data(cx, left))?;
                    self.framing = Framing::Counted(left - data.len() as u64);
                    if data.len() as u64 == left {
                        self.end(inner);
                    }
                    return Poll::Ready(Ok(Some(Frame::data(data))));
                }
                Framing::Closed => {
                    if inner.held.is_empty() && ready!(inner.poll_read(cx, Bytes::copy_from_slice))? == 0 {
                        self.end(inner);
                        continue;
                    }
                    return Poll::Ready(Ok(Some(Frame::data(std::mem::take(&mut inner.held)))));
                }
                Framing::Chunked(Chunk::Data(left)) => {
                    let data = ready!(inner.poll_data(cx, left))?;
                    let left = left - data.len() as u64;
                    self.framing = Framing::Chunked(if left == 0 { Chunk::DataEnd } else { Chunk::Data(left) });
                    if left == 0 && *inner.held == *b"\r\n0\r\n\r\n" {
                        inner.held = Bytes::new();
                        self.end(inner); // known now, it need not be told apart
                    }
                    return Poll::Ready(Ok(Some(Frame::data(data))));
                }
                Framing::Chunked(chunk) => {
                    if let Some(trailers) = ready!(self.poll_between(chunk, inner, cx))? {
                        return Poll::Ready(Ok(Some(trailers)));
                    }
                }
            }
        }
    }

    /// Reads what stands between the data of chunks, one step.
    fn poll_between(
        &mut self,
        chunk: Chunk,
        inner: &mut Inner<S>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Frame<Bytes>>>> {
        let next = match chunk {
            Chunk::Size => match httparse::parse_chunk_size(&inner.held) {
                Ok(Status::Complete((length, 0))) => Some(Status::Complete((length, Chunk::Trailers))),
                Ok(Status::Complete((length, size))) => Some(Status::Complete((length, Chunk::Data(size)))),
                Ok(Status::Partial) => Some(Status::Partial),
                Err(_) => None,
            },
            Chunk::DataEnd => match &*inner.held {
                [b'\r', b'\n', ..] => Some(Status::Complete((2, Chunk::Size))),
                [] | [b'\r'] => Some(Status::Partial),
                _ => None,
            },
            Chunk::Data(_) => None,
            Chunk::Trailers => return self.poll_trailers(inner, cx),
        };
        match next {
            Some(Status::Complete((length, next))) => {
                used(&mut inner.held, length);
                self.framing = Framing::Chunked(next);
                Poll::Ready(Ok(None))
            }
            Some(Status::Partial) => inner.poll_more(cx, SIZE_LINE).map_ok(|()| None),
            None => Poll::Ready(Err(io::Error::other("a chunk of the body is not well formed"))),
        }
    }

    fn poll_trailers(&mut self, inner: &mut Inner<S>, cx: &mut Context<'_>) -> Poll<io::Result<Option<Frame<Bytes>>>> {
        let bytes = inner.held.clone();
        let mut read = [httparse::EMPTY_HEADER; OF_AN_APPLICATION]; // no proxy adds to them
        match httparse::parse_headers(&bytes, &mut read) {
            Ok(Status::Complete((length, read))) => {
                used(&mut inner.held, length);
                let trailers = fields(&bytes, read).map_err(io::Error::other)?;
                self.end(inner);
                Poll::Ready(Ok((!trailers.is_empty()).then(|| Frame::trailers(trailers))))
            }
            Ok(Status::Partial) => inner.poll_more(cx, HEAD).map_ok(|()| None),
            Err(_) => Poll::Ready(Err(io::Error::other("the trailers of the body are not well formed"))),
        }
    }

    /// Nothing of it is to come.
    fn end(&mut self, inner: &mut Inner<S>) {
        self.framing = Framing::Done;
        // What nobody asked for is no answer to the next request.
        inner.state = if self.keeps && inner.held.is_empty() { State::Idle } else { State::Over };
    }
}

impl<S: Io> Inner<S> {
    /// Some data, at most `left`.
    fn poll_data(&mut self, cx: &mut Context<'_>, left: u64) -> Poll<io::Result<Bytes>> {
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        if self.held.is_empty() {
            if left > PIECE {
                let mut room = BytesMut::with_capacity(left.min(LONG));
                if ready!(pin!(self.stream.read_buf(&mut room)).poll(cx))? == 0 {
                    return Poll::Ready(Err(broken_off()));
                }
                // What is much shorter than its room is not to hold all of it.
                self.held = if room.len() < PIECE { Bytes::copy_from_slice(&room) } else { room.freeze() };
                return Poll::Ready(Ok(self.held.split_to(left.min(self.held.len()))));
            }
            if ready!(self.poll_read(cx, Bytes::copy_from_slice))? == 0 {
                return Poll::Ready(Err(broken_off()));
            }
        }
        let length = left.min(self.held.len());
        Poll::Ready(Ok(self.held.split_to(length)))
    }

    /// Reads more of what is `most` bytes at most.
    fn poll_more(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<io::Result<()>> {
        if self.held.len() > most {
            return Poll::Ready(Err(io::Error::other("a line of the body's frame is too long")));
        }
        let read = ready!(self.poll_read(cx, Bytes::copy_from_slice))?;
        Poll::Ready(if read == 0 { Err(broken_off()) } else { Ok(()) })
    }
}

fn broken_off() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended before the body")
}
