//! Services of every kind and protocols beside plain requests, as a user of a cluster has them: real DNS, real
//! EndpointSlices, a real kubelet, kube-proxy, and clients in an injected pod. `services` and `protocols` show the same
//! from a directory. `CAUSEWAY_SCENARIO` as in `node_traffic_management`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a suite"
)]

#[path = "node_traffic_services/bytes.rs"]
mod bytes;
#[path = "node_traffic_services/endpoints.rs"]
mod endpoints;
#[path = "node_traffic_services/exposed.rs"]
mod exposed;
#[path = "node_traffic_services/names.rs"]
mod names;
#[path = "node_traffic_services/stage.rs"]
mod stage;
#[path = "node_traffic_services/streams.rs"]
mod streams;

use causeway_tests::capability::{NODE, Need, has};
use causeway_tests::scenarios::{Scenario, play};
use stage::Stage;

/// The last of the endpoints' removes a pod, the last of all takes its time.
const SCENARIOS: &[Scenario<Stage>] = &[
    ("an alias of a Service has its routes and its own", names::alias),
    ("an alias of the outside is passed on", names::outside),
    ("pods of a headless Service are found by SRV records", names::discovered),
    ("endpoints written by hand", endpoints::by_hand),
    ("session affinity", endpoints::affinity),
    ("session affinity ends after a silence", endpoints::forgotten),
    ("addresses that are published before they are ready", endpoints::published),
    ("endpoints that terminate", endpoints::terminating),
    ("addresses of nodes and load balancers are left alone", exposed::left_alone),
    ("bytes by weight and by port", bytes::split),
    ("tls by name", bytes::by_name),
    ("ports declare what they speak", bytes::declared),
    ("what has routes for requests is never carried as bytes", bytes::never_bytes),
    ("websocket over http/1.1 and http/2", streams::websocket),
    ("events arrive one by one", streams::events),
    ("long polls and silence are not cut", streams::silence),
];

#[test]
fn services_of_every_kind_and_protocols_are_in_a_cluster_what_they_are_from_a_directory() {
    if !has(&[NODE, &[Need::Python, Need::Program("openssl"), Need::Program("unshare")]].concat()) {
        return;
    }
    let stage = Stage::set();
    let _told = stage.node.told(&["dev", "qa", "prod"]);
    play(&stage, SCENARIOS);
}
