//! A node with Causeway installed, as its users install it, and what a failed test wants to know of it.

use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::inside::Inside;
use super::{
    images,
    node::{Families, Node},
};
use crate::binaries::binary;
use crate::process::run;

impl Node {
    /// A node with the images of the tests and Causeway, installed by `causeway install --apply --wait FLAGS`.
    pub fn with_causeway(flags: &[&str]) -> Self {
        Self::with_causeway_and(Families::Four, flags)
    }

    /// As [`Node::with_causeway`], on a node with these addresses.
    pub fn with_causeway_and(families: Families, flags: &[&str]) -> Self {
        let out = tempfile::tempdir().expect("temporary directory");
        let path = out.path();
        // The images are made while the node starts.
        let (node, archives) = std::thread::scope(|scope| {
            let archives = scope.spawn(|| {
                let [control_plane, proxy] = images::causeway(path);
                [control_plane, proxy, images::app(path)]
            });
            (Self::start_with(families), archives.join().expect("images"))
        });
        for archive in archives {
            node.load_image(&archive);
        }
        println!("node: ready, with the images");
        let begun = Instant::now();
        node.install(flags);
        println!("node: Causeway is installed, after {:.1} s", begun.elapsed().as_secs_f64());
        node
    }

    /// Runs `causeway install --apply --wait` with more flags; what it printed.
    pub fn install(&self, flags: &[&str]) -> String {
        let output = run(self.causeway(&["install", "--apply", "--wait"]).args(flags));
        if output.code != Some(0) {
            self.tell("causeway-system");
        }
        output.ok()
    }

    /// The command line of the product, talking to this cluster.
    pub fn causeway(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary("causeway"));
        command.env("KUBECONFIG", self.kubeconfig()).args(arguments);
        command
    }

    /// One node for all tests of a process. The first that comes starts it; when that fails, so do all.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Option<Node>> = OnceLock::new();
        let start = || std::panic::catch_unwind(|| Self::with_causeway(&[])).ok();
        SHARED.get_or_init(start).as_ref().expect("the node starts; see the first failure")
    }

    /// Enters a container.
    pub fn inside(&self, namespace: &str, pod: &str, container: &str) -> Inside {
        Inside::of(self.container_pid(namespace, pod, container))
    }

    /// Enters the container `app` of the one pod that has a label; waits until such a pod is ready.
    pub fn app(&self, namespace: &str, label: &str) -> Inside {
        let pod = self.pod(namespace, label);
        self.inside(namespace, &pod, "app")
    }

    /// The name of the pod that has a label, once it is ready.
    pub fn pod(&self, namespace: &str, label: &str) -> String {
        if let Err(error) = self.wait(&["-n", namespace, "pods", "-l", label], "condition=Ready", READY) {
            panic!("no ready pod {label} in {namespace}: {error}");
        }
        let pods = self.get(&["-n", namespace, "pods", "-l", label]).expect("pods");
        pods["items"][0]["metadata"]["name"].as_str().expect("a name").to_owned()
    }

    /// Prints what explains a failure in a namespace.
    pub fn tell(&self, namespace: &str) {
        let show = |arguments: &[&str]| {
            let text = self.kubectl(&[&["-n", namespace], arguments].concat()).unwrap_or_else(|e| e);
            let lines: Vec<&str> = text.lines().collect();
            let last = &lines[lines.len().saturating_sub(30)..];
            println!("---- {namespace}: kubectl {}\n{}", arguments.join(" "), last.join("\n"));
        };
        show(&["get", "pods", "-o", "wide"]);
        show(&["get", "events", "--sort-by=.lastTimestamp"]);
        show(&["get", "virtualservices.networking.istio.io,destinationrules.networking.istio.io", "-o", "wide"]);
        let pods = self.get(&["-n", namespace, "pods"]).unwrap_or_default();
        for pod in pods["items"].as_array().into_iter().flatten() {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            let has_proxy = pod["spec"]["initContainers"].to_string().contains("causeway-proxy");
            show(&["logs", name, "--tail=30", if has_proxy { "-ccauseway-proxy" } else { "--all-containers" }]);
        }
    }

    /// A guard that tells about these namespaces, and the control plane, if the test fails.
    pub fn told<'a>(&'a self, namespaces: &'a [&'a str]) -> Told<'a> {
        Told { node: self, namespaces }
    }
}

/// Longest wait for a pod.
const READY: Duration = Duration::from_secs(90);

/// See [`Node::told`].
#[derive(Debug)]
pub struct Told<'a> {
    node: &'a Node,
    namespaces: &'a [&'a str],
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for namespace in self.namespaces.iter().chain(&["causeway-system"]) {
                self.node.tell(namespace);
            }
        }
    }
}
