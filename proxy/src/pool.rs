//! Connections to upstreams that are kept: shared HTTP/2 connections, and idle HTTP/1.1 connections.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use causeway_mesh::config::backend::Limits;
use http::Request;
use hyper::client::conn::{http1, http2};

use crate::body::Payload;
use crate::clock;
use crate::endpoint::{Slot, Use};

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
pub struct InFlight {
    count: Arc<AtomicUsize>,
    /// Who may be waiting for room.
    told: Option<Arc<Use>>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        if let Some(told) = &self.told {
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
    /// Held while one connects, so that a burst opens one connection and not one each.
    pub connecting: tokio::sync::Mutex<()>,
}

struct Shared {
    sender: http2::SendRequest<Payload>,
    in_flight: Arc<AtomicUsize>,
    /// Requests so far.
    taken: AtomicU32,
    _slot: Option<Slot>,
    told: Option<Arc<Use>>,
    /// The end of the peer's certificate: no new request goes this way after it.
    until: Option<Instant>,
}

/// A way to send one request on a shared connection.
pub struct Stream {
    /// Sends.
    pub sender: http2::SendRequest<Payload>,
    /// Counts.
    pub in_flight: InFlight,
}

impl Http2Pool {
    /// A stream on a connection that has room; None: a connection must be opened.
    pub fn stream(&self, bounds: Bounds) -> Option<Stream> {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let is_spent = |c: &Shared| c.taken.load(Ordering::Relaxed) >= bounds.requests;
        let is_late = |c: &Shared| c.until.is_some_and(|until| until <= clock::now());
        let is_over = |c: &Shared| c.sender.is_closed() || is_late(c) || is_spent(c);
        if connections.iter().any(is_over) {
            // What is in flight on them ends well; each closes with its last request.
            connections.retain(|c| !is_over(c));
        }
        let shared = connections.iter().find(|c| c.in_flight.load(Ordering::Relaxed) < bounds.streams)?;
        Some(shared.stream())
    }

    /// Whether no connection is open.
    pub fn is_empty(&self) -> bool {
        let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.iter().all(|c| c.sender.is_closed())
    }

    /// Adds a new connection, to be used for `life`, and takes its first stream. `slot` is held while the connection is
    /// known, and `told` hears of every stream that ends.
    pub fn add(
        &self,
        sender: http2::SendRequest<Payload>,
        life: Option<Duration>,
        slot: Option<Slot>,
        told: Option<Arc<Use>>,
    ) -> Stream {
        let until = life.and_then(|life| clock::now().checked_add(life));
        let shared = Shared { sender, in_flight: Arc::default(), taken: AtomicU32::new(0), _slot: slot, told, until };
        let stream = shared.stream();
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).push(shared);
        stream
    }
}

impl Shared {
    fn stream(&self) -> Stream {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.taken.fetch_add(1, Ordering::Relaxed);
        let in_flight = InFlight { count: Arc::clone(&self.in_flight), told: self.told.clone() };
        Stream { sender: self.sender.clone(), in_flight }
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
