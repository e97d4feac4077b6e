//! What the scenarios share: a client, two servers behind a Service, strict mutual TLS, and a namespace outside.

use std::time::{Duration, Instant};

use causeway_tests::kube::{Inside, Load, Node};
use causeway_tests::pod::Reply;
use causeway_tests::until;
use serde_json::Value;

/// Longest wait for pods, on two cores that do everything.
pub const ROLLOUT: Duration = Duration::from_secs(120);

/// How the client names the servers.
pub const URL: &str = "http://server.life/";

const WORKLOADS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: life, labels: {causeway.dev/inject: "true"}}
---
apiVersion: v1
kind: Namespace
metadata: {name: aside}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: server, namespace: life}
---
apiVersion: v1
kind: Service
metadata: {name: server, namespace: life}
spec:
  selector: {app: server}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: server, namespace: life}
spec:
  replicas: 2
  selector: {matchLabels: {app: server}}
  template:
    metadata: {labels: {app: server}}
    spec:
      serviceAccountName: server
      containers:
      - name: app
        image: causeway-test/app:1
        args: [http, --name, server, --listen, "[::]:8080"]
        readinessProbe: {httpGet: {port: 8080, path: /}, periodSeconds: 1}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: client, namespace: life}
spec:
  selector: {matchLabels: {app: client}}
  template:
    metadata: {labels: {app: client}}
    spec:
      containers:
      - name: app
        image: causeway-test/app:1
        args: [http, --name, client, --listen, "[::]:8080"]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: victim, namespace: life}
spec:
  selector: {matchLabels: {app: victim}}
  template:
    metadata: {labels: {app: victim}}
    spec:
      containers:
      - name: app
        image: causeway-test/app:1
        args: [http, --name, victim, --listen, "[::]:8080"]
---
apiVersion: causeway.dev/v1alpha1
kind: PeerAuthentication
metadata: {name: default, namespace: life}
spec: {mtls: {mode: STRICT}}
"#;

/// The running workloads.
pub struct Stage {
    /// With Causeway installed.
    pub node: &'static Node,
    /// Sends the load; nobody touches its pod.
    pub client: Inside,
    /// A client whose proxy is killed.
    pub victim: Inside,
}

impl Stage {
    /// Makes the workloads and waits until they serve.
    pub fn set() -> Self {
        let node = Node::shared();
        let _told = node.told(&["life"]);
        until("the workloads are accepted", ROLLOUT, || node.apply(WORKLOADS));
        for name in ["server", "client", "victim"] {
            node.rolled_out("life", &format!("deploy/{name}"), ROLLOUT);
        }
        let (client, victim) = (node.app("life", "app=client"), node.app("life", "app=victim"));
        let stage = Self { node, client, victim };
        stage.serves(&stage.victim);
        stage.serves(&stage.client);
        stage
    }

    /// Waits until requests of a pod are answered; how long that took.
    pub fn serves(&self, from: &Inside) -> Duration {
        let begun = Instant::now();
        until("requests are answered", ROLLOUT, || {
            let reply = from.curl(&["-m", "2", URL]);
            if reply.status == 200 { Ok(()) } else { Err(format!("{reply:?}")) }
        });
        begun.elapsed()
    }

    /// Kills the victim's proxy and waits until the kubelet has started it again and it serves.
    pub fn victim_restarts(&self) {
        let pod = self.node.pod("life", "app=victim");
        let before = self.restarts(&pod, "causeway-proxy");
        kill(self.node.container_pid("life", &pod, "causeway-proxy"));
        until("the kubelet has started it again", ROLLOUT, || {
            if self.restarts(&pod, "causeway-proxy") > before { Ok(()) } else { Err("not yet".to_owned()) }
        });
        println!("   a killed proxy served again after {:.2} s", self.serves(&self.victim).as_secs_f64());
    }

    /// One request of the client.
    pub fn request(&self) -> Reply {
        self.client.curl(&["-m", "5", URL])
    }

    /// Load that goes on until [`finish`].
    pub fn start_load(&self) -> Load {
        self.client.start_load(&["--url", URL, "--concurrency", "4", "--pause-ms", "10"])
    }

    /// Scales a Deployment and waits until so many pods are ready and no others are left.
    pub fn scale(&self, namespace: &str, name: &str, replicas: u32) {
        let count = replicas.to_string();
        let target = format!("deploy/{name}");
        self.node.kubectl(&["-n", namespace, "scale", &target, &format!("--replicas={count}")]).unwrap();
        until(&format!("{count} pods of {name}"), ROLLOUT, || {
            let pods = self.pods(namespace, name).len().to_string();
            let deployment = self.node.get(&["-n", namespace, "deploy", name])?;
            let ready = deployment["status"]["readyReplicas"].as_u64().unwrap_or(0).to_string();
            if pods == count && ready == count { Ok(()) } else { Err(format!("{pods} pods, {ready} ready")) }
        });
    }

    /// The pods of a Deployment, those that are ending included.
    pub fn pods(&self, namespace: &str, name: &str) -> Vec<Value> {
        let label = if namespace == "causeway-system" { "app.kubernetes.io/name" } else { "app" };
        let list = self.node.get(&["-n", namespace, "pods", "-l", &format!("{label}={name}")]).unwrap_or_default();
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// Names of the pods of a Deployment.
    pub fn names(&self, namespace: &str, name: &str) -> Vec<String> {
        let pods = self.pods(namespace, name);
        pods.iter().filter_map(|p| p["metadata"]["name"].as_str().map(str::to_owned)).collect()
    }

    /// How often a container of a pod has been restarted.
    pub fn restarts(&self, pod: &str, container: &str) -> u64 {
        let pod = self.node.get(&["-n", "life", "pod", pod]).unwrap_or_default();
        let statuses = ["containerStatuses", "initContainerStatuses"].map(|l| pod["status"][l].as_array().cloned());
        let found = statuses.into_iter().flatten().flatten().find(|s| s["name"] == container);
        found.and_then(|s| s["restartCount"].as_u64()).unwrap_or(0)
    }

    /// Waits until the proxies of these pods are connected to a control plane.
    pub fn connected(&self, inside: &[&Inside]) {
        until("every proxy is connected", ROLLOUT, || {
            for pod in inside {
                let metrics = pod.curl(&["-m", "2", "http://127.0.0.1:15020/metrics"]);
                if !metrics.body.contains("causeway_control_plane_connected 1") {
                    return Err(format!("process {} is not: {}", pod.pid(), metrics.error));
                }
            }
            Ok(())
        });
    }
}

/// Ends a load of which nothing may have failed.
pub fn finish(load: Load) {
    let report = load.stop();
    println!("   load: {report}");
    assert_eq!(report["failed"], 0, "{report}");
    assert!(report["sent"].as_u64() > Some(100), "hardly any load: {report}");
}

/// Kills a process at once, as the kernel does when memory runs out.
pub fn kill(pid: u32) {
    let status = std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap();
    assert!(status.success(), "kill {pid}");
}
