//! Control planes on a real API server and real proxies on loopback, without a node: Pods are objects only, and the
//! proxies prove with tokens that are bound to them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use causeway_tests::binaries::binary;
use causeway_tests::kube::ApiServer;
use causeway_tests::ports::free_port;
use causeway_tests::process::run;
use causeway_tests::{Process, until};
use serde_json::Value;

/// Longest wait for a process to be ready, on a busy machine.
const START: Duration = Duration::from_secs(60);
/// Parts of the manifest that a control plane needs which runs outside of the cluster, with no webhook.
const PARTS: [&str; 7] = [
    "Namespace",
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "CustomResourceDefinition",
];
/// Pods with their addresses and labels.
const PODS: [(&str, &str, &str, &str); 3] = [
    ("dev", "web", "10.1.0.9", "app: web"),
    ("prod", "stable", "10.1.0.1", "app: prodsvc, version: stable"),
    ("prod", "canary", "10.1.0.2", "app: prodsvc, version: canary"),
];

pub const POLICIES: &str = "
apiVersion: causeway.dev/v1alpha1
kind: PeerAuthentication
metadata: {name: one, namespace: dev}
spec: {mtls: {mode: STRICT}}
---
apiVersion: causeway.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: one, namespace: dev}
spec: {rules: [{from: [{source: {namespaces: [prod]}}]}]}
---
apiVersion: causeway.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: nobody, namespace: dev}
spec: {rules: [{from: [{source: {serviceAccounts: [prod/nobody]}}]}]}
";

struct Replica {
    listen: SocketAddr,
    process: Process,
}

pub struct World {
    pub kube: ApiServer,
    /// The kubeconfig of the control plane's own ServiceAccount.
    account: PathBuf,
    replicas: BTreeMap<String, Replica>,
    proxies: BTreeMap<String, (Process, u16)>,
    directory: tempfile::TempDir,
}

pub fn local() -> IpAddr {
    Ipv4Addr::LOCALHOST.into()
}

/// An address of this machine that is not loopback.
pub fn host_address() -> Option<IpAddr> {
    let output = run(Command::new("ip").args(["-o", "-4", "addr", "show", "up", "scope", "global"])).ok();
    let cidr = output.split_whitespace().skip_while(|word| *word != "inet").nth(1)?.to_owned();
    cidr.split('/').next()?.parse().ok()
}

/// The subsets of `prod/prodsvc`.
pub fn rule() -> String {
    let subset = |name: &str, version: &str| format!("{{name: {name}, labels: {{version: {version}}}}}");
    format!(
        "---\napiVersion: causeway.dev/v1alpha1\nkind: DestinationRule\nmetadata: {{name: prodsvc, namespace: prod}}\n\
         spec: {{host: prodsvc, trafficPolicy: {{}}, subsets: [{}, {}]}}\n",
        subset("v1-canary", "canary"),
        subset("v1-stable", "stable")
    )
}

/// The route in `dev`: this share to the canary, the rest to stable.
pub fn route(canary: u64) -> String {
    let to = |subset: &str, weight: u64| {
        format!("{{destination: {{host: prodsvc.prod.svc.cluster.local, subset: {subset}}}, weight: {weight}}}")
    };
    format!(
        "---\napiVersion: causeway.dev/v1alpha1\nkind: VirtualService\nmetadata: {{name: split, namespace: dev}}\n\
         spec: {{hosts: [prodsvc.prod.svc.cluster.local], http: [{{route: [{}, {}]}}]}}\n",
        to("v1-canary", canary),
        to("v1-stable", 100 - canary)
    )
}

/// A route of Istio's kind for these hosts.
pub fn istio_route(hosts: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1beta1\nkind: VirtualService\nmetadata: {{name: foreign, namespace: dev}}\n\
         spec: {{hosts: {hosts}, http: [{{route: [{{destination: {{host: prodsvc.prod.svc.cluster.local}}}}]}}]}}\n"
    )
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

