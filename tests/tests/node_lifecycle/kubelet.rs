//! The kubelet is killed and started again; pods are not its children.

use std::time::Duration;

use causeway_tests::kube::Node;
use causeway_tests::until;
use serde_json::Value;

use crate::stage::{ROLLOUT, Stage, finish};

/// For so long nothing is ready: longer than a proxy goes on with endpoints that it is no longer told of (10 s).
const UNHEARD: Duration = Duration::from_secs(15);

/// What the node controller writes into each pod of a node that it does not hear of. It does so 50 s after the last word
/// of the kubelet, or when it is itself restarted at the wrong moment; here it is written for it, so that it is certain.
const NOT_READY: &str = r#"{"status": {"conditions": [{"type": "Ready", "status": "False"}]}}"#;

/// Kills it under load, none of the servers counts as ready for a while; it ends a pod once it is back.
pub fn restarted(stage: &Stage) {
    let node = stage.node;
    stage.scale("life", "server", 3);
    let before: Vec<String> = stage.names("life", "server");
    let load = stage.start_load();
    node.kill_component("kubelet");
    for pod in &before {
        node.kubectl(&["-n", "life", "patch", "pod", pod, "--subresource=status", "-p", NOT_READY]).unwrap();
    }
    until("the EndpointSlices call nothing ready", ROLLOUT, || match ready(node) {
        0 => Ok(()),
        left => Err(format!("{left} endpoints are ready")),
    });
    load.goes_on(UNHEARD);
    assert_eq!(ready(node), 0, "the kubelet was to be away for all of it");
    node.start_component("kubelet");
    stage.scale("life", "server", 2);
    node.wait(&["node/node1"], "condition=Ready", ROLLOUT).unwrap();
    finish(load);
    let after = stage.names("life", "server");
    let stayed = after.iter().filter(|pod| before.contains(pod)).count();
    assert!(stayed >= 1, "{before:?} -> {after:?}");
    for pod in after.iter().filter(|pod| before.contains(pod)) {
        assert_eq!(stage.restarts(pod, "app"), 0, "{pod}");
    }
}

/// Endpoints of the servers that the EndpointSlices call ready.
fn ready(node: &Node) -> usize {
    let slices =
        node.get(&["-n", "life", "endpointslices", "-l", "kubernetes.io/service-name=server"]).unwrap_or_default();
    let items = slices["items"].as_array().cloned().unwrap_or_default();
    let endpoints = items.iter().filter_map(|slice| slice["endpoints"].as_array()).flatten();
    endpoints.filter(|e: &&Value| e["conditions"]["ready"] != false).count()
}
