//! The harness's node runs pods that reach one another by name, and survives the loss of its components.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test")]

use std::process::Command;
use std::time::Duration;

use causeway_tests::capability::{NODE, has};
use causeway_tests::kube::{Node, images};
use causeway_tests::process::run;
use causeway_tests::until;

const PODS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: app
        image: causeway-test/app:1
        args: [http, --name, web, --listen, \"0.0.0.0:8080\"]
        ports: [{containerPort: 8080}]
        readinessProbe: {httpGet: {port: 8080, path: /}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
";

#[test]
fn a_node_runs_pods_behind_a_service_and_leaves_nothing_behind() {
    if !has(NODE) {
        return;
    }
    let node = Node::start();
    node.load_image(&images::app(&node.directory().join("images")));
    node.apply(PODS).unwrap();
    node.rolled_out("shop", "deploy/web", Duration::from_secs(60));
    let pods = node.get(&["-n", "shop", "pods"]).unwrap();
    let pod = pods["items"][0]["metadata"]["name"].as_str().unwrap().to_owned();
    let curl = || node.exec("shop", &pod, "app", &["curl", "-sS", "-m", "3", "http://web.shop.svc.cluster.local/"]);
    assert_eq!(until("a pod reaches the Service by name", Duration::from_secs(20), curl), "web\n");
    let address =
        node.get(&["-n", "shop", "service", "web"]).unwrap()["spec"]["clusterIP"].as_str().unwrap().to_owned();
    assert_eq!(run(Command::new("curl").args(["-sS", "--noproxy", "*", "-m", "3", &address])).ok(), "web\n");
    assert!(node.usage("shop", &pod, "app").rss_kib > 500);

    for component in ["kubelet", "kube-apiserver"] {
        node.kill_component(component);
        assert_eq!(run(Command::new("curl").args(["-sS", "--noproxy", "*", "-m", "3", &address])).ok(), "web\n");
        node.start_component(component);
        until(component, Duration::from_secs(60), curl);
    }
    node.kubectl(&["delete", "ns", "shop", "--timeout=60s"]).unwrap();

    let directory = node.directory().to_owned();
    drop(node);
    assert!(!directory.exists());
    let left = run(Command::new("pgrep").args(["-af", &directory.display().to_string()])).stdout;
    assert_eq!(left, "");
}
