//! Who is near: hints that EndpointSlices carry, made by hand and by Kubernetes' own controller, and zones of nodes.

use std::fmt::Write as _;

use crate::stage::{Stage, counts, url};

const EVERYBODY: &[&str] = &["a-v1", "a-v2", "b-v1", "b-v2"];

/// An endpoint: of which application, ready, hinted for which zones. Those of `a` are said to be in zone `a`.
type Listed = (&'static str, bool, &'static [&'static str]);

const HINTED: [Listed; 4] =
    [("a-v1", true, &["a"]), ("a-v2", true, &["a"]), ("b-v1", true, &["b"]), ("b-v2", true, &["b"])];

const IN_TURN: &str = "loadBalancer: {simple: ROUND_ROBIN}";

/// Writes the EndpointSlice of a Service by hand: the addresses of real pods.
fn slice(stage: &Stage, service: &str, endpoints: &[Listed]) {
    let mut text = format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {service}-by-hand, namespace: prod, labels: \
         {{kubernetes.io/service-name: {service}}}}}\naddressType: IPv4\nports: [{{name: http, port: 8080}}]\nendpoints:\n"
    );
    for (app, ready, hints) in endpoints {
        let (pod, address, _) = &stage.apps[app];
        let zones: Vec<String> = hints.iter().map(|hint| format!("{{name: {hint}}}")).collect();
        let hints =
            if zones.is_empty() { String::new() } else { format!(", hints: {{forZones: [{}]}}", zones.join(", ")) };
        let zone = &app[..1];
        writeln!(
            text,
            "- {{addresses: [{address}], zone: {zone}, conditions: {{ready: {ready}}}, targetRef: {{kind: Pod, namespace: \
             prod, name: {pod}}}{hints}}}"
        )
        .unwrap();
    }
    stage.node.apply(&text).unwrap();
}

/// Hints hold while somebody is there, and nobody's request fails while slices change.
pub fn hints(stage: &Stage) {
    stage.rule("prod", "zoned", &format!("{{{IN_TURN}}}"));
    slice(stage, "zoned", &HINTED.map(|(app, ready, _)| (app, ready, &[][..])));
    let (near, far) = (&stage.client, &stage.far);
    let reaches = |from, why: &str, apps: &[&str]| stage.reaches(from, why, "zoned", apps);
    reaches(near, "without hints everybody is used", EVERYBODY);
    reaches(far, "without hints everybody is used", EVERYBODY);
    let arguments = ["--url", &url("zoned/"), "--concurrency", "2", "--pause-ms", "20"];
    let loads = [near, far].map(|from| from.start_load(&arguments));

    slice(stage, "zoned", &HINTED);
    reaches(near, "the own zone alone, as the node has it", &["a-v1", "a-v2"]);
    reaches(far, "the own zone alone, as the pod has it", &["b-v1", "b-v2"]);
    let [first, second, third, fourth] = HINTED;
    let away = |(app, _, hints): Listed| (app, false, hints);
    slice(stage, "zoned", &[first, away(second), third, fourth]);
    reaches(near, "one is left in the zone", &["a-v1"]);
    slice(stage, "zoned", &[away(first), away(second), third, fourth]);
    reaches(near, "nobody is ready in the zone", &["b-v1", "b-v2"]);
    slice(stage, "zoned", &[first, second, ("b-v1", true, &["a", "b"]), fourth]);
    reaches(near, "one of another zone is hinted too", &["a-v1", "a-v2", "b-v1"]);
    slice(stage, "zoned", &[first, second, third, ("b-v2", true, &[])]);
    reaches(near, "hints hold only where everybody has some", EVERYBODY);
    slice(stage, "zoned", &HINTED);
    reaches(near, "the own zone alone", &["a-v1", "a-v2"]);
    stage.rule("prod", "zoned", "{loadBalancer: {simple: ROUND_ROBIN, localityLbSetting: {enabled: false}}}");
    reaches(near, "the rule turns hints off", EVERYBODY);
    for load in loads {
        let report = load.stop();
        assert!(report["failed"] == 0 && counts(&report).values().sum::<u64>() > 100, "{report}");
    }
}

/// Of the two near endpoints one is ejected, so that a part leaves, then both are.
pub fn spill_over(stage: &Stage) {
    slice(stage, "zoned", &HINTED);
    let ejecting = "outlierDetection: {consecutive5xxErrors: 3, baseEjectionTime: 60s, maxEjectionPercent: 100}";
    stage.rule("prod", "zoned", &format!("{{{IN_TURN}, {ejecting}}}"));
    stage.reaches(&stage.client, "the own zone alone", "zoned", &["a-v1", "a-v2"]);
    let lame = stage.load("zoned/lame", &["--requests", "60"]);
    assert_eq!(lame["failed"], 3, "a-v2 fails here until it is out: {lame}");
    let answers = counts(&stage.load("zoned/", &["--requests", "400"]));
    // 70 % of 400: outside of these bounds in one of 10^10 loads.
    let stays = answers["a-v1"];
    assert!((220..=335).contains(&stays) && answers.len() == 3, "of one of two, 70 % stay: {answers:?}");
    let broken = stage.load("zoned/break", &["--requests", "100"]);
    assert_eq!(broken["failed"], 3, "a-v1 too: {broken}");
    let answers = counts(&stage.load("zoned/", &["--requests", "60"]));
    assert_eq!(answers.keys().collect::<Vec<_>>(), ["b-v1", "b-v2"], "{answers:?}");
    stage.rule("prod", "zoned", &format!("{{{IN_TURN}}}"));
    stage.reaches(&stage.client, "nobody is out", "zoned", &["a-v1", "a-v2"]);
}

