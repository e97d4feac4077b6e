//! Backends with their endpoints as the data plane sees them: load, connections and metric handles of each endpoint,
//! kept across configuration changes while address and identity stay.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use causeway_mesh::balance::{self, Load};
use causeway_mesh::config::{Backend, Endpoint};

use crate::clock;
use crate::metrics::Series;
use crate::pool::{Http1Pool, Http2Pool};

/// How fast a measured latency is forgotten.
const TAU: Duration = Duration::from_secs(10);

/// What a failed connection attempt counts as; decays like any measurement.
const FAILURE: Duration = Duration::from_secs(5);

/// How long the last endpoints are still used when all of them are gone within this time.
const LAST_RESORT: Duration = Duration::from_secs(10);

/// Endpoints that are remembered for a last resort.
const MAX_GONE: usize = 64;

/// One endpoint of one backend.
pub struct EndpointState {
    /// As configured.
    pub endpoint: Endpoint,
    /// Shared HTTP/2 connections.
    pub http2: Http2Pool,
    /// Idle HTTP/1.1 connections, only where the endpoint is outside the mesh.
    pub http1: Arc<Http1Pool>,
    /// Metric handles.
    pub series: OnceLock<Arc<Series>>,
    pending: AtomicU32,
    /// f64 bits, microseconds.
    latency: AtomicU64,
    /// Microseconds since `born`.
    measured: AtomicU64,
    born: Instant,
}

impl EndpointState {
    fn new(endpoint: Endpoint) -> Arc<Self> {
        Arc::new(Self {
            endpoint,
            http2: Http2Pool::default(),
            http1: Arc::default(),
            series: OnceLock::new(),
            pending: AtomicU32::new(0),
            latency: AtomicU64::new(0f64.to_bits()),
            measured: AtomicU64::new(0),
            born: clock::now(),
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
        })
    }

    /// Where to connect.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.endpoint.address, self.endpoint.port)
    }

    fn load(&self) -> Load {
        let age = self.micros().saturating_sub(self.measured.load(Ordering::Relaxed));
        let latency = f64::from_bits(self.latency.load(Ordering::Relaxed));
        // A measurement loses its weight with age, so that a slow endpoint is tried again.
        let latency = latency * (-(age as f64) / TAU.as_micros() as f64).exp();
        Load { latency_micros: latency, pending: self.pending.load(Ordering::Relaxed) }
    }

    fn micros(&self) -> u64 {
        u64::try_from(clock::now().duration_since(self.born).as_micros()).unwrap_or(u64::MAX)
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

    /// Counts a request in flight until the guard is dropped.
    pub fn begin(self: &Arc<Self>) -> Pending {
        self.pending.fetch_add(1, Ordering::Relaxed);
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

/// One backend with its endpoints now.
pub struct BackendState {
    /// As configured.
    pub backend: Arc<Backend>,
    endpoints: RwLock<Held>,
    /// What `endpoints` was made from, to see cheaply that nothing changed.
    source: Mutex<Option<Arc<[Endpoint]>>>,
}

/// Endpoints in use.
struct Held {
    list: Arc<[Arc<EndpointState>]>,
    /// They are a last resort until then: the configuration names none any more.
    until: Option<Instant>,
    /// Meshed ones that the configuration named until lately, and when it ceased to.
    gone: Vec<(Arc<EndpointState>, Instant)>,
}

impl Held {
    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| until <= clock::now())
    }

    /// The meshed endpoints that have gone lately, once `new` are those in use, the latest first.
    fn gone_after(&self, new: &[Arc<EndpointState>]) -> Vec<(Arc<EndpointState>, Instant)> {
        let now = clock::now();
        let stays: HashSet<&Endpoint> = new.iter().map(|e| &e.endpoint).collect();
        // Those of a last resort went before.
        let listed = self.list.iter().filter(|_| self.until.is_none()).map(|e| (Arc::clone(e), now));
        let before = self.gone.iter().filter(|(_, at)| now.duration_since(*at) < LAST_RESORT).cloned();
        let is_meshed = |e: &EndpointState| e.endpoint.identity.is_some();
        listed.chain(before).filter(|(e, _)| is_meshed(e) && !stays.contains(&e.endpoint)).take(MAX_GONE).collect()
    }
}

