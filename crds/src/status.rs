//! The status that the control plane writes on every kind.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the control plane made of the resource. Conditions: `Accepted` (in force), `ResolvedRefs` (all that it names
/// exists), `Programmed` (every proxy that it concerns has it in force).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// `Accepted`, `ResolvedRefs`, `Programmed`.
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Generation that the status speaks of.
    pub observed_generation: Option<i64>,
    /// Proxies on which this generation is in force.
    pub acked: Option<u32>,
    /// Proxies that it concerns.
    pub total: Option<u32>,
    /// Both, as `kubectl get` shows them: `3/3`.
    pub proxies: Option<String>,
    /// Hosts as they were resolved, e.g. `prodsvc.prod.svc.cluster.local`.
    #[schemars(length(max = 256))]
    pub resolved_hosts: Vec<String>,
}