impl World {
    /// An API server with Causeway's kinds and rights, the Service and its Pods.
    pub fn start() -> Self {
        let kube = ApiServer::start();
        let manifest = std::fs::read_to_string(repository().join("deploy/causeway.yaml")).unwrap();
        let is_part = |document: &&str| PARTS.iter().any(|kind| document.contains(&format!("\nkind: {kind}\n")));
        let parts: Vec<&str> = manifest.split("\n---").filter(is_part).collect();
        kube.kubectl_with_input(&["apply", "--server-side", "-f", "-"], &parts.join("\n---")).unwrap();
        kube.kubectl(&["wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"]).unwrap();
        let account = kube.as_service_account("causeway-system", "causeway-control-plane").kubeconfig().to_owned();
        kube.create_namespace("dev", &[]);
        kube.create_namespace("prod", &[]);
        let mut objects =
            "apiVersion: v1\nkind: Service\nmetadata: {name: prodsvc, namespace: prod}\nspec: {selector: \
                           {app: prodsvc}, ports: [{name: http, port: 80, targetPort: 8080}]}\n"
                .to_owned();
        for (namespace, name, _, labels) in PODS {
            let _ = write!(
                objects,
                "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: \
                 {{causeway.dev/injected: 'true', {labels}}}}}\nspec: {{containers: [{{name: app, image: app, ports: \
                 [{{containerPort: 8080}}]}}]}}\n"
            );
        }
        kube.apply(&objects).unwrap();
        for (namespace, name, ip, _) in PODS {
            let status = format!(
                r#"{{"status":{{"phase":"Running","podIP":"{ip}","podIPs":[{{"ip":"{ip}"}}],"conditions":[{{"type":"Ready","status":"True"}}]}}}}"#
            );
            kube.kubectl(&[
                "-n",
                namespace,
                "patch",
                "pod",
                name,
                "--subresource=status",
                "--type=merge",
                "-p",
                &status,
            ])
            .unwrap();
        }
        let directory = tempfile::tempdir().unwrap();
        Self { kube, account, replicas: BTreeMap::new(), proxies: BTreeMap::new(), directory }
    }

    /// Istio's kinds.
    pub fn install_istio(&self) {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("kube/istio-crds.yaml");
        self.kube.kubectl(&["apply", "-f", &file.display().to_string()]).unwrap();
        self.kube.kubectl(&["wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"]).unwrap();
    }

    /// Starts a control plane and waits until it is ready.
    pub fn replica(&mut self, name: &str, address: IpAddr) {
        let (listen, admin) = (SocketAddr::new(address, free_port()), free_port());
        let path = |file: String| self.directory.path().join(file).display().to_string();
        let mut command = Command::new(binary("causeway-control-plane"));
        command
            .env("KUBECONFIG", &self.account)
            .args(["--source", "kubernetes", "--pod-name", name, "--state", &path(format!("{name}.state"))])
            .args(["--listen", &listen.to_string(), "--admin", &format!("127.0.0.1:{admin}")])
            .args(["--log", "info,causeway_control_plane=debug"]);
        let process = Process::start(name, &mut command, Path::new(&path(format!("{name}.log"))));
        self.replicas.insert(name.to_owned(), Replica { listen, process });
        ready(admin, "/readyz");
    }

    /// Writes where the replicas are, as the endpoint controller would.
    pub fn publish_replicas(&self) {
        let mut slices = String::new();
        for (name, replica) in &self.replicas {
            let (ip, port) = (replica.listen.ip(), replica.listen.port());
            let _ = write!(
                slices,
                "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}, namespace: \
                 causeway-system, labels: {{kubernetes.io/service-name: causeway-control-plane}}}}\naddressType: IPv4\n\
                 endpoints: [{{addresses: ['{ip}'], conditions: {{ready: true}}, targetRef: {{kind: Pod, name: {name}, \
                 namespace: causeway-system}}}}]\nports: [{{name: grpc, port: {port}, protocol: TCP}}]\n"
            );
        }
        self.kube.apply(&slices).unwrap();
        let there = self.kube.get(&["-n", "causeway-system", "endpointslices"]).unwrap();
        for slice in there["items"].as_array().unwrap() {
            let name = slice["metadata"]["name"].as_str().unwrap();
            if !self.replicas.contains_key(name) {
                self.kube.kubectl(&["-n", "causeway-system", "delete", "endpointslice", name]).unwrap();
            }
        }
    }

