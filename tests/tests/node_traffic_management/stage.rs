//! What the scenarios share: two clients, some applications, and Services in many combinations of them.

use std::collections::BTreeMap;
use std::time::Duration;

use causeway_tests::kube::{Inside, Node};
use causeway_tests::pod::Reply;
use causeway_tests::yaml::{self, Port, injected_namespace};
use serde_json::Value;

/// Longest wait for pods, on two cores that do everything.
pub const ROLLOUT: Duration = Duration::from_secs(180);

/// Longest wait for what happens after a change.
pub const SOON: Duration = Duration::from_secs(30);

/// Name and namespace of an application, its labels, and more arguments of its.
type App = (&'static str, &'static str, &'static str, &'static str);

const BROKEN: &str = ", --broken, /both";

/// `v3` answers 500 at `/break`, `v2` and `v3` at `/both`; `slow` takes its time; `deaf` is ready and does not listen where it should; `young` has no
/// pod until a scenario makes one.
const APPS: &[App] = &[
    ("client", "dev", "app: client", ""),
    ("guest", "qa", "app: guest", ""),
    ("v1", "prod", "app: web, version: v1, pair: \"yes\", queued: \"yes\", warm: \"yes\"", ""),
    ("v2", "prod", "app: web, version: v2, pair: \"yes\", half: \"yes\", queued: \"yes\", warm: \"yes\"", BROKEN),
    ("v3", "prod", "app: web, version: v3", ", --broken, /break, --broken, /both"),
    ("slow", "prod", "app: slow, queued: \"yes\"", ", --delay-ms, \"100\""),
    ("deaf", "prod", "app: deaf, half: \"yes\"", ""),
    ("young", "prod", "app: young, warm: \"yes\"", ""),
];

/// Services of `prod` and what they select.
const SERVICES: &[(&str, &str)] = &[
    ("v1", "version: v1"),
    ("v2", "version: v2"),
    ("v3", "version: v3"),
    ("deaf", "app: deaf"),
    ("half", "half: \"yes\""),
    ("pair", "pair: \"yes\""),
    ("matching", "app: web"),
    ("acting", "app: web"),
    ("cors", "app: web"),
    ("faults", "app: web"),
    ("copies", "app: web"),
    ("deleted", "app: web"),
    ("patience", "app: web"),
    ("outliers", "app: web"),
    ("sticky", "app: web"),
    ("pinned", "app: web"),
    ("hashed", "app: web"),
    ("circuit", "app: web"),
    ("crowded", "app: web"),
    ("limited", "version: v1"),
    ("queued", "queued: \"yes\""),
    ("lazy", "queued: \"yes\""),
    ("warm", "warm: \"yes\""),
];

const PORTS: &[Port<'_>] = &[
    Port { name: "http", port: 80, target: 8080 },
    Port { name: "http-more", port: 8080, target: 8080 },
    Port { name: "tcp-push", port: 9000, target: 9000 },
    Port { name: "grpc", port: 50051, target: 50051 },
    Port { name: "http2", port: 50052, target: 50052 },
];

/// The running workloads.
pub struct Stage {
    /// With Causeway installed.
    pub node: &'static Node,
    /// `client` in `dev`, ServiceAccount `client`.
    pub client: Inside,
    /// `guest` in `qa`.
    pub guest: Inside,
    /// `v1`, `v2` and `v3`.
    pub versions: [Inside; 3],
}

impl Stage {
    /// Makes the workloads and waits until they serve.
    pub fn set() -> Self {
        let node = Node::shared();
        let _told = node.told(&["dev", "qa", "prod"]);
        let mut yaml: String = ["dev", "qa", "prod"].map(injected_namespace).concat();
        yaml.extend(APPS.iter().map(deployment));
        yaml.extend(SERVICES.iter().map(service));
        node.apply(&yaml).unwrap();
        for (name, namespace, ..) in APPS {
            node.rolled_out(namespace, &format!("deploy/{name}"), ROLLOUT);
        }
        let versions = ["v1", "v2", "v3"].map(|version| node.app("prod", &format!("version={version}")));
        let stage = Self { node, client: node.app("dev", "app=client"), guest: node.app("qa", "app=guest"), versions };
        // The last scenario wants endpoints that the client has known for a while.
        assert_eq!(stage.get("warm/", &[]).status, 200);
        stage
    }

