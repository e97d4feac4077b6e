//! The HTTP routes of a VirtualService.

use crate::common::{Destination, Headers, Percent, StringMatch};
use crate::virtual_service::RouteDestination;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One HTTP route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "(has(self.route) ? 1 : 0) + (has(self.redirect) ? 1 : 0) + (has(self.directResponse) ? 1 : 0) + (has(self.delegate) ? 1 : 0) <= 1",
    "message": "at most one of route, redirect, directResponse and delegate may be set"
}]))]
pub struct HttpRoute {
    /// Name for logs and for tools that edit single routes.
    #[schemars(length(max = 253))]
    pub name: Option<String>,
    /// Any of these must match. None: every request.
    #[serde(rename = "match")]
    #[schemars(length(max = 64))]
    pub matches: Vec<HttpMatch>,
    /// Where the requests go, and in which shares.
    #[schemars(length(max = 32))]
    pub route: Vec<RouteDestination>,
    /// How the share of a request is chosen. Not set: at random.
    pub split: Option<SplitPolicy>,
    /// Answers with a redirect.
    pub redirect: Option<Redirect>,
    /// Answers with a fixed response.
    pub direct_response: Option<DirectResponse>,
    /// Continues in another VirtualService.
    pub delegate: Option<Delegate>,
    /// Changes the path or the authority before forwarding.
    pub rewrite: Option<Rewrite>,
    /// Longest time from the request to the head of its response, e.g. `5s`. `0s`: none.
    #[schemars(length(max = 32))]
    pub timeout: Option<String>,
    /// Retries of failed requests.
    pub retries: Option<Retries>,
    /// Faults that are injected on purpose.
    pub fault: Option<Fault>,
    /// Sends a copy of each request there.
    pub mirror: Option<Destination>,
    /// Share that is mirrored, in whole percent (older name of `mirrorPercentage`).
    #[schemars(range(min = 0, max = 100))]
    pub mirror_percent: Option<u32>,
    /// Share that is mirrored.
    pub mirror_percentage: Option<Percent>,
    /// Sends copies to several destinations.
    #[schemars(length(max = 16))]
    pub mirrors: Vec<Mirror>,
    /// Cross-origin resource sharing.
    pub cors_policy: Option<CorsPolicy>,
    /// Changes to headers.
    pub headers: Option<Headers>,
}

/// Conditions on a request. All that are set must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpMatch {
    /// Name for logs.
    #[schemars(length(max = 253))]
    pub name: Option<String>,
    /// The path without the query.
    pub uri: Option<StringMatch>,
    /// `http` or `https`.
    pub scheme: Option<StringMatch>,
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
    /// Port that the client asked for.
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u32>,
    /// Labels of the client's pod.
    pub source_labels: BTreeMap<String, String>,
    /// Namespace of the client.
    #[schemars(length(max = 63))]
    pub source_namespace: Option<String>,
    /// ServiceAccount of the client as `<namespace>/<account>`; `<account>` alone is of this resource's namespace.
    #[schemars(length(max = 320))]
    pub source_service_account: Option<String>,
    /// Gateways that apply this match. None, or `mesh`: the proxies beside the workloads.
    #[schemars(length(max = 64))]
    pub gateways: Vec<String>,
    /// Prefix of metric names.
    #[schemars(length(max = 253))]
    pub stat_prefix: Option<String>,
}

/// How the share of a request is chosen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SplitPolicy {
    /// What makes the choice stick: equal keys go to the same destination, and a raised weight moves no key back.
    pub key: Option<SplitKey>,
    /// Lets the choice follow a chain of calls.
    pub propagate: Option<Propagate>,
}

/// A header that carries the chosen version along a chain of calls. A request that has it goes to the destination of that
/// version, where the route has one; every other request gets it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["header"]))]
pub struct Propagate {
    /// Its name. Applications pass it on with the requests that they make.
    #[schemars(length(min = 1, max = 256))]
    pub header: String,
}

/// Where the key of a sticky split comes from. Exactly one of the fields is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "(has(self.header) ? 1 : 0) + (has(self.cookie) ? 1 : 0) + (has(self.sourceIdentity) ? 1 : 0) == 1",
    "message": "exactly one of header, cookie and sourceIdentity must be set"
}]))]
pub struct SplitKey {
    /// The value of this request header.
    #[schemars(length(min = 1, max = 256))]
    pub header: Option<String>,
    /// The value of this cookie.
    #[schemars(length(min = 1, max = 256))]
    pub cookie: Option<String>,
    /// The identity of the calling workload.
    pub source_identity: Option<bool>,
}

