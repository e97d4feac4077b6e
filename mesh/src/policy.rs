//! Who may come in. The only maker of a [`Permit`], without which nothing is forwarded to the application.
//!
//! Within a rule every non-empty part must match (AND); the entries of a part are alternatives (OR); the rules of a
//! policy are alternatives. A DENY that matches wins over everything. If any ALLOW policy selects the workload, one of
//! their rules must match; otherwise the default verdict holds.

use std::sync::Arc;

use crate::path;
use crate::route::RequestView;
use crate::spiffe::SpiffeId;
use crate::text::TextMatch;

/// Mutual TLS that inbound asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MtlsMode {
    /// Only mutual TLS of the mesh.
    Strict,
    /// Plain text too; it has no identity.
    Permissive,
    /// Plain text only is expected; mesh TLS is still accepted.
    Disable,
}

/// All that inbound decides by.
#[derive(Clone, Debug)]
pub struct Inbound {
    /// For ports not in `ports`.
    pub mode: MtlsMode,
    /// Exceptions by the application's port.
    pub ports: Vec<(u16, MtlsMode)>,
    /// Verdict when no ALLOW policy selects the workload.
    pub default_allow: bool,
    /// DENY and ALLOW policies.
    pub policies: Vec<Policy>,
    /// Plain text that passes under strict mode.
    pub probes: Vec<Probe>,
}

/// A probe of the pod's own spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The application's port.
    pub port: u16,
    /// Normalised path; None: a TCP probe.
    pub path: Option<Box<str>>,
    /// Query without the `?`, empty where there is none. It is part of the probe: who knows that `/` is probed may not
    /// call `/?delete=all`.
    pub query: Box<str>,
}

/// One AuthorizationPolicy that selects the workload.
#[derive(Clone, Debug)]
pub struct Policy {
    /// `namespace/name`.
    pub name: Arc<str>,
    /// ALLOW, else DENY.
    pub allow: bool,
    /// Alternatives. None at all: matches nothing.
    pub rules: Vec<Rule>,
}

/// `from` AND `to`.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// Alternatives; none: anybody.
    pub from: Vec<Source>,
    /// Alternatives; none: anything.
    pub to: Vec<Operation>,
}

/// Every non-empty list must hold the peer, no `not_` list may.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// Principals.
    pub principals: Vec<Principal>,
    /// Principals that do not match.
    pub not_principals: Vec<Principal>,
    /// Namespaces, exact.
    pub namespaces: Vec<String>,
    /// Namespaces that do not match.
    pub not_namespaces: Vec<String>,
}

/// Whom a rule means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// Any verified identity.
    Any,
    /// Exactly this one, compared as parsed.
    Id(SpiffeId),
}

/// Every non-empty list must hold the request, no `not_` list may.
#[derive(Clone, Debug, Default)]
pub struct Operation {
    /// HTTP methods.
    pub methods: Vec<String>,
    /// HTTP methods that do not match.
    pub not_methods: Vec<String>,
    /// HTTP paths.
    pub paths: Vec<TextMatch>,
    /// HTTP paths that do not match.
    pub not_paths: Vec<TextMatch>,
    /// The application's ports.
    pub ports: Vec<u16>,
    /// Ports that do not match.
    pub not_ports: Vec<u16>,
    /// HTTP hosts, lower case without port.
    pub hosts: Vec<TextMatch>,
    /// HTTP hosts that do not match.
    pub not_hosts: Vec<TextMatch>,
}

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Verified by mutual TLS.
    Mesh(SpiffeId),
    /// Plain text: nobody we know.
    Anonymous,
}

impl Peer {
    /// The verified identity.
    pub fn id(&self) -> Option<&SpiffeId> {
        match self {
            Self::Mesh(id) => Some(id),
            Self::Anonymous => None,
        }
    }
}

/// Proof that [`authorize`] or [`authorize_tcp`] said yes. Nobody else can make one; forwarding demands one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    by: Option<Arc<str>>,
}

impl Permit {
    /// The policy that allowed it; None: the default verdict or a probe.
    pub fn by(&self) -> Option<&Arc<str>> {
        self.by.as_ref()
    }
}

/// What was decided, and by which policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Allow(Permit),
    /// Refused.
    Deny(Denied),
}

/// Why something was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// A DENY policy (`namespace/name`) matched with its rule of this index.
    Policy(Arc<str>, usize),
    /// ALLOW policies select the workload and none of their rules matched.
    NoRule,
    /// No policy selects the workload and the default is to deny.
    Default,
    /// Plain text where mutual TLS is demanded.
    Plaintext,
}

impl Inbound {
    /// Nothing passes: what holds before the first configuration.
    pub fn closed() -> Self {
        Self {
            mode: MtlsMode::Strict,
            ports: Vec::new(),
            default_allow: false,
            policies: Vec::new(),
            probes: Vec::new(),
        }
    }

    /// The mode of the application's `port`.
    pub fn mode(&self, port: u16) -> MtlsMode {
        self.ports.iter().find(|(p, _)| *p == port).map_or(self.mode, |(_, mode)| *mode)
    }
}

