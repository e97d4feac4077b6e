//! The files of a demo: the example of `deploy/examples/dev-prod` with addresses of this machine, and where the rest
//! lives (state, tokens, logs).

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tempfile::TempDir;

macro_rules! example {
    ($file:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/examples/dev-prod/", $file))
    };
}

/// Files that are used as they stand.
const AS_THEY_STAND: [(&str, &str); 5] = [
    ("namespaces.yaml", example!("namespaces.yaml")),
    ("serviceaccounts.yaml", example!("serviceaccounts.yaml")),
    ("service.yaml", example!("service.yaml")),
    ("destinationrule.yaml", example!("destinationrule.yaml")),
    ("authorizationpolicy.yaml", example!("authorizationpolicy.yaml")),
];

const VIRTUAL_SERVICE: &str = example!("virtualservice.yaml");
const VIRTUAL_SERVICE_FILE: &str = "virtualservice.yaml";

/// Weights of the two versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Weights {
    /// Of `v1-stable`.
    pub stable: u32,
    /// Of `v1-canary`.
    pub canary: u32,
}

/// One Pod of the demo.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pod {
    /// Namespace.
    pub namespace: &'static str,
    /// Name, which its log and token files bear too.
    pub name: &'static str,
    /// ServiceAccount.
    pub account: &'static str,
    /// Label `app`.
    pub app: &'static str,
    /// Label `version`, where it has one.
    pub version: Option<&'static str>,
}

/// The client whose traffic is shown.
pub(super) const WEB: Pod = Pod { namespace: "dev", name: "web", account: "web", app: "web", version: None };
/// A client that no policy names.
pub(super) const INTRUDER: Pod =
    Pod { namespace: "dev", name: "intruder", account: "intruder", app: "intruder", version: None };
/// The version that everybody uses.
pub(super) const STABLE: Pod =
    Pod { namespace: "prod", name: "prodsvc-stable", account: "prodsvc", app: "prodsvc", version: Some("v1-stable") };
/// The version that is tried.
pub(super) const CANARY: Pod = Pod {
    namespace: "prod",
    name: "prodsvc-canary",
    account: "prodsvc-canary",
    app: "prodsvc",
    version: Some("v1-canary"),
};

