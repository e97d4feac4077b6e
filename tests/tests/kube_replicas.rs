//! Two control planes of one installation, with the rights that are shipped: one CA, one leader, no gap.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, missing_docs, reason = "a test")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use causeway_tests::binaries::binary;
use causeway_tests::capability::{Need, has};
use causeway_tests::kube::{ApiServer, Cluster};
use causeway_tests::ports::free_port;
use causeway_tests::process::{Process, run};
use causeway_tests::{eventually, until};
use serde::Deserialize as _;
use serde_json::{Value, json};

const SYSTEM: &str = "causeway-system";
const MAP: &str = "causeway-trust-bundle";

/// Installs what is shipped, but for what needs nodes: the definitions, the account and its rights.
fn install(kube: &ApiServer) -> Cluster {
    kube.create_namespace(SYSTEM, &[]);
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/causeway.yaml");
    let shipped = std::fs::read_to_string(shipped).unwrap();
    let kinds = [
        "CustomResourceDefinition",
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
        "Role",
        "RoleBinding",
        "Lease",
    ];
    let items: Vec<Value> = serde_yaml::Deserializer::from_str(&shipped)
        .map(|document| Value::deserialize(document).unwrap())
        .filter(|object| kinds.iter().any(|kind| object["kind"] == *kind))
        .collect();
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
    kube.kubectl_with_input(&["apply", "--server-side", "-f", "-"], &list.to_string()).unwrap();
    kube.as_service_account(SYSTEM, "causeway-control-plane")
}

/// One replica, with its own state directory and ports.
struct Replica {
    process: Process,
    listen: u16,
    admin: u16,
    state: PathBuf,
}

impl Replica {
    fn start(kube: &ApiServer, rights: &Cluster, name: &str) -> Self {
        let state = kube.directory().join(name);
        let _ = std::fs::remove_dir_all(&state);
        let (listen, admin, health) = (free_port(), free_port(), free_port());
        let local = |port: u16| format!("127.0.0.1:{port}");
        let mut command = Command::new(binary("causeway-control-plane"));
        command
            .env("KUBECONFIG", rights.kubeconfig())
            .args(["--source", "kubernetes", "--pod-name", name, "--leaf-ttl", "30s", "--state"])
            .arg(&state)
            .args(["--listen", &local(listen), "--admin", &local(admin), "--health", &local(health)]);
        let process = Process::start(name, &mut command, &kube.directory().join(format!("{name}.log")));
        let replica = Self { process, listen, admin, state };
        until(&format!("{name} is ready"), Duration::from_secs(60), || {
            let page =
                |port| run(Command::new("curl").args(["-sf", "-m", "2", &format!("http://{}/readyz", local(port))]));
            if page(health).code == Some(0) { Ok(()) } else { Err(page(admin).stdout + &replica.process.log()) }
        });
        // What is shown to everybody on the network is health and metrics alone.
        let status = |path: &str| {
            let url = format!("http://{}{path}", local(health));
            run(Command::new("curl").args(["-s", "-o", "/dev/null", "-w", "%{http_code}", &url])).ok()
        };
        assert_eq!(
            ["/healthz", "/metrics", "/", "/proxies", "/trust", "/status"].map(status),
            ["200", "200", "404", "404", "404", "404"]
        );
        replica
    }

    fn json(&self, path: &str) -> Value {
        run(Command::new("curl").args(["-sf", "-m", "5", &format!("http://127.0.0.1:{}{path}", self.admin)])).json()
    }

    fn leads(&self) -> bool {
        self.json("/status")["leader"] == true
    }

    fn roots(&self) -> String {
        std::fs::read_to_string(self.state.join("trust-bundle.pem")).unwrap()
    }

    /// A real proxy for a pod, ready.
    fn proxy(&self, kube: &ApiServer, pod: &str) -> Process {
        let object = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": pod, "namespace": "dev", "labels": { "causeway.dev/injected": "true" } },
            "spec": { "serviceAccountName": "web", "containers": [ { "name": "a", "image": "a" } ] },
        });
        kube.apply(&object.to_string()).unwrap();
        let file = |name: &str| kube.directory().join(format!("{pod}.{name}"));
        std::fs::write(file("token"), kube.token("dev", "web", Some(pod), Some("causeway")).unwrap()).unwrap();
        let map = kube.get(&["-n", "dev", "configmap", MAP]).unwrap();
        std::fs::write(file("pem"), map["data"]["trust-bundle.pem"].as_str().unwrap()).unwrap();
        let local = |port: u16| format!("127.0.0.1:{port}");
        let health = free_port();
        let mut command = Command::new(binary("causeway-proxy"));
        command
            .args(["--control-plane", &format!("https://{}", local(self.listen)), "--workload", &format!("dev/{pod}")])
            .arg("--token-file")
            .arg(file("token"))
            .arg("--trust-bundle")
            .arg(file("pem"))
            .args(["--outbound", &local(free_port()), "--health", &local(health), "--admin", &local(free_port())]);
        let process = Process::start(pod, &mut command, &file("log"));
        eventually(&format!("{pod} is ready"), || {
            let url = format!("http://{}/ready", local(health));
            run(Command::new("curl").args(["-sf", "-m", "2", &url])).code == Some(0)
        });
        process
    }

    /// When the proxy of a pod connected, and when its certificate ends.
    fn connection(&self, pod: &str) -> Option<(String, String)> {
        let proxies = self.json("/proxies");
        let found = proxies["proxies"].as_array()?.iter().find(|p| p["workload"] == format!("dev/{pod}"))?.clone();
        let text = |key: &str| found[key].as_str().map(str::to_owned);
        Some((text("connected_since")?, text("certificate_expires")?))
    }
}

