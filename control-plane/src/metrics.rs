//! What the control plane counts. The registry is injected; whoever serves `/metrics` owns it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// A stable code of a refusal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reason {
    /// E.g. `token_expired`.
    pub reason: &'static str,
}

/// An admission review.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Admission {
    /// `inject` or `validate`.
    pub path: &'static str,
    /// `allowed`, `patched`, `refused`; or why there was no answer: `malformed`, `late`, `failed`.
    pub result: &'static str,
}

/// Severity of a problem.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Severity {
    /// `error`, `warning`, `note`.
    pub severity: SeverityLabel,
}

/// Severity of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(missing_docs, non_camel_case_types)]
pub enum SeverityLabel {
    error,
    warning,
    note,
}

/// Handles to every metric.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // each is described where it is registered
pub struct Metrics {
    pub connected_proxies: Gauge<i64, AtomicI64>,
    pub pushes: Counter<u64, AtomicU64>,
    pub pushed_resources: Counter,
    pub acks: Counter,
    pub nacks: Counter,
    pub faults: Gauge,
    pub oldest_unacked: Gauge<f64, AtomicU64>,
    pub problems: Family<Severity, Gauge>,
    pub resources: Gauge,
    pub compile_seconds: Histogram,
    pub certificates_issued: Counter,
    pub certificates_refused: Family<Reason, Counter>,
    pub watches_refused: Family<Reason, Counter>,
    pub handshakes_failed: Family<Reason, Counter>,
    pub ca_expiry: Gauge,
    pub server_certificate_expiry: Gauge,
    pub webhook_certificate_expiry: Gauge,
    pub admission: Family<Admission, Counter>,
    pub admission_seconds: Histogram,
    pub reload_failed: Gauge,
    pub leader: Gauge,
    pub token_review_seconds: Histogram,
    pub trust_config_maps: Gauge,
    pub trust_config_maps_failed: Gauge,
}

impl Metrics {
    /// Makes the metrics and registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            connected_proxies: Gauge::default(),
            pushes: Counter::default(),
            pushed_resources: Counter::default(),
            acks: Counter::default(),
            nacks: Counter::default(),
            faults: Gauge::default(),
            oldest_unacked: Gauge::default(),
            problems: Family::default(),
            resources: Gauge::default(),
            compile_seconds: Histogram::new([0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0]),
            certificates_issued: Counter::default(),
            certificates_refused: Family::default(),
            watches_refused: Family::default(),
            handshakes_failed: Family::default(),
            ca_expiry: Gauge::default(),
            server_certificate_expiry: Gauge::default(),
            webhook_certificate_expiry: Gauge::default(),
            admission: Family::default(),
            admission_seconds: Histogram::new([0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 5.0]),
            reload_failed: Gauge::default(),
            leader: Gauge::default(),
            token_review_seconds: Histogram::new([0.005, 0.02, 0.1, 0.5, 2.0, 5.0]),
            trust_config_maps: Gauge::default(),
            trust_config_maps_failed: Gauge::default(),
        };
        metrics.register_in(registry.sub_registry_with_prefix("causeway_control_plane"));
        metrics
    }

    fn register_in(&self, r: &mut Registry) {
        r.register("connected_proxies", "Proxies with a configuration stream", self.connected_proxies.clone());
        r.register("pushes", "Batches sent", self.pushes.clone());
        r.register("pushed_resources", "Resources in the batches sent", self.pushed_resources.clone());
        r.register("acks", "Batches that proxies put in force", self.acks.clone());
        r.register("nacks", "Batches that proxies refused", self.nacks.clone());
        r.register("faults", "Resources that connected proxies refuse now", self.faults.clone());
        let oldest = "Age of the oldest batch without an answer";
        r.register_with_unit("oldest_unacked", oldest, Unit::Seconds, self.oldest_unacked.clone());
        r.register("problems", "Problems of the configuration", self.problems.clone());
        r.register("resources", "Resources in force", self.resources.clone());
        let compile = "Time to compile the configuration";
        r.register_with_unit("compile", compile, Unit::Seconds, self.compile_seconds.clone());
        r.register("certificates_issued", "Certificates issued", self.certificates_issued.clone());
        r.register("certificates_refused", "Certificates refused, by code", self.certificates_refused.clone());
        r.register("watches_refused", "Configuration streams refused, by code", self.watches_refused.clone());
        r.register("handshakes_failed", "TLS handshakes that failed, by code", self.handshakes_failed.clone());
        let ca = "When the CA's certificate ends, since the epoch";
        r.register_with_unit("ca_expiry_timestamp", ca, Unit::Seconds, self.ca_expiry.clone());
        let webhook = "When the certificate of the webhooks ends, since the epoch; 0 where there are none";
        r.register_with_unit(
            "webhook_certificate_expiry_timestamp",
            webhook,
            Unit::Seconds,
            self.webhook_certificate_expiry.clone(),
        );
        r.register("admission_reviews", "Admission reviews, by path and result", self.admission.clone());
        let took = "Time to answer an admission review";
        r.register_with_unit("admission", took, Unit::Seconds, self.admission_seconds.clone());
        let own = "When the listener's certificate ends, since the epoch";
        r.register_with_unit(
            "server_certificate_expiry_timestamp",
            own,
            Unit::Seconds,
            self.server_certificate_expiry.clone(),
        );
        let reload = "Whether a CA or roots that changed could not be used (1) or not (0)";
        r.register("reload_failed", reload, self.reload_failed.clone());
        r.register("leader", "Whether this replica holds the Lease (1) or not (0)", self.leader.clone());
        let review = "Time that checking a token at the API server took, with the look at its pod";
        r.register_with_unit("token_review", review, Unit::Seconds, self.token_review_seconds.clone());
        let kept = "Namespaces whose trust bundle the leader keeps";
        r.register("trust_config_maps", kept, self.trust_config_maps.clone());
        let failed = "Trust bundles that the leader could not write at its last try";
        r.register("trust_config_maps_failed", failed, self.trust_config_maps_failed.clone());
    }
}

/// A registry that may be read while it is served.
pub type SharedRegistry = Arc<Registry>;
