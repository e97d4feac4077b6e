//! Traffic through the mesh on a real Kubernetes node, Causeway installed as users install it. All scenarios share one
//! node; each has its namespaces.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a suite"
)]

#[path = "node_traffic/canary.rs"]
mod canary;
#[path = "node_traffic/jobs.rs"]
mod jobs;
#[path = "node_traffic/peers.rs"]
mod peers;
#[path = "node_traffic/plain.rs"]
mod plain;
#[path = "node_traffic/probes.rs"]
mod probes;
#[path = "node_traffic/tiers.rs"]
mod tiers;

use std::time::Duration;

use causeway_tests::capability::{NODE, Need, has};
use causeway_tests::kube::Node;
use causeway_tests::yaml::injected_namespace as namespace;

/// Longest wait for a Deployment, on two cores that do everything.
const ROLLOUT: Duration = Duration::from_secs(120);

/// The node of all scenarios; None where this machine cannot have one.
fn node() -> Option<&'static Node> {
    let needs = [NODE, &[Need::Program("tcpdump"), Need::Postgres]].concat();
    has(&needs).then(Node::shared)
}

/// A Deployment `name` of the test application's HTTP server on port 8080, with its ServiceAccount.
fn server(namespace: &str, name: &str, account: &str, labels: &str, replicas: u32) -> String {
    format!(
        "apiVersion: v1
kind: ServiceAccount
metadata: {{name: {account}, namespace: {namespace}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{{labels}}}}}
  template:
    metadata: {{labels: {{{labels}}}}}
    spec:
      serviceAccountName: {account}
      containers:
      - name: app
        image: causeway-test/app:1
        args: [http, --name, {name}, --listen, \"[::]:8080\"]
        ports: [{{containerPort: 8080, name: http}}]
        readinessProbe: {{httpGet: {{port: http, path: /}}, periodSeconds: 1}}
---
"
    )
}

/// A Deployment of one pod that waits for the test to run something in it.
fn client(namespace: &str, name: &str) -> String {
    server(namespace, name, name, &format!("app: {name}"), 1)
}

fn service(namespace: &str, name: &str, selector: &str) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  selector: {{{selector}}}
  ports: [{{name: http, port: 80, targetPort: 8080}}]
---
"
    )
}
