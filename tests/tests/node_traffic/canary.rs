//! The first document: `prodsvc` in prod, called from dev, a tenth of it by the canary; changes under load.

use std::sync::OnceLock;
use std::time::Duration;

use causeway_tests::kube::{Inside, Load, Node};
use causeway_tests::process::Process;
use causeway_tests::until;
use serde_json::Value;

use crate::{ROLLOUT, client, namespace, node, server, service};

const ROUTE: &str = include_str!("../../fixtures/virtualservice.yaml");
const ISTIO: &str = include_str!("../../kube/istio-crds.yaml");
const URL: &str = "http://prodsvc.prod.svc.cluster.local/";

const RULES: &str = "
apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata: {name: prodsvc, namespace: prod}
spec:
  host: prodsvc.prod.svc.cluster.local
  subsets:
  - {name: v1-canary, labels: {version: v1-canary}}
  - {name: v1-stable, labels: {version: v1-stable}}
---
apiVersion: causeway.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: web-of-dev-only, namespace: prod}
spec:
  selector: {matchLabels: {app: prodsvc}}
  action: ALLOW
  rules:
  - from: [{source: {principals: [cluster.local/ns/dev/sa/web]}}]
";

/// The scenarios of this file change one route, so they take turns in one test; here is what they share.
struct Shop {
    node: &'static Node,
    web: Inside,
}

fn shop() -> Option<&'static Shop> {
    static SHOP: OnceLock<Shop> = OnceLock::new();
    let node = node()?;
    Some(SHOP.get_or_init(|| {
        let _told = node.told(&["dev", "prod"]);
        node.apply(ISTIO).unwrap();
        node.wait(&["crd/virtualservices.networking.istio.io"], "condition=Established", ROLLOUT).unwrap();
        node.wait(&["crd/destinationrules.networking.istio.io"], "condition=Established", ROLLOUT).unwrap();
        let mut yaml = namespace("dev") + &namespace("prod");
        for version in ["stable", "canary"] {
            let labels = format!("app: prodsvc, version: v1-{version}");
            yaml += &server("prod", &format!("prodsvc-{version}"), "prodsvc", &labels, 2);
        }
        yaml += &(service("prod", "prodsvc", "app: prodsvc") + &client("dev", "web") + &client("dev", "intruder"));
        node.apply(&yaml).unwrap();
        node.apply(RULES).unwrap();
        node.apply(ROUTE).unwrap();
        for (namespace, name) in
            [("prod", "prodsvc-stable"), ("prod", "prodsvc-canary"), ("dev", "web"), ("dev", "intruder")]
        {
            node.rolled_out(namespace, &format!("deploy/{name}"), ROLLOUT);
        }
        Shop { node, web: node.app("dev", "app=web") }
    }))
}

impl Shop {
    fn load(&self, url: &str, requests: u32) -> Value {
        self.web.load(&["--url", url, "--requests", &requests.to_string(), "--concurrency", "8"])
    }

    fn start_load(&self) -> Load {
        self.web.start_load(&["--url", URL, "--concurrency", "8", "--pause-ms", "4"])
    }

    /// Applies the route with other weights and waits as a user would, until every proxy has it in force.
    fn set_weights(&self, canary: u32, stable: u32) {
        let text = ROUTE.replace("weight: 10 ", &format!("weight: {canary} "));
        let text = text.replace("weight: 90 ", &format!("weight: {stable} "));
        self.node.apply(&text).unwrap();
        self.wait_until_programmed();
    }

    fn wait_until_programmed(&self) {
        let route = ["-n", "dev", "virtualservice.networking.istio.io/prod-service-route"];
        let waited = self.node.wait(&route, "condition=Programmed", ROLLOUT);
        if let Err(error) = waited {
            panic!("{error}\n{}", self.node.get(&route).unwrap_or_default()["status"]);
        }
    }

    /// The share of the canary is what the weights say, within four standard deviations, and nothing failed.
    fn check_share(&self, report: &Value, wanted: f64) {
        assert_eq!(report["failed"], 0, "{report}");
        let sent = report["sent"].as_f64().unwrap();
        let canary = report["apps"]["prodsvc-canary"].as_f64().unwrap_or(0.0);
        let tolerance = 4.0 * (sent * wanted * (1.0 - wanted)).sqrt();
        assert!((canary - sent * wanted).abs() <= tolerance, "{wanted} of {sent} +- {tolerance}: {report}");
    }
}

fn no_failure(report: &Value) {
    assert_eq!(report["failed"], 0, "{report}");
    assert!(report["sent"].as_u64().unwrap() > 200, "hardly any load: {report}");
}

