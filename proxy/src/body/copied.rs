//! A request's body on its way, of which a copy is taken for mirrors as it passes; the copy never holds up the original,
//! and a long body is not copied at all.

use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use tokio::sync::oneshot;

use super::kept::MOST;
use super::{BodyError, Received};

/// A body as it comes in.
pub struct Source {
    body: Received,
    copy: Option<Box<Copying>>,
}

/// What has passed so far; given away whole at the end, or dropped.
struct Copying {
    pieces: Vec<Bytes>,
    length: usize,
    whole: oneshot::Sender<Bytes>,
}

impl From<Received> for Source {
    fn from(body: Received) -> Self {
        Self { body, copy: None }
    }
}

impl Source {
    /// A body of which a copy is taken. The receiver gets all of its data once the last of it has passed, and an error
    /// where it is too long or breaks off. Trailers are not copied.
    pub fn copied(body: Received) -> (Self, oneshot::Receiver<Bytes>) {
        let (whole, copy) = oneshot::channel();
        let is_short = body.size_hint().lower() <= MOST as u64;
        let copying = is_short.then(|| Box::new(Copying { pieces: Vec::new(), length: 0, whole }));
        (Self { body, copy: copying }, copy)
    }

    /// Polls for the next frame.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(self.body.poll_frame(cx));
        if self.copy.is_some() {
            self.pass(frame.as_ref());
        }
        Poll::Ready(frame)
    }

    fn pass(&mut self, frame: Option<&Result<Frame<Bytes>, BodyError>>) {
        let Some(mut copy) = self.copy.take() else { return };
        match frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    copy.length += data.len();
                    copy.pieces.push(data.clone());
                }
                if copy.length > MOST {
                    return; // too long: nothing is copied
                }
                if self.body.is_end_stream() {
                    copy.finish();
                } else {
                    self.copy = Some(copy);
                }
            }
            None => copy.finish(),
            Some(Err(_)) => {} // broken off
        }
    }

    /// Whether nothing follows.
    pub fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    /// What is known of the length of what follows.
    pub fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Copying {
    fn finish(self) {
        let whole = match <[Bytes; 1]>::try_from(self.pieces) {
            Ok([one]) => one,
            Err(pieces) => {
                let mut whole = BytesMut::with_capacity(self.length);
                pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
                whole.freeze()
            }
        };
        let _ = self.whole.send(whole); // nobody waits any more: nothing lost
    }
}
