//! Connections to upstreams that are kept: shared HTTP/2 connections, and idle HTTP/1.1 connections.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use causeway_mesh::config::backend::Limits;
use causeway_mesh::reject::Reject;

use crate::clock;
use crate::endpoint::{Slot, Use};
use crate::link::Link;
use crate::reply::Refusal;

mod http1;

pub use http1::{Checkout, Http1Pool, Place};

/// Streams on one HTTP/2 connection before another one is opened. Below what our inbound side allows.
pub const STREAMS_PER_CONNECTION: usize = 250;

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

    /// Adds a new connection, to be used until then, and takes its first stream. `slot` is held while the connection
    /// is known, and `told` hears of every stream that ends.
    pub fn add(&self, link: Link, until: Option<Instant>, slot: Option<Slot>, told: Option<Arc<Use>>) -> InFlight {
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
