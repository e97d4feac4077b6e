//! Who is near: zones that EndpointSlices hint at, zones and regions of a DestinationRule, as clients of several zones meet
//! them while endpoints come and go.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a suite")]

#[path = "balancing/stage.rs"]
#[allow(dead_code, reason = "the other suites use more of it")]
mod stage;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use causeway_tests::process::Process;
use causeway_tests::{Pod, until};
use stage::{LIMIT, Stage, can_run, counts, load, standing};

const BACKEND: &str = "server.prod:80";

/// Ejects what cannot be reached, so that only then somebody further is asked.
const EJECTING: &str = "outlierDetection: {splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 2, \
                        baseEjectionTime: 30s, maxEjectionPercent: 100}";

/// An endpoint of the Service's EndpointSlice: ready, in which zone, hinted for which.
type Listed = (bool, &'static str, &'static [&'static str]);

const HINTED: [Listed; 4] = [(true, "a", &["a"]), (true, "a", &["a"]), (true, "b", &["b"]), (true, "b", &["b"])];

/// Writes the EndpointSlice as its controller does, one endpoint for each server.
fn slice(stage: &Stage, endpoints: &[Listed]) {
    let mut text = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: server-x, namespace: prod, labels: \
                    {kubernetes.io/service-name: server}}\naddressType: IPv4\nports: [{name: http, port: 8080}]\nendpoints:\n"
        .to_owned();
    for (number, (ready, zone, hints)) in endpoints.iter().enumerate() {
        let ip = stage.servers[number].net().ip;
        let names: Vec<String> = hints.iter().map(|hint| format!("{{name: {hint}}}")).collect();
        let hints =
            if names.is_empty() { String::new() } else { format!(", hints: {{forZones: [{}]}}", names.join(", ")) };
        writeln!(
            text,
            "- {{addresses: [{ip}], zone: {zone}, conditions: {{ready: {ready}}}, targetRef: {{kind: Pod, name: \
             server-{number}}}{hints}}}"
        )
        .unwrap();
    }
    stage.mesh.write("slice.yaml", &text);
}

/// Waits until exactly these servers answer the client.
fn reaches(client: &Pod, why: &str, servers: &[usize]) {
    let wanted: BTreeSet<String> = servers.iter().map(|n| format!("server-{n}")).collect();
    until(why, LIMIT, || {
        let report = load(client, "/", &["--requests", "48"]);
        let found: BTreeSet<String> = counts(&report).into_keys().collect();
        if found == wanted { Ok(()) } else { Err(format!("{servers:?}: {report}")) }
    });
}

/// Requests of a client without a pause, to be ended by [`ended`].
fn steady(stage: &Stage, client: &Pod) -> Process {
    let stop = stage.mesh.path("scratch/stop").display().to_string();
    let load = ["load", "--url", "http://server.prod/", "--concurrency", "2", "--pause-ms", "20", "--stop-file", &stop];
    client.background("steady", &load)
}

/// None of the requests failed.
fn ended(stage: &Stage, loads: Vec<Process>) {
    std::fs::write(stage.mesh.path("scratch/stop"), "").unwrap();
    for mut load in loads {
        load.wait(LIMIT);
        let report: serde_json::Value = serde_json::from_str(&load.log()).unwrap();
        assert!(report["failed"] == 0 && counts(&report).values().sum::<u64>() > 100, "{report}");
    }
}

#[test]
fn hints_lead_each_client_to_its_zone_while_somebody_is_there() {
    if !can_run() {
        return;
    }
    let mut stage = Stage::set(&[("a", &[]), ("a", &[]), ("b", &[]), ("b", &[])]);
    let (far, nowhere) = (stage.client("far", "b"), stage.client("nowhere", ""));
    stage.rule(&format!("{{loadBalancer: {{simple: ROUND_ROBIN}}, {EJECTING}}}"), |b| b["algorithm"] == "round_robin");
    let near = &stage.client;
    reaches(near, "without hints everybody is used", &[0, 1, 2, 3]);
    let loads = vec![steady(&stage, near), steady(&stage, &far)];

    slice(&stage, &HINTED);
    reaches(near, "the own zone alone", &[0, 1]);
    reaches(&far, "the own zone alone", &[2, 3]);
    reaches(&nowhere, "without a zone everybody", &[0, 1, 2, 3]);

    let [first, second, third, fourth] = HINTED;
    let away = |(_, zone, hints): Listed| (false, zone, hints);
    slice(&stage, &[first, away(second), third, fourth]);
    reaches(near, "one is left in the zone", &[0]);
    reaches(&nowhere, "one is not ready", &[0, 2, 3]);
    slice(&stage, &[away(first), away(second), third, fourth]);
    reaches(near, "nobody is ready in the zone", &[2, 3]);
    slice(&stage, &HINTED);
    reaches(near, "they are back", &[0, 1]);

    slice(&stage, &[first, second, (true, "b", &["a", "b"]), fourth]);
    reaches(near, "one of another zone is hinted too", &[0, 1, 2]);
    slice(&stage, &[first, second, third, (true, "b", &[])]);
    reaches(near, "hints hold only where everybody has some", &[0, 1, 2, 3]);
    slice(&stage, &[(true, "a", &["c"]), (true, "a", &["c"]), third, fourth]);
    reaches(near, "nobody is hinted for the zone", &[0, 1, 2, 3]);
    slice(&stage, &HINTED);
    reaches(near, "the own zone alone", &[0, 1]);
    let off = "loadBalancer: {simple: ROUND_ROBIN, localityLbSetting: {enabled: false}}";
    stage.rule(&format!("{{{off}, {EJECTING}}}"), |b| b["zones"] == "Off");
    reaches(near, "the rule turns hints off", &[0, 1, 2, 3]);
    stage.rule(&format!("{{loadBalancer: {{simple: ROUND_ROBIN}}, {EJECTING}}}"), |b| b["zones"] == "AsHinted");
    reaches(near, "the own zone alone", &[0, 1]);
    reaches(&far, "the own zone alone", &[2, 3]);
    ended(&stage, loads);
    spills(&mut stage);
}

/// Those of the zone are listed, and do not answer: one of two, so that a part leaves, then both.
fn spills(stage: &mut Stage) {
    stage.servers[1].stop_apps();
    assert_eq!(stage.load("/", &["--requests", "40"])["failed"], 0);
    stage.comes(BACKEND, |b| standing(b, "server-1") == "ejected consecutive_connect_failures");
    let answers = stage.answers("/", &["--requests", "400"]);
    let stays = answers["server-0"];
    assert!((240..=320).contains(&stays) && answers.len() == 3, "70 % stay: {answers:?}");
    stage.servers[0].stop_apps();
    let report = stage.load("/", &["--requests", "60"]);
    assert_eq!(report["failed"], 0, "{report}");
    reaches(&stage.client, "nobody of the zone answers", &[2, 3]);
}

#[test]
fn a_service_that_prefers_what_is_close_needs_no_slices() {
    if !can_run() {
        return;
    }
    let stage = Stage::set(&[("a", &[]), ("a", &[]), ("b", &[])]);
    stage.rule("{loadBalancer: {simple: ROUND_ROBIN}}", |b| b["algorithm"] == "round_robin");
    let far = stage.client("far", "b");
    let service = |distribution: &str| {
        let text = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: server, namespace: prod}}\nspec: {{clusterIP: {}, \
             {distribution} selector: {{app: server}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}\n",
            stage.cluster.ip
        );
        stage.mesh.write("service-prod-server.yaml", &text);
    };
    for distribution in ["PreferClose", "PreferSameZone", "PreferSameNode"] {
        service(&format!("trafficDistribution: {distribution},"));
        reaches(&stage.client, distribution, &[0, 1]);
        reaches(&far, distribution, &[2]);
        service("");
        reaches(&stage.client, "no preference", &[0, 1, 2]);
    }
}

