//! The kinds of Kubernetes resources that Causeway uses, each trimmed to what is used.

use crate::problem::{Problem, Severity};
use causeway_crds as crds;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// A kind that Causeway uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)] // the names are Kubernetes' own
pub enum Kind {
    Namespace,
    ServiceAccount,
    Service,
    EndpointSlice,
    Pod,
    VirtualService,
    DestinationRule,
    AuthorizationPolicy,
    PeerAuthentication,
    ServiceEntry,
    RateLimitPolicy,
    HTTPRoute,
    GRPCRoute,
    TCPRoute,
    TLSRoute,
    ReferenceGrant,
}

impl Kind {
    /// Those of our own group.
    pub const OWN: [Self; 6] = [
        Self::VirtualService,
        Self::DestinationRule,
        Self::AuthorizationPolicy,
        Self::PeerAuthentication,
        Self::ServiceEntry,
        Self::RateLimitPolicy,
    ];

    /// Routes of the Gateway API.
    pub const ROUTES: [Self; 4] = [Self::HTTPRoute, Self::GRPCRoute, Self::TCPRoute, Self::TLSRoute];

    /// Kinds of the user's API whose resources have a status.
    pub fn with_status() -> impl Iterator<Item = Self> {
        Self::OWN.into_iter().chain(Self::ROUTES)
    }
}

/// Names one resource of a source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Its kind.
    pub kind: Kind,
    /// Empty for a Namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// API group without the version: `` (core), `causeway.dev`, `networking.istio.io`, ...
    pub group: String,
}

/// Where a resource stands and on which lines its fields are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Path of the file, empty for a source without files.
    pub file: String,
    /// First line of the resource, 1-based; 0 where no line is known.
    pub line: u32,
    /// Lines of its fields by path (`spec.http[0].route[0].weight`).
    pub lines: BTreeMap<String, u32>,
}

/// What every resource has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Names it.
    pub key: Key,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Creation, seconds since the epoch; 0 where the source does not say.
    pub created: i64,
    /// `metadata.generation`, 0 where the source does not say.
    pub generation: i64,
    /// `metadata.uid`, empty where the source does not say.
    pub uid: String,
    /// Where it stands.
    pub origin: Arc<Origin>,
    /// Paths of fields that are unknown or not implemented. What holds one must fail closed.
    pub unsupported: Vec<String>,
}

/// A resource that is a [`Meta`] and a spec of the user's API.
#[derive(Clone, Debug, PartialEq)]
pub struct Custom<S> {
    /// What every resource has.
    pub meta: Meta,
    /// As the user wrote it.
    pub spec: S,
}

/// `v1 Namespace` or `v1 ServiceAccount`: that it exists is all that is used.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// What every resource has.
    pub meta: Meta,
}

/// `v1 Service`
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// What every resource has.
    pub meta: Meta,
    /// Empty for headless and ExternalName.
    pub cluster_ips: Vec<IpAddr>,
    /// `clusterIP: None`
    pub headless: bool,
    /// Target of an ExternalName.
    pub external_name: Option<String>,
    /// Empty: no selector, endpoints come from slices alone.
    pub selector: BTreeMap<String, String>,
    /// TCP ports only.
    pub ports: Vec<ServicePort>,
    /// `publishNotReadyAddresses`
    pub publish_not_ready: bool,
    /// `sessionAffinity: ClientIP`
    pub sticks_to_client: bool,
    /// `sessionAffinityConfig.clientIP.timeoutSeconds`
    pub affinity_seconds: Option<i32>,
    /// `trafficDistribution` of any kind: clients should use endpoints of their own zone.
    pub prefers_near: bool,
}

/// One TCP port of a [`Service`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// May be empty where the Service has one port.
    pub name: String,
    /// What clients ask for.
    pub port: u16,
    /// Where pods listen.
    pub target: TargetPort,
    /// `appProtocol`
    pub app_protocol: Option<String>,
    /// Position in `spec.ports`, for problems.
    pub index: usize,
}

/// Number or name of a container's port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPort {
    /// The same in every pod.
    Number(u16),
    /// Looked up in each pod's container ports.
    Name(String),
}