impl BackendState {
    /// A backend without endpoints yet.
    pub fn new(backend: Arc<Backend>) -> Self {
        let none = Held { list: Arc::new([]), until: None, gone: Vec::new() };
        Self { backend, endpoints: RwLock::new(none), source: Mutex::default() }
    }

    /// The endpoints now.
    ///
    /// When the last of them is gone, the meshed ones that went within `LAST_RESORT` stay for as long again: a node whose
    /// kubelet restarts, or that cannot reach the API server, has its pods reported as not ready, one after another, and
    /// they serve. Whoever has an address by then must still prove the identity.
    pub fn endpoints(&self) -> Arc<[Arc<EndpointState>]> {
        let held = self.endpoints.read().unwrap_or_else(PoisonError::into_inner);
        if held.is_over() { Arc::new([]) } else { Arc::clone(&held.list) }
    }

    /// Takes over `endpoints`; those that stay keep their load and connections. An endpoint that `is_self` is our own
    /// application: nothing redirects what we send there, so it is spoken to as it is.
    pub fn update(&self, endpoints: &Arc<[Endpoint]>, is_self: impl Fn(IpAddr) -> bool) {
        let mut source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        if source.as_ref().is_some_and(|s| Arc::ptr_eq(s, endpoints)) {
            return;
        }
        let old: HashMap<Endpoint, Arc<EndpointState>> =
            self.endpoints().iter().map(|e| (e.endpoint.clone(), Arc::clone(e))).collect();
        let new: Arc<[Arc<EndpointState>]> = endpoints
            .iter()
            .map(|e| {
                let mut e = e.clone();
                if is_self(e.address) {
                    e.identity = None;
                }
                old.get(&e).map_or_else(|| EndpointState::new(e.clone()), Arc::clone)
            })
            .collect();
        let mut held = self.endpoints.write().unwrap_or_else(PoisonError::into_inner);
        let gone = held.gone_after(&new);
        *held = match (new.is_empty(), held.until) {
            (true, None) => {
                let list = gone.iter().map(|(e, _)| Arc::clone(e)).collect();
                Held { list, until: clock::now().checked_add(LAST_RESORT), gone: Vec::new() }
            }
            // Being gone again does not begin the time anew.
            (true, until) => Held { list: Arc::clone(&held.list), until, gone: Vec::new() },
            (false, _) => Held { list: new, until: None, gone },
        };
        *source = Some(Arc::clone(endpoints));
    }

    /// The better of two endpoints drawn at random, none of `tried`. When all were tried, those that went lately: if all
    /// that is listed fails, the list may be what is wrong. Each must still prove its identity.
    pub fn choose(&self, tried: &[Arc<EndpointState>]) -> Option<Arc<EndpointState>> {
        let endpoints = self.endpoints();
        if tried.is_empty() {
            let index = balance::choose(endpoints.len(), clock::draw(), clock::draw(), |i| endpoints[i].load())?;
            return Some(Arc::clone(&endpoints[index]));
        }
        let left: Vec<_> = endpoints.iter().filter(|e| !tried.iter().any(|t| Arc::ptr_eq(t, e))).collect();
        match balance::choose(left.len(), clock::draw(), clock::draw(), |i| left[i].load()) {
            Some(index) => Some(Arc::clone(left[index])),
            None => self.lately_gone().find(|e| !tried.iter().any(|t| Arc::ptr_eq(t, e))),
        }
    }

    /// How many endpoints [`Self::choose`] can give one after another.
    pub fn reachable(&self) -> usize {
        self.endpoints().len() + self.lately_gone().count()
    }

    /// Endpoints of the mesh that ceased to be listed within `LAST_RESORT`, the latest first.
    fn lately_gone(&self) -> impl Iterator<Item = Arc<EndpointState>> {
        let now = clock::now();
        let held = self.endpoints.read().unwrap_or_else(PoisonError::into_inner);
        let gone = held.gone.iter().filter(|(_, at)| now.duration_since(*at) < LAST_RESORT);
        gone.map(|(state, _)| Arc::clone(state)).collect::<Vec<_>>().into_iter()
    }
}

#[cfg(test)]
mod tests;
