//! Installing: chart, manifest and command line are one thing; a real API server takes it; nothing is left behind; and
//! the control plane may do what is written down and no more.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

#[path = "kube_install/helm.rs"]
mod helm;
#[path = "kube_install/images.rs"]
mod images;
#[path = "kube_install/rights.rs"]
mod rights;
#[path = "kube_install/same.rs"]
mod same;
#[path = "kube_install/traces.rs"]
mod traces;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use causeway_tests::binaries::binary;
use causeway_tests::kube::Cluster;
use causeway_tests::process::run;
use serde::Deserialize as _;
use serde_json::Value;

/// The repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn manifest() -> String {
    std::fs::read_to_string(root().join("deploy/causeway.yaml")).unwrap()
}

/// The real Helm, from the cache or built into it.
fn helm_command(cluster: Option<&Cluster>, arguments: &[&str]) -> Command {
    static HELM: OnceLock<PathBuf> = OnceLock::new();
    let helm = HELM.get_or_init(|| PathBuf::from(run(&mut Command::new(root().join("tests/helm/fetch"))).ok().trim()));
    let mut command = Command::new(helm);
    // Nothing of this person's own Helm is read or written.
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("helm");
    command.current_dir(root()).env("HOME", &home).env_remove("KUBECONFIG");
    for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(name, &home);
    }
    if let Some(cluster) = cluster {
        command.env("KUBECONFIG", cluster.kubeconfig());
    }
    command.args(arguments);
    command
}

/// Helm's standard output, or what it said on standard error.
fn try_helm(cluster: Option<&Cluster>, arguments: &[&str]) -> Result<String, String> {
    let output = helm_command(cluster, arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

fn template(flags: &[&str]) -> String {
    let fixed = ["template", "causeway", "deploy/helm/causeway", "--namespace", "causeway-system"];
    try_helm(None, &[&fixed, flags].concat()).unwrap()
}

fn causeway(cluster: Option<&Cluster>, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary("causeway"));
    command.args(arguments).env("NO_COLOR", "1").env_remove("KUBECONFIG");
    if let Some(cluster) = cluster {
        command.env("KUBECONFIG", cluster.kubeconfig());
    }
    command
}

/// Exit code and all output of a command that may fail.
fn outcome(mut command: Command) -> (i32, String) {
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8_lossy(&text).into_owned())
}

fn documents(yaml: &str) -> Vec<Value> {
    serde_yaml::Deserializer::from_str(yaml)
        .map(|document| Value::deserialize(document).unwrap())
        .filter(|document| !document.is_null())
        .collect()
}
