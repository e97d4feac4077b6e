//! What the machine must have for a suite to run, and what to do when it lacks it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Something a suite needs beside the Rust toolchain.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// Root with the right to make network namespaces, veth pairs and nftables rules.
    Namespaces,
    /// A program on the path (`/usr/sbin` and `/sbin` included).
    Program(&'static str),
    /// The Python environment that `tests/setup` makes, with `grpcio` and `websockets`.
    Python,
    /// PostgreSQL's server programs.
    Postgres,
    /// The programs of Kubernetes that `tests/kube/fetch` puts into the cache.
    Kubernetes,
    /// Flagger and Argo Rollouts, which `tests/progressive/fetch` puts into the cache.
    Progressive,
    /// h2spec and gRPC's interop programs, which `tests/exams/fetch` puts into the cache.
    Exams,
    /// The Gateway API's conformance suite that `tests/gateway-api/fetch` puts into the cache.
    GatewayApi,
}

/// What a whole Kubernetes node needs.
pub const NODE: &[Need] = &[
    Need::Kubernetes,
    Need::Namespaces,
    Need::Program("containerd"),
    Need::Program("runc"),
    Need::Program("busybox"),
    Need::Program("iptables"),
    Need::Program("conntrack"),
    Need::Program("curl"),
    Need::Program("strip"),
];

/// Whether every need is met. If not: prints a skip, or panics when `CI=true`.
pub fn has(needs: &[Need]) -> bool {
    let missing: Vec<String> = needs.iter().filter_map(|n| n.missing()).collect();
    let missing = missing.join(", ");
    match verdict(&missing, std::env::var("CI").ok().as_deref()) {
        Verdict::Run => true,
        Verdict::Skip => {
            // Not `println!`, which the test runner keeps to itself when a test passes.
            let _ = writeln!(std::io::stderr(), "SKIPPED: {missing} missing; tests/setup installs it");
            false
        }
        Verdict::Fail => {
            panic!("cannot run here: {missing} missing. With CI=true that is a failure; run tests/setup as root")
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Run,
    Skip,
    Fail,
}

/// What becomes of a suite that lacks `missing`, with this value of the variable CI.
fn verdict(missing: &str, ci: Option<&str>) -> Verdict {
    match (missing, ci) {
        ("", _) => Verdict::Run,
        (_, Some("true")) => Verdict::Fail,
        _ => Verdict::Skip,
    }
}

impl Need {
    fn missing(self) -> Option<String> {
        let (here, what) = match self {
            Self::Namespaces => (namespaces_work(), "root with network namespaces".to_owned()),
            Self::Program(name) => (program(name).is_some(), name.to_owned()),
            Self::Python => (python().is_file(), "Python environment of tests/setup".to_owned()),
            Self::Postgres => (postgres_programs().is_some(), "PostgreSQL server".to_owned()),
            Self::Progressive => (progressive(), "Flagger and Argo Rollouts (tests/progressive/fetch)".to_owned()),
            Self::Kubernetes => (kubernetes(), "the programs of Kubernetes (tests/kube/fetch)".to_owned()),
            Self::GatewayApi => (gateway_api(), "conformance suite (tests/gateway-api/fetch)".to_owned()),
            Self::Exams => (exams(), "h2spec and the gRPC interop programs (tests/exams/fetch)".to_owned()),
        };
        (!here).then_some(what)
    }
}

fn namespaces_work() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let name = format!("cw{}probe", std::process::id());
        let made = quiet(Command::new("ip").args(["netns", "add", &name]));
        let rules =
            made && quiet(Command::new("ip").args(["netns", "exec", &name, "nft", "add", "table", "inet", "x"]));
        if made {
            quiet(Command::new("ip").args(["netns", "del", &name]));
        }
        rules && program("setpriv").is_some()
    })
}

fn kubernetes() -> bool {
    ["kube", "kubectl", "coredns"].iter().all(|name| crate::kube::program(name).is_file())
}

fn exams() -> bool {
    ["h2spec", "grpc-interop-client", "grpc-interop-server"].iter().all(|name| crate::exams::program(name).is_file())
}

fn gateway_api() -> bool {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("gateway-api/fetch");
    quiet(Command::new(script).arg("--is-there"))
}

fn progressive() -> bool {
    ["flagger", "rollouts-controller"].iter().all(|name| crate::progressive::program(name).is_file())
}

fn quiet(command: &mut Command) -> bool {
    command.output().is_ok_and(|o| o.status.success())
}

/// Where a program is.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').chain(["/usr/sbin", "/sbin"]).map(|d| Path::new(d).join(name)).find(|p| p.is_file())
}

/// The directory of `initdb` and `postgres` of the newest PostgreSQL installed.
pub fn postgres_programs() -> Option<PathBuf> {
    let mut versions: Vec<PathBuf> =
        std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten().map(|e| e.path().join("bin")).collect();
    versions.retain(|p| p.join("initdb").is_file());
    versions.sort();
    versions.pop()
}

/// The interpreter of the environment that `tests/setup` makes.
pub fn python() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map_or_else(|| Path::new(&std::env::var_os("HOME").unwrap_or_default()).join(".cache"), PathBuf::from);
    cache.join("causeway/venv/bin/python3")
}

#[cfg(test)]
mod tests {
    use super::{Verdict, verdict};

    #[test]
    fn what_is_missing_is_a_skip_on_a_laptop_and_a_failure_in_ci() {
        assert_eq!(verdict("", Some("true")), Verdict::Run);
        assert_eq!(verdict("curl", Some("true")), Verdict::Fail);
        assert_eq!(verdict("curl", None), Verdict::Skip);
        assert_eq!(verdict("curl", Some("false")), Verdict::Skip);
    }
}