/// A redirect response.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.port) || !has(self.derivePort)",
    "message": "at most one of port and derivePort may be set"
}]))]
pub struct Redirect {
    /// New path.
    #[schemars(length(max = 1024))]
    pub uri: Option<String>,
    /// New authority.
    #[schemars(length(max = 253))]
    pub authority: Option<String>,
    /// New port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u32>,
    /// `FROM_PROTOCOL_DEFAULT` or `FROM_REQUEST_PORT`.
    #[schemars(length(max = 32))]
    pub derive_port: Option<String>,
    /// New scheme.
    #[schemars(length(max = 16))]
    pub scheme: Option<String>,
    /// Status code.
    #[schemars(range(min = 300, max = 399))]
    pub redirect_code: Option<u32>,
}

/// A fixed response.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DirectResponse {
    /// Status code.
    #[schemars(range(min = 200, max = 599))]
    pub status: Option<u32>,
    /// Body.
    pub body: Option<Body>,
}

/// Body of a fixed response.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.string) || !has(self.bytes)",
    "message": "at most one of string and bytes may be set"
}]))]
pub struct Body {
    /// As text.
    #[schemars(length(max = 65536))]
    pub string: Option<String>,
    /// As base64.
    #[schemars(length(max = 65536))]
    pub bytes: Option<String>,
}

/// Another VirtualService.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Delegate {
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: Option<String>,
    /// Its namespace. Not set: the same.
    #[schemars(length(max = 63))]
    pub namespace: Option<String>,
}

/// Changes the request's target.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.uri) || !has(self.uriRegexRewrite)",
    "message": "at most one of uri and uriRegexRewrite may be set"
}]))]
pub struct Rewrite {
    /// Replaces the path, or the prefix that matched.
    #[schemars(length(max = 1024))]
    pub uri: Option<String>,
    /// Replaces the authority.
    #[schemars(length(max = 253))]
    pub authority: Option<String>,
    /// Replaces by regular expression.
    pub uri_regex_rewrite: Option<RegexRewrite>,
}

/// Replaces what a regular expression matches.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RegexRewrite {
    /// RE2 regular expression.
    #[serde(rename = "match")]
    #[schemars(length(max = 1024))]
    pub pattern: Option<String>,
    /// Replacement.
    #[schemars(length(max = 1024))]
    pub rewrite: Option<String>,
}

/// Retries of failed requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Retries {
    /// How many, besides the first try.
    #[schemars(range(min = 0, max = 100))]
    pub attempts: Option<u32>,
    /// Longest time of one try.
    #[schemars(length(max = 32))]
    pub per_try_timeout: Option<String>,
    /// What is retried, e.g. `5xx,connect-failure`.
    #[schemars(length(max = 1024))]
    pub retry_on: Option<String>,
    /// Whether endpoints of other localities are tried.
    pub retry_remote_localities: Option<bool>,
    /// Whether endpoints that were tried are left out.
    pub retry_ignore_previous_hosts: Option<bool>,
    /// Shortest time between tries.
    #[schemars(length(max = 32))]
    pub backoff: Option<String>,
}

/// Faults that are injected on purpose.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Fault {
    /// Delays requests.
    pub delay: Option<Delay>,
    /// Answers with an error.
    pub abort: Option<Abort>,
}

/// Delays a share of the requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Delay {
    /// How long.
    #[schemars(length(max = 32))]
    pub fixed_delay: Option<String>,
    /// Share in whole percent (older name of `percentage`).
    #[schemars(range(min = 0, max = 100))]
    pub percent: Option<u32>,
    /// Share of the requests.
    pub percentage: Option<Percent>,
}

/// Answers a share of the requests with an error.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.httpStatus) != has(self.grpcStatus)",
    "message": "exactly one of httpStatus and grpcStatus must be set"
}]))]
pub struct Abort {
    /// HTTP status code.
    #[schemars(range(min = 200, max = 599))]
    pub http_status: Option<u32>,
    /// gRPC status name.
    #[schemars(length(max = 64))]
    pub grpc_status: Option<String>,
    /// Share of the requests.
    pub percentage: Option<Percent>,
}

/// A destination for copies of requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Mirror {
    /// Where the copies go.
    pub destination: Destination,
    /// Share of the requests.
    pub percentage: Option<Percent>,
}

/// Cross-origin resource sharing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CorsPolicy {
    /// Origins that may call (older form of `allowOrigins`).
    #[schemars(length(max = 64))]
    pub allow_origin: Vec<String>,
    /// Origins that may call.
    #[schemars(length(max = 64))]
    pub allow_origins: Vec<StringMatch>,
    /// Methods that may be used.
    #[schemars(length(max = 64))]
    pub allow_methods: Vec<String>,
    /// Headers that may be sent.
    #[schemars(length(max = 64))]
    pub allow_headers: Vec<String>,
    /// Headers that may be read.
    #[schemars(length(max = 64))]
    pub expose_headers: Vec<String>,
    /// How long a preflight holds.
    #[schemars(length(max = 32))]
    pub max_age: Option<String>,
    /// Whether credentials may be sent.
    pub allow_credentials: Option<bool>,
    /// `FORWARD` or `IGNORE`.
    #[schemars(length(max = 16))]
    pub unmatched_preflights: Option<String>,
}
