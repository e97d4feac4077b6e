//! The pure heart of Causeway: domain types, every decision as a pure function, and the wire contract.
//!
//! Nothing here knows tokio, a clock, a random number generator, a file or a socket; time and randomness are
//! arguments. `clippy.toml` of this crate bans the rest, so that the rule cannot erode.

pub mod backoff;
pub mod balance;
pub mod config;
pub mod detect;
pub mod directory;
pub mod http1;
pub mod lifetime;
pub mod limit;
pub mod name;
pub mod path;
pub mod policy;
pub mod redirect;
pub mod reject;
pub mod route;
pub mod sni;
pub mod spiffe;
pub mod split;
#[cfg(feature = "tls")]
pub mod svid;
pub mod text;
#[allow(missing_docs, clippy::all, clippy::pedantic, clippy::disallowed_methods)]
pub mod wire {
    //! The wire contract, generated from `proto/causeway.proto`.
    include!(concat!(env!("OUT_DIR"), "/causeway.v1.rs"));
}
