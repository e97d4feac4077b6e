//! What a test asks of a cluster through kubectl.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::poll::until;

/// A cluster, reached with the rights of a kubeconfig.
#[derive(Clone, Debug)]
pub struct Cluster {
    kubeconfig: PathBuf,
}

impl Cluster {
    /// The cluster that a kubeconfig names.
    pub fn new(kubeconfig: PathBuf) -> Self {
        Self { kubeconfig }
    }

    /// Path of the kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// kubectl as a command, for what needs its process; `HOME` is the kubeconfig's directory (for its caches).
    pub fn kubectl_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(super::program("kubectl"));
        command.env("KUBECONFIG", &self.kubeconfig).env("HOME", self.kubeconfig.parent().unwrap_or(Path::new("/")));
        command.args(arguments);
        command
    }

    /// Runs kubectl; its standard output, or what it printed as an error.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        self.kubectl_with_input(arguments, "")
    }

    /// As [`Self::kubectl`] with a text as standard input (`-f -`).
    pub fn kubectl_with_input(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut child = self
            .kubectl_command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| format!("cannot start kubectl: {e}"))?;
        let mut stdin = child.stdin.take().expect("stdin is piped");
        let text = input.to_owned();
        // From a thread: kubectl may print before it has read all.
        let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
        let output = child.wait_with_output().map_err(|e| format!("kubectl: {e}"))?;
        let _ = writer.join();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(format!("{}{}", text(&output.stderr), text(&output.stdout)))
        }
    }

    /// `kubectl apply -f -` of YAML documents.
    pub fn apply(&self, yaml: &str) -> Result<String, String> {
        self.kubectl_with_input(&["apply", "-f", "-"], yaml)
    }

    /// Applies as a user does, and waits as a user does until all of it is in force.
    ///
    /// # Panics
    /// When it is refused, or not in force within a minute.
    pub fn programmed(&self, yaml: &str) {
        self.apply(yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"));
        let wait = ["wait", "--for=condition=Programmed", "--timeout=60s", "-f", "-"];
        if let Err(error) = self.kubectl_with_input(&wait, yaml) {
            let now = self.kubectl_with_input(&["get", "-o", "yaml", "-f", "-"], yaml);
            panic!("{error}\n{}", now.unwrap_or_else(|e| e));
        }
    }

    /// An object, or a list, as JSON: `get(&["-n", "prod", "pods"])`.
    pub fn get(&self, arguments: &[&str]) -> Result<serde_json::Value, String> {
        let text = self.kubectl(&[&["get", "-o", "json"], arguments].concat())?;
        serde_json::from_str(&text).map_err(|e| format!("kubectl's JSON: {e}"))
    }

    /// Whether a user may do something: `can_i("system:serviceaccount:a:b", &["get", "secrets", "-n", "a"])`.
    pub fn can_i(&self, user: &str, what: &[&str]) -> bool {
        let groups = user.strip_prefix("system:serviceaccount:").map(|account| {
            let namespace = account.split(':').next().unwrap_or_default();
            ["system:authenticated", "system:serviceaccounts", &format!("system:serviceaccounts:{namespace}")]
                .map(|g| format!("--as-group={g}"))
        });
        let groups: Vec<&str> = groups.iter().flatten().map(String::as_str).collect();
        let answer = self.kubectl(&[&["auth", "can-i", "--as", user], &*groups, what].concat());
        answer.is_ok_and(|a| a.trim() == "yes")
    }

    /// Makes a namespace with labels (`key=value`) and its ServiceAccount `default`, which only a controller manager
    /// would make otherwise, and without which no Pod can be created. (Without controllers the ClusterRoles `view`,
    /// `edit` and `admin` are empty, too.)
    pub fn create_namespace(&self, name: &str, labels: &[(&str, &str)]) {
        let labels: serde_json::Map<String, serde_json::Value> =
            labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).into())).collect();
        let namespace = serde_json::json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels},
        });
        self.apply(&namespace.to_string()).expect("namespace");
        self.create_service_account(name, "default");
    }

    /// Makes a ServiceAccount where it does not exist.
    pub fn create_service_account(&self, namespace: &str, name: &str) {
        let made = self.kubectl(&["-n", namespace, "create", "serviceaccount", name]);
        if let Err(error) = made {
            assert!(error.contains("already exists"), "ServiceAccount {namespace}/{name}: {error}");
        }
    }

    /// A token of a ServiceAccount, bound to a Pod object where one is named, for an audience (or the API server's).
    pub fn token(
        &self,
        namespace: &str,
        account: &str,
        pod: Option<&str>,
        audience: Option<&str>,
    ) -> Result<String, String> {
        let mut arguments = vec!["-n", namespace, "create", "token", account];
        if let Some(pod) = pod {
            arguments.extend(["--bound-object-kind", "Pod", "--bound-object-name", pod]);
        }
        if let Some(audience) = audience {
            arguments.extend(["--audience", audience]);
        }
        self.kubectl(&arguments).map(|token| token.trim().to_owned())
    }

    /// `kubectl wait`: `wait(&["-n", "prod", "deploy/a"], "condition=Available", limit)`.
    pub fn wait(&self, what: &[&str], condition: &str, limit: Duration) -> Result<String, String> {
        let (condition, limit) = (format!("--for={condition}"), format!("--timeout={}s", limit.as_secs()));
        self.kubectl(&[&["wait", &condition, &limit], what].concat())
    }

    /// Waits until a rollout is complete.
    pub fn rolled_out(&self, namespace: &str, what: &str, limit: Duration) {
        let limit = format!("--timeout={}s", limit.as_secs());
        let done = self.kubectl(&["-n", namespace, "rollout", "status", what, &limit]);
        if let Err(error) = done {
            let pods = self.kubectl(&["-n", namespace, "describe", "pods"]).unwrap_or_default();
            panic!("{namespace}/{what}: {error}\n{pods}");
        }
    }

    /// Waits until a GET of a path of the API server succeeds.
    pub fn wait_for_path(&self, path: &str, limit: Duration) {
        until(&format!("the API server answers {path}"), limit, || self.kubectl(&["get", "--raw", path]));
    }
}
