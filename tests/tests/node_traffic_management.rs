//! Traffic management as a user of a cluster has it: `kubectl apply`, `kubectl wait --for=condition=Programmed`, and the
//! very next request of an injected pod is treated as written. The scenarios share one node and each has a Service of its
//! own; they take turns, since some of them measure. `CAUSEWAY_SCENARIO=cors,slow` runs those whose names hold one of
//! these words.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a suite"
)]

#[path = "node_traffic_management/acting.rs"]
mod acting;
#[path = "node_traffic_management/again.rs"]
mod again;
#[path = "node_traffic_management/balancing.rs"]
mod balancing;
#[path = "node_traffic_management/health.rs"]
mod health;
#[path = "node_traffic_management/limits.rs"]
mod limits;
#[path = "node_traffic_management/matching.rs"]
mod matching;
#[path = "node_traffic_management/resilience.rs"]
mod resilience;
#[path = "node_traffic_management/sharing.rs"]
mod sharing;
#[path = "node_traffic_management/stage.rs"]
mod stage;

use causeway_tests::capability::{NODE, Need, has};
use causeway_tests::scenarios::{Scenario, play};
use stage::Stage;

/// The last one adds a pod.
const SCENARIOS: &[Scenario<Stage>] = &[
    ("each condition of a match decides", matching::each_condition_decides),
    ("redirects and direct answers", acting::redirects_and_answers),
    ("rewrites and changes of headers", acting::rewrites_and_headers),
    ("cors", acting::cors),
    ("faults: delay and abort", acting::faults),
    ("mirrors", acting::mirrors),
    ("some faults, some copies", acting::shares),
    ("mirrors that hang or fail", acting::hanging_mirrors),
    ("a deleted route is gone", acting::deleted),
    ("timeouts", resilience::timeouts),
    ("retries", resilience::retries),
    ("retries: storms, sizes and waits", again::bounds),
    ("retries: gRPC by its codes", again::grpc),
    ("retries: streams that are refused", again::refused),
    ("retry budget", resilience::retry_budget),
    ("connect failures", resilience::connect_failures),
    ("outliers are ejected and return", health::outliers),
    ("outliers: gateway errors", health::gateway_errors),
    ("outliers: no connection", health::no_connection),
    ("outliers: no more than their share", health::share),
    ("a slow endpoint is ejected", health::slow_outlier),
    ("a sticky split moves nobody back", sharing::sticky),
    ("a consumer namespace pins its version", sharing::pinned),
    ("round robin and least request", balancing::least_request),
    ("consistent hash by header, query, identity and cookie", balancing::consistent_hash),
    ("consistent hash: a key that is too much for one", balancing::bounded),
    ("circuit: requests", limits::requests),
    ("circuit: pending", limits::pending),
    ("circuit: connections for requests", limits::connections),
    ("circuit: connections for bytes", limits::connections_for_bytes),
    ("rate limit", limits::rate),
    ("slow start", balancing::slow_start),
];

#[test]
fn what_is_applied_and_programmed_holds_for_the_next_request() {
    if !has(&[NODE, &[Need::Python, Need::Program("unshare")]].concat()) {
        return;
    }
    let stage = Stage::set();
    let _told = stage.node.told(&["dev", "qa", "prod"]);
    play(&stage, SCENARIOS);
}
