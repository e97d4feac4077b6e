//! Causeway's control plane: sources yield events, the index holds resources, `compile` (pure) resolves them, `publish`
//! sends what differs to the proxies, and the identity authority issues their certificates.

pub mod compile;
pub mod index;
pub mod problem;
pub mod source;
pub mod validate;

pub use validate::{Validation, validate};
