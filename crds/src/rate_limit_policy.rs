//! RateLimitPolicy: how many requests a workload takes.

use crate::common::{StringMatch, WorkloadSelector};
use crate::status::Status;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Limits of the requests that pods take. Each pod counts for itself. A request must have room in every limit that it
/// matches; else it is answered with 429 (gRPC: RESOURCE_EXHAUSTED) before it reaches the application.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["rules"]))]
#[kube(
    group = "causeway.dev",
    version = "v1alpha1",
    kind = "RateLimitPolicy",
    plural = "ratelimitpolicies",
    namespaced,
    status = "Status",
    shortname = "rlp",
    category = "causeway",
    printcolumn = r#"{"name":"Accepted","type":"string","jsonPath":".status.conditions[?(@.type==\"Accepted\")].status","description":"Whether the resource as written is right"}"#,
    printcolumn = r#"{"name":"Resolved","type":"string","jsonPath":".status.conditions[?(@.type==\"ResolvedRefs\")].status","description":"Whether all that it names exists"}"#,
    printcolumn = r#"{"name":"Programmed","type":"string","jsonPath":".status.conditions[?(@.type==\"Programmed\")].status","description":"Whether it is in force on every proxy that it concerns"}"#,
    printcolumn = r#"{"name":"Proxies","type":"string","jsonPath":".status.proxies","description":"Proxies on which this generation is in force, of those that it concerns"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"Programmed\")].reason","description":"Why it is programmed or not"}"#,
    printcolumn = r#"{"name":"Message","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"Programmed\")].message","description":"The same in words"}"#
)]
pub struct RateLimitPolicySpec {
    /// Pods that it holds for. Not set: every pod of the namespace; in the root namespace, of the mesh.
    pub selector: Option<WorkloadSelector>,
    /// The limits.
    #[schemars(length(min = 1, max = 64))]
    pub rules: Vec<LimitRule>,
}

/// One limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["requests", "per"]))]
pub struct LimitRule {
    /// Name for logs and errors. Not set: its place in the list.
    #[schemars(length(max = 253))]
    pub name: Option<String>,
    /// Requests that are counted: those that any of these matches. None: every request.
    #[serde(rename = "match")]
    #[schemars(length(max = 64))]
    pub matches: Vec<RequestMatch>,
    /// Ports of the application. None: all.
    #[schemars(length(max = 64), inner(range(min = 1, max = 65535)))]
    pub ports: Vec<u32>,
    /// So many requests in each `per`.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub requests: u32,
    /// Length of the window, `1s` to `24h`.
    #[schemars(length(min = 1, max = 32))]
    pub per: String,
    /// So many at once. Not set: as `requests`.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: Option<u32>,
    /// What has a count of its own. Not set: all requests share one.
    pub key: Option<LimitKey>,
}

/// What has a count of its own. Exactly one of the fields is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "(has(self.header) ? 1 : 0) + (has(self.sourceIdentity) ? 1 : 0) == 1",
    "message": "exactly one of header and sourceIdentity must be set"
}]))]
pub struct LimitKey {
    /// Each verified identity of a caller; callers without one share a count.
    pub source_identity: Option<bool>,
    /// Each value of this request header; requests without it share a count.
    #[schemars(length(min = 1, max = 256))]
    pub header: Option<String>,
}

/// Conditions on a request. All that are set must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RequestMatch {
    /// The path without the query.
    pub uri: Option<StringMatch>,
    /// The method, case-sensitive.
    pub method: Option<StringMatch>,
    /// The host, in lower case without the port.
    pub authority: Option<StringMatch>,
    /// Header values by header name. An empty condition asks only that the header is there.
    pub headers: BTreeMap<String, StringMatch>,
    /// Headers that must not match.
    pub without_headers: BTreeMap<String, StringMatch>,
    /// Values of query parameters by name.
    pub query_params: BTreeMap<String, StringMatch>,
    /// Whether the path is compared without case.
    pub ignore_uri_case: Option<bool>,
}
