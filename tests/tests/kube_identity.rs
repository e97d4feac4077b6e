//! Identity against a real API server: which tokens prove something, and where the CA comes from.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, missing_docs, reason = "a test")]

#[path = "kube_identity/api.rs"]
mod api;
#[path = "kube_identity/authority.rs"]
mod authority;
#[path = "kube_identity/tokens.rs"]
mod tokens;
