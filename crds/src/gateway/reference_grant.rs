//! ReferenceGrant: what of a namespace the routes of another may name.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Allows resources of other namespaces to name Services of this one.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["from", "to"]))]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1",
    kind = "ReferenceGrant",
    plural = "referencegrants",
    namespaced
)]
pub struct ReferenceGrantSpec {
    /// Who may name. Any of them.
    #[schemars(length(max = 16))]
    pub from: Vec<GrantFrom>,
    /// What may be named. Any of them.
    #[schemars(length(max = 16))]
    pub to: Vec<GrantTo>,
}

/// Resources of one kind in one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["group", "kind", "namespace"]))]
pub struct GrantFrom {
    /// `gateway.networking.k8s.io` for routes.
    pub group: String,
    /// Kind of the route.
    pub kind: String,
    /// Namespace of the route.
    pub namespace: String,
}

/// Objects of this namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["group", "kind"]))]
pub struct GrantTo {
    /// Empty for Services.
    pub group: String,
    /// `Service`
    pub kind: String,
    /// One object; absent: all of the kind.
    pub name: Option<String>,
}

impl ReferenceGrantSpec {
    /// Whether routes of `kind` in `namespace` may name the Service `service` of the grant's namespace.
    pub fn allows(&self, kind: &str, namespace: &str, service: &str) -> bool {
        let from = |f: &GrantFrom| f.group == super::GROUP && f.kind == kind && f.namespace == namespace;
        let named = |t: &GrantTo| t.name.as_deref().is_none_or(|n| n.is_empty() || n == service);
        let to = |t: &GrantTo| t.group.is_empty() && t.kind == "Service" && named(t);
        self.from.iter().any(from) && self.to.iter().any(to)
    }
}
