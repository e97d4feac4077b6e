//! What the scenarios share: clients, two versions of an application in three protocols, and pods of every other kind.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use causeway_tests::kube::{Inside, Node, images};
use causeway_tests::pod::Reply;
use causeway_tests::until;
use causeway_tests::yaml::{App, Port, injected_namespace, service_of};

/// Longest wait for pods, on two cores that do everything.
const ROLLOUT: Duration = Duration::from_secs(180);

/// Longest wait for what happens after a change.
pub const SOON: Duration = Duration::from_secs(30);

const WORKLOADS: &str = include_str!("../../fixtures/services/workloads.yaml");
const SERVICES: &str = include_str!("../../fixtures/services/services.yaml");

/// Namespace, name, and labels of each pod.
const APPS: &[(&str, &str, &str)] = &[
    ("dev", "client", "app: client"),
    ("qa", "guest", "app: guest"),
    ("prod", "v1", "app: web, version: v1, group: parting, sticky: \"yes\""),
    ("prod", "v2", "app: web, version: v2, sticky: \"yes\""),
    ("prod", "exposed", "app: exposed, sticky: \"yes\""),
];

/// Plain Services of `prod` and what they select.
const PLAIN: &[(&str, &str)] = &[
    ("v1", "version: v1"),
    ("v2", "version: v2"),
    ("named", "app: web"),
    ("bytes", "app: web"),
    ("tls", "app: web"),
    ("websocket", "app: web"),
    ("streams", "app: web"),
    ("strict", "app: web"),
    ("loose", "sticky: \"yes\""),
];

const PORTS: &[Port<'_>] = &[
    Port { name: "http", port: 80, target: 8080 },
    Port { name: "tls", port: 443, target: 8443 },
    Port { name: "undeclared", port: 444, target: 8443 },
    Port { name: "ws", port: 8765, target: 8765 },
    Port { name: "http-ws", port: 8766, target: 8766 },
    Port { name: "tcp-greet", port: 9001, target: 9001 },
    Port { name: "tcp-other", port: 9002, target: 9001 },
    Port { name: "greet", port: 9003, target: 9001 },
];

/// Two more containers of each version: one greets in bytes, the other speaks TLS of its own.
fn more(version: &str) -> String {
    format!(
        "      - name: bytes
        image: causeway-test/app:1
        args: [tcp-greet, --name, {version}, --listen, \"[::]:9001\"]
      - name: tls
        image: causeway-test/echo:1
        args: [--port=8443, --tls=8443, --crt=/cert.crt, --key=/cert.key]
"
    )
}

/// The running workloads.
pub struct Stage {
    /// With Causeway installed.
    pub node: &'static Node,
    /// `client` in `dev`, ServiceAccount `client`.
    pub client: Inside,
    /// `guest` in `qa`.
    pub guest: Inside,
    /// `v1` and `v2`.
    pub versions: [Inside; 2],
}

impl Stage {
    /// Makes the workloads and waits until they serve.
    pub fn set() -> Self {
        let node = Node::shared();
        let _told = node.told(&["dev", "qa", "prod"]);
        node.load_image(&images::echo(&node.directory().join("images"), "causeway-test/echo:1"));
        let mut yaml: String = ["dev", "qa", "prod"].map(injected_namespace).concat();
        for (namespace, name, labels) in APPS {
            let rest = if name.starts_with('v') { more(name) } else { String::new() };
            yaml += &App { namespace, name, labels, rest: &rest, ..App::default() }.yaml();
        }
        yaml.extend(PLAIN.iter().map(|(name, selector)| service_of("prod", name, selector, PORTS)));
        node.apply(&[&yaml, SERVICES, "---\n", WORKLOADS].concat()).unwrap();
        for (namespace, name, _) in APPS {
            node.rolled_out(namespace, &format!("deploy/{name}"), ROLLOUT);
        }
        node.rolled_out("prod", "deploy/leaving", ROLLOUT);
        node.rolled_out("prod", "statefulset/set", ROLLOUT);
        let versions = ["v1", "v2"].map(|version| node.app("prod", &format!("version={version}")));
        Self { node, client: node.app("dev", "app=client"), guest: node.app("qa", "app=guest"), versions }
    }

    /// Applies as a user does, and waits as a user does until all of it is in force.
    pub fn apply(&self, yaml: &str) {
        self.node.programmed(yaml);
    }

    /// One request of the client, through redirection.
    pub fn get(&self, url: &str) -> Reply {
        self.client.curl(&[url])
    }

    /// Asks until an answer is as it should be: what concerns Services and endpoints has no status to wait for.
    pub fn until(&self, what: &str, url: &str, is: impl Fn(&Reply) -> bool) -> Reply {
        until(what, SOON, || {
            let reply = self.get(url);
            if is(&reply) { Ok(reply) } else { Err(format!("{url}: {reply:?}")) }
        })
    }

    /// Who answers the client's requests, until each of `apps` has: one that was slow at first is left alone for a while.
    pub fn all_serve(&self, url: &str, apps: &[&str]) {
        let mut seen = BTreeSet::new();
        until("each of them serves", SOON, || {
            seen.extend(answers(&self.client, url, 10).into_keys());
            if apps.iter().all(|app| seen.contains(*app)) { Ok(()) } else { Err(format!("{seen:?} of {apps:?}")) }
        });
        assert_eq!(seen.len(), apps.len(), "nobody else: {seen:?}");
    }

    /// A pod's address, by a label.
    pub fn address(&self, namespace: &str, label: &str) -> String {
        let pod = self.node.pod(namespace, label);
        let pod = self.node.get(&["-n", namespace, "pod", &pod]).unwrap();
        pod["status"]["podIP"].as_str().unwrap().to_owned()
    }
}

/// How often each application answered `count` requests, or the code of the proxy's refusal.
pub fn answers(from: &Inside, url: &str, count: u32) -> BTreeMap<String, u64> {
    let report = from.load(&["--url", url, "--requests", &count.to_string()]);
    let apps = report["apps"].as_object().cloned().unwrap_or_default();
    apps.into_iter().filter_map(|(name, count)| Some((name, count.as_u64()?))).collect()
}

/// What a server of `prod` knows of the client.
pub const CLIENT: &str = "URI=spiffe://cluster.local/ns/dev/sa/client";
