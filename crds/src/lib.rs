//! Causeway's user-facing API as Rust types.
use serde::{Deserialize, Serialize};
/// VirtualService
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct VirtualServiceSpec {}
/// DestinationRule
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DestinationRuleSpec {}
/// AuthorizationPolicy
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct AuthorizationPolicySpec {}
/// PeerAuthentication
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PeerAuthenticationSpec {}
