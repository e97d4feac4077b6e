//! What a backend is and how its endpoints are used: balancing, limits, ejection, retry budget, TLS to the outside. The
//! wire's zeros are replaced by the defaults that they stand for.

use std::sync::Arc;
use std::time::Duration;

use super::Protocol;

/// One set of endpoints that a split may pick.
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    /// `service.namespace:port` or `service.namespace:port/subset`.
    pub name: Arc<str>,
    /// Service name.
    pub service: String,
    /// Service namespace.
    pub namespace: String,
    /// Service port.
    pub port: u16,
    /// Empty: the whole Service.
    pub subset: String,
    /// None: the proxy's default.
    pub connect_timeout: Option<Duration>,
    /// Plain text also to meshed endpoints (an explicit choice of the user).
    pub plaintext: bool,
    /// Which endpoint takes the next request.
    pub load_balancing: LoadBalancing,
    /// What may be in use at once.
    pub limits: Limits,
    /// None: no endpoint is ejected.
    pub outlier: Option<Outlier>,
    /// Only to endpoints outside of the mesh; None: as the caller sends it.
    pub tls: Option<OriginateTls>,
    /// How much of the traffic may be retries.
    pub retry_budget: RetryBudget,
    /// The reference is not valid: its share is answered with 500 and this text.
    pub broken: Option<String>,
    /// Each `host:port`, whose addresses are the endpoints, kept up to date by the proxy.
    pub dns: Vec<String>,
    /// What the application speaks where its port declares it; [`Protocol::Detect`]: as the client does.
    pub protocol: Protocol,
    /// Of kept connections without requests; None: the proxy's default.
    pub idle_timeout: Option<Duration>,
}

impl Backend {
    /// A backend with every default.
    pub fn new(name: &str, service: &str, namespace: &str, port: u16) -> Self {
        Self {
            name: name.into(),
            service: service.to_owned(),
            namespace: namespace.to_owned(),
            port,
            subset: String::new(),
            connect_timeout: None,
            plaintext: false,
            load_balancing: LoadBalancing::default(),
            limits: Limits::default(),
            outlier: None,
            tls: None,
            retry_budget: RetryBudget::default(),
            broken: None,
            dns: Vec::new(),
            protocol: Protocol::Detect,
            idle_timeout: None,
        }
    }
}

/// Which endpoint takes the next request.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadBalancing {
    /// See [`Algorithm`].
    pub algorithm: Algorithm,
    /// None: new endpoints get their full share at once.
    pub slow_start: Option<SlowStart>,
    /// See [`Zones`].
    pub zones: Zones,
    /// Which region takes over for which, where near endpoints are preferred.
    pub failover: Vec<Failover>,
    /// All that this proxy sends goes to one endpoint until it was silent for so long; None: no such memory.
    pub affinity: Option<Duration>,
}

impl Default for LoadBalancing {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::PeakEwma,
            slow_start: None,
            zones: Zones::AsHinted,
            failover: Vec::new(),
            affinity: None,
        }
    }
}

/// How an endpoint is found.
#[derive(Clone, Debug, PartialEq)]
pub enum Algorithm {
    /// The cheaper of two drawn ones, by latency times queue.
    PeakEwma,
    /// The one of two drawn that has fewer requests in flight.
    LeastRequest,
    /// One after the other.
    RoundRobin,
    /// Any.
    Random,
    /// Equal keys to the same endpoint.
    ConsistentHash {
        /// The first of which the request has a value; without any the request is drawn at random.
        keys: Vec<HashKey>,
        /// Most requests of one endpoint, in percent of the mean; above 100.
        balance_percent: u32,
    },
}

/// Of a request, for consistent hash. Names of headers are in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// A header's value.
    Header(String),
    /// A cookie's value, which the proxy can set.
    Cookie {
        /// Its name.
        name: String,
        /// `Path` where the proxy sets it; empty: none.
        path: String,
        /// None: never set by the proxy; zero: for the session.
        ttl: Option<Duration>,
    },
    /// A query parameter's first value.
    Query(String),
    /// The caller's IP address.
    SourceAddress,
    /// The caller's SPIFFE ID.
    SourceIdentity,
}

/// New endpoints are given less for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowStart {
    /// For so long.
    pub window: Duration,
    /// The share at the beginning, percent of the full one, 1 to 100.
    pub min_percent: u32,
    /// 1: linear; above: faster at first. Above 0.
    pub aggression: f64,
}

/// A region that takes over for another before all others do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failover {
    /// The client's region.
    pub from: String,
    /// The one that takes over.
    pub to: String,
}

/// Preference of near endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zones {
    /// As the hints of EndpointSlices say, where every endpoint has them.
    AsHinted,
    /// None.
    Off,
    /// Own zone, then own region, then anywhere.
    Prefer,
}

/// Of this proxy to the backend; None: no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at once; each endpoint may have one in any case.
    pub connections: Option<u32>,
    /// Requests that wait for a connection.
    pub pending: Option<u32>,
    /// Requests in flight.
    pub requests: Option<u32>,
    /// Retries in flight.
    pub retries: Option<u32>,
    /// Then a connection takes no more.
    pub requests_per_connection: Option<u32>,
    /// Requests in flight on one connection.
    pub streams_per_connection: Option<u32>,
    /// Life of a TCP connection.
    pub connection_life: Option<Duration>,
    /// A TCP connection on which nothing moves ends after this.
    pub tcp_idle: Option<Duration>,
    /// TCP keepalive of connections to endpoints.
    pub keepalive: Option<Keepalive>,
}

/// TCP keepalive; None: the system's value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keepalive {
    /// Probes without an answer until the connection is given up.
    pub probes: Option<u32>,
    /// Idle time before the first probe.
    pub time: Option<Duration>,
    /// Between probes.
    pub interval: Option<Duration>,
}

/// When an endpoint is ejected, and for how long. None turns a reason off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlier {
    /// Answers of 5xx, and failures to connect, in a row.
    pub server_errors: Option<u32>,
    /// Answers of 502, 503 and 504, and failures to connect, in a row.
    pub gateway_errors: Option<u32>,
    /// Failures to connect, in a row.
    pub connect_failures: Option<u32>,
    /// Moving average of the latency, in percent of the median of the backend's endpoints; above 100.
    pub latency_percent: Option<u32>,
    /// How often latency is judged, and how long without an ejection forgives one.
    pub interval: Duration,
    /// Length of the first ejection.
    pub base_ejection: Duration,
    /// Most endpoints ejected at once, 0 to 100; one may be ejected where there are two or more.
    pub max_ejection_percent: u32,
    /// Below this share of endpoints that are not ejected all are used, 0 to 100.
    pub min_health_percent: u32,
}

/// How much of the traffic may be retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    /// Of the requests in flight.
    pub percent: u32,
    /// So many are allowed in any case.
    pub min_concurrency: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { percent: 20, min_concurrency: 3 }
    }
}

/// TLS that the proxy begins on behalf of an application that speaks plain text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OriginateTls {
    /// Empty: the host of the backend's `dns`, else of the request.
    pub sni: String,
    /// One of them must be in the certificate; none: `sni`.
    pub subject_alt_names: Vec<String>,
    /// DER; none: those of the system.
    pub roots: Vec<Vec<u8>>,
    /// The server's certificate is not looked at.
    pub insecure_skip_verify: bool,
    /// Client certificate, PEM, by path in the pod; empty: none.
    pub certificate_path: String,
    /// Its key.
    pub key_path: String,
    /// PEM, by path in the pod; empty: none.
    pub roots_path: String,
}
