//! AuthorizationPolicy: who may call a workload, and what for.

use crate::common::WorkloadSelector;
use crate::status::Status;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Allows or denies what its rules match. A DENY that matches wins. Where any ALLOW policy selects a workload, one of
/// their rules must match.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[kube(
    group = "causeway.dev",
    version = "v1alpha1",
    kind = "AuthorizationPolicy",
    namespaced,
    status = "Status",
    shortname = "ap",
    category = "causeway",
    printcolumn = r#"{"name":"Action","type":"string","jsonPath":".spec.action","description":"ALLOW where not set"}"#,
    printcolumn = r#"{"name":"Accepted","type":"string","jsonPath":".status.conditions[?(@.type==\"Accepted\")].status","description":"Whether the resource as written is right"}"#,
    printcolumn = r#"{"name":"Resolved","type":"string","jsonPath":".status.conditions[?(@.type==\"ResolvedRefs\")].status","description":"Whether all that it names exists"}"#,
    printcolumn = r#"{"name":"Programmed","type":"string","jsonPath":".status.conditions[?(@.type==\"Programmed\")].status","description":"Whether it is in force on every proxy that it concerns"}"#,
    printcolumn = r#"{"name":"Proxies","type":"string","jsonPath":".status.proxies","description":"Proxies on which this generation is in force, of those that it concerns"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"Programmed\")].reason","description":"Why it is programmed or not"}"#,
    printcolumn = r#"{"name":"Message","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"Programmed\")].message","description":"The same in words"}"#
)]
pub struct AuthorizationPolicySpec {
    /// Pods that the policy holds for. Not set: every pod of the namespace; in the root namespace, of the mesh.
    pub selector: Option<WorkloadSelector>,
    /// A resource that the policy holds for instead of pods.
    pub target_ref: Option<TargetRef>,
    /// Resources that the policy holds for instead of pods.
    #[schemars(length(max = 16))]
    pub target_refs: Vec<TargetRef>,
    /// What becomes of what the rules match. Not set: ALLOW.
    pub action: Option<Action>,
    /// Who decides for the action CUSTOM.
    pub provider: Option<Provider>,
    /// Alternatives. None: nothing matches.
    #[schemars(length(max = 256))]
    pub rules: Vec<Rule>,
}

/// What becomes of what the rules match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)] // Istio's own names
pub enum Action {
    Allow,
    Deny,
    Audit,
    Custom,
}

/// A resource that a policy holds for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TargetRef {
    /// API group.
    #[schemars(length(max = 253))]
    pub group: Option<String>,
    /// Kind.
    #[schemars(length(max = 63))]
    pub kind: Option<String>,
    /// Name.
    #[schemars(length(max = 253))]
    pub name: Option<String>,
    /// Namespace.
    #[schemars(length(max = 63))]
    pub namespace: Option<String>,
}

/// An external authority.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Provider {
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: Option<String>,
}

/// Matches when each of its parts does. An empty rule matches everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    /// Callers, any of them. Not set: anybody.
    #[schemars(length(max = 256))]
    pub from: Vec<From>,
    /// Operations, any of them. Not set: any.
    #[schemars(length(max = 256))]
    pub to: Vec<To>,
    /// Further conditions, all of them.
    #[schemars(length(max = 64))]
    pub when: Vec<Condition>,
}

/// Wraps a caller, as Istio has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["source"]))]
pub struct From {
    /// The caller.
    pub source: Source,
}

/// A caller. Each list that is set must hold it, each `not` list must not.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Source {
    /// Identities: `cluster.local/ns/<namespace>/sa/<account>`, with or without `spiffe://`, or `*` for any. Always
    /// compared as a whole: other wildcards are refused.
    #[schemars(length(max = 256), inner(length(max = 512)))]
    pub principals: Vec<String>,
    /// Identities that do not match.
    #[schemars(length(max = 256), inner(length(max = 512)))]
    pub not_principals: Vec<String>,
    /// ServiceAccounts as `<namespace>/<account>`; `<account>` alone is of the policy's namespace.
    #[schemars(length(max = 256), inner(length(max = 320)))]
    pub service_accounts: Vec<String>,
    /// ServiceAccounts that do not match.
    #[schemars(length(max = 256), inner(length(max = 320)))]
    pub not_service_accounts: Vec<String>,
    /// Identities of request tokens.
    #[schemars(length(max = 256), inner(length(max = 512)))]
    pub request_principals: Vec<String>,
    /// Identities of request tokens that do not match.
    #[schemars(length(max = 256), inner(length(max = 512)))]
    pub not_request_principals: Vec<String>,
    /// Namespaces of the caller.
    #[schemars(length(max = 256), inner(length(max = 63)))]
    pub namespaces: Vec<String>,
    /// Namespaces that do not match.
    #[schemars(length(max = 256), inner(length(max = 63)))]
    pub not_namespaces: Vec<String>,
    /// Addresses of the peer, as CIDR.
    #[schemars(length(max = 256), inner(length(max = 64)))]
    pub ip_blocks: Vec<String>,
    /// Addresses of the peer that do not match.
    #[schemars(length(max = 256), inner(length(max = 64)))]
    pub not_ip_blocks: Vec<String>,
    /// Addresses of the first client, as CIDR.
    #[schemars(length(max = 256), inner(length(max = 64)))]
    pub remote_ip_blocks: Vec<String>,
    /// Addresses of the first client that do not match.
    #[schemars(length(max = 256), inner(length(max = 64)))]
    pub not_remote_ip_blocks: Vec<String>,
}

/// Wraps an operation, as Istio has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["operation"]))]
pub struct To {
    /// The operation.
    pub operation: Operation,
}

/// What is asked for. Each list that is set must hold it, each `not` list must not.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Operation {
    /// Hosts: exact, `prefix*`, `*suffix`, or `*`.
    #[schemars(length(max = 256), inner(length(max = 512)))]
    pub hosts: Vec<String>,
    /// Hosts that do not match.
    #[schemars(length(max = 256), inner(length(max = 512)))]
    pub not_hosts: Vec<String>,
    /// The application's ports, as text.
    #[schemars(length(max = 256), inner(length(max = 5)))]
    pub ports: Vec<String>,
    /// Ports that do not match.
    #[schemars(length(max = 256), inner(length(max = 5)))]
    pub not_ports: Vec<String>,
    /// HTTP methods.
    #[schemars(length(max = 256), inner(length(max = 64)))]
    pub methods: Vec<String>,
    /// HTTP methods that do not match.
    #[schemars(length(max = 256), inner(length(max = 64)))]
    pub not_methods: Vec<String>,
    /// Paths: exact, `/prefix*`, `*suffix`, or `*`.
    #[schemars(length(max = 256), inner(length(max = 1024)))]
    pub paths: Vec<String>,
    /// Paths that do not match.
    #[schemars(length(max = 256), inner(length(max = 1024)))]
    pub not_paths: Vec<String>,
}

/// A further condition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["key"]))]
pub struct Condition {
    /// Attribute, e.g. `request.headers[x-role]`.
    #[schemars(length(min = 1, max = 512))]
    pub key: String,
    /// Values, any of them.
    #[schemars(length(max = 256), inner(length(max = 512)))]
    pub values: Vec<String>,
    /// Values that do not match.
    #[schemars(length(max = 256), inner(length(max = 512)))]
    pub not_values: Vec<String>,
}
