//! PeerAuthentication: whether a workload demands mutual TLS.

use crate::common::WorkloadSelector;
use crate::status::Status;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Mutual TLS that inbound traffic must use. The narrowest that is set wins: port, pod, namespace, mesh; else STRICT.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[kube(
    group = "causeway.dev",
    version = "v1alpha1",
    kind = "PeerAuthentication",
    namespaced,
    status = "Status",
    shortname = "pa",
    category = "causeway",
    printcolumn = r#"{"name":"Mode","type":"string","jsonPath":".spec.mtls.mode","description":"Mutual TLS that is demanded"}"#,
    printcolumn = r#"{"name":"Accepted","type":"string","jsonPath":".status.conditions[?(@.type==\"Accepted\")].status","description":"Whether the resource as written is right"}"#,
    printcolumn = r#"{"name":"Resolved","type":"string","jsonPath":".status.conditions[?(@.type==\"ResolvedRefs\")].status","description":"Whether all that it names exists"}"#,
    printcolumn = r#"{"name":"Programmed","type":"string","jsonPath":".status.conditions[?(@.type==\"Programmed\")].status","description":"Whether it is in force on every proxy that it concerns"}"#,
    printcolumn = r#"{"name":"Proxies","type":"string","jsonPath":".status.proxies","description":"Proxies on which this generation is in force, of those that it concerns"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"Programmed\")].reason","description":"Why it is programmed or not"}"#,
    printcolumn = r#"{"name":"Message","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"Programmed\")].message","description":"The same in words"}"#
)]
pub struct PeerAuthenticationSpec {
    /// Pods that it holds for. Not set: every pod of the namespace; in the root namespace, of the mesh.
    pub selector: Option<WorkloadSelector>,
    /// For every port that `portLevelMtls` does not name.
    pub mtls: Option<Mtls>,
    /// Exceptions, by the number of the application's port.
    pub port_level_mtls: BTreeMap<String, Mtls>,
}

/// Mutual TLS of inbound traffic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Mtls {
    /// UNSET, or not set: as the next wider PeerAuthentication says.
    pub mode: Option<MtlsMode>,
}

/// What inbound accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)] // Istio's own names
pub enum MtlsMode {
    Unset,
    Disable,
    Permissive,
    Strict,
}
