//! The status of the resources, written by a real control plane on a real API server about real proxies: `kubectl wait`
//! must return when every proxy has it in force, and never before.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test")]

#[path = "kube_status/world.rs"]
mod world;

use std::time::Duration;

use causeway_tests::capability::{Need, has};
use causeway_tests::until;
use serde_json::Value;
use world::{World, host_address, local, route, rule};

/// For what takes one round of everything, on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

fn condition(object: &Value, kind: &str) -> Value {
    let all = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|c| c["type"] == kind).unwrap_or_default()
}

/// Waits until a condition of the route `dev/split` is as said, and speaks of the latest generation.
fn until_condition(world: &World, what: &[&str], kind: &str, status: &str, reason: &str) -> Value {
    until(&format!("{what:?}: {kind} is {status}, {reason}"), LIMIT, || {
        let object = world.kube.get(what)?;
        let found = condition(&object, kind);
        let is_it = found["status"] == status
            && found["reason"] == reason
            && found["observedGeneration"] == object["metadata"]["generation"];
        if is_it { Ok(object) } else { Err(object["status"].to_string()) }
    })
}

/// Waits until `Programmed` is this, in these words.
fn until_programmed(world: &World, what: &[&str], status: &str, message: &str) -> Value {
    until(&format!("{what:?} is programmed: {status}, {message:?}"), LIMIT, || {
        let object = world.kube.get(what)?;
        let found = condition(&object, "Programmed");
        let is_it = found["status"] == status
            && found["message"] == message
            && found["observedGeneration"] == object["metadata"]["generation"];
        if is_it { Ok(object) } else { Err(object["status"].to_string()) }
    })
}

const SPLIT: [&str; 4] = ["-n", "dev", "virtualservice.causeway.dev", "split"];
const RULE: [&str; 4] = ["-n", "prod", "destinationrule.causeway.dev", "prodsvc"];

#[test]
fn waiting_for_programmed_ends_when_the_proxies_have_it_in_force_and_never_before() {
    if !has(&[Need::Kubernetes]) {
        return;
    }
    let mut world = World::start();
    world.replica("cp-1", local());
    world.kube.apply(&format!("{}{}", rule(), route(10))).unwrap();

    // A pod that runs without a connected proxy is not in step.
    until_programmed(&world, &SPLIT, "False", "In force on 0 of 1 proxies; not connected: dev/web.");
    world.proxy("dev/web", 0);
    world.programmed(&SPLIT, LIMIT).unwrap();
    let object = world.kube.get(&SPLIT).unwrap();
    assert_eq!(object["status"]["proxies"], "1/1");
    assert_eq!(object["status"]["resolvedHosts"][0], "prodsvc.prod.svc.cluster.local");
    let table = world.kube.kubectl(&[&["get"][..], &SPLIT].concat()).unwrap();
    let (header, line) = table.split_once('\n').unwrap();
    let columns: Vec<_> = header.split_whitespace().collect();
    assert_eq!(columns, ["NAME", "HOSTS", "ACCEPTED", "RESOLVED", "PROGRAMMED", "PROXIES", "AGE"]);
    let line: Vec<_> = line.split_whitespace().collect();
    assert_eq!(line[2..6], ["True", "True", "True", "1/1"]);
    until_programmed(&world, &RULE, "False", "In force on 1 of 3 proxies; not connected: prod/canary, prod/stable.");

    // A proxy that does not answer has not got it, whatever was in force before.
    world.signal("dev/web", "STOP");
    world.kube.apply(&route(50)).unwrap();
    assert!(world.programmed(&SPLIT, Duration::from_secs(4)).is_err());
    until_programmed(&world, &SPLIT, "False", "In force on 0 of 1 proxies; waiting for dev/web.");
    world.signal("dev/web", "CONT");
    world.programmed(&SPLIT, LIMIT).unwrap();
    assert_eq!(world.weights("dev/web"), [50, 50], "kubectl wait returned, so it is in force");

    // Many changes in a row: each wait that returns tells the truth.
    for weight in [20, 30, 40, 60] {
        world.kube.apply(&route(weight)).unwrap();
        world.programmed(&SPLIT, LIMIT).unwrap();
        assert_eq!(world.weights("dev/web"), [weight, 100 - weight]);
    }
    world.events("dev", "Programmed");

    // What names nothing leaves the last good generation in force, and says so.
    world.kube.apply(&route(70).replace("v1-canary", "v9")).unwrap();
    until_condition(&world, &SPLIT, "ResolvedRefs", "False", "SubsetNotFound");
    let object = until_condition(&world, &SPLIT, "Programmed", "False", "HeldBack");
    assert_eq!(object["status"]["proxies"], "0/1");
    assert_eq!(world.weights("dev/web"), [60, 40]);
    world.events("dev", "SubsetNotFound");
    world.kube.apply(&route(70)).unwrap();
    world.programmed(&SPLIT, LIMIT).unwrap();

    // A proxy that has gone does not make it true by its absence; its pod's end does.
    world.stop("dev/web");
    world.kube.apply(&route(80)).unwrap();
    until_programmed(&world, &SPLIT, "False", "In force on 0 of 1 proxies; not connected: dev/web.");
    world.kube.kubectl(&["-n", "dev", "delete", "pod", "web", "--force", "--grace-period=0"]).unwrap();
    let object = until_condition(&world, &SPLIT, "Programmed", "True", "NoProxies");
    assert_eq!(object["status"]["proxies"], "0/0");
}

