//! Causeway's user-facing API as Rust types, the manifests generated from them, and a check of values against them.
//!
//! The specs have Istio's shape, so that a file moves over by changing its `apiVersion`. Nothing here is defaulted: a
//! value is kept as the user wrote it. What the fields mean is left to the control plane's `compile`.

pub mod authorization_policy;
pub mod check;
pub mod common;
pub mod destination_rule;
pub mod fields;
pub mod gateway;
pub mod http_route;
pub mod manifest;
pub mod peer_authentication;
pub mod rate_limit_policy;
pub mod service_entry;
pub mod status;
pub mod support;
pub mod traffic_policy;
pub mod virtual_service;

pub use authorization_policy::{AuthorizationPolicy, AuthorizationPolicySpec};
pub use destination_rule::{DestinationRule, DestinationRuleSpec};
pub use peer_authentication::{PeerAuthentication, PeerAuthenticationSpec};
pub use rate_limit_policy::{RateLimitPolicy, RateLimitPolicySpec};
pub use service_entry::{ServiceEntry, ServiceEntrySpec};
pub use status::Status;
pub use virtual_service::{VirtualService, VirtualServiceSpec};