#[test]
fn the_own_zone_then_the_own_region_then_anybody() {
    if !can_run() {
        return;
    }
    let places = ["eu/a", "eu/b", "us/a", "us/c", "ap/a"];
    let mut stage = Stage::set_around("eu/a", &places.map(|place| (place, &[][..])));
    let rule =
        |more: &str| format!("{{loadBalancer: {{simple: ROUND_ROBIN, localityLbSetting: {{{more}}}}}, {EJECTING}}}");
    stage.rule(&rule("enabled: true"), |b| b["zones"] == "Prefer");
    reaches(&stage.client, "the own zone, not the one of that name elsewhere", &[0]);
    stage.rule(&rule("enabled: false"), |b| b["zones"] == "Off");
    reaches(&stage.client, "no preference", &[0, 1, 2, 3, 4]);

    // What is not implemented is named, and the rest of the setting holds.
    let more = "enabled: true, distribute: [{from: eu/a/*, to: {'us/a/*': 100}}], failoverPriority: [x]";
    stage.rule(&rule(more), |b| b["zones"] == "Prefer");
    for field in ["distribute", "failoverPriority"] {
        stage.mesh.wait_for_problem(&["not implemented", &format!("loadBalancer.localityLbSetting.{field}")]);
    }
    reaches(&stage.client, "the own zone all the same", &[0]);

    for (gone, left) in [(0, &[1][..]), (1, &[2, 3, 4])] {
        stage.servers[gone].stop_apps();
        let report = stage.load("/", &["--requests", "40"]);
        assert_eq!(report["failed"], 0, "{report}");
        reaches(&stage.client, "the next nearest", left);
    }
    let taken_over = "enabled: true, failover: [{from: us, to: eu}, {from: eu, to: ap}]";
    stage.rule(&rule(taken_over), |b| b["zones"] == "Prefer");
    reaches(&stage.client, "the region that takes over for the own one", &[4]);
}
