//! GRPCRoute: where gRPC calls to a Service go and what happens to them on the way.

use super::filter::GRPCFilter;
use super::http_route::{HTTPBackendRef, ValueMatch};
use super::{ParentReference, SessionPersistence};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Routes of gRPC calls. In the namespace of the Service that it attaches to it holds for every client; in another
/// namespace for the clients of that namespace only, and wins there.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[kube(group = "gateway.networking.k8s.io", version = "v1", kind = "GRPCRoute", plural = "grpcroutes", namespaced)]
pub struct GRPCRouteSpec {
    /// What it attaches to; those that are no Services are left to others.
    #[schemars(length(max = 32))]
    pub parent_refs: Vec<ParentReference>,
    /// Whether Gateways may attach it unasked; not the mesh's.
    pub use_default_gateways: Option<String>,
    /// Hosts at a Gateway. The standard gives them no meaning in a mesh.
    #[schemars(length(max = 16))]
    pub hostnames: Vec<String>,
    /// The rules, of which the most specific match wins.
    #[schemars(length(max = 64))]
    pub rules: Vec<GRPCRouteRule>,
}

/// What becomes of the calls that match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GRPCRouteRule {
    /// Names the rule for people.
    pub name: Option<String>,
    /// Any of them; none: every call.
    #[schemars(length(max = 128))]
    pub matches: Vec<GRPCMatch>,
    /// What happens on the way.
    #[schemars(length(max = 16))]
    pub filters: Vec<GRPCFilter>,
    /// Where calls go.
    #[schemars(length(max = 16))]
    pub backend_refs: Vec<GRPCBackendRef>,
    /// How long a client stays with one backend.
    pub session_persistence: Option<SessionPersistence>,
}

/// Conditions on a call. All that are set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GRPCMatch {
    /// On the service and method that are called.
    pub method: Option<GRPCMethodMatch>,
    /// On headers; of a name that is there twice the first counts.
    #[schemars(length(max = 16))]
    pub headers: Vec<ValueMatch>,
}

/// A condition on what is called. At least one of `service` and `method` is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GRPCMethodMatch {
    /// `Exact` (also when absent) or `RegularExpression` (RE2, of the whole name).
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Full name of the service; absent: any.
    #[schemars(length(max = 1024))]
    pub service: Option<String>,
    /// Name of the method; absent: any.
    #[schemars(length(max = 1024))]
    pub method: Option<String>,
}

/// A backend and its share of the calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["name"]))]
pub struct GRPCBackendRef {
    /// Group of the backend; empty (also when absent) for a Service.
    pub group: Option<String>,
    /// Kind of the backend; `Service` when absent.
    pub kind: Option<String>,
    /// Name of the backend.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Namespace of the backend; absent: that of the route. Another one needs a ReferenceGrant there, unless the backend is
    /// a parent of the route.
    pub namespace: Option<String>,
    /// The Service's port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u32>,
    /// A ratio to the other weights; absent: 1.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub weight: Option<u32>,
    /// What happens on the way to this backend: RequestHeaderModifier and ResponseHeaderModifier.
    #[schemars(length(max = 16))]
    pub filters: Vec<GRPCFilter>,
}

impl From<GRPCBackendRef> for HTTPBackendRef {
    fn from(from: GRPCBackendRef) -> Self {
        let GRPCBackendRef { group, kind, name, namespace, port, weight, filters } = from;
        Self { group, kind, name, namespace, port, weight, filters: filters.into_iter().map(Into::into).collect() }
    }
}
