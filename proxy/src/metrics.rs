//! Metrics under Istio's standard names, with handles resolved once per peer and endpoint instead of once per request;
//! and the account of one exchange, which is closed exactly once however the exchange ends.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::access_log::{AccessLog, Line};
use crate::clock;
use crate::endpoint::Entered;
use crate::pool::Lease;

/// Labels of Istio's standard metrics that do not change from request to request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet, Default)]
pub struct Peers {
    /// `source` (outbound) or `destination` (inbound).
    pub reporter: String,
    /// Deployment of the caller.
    pub source_workload: String,
    /// Namespace of the caller.
    pub source_workload_namespace: String,
    /// SPIFFE ID of the caller.
    pub source_principal: String,
    /// Deployment that serves.
    pub destination_workload: String,
    /// Namespace that serves.
    pub destination_workload_namespace: String,
    /// SPIFFE ID that serves.
    pub destination_principal: String,
    /// `service.namespace.svc.cluster.local`
    pub destination_service: String,
    /// Service.
    pub destination_service_name: String,
    /// Its namespace.
    pub destination_service_namespace: String,
    /// `mutual_tls`, `none` or `unknown`.
    pub connection_security_policy: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    #[prometheus(flatten)]
    peers: Peers,
    request_protocol: String,
    response_code: u16,
    response_flags: String,
}

const BUCKETS_MS: [f64; 16] =
    [0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10_000.0, 30_000.0, 60_000.0];

fn histogram() -> Histogram {
    Histogram::new(BUCKETS_MS)
}

/// Every metric of the proxy.
pub struct Metrics {
    requests: Family<RequestLabels, Counter>,
    durations: Family<RequestLabels, Histogram, fn() -> Histogram>,
    tcp_opened: Family<Peers, Counter>,
    tcp_closed: Family<Peers, Counter>,
    tcp_sent: Family<Peers, Counter>,
    tcp_received: Family<Peers, Counter>,
    /// Connections open now, by listener.
    pub connections: Family<ListenerLabels, Gauge>,
    /// Requests and connections refused here, by cause.
    pub refused: Family<CauseLabels, Counter>,
    retries: Family<OutcomeLabels, Counter>,
    mirrored: Family<OutcomeLabels, Counter>,
    faults: Family<OutcomeLabels, Counter>,
    /// TLS handshakes that failed, by direction.
    pub handshake_failures: Family<DirectionLabels, Counter>,
    /// Certificate expiry, seconds since the epoch.
    pub certificate_expiry: Gauge<i64, std::sync::atomic::AtomicI64>,
    /// 1 while the stream to the control plane is up.
    pub control_plane_connected: Gauge,
    ejections: Family<EjectionLabels, Counter>,
    circuit_open: Family<LimitLabels, Counter>,
    /// Access log lines lost.
    pub access_log_dropped: Gauge<u64, AtomicU64>,
}

/// `listener`
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ListenerLabels {
    /// `inbound`, `outbound`, ...
    pub listener: &'static str,
}

