//! The Gateway API on a real Kubernetes node: its conformance suite, and what the suite does not look at. All share one
//! node; each scenario has a namespace of its own.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::disallowed_methods, reason = "a suite")]

#[path = "node_gateway_api/change.rs"]
mod change;
#[path = "node_gateway_api/connections.rs"]
mod connections;
#[path = "node_gateway_api/exam.rs"]
mod exam;
#[path = "node_gateway_api/filters.rs"]
mod filters;
#[path = "node_gateway_api/redirects.rs"]
mod redirects;
#[path = "node_gateway_api/status.rs"]
mod status;

use std::sync::OnceLock;
use std::time::Duration;

use causeway_tests::capability::{NODE, Need, has};
use causeway_tests::kube::{Inside, Node};
use causeway_tests::yaml::injected_namespace as namespace;

/// The namespace of the scenarios.
const TOWN_NAME: &str = "town";

/// Longest wait for a Deployment, on two cores that do everything.
const ROLLOUT: Duration = Duration::from_secs(120);

/// Longest wait for what the control plane does after a change.
const SOON: Duration = Duration::from_secs(30);

/// The node of all scenarios, with Causeway and the Gateway API; None where this machine cannot have one.
fn node() -> Option<&'static Node> {
    static READY: OnceLock<()> = OnceLock::new();
    if !has(&[NODE, &[Need::GatewayApi, Need::Program("openssl")]].concat()) {
        return None;
    }
    let node = Node::shared();
    READY.get_or_init(|| exam::prepare(node));
    Some(node)
}

/// The Services that scenarios route, each its own, for the pods of both versions.
const SERVICES: [&str; 13] = [
    "backends",
    "change",
    "cors",
    "grants",
    "headers",
    "matches",
    "mirrors",
    "parents",
    "redirects",
    "retries",
    "rewrites",
    "timeouts",
    "unsupported",
];

/// The namespace of the scenarios: pods of two versions of an application, Services for both and for each, and a client.
struct Town {
    node: &'static Node,
    client: Inside,
}

impl Town {
    /// Makes it, once.
    fn shared() -> Option<&'static Self> {
        static TOWN: OnceLock<Town> = OnceLock::new();
        let node = node()?;
        Some(TOWN.get_or_init(|| {
            let _told = node.told(&[TOWN_NAME]);
            let mut yaml = namespace(TOWN_NAME);
            for app in ["v1", "v2", "client"] {
                yaml += &server(TOWN_NAME, app, &[]);
            }
            for name in SERVICES {
                yaml += &service(TOWN_NAME, name, "app: web");
            }
            for version in ["v1", "v2"] {
                yaml += &service(TOWN_NAME, version, &format!("version: {version}"));
            }
            add(node, &yaml, &["v1", "v2", "client"]);
            Self { node, client: node.app(TOWN_NAME, "version=client") }
        }))
    }

    /// Applies a route and waits until every proxy has it in force.
    fn route(&self, kind: &str, name: &str, spec: &str) {
        self.node.apply(&Self::yaml(kind, name, spec)).unwrap();
        self.programmed(&format!("{}/{name}", kind.to_lowercase()));
    }

    /// A resource of the Gateway API.
    fn yaml(kind: &str, name: &str, spec: &str) -> String {
        let version = match kind {
            "HTTPRoute" | "GRPCRoute" => "v1",
            _ => "v1alpha2",
        };
        format!(
            "apiVersion: gateway.networking.k8s.io/{version}\nkind: {kind}\nmetadata: {{name: {name}, namespace: {TOWN_NAME}}}\n{spec}"
        )
    }

    /// Waits until what is written of a route is in force everywhere, as `kubectl wait` would with a path of its status.
    fn programmed(&self, what: &str) {
        causeway_tests::until(&format!("{what} is in force"), SOON, || {
            let route = self.node.get(&["-n", TOWN_NAME, what])?;
            let generation = &route["metadata"]["generation"];
            let holds = |parent: &serde_json::Value| {
                let mut conditions = parent["conditions"].as_array().into_iter().flatten();
                conditions.any(|c| {
                    c["type"] == "Programmed" && c["status"] == "True" && c["observedGeneration"] == *generation
                })
            };
            let parents = route["status"]["parents"].as_array().cloned().unwrap_or_default();
            if !parents.is_empty() && parents.iter().all(holds) { Ok(()) } else { Err(route["status"].to_string()) }
        });
    }
}

/// Adds to the town, and waits until these Deployments are there.
fn add(node: &Node, yaml: &str, deployments: &[&str]) {
    node.apply(yaml).unwrap();
    for deployment in deployments {
        node.rolled_out(TOWN_NAME, &format!("deploy/{deployment}"), ROLLOUT);
    }
}

/// A Deployment of one pod of the test application on port 8080, with its ServiceAccount; the client's is no `web`.
fn server(namespace: &str, name: &str, more: &[&str]) -> String {
    let app = if name == "client" { "client" } else { "web" };
    let more: String = more.iter().map(|argument| format!(", \"{argument}\"")).collect();
    format!(
        "apiVersion: v1
kind: ServiceAccount
metadata: {{name: {name}, namespace: {namespace}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  selector: {{matchLabels: {{version: {name}}}}}
  template:
    metadata: {{labels: {{app: {app}, version: {name}}}}}
    spec:
      serviceAccountName: {name}
      containers:
      - name: app
        image: causeway-test/app:1
        args: [http, --name, {name}, --listen, \"[::]:8080\"{more}]
        readinessProbe: {{httpGet: {{port: 8080, path: /}}, periodSeconds: 1}}
---
"
    )
}

/// A Service with HTTP on ports 80 and 8080.
fn service(namespace: &str, name: &str, selector: &str) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  selector: {{{selector}}}
  ports:
  - {{name: http, port: 80, targetPort: 8080}}
  - {{name: http-alt, port: 8080}}
---
"
    )
}

/// `spec` with one Service as parent.
fn parent(service: &str, rest: &str) -> String {
    format!("spec:\n  parentRefs: [{{group: \"\", kind: Service, name: {service}}}]\n{rest}")
}
