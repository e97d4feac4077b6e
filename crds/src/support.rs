//! Which fields of the API do something today. Every field of the schema is in exactly one of the two tables here, which
//! a test holds to; so no field is ever ignored in silence.

/// What it means that a field is not implemented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// What holds the field is out of force (a match or route that does not apply, a policy rule that fails closed).
    Disables(&'static str),
    /// The rest is in force without it.
    Ignored(&'static str),
}

use Effect::{Disables, Ignored};

const CLOSED: Effect = Disables(
    "the rule fails closed: in an ALLOW policy it never matches, in a DENY policy it matches without this condition",
);
const TABLE: Effect = Ignored("keys are spread without a table, so it has no size");
const ZONES: Effect = Ignored("endpoints of the client's zone come first, then those of its region, then all others");
const UPGRADE: Effect = Ignored("proxies choose the protocol between them; an application gets what its port declares");
const CRL: Effect = Ignored("revocation lists are not looked at");
const SECRET: Effect =
    Ignored("certificates are read from files in the pod: use caCertificates, clientCertificate and privateKey");
const DEFAULT_POLICY: Effect = Ignored("connections are made without it");

/// `(kind, path with [] for indexes and {} for keys, effect)`; holds for everything below the path too.
pub const NOT_IMPLEMENTED: &[(&str, &str, Effect)] = &[
    ("VirtualService", "spec.tcp[].route[].headers", Ignored("TCP has no headers")),
    ("VirtualService", "spec.tls[].route[].headers", Ignored("TLS has no headers")),
    (
        "VirtualService",
        "spec.http[].retries.retryRemoteLocalities",
        Ignored("a retry goes wherever the balancing sends it"),
    ),
    ("VirtualService", "spec.http[].match[].statPrefix", Ignored("metrics keep their names")),
    ("DestinationRule", "spec.trafficPolicy.loadBalancer.consistentHash.ringHash", TABLE),
    ("DestinationRule", "spec.trafficPolicy.loadBalancer.consistentHash.maglev", TABLE),
    ("DestinationRule", "spec.trafficPolicy.loadBalancer.consistentHash.minimumRingSize", TABLE),
    ("DestinationRule", "spec.trafficPolicy.loadBalancer.localityLbSetting.distribute", ZONES),
    ("DestinationRule", "spec.trafficPolicy.loadBalancer.localityLbSetting.failoverPriority", ZONES),
    ("DestinationRule", "spec.trafficPolicy.connectionPool.http.h2UpgradePolicy", UPGRADE),
    ("DestinationRule", "spec.trafficPolicy.connectionPool.http.useClientProtocol", UPGRADE),
    ("DestinationRule", "spec.trafficPolicy.tls.caCrl", CRL),
    ("DestinationRule", "spec.trafficPolicy.tls.credentialName", SECRET),
    ("DestinationRule", "spec.trafficPolicy.portLevelSettings[].loadBalancer.consistentHash.ringHash", TABLE),
    ("DestinationRule", "spec.trafficPolicy.portLevelSettings[].loadBalancer.consistentHash.maglev", TABLE),
    ("DestinationRule", "spec.trafficPolicy.portLevelSettings[].loadBalancer.consistentHash.minimumRingSize", TABLE),
    ("DestinationRule", "spec.trafficPolicy.portLevelSettings[].loadBalancer.localityLbSetting.distribute", ZONES),
    (
        "DestinationRule",
        "spec.trafficPolicy.portLevelSettings[].loadBalancer.localityLbSetting.failoverPriority",
        ZONES,
    ),
    ("DestinationRule", "spec.trafficPolicy.portLevelSettings[].connectionPool.http.h2UpgradePolicy", UPGRADE),
    ("DestinationRule", "spec.trafficPolicy.portLevelSettings[].connectionPool.http.useClientProtocol", UPGRADE),
    ("DestinationRule", "spec.trafficPolicy.portLevelSettings[].tls.caCrl", CRL),
    ("DestinationRule", "spec.trafficPolicy.portLevelSettings[].tls.credentialName", SECRET),
    ("DestinationRule", "spec.trafficPolicy.tunnel", DEFAULT_POLICY),
    ("DestinationRule", "spec.trafficPolicy.proxyProtocol", DEFAULT_POLICY),
    ("ServiceEntry", "spec.workloadSelector", Ignored("pods are not endpoints of it; use a Service")),
    ("ServiceEntry", "spec.endpoints[].labels", Ignored("subsets of a ServiceEntry have no members")),
    ("ServiceEntry", "spec.endpoints[].network", Ignored("the endpoint is reached directly")),
    ("ServiceEntry", "spec.endpoints[].weight", Ignored("endpoints are chosen by load")),
    ("ServiceEntry", "spec.endpoints[].serviceAccount", Ignored("only a Pod of this namespace lends an identity")),
    ("AuthorizationPolicy", "spec.targetRef", Disables("the policy fails closed for its whole namespace")),
    ("AuthorizationPolicy", "spec.targetRefs", Disables("the policy fails closed for its whole namespace")),
    ("AuthorizationPolicy", "spec.provider", Disables("nobody is asked: what the rules match is denied")),
    ("AuthorizationPolicy", "spec.rules[].when", CLOSED),
    ("AuthorizationPolicy", "spec.rules[].from[].source.requestPrincipals", CLOSED),
    ("AuthorizationPolicy", "spec.rules[].from[].source.notRequestPrincipals", CLOSED),
    ("AuthorizationPolicy", "spec.rules[].from[].source.ipBlocks", CLOSED),
    ("AuthorizationPolicy", "spec.rules[].from[].source.notIpBlocks", CLOSED),
    ("AuthorizationPolicy", "spec.rules[].from[].source.remoteIpBlocks", CLOSED),
    ("AuthorizationPolicy", "spec.rules[].from[].source.notRemoteIpBlocks", CLOSED),
];

/// `(kind, path)` of every field that does something, down to its leaves.
pub const IMPLEMENTED: &[(&str, &str)] = &[
    ("VirtualService", "spec.hosts[]"),
    ("VirtualService", "spec.gateways[]"),
    ("VirtualService", "spec.exportTo[]"),
    ("VirtualService", "spec.http[].name"),
    ("VirtualService", "spec.http[].timeout"),
    ("VirtualService", "spec.http[].split.key.header"),
    ("VirtualService", "spec.http[].split.key.cookie"),
    ("VirtualService", "spec.http[].split.key.sourceIdentity"),
    ("VirtualService", "spec.http[].match[].name"),
    ("VirtualService", "spec.http[].match[].port"),
    ("VirtualService", "spec.http[].match[].gateways[]"),
    ("VirtualService", "spec.http[].match[].sourceNamespace"),
    ("VirtualService", "spec.http[].match[].sourceLabels{}"),
    ("VirtualService", "spec.http[].match[].uri"),
    ("VirtualService", "spec.http[].match[].method"),
    ("VirtualService", "spec.http[].match[].authority"),
    ("VirtualService", "spec.http[].match[].headers{}"),
    ("VirtualService", "spec.http[].match[].queryParams{}"),
    ("VirtualService", "spec.http[].route[].weight"),
    ("VirtualService", "spec.http[].route[].destination"),
    ("VirtualService", "spec.http[].split.propagate.header"),
    ("VirtualService", "spec.http[].match[].scheme"),
    ("VirtualService", "spec.http[].match[].withoutHeaders{}"),
    ("VirtualService", "spec.http[].match[].ignoreUriCase"),
    ("VirtualService", "spec.http[].match[].sourceServiceAccount"),
    ("VirtualService", "spec.http[].redirect"),
    ("VirtualService", "spec.http[].directResponse"),
    ("VirtualService", "spec.http[].delegate"),
    ("VirtualService", "spec.http[].rewrite"),
    ("VirtualService", "spec.http[].retries.attempts"),
    ("VirtualService", "spec.http[].retries.perTryTimeout"),
    ("VirtualService", "spec.http[].retries.retryOn"),
    ("VirtualService", "spec.http[].retries.retryIgnorePreviousHosts"),
    ("VirtualService", "spec.http[].retries.backoff"),
    ("VirtualService", "spec.http[].fault"),
    ("VirtualService", "spec.http[].mirror"),
    ("VirtualService", "spec.http[].mirrorPercent"),
    ("VirtualService", "spec.http[].mirrorPercentage"),
    ("VirtualService", "spec.http[].mirrors[]"),
    ("VirtualService", "spec.http[].corsPolicy"),
    ("VirtualService", "spec.http[].headers"),
    ("VirtualService", "spec.http[].route[].headers"),
    ("VirtualService", "spec.tcp[].match[].destinationSubnets[]"),
    ("VirtualService", "spec.tcp[].match[].sourceSubnet"),
    ("VirtualService", "spec.tls[].match[]"),
    ("VirtualService", "spec.tls[].route[].weight"),
    ("VirtualService", "spec.tls[].route[].destination"),
    ("VirtualService", "spec.tcp[].match[].port"),
    ("VirtualService", "spec.tcp[].match[].gateways[]"),
    ("VirtualService", "spec.tcp[].match[].sourceNamespace"),
    ("VirtualService", "spec.tcp[].match[].sourceLabels{}"),
    ("VirtualService", "spec.tcp[].route[].weight"),
    ("VirtualService", "spec.tcp[].route[].destination"),
    ("DestinationRule", "spec.host"),
    ("DestinationRule", "spec.exportTo[]"),
    ("DestinationRule", "spec.subsets[].name"),
    ("DestinationRule", "spec.subsets[].labels{}"),
    ("DestinationRule", "spec.workloadSelector.matchLabels{}"),
    ("DestinationRule", "spec.trafficPolicy.loadBalancer.simple"),
    ("DestinationRule", "spec.trafficPolicy.loadBalancer.consistentHash.httpHeaderName"),
    ("DestinationRule", "spec.trafficPolicy.loadBalancer.consistentHash.httpCookie"),
    ("DestinationRule", "spec.trafficPolicy.loadBalancer.consistentHash.useSourceIp"),
    ("DestinationRule", "spec.trafficPolicy.loadBalancer.consistentHash.useSourceIdentity"),
    ("DestinationRule", "spec.trafficPolicy.loadBalancer.consistentHash.httpQueryParameterName"),
    ("DestinationRule", "spec.trafficPolicy.loadBalancer.localityLbSetting.enabled"),
    ("DestinationRule", "spec.trafficPolicy.loadBalancer.localityLbSetting.failover[].from"),
    ("DestinationRule", "spec.trafficPolicy.loadBalancer.localityLbSetting.failover[].to"),
    ("DestinationRule", "spec.trafficPolicy.loadBalancer.warmupDurationSecs"),
    ("DestinationRule", "spec.trafficPolicy.loadBalancer.warmup"),
    ("DestinationRule", "spec.trafficPolicy.connectionPool.tcp"),
    ("DestinationRule", "spec.trafficPolicy.connectionPool.http.http1MaxPendingRequests"),
    ("DestinationRule", "spec.trafficPolicy.connectionPool.http.http2MaxRequests"),
    ("DestinationRule", "spec.trafficPolicy.connectionPool.http.maxRequestsPerConnection"),
    ("DestinationRule", "spec.trafficPolicy.connectionPool.http.maxRetries"),
    ("DestinationRule", "spec.trafficPolicy.connectionPool.http.idleTimeout"),
    ("DestinationRule", "spec.trafficPolicy.connectionPool.http.maxConcurrentStreams"),
    ("DestinationRule", "spec.trafficPolicy.outlierDetection"),
    ("DestinationRule", "spec.trafficPolicy.tls.mode"),
    ("DestinationRule", "spec.trafficPolicy.tls.clientCertificate"),
    ("DestinationRule", "spec.trafficPolicy.tls.privateKey"),
    ("DestinationRule", "spec.trafficPolicy.tls.caCertificates"),
    ("DestinationRule", "spec.trafficPolicy.tls.subjectAltNames[]"),
    ("DestinationRule", "spec.trafficPolicy.tls.sni"),
    ("DestinationRule", "spec.trafficPolicy.tls.insecureSkipVerify"),
    ("DestinationRule", "spec.trafficPolicy.portLevelSettings[].loadBalancer.simple"),
    ("DestinationRule", "spec.trafficPolicy.portLevelSettings[].loadBalancer.consistentHash.httpHeaderName"),
    ("DestinationRule", "spec.trafficPolicy.portLevelSettings[].loadBalancer.consistentHash.httpCookie"),
    ("DestinationRule", "spec.trafficPolicy.portLevelSettings[].loadBalancer.consistentHash.useSourceIp"),
    ("DestinationRule", "spec.trafficPolicy.portLevelSettings[].loadBalancer.consistentHash.useSourceIdentity"),
    ("DestinationRule", "spec.trafficPolicy.portLevelSettings[].loadBalancer.consistentHash.httpQueryParameterName"),
    ("DestinationRule", "spec.trafficPolicy.portLevelSettings[].loadBalancer.localityLbSetting.enabled"),
    ("DestinationRule", "spec.trafficPolicy.portLevelSettings[].loadBalancer.localityLbSetting.failover[].from"),
    ("DestinationRule", "spec.trafficPolicy.portLevelSettings[].loadBalancer.localityLbSetting.failover[].to"),
    ("DestinationRule", "spec.trafficPolicy.portLevelSettings[].loadBalancer.warmupDurationSecs"),
    ("DestinationRule", "spec.trafficPolicy.portLevelSettings[].loadBalancer.warmup"),
    ("DestinationRule", "spec.trafficPolicy.portLevelSettings[].connectionPool.tcp"),
    ("DestinationRule", "spec.trafficPolicy.portLevelSettings[].connectionPool.http.http1MaxPendingRequests"),
    ("DestinationRule", "spec.trafficPolicy.portLevelSettings[].connectionPool.http.http2MaxRequests"),
    ("DestinationRule", "spec.trafficPolicy.portLevelSettings[].connectionPool.http.maxRequestsPerConnection"),
    ("DestinationRule", "spec.trafficPolicy.portLevelSettings[].connectionPool.http.maxRetries"),
    ("DestinationRule", "spec.trafficPolicy.portLevelSettings[].connectionPool.http.idleTimeout"),
    ("DestinationRule", "spec.trafficPolicy.portLevelSettings[].connectionPool.http.maxConcurrentStreams"),
    ("DestinationRule", "spec.trafficPolicy.portLevelSettings[].outlierDetection"),
    ("DestinationRule", "spec.trafficPolicy.portLevelSettings[].tls.mode"),
    ("DestinationRule", "spec.trafficPolicy.portLevelSettings[].tls.clientCertificate"),
    ("DestinationRule", "spec.trafficPolicy.portLevelSettings[].tls.privateKey"),
    ("DestinationRule", "spec.trafficPolicy.portLevelSettings[].tls.caCertificates"),
    ("DestinationRule", "spec.trafficPolicy.portLevelSettings[].tls.subjectAltNames[]"),
    ("DestinationRule", "spec.trafficPolicy.portLevelSettings[].tls.sni"),
    ("DestinationRule", "spec.trafficPolicy.portLevelSettings[].tls.insecureSkipVerify"),
    ("DestinationRule", "spec.trafficPolicy.portLevelSettings[].port.number"),
    ("DestinationRule", "spec.trafficPolicy.retryBudget"),
    ("AuthorizationPolicy", "spec.selector.matchLabels{}"),
    ("AuthorizationPolicy", "spec.action"),
    ("AuthorizationPolicy", "spec.rules[].from[].source.principals[]"),
    ("AuthorizationPolicy", "spec.rules[].from[].source.notPrincipals[]"),
    ("AuthorizationPolicy", "spec.rules[].from[].source.serviceAccounts[]"),
    ("AuthorizationPolicy", "spec.rules[].from[].source.notServiceAccounts[]"),
    ("AuthorizationPolicy", "spec.rules[].from[].source.namespaces[]"),
    ("AuthorizationPolicy", "spec.rules[].from[].source.notNamespaces[]"),
    ("AuthorizationPolicy", "spec.rules[].to[].operation"),
    ("PeerAuthentication", "spec.selector.matchLabels{}"),
    ("PeerAuthentication", "spec.mtls.mode"),
    ("PeerAuthentication", "spec.portLevelMtls{}.mode"),
    ("ServiceEntry", "spec.hosts[]"),
    ("ServiceEntry", "spec.addresses[]"),
    ("ServiceEntry", "spec.ports[]"),
    ("ServiceEntry", "spec.location"),
    ("ServiceEntry", "spec.resolution"),
    ("ServiceEntry", "spec.endpoints[].address"),
    ("ServiceEntry", "spec.endpoints[].ports{}"),
    ("ServiceEntry", "spec.endpoints[].locality"),
    ("ServiceEntry", "spec.exportTo[]"),
    ("ServiceEntry", "spec.subjectAltNames[]"),
    ("RateLimitPolicy", "spec.selector.matchLabels{}"),
    ("RateLimitPolicy", "spec.rules[].name"),
    ("RateLimitPolicy", "spec.rules[].match[].uri"),
    ("RateLimitPolicy", "spec.rules[].match[].method"),
    ("RateLimitPolicy", "spec.rules[].match[].authority"),
    ("RateLimitPolicy", "spec.rules[].match[].headers{}"),
    ("RateLimitPolicy", "spec.rules[].match[].withoutHeaders{}"),
    ("RateLimitPolicy", "spec.rules[].match[].queryParams{}"),
    ("RateLimitPolicy", "spec.rules[].match[].ignoreUriCase"),
    ("RateLimitPolicy", "spec.rules[].ports[]"),
    ("RateLimitPolicy", "spec.rules[].requests"),
    ("RateLimitPolicy", "spec.rules[].per"),
    ("RateLimitPolicy", "spec.rules[].burst"),
    ("RateLimitPolicy", "spec.rules[].key.header"),
    ("RateLimitPolicy", "spec.rules[].key.sourceIdentity"),
];

/// `(kind, path, what of it does not work)`, for the table of all fields: values of a field that are refused by name.
pub const PARTLY: &[(&str, &str, &str)] = &[
    ("VirtualService", "spec.gateways[]", "without `mesh` the resource is passed over: note `gateway_only`"),
    ("VirtualService", "spec.http[].delegate.name", "one level deep, as in Istio: else error `unknown_delegate`"),
    ("VirtualService", "spec.http[].match[].ignoreUriCase", "beside a regex: warning `ignored_case`"),
    ("VirtualService", "spec.http[].redirect.redirectCode", "301, 302, 303, 307 or 308: else error `unknown_value`"),
    ("VirtualService", "spec.http[].redirect.derivePort", "`FROM_REQUEST_PORT` beside `scheme`: error `unknown_value`"),
    ("VirtualService", "spec.http[].retries.attempts", "above 10: 10, warning `too_many_retries`"),
    ("VirtualService", "spec.http[].retries.retryIgnorePreviousHosts", "`false`: warning `no_effect`"),
    ("VirtualService", "spec.http[].retries.retryOn", "an unknown word: error `unknown_condition`, the others hold"),
    ("VirtualService", "spec.http[].fault.delay.percentage.value", "not set: nobody, warning `no_effect`"),
    ("VirtualService", "spec.http[].fault.abort.percentage.value", "not set: nobody, warning `no_effect`"),
    ("VirtualService", "spec.http[].headers.request.set{}", "framing headers: error `unsupported_header`"),
    ("VirtualService", "spec.http[].headers.request.add{}", "framing headers: error `unsupported_header`"),
    ("VirtualService", "spec.http[].headers.request.remove[]", "framing headers: error `unsupported_header`"),
    ("VirtualService", "spec.http[].headers.response.set{}", "framing headers: error `unsupported_header`"),
    ("VirtualService", "spec.http[].headers.response.add{}", "framing headers: error `unsupported_header`"),
    ("VirtualService", "spec.http[].headers.response.remove[]", "framing headers: error `unsupported_header`"),
    (
        "VirtualService",
        "spec.http[].route[].headers.request.set{}",
        "`host` among several destinations: error `unsupported_header`",
    ),
    (
        "DestinationRule",
        "spec.trafficPolicy.loadBalancer.simple",
        "`PASSTHROUGH`: error `unknown_value`, the default is used",
    ),
    (
        "DestinationRule",
        "spec.trafficPolicy.portLevelSettings[].loadBalancer.simple",
        "`PASSTHROUGH`: error `unknown_value`, the default is used",
    ),
    ("DestinationRule", "spec.workloadSelector.matchLabels{}", "subsets beside it: error `selected_subsets`"),
    ("HTTPRoute", "spec.hostnames[]", "no meaning in a mesh: warning `ignored_hostnames`"),
    ("GRPCRoute", "spec.hostnames[]", "no meaning in a mesh: warning `ignored_hostnames`"),
];

/// `(kind, path)` of fields that Istio's or the Gateway API's own schemas have and ours do not, with everything below: each
/// is an error, `unknown_field`. A test walks their schemas and finds no other.
pub const ELSEWHERE: &[(&str, &str)] = &[
    ("AuthorizationPolicy", "spec.rules[].from[].source.notTrustDomains"),
    ("AuthorizationPolicy", "spec.rules[].from[].source.trustDomains"),
    ("DestinationRule", "spec.trafficPolicy.connectionPool.http.http2KeepAlive"),
    ("DestinationRule", "spec.trafficPolicy.loadBalancer.consistentHash.httpCookie.attributes"),
    ("DestinationRule", "spec.trafficPolicy.loadBalancer.zoneAwareLbSetting"),
    ("DestinationRule", "spec.trafficPolicy.outlierDetection.outlierDetectionHttpErrorCodes"),
    ("DestinationRule", "spec.trafficPolicy.portLevelSettings[].connectionPool.http.http2KeepAlive"),
    ("DestinationRule", "spec.trafficPolicy.portLevelSettings[].loadBalancer.consistentHash.httpCookie.attributes"),
    ("DestinationRule", "spec.trafficPolicy.portLevelSettings[].loadBalancer.zoneAwareLbSetting"),
    ("DestinationRule", "spec.trafficPolicy.portLevelSettings[].outlierDetection.outlierDetectionHttpErrorCodes"),
    ("DestinationRule", "spec.trafficPolicy.retryBudget.budgetInterval"),
    ("VirtualService", "spec.http[].fault.abort.http2Error"),
    ("VirtualService", "spec.http[].fault.delay.exponentialDelay"),
    ("VirtualService", "spec.http[].mirror_percent"),
    ("VirtualService", "spec.http[].redirect.prefixRewrite"),
];

/// What it means that the field at `pattern` is set, when it is not implemented.
///
/// The traffic policy of a subset has the same fields as that of the rule, so its paths are read as those.
pub fn effect(kind: &str, pattern: &str) -> Option<&'static Effect> {
    let pattern = rooted(pattern);
    let mut all = NOT_IMPLEMENTED.iter().chain(crate::gateway::support::NOT_IMPLEMENTED);
    all.find(|(k, p, _)| *k == kind && *p == pattern).map(|(_, _, effect)| effect)
}

/// Whether the table of all fields says something of a field of another schema than ours, given the leaves of ours.
pub fn is_told(kind: &str, path: &str, ours: &[String]) -> bool {
    let path = rooted(path);
    let holds =
        |whole: &str| path.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[', '{']));
    ours.iter().any(|own| rooted(own) == path)
        || ELSEWHERE.iter().any(|(k, p)| *k == kind && holds(p))
        || path.match_indices(['.', '[', '{']).any(|(end, _)| effect(kind, &path[..end]).is_some())
}

/// The path under `spec` of a field that a subset repeats.
pub fn rooted(pattern: &str) -> String {
    pattern.replacen("spec.subsets[].trafficPolicy", "spec.trafficPolicy", 1)
}
