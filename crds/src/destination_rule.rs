//! DestinationRule: subsets of a Service, and how connections to it are made.

use crate::common::WorkloadSelector;
use crate::status::Status;
use crate::traffic_policy::TrafficPolicy;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Subsets and traffic policy of one host. In the namespace of the host's Service it holds for every client; in another
/// namespace it holds for the clients of that namespace only, and wins there.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["host"]))]
#[kube(
    group = "causeway.dev",
    version = "v1alpha1",
    kind = "DestinationRule",
    namespaced,
    status = "Status",
    shortname = "dr",
    category = "causeway",
    printcolumn = r#"{"name":"Host","type":"string","jsonPath":".spec.host","description":"The Service that the rule is about"}"#,
    printcolumn = r#"{"name":"Accepted","type":"string","jsonPath":".status.conditions[?(@.type==\"Accepted\")].status","description":"Whether the resource as written is right"}"#,
    printcolumn = r#"{"name":"Resolved","type":"string","jsonPath":".status.conditions[?(@.type==\"ResolvedRefs\")].status","description":"Whether all that it names exists"}"#,
    printcolumn = r#"{"name":"Programmed","type":"string","jsonPath":".status.conditions[?(@.type==\"Programmed\")].status","description":"Whether it is in force on every proxy that it concerns"}"#,
    printcolumn = r#"{"name":"Proxies","type":"string","jsonPath":".status.proxies","description":"Proxies on which this generation is in force, of those that it concerns"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"Programmed\")].reason","description":"Why it is programmed or not"}"#,
    printcolumn = r#"{"name":"Message","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"Programmed\")].message","description":"The same in words"}"#
)]
pub struct DestinationRuleSpec {
    /// The Service, by any of its names. A short name is completed with the namespace of this resource.
    #[schemars(length(min = 1, max = 253))]
    pub host: String,
    /// How connections are made.
    pub traffic_policy: Option<TrafficPolicy>,
    /// Named sets of the Service's endpoints.
    #[schemars(length(max = 128))]
    pub subsets: Vec<Subset>,
    /// Namespaces that see this resource. `.` is its own, `*` is all.
    #[schemars(length(max = 64), inner(length(max = 253)))]
    pub export_to: Vec<String>,
    /// Clients that the rule holds for.
    pub workload_selector: Option<WorkloadSelector>,
}

/// The endpoints of a Service whose pods have these labels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["name"]))]
pub struct Subset {
    /// What a route names.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Labels of the pods. None: every endpoint.
    pub labels: BTreeMap<String, String>,
    /// How connections to this subset are made.
    pub traffic_policy: Option<TrafficPolicy>,
}
