//! A request's body of which the beginning is kept while it is sent, so that it can be sent once more to another
//! endpoint; whether it may be is decided by the caller.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use super::BodyError;
use super::copied::Source;

/// A longer body is sent once only and never copied, bytes.
pub const MOST: usize = 64 * 1024;

/// One reading of the body. A later reading takes the place of the former ones: those break off where they are.
pub struct Kept {
    shared: Arc<Mutex<Shared>>,
    reading: u32,
    /// Of `Shared::frames`, those that this reading has given out.
    given: usize,
}

/// From which another reading is made.
pub struct Original(Arc<Mutex<Shared>>);

struct Shared {
    body: Source,
    frames: Vec<Piece>,
    length: usize,
    /// False once the body was longer than is kept, or nobody will ask for it again.
    is_keeping: bool,
    reading: u32,
    hint: SizeHint,
}

/// The body is being sent once more elsewhere.
#[derive(Debug, thiserror::Error)]
#[error("the request is sent once more elsewhere")]
pub struct Superseded;

#[derive(Clone)]
enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

/// Begins to keep `body`.
pub fn keep(body: Source) -> (Kept, Original) {
    let hint = body.size_hint();
    let is_keeping = hint.lower() <= MOST as u64;
    let shared = Shared { body, frames: Vec::new(), length: 0, is_keeping, reading: 0, hint };
    let shared = Arc::new(Mutex::new(shared));
    (Kept { shared: Arc::clone(&shared), reading: 0, given: 0 }, Original(shared))
}

impl Original {
    /// The body from its beginning, if all that was read of it is still there.
    pub fn again(&self) -> Option<Kept> {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shared.is_keeping.then(|| {
            shared.reading += 1;
            Kept { shared: Arc::clone(&self.0), reading: shared.reading, given: 0 }
        })
    }
}

impl Drop for Original {
    fn drop(&mut self) {
        // Nobody will ask again: what follows passes through, and what was given out is let go with the next frame.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_keeping = false;
    }
}

impl Kept {
    /// Polls for the next frame.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &mut *shared;
        if shared.reading != self.reading {
            // An end in good order would have the application believe that it has the whole body.
            return Poll::Ready(Some(Err(Superseded.into())));
        }
        if let Some(piece) = shared.frames.get(self.given) {
            self.given += 1;
            return Poll::Ready(Some(Ok(piece.clone().frame())));
        }
        if !shared.is_keeping && !shared.frames.is_empty() {
            shared.frames = Vec::new();
            self.given = 0;
        }
        let frame = match ready!(shared.body.poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            other => return Poll::Ready(other),
        };
        if shared.is_keeping {
            let piece = Piece::of(&frame);
            shared.length += piece.as_ref().map_or(0, Piece::length);
            match piece {
                Some(piece) if shared.length <= MOST => {
                    shared.frames.push(piece);
                    self.given += 1;
                }
                _ => shared.is_keeping = false,
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    /// Whether nothing follows.
    pub fn is_end_stream(&self) -> bool {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.reading == self.reading && (self.given >= shared.frames.len() && shared.body.is_end_stream())
    }

    /// What is known of the length of what follows.
    pub fn size_hint(&self) -> SizeHint {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        match (self.given, shared.is_keeping) {
            (0, true) => shared.hint,
            (given, _) if given >= shared.frames.len() => shared.body.size_hint(),
            _ => SizeHint::default(),
        }
    }
}

impl Piece {
    fn of(frame: &Frame<Bytes>) -> Option<Self> {
        match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => Some(Self::Data(data.clone())),
            (_, Some(trailers)) => Some(Self::Trailers(trailers.clone())),
            _ => None,
        }
    }

    fn length(&self) -> usize {
        match self {
            Self::Data(data) => data.len(),
            Self::Trailers(fields) => fields.iter().map(|(n, v)| n.as_str().len() + v.len()).sum(),
        }
    }

    fn frame(self) -> Frame<Bytes> {
        match self {
            Self::Data(data) => Frame::data(data),
            Self::Trailers(trailers) => Frame::trailers(trailers),
        }
    }
}
