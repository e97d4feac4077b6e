//! Container images as docker-archives, made on this machine without a registry.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{program, scripts};
use crate::binaries::binary;
use crate::process::run;

/// Name of the image with `causeway-test-app` (its entry point), curl, psql and a shell.
pub const APP: &str = "causeway-test/app:1";

/// Name of the image with a PostgreSQL server; it takes the variables of the well-known one.
pub const POSTGRES: &str = "causeway-test/postgres:1";

/// The image that holds a pod's namespaces.
pub fn pause(out: &Path) -> PathBuf {
    build(out, "pause", None)
}

/// The image of the cluster's DNS.
pub fn coredns(out: &Path) -> PathBuf {
    build(out, "coredns", program("coredns").parent())
}

/// [`APP`].
pub fn app(out: &Path) -> PathBuf {
    build(out, "app", binary("causeway-test-app").parent())
}

/// The image of the Gateway API's conformance suite, under the name that the suite's manifests give it: an echo server
/// with its client, `causeway-test-echo`.
pub fn echo(out: &Path, name: &str) -> PathBuf {
    build_named(out, "echo", binary("causeway-test-echo").parent(), Some(name))
}

/// [`POSTGRES`].
pub fn postgres(out: &Path) -> PathBuf {
    build(out, "postgres", None)
}

/// The product's own images, of the binaries under test, made by the product's own script.
pub fn causeway(out: &Path) -> [PathBuf; 2] {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/images/build");
    let binaries = binary("causeway-proxy");
    let mut command = Command::new(script);
    command.arg("--bin-dir").arg(binaries.parent().expect("a directory")).arg("--out").arg(out);
    run(&mut command).ok();
    ["control-plane", "proxy"].map(|name| out.join(format!("causeway-{name}.tar")))
}

fn build(out: &Path, name: &str, from: Option<&Path>) -> PathBuf {
    build_named(out, name, from, None)
}

fn build_named(out: &Path, name: &str, from: Option<&Path>, tag: Option<&str>) -> PathBuf {
    let mut command = Command::new(scripts().join("../images/build"));
    command.arg(out).arg(name).args(from).args(tag);
    run(&mut command).ok();
    out.join(format!("{name}.tar"))
}
