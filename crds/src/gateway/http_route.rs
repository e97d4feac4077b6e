//! HTTPRoute: where HTTP requests to a Service go and what happens to them on the way.

use super::filter::HTTPFilter;
use super::{BackendObjectReference, ParentReference, SessionPersistence};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Routes of HTTP requests. In the namespace of the Service that it attaches to it holds for every client; in another
/// namespace for the clients of that namespace only, and wins there.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[kube(group = "gateway.networking.k8s.io", version = "v1", kind = "HTTPRoute", plural = "httproutes", namespaced)]
pub struct HTTPRouteSpec {
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
    pub rules: Vec<HTTPRouteRule>,
}

/// What becomes of the requests that match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HTTPRouteRule {
    /// Names the rule for people.
    pub name: Option<String>,
    /// Any of them; none: every request.
    #[schemars(length(max = 128))]
    pub matches: Vec<HTTPMatch>,
    /// What happens on the way.
    #[schemars(length(max = 16))]
    pub filters: Vec<HTTPFilter>,
    /// Where requests go.
    #[schemars(length(max = 16))]
    pub backend_refs: Vec<HTTPBackendRef>,
    /// How long it may take.
    pub timeouts: Option<Timeouts>,
    /// When it is tried again.
    pub retry: Option<Retry>,
    /// How long a client stays with one backend.
    pub session_persistence: Option<SessionPersistence>,
}

/// Conditions on a request. All that are set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HTTPMatch {
    /// On the path.
    pub path: Option<PathMatch>,
    /// On headers; of a name that is there twice the first counts.
    #[schemars(length(max = 16))]
    pub headers: Vec<ValueMatch>,
    /// On parameters of the query; of a name that is there twice the first counts.
    #[schemars(length(max = 16))]
    pub query_params: Vec<ValueMatch>,
    /// The method.
    #[schemars(length(max = 64))]
    pub method: Option<String>,
}

/// A condition on the path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PathMatch {
    /// `Exact`, `PathPrefix` (also when absent, by whole segments) or `RegularExpression` (RE2, of the whole path).
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// What to compare with; absent: `/`.
    #[schemars(length(max = 1024))]
    pub value: Option<String>,
}

/// A condition on a header or on a parameter of the query.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["name", "value"]))]
pub struct ValueMatch {
    /// `Exact` (also when absent) or `RegularExpression` (RE2, of the whole value).
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Its name.
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
    /// What to compare with.
    #[schemars(length(min = 1, max = 4096))]
    pub value: String,
}

/// A backend and its share of the requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["name"]))]
pub struct HTTPBackendRef {
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
    pub filters: Vec<HTTPFilter>,
}

impl HTTPBackendRef {
    /// What it names.
    pub fn object(&self) -> BackendObjectReference {
        let Self { group, kind, name, namespace, port, .. } = self.clone();
        BackendObjectReference { group, kind, name, namespace, port }
    }
}

/// How long a request may take; `0s` is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Timeouts {
    /// With all retries.
    pub request: Option<String>,
    /// Each try.
    pub backend_request: Option<String>,
}

/// When a request is tried again. Failed connections and timeouts of a try always count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Retry {
    /// Statuses of responses, 400 to 599.
    #[schemars(length(max = 64), inner(range(min = 400, max = 599)))]
    pub codes: Vec<u32>,
    /// Besides the first try.
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub attempts: Option<u32>,
    /// The shortest wait between two tries.
    pub backoff: Option<String>,
}
