//! The configuration a proxy acts on, decoded from the wire and checked once, so that no request checks it again.
//!
//! `decode` either yields a value that every later step may trust or the list of [`Fault`]s that the proxy nacks.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::limit::Limit;
use crate::policy::Inbound;
use crate::route::Routes;
use crate::sni::TlsRoute;
use crate::spiffe::SpiffeId;
use crate::split::Split;

pub mod action;
pub mod backend;
mod decode;

pub use backend::{Backend, OriginateTls};
pub use decode::decode;

/// Why a resource was refused: which one, where in it, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{resource}: {field}: {message}")]
pub struct Fault {
    /// Resource name, e.g. `destination/prodsvc.prod:80`.
    pub resource: String,
    /// Path of the field within the resource, e.g. `routes[2].split.backends[0].weight`.
    pub field: String,
    /// What is wrong, in one sentence.
    pub message: String,
}

/// One decoded resource of the wire.
#[derive(Clone, Debug)]
pub enum Resource {
    /// `workload`
    Workload(Arc<Workload>),
    /// `trust`
    Trust(Arc<TrustBundle>),
    /// `destination/<text asked for>`
    Destination(Arc<Destination>),
    /// `endpoints/<backend>`
    Endpoints(Arc<[Endpoint]>),
}

/// Roots that a peer's certificate may chain to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustBundle {
    /// Peers of any other trust domain are refused.
    pub trust_domain: String,
    /// DER, one certificate each.
    pub roots: Vec<Vec<u8>>,
}

/// Everything that concerns the proxy's own workload.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// ServiceAccount of the pod.
    pub service_account: String,
    /// Deployment or other owner, for metrics.
    pub workload_name: String,
    /// Usually `cluster.local`.
    pub cluster_domain: String,
    /// Labels of the pod.
    pub labels: BTreeMap<String, String>,
    /// What may come in.
    pub inbound: Arc<Inbound>,
    /// Every one that counts a request must have room for it.
    pub limits: Arc<[Arc<Limit>]>,
    /// Topology zone of the pod's node, empty where unknown.
    pub zone: String,
    /// Topology region of the pod's node, empty where unknown.
    pub region: String,
    /// Whether traffic to destinations outside the mesh's knowledge passes.
    pub egress_allowed: bool,
}

/// The protocol that a Service port declares (`appProtocol`, port name), when it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Nothing declared: detect.
    Detect,
    /// HTTP/1.1 (HTTP/2 by prior knowledge is detected here too).
    Http1,
    /// HTTP/2 by prior knowledge, gRPC.
    Http2,
    /// Bytes.
    Tcp,
    /// TLS that the application itself speaks; bytes to us.
    Tls,
}

/// What a destination is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A Service port.
    Service,
    /// A pod's own address.
    Pod,
    /// Nothing the mesh knows; egress policy decides.
    Unknown,
    /// ExternalName to the outside: [`Destination::external`] says where.
    External,
    /// A host of the outside that a ServiceEntry names: its backends say where.
    Entry,
}

/// What becomes of traffic to one destination, for the client that asked.
#[derive(Clone, Debug)]
pub struct Destination {
    /// `service.namespace:port`, `pod-ip:port`, or the text asked for.
    pub canonical: Arc<str>,
    /// See [`Kind`].
    pub kind: Kind,
    /// Declared protocol.
    pub protocol: Protocol,
    /// In order of precedence.
    pub routes: Routes,
    /// TLS connections by the name they ask for; what none takes goes by `split`.
    pub tls_routes: Vec<TlsRoute>,
    /// For TCP, and for HTTP where there are no `routes`.
    pub split: Option<Split>,
    /// Referred to by index from every [`Split`].
    pub backends: Vec<Arc<Backend>>,
    /// HTTP routes are attached: never carry such a connection as mere bytes.
    pub http_only: bool,
    /// `host:port`, only for [`Kind::External`].
    pub external: Option<String>,
    /// Unknown, but the name that a connection carries may be of a ServiceEntry: ask for `name:port` then.
    pub by_name: bool,
    /// For metrics.
    pub service_name: String,
    /// For metrics.
    pub service_namespace: String,
}

/// One address that serves a backend.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Where to connect.
    pub address: IpAddr,
    /// Where to connect.
    pub port: u16,
    /// Present: mutual TLS, and exactly this peer. Absent: plain text.
    pub identity: Option<SpiffeId>,
    /// For metrics and logs.
    pub workload_name: String,
    /// For metrics and logs.
    pub pod: String,
    /// For metrics and logs.
    pub namespace: String,
    /// Topology zone, empty where unknown.
    pub zone: String,
    /// Topology region, empty where unknown.
    pub region: String,
    /// Zones that should use it, as the hints of its EndpointSlice say; none: all.
    pub for_zones: Vec<String>,
}
