//! HTTP/1.1 connections to one endpoint, of which each carries one request at a time and is kept for the next one.

use std::error::Error;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use http::{Request, Response};
use http_body::Body as _;
use hyper::client::conn::http1;

use super::Bounds;
use crate::body::{Payload, Received};
use crate::clock;
use crate::connect::{self, Upstream};
use crate::direct::{self, Direct};
use crate::endpoint::Slot;

/// Idle connections kept per endpoint.
const IDLE_PER_ENDPOINT: usize = 1024;

/// Idle connections to one endpoint, the one used last first.
#[derive(Default)]
pub struct Http1Pool {
    idle: Mutex<Vec<Idle>>,
    /// Connections that are open, idle or in use, or about to be opened.
    open: AtomicUsize,
    /// Somebody closes what has been idle for too long.
    is_swept: AtomicBool,
}

struct Idle {
    sender: Sender,
    since: Instant,
    held: HeldConnection,
}

/// Who sends over a connection.
enum Sender {
    /// Whoever has a request.
    Direct(Direct),
    /// A task of hyper's, from the first request with a body on.
    Hyper(http1::SendRequest<Payload>),
    /// Nobody any more.
    Gone,
}

/// What a connection counts as while it is open.
struct HeldConnection {
    place: Place,
    slot: Option<Slot>,
    /// The end of the certificates: no new request goes this way after it.
    until: Option<Instant>,
    /// Requests so far.
    taken: u32,
    /// Requests in all, as the latest of them found it in the configuration.
    most: u32,
    /// How long it may be idle, as the latest found that.
    idle: Duration,
}

