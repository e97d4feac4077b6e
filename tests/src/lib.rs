//! The harness of Causeway's system suites: real proxies and a real control plane, one Linux network namespace per
//! pod, real redirection. The suites are in `tests/`; what a mesh does is judged there, not here.
//!
//! A capability that is missing (root, a program) makes a suite print that it was skipped, and fail when `CI=true`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a harness that fails must fail the test, loudly, and measure by the real clock"
)]

pub mod binaries;
pub mod capability;
pub mod certs;
pub mod exams;
pub mod kube;
pub mod laptop;
pub mod mesh;
pub mod net;
pub mod pod;
pub mod poll;
pub mod ports;
pub mod process;
pub mod progressive;
pub mod scenarios;
pub mod yaml;

pub use mesh::{Mesh, Settings};
pub use pod::{Pod, PodSpec};
pub use poll::{eventually, until};
pub use process::{Output, Process};
