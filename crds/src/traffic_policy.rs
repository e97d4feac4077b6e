//! The traffic policy of a DestinationRule.

use crate::common::PortSelector;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How connections are made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TrafficPolicy {
    /// How an endpoint is chosen.
    pub load_balancer: Option<LoadBalancer>,
    /// Limits of connections.
    pub connection_pool: Option<ConnectionPool>,
    /// When an endpoint is left out.
    pub outlier_detection: Option<OutlierDetection>,
    /// TLS to the endpoints.
    pub tls: Option<ClientTls>,
    /// Policies of single ports.
    #[schemars(length(max = 64))]
    pub port_level_settings: Vec<PortTrafficPolicy>,
    /// Tunnels TCP through HTTP.
    pub tunnel: Option<Tunnel>,
    /// Sends the PROXY protocol.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Limits retries to a share of the requests.
    pub retry_budget: Option<RetryBudget>,
}

/// How connections to one port are made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PortTrafficPolicy {
    /// The Service's port.
    pub port: Option<PortSelector>,
    /// How an endpoint is chosen.
    pub load_balancer: Option<LoadBalancer>,
    /// Limits of connections.
    pub connection_pool: Option<ConnectionPool>,
    /// When an endpoint is left out.
    pub outlier_detection: Option<OutlierDetection>,
    /// TLS to the endpoints.
    pub tls: Option<ClientTls>,
}

/// How an endpoint is chosen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.simple) || !has(self.consistentHash)",
    "message": "at most one of simple and consistentHash may be set"
}]))]
pub struct LoadBalancer {
    /// `PEAK_EWMA` (the default), `LEAST_REQUEST`, `ROUND_ROBIN` or `RANDOM`.
    #[schemars(length(max = 32))]
    pub simple: Option<String>,
    /// By a hash of the request.
    pub consistent_hash: Option<ConsistentHash>,
    /// By locality.
    pub locality_lb_setting: Option<LocalitySetting>,
    /// How long a new endpoint gets less (older form of `warmup`).
    #[schemars(length(max = 32))]
    pub warmup_duration_secs: Option<String>,
    /// How a new endpoint is warmed up.
    pub warmup: Option<Warmup>,
}

/// How a new endpoint is warmed up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Warmup {
    /// How long.
    #[schemars(length(max = 32))]
    pub duration: Option<String>,
    /// Share at the start, in percent.
    pub minimum_percent: Option<f64>,
    /// Shape of the growth.
    pub aggression: Option<f64>,
}

/// Chooses an endpoint by a hash.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsistentHash {
    /// Of this header.
    #[schemars(length(max = 256))]
    pub http_header_name: Option<String>,
    /// Of this cookie.
    pub http_cookie: Option<HttpCookie>,
    /// Of the client's address.
    pub use_source_ip: Option<bool>,
    /// Of the identity of the calling workload.
    pub use_source_identity: Option<bool>,
    /// Of this query parameter.
    #[schemars(length(max = 256))]
    pub http_query_parameter_name: Option<String>,
    /// Size of a hash ring.
    pub ring_hash: Option<RingHash>,
    /// Size of a Maglev table.
    pub maglev: Option<Maglev>,
    /// Older form of `ringHash.minimumRingSize`.
    pub minimum_ring_size: Option<u64>,
}

/// A cookie to hash.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpCookie {
    /// Name.
    #[schemars(length(max = 256))]
    pub name: Option<String>,
    /// Path.
    #[schemars(length(max = 1024))]
    pub path: Option<String>,
    /// Life time.
    #[schemars(length(max = 32))]
    pub ttl: Option<String>,
}

/// A hash ring.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RingHash {
    /// Least number of entries.
    pub minimum_ring_size: Option<u64>,
}

/// A Maglev table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Maglev {
    /// Number of entries.
    pub table_size: Option<u64>,
}

/// Chooses by locality.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LocalitySetting {
    /// Whether it is on.
    pub enabled: Option<bool>,
    /// Shares of localities.
    #[schemars(length(max = 64))]
    pub distribute: Vec<Distribute>,
    /// Where traffic goes when a region fails.
    #[schemars(length(max = 64))]
    pub failover: Vec<Failover>,
    /// Labels by whose equality endpoints are preferred.
    #[schemars(length(max = 64))]
    pub failover_priority: Vec<String>,
}

/// Shares of the traffic of one locality.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Distribute {
    /// Where traffic comes from.
    #[schemars(length(max = 253))]
    pub from: Option<String>,
    /// Percent by locality.
    pub to: BTreeMap<String, u32>,
}

/// Where traffic goes when a region fails.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Failover {
    /// Region that fails.
    #[schemars(length(max = 253))]
    pub from: Option<String>,
    /// Region that takes over.
    #[schemars(length(max = 253))]
    pub to: Option<String>,
}

/// Limits of connections.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ConnectionPool {
    /// Of TCP.
    pub tcp: Option<TcpPool>,
    /// Of HTTP.
    pub http: Option<HttpPool>,
}

