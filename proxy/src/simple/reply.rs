//! A response on its way to an HTTP/1.1 client: how its body is cut (RFC 9112 section 6), and what is written next.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderMap, HeaderName, HeaderValue, TRAILER, TRANSFER_ENCODING};
use http::response::Parts;
use http::{Response, StatusCode};
use http_body::{Body as _, Frame};
use hyper::ext::ReasonPhrase;

use crate::body::Body;
use crate::date;
use crate::headers::names;
use crate::relay::Io;

/// Shorter pieces are copied behind each other, longer ones written from where they are, bytes.
const COPIED: usize = 4 * 1024;

/// Gathered before it is written, bytes.
const GATHERED: usize = 128 * 1024;

/// Pieces written with one call.
const PIECES: usize = 16;

/// How the end of the body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// There is none.
    None,
    /// By its length, of which so much is left.
    Counted(u64),
    /// By an empty chunk.
    Chunked,
}

/// A response that is being written.
pub struct Writing {
    body: Body,
    framing: Framing,
    /// Fields that the response announced as its trailers.
    trailers: Vec<HeaderName>,
    /// What is to be written before `tail`.
    pieces: Vec<Bytes>,
    /// Short pieces.
    tail: BytesMut,
    /// The client takes no more for now.
    is_blocked: bool,
    /// Nothing follows what is gathered.
    is_whole: bool,
    closes: bool,
}

impl Writing {
    /// A response of which nothing is written; `is_head`: to a request without interest in its body.
    pub fn new(response: Response<Body>, is_head: bool, closes: bool) -> Self {
        let (parts, body) = response.into_parts();
        let framing = framing(&parts, &body, is_head);
        let trailers = if framing == Framing::Chunked { announced(&parts.headers) } else { Vec::new() };
        let mut tail = BytesMut::with_capacity(room(&parts.headers, &body));
        let closes = write_head(&mut tail, &parts, framing, is_head, closes);
        let is_whole = framing == Framing::None;
        Self { body, framing, trailers, pieces: Vec::new(), tail, is_blocked: false, is_whole, closes }
    }

    /// Whether the connection ends with it.
    pub fn closes(&self) -> bool {
        self.closes
    }

    /// Whether something is gathered that could not be written.
    pub fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    /// Gathers what there is of the body, up to a limit; true: to its end.
    ///
    /// # Errors
    /// The body broke off, or is not as long as its head says.
    pub fn poll_gather(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        while !self.is_whole {
            if self.pieces.len() + 2 >= PIECES || self.gathered() >= GATHERED {
                return Poll::Ready(Ok(false));
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => self.take(frame)?,
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => self.end(None)?,
            }
            if !self.is_whole && self.body.is_end_stream() {
                self.end(None)?;
            }
        }
        Poll::Ready(Ok(true))
    }

    /// Writes all that is gathered.
    ///
    /// # Errors
    /// The stream's.
    pub fn poll_write<S: Io>(&mut self, stream: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_blocked = true;
        while !self.pieces.is_empty() || !self.tail.is_empty() {
            let wrote = if self.pieces.is_empty() {
                ready!(Pin::new(&mut *stream).poll_write(cx, &self.tail))?
            } else {
                let mut slices = [IoSlice::new(&[]); PIECES];
                let all = self.pieces.iter().map(|piece| &**piece).chain([&*self.tail]);
                let count = slices.iter_mut().zip(all).map(|(slice, piece)| *slice = IoSlice::new(piece)).count();
                ready!(Pin::new(&mut *stream).poll_write_vectored(cx, &slices[..count]))?
            };
            if wrote == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.wrote(wrote);
        }
        self.is_blocked = false;
        Poll::Ready(Ok(()))
    }

    fn wrote(&mut self, mut length: usize) {
        let mut done = 0;
        for piece in &mut self.pieces {
            let part = length.min(piece.len());
            piece.advance(part);
            length -= part;
            if !piece.is_empty() {
                break;
            }
            done += 1;
        }
        self.pieces.drain(..done);
        self.tail.advance(length);
        if self.pieces.is_empty() && self.tail.is_empty() {
            self.tail = BytesMut::new(); // who waits for the rest of a body keeps no room for its head
        }
    }

