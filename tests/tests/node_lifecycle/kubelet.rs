//! The kubelet is killed and started again; pods are not its children.

use std::time::Duration;

use crate::stage::{ROLLOUT, Stage, finish};

/// Kills it under load; it ends a pod once it is back.
pub fn restarted(stage: &Stage) {
    let before: Vec<String> = stage.names("life", "server");
    let load = stage.start_load();
    stage.node.kill_component("kubelet");
    load.goes_on(Duration::from_secs(3));
    stage.node.start_component("kubelet");
    stage.node.wait(&["node/node1"], "condition=Ready", ROLLOUT).unwrap();
    stage.scale("life", "server", 2);
    finish(load);
    let after = stage.names("life", "server");
    let stayed = after.iter().filter(|pod| before.contains(pod)).count();
    assert!(stayed >= 1, "{before:?} -> {after:?}");
    for pod in after.iter().filter(|pod| before.contains(pod)) {
        assert_eq!(stage.restarts(pod, "app"), 0, "{pod}");
    }
}