/// Limits of TCP connections.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TcpPool {
    /// Most connections.
    #[schemars(range(min = 0))]
    pub max_connections: Option<i64>,
    /// Longest time of a connection attempt, e.g. `5s`.
    #[schemars(length(max = 32))]
    pub connect_timeout: Option<String>,
    /// Keep-alive probes.
    pub tcp_keepalive: Option<Keepalive>,
    /// Longest life of a connection.
    #[schemars(length(max = 32))]
    pub max_connection_duration: Option<String>,
    /// Longest idle time of a connection.
    #[schemars(length(max = 32))]
    pub idle_timeout: Option<String>,
}

/// TCP keep-alive probes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Keepalive {
    /// Most probes without an answer.
    pub probes: Option<u32>,
    /// Idle time before the first probe.
    #[schemars(length(max = 32))]
    pub time: Option<String>,
    /// Time between probes.
    #[schemars(length(max = 32))]
    pub interval: Option<String>,
}

/// Limits of HTTP connections.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpPool {
    /// Most requests that wait for a connection.
    #[schemars(range(min = 0))]
    pub http1_max_pending_requests: Option<i64>,
    /// Most requests at a time.
    #[schemars(range(min = 0))]
    pub http2_max_requests: Option<i64>,
    /// Most requests on one connection.
    #[schemars(range(min = 0))]
    pub max_requests_per_connection: Option<i64>,
    /// Most retries at a time.
    #[schemars(range(min = 0))]
    pub max_retries: Option<i64>,
    /// Longest idle time of a connection.
    #[schemars(length(max = 32))]
    pub idle_timeout: Option<String>,
    /// Whether HTTP/1.1 is upgraded to HTTP/2.
    #[schemars(length(max = 32))]
    pub h2_upgrade_policy: Option<String>,
    /// Whether the client's protocol is kept.
    pub use_client_protocol: Option<bool>,
    /// Most streams on one connection.
    #[schemars(range(min = 0))]
    pub max_concurrent_streams: Option<i64>,
}

/// When an endpoint is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OutlierDetection {
    /// Whether local failures are counted apart.
    pub split_external_local_origin_errors: Option<bool>,
    /// Local failures in a row.
    pub consecutive_local_origin_failures: Option<u32>,
    /// Gateway errors (502, 503, 504) in a row.
    pub consecutive_gateway_errors: Option<u32>,
    /// Errors (5xx) in a row.
    #[serde(rename = "consecutive5xxErrors")]
    pub consecutive_5xx_errors: Option<u32>,
    /// Older form of `consecutive5xxErrors`.
    #[schemars(range(min = 0))]
    pub consecutive_errors: Option<i64>,
    /// Time between looks.
    #[schemars(length(max = 32))]
    pub interval: Option<String>,
    /// Shortest time that an endpoint is left out.
    #[schemars(length(max = 32))]
    pub base_ejection_time: Option<String>,
    /// Most endpoints that are left out, in percent.
    #[schemars(range(min = 0, max = 100))]
    pub max_ejection_percent: Option<u32>,
    /// Share of healthy endpoints below which none is left out, in percent.
    #[schemars(range(min = 0, max = 100))]
    pub min_health_percent: Option<u32>,
    /// An endpoint whose latency is so many percent of the median of all is left out. At least 150.
    #[schemars(range(min = 150, max = 100_000))]
    pub latency_percent: Option<u32>,
}

/// TLS to the endpoints.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientTls {
    /// `ISTIO_MUTUAL` (what the mesh does by itself), `DISABLE`, `SIMPLE` or `MUTUAL`.
    pub mode: Option<TlsMode>,
    /// Path of the client's certificate.
    #[schemars(length(max = 1024))]
    pub client_certificate: Option<String>,
    /// Path of the client's key.
    #[schemars(length(max = 1024))]
    pub private_key: Option<String>,
    /// Path of the roots.
    #[schemars(length(max = 1024))]
    pub ca_certificates: Option<String>,
    /// Path of a revocation list.
    #[schemars(length(max = 1024))]
    pub ca_crl: Option<String>,
    /// Name of a Secret.
    #[schemars(length(max = 253))]
    pub credential_name: Option<String>,
    /// Names that the server may have.
    #[schemars(length(max = 64))]
    pub subject_alt_names: Vec<String>,
    /// Server name that is sent.
    #[schemars(length(max = 253))]
    pub sni: Option<String>,
    /// Whether the server's certificate is not checked.
    pub insecure_skip_verify: Option<bool>,
}

/// Kind of TLS to the endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)] // Istio's own names
pub enum TlsMode {
    Disable,
    Simple,
    Mutual,
    IstioMutual,
}

/// Tunnels TCP through HTTP.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Tunnel {
    /// `CONNECT` or `POST`.
    #[schemars(length(max = 16))]
    pub protocol: Option<String>,
    /// Host at the end of the tunnel.
    #[schemars(length(max = 253))]
    pub target_host: Option<String>,
    /// Port at the end of the tunnel.
    #[schemars(range(min = 1, max = 65535))]
    pub target_port: Option<u32>,
}

/// Sends the PROXY protocol.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyProtocol {
    /// `V1` or `V2`.
    #[schemars(length(max = 8))]
    pub version: Option<String>,
}

/// Limits retries to a share of the requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RetryBudget {
    /// Share of the requests.
    #[schemars(range(min = 0, max = 100))]
    pub percent: Option<f64>,
    /// Retries that are always allowed.
    pub min_retry_concurrency: Option<u32>,
}