impl HeldConnection {
    fn is_late(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

/// One of the connections that may be open.
pub struct Place(Arc<Http1Pool>);

impl Place {
    /// Wraps a new connection; one to a proxy of ours has a time to end at. `slot` is held while it is open.
    pub fn lend(self, stream: Upstream, bounds: Bounds, slot: Option<Slot>, until: Option<Instant>) -> Checkout {
        let held = HeldConnection { place: self, slot, until, taken: 1, most: bounds.requests, idle: bounds.idle };
        let fields = if until.is_some() { direct::OF_A_PROXY } else { direct::OF_AN_APPLICATION };
        Checkout { sender: Sender::Direct(Direct::new(stream, fields)), is_reused: false, held }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection for one exchange.
pub struct Checkout {
    sender: Sender,
    /// It carried an exchange before, or stands in for one that did, so that the server may be closing it just now.
    is_reused: bool,
    held: HeldConnection,
}

/// No response came.
pub struct Unanswered {
    /// Why.
    pub error: Box<dyn Error + Send + Sync>,
    /// The request is where it was, and may be sent again whatever it asks for.
    pub is_unsent: bool,
}

impl Sender {
    fn is_ready(&self) -> bool {
        match self {
            Self::Direct(direct) => direct.is_ready(),
            Self::Hyper(sender) => sender.is_ready(),
            Self::Gone => false,
        }
    }

    fn is_closed(&self) -> bool {
        match self {
            Self::Direct(direct) => direct.is_closed(),
            Self::Hyper(sender) => sender.is_closed(),
            Self::Gone => true,
        }
    }
}

impl Checkout {
    /// It stands in for a kept connection that just broke under the same request. A process that is killed closes its
    /// connections before the socket on which it listens (Linux closes what a process has open in the reverse order), so
    /// that a connection made between the two is reset as well, and nobody ever accepted it.
    pub fn stand_in(&mut self) {
        self.is_reused = true;
    }

    /// Sends the request, and awaits the head of its response. It is taken out of its place where it has a body.
    ///
    /// # Errors
    /// The connection broke, or what came is no response.
    pub async fn send(&mut self, request: &mut Request<Payload>) -> Result<Response<Received>, Unanswered> {
        match &self.sender {
            Sender::Direct(direct) if request.body().is_end_stream() => {
                let exchanged = direct.exchange(request).await;
                exchanged.map(|response| response.map(Received::Direct)).map_err(|error| {
                    let is_unsent = error.is_unsent || (self.is_reused && error.is_silent && may_repeat(request));
                    Unanswered { error: error.into(), is_unsent }
                })
            }
            _ => Box::pin(self.send_by_hyper(request)).await,
        }
    }

    async fn send_by_hyper(&mut self, request: &mut Request<Payload>) -> Result<Response<Received>, Unanswered> {
        let lost = |error: Box<dyn Error + Send + Sync>| Unanswered { error, is_unsent: true };
        let mut sender = match std::mem::replace(&mut self.sender, Sender::Gone) {
            Sender::Hyper(sender) => sender,
            Sender::Direct(direct) => {
                let stream = direct.into_stream().ok_or_else(|| lost("the connection is in use".into()))?;
                connect::http1(stream).await.map_err(|error| lost(error.into()))?
            }
            Sender::Gone => return Err(lost("the connection is gone".into())),
        };
        let spare = if self.is_reused { spare(request) } else { None };
        let sent = std::mem::replace(request, Request::new(Payload::Empty));
        match sender.try_send_request(sent).await {
            Ok(response) => {
                self.sender = Sender::Hyper(sender);
                Ok(response.map(Received::from))
            }
            Err(mut error) => {
                let unsent = error.take_message().or(spare);
                let is_unsent = unsent.is_some();
                if let Some(unsent) = unsent {
                    *request = unsent;
                }
                Err(Unanswered { error: error.into_error().into(), is_unsent })
            }
        }
    }

    pub(super) fn give_back(self) {
        if self.sender.is_closed() || self.held.taken >= self.held.most {
            return;
        }
        let pool = Arc::clone(&self.held.place.0);
        let told = self.held.slot.as_ref().map(Slot::of);
        let mut idle = pool.idle();
        if idle.len() < IDLE_PER_ENDPOINT {
            idle.push(Idle { sender: self.sender, since: clock::now(), held: self.held });
            if !pool.is_swept.swap(true, Ordering::Relaxed) {
                tokio::spawn(sweep(Arc::downgrade(&pool)));
            }
        }
        drop(idle);
        if let Some(told) = told {
            told.freed();
        }
    }
}

impl Http1Pool {
    /// An idle connection that is ready; None: one must be opened.
    pub fn checkout(self: &Arc<Self>, bounds: Bounds) -> Option<Checkout> {
        let now = clock::now();
        let mut idle = self.idle();
        // The oldest are in front: drop what has been idle for too long.
        let stale = idle.iter().take_while(|i| now.duration_since(i.since) > bounds.idle).count();
        idle.drain(..stale);
        // The configuration may allow fewer requests than when they became idle.
        idle.retain(|i| !i.sender.is_closed() && !i.held.is_late(now) && i.held.taken < bounds.requests);
        let ready = idle.iter().rposition(|i| i.sender.is_ready())?;
        let Idle { sender, mut held, .. } = idle.remove(ready);
        held.taken = held.taken.saturating_add(1);
        (held.most, held.idle) = (bounds.requests, bounds.idle);
        Some(Checkout { sender, is_reused: true, held })
    }

    /// Whether no connection is open.
    pub fn is_empty(&self) -> bool {
        self.open.load(Ordering::Relaxed) == 0
    }

    /// Closes what is idle.
    pub fn drop_idle(&self) {
        let idle = std::mem::take(&mut *self.idle());
        drop(idle);
    }

    /// A place for one more connection.
    pub fn place(self: &Arc<Self>) -> Place {
        self.open.fetch_add(1, Ordering::Relaxed);
        Place(Arc::clone(self))
    }

    /// The same where fewer than `most` are taken.
    pub fn place_below(self: &Arc<Self>, most: usize) -> Option<Place> {
        let one_more = |open| (open < most).then_some(open + 1);
        let taken = self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.is_ok().then(|| Place(Arc::clone(self)))
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops what has been idle for too long. How long the next one may still be; None: nothing is idle.
    fn drop_stale(&self) -> Option<Duration> {
        let now = clock::now();
        let left = |i: &Idle| i.held.idle.saturating_sub(now.duration_since(i.since));
        let mut idle = self.idle();
        let (stale, kept) = std::mem::take(&mut *idle).into_iter().partition(|i| left(i).is_zero());
        *idle = kept;
        let next = idle.iter().map(left).min();
        if next.is_none() {
            self.is_swept.store(false, Ordering::Relaxed);
        }
        drop(idle);
        drop::<Vec<Idle>>(stale);
        next
    }
}

/// Closes connections that nobody uses any more, until none is idle: nobody else would hear that the server closed them.
async fn sweep(pool: Weak<Http1Pool>) {
    while let Some(next) = pool.upgrade().and_then(|pool| pool.drop_stale()) {
        tokio::time::sleep(next.max(Duration::from_millis(100))).await;
    }
}

/// A method that may be repeated (RFC 9110 section 9.2.2), and nothing in its body. A kept connection that ends before the
/// first byte of the answer calls for another try then: most likely the server closed it while the request was on its way.
fn may_repeat(request: &Request<Payload>) -> bool {
    request.method().is_idempotent() && request.body().is_end_stream()
}

/// A copy of `request` for one more try, where one is allowed.
fn spare(request: &Request<Payload>) -> Option<Request<Payload>> {
    may_repeat(request).then(|| {
        let mut copy = Request::new(Payload::Empty);
        *copy.method_mut() = request.method().clone();
        *copy.uri_mut() = request.uri().clone();
        *copy.version_mut() = request.version();
        *copy.headers_mut() = request.headers().clone();
        copy
    })
}

#[cfg(test)]
mod tests;
