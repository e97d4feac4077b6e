//! Connections to upstreams that are kept: shared HTTP/2 connections, and idle HTTP/1.1 connections.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use causeway_mesh::config::backend::Limits;
use causeway_mesh::reject::Reject;
use http::Request;
use hyper::client::conn::http1;

use crate::body::Payload;
use crate::clock;
use crate::endpoint::{Slot, Use};
use crate::link::Link;
use crate::reply::Refusal;

/// Streams on one HTTP/2 connection before another one is opened. Below what our inbound side allows.
pub const STREAMS_PER_CONNECTION: usize = 250;

/// Idle HTTP/1.1 connections kept per endpoint.
const IDLE_PER_ENDPOINT: usize = 1024;

/// Idle HTTP/1.1 connections are dropped after this, before common servers do (Node: 5 s).
const IDLE_FOR: Duration = Duration::from_secs(4);

/// Given back when an exchange ends.
pub enum Lease {
    /// A stream of a shared connection.
    Http2(#[allow(dead_code)] InFlight),
    /// A whole connection.
    Http1(Checkout),
}

impl Lease {
    /// The exchange ended well: what was lent may be used again.
    pub fn reuse(self) {
        if let Self::Http1(checkout) = self {
            checkout.give_back();
        }
    }
}

/// One stream in flight on a shared connection.
pub struct InFlight(Arc<Counted>);

/// A shared connection and what is under way on it.
struct Counted {
    link: Link,
    in_flight: AtomicUsize,
    /// Requests so far.
    taken: AtomicU32,
    /// Who may be waiting for room.
    told: Option<Arc<Use>>,
}

impl InFlight {
    /// The connection.
    pub fn link(&self) -> &Link {
        &self.0.link
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
        if let Some(told) = &self.0.told {
            told.freed();
        }
    }
}

/// What a backend says of each connection.
#[derive(Clone, Copy)]
pub struct Bounds {
    /// Requests in flight on one connection.
    streams: usize,
    /// Requests on one connection in all.
    requests: u32,
    /// Idle HTTP/1.1 connections are dropped after this.
    idle: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self::new(&Limits::default(), None)
    }
}

impl Bounds {
    /// Those of a backend.
    pub fn new(limits: &Limits, idle: Option<Duration>) -> Self {
        let streams = limits.streams_per_connection.and_then(|n| usize::try_from(n).ok());
        Self {
            streams: streams.map_or(STREAMS_PER_CONNECTION, |n| n.min(STREAMS_PER_CONNECTION)),
            requests: limits.requests_per_connection.unwrap_or(u32::MAX),
            idle: idle.unwrap_or(IDLE_FOR),
        }
    }
}

/// Shared HTTP/2 connections to one endpoint.
#[derive(Default)]
pub struct Http2Pool {
    connections: Mutex<Vec<Shared>>,
    /// Held while one connects, so that a burst opens one connection and not one each. When the last attempt failed, and of
    /// what, where it did.
    connecting: tokio::sync::Mutex<Option<(Instant, Refusal)>>,
}

struct Shared {
    counted: Arc<Counted>,
    _slot: Option<Slot>,
    /// The end of the peer's certificate: no new request goes this way after it.
    until: Option<Instant>,
}

impl Http2Pool {
    /// A stream on a connection that has room; None: a connection must be opened.
    pub fn stream(&self, bounds: Bounds) -> Option<InFlight> {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let is_spent = |c: &Shared| c.counted.taken.load(Ordering::Relaxed) >= bounds.requests;
        let is_late = |c: &Shared| c.until.is_some_and(|until| until <= clock::now());
        let is_over = |c: &Shared| c.counted.link.is_over() || is_late(c) || is_spent(c);
        if connections.iter().any(is_over) {
            // What is in flight on them ends well; each closes with its last request.
            connections.retain(|c| !is_over(c));
        }
        let most = |c: &Shared| c.counted.link.most().min(bounds.streams);
        let has_room = |c: &&Shared| c.counted.in_flight.load(Ordering::Relaxed) < most(c);
        connections.iter().find(has_room).map(Shared::stream)
    }

    /// A stream of a connection that `open` makes, one at a time: who waits meanwhile takes a stream of the same connection,
    /// or fails as the attempt has failed, instead of trying for as long once more behind all others.
    ///
    /// # Errors
    /// What `open` says.
    pub async fn opened<F>(&self, bounds: Bounds, open: impl FnOnce() -> F) -> Result<InFlight, Refusal>
    where
        F: Future<Output = Result<InFlight, Refusal>>,
    {
        let since = clock::now();
        let mut failed = self.connecting.lock().await;
        if let Some(stream) = self.stream(bounds) {
            return Ok(stream);
        }
        // A full circuit is a matter of how long each one may wait for it.
        if let Some((at, refusal)) = &*failed
            && *at >= since
            && refusal.reject != Reject::CircuitOpen
        {
            return Err(refusal.clone());
        }
        let opened = open().await;
        *failed = opened.as_ref().err().map(|refusal| (clock::now(), refusal.clone()));
        opened
    }

    /// Whether no connection is open.
    pub fn is_empty(&self) -> bool {
        let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.iter().all(|c| c.counted.link.is_over())
    }