/// `discovery.k8s.io/v1 EndpointSlice`
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointSlice {
    /// What every resource has.
    pub meta: Meta,
    /// Label `kubernetes.io/service-name`; empty where there is none.
    pub service: String,
    /// `(name, number)`; TCP only. No number: no restriction, which is not used for Services.
    pub ports: Vec<(String, Option<u16>)>,
    /// Its endpoints.
    pub endpoints: Vec<SliceEndpoint>,
}

/// One endpoint of an [`EndpointSlice`].
#[derive(Clone, Debug, PartialEq)]
pub struct SliceEndpoint {
    /// Usually one.
    pub addresses: Vec<IpAddr>,
    /// Absent condition counts as true, as Kubernetes has it.
    pub ready: bool,
    /// `conditions.serving`
    pub serving: bool,
    /// `conditions.terminating`
    pub terminating: bool,
    /// Name of the Pod in the slice's namespace.
    pub pod: Option<String>,
    /// Topology zone.
    pub zone: String,
    /// DNS host name within a headless Service.
    pub hostname: String,
    /// `hints.forZones`; none: all.
    pub for_zones: Vec<String>,
}

/// `v1 Pod`
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    /// What every resource has.
    pub meta: Meta,
    /// `spec.serviceAccountName`, or `default`.
    pub account: String,
    /// `status.podIPs`
    pub ips: Vec<IpAddr>,
    /// Condition `Ready`; absent counts as ready (a directory has no kubelet).
    pub ready: bool,
    /// Not ready, although its containers are and nothing else is asked for: its node was not heard of, the application
    /// said nothing.
    pub unheard: bool,
    /// Succeeded, Failed or being deleted.
    pub finished: bool,
    /// `spec.hostname` and `spec.subdomain`, for DNS names of a headless Service.
    pub hostname: String,
    /// See `hostname`.
    pub subdomain: String,
    /// Named TCP container ports.
    pub ports: BTreeMap<String, u16>,
    /// Probes that kubelet sends, ports resolved.
    pub probes: Vec<Probe>,
    /// Annotation `causeway.dev/exclude-inbound-ports`: ports that are reached past the proxy.
    pub excluded_inbound: Vec<u16>,
    /// Deployment or other owner; else label `app`; else the pod's name.
    pub workload_name: String,
    /// Label `causeway.dev/injected: "true"`.
    pub meshed: bool,
    /// Topology zone of its label, else of its node; empty where unknown.
    pub zone: String,
    /// Topology region, as `zone`.
    pub region: String,
    /// `spec.hostNetwork`: its address is the node's, so it has no identity of its own.
    pub host_network: bool,
    /// `spec.nodeName`, empty where it has none yet.
    pub node: String,
}

/// A probe of a pod's spec.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probe {
    /// The application's port.
    pub port: u16,
    /// None: a TCP probe.
    pub path: Option<String>,
}

/// A VirtualService.
pub type VirtualService = Custom<crds::VirtualServiceSpec>;
/// A DestinationRule.
pub type DestinationRule = Custom<crds::DestinationRuleSpec>;
/// An AuthorizationPolicy.
pub type AuthorizationPolicy = Custom<crds::AuthorizationPolicySpec>;
/// A PeerAuthentication.
pub type PeerAuthentication = Custom<crds::PeerAuthenticationSpec>;
/// A ServiceEntry.
pub type ServiceEntry = Custom<crds::ServiceEntrySpec>;
/// A RateLimitPolicy.
pub type RateLimitPolicy = Custom<crds::RateLimitPolicySpec>;
/// An HTTPRoute.
pub type HTTPRoute = Custom<crds::gateway::HTTPRouteSpec>;
/// A GRPCRoute.
pub type GRPCRoute = Custom<crds::gateway::GRPCRouteSpec>;
/// A TCPRoute.
pub type TCPRoute = Custom<crds::gateway::TCPRouteSpec>;
/// A TLSRoute.
pub type TLSRoute = Custom<crds::gateway::TLSRouteSpec>;
/// A ReferenceGrant.
pub type ReferenceGrant = Custom<crds::gateway::ReferenceGrantSpec>;

