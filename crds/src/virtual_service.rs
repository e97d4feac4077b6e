//! VirtualService: where the traffic of a host goes, and in which shares.

use crate::common::{Destination, Headers};
use crate::http_route::HttpRoute;
use crate::status::Status;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Routes of one or more hosts. In the namespace of the host's Service it holds for every client; in another namespace
/// it holds for the clients of that namespace only, and wins there.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[kube(
    group = "causeway.dev",
    version = "v1alpha1",
    kind = "VirtualService",
    namespaced,
    status = "Status",
    shortname = "vs",
    category = "causeway",
    printcolumn = r#"{"name":"Hosts","type":"string","jsonPath":".spec.hosts","description":"Hosts whose traffic is routed"}"#,
    printcolumn = r#"{"name":"Accepted","type":"string","jsonPath":".status.conditions[?(@.type==\"Accepted\")].status","description":"Whether the resource as written is right"}"#,
    printcolumn = r#"{"name":"Resolved","type":"string","jsonPath":".status.conditions[?(@.type==\"ResolvedRefs\")].status","description":"Whether all that it names exists"}"#,
    printcolumn = r#"{"name":"Programmed","type":"string","jsonPath":".status.conditions[?(@.type==\"Programmed\")].status","description":"Whether it is in force on every proxy that it concerns"}"#,
    printcolumn = r#"{"name":"Proxies","type":"string","jsonPath":".status.proxies","description":"Proxies on which this generation is in force, of those that it concerns"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"Programmed\")].reason","description":"Why it is programmed or not"}"#,
    printcolumn = r#"{"name":"Message","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"Programmed\")].message","description":"The same in words"}"#
)]
pub struct VirtualServiceSpec {
    /// Hosts whose traffic is routed: Services by any of their names, or patterns like `*.prod.svc.cluster.local`.
    /// It may be empty only in a VirtualService that another one delegates to.
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    pub hosts: Vec<String>,
    /// Gateways that apply the routes. None, or `mesh`: the proxies beside the workloads.
    #[schemars(length(max = 64), inner(length(max = 253)))]
    pub gateways: Vec<String>,
    /// Routes of HTTP requests. The first that matches is taken.
    #[schemars(length(max = 128))]
    pub http: Vec<HttpRoute>,
    /// Routes of TLS connections that are not terminated.
    #[schemars(length(max = 128))]
    pub tls: Vec<TlsRoute>,
    /// Routes of TCP connections. The first that matches is taken.
    #[schemars(length(max = 128))]
    pub tcp: Vec<TcpRoute>,
    /// Namespaces that see this resource. `.` is its own, `*` is all.
    #[schemars(length(max = 64), inner(length(max = 253)))]
    pub export_to: Vec<String>,
}

/// Routes TLS connections by server name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TlsRoute {
    /// Any of these must match.
    #[serde(rename = "match")]
    #[schemars(length(max = 64))]
    pub matches: Vec<TlsMatch>,
    /// Where the connections go.
    #[schemars(length(max = 32))]
    pub route: Vec<RouteDestination>,
}

/// Conditions on a TLS connection. All that are set must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TlsMatch {
    /// Server names (SNI).
    #[schemars(length(max = 64))]
    pub sni_hosts: Vec<String>,
    /// Addresses of the destination, as CIDR.
    #[schemars(length(max = 64))]
    pub destination_subnets: Vec<String>,
    /// Port of the destination.
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u32>,
    /// Labels of the client's pod.
    pub source_labels: BTreeMap<String, String>,
    /// Gateways that apply this match.
    #[schemars(length(max = 64))]
    pub gateways: Vec<String>,
    /// Namespace of the client.
    #[schemars(length(max = 63))]
    pub source_namespace: Option<String>,
}

/// Routes TCP connections.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TcpRoute {
    /// Any of these must match. None: every connection.
    #[serde(rename = "match")]
    #[schemars(length(max = 64))]
    pub matches: Vec<TcpMatch>,
    /// Where the connections go.
    #[schemars(length(max = 32))]
    pub route: Vec<RouteDestination>,
}

/// Conditions on a TCP connection. All that are set must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TcpMatch {
    /// Addresses of the destination, as CIDR.
    #[schemars(length(max = 64))]
    pub destination_subnets: Vec<String>,
    /// Port of the destination.
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u32>,
    /// Labels of the client's pod.
    pub source_labels: BTreeMap<String, String>,
    /// Gateways that apply this match.
    #[schemars(length(max = 64))]
    pub gateways: Vec<String>,
    /// Namespace of the client.
    #[schemars(length(max = 63))]
    pub source_namespace: Option<String>,
    /// Address of the client, as CIDR.
    #[schemars(length(max = 64))]
    pub source_subnet: Option<String>,
}

/// A destination and its share of the connections or requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["destination"]))]
pub struct RouteDestination {
    /// Where this share goes.
    pub destination: Destination,
    /// A ratio to the other weights; they need not sum to 100. A single destination gets everything,
    /// whatever its weight.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub weight: Option<f64>,
    /// Changes to headers of this share (HTTP only).
    pub headers: Option<Headers>,
}