    /// Adds a new connection, to be used for `life`, and takes its first stream. `slot` is held while the connection is
    /// known, and `told` hears of every stream that ends.
    pub fn add(&self, link: Link, life: Option<Duration>, slot: Option<Slot>, told: Option<Arc<Use>>) -> InFlight {
        let until = life.and_then(|life| clock::now().checked_add(life));
        let counted = Counted { link, in_flight: AtomicUsize::new(0), taken: AtomicU32::new(0), told };
        let shared = Shared { counted: Arc::new(counted), _slot: slot, until };
        let stream = shared.stream();
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).push(shared);
        stream
    }
}

impl Shared {
    fn stream(&self) -> InFlight {
        self.counted.in_flight.fetch_add(1, Ordering::Relaxed);
        self.counted.taken.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(&self.counted))
    }
}

/// Idle HTTP/1.1 connections to one endpoint, the one used last first.
#[derive(Default)]
pub struct Http1Pool {
    idle: Mutex<Vec<Idle>>,
    /// Connections that are open, idle or in use.
    open: AtomicUsize,
}

struct Idle {
    sender: http1::SendRequest<Payload>,
    since: Instant,
    held: HeldConnection,
}

/// What a connection counts as while it is open.
struct HeldConnection {
    pool: Arc<Http1Pool>,
    slot: Option<Slot>,
    /// Requests so far.
    taken: u32,
    /// Requests in all, as the latest of them found it in the configuration.
    most: u32,
}

impl Drop for HeldConnection {
    fn drop(&mut self) {
        self.pool.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection for one exchange.
pub struct Checkout {
    /// Sends.
    pub sender: http1::SendRequest<Payload>,
    /// It carried an exchange before, so that the server may be closing it just now.
    pub is_reused: bool,
    held: HeldConnection,
}

impl Checkout {
    fn give_back(self) {
        if self.sender.is_closed() || self.held.taken >= self.held.most {
            return;
        }
        let pool = Arc::clone(&self.held.pool);
        let told = self.held.slot.as_ref().map(Slot::of);
        let mut idle = pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_PER_ENDPOINT {
            idle.push(Idle { sender: self.sender, since: clock::now(), held: self.held });
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
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // The oldest are in front: drop what has been idle for too long.
        let stale = idle.iter().take_while(|i| now.duration_since(i.since) > bounds.idle).count();
        idle.drain(..stale);
        // The configuration may allow fewer requests than when they became idle.
        idle.retain(|i| !i.sender.is_closed() && i.held.taken < bounds.requests);
        let ready = idle.iter().rposition(|i| i.sender.is_ready())?;
        let Idle { sender, mut held, .. } = idle.remove(ready);
        held.taken = held.taken.saturating_add(1);
        held.most = bounds.requests;
        Some(Checkout { sender, is_reused: true, held })
    }

    /// Whether no connection is open.
    pub fn is_empty(&self) -> bool {
        self.open.load(Ordering::Relaxed) == 0
    }

    /// Closes what is idle.
    pub fn drop_idle(&self) {
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        drop(idle);
    }

    /// Wraps a new connection.
    pub fn lend(self: &Arc<Self>, sender: http1::SendRequest<Payload>, bounds: Bounds, slot: Option<Slot>) -> Checkout {
        self.open.fetch_add(1, Ordering::Relaxed);
        let held = HeldConnection { pool: Arc::clone(self), slot, taken: 1, most: bounds.requests };
        Checkout { sender, is_reused: false, held }
    }
}

/// A copy of `request` for one more try, where one is allowed: nothing in its body, and a method that may be repeated
/// (RFC 9110 section 9.2.2). A kept connection that ends before the first byte of the answer calls for it: most likely
/// the server closed it while the request was on its way.
pub fn spare(request: &Request<Payload>) -> Option<Request<Payload>> {
    let is_empty = http_body::Body::is_end_stream(request.body());
    let repeatable = request.method().is_idempotent() && is_empty;
    repeatable.then(|| {
        let mut copy = Request::new(Payload::Empty);
        *copy.method_mut() = request.method().clone();
        *copy.uri_mut() = request.uri().clone();
        *copy.version_mut() = request.version();
        *copy.headers_mut() = request.headers().clone();
        copy
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use hyper_util::rt::TokioIo;

    use super::*;

    #[tokio::test]
    async fn a_limit_of_requests_that_comes_later_holds_for_connections_that_are_kept() {
        let pool = Arc::new(Http1Pool::default());
        let unlimited = Bounds::default();
        let two = Bounds { requests: 2, ..unlimited };
        let mut others = Vec::new();
        for _ in 0..2 {
            let (ours, theirs) = tokio::io::duplex(1024);
            others.push(theirs);
            let (mut sender, driver) = http1::handshake(TokioIo::new(ours)).await.unwrap();
            tokio::spawn(driver);
            sender.ready().await.unwrap();
            pool.lend(sender, unlimited, None).give_back();
        }
        pool.checkout(unlimited).unwrap().give_back();
        // One had a request, which leaves it another; the other had two.
        pool.checkout(two).unwrap().give_back();
        assert!(pool.checkout(two).is_none() && pool.is_empty());
    }
}