#[test]
fn the_first_document_splits_traffic_and_changes_of_pods_and_weights_lose_no_request() {
    let Some(shop) = shop() else { return };
    let _told = shop.node.told(&["dev", "prod"]);
    shop.wait_until_programmed();
    for url in [URL, "http://prodsvc.prod/"] {
        shop.check_share(&shop.load(url, 4000), 0.1);
    }
    println!("90/10 by both names");

    let load = shop.start_load();
    for name in ["prodsvc-stable", "prodsvc-canary"] {
        shop.node.kubectl(&["-n", "prod", "rollout", "restart", &format!("deploy/{name}")]).unwrap();
    }
    for name in ["prodsvc-stable", "prodsvc-canary"] {
        shop.node.rolled_out("prod", &format!("deploy/{name}"), ROLLOUT);
    }
    until("the former pods are gone", ROLLOUT, || {
        let pods = shop.node.get(&["-n", "prod", "pods"])?;
        let count = pods["items"].as_array().map_or(0, Vec::len);
        if count == 4 { Ok(()) } else { Err(format!("{count} pods")) }
    });
    let report = load.stop();
    println!("rolling restart: {report}");
    no_failure(&report);

    let load = shop.start_load();
    for (canary, stable) in [(50, 50), (100, 0)] {
        shop.set_weights(canary, stable);
        shop.check_share(&shop.load(URL, 2000), f64::from(canary) / 100.0);
        load.goes_on(Duration::from_secs(1));
    }
    let report = load.stop();
    println!("10 -> 50 -> 100: {report}");
    no_failure(&report);
    shop.set_weights(10, 90);
    let pod = shop.node.pod("causeway-system", "app.kubernetes.io/name=causeway-control-plane");
    println!("control plane: {:?}", shop.node.usage("causeway-system", &pod, "control-plane"));
}

#[test]
fn a_pod_of_another_service_account_is_refused_by_name_and_only_tls_is_on_the_network() {
    let Some(shop) = shop() else { return };
    let _told = shop.node.told(&["dev", "prod"]);
    let capture = Capture::start(shop.node);
    let intruder = shop.node.app("dev", "app=intruder");
    let refused = intruder.curl(&["-H", "x-marker: marker-of-the-intruder", URL]);
    assert_eq!((refused.status, refused.code()), (403, "policy_denied"), "{refused:?}");
    assert!(refused.body.contains("web-of-dev-only"), "the refusal names the policy: {refused:?}");
    let answered = shop.web.curl(&["-H", "x-marker: marker-of-the-web", &format!("{URL}headers")]);
    assert_eq!(answered.status, 200, "{answered:?}");
    assert!(answered.body.contains("marker-of-the-web"), "{answered:?}");
    let caller = "URI=spiffe://cluster.local/ns/dev/sa/web";
    assert!(answered.body.contains(caller), "{answered:?}");

    let bytes = capture.stop();
    for marker in ["marker-of-the", "web-of-dev-only", "URI=spiffe://cluster.local/ns/dev"] {
        assert!(!contains(&bytes, marker.as_bytes()), "{marker} in plain text on the network");
    }
    // A record of application data, TLS 1.2's number on the wire.
    assert!(contains(&bytes, &[0x17, 0x03, 0x03]), "no TLS seen in {} bytes", bytes.len());
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// What passes the pods' network on port 8080, where both the mesh and the applications listen.
struct Capture {
    process: Process,
    file: std::path::PathBuf,
}

impl Capture {
    fn start(node: &Node) -> Self {
        let file = node.directory().join("traffic.pcap");
        let mut command = node.enter("tcpdump");
        command.args(["-i", "cni0", "-s", "0", "-U", "-Z", "root", "-w"]).arg(&file);
        // Probes of the kubelet come from the node itself, in plain text.
        let gateway = run_ok(node, &["ip", "-4", "-o", "addr", "show", "cni0"]);
        let gateway = gateway.split_whitespace().nth(3).and_then(|a| a.split('/').next()).unwrap().to_owned();
        command.args(["tcp", "port", "8080", "and", "not", "host", &gateway]);
        let process = Process::start("tcpdump", &mut command, &node.directory().join("log/tcpdump.log"));
        process.wait_for_log("listening on", Duration::from_secs(20));
        Self { process, file }
    }

    /// What was captured. tcpdump writes each packet as it comes; the last have come when TLS of both calls is there.
    fn stop(mut self) -> Vec<u8> {
        until("the capture holds the calls", Duration::from_secs(20), || {
            let bytes = std::fs::read(&self.file).map_err(|e| e.to_string())?;
            if contains(&bytes, &[0x17, 0x03, 0x03]) { Ok(()) } else { Err(format!("{} bytes", bytes.len())) }
        });
        self.process.kill();
        std::fs::read(&self.file).unwrap()
    }
}

fn run_ok(node: &Node, command: &[&str]) -> String {
    causeway_tests::process::run(node.enter(command[0]).args(&command[1..])).ok()
}
