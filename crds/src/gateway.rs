//! Gateway API: the routes that a mesh reads and the grants that they need, as far as their fields mean something with a
//! Service as parent. Their CustomResourceDefinitions are the user's to install; the schemas here only check.
//!
//! Shapes that several kinds share stand here. Values of enumerations stay texts: the standard wants an unknown one to be
//! reported on the rule that holds it, not the whole resource to be refused.

pub mod filter;
pub mod grpc_route;
pub mod http_route;
pub mod layer4;
pub mod reference_grant;
pub mod support;

pub use grpc_route::{GRPCRoute, GRPCRouteSpec};
pub use http_route::{HTTPRoute, HTTPRouteSpec};
pub use layer4::{TCPRoute, TCPRouteSpec, TLSRoute, TLSRouteSpec};
pub use reference_grant::{ReferenceGrant, ReferenceGrantSpec};

use crate::manifest::{Manifest, manifest};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The API group of every kind here.
pub const GROUP: &str = "gateway.networking.k8s.io";

/// The kinds with the schemas that they are checked against; nothing of them is installed.
pub fn schemas() -> Vec<Manifest> {
    vec![
        manifest::<GRPCRoute>(),
        manifest::<HTTPRoute>(),
        manifest::<ReferenceGrant>(),
        manifest::<TCPRoute>(),
        manifest::<TLSRoute>(),
    ]
}

/// What a route attaches to. Written out again it is as it was read: a status echoes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["name"]))]
pub struct ParentReference {
    /// Group of the parent; empty for a Service, absent for a Gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Kind of the parent; absent for a Gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Namespace of the parent; absent: that of the route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name of the parent.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Name of the Service's port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
    /// Number of the Service's port. With `sectionName`, both must be of the same port.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u32>,
}

impl ParentReference {
    /// Whether it names a Service, and so is the mesh's.
    pub fn is_service(&self) -> bool {
        self.group.as_deref() == Some("") && self.kind.as_deref() == Some("Service")
    }
}

/// Something that requests are sent to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["name"]))]
pub struct BackendObjectReference {
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
}

/// A backend of a TCPRoute or TLSRoute, with its share of the connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["name"]))]
pub struct BackendRef {
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
}

impl BackendRef {
    /// What it names.
    pub fn object(&self) -> BackendObjectReference {
        let Self { group, kind, name, namespace, port, .. } = self.clone();
        BackendObjectReference { group, kind, name, namespace, port }
    }
}

/// How long a client stays with one backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SessionPersistence {
    /// Name of the cookie or header.
    pub session_name: Option<String>,
    /// Longest session.
    pub absolute_timeout: Option<String>,
    /// `Cookie` or `Header`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Lifetime of the cookie.
    pub cookie_config: Option<CookieConfig>,
}

/// Lifetime of a session's cookie.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CookieConfig {
    /// `Session` or `Permanent`.
    pub lifetime_type: Option<String>,
}
