//! What the scenarios share: two clients, two applications in two versions each, Services over them, and the outside.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use causeway_tests::kube::{Inside, Node, node::NAME};
use causeway_tests::until;
use causeway_tests::yaml::{App, Port, injected_namespace, service_of};
use serde_json::Value;

use crate::outside::Outside;

const CLIENTS: &str = include_str!("../../fixtures/reach/clients.yaml");

/// Longest wait for pods, on two cores that do everything.
const ROLLOUT: Duration = Duration::from_secs(180);

/// Longest wait for what happens after a change.
pub const SOON: Duration = Duration::from_secs(30);

/// Name, labels and more arguments of the applications of `prod`. Both of `a` answer 500 at `/break`, one at `/lame` too;
/// `b-v2` takes its time.
const APPS: &[(&str, &str, &str)] = &[
    ("a-v1", "app: web, tier: a, version: v1", ", --broken, /break"),
    ("a-v2", "app: web, tier: a, version: v2", ", --broken, /break, --broken, /lame"),
    ("b-v1", "app: web, tier: b, version: v1", ""),
    ("b-v2", "app: web, tier: b, version: v2", ", --delay-ms, \"30\""),
];

/// Services of `prod` and what they select. `zoned` has EndpointSlices made by hand.
const SERVICES: &[(&str, &str)] = &[
    ("a", "tier: a"),
    ("b", "tier: b"),
    ("share", "tier: a"),
    ("close", "tier: a"),
    ("all", "app: web"),
    ("pool", "tier: a, version: v1"),
    ("probed", "tier: a, version: v1"),
    ("zoned", ""),
];

const PORTS: &[Port<'_>] = &[Port { name: "http", port: 80, target: 8080 }];

/// The running workloads.
pub struct Stage {
    /// With Causeway installed, in zone `a`.
    pub node: &'static Node,
    /// `client` in `dev`, where its node is.
    pub client: Inside,
    /// `far` in `qa` and zone `b`.
    pub far: Inside,
    /// `a-v1`, `a-v2`, `b-v1`, `b-v2`: name of the pod, its address, its inside.
    pub apps: BTreeMap<&'static str, (String, String, Inside)>,
    /// Servers that the mesh knows nothing of, on the node itself.
    pub outside: Outside,
}

impl Stage {
    /// Makes the workloads and waits until they serve.
    pub fn set() -> Self {
        let node = Node::shared();
        let _told = node.told(&["dev", "qa", "prod"]);
        let places = ["zone=a", "region=home"].map(|place| format!("topology.kubernetes.io/{place}"));
        node.kubectl(&["label", "node", NAME, &places[0], &places[1]]).unwrap();
        node.apply(&["dev", "qa", "prod"].map(injected_namespace).concat()).unwrap();
        let outside = Outside::start(node);
        let app = |(name, labels, more)| App { name, labels, more, ..App::default() }.yaml();
        let mut yaml = CLIENTS.to_owned();
        yaml.extend(APPS.iter().copied().map(app));
        yaml.extend(SERVICES.iter().map(|(name, selector)| service_of("prod", name, selector, PORTS)));
        node.apply(&yaml).unwrap();
        let clients = [("dev", "client"), ("qa", "far")];
        for (namespace, name) in APPS.iter().map(|(name, ..)| ("prod", *name)).chain(clients) {
            node.rolled_out(namespace, &format!("deploy/{name}"), ROLLOUT);
        }
        let apps = APPS.iter().map(|(name, ..)| (*name, pod_of(node, name))).collect();
        let [client, far] = clients.map(|(namespace, name)| node.app(namespace, &format!("app={name}")));
        Self { node, client, far, apps, outside }
    }

    /// Applies as a user does, and waits as a user does until all of it is in force.
    pub fn apply(&self, yaml: &str) {
        self.node.programmed(yaml);
    }

    /// Applies a DestinationRule for all of a host.
    pub fn rule(&self, namespace: &str, host: &str, policy: &str) {
        let name = host.split('.').next().unwrap();
        self.apply(&format!(
            "apiVersion: causeway.dev/v1alpha1\nkind: DestinationRule\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
             spec:\n  host: {host}\n  trafficPolicy: {policy}\n"
        ));
    }

    /// `causeway-test-app load` of the client; `at` is Service and path, `pool/old`.
    pub fn load(&self, at: &str, arguments: &[&str]) -> Value {
        self.client.load(&[&["--url", &url(at)], arguments].concat())
    }

    /// Waits until exactly these applications answer somebody.
    pub fn reaches(&self, from: &Inside, why: &str, service: &str, apps: &[&str]) {
        let wanted: BTreeSet<String> = apps.iter().map(|app| (*app).to_owned()).collect();
        until(why, SOON, || {
            let report = from.load(&["--url", &url(&format!("{service}/")), "--requests", "48"]);
            let found: BTreeSet<String> = counts(&report).into_keys().collect();
            if found == wanted { Ok(()) } else { Err(format!("{apps:?}: {report}")) }
        });
    }
}

/// Name and address of the one pod of an application, and its inside.
fn pod_of(node: &Node, app: &str) -> (String, String, Inside) {
    let (tier, version) = app.split_once('-').unwrap();
    let name = node.pod("prod", &format!("tier={tier},version={version}"));
    let pod = node.get(&["-n", "prod", "pod", &name]).unwrap();
    let address = pod["status"]["podIP"].as_str().unwrap().to_owned();
    let inside = node.inside("prod", &name, "app");
    (name, address, inside)
}

/// Requests by who answered: an application, or the code of the proxy's refusal.
pub fn counts(report: &Value) -> BTreeMap<String, u64> {
    let apps = report["apps"].as_object().cloned().unwrap_or_default();
    apps.into_iter().filter_map(|(name, count)| Some((name, count.as_u64()?))).collect()
}

/// `pool/old` -> `http://pool.prod/old`.
pub fn url(at: &str) -> String {
    let (service, path) = at.split_once('/').unwrap_or((at, ""));
    format!("http://{service}.prod/{path}")
}
