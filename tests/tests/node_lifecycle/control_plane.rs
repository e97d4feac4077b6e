//! The control plane is killed, replaced and away.

use std::time::{Duration, Instant};

use causeway_tests::until;

use crate::capture::{Capture, MARKER};
use crate::stage::{ROLLOUT, Stage, URL, finish, kill};

const SYSTEM: &str = "causeway-system";
const NAME: &str = "causeway-control-plane";

/// From the leader's death to a status that another replica wrote: the Lease's 15 s, and what a busy machine adds.
const TAKEOVER: Duration = Duration::from_secs(30);

const ROUTE: &str = "
apiVersion: causeway.dev/v1alpha1
kind: VirtualService
metadata: {name: programs, namespace: life}
spec:
  hosts: [server]
  http: [{route: [{destination: {host: server}}]}]
";

/// Applies a route and waits until its status says that every proxy has it in force: source, leader and streams work.
/// Takes it away again; how long it took.
pub fn programs(stage: &Stage, since: Instant, limit: Duration) -> Duration {
    let node = stage.node;
    until("the route is accepted", limit, || node.apply(ROUTE));
    let route = ["-n", "life", "virtualservice/programs"];
    let left = limit.saturating_sub(since.elapsed()).max(Duration::from_secs(1));
    if let Err(error) = node.wait(&route, "condition=Programmed", left) {
        panic!("{error}: {}", node.get(&route).unwrap_or_default()["status"]);
    }
    let took = since.elapsed();
    node.kubectl(&["-n", "life", "delete", "virtualservice/programs"]).unwrap();
    took
}

/// The pod that holds the Lease.
fn leader(stage: &Stage) -> Option<String> {
    let lease = stage.node.get(&["-n", SYSTEM, "lease", NAME]).ok()?;
    let holder = lease["spec"]["holderIdentity"].as_str()?.to_owned();
    stage.names(SYSTEM, NAME).into_iter().find(|pod| holder.starts_with(pod.as_str()))
}

/// kill -9 of the leader: the other replica takes over and writes status.
pub fn leader_killed(stage: &Stage) {
    let node = stage.node;
    let old = until("there is a leader", ROLLOUT, || leader(stage).ok_or_else(|| "nobody".to_owned()));
    let load = stage.start_load();
    kill(node.container_pid(SYSTEM, &old, "control-plane"));
    let killed = Instant::now();
    let took = programs(stage, killed, TAKEOVER);
    println!(
        "   status written {:.1} s after the kill; leader before {old}, now {:?}",
        took.as_secs_f64(),
        leader(stage)
    );
    finish(load);
    node.rolled_out(SYSTEM, &format!("deploy/{NAME}"), ROLLOUT);
}

/// Every replica is replaced, as by an upgrade.
pub fn replaced(stage: &Stage) {
    let old = stage.names(SYSTEM, NAME);
    let load = stage.start_load();
    stage.node.kubectl(&["-n", SYSTEM, "rollout", "restart", &format!("deploy/{NAME}")]).unwrap();
    stage.node.rolled_out(SYSTEM, &format!("deploy/{NAME}"), ROLLOUT);
    until("the former replicas are gone", ROLLOUT, || {
        let left: Vec<String> = stage.names(SYSTEM, NAME).into_iter().filter(|pod| old.contains(pod)).collect();
        if left.is_empty() { Ok(()) } else { Err(left.join(", ")) }
    });
    stage.connected(&[&stage.client, &stage.victim]);
    // A new pod comes up by the new replicas, under the same load.
    stage.scale("life", "server", 3);
    finish(load);
}

/// No replica at all: what runs goes on, what restarts comes back, what is new waits, what took over an address is
/// never taken for who had it before.
pub fn away(stage: &Stage) {
    let node = stage.node;
    let load = stage.start_load();
    stage.scale(SYSTEM, NAME, 0);
    let capture = Capture::start(node);

    stage.victim_restarts();

    let refused =
        node.kubectl(&["-n", "life", "run", "late", "--image=causeway-test/app:1", "--", "http"]).unwrap_err();
    println!("   a new pod: {}", refused.trim());
    assert!(refused.contains("inject.causeway.dev"), "{refused}");
    address_taken_over(stage);
    capture.finish();
    finish(load);

    stage.scale(SYSTEM, NAME, 2);
    stage.connected(&[&stage.client, &stage.victim]);
    stage.scale("life", "server", 2);
    node.kubectl(&["-n", "aside", "delete", "pod", "thief", "--now"]).unwrap();
}

/// A pod of another namespace, without a proxy, gets the address of a server that has just ended, while the client's
/// proxy still believes that the server is there.
fn address_taken_over(stage: &Stage) {
    let node = stage.node;
    let pod = stage.pods("life", "server").remove(0);
    let (name, address) = (pod["metadata"]["name"].as_str().unwrap(), pod["status"]["podIP"].as_str().unwrap());
    node.kubectl(&["-n", "life", "delete", "pod", name, "--now"]).unwrap();
    // The next address that is given out is the one behind this.
    let (network, last) = address.rsplit_once('.').unwrap();
    let former = format!("{network}.{}", last.parse::<u8>().unwrap() - 1);
    let file = "/run/cni-addresses/pods/last_reserved_ip.0";
    let mut write = node.enter("sh");
    write.args(["-c", &format!("test -e {file} && printf %s {former} > {file}")]);
    assert!(write.status().unwrap().success(), "the address plan is not where it was expected");
    let arguments = ["run", "thief", "--image=causeway-test/app:1", "--", "http", "--name", "thief", "--listen"];
    node.kubectl(&[&["-n", "aside"], &arguments[..], &["[::]:8080"]].concat()).unwrap();
    node.wait(&["-n", "aside", "pod/thief"], "condition=Ready", ROLLOUT).unwrap();
    let thief = node.get(&["-n", "aside", "pod", "thief"]).unwrap();
    assert_eq!(thief["status"]["podIP"], address, "the address was to be given out again");
    let arguments =
        ["--url", URL, "--requests", "300", "--concurrency", "4", "--header", &format!("x-marker: {MARKER}")];
    let report = stage.client.load(&arguments);
    println!("   with a stranger at {address}: {report}");
    assert_eq!((&report["failed"], &report["apps"]["server"]), (&0.into(), &300.into()), "{report}");
}