#[test]
fn policies_and_istios_resources_have_conditions_too() {
    if !has(&[Need::Kubernetes]) {
        return;
    }
    let mut world = World::start();
    world.install_istio();
    world.replica("cp-1", local());
    world.proxy("dev/web", 0);
    world.kube.apply(world::POLICIES).unwrap();
    for kind in ["peerauthentication.causeway.dev", "authorizationpolicy.causeway.dev"] {
        let what = ["-n", "dev", kind, "one"];
        world.programmed(&what, LIMIT).unwrap();
        assert_eq!(world.kube.get(&what).unwrap()["status"]["proxies"], "1/1");
    }
    let nobody = ["-n", "dev", "authorizationpolicy.causeway.dev", "nobody"];
    until_condition(&world, &nobody, "ResolvedRefs", "False", "ServiceAccountNotFound");

    let before = world.kube.apply(&world::istio_route("[prodsvc.prod.svc.cluster.local]")).unwrap();
    assert!(before.contains("created"), "{before}");
    let foreign = ["-n", "dev", "virtualservice.networking.istio.io", "foreign"];
    let object = until_condition(&world, &foreign, "Accepted", "True", "Accepted");
    let spec = object["spec"].clone();
    // Another controller's condition stays beside ours.
    let patch = r#"{"status":{"conditions":[{"type":"Reconciled","status":"True"}]}}"#;
    let args = ["patch", "--subresource=status", "--type=merge", "-p", patch];
    world.kube.kubectl(&[&args[..], &foreign].concat()).unwrap();
    world.kube.apply(&world::istio_route("[nowhere.prod.svc.cluster.local]")).unwrap();
    let object = until_condition(&world, &foreign, "ResolvedRefs", "False", "HostNotFound");
    assert_eq!(condition(&object, "Reconciled")["status"], "True");
    assert_eq!(object["spec"]["http"], spec["http"], "the spec is the user's");
}

#[test]
fn every_replica_counts_and_a_silent_one_is_never_taken_for_consent() {
    if !has(&[Need::Kubernetes]) {
        return;
    }
    // An EndpointSlice may name no loopback address.
    let address = host_address().expect("an address of this machine beside loopback");
    let mut world = World::start();
    world.replica("cp-1", address);
    world.until_leader("cp-1");
    world.replica("cp-2", address);
    world.publish_replicas();
    for pod in ["dev/web", "prod/stable"] {
        world.proxy(pod, usize::from(pod == "prod/stable"));
    }
    world.proxy("prod/canary", 0);
    world.kube.apply(&format!("{}{}", rule(), route(10))).unwrap();
    world.programmed(&RULE, LIMIT).unwrap();
    assert_eq!(world.kube.get(&RULE).unwrap()["status"]["proxies"], "3/3");

    // The replica that does not write is stopped: nobody knows what its proxy has in force.
    world.signal_replica("cp-2", "STOP");
    world.kube.apply(&rule().replace("trafficPolicy: {}", "trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}")).unwrap();
    assert!(world.programmed(&RULE, Duration::from_secs(4)).is_err());
    until_condition(&world, &RULE, "Programmed", "Unknown", "ReplicaSilent");
    world.signal_replica("cp-2", "CONT");
    world.programmed(&RULE, LIMIT).unwrap();
    assert_eq!(world.kube.get(&RULE).unwrap()["status"]["proxies"], "3/3");

    // The one that writes is killed: the other goes on, with what it knows.
    let before = world.kube.get(&RULE).unwrap();
    world.kill_replica("cp-1");
    world.until_leader("cp-2");
    world.publish_replicas();
    world.kube.apply(&rule().replace("trafficPolicy: {}", "trafficPolicy: {tls: {mode: DISABLE}}")).unwrap();
    let object =
        until_programmed(&world, &RULE, "False", "In force on 1 of 3 proxies; not connected: dev/web, prod/canary.");
    let since = |object: &Value| condition(object, "Accepted")["lastTransitionTime"].clone();
    assert_eq!(since(&before), since(&object), "what did not change keeps its time");
}