/// Judges one HTTP request to the application's `port`.
///
/// A path that a server could read in several ways ([`path::variants`]) is denied if any reading is, and allowed only if
/// every one is.
pub fn authorize(inbound: &Inbound, peer: &Peer, port: u16, request: &impl RequestView) -> Decision {
    if peer.id().is_none() {
        // Kubelet has no identity, so no policy could name it: the exact probe passes whatever the policies say.
        if is_probe(inbound, peer, port, request) {
            return Decision::Allow(Permit { by: None });
        }
        if inbound.mode(port) == MtlsMode::Strict {
            return Decision::Deny(Denied::Plaintext);
        }
    }
    judge(inbound, |rule, allow| rule.matches(peer, port, |o| o.matches_http(request, allow)))
}

/// Path of the gRPC health check (the `grpc` probe of a pod).
pub const GRPC_HEALTH: &str = "/grpc.health.v1.Health/Check";

impl Probe {
    /// Whether the request is what kubelet sends: a GET (or HEAD) of the path, or the gRPC health check.
    fn is_this(&self, port: u16, request: &impl RequestView) -> bool {
        let Some(path) = self.path.as_deref().filter(|_| self.port == port) else { return false };
        let is_method = match request.method() {
            "GET" | "HEAD" => path != GRPC_HEALTH,
            "POST" => path == GRPC_HEALTH,
            _ => false,
        };
        is_method && path == request.path() && *self.query == *request.query()
    }
}

/// Whether the request is a probe of kubelet's, which passes whatever policies and limits say.
pub fn is_probe(inbound: &Inbound, peer: &Peer, port: u16, request: &impl RequestView) -> bool {
    peer.id().is_none() && inbound.probes.iter().any(|p| p.is_this(port, request))
}

/// Judges one TCP connection to the application's `port`.
///
/// A rule that asks for something of HTTP never matches in an ALLOW policy; in a DENY policy its HTTP parts are taken
/// as matched. So bytes can neither win an allowance nor evade a denial that is written for HTTP. A TCP probe gets no
/// exception from strict mode: nothing tells its bytes from anybody else's.
pub fn authorize_tcp(inbound: &Inbound, peer: &Peer, port: u16) -> Decision {
    if peer.id().is_none() && inbound.mode(port) == MtlsMode::Strict {
        return Decision::Deny(Denied::Plaintext);
    }
    judge(inbound, |rule, allow| rule.matches(peer, port, |o| !allow || !o.asks_http()))
}

fn judge(inbound: &Inbound, matches: impl Fn(&Rule, bool) -> bool) -> Decision {
    for policy in inbound.policies.iter().filter(|p| !p.allow) {
        if let Some(index) = policy.rules.iter().position(|r| matches(r, false)) {
            return Decision::Deny(Denied::Policy(Arc::clone(&policy.name), index));
        }
    }
    let mut selected = false;
    for policy in inbound.policies.iter().filter(|p| p.allow) {
        selected = true;
        if policy.rules.iter().any(|r| matches(r, true)) {
            return Decision::Allow(Permit { by: Some(Arc::clone(&policy.name)) });
        }
    }
    match (selected, inbound.default_allow) {
        (true, _) => Decision::Deny(Denied::NoRule),
        (false, true) => Decision::Allow(Permit { by: None }),
        (false, false) => Decision::Deny(Denied::Default),
    }
}

impl Rule {
    fn matches(&self, peer: &Peer, port: u16, http: impl Fn(&Operation) -> bool) -> bool {
        (self.from.is_empty() || self.from.iter().any(|s| s.matches(peer)))
            && (self.to.is_empty() || self.to.iter().any(|o| o.matches_port(port) && http(o)))
    }
}

impl Source {
    fn matches(&self, peer: &Peer) -> bool {
        let id = peer.id();
        let is = |p: &Principal| match p {
            Principal::Any => id.is_some(),
            Principal::Id(want) => id == Some(want),
        };
        let within = |n: &String| id.is_some_and(|id| id.namespace() == n);
        (self.principals.is_empty() || self.principals.iter().any(is))
            && !self.not_principals.iter().any(is)
            && (self.namespaces.is_empty() || self.namespaces.iter().any(within))
            && !self.not_namespaces.iter().any(within)
    }
}

impl Operation {
    fn matches_port(&self, port: u16) -> bool {
        (self.ports.is_empty() || self.ports.contains(&port)) && !self.not_ports.contains(&port)
    }

    fn asks_http(&self) -> bool {
        !(self.methods.is_empty()
            && self.not_methods.is_empty()
            && self.paths.is_empty()
            && self.not_paths.is_empty()
            && self.hosts.is_empty()
            && self.not_hosts.is_empty())
    }

    fn matches_http(&self, request: &impl RequestView, allow: bool) -> bool {
        let method = |m: &String| m == request.method();
        let host = |h: &TextMatch| h.is_match(request.host());
        (self.methods.is_empty() || self.methods.iter().any(method))
            && !self.not_methods.iter().any(method)
            && (self.hosts.is_empty() || self.hosts.iter().any(host))
            && !self.not_hosts.iter().any(host)
            && self.matches_path(request.path(), allow)
    }

    fn matches_path(&self, path: &str, allow: bool) -> bool {
        if self.paths.is_empty() && self.not_paths.is_empty() {
            return true;
        }
        let is_match = |reading: &str| {
            (self.paths.is_empty() || self.paths.iter().any(|p| p.is_match(reading)))
                && !self.not_paths.iter().any(|p| p.is_match(reading))
        };
        let mut readings = path::variants(path);
        if allow { readings.all(|r| is_match(&r)) } else { readings.any(|r| is_match(&r)) }
    }
}

#[cfg(test)]
mod tests;
