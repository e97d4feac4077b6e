//! The one table of causes for which Causeway itself answers: status, stable code, metric flag, and what to do.

/// Why a request was answered by the proxy and not by the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reject {
    /// The request is not HTTP as the RFCs have it.
    BadRequest,
    /// Two readers could understand the request differently.
    AmbiguousRequest,
    /// Head or header list over the limit.
    HeadTooLarge,
    /// The head did not arrive in time.
    RequestTimeout,
    /// The host names nothing that the mesh or DNS knows.
    UnknownHost,
    /// The destination is outside the mesh and egress is denied.
    EgressDenied,
    /// Routes exist and none matches.
    NoRoute,
    /// The route matched and all its weights are zero.
    NoWeight,
    /// The backend has no ready endpoint.
    NoEndpoints,
    /// No endpoint accepted the connection.
    ConnectFailed,
    /// No endpoint answered the connection attempt in time.
    ConnectTimeout,
    /// The endpoint proved another identity than the expected one.
    IdentityMismatch,
    /// The connection ended before the response's head.
    UpstreamReset,
    /// The application has not looked at the request, and says so.
    UpstreamRefused,
    /// The response is not HTTP as the RFCs have it.
    UpstreamProtocol,
    /// The route's timeout passed.
    UpstreamTimeout,
    /// An AuthorizationPolicy refused.
    Denied,
    /// Plain text where mutual TLS is demanded.
    PlaintextRefused,
    /// No certificate or no configuration yet.
    NotReady,
    /// Too many connections, requests or bytes in flight.
    Overloaded,
    /// The request has passed this proxy already.
    Loop,
    /// The upstream did not agree to the upgrade as it must.
    UpgradeRefused,
    /// The backend that a route names is not valid.
    BrokenBackend,
    /// A backend's limit on connections or requests is reached.
    CircuitOpen,
    /// A RateLimitPolicy has no room for the request.
    RateLimited,
    /// The route says that this request shall fail.
    FaultInjected,
    /// The proxy is shutting down.
    Draining,
}

struct Row {
    status: u16,
    code: &'static str,
    flag: &'static str,
    advice: &'static str,
}

impl Reject {
    /// Every cause, in the order of the catalogue.
    pub const ALL: &[Reject] = &[
        Self::BadRequest,
        Self::AmbiguousRequest,
        Self::HeadTooLarge,
        Self::RequestTimeout,
        Self::UnknownHost,
        Self::EgressDenied,
        Self::NoRoute,
        Self::NoWeight,
        Self::NoEndpoints,
        Self::ConnectFailed,
        Self::ConnectTimeout,
        Self::IdentityMismatch,
        Self::UpstreamReset,
        Self::UpstreamRefused,
        Self::UpstreamProtocol,
        Self::UpstreamTimeout,
        Self::Denied,
        Self::PlaintextRefused,
        Self::NotReady,
        Self::Overloaded,
        Self::Loop,
        Self::UpgradeRefused,
        Self::BrokenBackend,
        Self::CircuitOpen,
        Self::RateLimited,
        Self::FaultInjected,
        Self::Draining,
    ];

    /// HTTP status of the response.
    pub fn status(self) -> u16 {
        self.row().status
    }

