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
    ("DestinationRule", "spec.workloadSelector", Disables("the rule holds for no client")),
    ("DestinationRule", "spec.trafficPolicy.loadBalancer", DEFAULT_POLICY),
    ("DestinationRule", "spec.trafficPolicy.connectionPool.http", DEFAULT_POLICY),
    ("DestinationRule", "spec.trafficPolicy.connectionPool.tcp.maxConnections", DEFAULT_POLICY),
    ("DestinationRule", "spec.trafficPolicy.connectionPool.tcp.tcpKeepalive", DEFAULT_POLICY),
    ("DestinationRule", "spec.trafficPolicy.connectionPool.tcp.maxConnectionDuration", DEFAULT_POLICY),
    ("DestinationRule", "spec.trafficPolicy.connectionPool.tcp.idleTimeout", DEFAULT_POLICY),
    ("DestinationRule", "spec.trafficPolicy.outlierDetection", DEFAULT_POLICY),
    ("DestinationRule", "spec.trafficPolicy.tls.clientCertificate", DEFAULT_POLICY),
    ("DestinationRule", "spec.trafficPolicy.tls.privateKey", DEFAULT_POLICY),
    ("DestinationRule", "spec.trafficPolicy.tls.caCertificates", DEFAULT_POLICY),
    ("DestinationRule", "spec.trafficPolicy.tls.caCrl", DEFAULT_POLICY),
    ("DestinationRule", "spec.trafficPolicy.tls.credentialName", DEFAULT_POLICY),
    ("DestinationRule", "spec.trafficPolicy.tls.subjectAltNames", DEFAULT_POLICY),
    ("DestinationRule", "spec.trafficPolicy.tls.sni", DEFAULT_POLICY),
    ("DestinationRule", "spec.trafficPolicy.tls.insecureSkipVerify", DEFAULT_POLICY),
    ("DestinationRule", "spec.trafficPolicy.portLevelSettings", DEFAULT_POLICY),
    ("DestinationRule", "spec.trafficPolicy.tunnel", DEFAULT_POLICY),
    ("DestinationRule", "spec.trafficPolicy.proxyProtocol", DEFAULT_POLICY),
    ("DestinationRule", "spec.trafficPolicy.retryBudget", DEFAULT_POLICY),
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
    ("DestinationRule", "spec.trafficPolicy.tls.mode"),
    ("DestinationRule", "spec.trafficPolicy.connectionPool.tcp.connectTimeout"),
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

/// What it means that the field at `pattern` is set, when it is not implemented.
///
/// The traffic policy of a subset has the same fields as that of the rule, so its paths are read as those.
pub fn effect(kind: &str, pattern: &str) -> Option<&'static Effect> {
    let pattern = rooted(pattern);
    let mut all = NOT_IMPLEMENTED.iter().chain(crate::gateway::support::NOT_IMPLEMENTED);
    all.find(|(k, p, _)| *k == kind && *p == pattern).map(|(_, _, effect)| effect)
}

/// The path under `spec` of a field that a subset repeats.
pub fn rooted(pattern: &str) -> String {
    pattern.replacen("spec.subsets[].trafficPolicy", "spec.trafficPolicy", 1)
}
