//! How far requests of an injected pod reach, as a user of a cluster has it: which endpoints of a Service, near ones first;
//! which version along a chain of calls; which hosts outside of the mesh, and how. `kubectl apply`, `kubectl wait`, and
//! what real clients then see. The scenarios share one node and take turns; `CAUSEWAY_SCENARIO=zones,egress` runs some.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a suite"
)]

#[path = "node_traffic_reach/balancing.rs"]
mod balancing;
#[path = "node_traffic_reach/canary.rs"]
mod canary;
#[path = "node_traffic_reach/egress.rs"]
mod egress;
#[path = "node_traffic_reach/outside.rs"]
mod outside;
#[path = "node_traffic_reach/stage.rs"]
mod stage;
#[path = "node_traffic_reach/zones.rs"]
mod zones;

use causeway_tests::capability::{NODE, Need, has};
use causeway_tests::scenarios::{Scenario, play};
use stage::Stage;

/// The last one installs Causeway with another setting.
const SCENARIOS: &[Scenario<Stage>] = &[
    ("random", balancing::random),
    ("no more than so many retries", balancing::retries),
    ("requests per connection", balancing::requests_per_connection),
    ("idle connections are probed", balancing::probed),
    ("zones: hints of slices", zones::hints),
    ("zones: what the near ones cannot carry", zones::spill_over),
    ("zones: the own zone by the rule", zones::preferred),
    ("regions: the own one first", zones::regions),
    ("zones: a Service that prefers what is close", zones::prefer_close),
    ("a version follows a chain of calls", canary::chain),
    ("half a percent", canary::half_a_percent),
    ("egress: a namespace denies it", egress::denied_by_namespace),
    ("egress: the root namespace names hosts for everybody", egress::for_everybody),
    ("egress: endpoints that an entry names", egress::named_endpoints),
    ("egress: timeouts, retries and limits of a host", egress::routes),
    ("egress: TLS that the proxy begins", egress::origination),
    ("egress: the mesh denies it", egress::denied_by_mesh),
];

#[test]
fn requests_reach_what_they_should_and_nothing_else() {
    if !has(&[NODE, &[Need::Program("nginx"), Need::Program("ss")]].concat()) {
        return;
    }
    let stage = Stage::set();
    let _told = stage.node.told(&["dev", "qa", "prod"]);
    play(&stage, SCENARIOS);
}
