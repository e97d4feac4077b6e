//! What all releases share: two namespaces of the scenario's own, a caller with load, and the share that the caller sees.

use std::time::Duration;

use causeway_tests::kube::{Inside, Load, Node};
use causeway_tests::until;
use serde_json::{Value, json};

use crate::ROLLOUT;

/// Longest wait for a controller's next step; Flagger takes one each ten seconds at most.
pub const STEP: Duration = Duration::from_secs(120);

/// The test application instead of the documents' images, in the version that they deploy first.
const IMAGES: &[(&str, &str)] = &[
    ("image: hashicorp/http-echo:1.0", "image: causeway-test/app:1"),
    (r#"args: ["-listen=:8080", "-text=v1"]"#, r#"args: [http, --name, v1, --listen, "[::]:8080"]"#),
    ("image: curlimages/curl:8.16.0", "image: causeway-test/app:1"),
    (
        r#"command: ["sh", "-c", "trap exit TERM; while :; do curl -s http://catalog.shop; sleep 0.05; done"]"#,
        r#"args: [http, --name, web, --listen, "[::]:8080"]"#,
    ),
    // Several scenarios at once, in a debug build, on two cores: the same checks and steps, with bounds that fit this.
    ("periodSeconds: 1\n", "periodSeconds: 1\n          timeoutSeconds: 10\n          failureThreshold: 10\n"),
    ("max: 500\n", "max: 9000\n"),
    ("    interval: 10s\n", "    interval: 25s\n"),
    ("      interval: 20s\n", "      interval: 50s\n"),
];

/// One release: `catalog` in a namespace, `web` that calls it from another.
pub struct Shop<'a> {
    pub node: &'a Node,
    /// Namespace of `catalog`.
    pub namespace: String,
    /// The container that calls.
    pub web: Inside,
}

/// A routing resource at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub object: Value,
    pub generation: u64,
}

impl<'a> Shop<'a> {
    /// The namespaces of a scenario, that of the servers first.
    pub fn namespaces(scenario: &str) -> [String; 2] {
        ["shop", "front"].map(|name| format!("{name}-{scenario}"))
    }

    /// Applies an example under the scenario's own names and waits for the caller.
    pub fn open(node: &'a Node, scenario: &str, example: &str) -> Self {
        let [namespace, front] = Self::namespaces(scenario);
        let yaml = IMAGES.iter().fold(example.to_owned(), |yaml, (image, ours)| yaml.replace(image, ours));
        let yaml = yaml.replace("http://prometheus.monitoring:9090", causeway_tests::progressive::PROMETHEUS);
        let named = |yaml: String, from: &str, to: &str| {
            let yaml = yaml.replace(&format!(": {from}\n"), &format!(": {to}\n"));
            yaml.replace(&format!("/ns/{from}/"), &format!("/ns/{to}/"))
        };
        let yaml = named(named(yaml, "shop", &namespace), "front", &front);
        // The kinds of the controllers may be a moment away from being served.
        until("the example is applied", ROLLOUT, || node.apply(&yaml));
        node.rolled_out(&front, "deploy/web", ROLLOUT);
        let web = node.app(&front, "app=web");
        Self { node, namespace, web }
    }

    /// An object of the namespace of the servers.
    pub fn get(&self, what: &str) -> Result<Value, String> {
        self.node.get(&["-n", &self.namespace, what])
    }

    fn url(&self, path: &str) -> String {
        format!("http://catalog.{}{path}", self.namespace)
    }

    /// Load until it is stopped, gentle enough for all scenarios at once.
    pub fn start_load(&self, path: &str) -> Load {
        self.web.start_load(&["--url", &self.url(path), "--concurrency", "3", "--pause-ms", "25"])
    }

    /// A number of requests, with headers (`name:value`).
    pub fn send(&self, requests: u32, path: &str, headers: &[&str]) -> Value {
        let (url, requests) = (self.url(path), requests.to_string());
        let mut arguments = vec!["--url", &url, "--requests", &requests, "--concurrency", "8"];
        for header in headers {
            arguments.extend(["--header", header]);
        }
        self.web.load(&arguments)
    }

    /// Deploys the next version with more arguments: what a team does to release.
    pub fn release(&self, what: &str, version: &str, more: &[&str]) {
        let arguments = [&["http", "--name", version, "--listen", "[::]:8080"], more].concat();
        let patch = json!([{"op": "replace", "path": "/spec/template/spec/containers/0/args", "value": arguments}]);
        let patch = patch.to_string();
        self.node.kubectl(&["-n", &self.namespace, "patch", what, "--type=json", "-p", &patch]).unwrap();
    }

    /// A routing resource, once its own generation is in force on every proxy and all its conditions are good.
    pub fn in_force(&self, what: &str) -> Result<Seen, String> {
        let object = self.get(what)?;
        let generation = object["metadata"]["generation"].as_u64().ok_or("no generation")?;
        let conditions = conditions(&object);
        for name in ["Accepted", "ResolvedRefs", "Programmed"] {
            let good = conditions.iter().any(|c| {
                let is_own = c["type"] == name && c["observedGeneration"].as_u64() == Some(generation);
                is_own && c["status"] == "True"
            });
            if !good {
                return Err(format!("{what}: {name} of generation {generation}: {conditions:?}"));
            }
        }
        Ok(Seen { object, generation })
    }

    /// Sends requests while a routing resource stays as it is; None when it was changed meanwhile.
    pub fn send_under(&self, what: &str, requests: u32, headers: &[&str]) -> Option<(Seen, Value)> {
        let before = self.in_force(what).ok()?;
        let report = self.send(requests, "/", headers);
        let after = self.get(what).ok()?["metadata"]["generation"].as_u64()?;
        (after == before.generation).then_some((before, report))
    }
}

/// The conditions of a resource, or those of each parent of a route of the Gateway API.
fn conditions(object: &Value) -> Vec<Value> {
    let status = &object["status"];
    let parents = status["parents"].as_array().into_iter().flatten().map(|p| &p["conditions"]);
    let lists = std::iter::once(&status["conditions"]).chain(parents);
    lists.filter_map(Value::as_array).flatten().cloned().collect()
}

/// How many requests a version answered.
pub fn answered(report: &Value, version: &str) -> f64 {
    report["apps"][version].as_f64().unwrap_or(0.0)
}

/// The share of `v2` is what was wanted, within four standard deviations, and nothing failed.
pub fn check_share(report: &Value, wanted: f64) {
    nothing_lost(report);
    let sent = report["sent"].as_f64().unwrap();
    let tolerance = 4.0 * (sent * wanted * (1.0 - wanted)).sqrt();
    let seen = answered(report, "v2");
    assert!((seen - sent * wanted).abs() <= tolerance, "{wanted} of {sent} +- {tolerance}: {report}");
}

/// Every request was answered, and well.
pub fn nothing_lost(report: &Value) {
    assert_eq!(report["failed"], 0, "{report}");
    assert!(report["sent"].as_u64().unwrap() >= 50, "hardly any load: {report}");
}
