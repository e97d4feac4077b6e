//! TCPRoute and TLSRoute: where connections to a Service go.

use super::{BackendRef, ParentReference};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Routes of TCP connections. In the namespace of the Service that it attaches to it holds for every client; in another
/// namespace for the clients of that namespace only, and wins there.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[kube(group = "gateway.networking.k8s.io", version = "v1", kind = "TCPRoute", plural = "tcproutes", namespaced)]
pub struct TCPRouteSpec {
    /// What it attaches to; those that are no Services are left to others.
    #[schemars(length(max = 32))]
    pub parent_refs: Vec<ParentReference>,
    /// Whether Gateways may attach it unasked; not the mesh's.
    pub use_default_gateways: Option<String>,
    /// One rule: without conditions, the first takes every connection.
    #[schemars(length(max = 16))]
    pub rules: Vec<ConnectionRule>,
}

/// Routes of TLS connections by the name in their ClientHello; the mesh does not end them. In the namespace of the Service
/// that it attaches to it holds for every client; in another namespace for the clients of that namespace only, and wins
/// there.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[kube(group = "gateway.networking.k8s.io", version = "v1", kind = "TLSRoute", plural = "tlsroutes", namespaced)]
pub struct TLSRouteSpec {
    /// What it attaches to; those that are no Services are left to others.
    #[schemars(length(max = 32))]
    pub parent_refs: Vec<ParentReference>,
    /// Whether Gateways may attach it unasked; not the mesh's.
    pub use_default_gateways: Option<String>,
    /// Names in the ClientHello, `*.` in front for any labels; none: every connection.
    #[schemars(length(max = 1024), inner(length(min = 1, max = 253)))]
    pub hostnames: Vec<String>,
    /// One rule: without conditions of its own, the first takes every connection.
    #[schemars(length(max = 16))]
    pub rules: Vec<ConnectionRule>,
}

/// Where connections go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ConnectionRule {
    /// Names the rule for people.
    pub name: Option<String>,
    /// Where connections go.
    #[schemars(length(max = 16))]
    pub backend_refs: Vec<BackendRef>,
}
