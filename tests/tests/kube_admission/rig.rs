//! An API server with Causeway's manifest, and a control plane beside it.

use std::ops::Deref;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use causeway_tests::binaries::binary;
use causeway_tests::kube::{ApiServer, Cluster};
use causeway_tests::ports::free_port;
use causeway_tests::process::Process;
use causeway_tests::until;
use serde_json::{Value, json};

/// The rig, used through the API server's methods.
pub struct Rig {
    control_plane: Option<Process>,
    pub webhook: u16,
    admin: u16,
    // Last: it removes the directory.
    kube: ApiServer,
}

/// A Pod of one container; `more` goes into its spec.
pub fn pod(namespace: &str, name: &str, labels: &Value, more: &Value) -> String {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"containers": [{"name": "a", "image": "a:1"}]},
    });
    for (key, value) in more.as_object().unwrap() {
        pod["spec"][key] = value.clone();
    }
    pod.to_string()
}

impl Rig {
    pub fn start() -> Self {
        let kube = ApiServer::start();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let manifest = root.join("deploy/causeway.yaml").display().to_string();
        let istio = root.join("tests/kube/istio-crds.yaml").display().to_string();
        for file in [&manifest, &istio] {
            // Its own kinds may not be served yet at the first try.
            until("the manifest is applied", Duration::from_secs(60), || {
                kube.kubectl(&["apply", "--server-side", "-f", file])
            });
        }
        kube.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"]).unwrap();
        let [webhook, admin, listen, health] = [(); 4].map(|()| free_port());
        // The API server cannot reach a Service's address here; to an ExternalName it connects by that name, and
        // expects the certificate of the Service's own.
        kube.kubectl(&["-n", "causeway-system", "delete", "service", "causeway-control-plane"]).unwrap();
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "causeway-control-plane", "namespace": "causeway-system"},
            "spec": {"type": "ExternalName", "externalName": "localhost"},
        });
        kube.apply(&service.to_string()).unwrap();
        for (kind, name, count) in [
            ("mutatingwebhookconfiguration", "causeway-injector", 2),
            ("validatingwebhookconfiguration", "causeway-validator", 2),
        ] {
            let operations: Vec<Value> = (0..count)
                .map(|i| {
                    let path = format!("/webhooks/{i}/clientConfig/service/port");
                    json!({"op": "replace", "path": path, "value": webhook})
                })
                .collect();
            let patch = Value::Array(operations).to_string();
            kube.kubectl(&["patch", kind, name, "--type=json", "-p", &patch]).unwrap();
        }
        kube.create_namespace("dev", &[("causeway.dev/inject", "true")]);
        kube.create_namespace("plain", &[]);
        for system in ["kube-system", "causeway-system"] {
            kube.create_service_account(system, "default");
        }
        // So that the pods of the tests can stand there too.
        kube.kubectl(&["label", "namespace", "causeway-system", "pod-security.kubernetes.io/enforce-"]).unwrap();
        let account = kube.as_service_account("causeway-system", "causeway-control-plane");
        let mut rig = Self { control_plane: None, webhook, admin, kube };
        rig.control_plane = Some(rig.control_plane(&account, listen, health));
        until("pods of namespace dev can be created", Duration::from_secs(120), || {
            rig.kubectl_with_input(
                &["create", "--dry-run=server", "-f", "-"],
                &pod("dev", "try", &json!({}), &json!({})),
            )
        });
        until("resources can be created", Duration::from_secs(60), || {
            rig.kubectl_with_input(&["create", "--dry-run=server", "-f", "-"], super::resources::ROUTE)
        });
        rig
    }

    fn control_plane(&self, account: &Cluster, listen: u16, health: u16) -> Process {
        let mut command = Command::new(binary("causeway-control-plane"));
        let on = |port: u16| format!("127.0.0.1:{port}");
        command
            .env("KUBECONFIG", account.kubeconfig())
            .args(["--source", "kubernetes", "--pod-name", "control-plane-0", "--proxy-image", "causeway/proxy:test"])
            .arg("--state")
            .arg(self.directory().join("state"))
            .args(["--listen", &on(listen), "--admin", &on(self.admin), "--health", &on(health)])
            .args(["--webhook", &on(self.webhook), "--leaf-ttl", "30s"]);
        Process::start("control-plane", &mut command, &self.directory().join("control-plane.log"))
    }

    pub fn stop_control_plane(&mut self) {
        self.control_plane = None;
    }

    /// `caBundle` of the first webhook, base64.
    pub fn bundle(&self, kind: &str, name: &str) -> String {
        let found = self.get(&[kind, name]).unwrap();
        let all: Vec<&Value> =
            found["webhooks"].as_array().unwrap().iter().map(|w| &w["clientConfig"]["caBundle"]).collect();
        assert!(!all.is_empty());
        all.iter().map(|b| b.as_str().unwrap_or_default()).collect::<Vec<_>>().join(" ")
    }

    /// A certificate that signed none of ours, base64.
    pub fn foreign_bundle(&self) -> String {
        base64::engine::general_purpose::STANDARD.encode(std::fs::read(self.ca()).unwrap())
    }

    /// The roots that the webhooks' certificate chains to, as a file.
    pub fn roots(&self) -> String {
        let bundle = self.bundle("mutatingwebhookconfiguration", "causeway-injector");
        let first = bundle.split(' ').next().unwrap();
        let pem = base64::engine::general_purpose::STANDARD.decode(first).unwrap();
        let file = self.directory().join("roots.pem");
        std::fs::write(&file, pem).unwrap();
        file.display().to_string()
    }

    /// When the webhooks' certificate ends, seconds since the epoch, as the metrics say.
    pub fn certificate_expiry(&self) -> f64 {
        let metrics = Command::new("curl")
            .args(["-sS", "--max-time", "10", &format!("http://127.0.0.1:{}/metrics", self.admin)])
            .output()
            .unwrap();
        let text = String::from_utf8(metrics.stdout).unwrap();
        let name = "causeway_control_plane_webhook_certificate_expiry_timestamp_seconds ";
        text.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_else(|| panic!("{text}")).parse().unwrap()
    }

    pub fn is_injected(&self, namespace: &str, name: &str) -> bool {
        let pod = self.get(&["-n", namespace, "pod", name]).unwrap();
        let names: Vec<_> =
            pod["spec"]["initContainers"].as_array().into_iter().flatten().map(|c| c["name"].clone()).collect();
        let has_both = names.starts_with(&[json!("causeway-redirect"), json!("causeway-proxy")]);
        assert_eq!(has_both, pod["metadata"]["labels"]["causeway.dev/injected"] == "true", "{pod}");
        has_both
    }
}

impl Deref for Rig {
    type Target = ApiServer;

    fn deref(&self) -> &ApiServer {
        &self.kube
    }
}