    /// Waits until this replica holds the Lease.
    pub fn until_leader(&self, name: &str) {
        until(&format!("{name} leads"), START, || {
            let lease = self.kube.get(&["-n", "causeway-system", "lease", "causeway-control-plane"])?;
            let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned();
            if holder.starts_with(&format!("{name}_")) { Ok(()) } else { Err(holder) }
        });
    }

    /// Starts the proxy of a Pod, connected to one replica, and waits until it is ready.
    pub fn proxy(&mut self, pod: &str, replica: usize) {
        let (namespace, name) = pod.split_once('/').unwrap();
        let token = self.kube.token(namespace, "default", Some(name), Some("causeway")).unwrap();
        let path = |file: &str| self.directory.path().join(format!("{name}.{file}"));
        std::fs::write(path("token"), token).unwrap();
        let template = r#"go-template={{index .data "ca.crt" | base64decode}}"#;
        let root =
            self.kube.kubectl(&["-n", "causeway-system", "get", "secret", "causeway-ca", "-o", template]).unwrap();
        std::fs::write(path("pem"), root).unwrap();
        let listen = self.replicas.values().nth(replica).unwrap().listen;
        let (health, admin) = (free_port(), free_port());
        let at = |port: u16| format!("127.0.0.1:{port}");
        let mut command = Command::new(binary("causeway-proxy"));
        command
            .args(["--control-plane", &format!("https://{listen}"), "--workload", pod])
            .arg("--trust-bundle")
            .arg(path("pem"))
            .arg("--token-file")
            .arg(path("token"))
            .args(["--outbound", &at(free_port()), "--inbound-explicit", &format!("{}={}", at(free_port()), at(1))])
            .args(["--health", &at(health), "--admin", &at(admin)]);
        let process = Process::start(pod, &mut command, &path("log"));
        self.proxies.insert(pod.to_owned(), (process, admin));
        ready(health, "/ready");
    }

    /// Shares of the first route that a proxy has in force.
    pub fn weights(&self, pod: &str) -> Vec<u64> {
        let config: Value = serde_json::from_str(&page(self.proxies[pod].1, "/config").unwrap()).unwrap();
        let destinations = config["destinations"].as_object().unwrap().values();
        let routed = destinations.into_iter().find(|d| d["routes"].as_array().is_some_and(|r| !r.is_empty())).unwrap();
        let backends = routed["routes"][0]["split"]["backends"].as_array().unwrap();
        backends.iter().map(|b| b["weight"].as_u64().unwrap()).collect()
    }

    /// `kubectl wait --for=condition=Programmed`
    pub fn programmed(&self, what: &[&str], limit: Duration) -> Result<String, String> {
        let [rest @ .., kind, name] = what else { panic!("{what:?}") };
        self.kube.wait(&[rest, &[&*format!("{kind}/{name}")]].concat(), "condition=Programmed", limit)
    }

    /// Waits until there is an Event of this reason.
    pub fn events(&self, namespace: &str, reason: &str) {
        until(&format!("an Event {reason}"), START, || {
            let all = self.kube.kubectl(&["-n", namespace, "get", "events.events.k8s.io", "-o", "wide"])?;
            if all.lines().any(|l| l.contains(&format!(" {reason} "))) { Ok(()) } else { Err(all) }
        });
    }

    pub fn signal(&self, pod: &str, name: &str) {
        self.proxies[pod].0.signal(name);
    }

    pub fn stop(&mut self, pod: &str) {
        self.proxies.remove(pod);
    }

    pub fn signal_replica(&self, replica: &str, name: &str) {
        self.replicas[replica].process.signal(name);
    }

    pub fn kill_replica(&mut self, replica: &str) {
        if let Some(mut gone) = self.replicas.remove(replica) {
            gone.process.kill();
        }
    }
}

fn ready(port: u16, path: &str) {
    until(&format!("{path} on port {port}"), START, || page(port, path));
}

fn page(port: u16, path: &str) -> Result<String, String> {
    let url = format!("http://127.0.0.1:{port}{path}");
    let answer = run(Command::new("curl").args(["-sS", "--noproxy", "*", "--fail-with-body", "-m", "5", &url]));
    if answer.code == Some(0) { Ok(answer.stdout) } else { Err(format!("{}{}", answer.stdout, answer.stderr)) }
}
