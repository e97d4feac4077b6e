//! Connections to upstreams that are kept: shared HTTP/2 connections, and idle HTTP/1.1 connections.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::Request;
use hyper::client::conn::{http1, http2};

use crate::body::Payload;
use crate::clock;

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
pub struct InFlight(Arc<AtomicUsize>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
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
    pub fn stream(&self) -> Option<Stream> {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |c: &Shared| c.sender.is_closed() || c.until.is_some_and(|until| until <= clock::now());
        if connections.iter().any(is_over) {
            // What is in flight on them ends well; each closes with its last request.
            connections.retain(|c| !is_over(c));
        }
        let shared = connections.iter().find(|c| c.in_flight.load(Ordering::Relaxed) < STREAMS_PER_CONNECTION)?;
        Some(shared.stream())
    }

    /// Adds a new connection, to be used for `life`, and takes its first stream.
    pub fn add(&self, sender: http2::SendRequest<Payload>, life: Option<Duration>) -> Stream {
        let until = life.and_then(|life| clock::now().checked_add(life));
        let shared = Shared { sender, in_flight: Arc::default(), until };
        let stream = shared.stream();
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).push(shared);
        stream
    }
}

impl Shared {
    fn stream(&self) -> Stream {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Stream { sender: self.sender.clone(), in_flight: InFlight(Arc::clone(&self.in_flight)) }
    }
}

/// Idle HTTP/1.1 connections to one endpoint, the one used last first.
#[derive(Default)]
pub struct Http1Pool {
    idle: Mutex<Vec<(http1::SendRequest<Payload>, Instant)>>,
}

/// A connection for one exchange.
pub struct Checkout {
    /// Sends.
    pub sender: http1::SendRequest<Payload>,
    /// It carried an exchange before, so that the server may be closing it just now.
    pub is_reused: bool,
    pool: Arc<Http1Pool>,
}

impl Checkout {
    fn give_back(self) {
        if self.sender.is_closed() {
            return;
        }
        let mut idle = self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_PER_ENDPOINT {
            idle.push((self.sender, clock::now()));
        }
    }
}

impl Http1Pool {
    /// An idle connection that is ready; None: one must be opened.
    pub fn checkout(self: &Arc<Self>) -> Option<Checkout> {
        let now = clock::now();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // The oldest are in front: drop what has been idle for too long.
        let stale = idle.iter().take_while(|(_, since)| now.duration_since(*since) > IDLE_FOR).count();
        idle.drain(..stale);
        idle.retain(|(sender, _)| !sender.is_closed());
        let ready = idle.iter().rposition(|(sender, _)| sender.is_ready())?;
        let (sender, _) = idle.remove(ready);
        Some(Checkout { sender, is_reused: true, pool: Arc::clone(self) })
    }

    /// Wraps a new connection.
    pub fn lend(self: &Arc<Self>, sender: http1::SendRequest<Payload>) -> Checkout {
        Checkout { sender, is_reused: false, pool: Arc::clone(self) }
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
