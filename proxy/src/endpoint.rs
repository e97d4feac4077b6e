//! Endpoints as the data plane sees them: load, connections, record and metric handles of each, kept across configuration
//! changes while address and identity stay. Which of them takes a request is said in `backend`.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use causeway_mesh::balance::outlier::{Ending, Record, Standing};
use causeway_mesh::balance::{self, Load};
use causeway_mesh::config::Endpoint;

use crate::clock;
use crate::metrics::Series;
use crate::pool::{Http1Pool, Http2Pool};

mod backend;
mod breaker;
mod pickable;

pub use backend::BackendState;
pub use breaker::{Entered, Retrying, Slot, Use, Waiting};

/// How fast a measured latency is forgotten.
const TAU: Duration = Duration::from_secs(10);

/// What a failed connection attempt counts as; decays like any measurement.
const FAILURE: Duration = Duration::from_secs(5);

/// What one try at an endpoint came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The head of an answer came after this time; of gRPC's trailers-only answers the status is
    /// [`balance::outlier::status_of_grpc`].
    Answered {
        /// HTTP status.
        status: u16,
        /// From the request to the head.
        after: Duration,
    },
    /// A connection for bytes came about.
    Connected,
    /// No connection, or the endpoint's proxy had none to its application.
    ConnectFailed,
    /// The connection broke before an answer.
    Reset,
    /// No answer in time.
    TimedOut,
}

impl Outcome {
    fn ending(self) -> Ending {
        match self {
            Self::Answered { status, .. } => Ending::Answered(status),
            Self::Connected => Ending::Answered(200),
            Self::ConnectFailed | Self::Reset | Self::TimedOut => Ending::Failed,
        }
    }
}

/// One endpoint of one backend.
pub struct EndpointState {
    /// As configured.
    pub endpoint: Endpoint,
    /// Shared HTTP/2 connections.
    pub http2: Http2Pool,
    /// HTTP/1.1 connections: to an endpoint of the mesh beside the shared ones, see [`Self::is_quiet`].
    pub http1: Arc<Http1Pool>,
    /// Metric handles.
    pub series: OnceLock<Arc<Series>>,
    /// Its application has answered once.
    has_answered: AtomicBool,
    pending: AtomicU32,
    /// See [`balance::company`].
    company: AtomicU32,
    /// f64 bits, microseconds.
    latency: AtomicU64,
    /// Microseconds since `born`.
    measured: AtomicU64,
    born: Instant,
    /// The record is not clean: a good answer, too, must be noted.
    is_marked: AtomicBool,
    record: Mutex<Record>,
}

impl EndpointState {
    fn new(endpoint: Endpoint) -> Arc<Self> {
        Arc::new(Self {
            endpoint,
            http2: Http2Pool::default(),
            http1: Arc::default(),
            series: OnceLock::new(),
            has_answered: AtomicBool::new(false),
            pending: AtomicU32::new(0),
            company: AtomicU32::new(0),
            latency: AtomicU64::new(0f64.to_bits()),
            measured: AtomicU64::new(0),
            born: clock::now(),
            is_marked: AtomicBool::new(false),
            record: Mutex::default(),
        })
    }

    /// A state for an address that no configuration names (pass-through).
    pub fn bare(address: SocketAddr) -> Arc<Self> {
        Self::new(Endpoint {
            address: address.ip(),
            port: address.port(),
            identity: None,
            workload_name: String::new(),
            pod: String::new(),
            namespace: String::new(),
            zone: String::new(),
            region: String::new(),
            for_zones: Vec::new(),
        })
    }

    /// Whether its application has answered once.
    pub fn has_answered(&self) -> bool {
        self.has_answered.load(Ordering::Relaxed)
    }

    /// Where to connect.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.endpoint.address, self.endpoint.port)
    }

    /// Requests sent and not yet answered.
    pub fn pending(&self) -> u32 {
        self.pending.load(Ordering::Relaxed)
    }

    /// Whether requests come one at a time, more or less, so that one may have a connection to itself.
    pub fn is_quiet(&self) -> bool {
        balance::is_quiet(self.company.load(Ordering::Relaxed))
    }

    /// Moving average of the time to the response's head, microseconds; 0: never measured.
    pub fn latency_micros(&self) -> f64 {
        let age = self.micros().saturating_sub(self.measured.load(Ordering::Relaxed));
        let latency = f64::from_bits(self.latency.load(Ordering::Relaxed));
        // A measurement loses its weight with age, so that a slow endpoint is tried again.
        latency * (-(age as f64) / TAU.as_micros() as f64).exp()
    }

    fn load(&self) -> Load {
        Load { latency_micros: self.latency_micros(), pending: self.pending() }
    }

    fn micros(&self) -> u64 {
        u64::try_from(clock::now().duration_since(self.born).as_micros()).unwrap_or(u64::MAX)
    }

    /// Where it stands; see [`causeway_mesh::balance::outlier`].
    pub fn standing(&self) -> Standing {
        self.record().standing
    }

    fn record(&self) -> std::sync::MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what it did wrong.
    fn forgive(&self) {
        *self.record() = Record::default();
        self.is_marked.store(false, Ordering::Relaxed);
    }

    /// Notes how long the endpoint took to answer. Two racing notes lose one measurement, which is harmless.
    pub fn observe(&self, sample: Duration) {
        let now = self.micros();
        let elapsed = now.saturating_sub(self.measured.swap(now, Ordering::Relaxed));
        let previous = f64::from_bits(self.latency.load(Ordering::Relaxed));
        let latency = balance::peak_ewma(previous, sample.as_secs_f64() * 1e6, elapsed as f64, TAU.as_micros() as f64);
        self.latency.store(latency.to_bits(), Ordering::Relaxed);
    }

    /// Notes that the endpoint could not be reached, so that others are preferred for a while.
    pub fn failed(&self) {
        self.observe(FAILURE);
    }

    /// Counts a request in flight until the guard is dropped. Of two racing ones one may be missing in the average of them,
    /// which is harmless.
    pub fn begin(self: &Arc<Self>) -> Pending {
        let pending = self.pending.fetch_add(1, Ordering::Relaxed);
        let company = balance::company(self.company.load(Ordering::Relaxed), pending);
        self.company.store(company, Ordering::Relaxed);
        Pending(Arc::clone(self))
    }
}

/// A request in flight to an endpoint.
pub struct Pending(Arc<EndpointState>);

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
