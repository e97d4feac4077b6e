//! Which pods a Service has, and which of them a client gets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use causeway_tests::process::run;
use causeway_tests::until;

use crate::stage::{CLIENT, SOON, Stage, answers};

const SLICE: &str = include_str!("../../fixtures/services/slice.yaml");

pub fn by_hand(stage: &Stage) {
    let (inside, outside) = (stage.address("prod", "version=v1"), stage.address("bare", "app=legacy"));
    stage.node.apply(&SLICE.replace("INSIDE", &inside).replace("OUTSIDE", &outside)).unwrap();
    stage.until("the Service answers", "http://mixed.prod/", |r| r.status == 200);
    stage.all_serve("http://mixed.prod/", &["legacy", "v1"]);
    let mut by_app = BTreeMap::new();
    until("both are heard", SOON, || {
        let seen = stage.get("http://mixed.prod/headers");
        by_app.insert(seen.header("x-app").to_owned(), seen.body.contains(CLIENT));
        if by_app.len() == 2 { Ok(()) } else { Err(format!("{by_app:?}")) }
    });
    let wanted = BTreeMap::from([("legacy".to_owned(), false), ("v1".to_owned(), true)]);
    assert_eq!(by_app, wanted, "who knows the caller");
    for policy in ["mutual_tls", "none"] {
        let labels = [&*format!("connection_security_policy=\"{policy}\""), "destination_service_name=\"mixed\""];
        assert!(stage.client.metric("istio_requests_total", &labels) >= 1.0, "{policy}");
    }
    // Whoever has no certificate is refused there, as everywhere. (The node may ask for `/`, as the kubelet's probe does.)
    let mut curl = stage.node.enter("curl");
    let plain =
        causeway_tests::pod::Reply::of(&mut curl, &["--noproxy", "*", &format!("http://{inside}:8080/headers")]);
    assert_eq!((plain.status, plain.code()), (403, "plaintext_refused"), "{plain:?}");
}

pub fn affinity(stage: &Stage) {
    stage.all_serve("http://loose.prod/", &["exposed", "v1", "v2"]);
    for client in [stage.client, stage.guest, stage.versions[0], stage.versions[1]] {
        let first = answers(&client, "http://stuck.prod/", 20);
        assert!(first.len() == 1 && first.values().all(|n| *n == 20), "one client, one pod: {first:?}");
        let load = client.load(&["--url", "http://stuck.prod/", "--requests", "200", "--concurrency", "16"]);
        let app = first.keys().next().unwrap();
        assert_eq!(load["apps"][app], 200, "load does not move it: {load}");
    }
}

/// The Service remembers its clients for three seconds after their last request.
pub fn forgotten(stage: &Stage) {
    let url = "http://forgetful.prod/";
    stage.all_serve("http://loose.prod/", &["exposed", "v1", "v2"]);
    // Longer than that, but never silent for so long.
    let load = stage.client.load(&["--url", url, "--requests", "45", "--pause-ms", "100"]);
    let apps = load["apps"].as_object().unwrap();
    assert!(apps.len() == 1 && load["failed"] == 0, "it stays: {load}");
    let mut reached: BTreeSet<String> = apps.keys().cloned().collect();
    // The same pod is drawn each time in one of 10^8 runs.
    until("another is drawn after a silence", Duration::from_secs(60), || {
        let last = Instant::now();
        until("the client was silent for so long", SOON, || {
            let silent = last.elapsed();
            if silent > Duration::from_millis(3100) { Ok(()) } else { Err(format!("{silent:?}")) }
        });
        let apps = answers(&stage.client, url, 10);
        assert_eq!(apps.len(), 1, "one at a time: {apps:?}");
        reached.extend(apps.into_keys());
        if reached.len() > 1 { Ok(()) } else { Err(format!("{reached:?}")) }
    });
}

pub fn published(stage: &Stage) {
    let reply = stage.until("it is used all the same", "http://published.prod/headers", |r| r.status == 200);
    assert!(reply.header("x-app") == "unready" && reply.body.contains(CLIENT), "{reply:?}");
    let refused = stage.get("http://unready.prod/");
    assert_eq!((refused.status, refused.code()), (503, "no_endpoints"), "{refused:?}");
    let pods = stage.node.get(&["-n", "prod", "pods", "-l", "app=unready"]).unwrap();
    let ready = pods["items"][0]["status"]["conditions"].as_array().cloned().unwrap_or_default();
    assert!(ready.iter().any(|c| c["type"] == "Ready" && c["status"] == "False"), "the kubelet says so: {ready:?}");
}

/// `leaving` was told to end, and serves until we have seen enough.
pub fn terminating(stage: &Stage) {
    stage.all_serve("http://parting.prod/", &["leaving", "v1"]);
    let leaving = stage.node.app("prod", "app=leaving");
    stage.node.kubectl(&["-n", "prod", "scale", "deploy/leaving", "--replicas=0"]).unwrap();
    until("its endpoint terminates and serves", SOON, || {
        let slices = stage.node.get(&["-n", "prod", "endpointslices", "-l", "kubernetes.io/service-name=leaving"])?;
        let now = &slices["items"][0]["endpoints"][0]["conditions"];
        let is = now["ready"] == false && now["serving"] == true && now["terminating"] == true;
        if is { Ok(()) } else { Err(slices.to_string()) }
    });
    // Several at a time, so that an endpoint that is slower gets some too.
    until("who is ready is preferred", SOON, || {
        let many = ["--url", "http://parting.prod/", "--requests", "80", "--concurrency", "8"];
        let report = stage.client.load(&many);
        if report["apps"]["v1"] == 80 { Ok(()) } else { Err(report.to_string()) }
    });
    let apps = answers(&stage.client, "http://leaving.prod/", 20);
    assert!(apps.len() == 1 && apps.get("leaving") == Some(&20), "where nobody is, it serves on: {apps:?}");
    run(leaving.command("touch").arg("/tmp/end")).ok();
    stage.until("it is gone", "http://leaving.prod/", |r| r.code() == "no_endpoints");
}