/// Any of the kinds.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the names are Kubernetes' own
pub enum Resource {
    Namespace(Arc<Named>),
    ServiceAccount(Arc<Named>),
    Service(Arc<Service>),
    EndpointSlice(Arc<EndpointSlice>),
    Pod(Arc<Pod>),
    VirtualService(Arc<VirtualService>),
    DestinationRule(Arc<DestinationRule>),
    AuthorizationPolicy(Arc<AuthorizationPolicy>),
    PeerAuthentication(Arc<PeerAuthentication>),
    ServiceEntry(Arc<ServiceEntry>),
    RateLimitPolicy(Arc<RateLimitPolicy>),
    HTTPRoute(Arc<HTTPRoute>),
    GRPCRoute(Arc<GRPCRoute>),
    TCPRoute(Arc<TCPRoute>),
    TLSRoute(Arc<TLSRoute>),
    ReferenceGrant(Arc<ReferenceGrant>),
}

impl Resource {
    /// What every resource has.
    pub fn meta(&self) -> &Meta {
        match self {
            Self::Namespace(r) | Self::ServiceAccount(r) => &r.meta,
            Self::Service(r) => &r.meta,
            Self::EndpointSlice(r) => &r.meta,
            Self::Pod(r) => &r.meta,
            Self::VirtualService(r) => &r.meta,
            Self::DestinationRule(r) => &r.meta,
            Self::AuthorizationPolicy(r) => &r.meta,
            Self::PeerAuthentication(r) => &r.meta,
            Self::ServiceEntry(r) => &r.meta,
            Self::RateLimitPolicy(r) => &r.meta,
            Self::HTTPRoute(r) => &r.meta,
            Self::GRPCRoute(r) => &r.meta,
            Self::TCPRoute(r) => &r.meta,
            Self::TLSRoute(r) => &r.meta,
            Self::ReferenceGrant(r) => &r.meta,
        }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{:?} {}", self.kind, self.name)
        } else {
            write!(f, "{:?} {}/{}", self.kind, self.namespace, self.name)
        }
    }
}

impl Key {
    /// Of the same kind and name in the other of the two groups that have it, ours and Istio's.
    pub fn twin(&self) -> Self {
        let group = if self.group == "causeway.dev" { "networking.istio.io" } else { "causeway.dev" };
        Self { group: group.to_owned(), ..self.clone() }
    }

    /// `namespace/name`
    pub fn path(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

impl Origin {
    /// Line of `field`, or of the nearest field around it.
    pub fn line_of(&self, field: &str) -> u32 {
        let mut path = field;
        loop {
            if let Some(line) = self.lines.get(path) {
                return *line;
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None => return self.line,
            }
        }
    }
}

impl Origin {
    /// A problem of something that stands here. Control characters of the user's keys are made visible.
    pub fn problem(
        &self,
        severity: Severity,
        code: &'static str,
        what: &str,
        field: &str,
        message: &str,
        advice: &str,
    ) -> Problem {
        Problem {
            file: printable(&self.file),
            line: self.line_of(field),
            severity,
            code,
            resource: printable(what),
            field: printable(field),
            message: printable(message),
            advice: printable(advice),
        }
    }
}

fn printable(text: &str) -> String {
    let is_plain = |c: char| !c.is_control();
    if text.chars().all(is_plain) {
        return text.to_owned();
    }
    text.chars().map(|c| if is_plain(c) { c.to_string() } else { c.escape_default().to_string() }).collect()
}

impl Meta {
    /// A problem of this resource at `field`, with its place in the file.
    pub fn problem(
        &self,
        severity: Severity,
        code: &'static str,
        field: &str,
        message: impl AsRef<str>,
        advice: &str,
    ) -> Problem {
        self.origin.problem(severity, code, &self.key.to_string(), field, message.as_ref(), advice)
    }

    /// Whether something under `path` is unknown or not implemented in a way that must fail closed.
    pub fn is_unsupported(&self, path: &str) -> bool {
        self.unsupported
            .iter()
            .any(|u| u.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '['])))
    }
}
