//! The reading side of an HTTP/1 server connection: only bytes that [`causeway_mesh::http1::Guard`] lets pass reach
//! hyper. Judging is the guard's; answering a refusal is `server`'s.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use causeway_mesh::http1::{Guard, Limits, Step};
use causeway_mesh::reject::Reject;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Sleep;

use crate::bulk::poll_read_buf;
use crate::through::write_through;

/// How long the rest of a head may take once its first byte has come.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(15);

const PIECE: usize = 8 * 1024;

const BETWEEN: u8 = 0;
const IN_HEAD: u8 = 1;
const IN_BODY: u8 = 2;

/// Handed to hyper in place of a refused head, so that the answer takes its turn behind the answers before it. No request
/// that the guard passes can be taken for it: the handler also asks [`Verdict::refused`], which ends all reading.
const STAND_IN: &[u8] = b"CAUSEWAY-REFUSED / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";

/// Method of the stand-in.
pub const STAND_IN_METHOD: &str = "CAUSEWAY-REFUSED";

/// What the connection's task and its handlers know of the guard.
#[derive(Default)]
pub struct Verdict {
    refused: OnceLock<(Reject, String)>,
    tunnel: AtomicBool,
    state: AtomicU8,
}

impl Verdict {
    /// What was refused, if anything was: the cause and the rule.
    pub fn refused(&self) -> Option<&(Reject, String)> {
        self.refused.get()
    }

    /// From here on bytes are no HTTP: call before answering 101, or 2xx to CONNECT.
    pub fn tunnel(&self) {
        self.tunnel.store(true, Ordering::Release);
    }

    /// Whether part of a head is held back now.
    pub fn is_in_head(&self) -> bool {
        self.state.load(Ordering::Relaxed) == IN_HEAD
    }

    fn refuse(&self, reject: Reject, rule: String) {
        let _ = self.refused.set((reject, rule));
    }
}

/// A stream whose reads are guarded.
pub struct Guarded<S> {
    inner: S,
    guard: Guard,
    /// Received and not passed on.
    held: BytesMut,
    /// How many first bytes of `held` may be passed on.
    passable: usize,
    verdict: Arc<Verdict>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S> Guarded<S> {
    /// Guards `inner`, of which `first` has been read already.
    pub fn new(inner: S, first: BytesMut) -> Self {
        Self {
            inner,
            guard: Guard::new(Limits::default()),
            held: first,
            passable: 0,
            verdict: Arc::default(),
            timer: None,
        }
    }

    /// Shared with whoever answers.
    pub fn verdict(&self) -> Arc<Verdict> {
        Arc::clone(&self.verdict)
    }

    /// Moves passable bytes to `out`, or judges more of what is held. False: more must be read.
    fn advance(&mut self, out: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        if self.passable == 0 && !self.held.is_empty() {
            match self.guard.step(&self.held) {
                Step::Pass(n) => self.passable = n,
                Step::NeedMore => {}
                Step::Refuse(violation) => return self.refuse(violation.reject(), violation.to_string()),
            }
        }
        if self.passable == 0 {
            return Poll::Ready(Ok(false));
        }
        let n = self.passable.min(out.remaining());
        out.put_slice(&self.held[..n]);
        self.held.advance(n);
        self.passable -= n;
        if self.held.is_empty() {
            self.held = BytesMut::new(); // an idle connection keeps no buffer
        }
        Poll::Ready(Ok(true))
    }

    /// Judges what was just read to where hyper wants it, behind its first `before` bytes: what passes stays there, what
    /// does not yet is held back. False: nothing passes.
    fn judge_in_place(&mut self, out: &mut ReadBuf<'_>, before: usize) -> Poll<io::Result<bool>> {
        let read = &out.filled()[before..];
        let passed = match self.guard.step(read) {
            Step::Pass(n) => n,
            Step::NeedMore => 0,
            Step::Refuse(violation) => {
                out.set_filled(before);
                return self.refuse(violation.reject(), violation.to_string());
            }
        };
        self.held.extend_from_slice(&read[passed..]);
        out.set_filled(before + passed);
        Poll::Ready(Ok(passed > 0))
    }

    /// In a body the read fails, so that the request upstream is reset; a refused head is replaced by the stand-in.
    fn refuse(&mut self, reject: Reject, rule: String) -> Poll<io::Result<bool>> {
        let in_body = self.verdict.state.load(Ordering::Relaxed) == IN_BODY && reject != Reject::RequestTimeout;
        self.verdict.refuse(reject, rule);
        self.held.clear();
        if in_body {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        self.held.extend_from_slice(STAND_IN);
        self.passable = STAND_IN.len();
        Poll::Ready(Ok(false))
    }

    fn note_state(&mut self, cx: &mut Context<'_>) -> bool {
        let state = if self.guard.is_in_head() {
            IN_HEAD
        } else if self.guard.is_between_messages() {
            BETWEEN
        } else {
            IN_BODY
        };
        self.verdict.state.store(state, Ordering::Relaxed);
        if state != IN_HEAD {
            self.timer = None;
            return false;
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(HEAD_TIMEOUT)));
        timer.as_mut().poll(cx).is_ready()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.verdict.tunnel.load(Ordering::Acquire) {
                if this.held.is_empty() {
                    return Pin::new(&mut this.inner).poll_read(cx, out);
                }
                // What came before the switch was sent by somebody who could not know that it would happen.
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "bytes before the switch")));
            }
            let refused = this.verdict.refused().is_some();
            if ready!(this.advance(out))? {
                if !refused {
                    this.note_state(cx);
                }
                return Poll::Ready(Ok(()));
            }
            if this.verdict.refused().is_some() {
                if refused {
                    return Poll::Pending; // nothing more is read; hyper closes after its answer
                }
                continue; // the stand-in
            }
            if this.note_state(cx) {
                let _ = this.refuse(Reject::RequestTimeout, "the head took too long".to_owned());
                continue;
            }
            if !this.held.is_empty() {
                this.held.reserve(PIECE);
                if ready!(poll_read_buf(&mut this.inner, cx, &mut this.held))? == 0 {
                    return Poll::Ready(Ok(())); // end of stream: hyper sees it
                }
                continue;
            }
            let before = out.filled().len();
            ready!(Pin::new(&mut this.inner).poll_read(cx, out))?;
            if out.filled().len() == before {
                return Poll::Ready(Ok(()));
            }
            if ready!(this.judge_in_place(out, before))? {
                this.note_state(cx);
                return Poll::Ready(Ok(()));
            }
        }
    }
}

write_through!(Guarded);

#[cfg(test)]
mod tests;