    /// Stable code for the header `causeway-error` and the log.
    pub fn code(self) -> &'static str {
        self.row().code
    }

    /// Response flag for metrics and the log, as Envoy names them; `-` where it has none.
    pub fn flag(self) -> &'static str {
        self.row().flag
    }

    /// What to do about it, in one sentence.
    pub fn advice(self) -> &'static str {
        self.row().advice
    }

    #[rustfmt::skip]
    fn row(self) -> Row {
        let row = |status, code, flag, advice| Row { status, code, flag, advice };
        match self {
            Self::BadRequest => row(400, "bad_request", "DPE",
                "Send a request that is valid by RFC 9110 and RFC 9112; the log names the fault."),
            Self::AmbiguousRequest => row(400, "ambiguous_request", "DPE",
                "Send exactly one Host and one way to frame the body; the log names the fault."),
            Self::HeadTooLarge => row(431, "head_too_large", "DPE",
                "Send fewer or shorter headers, often cookies."),
            Self::RequestTimeout => row(408, "slow_request", "-",
                "Send the whole request head sooner."),
            Self::UnknownHost => row(404, "unknown_host", "NC",
                "Check the host name and that its Service exists; short names resolve in the caller's namespace."),
            Self::EgressDenied => row(403, "egress_denied", "-",
                "The destination is not in the mesh; allow egress or give it a Service."),
            Self::NoRoute => row(404, "no_route", "NR",
                "Add a route that matches this request, or one without matches as the last."),
            Self::NoWeight => row(503, "no_weight", "UH",
                "Give at least one backend of the route a weight above zero."),
            Self::NoEndpoints => row(503, "no_endpoints", "UH",
                "Check that pods of the backend are ready and that the subset's labels select them. An EndpointSlice that \
                names a Pod is used only while this Pod is there with that address."),
            Self::ConnectFailed => row(503, "connect_failed", "UF",
                "Check that the application listens on the target port and that no NetworkPolicy blocks it."),
            Self::ConnectTimeout => row(503, "connect_timeout", "UF",
                "Check the network between the pods and any NetworkPolicy; raise the connect timeout if it is far away."),
            Self::IdentityMismatch => row(503, "identity_mismatch", "UF",
                "The endpoint is not who it should be: look for a reused address or a stale EndpointSlice, then for an attack."),
            Self::UpstreamReset => row(502, "upstream_reset", "UC",
                "The application closed the connection before it answered; look at its log."),
            Self::UpstreamRefused => row(502, "upstream_refused", "UR",
                "The application refused the HTTP/2 stream or is about to close; look at its load and its limit of streams."),
            Self::UpstreamProtocol => row(502, "upstream_protocol", "UPE",
                "The application's response is not valid HTTP; the log names the fault."),
            Self::UpstreamTimeout => row(504, "upstream_timeout", "UT",
                "The route's timeout passed; look at the application or raise the timeout."),
            Self::Denied => row(403, "policy_denied", "-",
                "Ask the owner of the workload to allow this caller in an AuthorizationPolicy; the body names the policy."),
            Self::PlaintextRefused => row(403, "plaintext_refused", "-",
                "Put the caller into the mesh, or set PeerAuthentication to PERMISSIVE for the port."),
            Self::NotReady => row(503, "not_ready", "-",
                "The proxy waits for its certificate or its configuration; its log says for which."),
            Self::Overloaded => row(503, "overloaded", "UO",
                "The proxy is at a limit; try again later, and raise its limits if this stays."),
            Self::Loop => row(508, "loop_detected", "-",
                "The request came back to the proxy that sent it; check the Service's endpoints and the redirect rules."),
            Self::UpgradeRefused => row(502, "upgrade_refused", "UPE",
                "The application answered an upgrade with something else than 101; look at its log."),
            Self::BrokenBackend => row(500, "broken_backend", "NC",
                "The route's backend is not valid; the detail and the route's status say why."),
            Self::CircuitOpen => row(503, "circuit_open", "UO",
                "The backend is at a limit of its DestinationRule (connectionPool); add endpoints, or raise the limit."),
            Self::RateLimited => row(429, "rate_limited", "RL",
                "Wait as long as `retry-after` says; the detail names the RateLimitPolicy."),
            Self::FaultInjected => row(503, "fault_injected", "FI",
                "The route's `fault` answers so on purpose, with the status that it names; remove it when the test is over."),
            Self::Draining => row(503, "draining", "-",
                "The proxy is shutting down; try again on another connection."),
        }
    }
}

#[cfg(test)]
mod tests;
