//! The API server is away: nothing can change, so nothing does.

use std::time::{Duration, Instant};

use crate::control_plane::programs;
use crate::stage::{ROLLOUT, Stage, finish};

/// Longer than leases, watches and tokens of the control plane last without it.
const AWAY: Duration = Duration::from_secs(60);

/// Kills it under load; afterwards changes arrive again.
pub fn away(stage: &Stage) {
    let load = stage.start_load();
    stage.node.kill_component("kube-apiserver");
    load.goes_on(AWAY);
    assert_eq!(stage.request().status, 200);
    stage.node.start_component("kube-apiserver");
    let back = Instant::now();
    stage.node.wait_for_path("/readyz", ROLLOUT);
    println!("   the API server is back after {:.1} s", back.elapsed().as_secs_f64());
    let programmed = programs(stage, back, ROLLOUT);
    println!("   a route is in force, and its status says so, after {:.1} s", programmed.as_secs_f64());
    stage.connected(&[&stage.client, &stage.victim]);
    finish(load);
    // Kubernetes' own controllers have come to wait a minute between two attempts; begun anew they do not.
    for name in ["kube-controller-manager", "kube-scheduler"] {
        stage.node.kill_component(name);
        stage.node.start_component(name);
    }
    for pod in stage.pods("causeway-system", "causeway-control-plane") {
        let count = pod["status"]["containerStatuses"][0]["restartCount"].as_u64();
        println!("   {}: {} restarts since its start", pod["metadata"]["name"], count.unwrap_or(0));
    }
}
