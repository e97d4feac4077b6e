//! The mesh on a real Kubernetes node while parts of it are killed, replaced and taken away: what goes on, what waits,
//! and what is refused. The scenarios share one node and disturb it as a whole, so they take turns in one test;
//! `CAUSEWAY_SCENARIO=kubelet,leader` runs those whose names hold one of these words.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a suite"
)]

#[path = "node_lifecycle/api_server.rs"]
mod api_server;
#[path = "node_lifecycle/capture.rs"]
mod capture;
#[path = "node_lifecycle/control_plane.rs"]
mod control_plane;
#[path = "node_lifecycle/kubelet.rs"]
mod kubelet;
#[path = "node_lifecycle/proxy.rs"]
mod proxy;
#[path = "node_lifecycle/removal.rs"]
mod removal;
#[path = "node_lifecycle/stage.rs"]
mod stage;

use std::time::Instant;

use causeway_tests::capability::{NODE, Need, has};
use stage::Stage;

/// A scenario and its name.
type Scenario = (&'static str, fn(&Stage));

/// In an order in which none has to wait for what the one before it broke; the last takes the mesh away.
const SCENARIOS: &[Scenario] = &[
    ("a killed proxy comes back from its state, and nothing passes it meanwhile", proxy::killed),
    ("the proxy of a server is killed", proxy::killed_at_the_server),
    ("a killed leader disturbs no traffic and another replica writes status", control_plane::leader_killed),
    ("the control plane is replaced under load", control_plane::replaced),
    ("the API server is away for a minute", api_server::away),
    ("the kubelet is restarted", kubelet::restarted),
    ("the control plane is away, pods end and begin, and an address changes hands", control_plane::away),
    ("what is uninstalled leaves nothing behind, and running pods go on", removal::uninstalled),
];

#[test]
fn traffic_outlives_whatever_is_killed_and_nothing_is_ever_sent_in_the_clear() {
    if !has(&[NODE, &[Need::Program("tcpdump")]].concat()) {
        return;
    }
    let wanted = std::env::var("CAUSEWAY_SCENARIO").unwrap_or_default();
    let wanted = |name: &str| wanted.split(',').any(|word| name.contains(word));
    let stage = Stage::set();
    let _told = stage.node.told(&["life", "aside"]);
    for (name, scenario) in SCENARIOS.iter().filter(|(name, _)| wanted(name)) {
        let begun = Instant::now();
        println!("== {name}");
        scenario(&stage);
        println!("   done in {:.1} s", begun.elapsed().as_secs_f64());
    }
}