#[test]
fn a_leader_that_dies_is_followed_soon_and_one_that_leaves_at_once_while_proxies_see_nothing() {
    if !has(&[Need::Kubernetes]) {
        return;
    }
    let kube = ApiServer::start();
    let rights = install(&kube);
    kube.create_namespace("dev", &[("causeway.dev/inject", "true")]);
    kube.create_service_account("dev", "web");
    let mut a = Replica::start(&kube, &rights, "cp-a");
    eventually("the first one leads", || a.leads());
    let mut b = Replica::start(&kube, &rights, "cp-b");
    assert_eq!(a.roots(), b.roots());
    eventually("the leader wrote the trust bundle", || kube.get(&["-n", "dev", "configmap", MAP]).is_ok());
    let _of_a = a.proxy(&kube, "web-a");
    let _of_b = b.proxy(&kube, "web-b");
    let before = b.connection("web-b").unwrap();
    assert!(a.connection("web-a").is_some());
    assert!(!b.leads());

    let died = Instant::now();
    a.process.kill();
    eventually("the other one leads", || b.leads());
    let took = died.elapsed();
    assert!(took < Duration::from_secs(20), "a leader was killed, and the other one led after {took:?}");
    assert_eq!(b.connection("web-b").map(|c| c.0), Some(before.0), "the stream is the same one");
    kube.kubectl(&["-n", "dev", "delete", "configmap", MAP]).unwrap();
    eventually("the new leader writes", || kube.get(&["-n", "dev", "configmap", MAP]).is_ok());

    let a = Replica::start(&kube, &rights, "cp-a");
    assert_eq!(a.roots(), b.roots(), "a CA outlives its replica");
    let _again = a.proxy(&kube, "web-c");
    let left = Instant::now();
    b.process.signal("TERM");
    until("the Lease changes hands", Duration::from_secs(20), || if a.leads() { Ok(()) } else { Err(a.process.log()) });
    let took = left.elapsed();
    assert!(took < Duration::from_secs(5), "a leader was told to end, and the other one led after {took:?}");
    assert!(b.process.wait(Duration::from_secs(20)).success());
}

#[test]
fn the_trust_bundle_is_where_injection_is_and_nowhere_else() {
    if !has(&[Need::Kubernetes]) {
        return;
    }
    let kube = ApiServer::start();
    let rights = install(&kube);
    for (namespace, labels) in [("dev", &[("causeway.dev/inject", "true")][..]), ("bare", &[]), ("bypod", &[])] {
        kube.create_namespace(namespace, labels);
    }
    let pod = |namespace: &str, label: &str| {
        json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "namespace": namespace, "labels": {label: "true"}},
            "spec": {"containers": [{"name": "a", "image": "a"}]}})
        .to_string()
    };
    let mut replica = Replica::start(&kube, &rights, "cp-a");
    let bundle = |namespace: &str| {
        let map = kube.get(&["-n", namespace, "configmap", MAP]).ok()?;
        map["data"]["trust-bundle.pem"].as_str().map(str::to_owned)
    };
    let is_right = |namespace: &str| bundle(namespace) == Some(replica.roots());
    eventually("where the namespace opted in", || is_right("dev") && is_right(SYSTEM));
    kube.apply(&pod("bypod", "causeway.dev/inject")).unwrap();
    eventually("where a pod opted in", || is_right("bypod"));
    assert!(bundle("bare").is_none() && bundle("default").is_none() && bundle("kube-system").is_none());

    let edit = json!({"data": {"trust-bundle.pem": "x"}}).to_string();
    kube.kubectl(&["-n", "dev", "patch", "configmap", MAP, "-p", &edit]).unwrap();
    eventually("an edit is put right", || is_right("dev"));
    kube.kubectl(&["-n", "dev", "delete", "configmap", MAP]).unwrap();
    eventually("what was deleted is put back", || is_right("dev"));

    let owner = || kube.get(&["-n", "dev", "configmap", MAP]).unwrap()["metadata"]["ownerReferences"][0]["uid"].clone();
    assert!(owner().is_null(), "without injection there is no owner");
    let injector = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "causeway-injector"}});
    kube.apply(&injector.to_string()).unwrap();
    let uid = kube.get(&["mutatingwebhookconfiguration", "causeway-injector"]).unwrap()["metadata"]["uid"].clone();
    eventually("it goes with the installation", || owner() == uid);

    // Injection ends, but an injected pod needs the roots while it runs.
    kube.apply(&pod("dev", "causeway.dev/injected")).unwrap();
    kube.kubectl(&["label", "ns", "dev", "causeway.dev/inject-"]).unwrap();
    kube.kubectl(&["-n", "bypod", "delete", "pod", "p"]).unwrap();
    eventually("it goes where injection ended", || bundle("bypod").is_none());
    assert!(is_right("dev"));
    kube.kubectl(&["-n", "dev", "delete", "pod", "p"]).unwrap();
    eventually("and with the last injected pod", || bundle("dev").is_none());
    assert!(is_right(SYSTEM));
    let log = replica.process.log();
    assert!(!log.to_lowercase().contains("forbidden"), "the shipped rights suffice: {log}");
    replica.process.signal("TERM");
    assert!(replica.process.wait(Duration::from_secs(20)).success());
}
