//! What happens to a request or response on its way: filters of HTTPRoute and GRPCRoute.

use super::BackendObjectReference;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One filter of an HTTPRoute. The field named by `type` is set, and no other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["type"]))]
pub struct HTTPFilter {
    /// Which of the fields below is set, with a capital first letter.
    #[serde(rename = "type")]
    pub kind: String,
    /// Changes to the request's headers.
    pub request_header_modifier: Option<HeaderFilter>,
    /// Changes to the response's headers.
    pub response_header_modifier: Option<HeaderFilter>,
    /// A copy of requests goes elsewhere too.
    pub request_mirror: Option<MirrorFilter>,
    /// The answer is a redirect.
    pub request_redirect: Option<RedirectFilter>,
    /// Changes to the request's path and host.
    #[serde(rename = "urlRewrite")]
    pub url_rewrite: Option<RewriteFilter>,
    /// Cross-origin requests are answered.
    pub cors: Option<CorsFilter>,
    /// Somebody else decides about the request.
    pub external_auth: Option<ExternalAuth>,
    /// A filter of somebody else.
    pub extension_ref: Option<ExtensionRef>,
}

/// One filter of a GRPCRoute. The field named by `type` is set, and no other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["type"]))]
pub struct GRPCFilter {
    /// Which of the fields below is set, with a capital first letter.
    #[serde(rename = "type")]
    pub kind: String,
    /// Changes to the request's headers.
    pub request_header_modifier: Option<HeaderFilter>,
    /// Changes to the response's headers.
    pub response_header_modifier: Option<HeaderFilter>,
    /// A copy of requests goes elsewhere too.
    pub request_mirror: Option<MirrorFilter>,
    /// A filter of somebody else.
    pub extension_ref: Option<ExtensionRef>,
}

impl From<GRPCFilter> for HTTPFilter {
    fn from(from: GRPCFilter) -> Self {
        let GRPCFilter { kind, request_header_modifier, response_header_modifier, request_mirror, extension_ref } =
            from;
        Self {
            kind,
            request_header_modifier,
            response_header_modifier,
            request_mirror,
            extension_ref,
            ..Self::default()
        }
    }
}

/// Who else decides; nobody is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ExternalAuth {
    /// `HTTP` or `GRPC`
    pub protocol: String,
}

/// A filter of somebody else, by its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ExtensionRef {
    /// API group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Name, in the namespace of the route.
    pub name: String,
}

/// Changes to headers. One name may stand in it only once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HeaderFilter {
    /// Replaces headers.
    #[schemars(length(max = 16))]
    pub set: Vec<Header>,
    /// Adds values.
    #[schemars(length(max = 16))]
    pub add: Vec<Header>,
    /// Removes headers.
    #[schemars(length(max = 16))]
    pub remove: Vec<String>,
}

/// Name and value of a header.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["name", "value"]))]
pub struct Header {
    /// Its name, in any case.
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
    /// Its value.
    #[schemars(length(min = 1, max = 4096))]
    pub value: String,
}

/// Where a copy of requests goes, and of how many.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["backendRef"]))]
pub struct MirrorFilter {
    /// Where the copy goes. Its answer is dropped.
    pub backend_ref: BackendObjectReference,
    /// Percentage of requests; without `fraction` and this, all of them.
    #[schemars(range(min = 0, max = 100))]
    pub percent: Option<u32>,
    /// The same as a fraction.
    pub fraction: Option<Fraction>,
}

/// A share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["numerator"]))]
pub struct Fraction {
    /// So many,
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub numerator: u32,
    /// of so many; absent: 100.
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub denominator: Option<u32>,
}

/// A redirect. What is absent is as in the request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RedirectFilter {
    /// `http` or `https`
    pub scheme: Option<String>,
    /// Host of the new address.
    #[schemars(length(max = 253))]
    pub hostname: Option<String>,
    /// Path of the new address.
    pub path: Option<PathModifier>,
    /// Port of the new address. Absent: that of the scheme where one is set.
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u32>,
    /// 301, 302, 303, 307 or 308; absent: 302.
    pub status_code: Option<u32>,
}

/// A request is forwarded under another path or host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RewriteFilter {
    /// The new host.
    #[schemars(length(max = 253))]
    pub hostname: Option<String>,
    /// The new path.
    pub path: Option<PathModifier>,
}

/// Another path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["type"]))]
pub struct PathModifier {
    /// `ReplaceFullPath` or `ReplacePrefixMatch`
    #[serde(rename = "type")]
    pub kind: String,
    /// The whole new path.
    pub replace_full_path: Option<String>,
    /// What stands instead of the prefix that the rule's one match names.
    pub replace_prefix_match: Option<String>,
}

/// Who may use answers in another site's page.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CorsFilter {
    /// `scheme://host:port`, where a `*` at the left of the host stands for any labels; `*` alone is everybody.
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    pub allow_origins: Vec<String>,
    /// Whether requests may carry credentials.
    pub allow_credentials: Option<bool>,
    /// Methods, or `*`.
    #[schemars(length(max = 64))]
    pub allow_methods: Vec<String>,
    /// Headers of requests, or `*`.
    #[schemars(length(max = 64))]
    pub allow_headers: Vec<String>,
    /// Headers of responses that scripts may see, or `*`.
    #[schemars(length(max = 64))]
    pub expose_headers: Vec<String>,
    /// Seconds that a browser remembers it; absent: 5.
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub max_age: Option<u32>,
}
