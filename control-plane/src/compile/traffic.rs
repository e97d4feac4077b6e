//! Traffic policies of DestinationRules as the wire wants them, each lowered once; and which of several holds.

mod balance;
mod pool;
mod tls;

use super::virtual_service::Report;
use causeway_crds::DestinationRuleSpec;
use causeway_crds::traffic_policy::TrafficPolicy;
use causeway_mesh::wire;

/// What one policy says. Each part holds as a whole: a narrower policy that has the part takes its place.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Traffic {
    pub(super) balancing: Option<wire::LoadBalancing>,
    pub(super) pool: Option<Pool>,
    pub(super) outlier: Option<wire::Outlier>,
    pub(super) tls: Option<Tls>,
    pub(super) retry_budget: Option<wire::RetryBudget>,
}

/// Of `connectionPool`; 0: the proxy's default.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Pool {
    pub(super) connect_timeout_ms: u64,
    pub(super) idle_timeout_ms: u64,
    pub(super) limits: wire::Limits,
}

/// Of `tls`.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Tls {
    /// Plain text, also to meshed endpoints.
    Off,
    /// What the mesh does by itself.
    Mesh,
    /// TLS to endpoints outside of the mesh.
    Originate(wire::OriginateTls),
}

/// A policy with those of single ports, which stand in its place there.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Policy {
    whole: Traffic,
    ports: Vec<(u16, Traffic)>,
}

/// Every policy of one rule.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Policies {
    rule: Policy,
    /// By the position of the subset.
    subsets: Vec<Policy>,
}

impl Policies {
    /// Lowers a rule; what cannot be is left out, which is said.
    pub(super) fn new(report: &mut Report<'_>, spec: &DestinationRuleSpec) -> Self {
        let mut lowered =
            |at: &str, policy: Option<&TrafficPolicy>| policy.map(|p| Policy::new(report, at, p)).unwrap_or_default();
        let rule = lowered("spec.trafficPolicy", spec.traffic_policy.as_ref());
        let subsets = spec.subsets.iter().enumerate();
        let subsets = subsets.map(|(index, subset)| {
            lowered(&format!("spec.subsets[{index}].trafficPolicy"), subset.traffic_policy.as_ref())
        });
        Self { rule, subsets: subsets.collect() }
    }

    /// What holds for a port of the Service, or of the subset at this position.
    pub(super) fn of(&self, subset: Option<usize>, port: u16) -> Traffic {
        let narrower = subset.and_then(|index| self.subsets.get(index)).map(|p| p.at(port).clone());
        narrower.unwrap_or_default().or(self.rule.at(port))
    }
}

impl Policy {
    fn new(report: &mut Report<'_>, at: &str, policy: &TrafficPolicy) -> Self {
        let whole = Traffic {
            balancing: policy
                .load_balancer
                .as_ref()
                .and_then(|b| balance::balancing(report, &format!("{at}.loadBalancer"), b)),
            pool: policy.connection_pool.as_ref().map(|p| pool::pool(report, &format!("{at}.connectionPool"), p)),
            outlier: policy
                .outlier_detection
                .as_ref()
                .map(|o| pool::outlier(report, &format!("{at}.outlierDetection"), o)),
            tls: policy.tls.as_ref().and_then(|t| tls::tls(report, &format!("{at}.tls"), t)),
            retry_budget: policy.retry_budget.as_ref().map(pool::budget),
        };
        let mut ports: Vec<(u16, Traffic)> = Vec::new();
        for (index, one) in policy.port_level_settings.iter().enumerate() {
            let at = format!("{at}.portLevelSettings[{index}]");
            let number = one.port.as_ref().and_then(|p| p.number).and_then(|n| u16::try_from(n).ok());
            let Some(number) = number else {
                let message = "this field is required, so these settings hold for no port";
                report.error("missing_field", &format!("{at}.port.number"), message, "Write the Service's port.");
                continue;
            };
            if ports.iter().any(|(n, _)| *n == number) {
                let message = format!("port {number} has settings already, which are used");
                report.error("duplicate_port", &format!("{at}.port.number"), message, "Merge the two.");
                continue;
            }
            let traffic = Traffic {
                balancing: one
                    .load_balancer
                    .as_ref()
                    .and_then(|b| balance::balancing(report, &format!("{at}.loadBalancer"), b)),
                pool: one.connection_pool.as_ref().map(|p| pool::pool(report, &format!("{at}.connectionPool"), p)),
                outlier: one
                    .outlier_detection
                    .as_ref()
                    .map(|o| pool::outlier(report, &format!("{at}.outlierDetection"), o)),
                tls: one.tls.as_ref().and_then(|t| tls::tls(report, &format!("{at}.tls"), t)),
                // It holds for a Service, not for a port.
                retry_budget: whole.retry_budget,
            };
            ports.push((number, traffic));
        }
        Self { whole, ports }
    }

    /// As in Istio, what holds for a port inherits nothing from what holds for all.
    fn at(&self, port: u16) -> &Traffic {
        self.ports.iter().find(|(n, _)| *n == port).map_or(&self.whole, |(_, t)| t)
    }
}

impl Traffic {
    /// The parts of this one, then those of the wider one.
    pub(super) fn or(self, wider: &Self) -> Self {
        Self {
            balancing: self.balancing.or_else(|| wider.balancing.clone()),
            pool: self.pool.or_else(|| wider.pool.clone()),
            outlier: self.outlier.or(wider.outlier),
            tls: self.tls.or_else(|| wider.tls.clone()),
            retry_budget: self.retry_budget.or(wider.retry_budget),
        }
    }

    /// Fills in what a backend has from it.
    pub(super) fn apply(self, backend: &mut wire::Backend) {
        if let Some(pool) = self.pool {
            backend.connect_timeout_ms = pool.connect_timeout_ms;
            backend.idle_timeout_ms = pool.idle_timeout_ms;
            backend.limits = (pool.limits != wire::Limits::default()).then_some(pool.limits);
        }
        backend.load_balancing = self.balancing;
        backend.outlier = self.outlier;
        backend.retry_budget = self.retry_budget;
        match self.tls {
            Some(Tls::Off) => backend.plaintext = true,
            Some(Tls::Originate(tls)) => backend.tls = Some(tls),
            Some(Tls::Mesh) | None => {}
        }
    }
}
