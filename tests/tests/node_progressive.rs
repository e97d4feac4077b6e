//! Flagger and Argo Rollouts release through Causeway on a real node: what they write is in force, what they read is
//! true, and no request is lost on the way. The scenarios share one node and some go on side by side, since most of their
//! time is the controllers' own waiting; `CAUSEWAY_SCENARIO=weights,faulty` runs those whose names hold one of these
//! words.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a suite"
)]

#[path = "node_progressive/flagger.rs"]
mod flagger;
#[path = "node_progressive/rollouts.rs"]
mod rollouts;
#[path = "node_progressive/shop.rs"]
mod shop;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use causeway_tests::capability::{NODE, Need, has};
use causeway_tests::kube::Node;
use causeway_tests::progressive::{self, Prometheus};
use shop::Shop;

/// Longest wait for pods, on two cores that do everything.
const ROLLOUT: Duration = Duration::from_secs(180);

/// Scenarios at a time: more would measure this machine's two cores.
const SIDE_BY_SIDE: usize = 2;

/// A name, the example that it is made of, and what is done with it.
type Scenario = (&'static str, fn() -> String, fn(&Shop<'_>));

const FLAGGER: &[Scenario] = &[
    ("weights", flagger::by_weights, flagger::good_release),
    ("faulty", flagger::by_weights, flagger::faulty_release),
    ("header", flagger::by_header, flagger::release_to_testers),
    ("mirror", flagger::by_mirror, flagger::mirrored_release),
    ("sticky", flagger::by_cookie, flagger::sticky_release),
    ("gatewayapi", flagger::by_gateway_api, flagger::good_release),
];

const ROLLOUTS: &[Scenario] = &[
    ("subsets", rollouts::by_subsets, rollouts::release_with_managed_routes),
    ("hosts", rollouts::by_hosts, rollouts::release_by_services),
    ("abort", rollouts::by_subsets, rollouts::aborted_release),
];

#[test]
fn flagger_and_argo_rollouts_release_without_a_lost_request() {
    if !has(&[NODE, &[Need::Progressive, Need::Program("prometheus")]].concat()) {
        return;
    }
    let wanted = std::env::var("CAUSEWAY_SCENARIO").unwrap_or_default();
    let wanted = |(name, ..): &&Scenario| wanted.split(',').any(|word| name.contains(word));
    let node = Node::with_causeway(&[]);
    for of in ["istio", "gateway-api", "flagger", "rollouts"] {
        node.kubectl_with_input(&["apply", "--server-side", "-f", "-"], &progressive::kinds(of)).unwrap();
    }
    for crd in ["virtualservices.networking.istio.io", "canaries.flagger.app", "rollouts.argoproj.io"] {
        node.wait(&[&format!("crd/{crd}")], "condition=Established", ROLLOUT).unwrap();
    }
    let _prometheus = Prometheus::start(&node, include_str!("../../deploy/examples/flagger/prometheus.conf"));
    let _controllers = [progressive::flagger(&node), progressive::rollouts(&node)];
    let left = Mutex::new(FLAGGER.iter().chain(ROLLOUTS).filter(wanted));
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                while let Some(scenario) = next() {
                    run(&node, scenario);
                }
            });
        }
    });
}

fn run(node: &Node, (name, yaml, act): &Scenario) {
    let begun = Instant::now();
    let spaces = Shop::namespaces(name);
    let spaces = spaces.each_ref().map(String::as_str);
    let _told = node.told(&spaces);
    act(&Shop::open(node, name, &yaml()));
    println!("{name}: done after {:.0} s", begun.elapsed().as_secs_f64());
    for space in spaces {
        node.kubectl(&["delete", "namespace", space, "--wait=false"]).unwrap();
    }
}
