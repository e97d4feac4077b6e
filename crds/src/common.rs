//! Shapes that several kinds share.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How to compare one text. Exactly one of the fields is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "(has(self.exact) ? 1 : 0) + (has(self.prefix) ? 1 : 0) + (has(self.regex) ? 1 : 0) <= 1",
    "message": "at most one of exact, prefix and regex may be set"
}]))]
pub struct StringMatch {
    /// Equal to this text.
    #[schemars(length(max = 1024))]
    pub exact: Option<String>,
    /// Begins with this text.
    #[schemars(length(max = 1024))]
    pub prefix: Option<String>,
    /// The whole text matches this RE2 regular expression.
    #[schemars(length(max = 1024))]
    pub regex: Option<String>,
}

/// Names a port by its number.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PortSelector {
    /// Number of the Service's port.
    #[schemars(range(min = 1, max = 65535))]
    pub number: Option<u32>,
}

/// A Service, one of its ports and one of its subsets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["host"]))]
pub struct Destination {
    /// Name of a Service. A short name (`svc`, `svc.ns`) is completed with the namespace of this resource.
    #[schemars(length(min = 1, max = 253))]
    pub host: String,
    /// Name of a subset that a DestinationRule of the host defines.
    #[schemars(length(max = 253))]
    pub subset: Option<String>,
    /// The Service's port. It may be left out: then the port that the client asked for is used.
    pub port: Option<PortSelector>,
}

/// Changes to headers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Headers {
    /// Changes to the request before it is forwarded.
    pub request: Option<HeaderOperations>,
    /// Changes to the response before it is returned.
    pub response: Option<HeaderOperations>,
}

/// What to do to headers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HeaderOperations {
    /// Replaces headers.
    pub set: BTreeMap<String, String>,
    /// Appends values.
    pub add: BTreeMap<String, String>,
    /// Removes headers.
    #[schemars(length(max = 64))]
    pub remove: Vec<String>,
}

/// A share of requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Percent {
    /// From 0.0 to 100.0.
    #[schemars(range(min = 0, max = 100))]
    pub value: Option<f64>,
}

/// Selects pods by labels. All of them must be equal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadSelector {
    /// Labels of the pod. None: every pod of the namespace.
    pub match_labels: BTreeMap<String, String>,
}
