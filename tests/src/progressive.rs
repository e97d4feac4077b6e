//! What drives canaries in the suites: Flagger, Argo Rollouts' controller, and the Prometheus that Flagger asks. They run
//! beside the pods of a node, with its kubeconfig, as processes that end with it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use crate::kube::{Cluster, Node};
use crate::process::Process;

/// Longest wait for one of them to say that it works.
const START: Duration = Duration::from_secs(60);

/// Where Prometheus answers, seen from the node itself.
pub const PROMETHEUS: &str = "http://127.0.0.1:9090";

/// The path of `flagger` or `rollouts-controller`.
///
/// # Panics
/// When `tests/progressive/fetch` cannot be run.
pub fn program(name: &str) -> PathBuf {
    directory().join(name)
}

/// The CustomResourceDefinitions that users of `flagger`, `rollouts`, `istio` or `gateway-api` have in their cluster.
pub fn kinds(of: &str) -> String {
    let path = directory().join(format!("crds/{of}.yaml"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("progressive/fetch");
        PathBuf::from(crate::process::run(Command::new(script).arg("--where")).ok().trim())
    })
}

/// Prometheus, and what tells it of the pods.
#[derive(Debug)]
pub struct Prometheus {
    is_over: Arc<AtomicBool>,
    teller: Option<JoinHandle<()>>,
    _process: Process,
}

impl Prometheus {
    /// Starts it with the scrape configuration of the documents. Debian's has no discovery by the API server, so the
    /// pods come from a file, with the labels that the discovery would give them.
    pub fn start(node: &Node, configuration: &str) -> Self {
        let directory = node.directory().join("prometheus");
        std::fs::create_dir_all(&directory).expect("directory of Prometheus");
        let file = directory.join("prometheus.yml");
        let discovery = "kubernetes_sd_configs:\n  - role: pod";
        assert!(configuration.contains(discovery), "the documents' configuration finds pods: {configuration}");
        let configuration = configuration.replace(discovery, "file_sd_configs:\n  - files: [targets.json]");
        std::fs::write(&file, configuration).expect("its configuration");
        let is_over = Arc::new(AtomicBool::new(false));
        let (cluster, stop, targets) = (Cluster::clone(node), Arc::clone(&is_over), directory.join("targets.json"));
        let teller = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                tell(&cluster, &targets);
                std::thread::sleep(Duration::from_secs(1));
            }
        });
        let mut command = node.enter("prometheus");
        command.arg("--config.file").arg(&file).arg("--storage.tsdb.path").arg(directory.join("data"));
        command.args(["--web.listen-address", "127.0.0.1:9090", "--log.level", "info"]);
        let process = Process::start("prometheus", &mut command, &log(node, "prometheus")).untold();
        process.wait_for_log("Server is ready to receive web requests", START);
        Self { is_over, teller: Some(teller), _process: process }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(teller) = self.teller.take() {
            let _ = teller.join();
        }
    }
}

/// Writes the pods that run. While the API server does not answer, the former list stays.
fn tell(cluster: &Cluster, file: &Path) {
    let Ok(pods) = cluster.get(&["-A", "pods", "--field-selector=status.phase=Running"]) else { return };
    let targets = pods["items"].as_array().into_iter().flatten().filter_map(|pod| {
        let (meta, address) = (&pod["metadata"], pod["status"]["podIP"].as_str()?);
        let injected = meta["labels"]["causeway.dev/injected"].as_str().unwrap_or_default();
        let labels = json!({
            "__meta_kubernetes_pod_ip": address,
            "__meta_kubernetes_pod_name": meta["name"],
            "__meta_kubernetes_namespace": meta["namespace"],
            "__meta_kubernetes_pod_label_causeway_dev_injected": injected,
        });
        Some(json!({"targets": [address], "labels": labels}))
    });
    let targets: Vec<Value> = targets.collect();
    let part = file.with_extension("part");
    if std::fs::write(&part, Value::from(targets).to_string()).is_ok() {
        let _ = std::fs::rename(&part, file);
    }
}

/// Flagger for the whole cluster; a canary names its provider itself.
pub fn flagger(node: &Node) -> Process {
    let mut command = node.enter(program("flagger"));
    command.arg("-kubeconfig").arg(node.kubeconfig());
    command.args(["-metrics-server", PROMETHEUS, "-port", "9081", "-control-loop-interval", "1s", "-threadiness", "4"]);
    let process = Process::start("flagger", &mut command, &log(node, "flagger"));
    process.wait_for_log("Connected to metrics server", START);
    process
}

/// Argo Rollouts' controller for the whole cluster.
pub fn rollouts(node: &Node) -> Process {
    let mut command = node.enter(program("rollouts-controller"));
    command.arg("--kubeconfig").arg(node.kubeconfig());
    command.args(["--metricsPort", "9082", "--healthzPort", "9083", "--leader-elect=false"]);
    let process = Process::start("rollouts-controller", &mut command, &log(node, "rollouts-controller"));
    process.wait_for_log("Started controller", START);
    process
}

fn log(node: &Node, name: &str) -> PathBuf {
    node.directory().join(format!("log/{name}.log"))
}