impl Pod {
    /// `namespace/name`.
    pub(super) fn workload(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    fn yaml(&self) -> String {
        let Self { namespace, name, account, app, version } = self;
        let version = version.map(|v| format!("\n    version: {v}")).unwrap_or_default();
        format!(
            "apiVersion: v1
kind: Pod
metadata:
  name: {name}
  namespace: {namespace}
  labels:
    app: {app}{version}
    causeway.dev/injected: \"true\"
spec:
  serviceAccountName: {account}
  containers:
  - name: app
    image: example/{app}
status:
  phase: Running
  podIP: 127.0.0.1
  conditions:
  - type: Ready
    status: \"True\"
"
        )
    }

    fn endpoint_slice(&self, port: u16) -> String {
        let Self { namespace, name, .. } = self;
        format!(
            "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {name}
  namespace: {namespace}
  labels:
    kubernetes.io/service-name: prodsvc
addressType: IPv4
ports:
- name: http
  port: {port}
  protocol: TCP
endpoints:
- addresses: [\"127.0.0.1\"]
  conditions:
    ready: true
  targetRef:
    kind: Pod
    namespace: {namespace}
    name: {name}
"
        )
    }
}

/// The temporary directory of one demo.
#[derive(Debug)]
pub(super) struct Workspace {
    root: TempDir,
}

impl Workspace {
    /// Makes the directory and the folders in it, readable by this user alone.
    ///
    /// # Errors
    /// A folder could not be made.
    pub(super) fn create() -> anyhow::Result<Self> {
        let root = tempfile::Builder::new().prefix("causeway-demo-").tempdir().context("no temporary directory")?;
        for folder in ["config", "state", "tokens", "logs"] {
            std::fs::create_dir(root.path().join(folder))?;
        }
        Ok(Self { root })
    }

    /// What the control plane reads.
    pub(super) fn config(&self) -> PathBuf {
        self.root.path().join("config")
    }

    /// What the control plane keeps.
    pub(super) fn state(&self) -> PathBuf {
        self.root.path().join("state")
    }

    /// Log of `process`.
    pub(super) fn log(&self, process: &str) -> PathBuf {
        self.root.path().join("logs").join(format!("{process}.log"))
    }

    /// Token of `pod`.
    pub(super) fn token(&self, pod: &Pod) -> PathBuf {
        self.root.path().join("tokens").join(pod.name)
    }

    /// The file that a person edits to move traffic.
    pub(super) fn virtual_service(&self) -> PathBuf {
        self.config().join(VIRTUAL_SERVICE_FILE)
    }

    /// Writes the example: `stable_port` and `canary_port` are the inbound listeners of the two backends' proxies.
    ///
    /// # Errors
    /// A file could not be written.
    pub(super) fn write_example(&self, stable_port: u16, canary_port: u16) -> io::Result<()> {
        for (file, text) in AS_THEY_STAND {
            std::fs::write(self.config().join(file), text)?;
        }
        let pods = [WEB, INTRUDER, STABLE, CANARY].map(|pod| pod.yaml()).join("---\n");
        std::fs::write(self.config().join("pods.yaml"), pods)?;
        let slices = [STABLE.endpoint_slice(stable_port), CANARY.endpoint_slice(canary_port)].join("---\n");
        std::fs::write(self.config().join("endpointslices.yaml"), slices)?;
        self.write_weights(Weights { stable: 90, canary: 10 })
    }

    /// Writes the VirtualService with these weights, so that a reader sees the old file or the new one whole.
    ///
    /// # Errors
    /// The file could not be written.
    pub(super) fn write_weights(&self, weights: Weights) -> io::Result<()> {
        let fresh = self.root.path().join("virtualservice.yaml.new");
        std::fs::write(&fresh, virtual_service(weights))?;
        std::fs::rename(fresh, self.virtual_service())
    }

    /// Removes everything but the logs and says where they are.
    pub(super) fn leave_logs(self) -> PathBuf {
        let root = self.root.keep();
        for folder in ["config", "state", "tokens"] {
            // A failure here has been reported in another form already: something is wrong with the disk.
            let _ = std::fs::remove_dir_all(root.join(folder));
        }
        root.join("logs")
    }

    /// Writes a token so that only this user can read it.
    ///
    /// # Errors
    /// The file could not be written.
    pub(super) fn write_token(&self, pod: &Pod, token: &str) -> io::Result<()> {
        write_private(&self.token(pod), token.as_bytes())
    }
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use io::Write;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(bytes)
}

/// The document's VirtualService with other weights; everything else stays as it stands, comments too.
fn virtual_service(weights: Weights) -> String {
    VIRTUAL_SERVICE
        .lines()
        .map(|line| match line.trim_start().split_once("weight: ") {
            Some(("", rest)) => {
                let weight = if rest.starts_with("10 ") { weights.canary } else { weights.stable };
                let indent = &line[..line.len() - line.trim_start().len()];
                format!("{indent}weight: {weight}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_weights_of_the_document_change() {
        let text = virtual_service(Weights { stable: 50, canary: 51 });
        let changed: Vec<_> = text.lines().zip(VIRTUAL_SERVICE.lines()).filter(|(a, b)| a != b).collect();
        assert_eq!(
            changed,
            [
                ("      weight: 51", "      weight: 10 # Send 10% of traffic to the canary"),
                ("      weight: 50", "      weight: 90 # Send 90% to the stable version"),
            ]
        );
        assert_eq!(text.lines().count(), VIRTUAL_SERVICE.lines().count());
    }

    #[test]
    fn the_example_is_valid_without_a_warning() {
        let workspace = Workspace::create().expect("a directory");
        workspace.write_example(20_001, 20_002).expect("written");
        let found = causeway_control_plane::validate(&[workspace.config()]);
        let bad: Vec<_> = found.problems.iter().filter(|p| p.severity != Severity::Note).collect();
        assert!(bad.is_empty(), "{bad:#?}");
        assert!(found.resources >= 14, "{}", found.resources);
    }

    #[test]
    fn logs_stay_and_secrets_do_not() {
        let workspace = Workspace::create().expect("a directory");
        workspace.write_token(&WEB, "secret").expect("written");
        std::fs::write(workspace.log("web"), "a line").expect("written");
        let logs = workspace.leave_logs();
        assert!(logs.join("web.log").is_file());
        let root = logs.parent().expect("a parent").to_owned();
        assert!(!root.join("tokens").exists() && !root.join("state").exists());
        std::fs::remove_dir_all(root).expect("removed");
    }

    use causeway_control_plane::problem::Severity;
}