/// `direction`
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DirectionLabels {
    /// `inbound` or `outbound`
    pub direction: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EjectionLabels {
    backend: String,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabels {
    backend: String,
    limit: &'static str,
}

/// `outcome`
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

/// `direction`, `cause`
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CauseLabels {
    /// `inbound` or `outbound`
    pub direction: &'static str,
    /// Code of the `Reject` table.
    pub cause: &'static str,
}

impl Metrics {
    /// Makes and registers all of them.
    pub fn new(registry: &mut Registry) -> Self {
        let this = Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(histogram),
            tcp_opened: Family::default(),
            tcp_closed: Family::default(),
            tcp_sent: Family::default(),
            tcp_received: Family::default(),
            connections: Family::default(),
            refused: Family::default(),
            retries: Family::default(),
            mirrored: Family::default(),
            faults: Family::default(),
            handshake_failures: Family::default(),
            certificate_expiry: Gauge::default(),
            control_plane_connected: Gauge::default(),
            ejections: Family::default(),
            circuit_open: Family::default(),
            access_log_dropped: Gauge::default(),
        };
        registry.register("istio_requests", "Requests", this.requests.clone());
        registry.register(
            "istio_request_duration_milliseconds",
            "Time from a request's head to the end of its response",
            this.durations.clone(),
        );
        registry.register("istio_tcp_connections_opened", "TCP connections opened", this.tcp_opened.clone());
        registry.register("istio_tcp_connections_closed", "TCP connections closed", this.tcp_closed.clone());
        registry.register("istio_tcp_sent_bytes", "Bytes sent to the caller", this.tcp_sent.clone());
        registry.register("istio_tcp_received_bytes", "Bytes received from the caller", this.tcp_received.clone());
        registry.register("causeway_connections", "Connections open now", this.connections.clone());
        registry.register("causeway_refused", "Refused here, by cause", this.refused.clone());
        registry.register("causeway_retries", "Requests that a route would send again", this.retries.clone());
        registry.register("causeway_mirrored_requests", "Copies of requests", this.mirrored.clone());
        registry.register("causeway_injected_faults", "Faults on purpose", this.faults.clone());
        registry.register(
            "causeway_tls_handshake_failures",
            "TLS handshakes that failed",
            this.handshake_failures.clone(),
        );
        registry.register(
            "causeway_certificate_expiry_seconds",
            "When the certificate in use expires, seconds since the epoch",
            this.certificate_expiry.clone(),
        );
        registry.register(
            "causeway_control_plane_connected",
            "1 while the stream to the control plane is up",
            this.control_plane_connected.clone(),
        );
        registry.register(
            "causeway_access_log_dropped",
            "Access log lines lost because standard output was too slow",
            this.access_log_dropped.clone(),
        );
        registry.register("causeway_ejections", "Endpoints ejected, by backend and reason", this.ejections.clone());
        registry.register(
            "causeway_circuit_open",
            "Requests, retries and connections over a limit of their backend",
            this.circuit_open.clone(),
        );
        this
    }

    /// Counts an ejection.
    pub fn ejected(&self, backend: &str, reason: &'static str) {
        self.ejections.get_or_create(&EjectionLabels { backend: backend.to_owned(), reason }).inc();
    }

    /// Counts what was over a limit of its backend.
    pub fn circuit_open(&self, backend: &str, limit: &'static str) {
        self.circuit_open.get_or_create(&LimitLabels { backend: backend.to_owned(), limit }).inc();
    }

    /// Counts a refusal.
    pub fn refuse(&self, direction: &'static str, cause: &'static str) {
        self.refused.get_or_create(&CauseLabels { direction, cause }).inc();
    }

    /// Counts what became of a request that its route would send again: `sent`, or why it was not: `limit` (of tries),
    /// `no_budget`, `no_body` (it was too long to be kept).
    pub fn retry(&self, outcome: &'static str) {
        self.retries.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// Counts a copy: `sent`, `failed`, or not begun: `too_many`, `no_body` (too long, or broken off).
    pub fn mirrored(&self, outcome: &'static str) {
        self.mirrored.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// Counts a fault on purpose: `delay` or `abort`.
    pub fn fault(&self, kind: &'static str) {
        self.faults.get_or_create(&OutcomeLabels { outcome: kind }).inc();
    }

    /// The handles for exchanges between these peers.
    pub fn series(self: &Arc<Self>, peers: Peers) -> Arc<Series> {
        Arc::new(Series { metrics: Arc::clone(self), peers, codes: Mutex::default(), tcp: std::sync::OnceLock::new() })
    }
}

/// Handles of all metrics between one pair of peers.
pub struct Series {
    metrics: Arc<Metrics>,
    peers: Peers,
    codes: Mutex<Vec<(CodeKey, Counter, Histogram)>>,
    tcp: std::sync::OnceLock<TcpHandles>,
}

type CodeKey = (u16, &'static str, &'static str);

struct TcpHandles {
    opened: Counter,
    closed: Counter,
    sent: Counter,
    received: Counter,
}

impl Series {
    fn record(&self, key: CodeKey, milliseconds: f64) {
        let mut codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, requests, durations)) = codes.iter().find(|(k, _, _)| *k == key) {
            requests.inc();
            durations.observe(milliseconds);
            return;
        }
        let (response_code, flags, protocol) = key;
        let labels = RequestLabels {
            peers: self.peers.clone(),
            request_protocol: protocol.to_owned(),
            response_code,
            response_flags: flags.to_owned(),
        };
        let requests = self.metrics.requests.get_or_create_owned(&labels);
        let durations = self.metrics.durations.get_or_create_owned(&labels);
        requests.inc();
        durations.observe(milliseconds);
        codes.push((key, requests, durations));
    }

    fn tcp(&self) -> &TcpHandles {
        self.tcp.get_or_init(|| TcpHandles {
            opened: self.metrics.tcp_opened.get_or_create_owned(&self.peers),
            closed: self.metrics.tcp_closed.get_or_create_owned(&self.peers),
            sent: self.metrics.tcp_sent.get_or_create_owned(&self.peers),
            received: self.metrics.tcp_received.get_or_create_owned(&self.peers),
        })
    }

    /// A TCP connection begins.
    pub fn tcp_opened(&self) {
        self.tcp().opened.inc();
    }

    /// Bytes so far: to the caller, and from it.
    pub fn tcp_bytes(&self, sent: u64, received: u64) {
        self.tcp().sent.inc_by(sent);
        self.tcp().received.inc_by(received);
    }

    /// A TCP connection has ended.
    pub fn tcp_closed(&self) {
        self.tcp().closed.inc();
    }
}

/// The account of one request and its response.
pub struct Exchange {
    series: Option<Arc<Series>>,
    protocol: &'static str,
    started: Instant,
    code: u16,
    flag: &'static str,
    bytes: u64,
    lease: Option<Lease>,
    entered: Option<Entered>,
    log: Option<(AccessLog, Box<Line>)>,
}

impl Exchange {
    /// Opens the account of a response that has begun.
    pub fn new(series: Option<Arc<Series>>, protocol: &'static str, started: Instant, code: u16) -> Self {
        Self { series, protocol, started, code, flag: "-", bytes: 0, lease: None, entered: None, log: None }
    }

    /// Whose metrics it counts in.
    pub fn of(mut self, series: Arc<Series>) -> Self {
        self.series = Some(series);
        self
    }

    /// Counted in its backend's requests in flight until it ends.
    pub fn within(mut self, entered: Entered) -> Self {
        self.entered = Some(entered);
        self
    }

    /// Marks what went wrong.
    pub fn flagged(mut self, flag: &'static str) -> Self {
        self.flag = flag;
        self
    }

    /// What is given back when the exchange ends.
    pub fn with_lease(mut self, lease: Lease) -> Self {
        self.lease = Some(lease);
        self
    }

    /// What is logged when the exchange ends.
    pub fn with_log(mut self, log: AccessLog, line: Box<Line>) -> Self {
        self.log = Some((log, line));
        self
    }

    /// Counts bytes sent to the caller.
    pub fn sent(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// The response's body ended as it should.
    pub fn complete(mut self) {
        if let Some(lease) = self.lease.take() {
            lease.reuse();
        }
    }

    /// The response's body broke off upstream.
    pub fn broken(mut self) {
        self.flag = "UC";
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.flag == "-" && self.lease.is_some() {
            self.flag = "DC"; // neither complete nor broken: the caller went away
        }
        let milliseconds = clock::now().duration_since(self.started).as_secs_f64() * 1e3;
        if let Some(series) = &self.series {
            series.record((self.code, self.flag, self.protocol), milliseconds);
        }
        if let Some((log, mut line)) = self.log.take() {
            line.status = self.code;
            line.flags = self.flag;
            line.duration_ms = (milliseconds * 1e3).round() / 1e3;
            line.bytes_sent = self.bytes;
            log.write(*line);
        }
    }
}