    fn gathered(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum::<usize>() + self.tail.len()
    }

    fn take(&mut self, frame: Frame<Bytes>) -> io::Result<()> {
        let frame = match frame.into_data() {
            Ok(data) => return self.data(data),
            Err(frame) => frame,
        };
        match frame.into_trailers() {
            Ok(fields) => self.end(Some(&fields)),
            Err(_) => Ok(()),
        }
    }

    fn data(&mut self, data: Bytes) -> io::Result<()> {
        if data.is_empty() {
            return Ok(()); // as a chunk it would be the end
        }
        match &mut self.framing {
            Framing::None => {}
            Framing::Counted(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(io::ErrorKind::InvalidData)?;
                self.push(data);
            }
            Framing::Chunked => {
                self.tail.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
                self.push(data);
                self.tail.extend_from_slice(b"\r\n");
            }
        }
        Ok(())
    }

    fn push(&mut self, data: Bytes) {
        if data.len() <= COPIED {
            self.tail.extend_from_slice(&data);
            return;
        }
        if !self.tail.is_empty() {
            self.pieces.push(self.tail.split().freeze());
        }
        self.pieces.push(data);
    }

    fn end(&mut self, trailers: Option<&HeaderMap>) -> io::Result<()> {
        self.is_whole = true;
        match self.framing {
            Framing::Counted(1..) => Err(io::ErrorKind::UnexpectedEof.into()),
            Framing::None | Framing::Counted(0) => Ok(()),
            Framing::Chunked => {
                self.tail.extend_from_slice(b"0\r\n");
                for (name, value) in trailers.into_iter().flatten().filter(|(name, _)| self.trailers.contains(name)) {
                    write_field(&mut self.tail, name, value);
                }
                self.tail.extend_from_slice(b"\r\n");
                Ok(())
            }
        }
    }
}

/// What a head and a short body take, roughly: with it nothing is moved to a larger place.
fn room(headers: &HeaderMap, body: &Body) -> usize {
    let head: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    let body = body.size_hint().exact().and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
    head + 128 + if body <= COPIED { body } else { 0 }
}

fn framing(parts: &Parts, body: &Body, is_head: bool) -> Framing {
    if is_head || !can_have_body(parts.status) {
        return Framing::None;
    }
    if body.is_end_stream() {
        return Framing::Counted(0);
    }
    let told = || parts.headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
    match body.size_hint().exact().or_else(told) {
        Some(length) => Framing::Counted(length),
        None => Framing::Chunked,
    }
}

fn can_have_body(status: StatusCode) -> bool {
    !(status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED))
}

fn announced(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(TRAILER).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok()).collect()
}

/// True: the connection ends with it, as `closes` or the response itself says.
fn write_head(out: &mut BytesMut, parts: &Parts, framing: Framing, is_head: bool, mut closes: bool) -> bool {
    if parts.status == StatusCode::OK {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    } else {
        let canonical = parts.status.canonical_reason().unwrap_or("<none>").as_bytes();
        let reason = parts.extensions.get::<ReasonPhrase>().map_or(canonical, ReasonPhrase::as_bytes);
        for part in [b"HTTP/1.1 ", parts.status.as_str().as_bytes(), b" ", reason, b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    // To HEAD it says what GET would be answered with (RFC 9110 section 9.3.2).
    let keeps_length = is_head && can_have_body(parts.status);
    let mut has_date = false;
    for (name, value) in &parts.headers {
        match *name {
            CONNECTION => closes |= names(value, "close"),
            TRANSFER_ENCODING => {}
            CONTENT_LENGTH if !keeps_length => {}
            _ => {
                has_date |= *name == DATE;
                write_field(out, name, value);
            }
        }
    }
    match framing {
        Framing::None => {}
        Framing::Counted(length) => {
            out.extend_from_slice(b"content-length: ");
            write_decimal(out, length);
            out.extend_from_slice(b"\r\n");
        }
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    if closes {
        out.extend_from_slice(b"connection: close\r\n");
    }
    if !has_date {
        out.extend_from_slice(b"date: ");
        out.extend_from_slice(date::today().as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    closes
}

fn write_field(out: &mut BytesMut, name: &HeaderName, value: &HeaderValue) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn write_decimal(out: &mut BytesMut, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}
