//! Causeway's control plane: sources yield events, the index holds resources, `compile` (pure) resolves them, `publish`
//! sends what differs to the proxies, and the identity authority issues their certificates.

pub mod admin;
pub mod args;
pub mod ca;
mod clock;
pub mod compile;
mod crowd;
pub mod identity;
pub mod index;
pub mod inject;
pub mod kubernetes;
pub mod metrics;
pub mod problem;
pub mod publish;
pub mod readiness;
pub mod run;
pub mod server;
pub mod source;
pub mod state;
pub mod status;
pub mod token;
pub mod validate;
pub mod webhook;

pub use run::main_from;
pub use validate::{Validation, validate};
