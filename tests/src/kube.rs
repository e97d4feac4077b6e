//! Real Kubernetes for the suites: an API server with its etcd ([`ApiServer`]), or a whole node ([`Node`]).
//!
//! Both are killed and removed when dropped, and also when the test's process dies without a chance to do so. The
//! programs are found by `tests/kube/fetch`, which `tests/setup` runs.

mod api_server;
mod cluster;
mod components;
mod guard;
pub mod images;
pub mod inside;
mod installed;
pub mod node;
mod pki;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

pub use api_server::ApiServer;
pub use cluster::Cluster;
pub use inside::{Inside, Load};
pub use node::{Families, Node};

/// The path of a program of Kubernetes, e.g. `kubectl` or `etcd`.
///
/// # Panics
/// When `tests/kube/fetch` cannot be run.
pub fn program(name: &str) -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| {
        let output = crate::process::run(Command::new(scripts().join("fetch")).arg("--where"));
        PathBuf::from(output.ok().trim())
    });
    directory.join(name)
}

/// The scripts and manifests of the harness.
fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kube")
}