    /// Applies as a user does, and waits as a user does until all of it is in force.
    pub fn apply(&self, yaml: &str) {
        self.node.programmed(yaml);
    }

    /// Applies a DestinationRule for all of a Service.
    pub fn rule(&self, service: &str, policy: &str) {
        self.apply(&format!(
            "apiVersion: causeway.dev/v1alpha1\nkind: DestinationRule\nmetadata: {{name: {service}, namespace: prod}}\n\
             spec:\n  host: {service}\n  trafficPolicy: {policy}\n"
        ));
    }

    /// One request of the client, through redirection; `at` is Service and path, `acting/old`.
    pub fn get(&self, at: &str, more: &[&str]) -> Reply {
        send(&self.client, at, more)
    }

    /// `causeway-test-app load` of the client.
    pub fn load(&self, at: &str, arguments: &[&str]) -> Value {
        self.client.load(&[&["--url", &url(at)], arguments].concat())
    }

    /// Requests by who answered: an application, or the code of the proxy's refusal.
    pub fn answers(&self, at: &str, arguments: &[&str]) -> BTreeMap<String, u64> {
        counts(&self.load(at, arguments))
    }

    /// What the pod of version 1, 2 or 3 received under a key (`x-key`), as it noted it.
    pub fn received(&self, version: usize, key: &str) -> Vec<Value> {
        let reply = self.versions[version - 1].curl(&[&format!("http://127.0.0.1:8080/tally/{key}")]);
        reply.json().as_array().cloned().unwrap_or_default()
    }

    /// The client's view of a backend, `circuit.prod:9000`: the page of its proxy that `kubectl port-forward` leads to.
    pub fn backend(&self, name: &str) -> Value {
        let view = self.client.curl(&["http://127.0.0.1:15000/backends"]).json();
        let all = view["backends"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|b| b["name"] == name).unwrap_or_default()
    }

    /// The sum of the client's samples of a metric whose line contains all of `labels`.
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        self.client.metric(name, labels)
    }
}

/// One request of a pod.
pub fn send(from: &Inside, at: &str, more: &[&str]) -> Reply {
    from.curl(&[more, &[&url(at)]].concat())
}

/// Requests by who answered.
pub fn counts(report: &Value) -> BTreeMap<String, u64> {
    let apps = report["apps"].as_object().cloned().unwrap_or_default();
    apps.into_iter().filter_map(|(name, count)| Some((name, count.as_u64()?))).collect()
}

/// `acting/old` -> `http://acting.prod/old`, with `acting:8080/old` for another port.
pub fn url(at: &str) -> String {
    let (service, path) = at.split_once('/').unwrap_or((at, ""));
    let (service, port) = service.split_once(':').map_or((service, String::new()), |(s, p)| (s, format!(":{p}")));
    format!("http://{service}.prod{port}/{path}")
}

fn deployment((name, namespace, labels, more): &App) -> String {
    let (replicas, port) = (u32::from(*name != "young"), if *name == "deaf" { 9090 } else { 8080 });
    let bytes = format!(
        "      - name: bytes
        image: causeway-test/app:1
        args: [tcp-push, --name, {name}, --listen, \"[::]:9000\"]
"
    );
    yaml::App { namespace, name, labels, replicas, port, more, rest: &bytes }.yaml()
}

fn service((name, selector): &(&str, &str)) -> String {
    yaml::service_of("prod", name, selector, PORTS)
}
