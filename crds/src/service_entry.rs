//! ServiceEntry: hosts of the outside that traffic may be routed to by name.

use crate::common::WorkloadSelector;
use crate::status::Status;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Hosts outside of the mesh, known by name from now on: egress that is denied otherwise may go there, and
/// VirtualServices and DestinationRules may speak of them. It holds for the clients of its own namespace; in the root
/// namespace for every client, unless one of the client's own namespace names the host too.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["hosts", "ports"]))]
#[kube(
    group = "causeway.dev",
    version = "v1alpha1",
    kind = "ServiceEntry",
    plural = "serviceentries",
    namespaced,
    status = "Status",
    shortname = "se",
    category = "causeway",
    printcolumn = r#"{"name":"Hosts","type":"string","jsonPath":".spec.hosts","description":"Hosts that are known by name"}"#,
    printcolumn = r#"{"name":"Accepted","type":"string","jsonPath":".status.conditions[?(@.type==\"Accepted\")].status","description":"Whether the resource as written is right"}"#,
    printcolumn = r#"{"name":"Resolved","type":"string","jsonPath":".status.conditions[?(@.type==\"ResolvedRefs\")].status","description":"Whether all that it names exists"}"#,
    printcolumn = r#"{"name":"Programmed","type":"string","jsonPath":".status.conditions[?(@.type==\"Programmed\")].status","description":"Whether it is in force on every proxy that it concerns"}"#,
    printcolumn = r#"{"name":"Proxies","type":"string","jsonPath":".status.proxies","description":"Proxies on which this generation is in force, of those that it concerns"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"Programmed\")].reason","description":"Why it is programmed or not"}"#,
    printcolumn = r#"{"name":"Message","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"Programmed\")].message","description":"The same in words"}"#
)]
pub struct ServiceEntrySpec {
    /// Full names of hosts outside of the cluster. `*.` in front stands for one or more labels.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 253)))]
    pub hosts: Vec<String>,
    /// IP addresses, or CIDR blocks, by which applications connect to the hosts.
    #[schemars(length(max = 64), inner(length(min = 1, max = 64)))]
    pub addresses: Vec<String>,
    /// Ports of the hosts.
    #[schemars(length(min = 1, max = 64))]
    pub ports: Vec<EntryPort>,
    /// Whether the endpoints are of the mesh. It is not needed: an endpoint is of the mesh where it is the address of a
    /// meshed pod of this namespace.
    pub location: Option<Location>,
    /// Where the addresses of the endpoints come from. Not set: NONE.
    pub resolution: Option<Resolution>,
    /// Addresses that serve the hosts: IP addresses with STATIC, names with DNS.
    #[schemars(length(max = 256))]
    pub endpoints: Vec<EntryEndpoint>,
    /// Pods that serve the hosts.
    pub workload_selector: Option<WorkloadSelector>,
    /// Namespaces whose clients see this resource. `.` is its own, `*` is all. Beyond its own only the root namespace may
    /// export.
    #[schemars(length(max = 64), inner(length(max = 253)))]
    pub export_to: Vec<String>,
    /// Names that the servers' certificates may have, where a DestinationRule originates TLS and names none itself.
    #[schemars(length(max = 64), inner(length(min = 1, max = 1024)))]
    pub subject_alt_names: Vec<String>,
}

/// One port of the hosts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["number"]))]
pub struct EntryPort {
    /// What clients ask for.
    #[schemars(range(min = 1, max = 65535))]
    pub number: u32,
    /// What is spoken: HTTP, HTTPS, HTTP2, GRPC, TCP or TLS. Not set: as the name says, else it is found out.
    #[schemars(length(max = 32))]
    pub protocol: Option<String>,
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: Option<String>,
    /// Where the servers listen. Not set: the number.
    #[schemars(range(min = 1, max = 65535))]
    pub target_port: Option<u32>,
}

/// One address that serves the hosts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct EntryEndpoint {
    /// An IP address, or with DNS a name.
    #[schemars(length(max = 253))]
    pub address: Option<String>,
    /// Ports that differ from those of the entry, by the name of its port.
    pub ports: BTreeMap<String, u32>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Network.
    #[schemars(length(max = 253))]
    pub network: Option<String>,
    /// `region`, `region/zone` or `region/zone/subzone`.
    #[schemars(length(max = 253))]
    pub locality: Option<String>,
    /// Share among the endpoints.
    pub weight: Option<u32>,
    /// ServiceAccount of the endpoint.
    #[schemars(length(max = 253))]
    pub service_account: Option<String>,
}

/// Whether the endpoints are of the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)] // Istio's own names
pub enum Location {
    MeshExternal,
    MeshInternal,
}

/// Where the addresses of the endpoints come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)] // Istio's own names
pub enum Resolution {
    None,
    Static,
    Dns,
    DnsRoundRobin,
    DynamicDns,
}