/// Without hints, by the zones of the endpoints and of who asks.
pub fn preferred(stage: &Stage) {
    slice(stage, "zoned", &HINTED.map(|(app, ready, _)| (app, ready, &[][..])));
    stage.rule("prod", "zoned", "{loadBalancer: {simple: ROUND_ROBIN, localityLbSetting: {enabled: false}}}");
    stage.reaches(&stage.client, "no preference yet", "zoned", EVERYBODY);
    stage.rule("prod", "zoned", "{loadBalancer: {simple: ROUND_ROBIN, localityLbSetting: {enabled: true}}}");
    stage.reaches(&stage.client, "the own zone first", "zoned", &["a-v1", "a-v2"]);
    stage.reaches(&stage.far, "the own zone first", "zoned", &["b-v1", "b-v2"]);
    stage.rule("prod", "zoned", "{loadBalancer: {simple: ROUND_ROBIN, localityLbSetting: {enabled: false}}}");
    stage.reaches(&stage.client, "no preference", "zoned", EVERYBODY);
}

/// Nobody is ready in the client's zone. Of the two others one is in its region, as the node says, until its label says
/// otherwise.
pub fn regions(stage: &Stage) {
    let [first, second, third, fourth] = HINTED.map(|(app, ready, _)| (app, ready, &[][..]));
    let away = |(app, _, hints): Listed| (app, false, hints);
    let label = |pod: &str, region: &str| {
        let label = format!("topology.kubernetes.io/region{region}");
        stage.node.kubectl(&["-n", "prod", "label", "pod", &stage.apps[pod].0, &label]).unwrap();
    };
    slice(stage, "zoned", &[away(first), away(second), third, fourth]);
    stage.rule("prod", "zoned", "{loadBalancer: {simple: ROUND_ROBIN, localityLbSetting: {enabled: true}}}");
    stage.reaches(&stage.client, "one region, another zone", "zoned", &["b-v1", "b-v2"]);
    label("b-v1", "=away");
    stage.reaches(&stage.client, "the own region first", "zoned", &["b-v2"]);
    stage.reaches(&stage.far, "a zone of that name in another region is not the own one", "zoned", &["b-v2"]);
    slice(stage, "zoned", &[away(first), away(second), third, away(fourth)]);
    stage.reaches(&stage.client, "then anywhere", "zoned", &["b-v1"]);
    slice(stage, "zoned", &[first, away(second), third, fourth]);
    stage.reaches(&stage.client, "the own zone before all", "zoned", &["a-v1"]);
    label("b-v2", "=third");
    slice(stage, "zoned", &[away(first), away(second), third, fourth]);
    stage.reaches(&stage.client, "two other regions", "zoned", &["b-v1", "b-v2"]);
    let taken_over = "localityLbSetting: {enabled: true, failover: [{from: home, to: third}]}";
    stage.rule("prod", "zoned", &format!("{{loadBalancer: {{simple: ROUND_ROBIN, {taken_over}}}}}"));
    stage.reaches(&stage.client, "the one that takes over for the own", "zoned", &["b-v2"]);
    label("b-v1", "-");
    label("b-v2", "-");
    slice(stage, "zoned", &[away(first), away(second), third, fourth]);
    stage.reaches(&stage.client, "one region again", "zoned", &["b-v1", "b-v2"]);
    stage.rule("prod", "zoned", "{loadBalancer: {simple: ROUND_ROBIN, localityLbSetting: {enabled: false}}}");
}

/// The Service's own endpoints, of zone `a`, get their hints from Kubernetes' controller. Those of `b` are added by hand.
pub fn prefer_close(stage: &Stage) {
    stage.rule("prod", "close", &format!("{{{IN_TURN}}}"));
    slice(stage, "close", &HINTED[2..]);
    stage.reaches(&stage.client, "no preference yet", "close", EVERYBODY);
    let prefers = |value: &str| {
        let patch = format!("{{\"spec\": {{\"trafficDistribution\": {value}}}}}");
        stage.node.kubectl(&["-n", "prod", "patch", "service", "close", "--type=merge", "-p", &patch]).unwrap();
    };
    for distribution in ["\"PreferClose\"", "\"PreferSameZone\""] {
        prefers(distribution);
        stage.reaches(&stage.client, distribution, "close", &["a-v1", "a-v2"]);
        stage.reaches(&stage.far, distribution, "close", &["b-v1", "b-v2"]);
        prefers("null");
        stage.reaches(&stage.client, "no preference", "close", EVERYBODY);
    }
}
