//! Which endpoints are left out for what they did, and how they come back.

use causeway_tests::until;
use serde_json::Value;

use crate::stage::{SOON, Stage, counts};

/// `v3` fails at one path: it is left out, and comes back.
pub fn outliers(stage: &Stage) {
    let ejected = || stage.metric("causeway_ejections_total", &["outliers.prod", "consecutive_5xx"]);
    stage.rule("outliers", "{loadBalancer: {simple: ROUND_ROBIN}}");
    let report = stage.load("outliers/break", &["--requests", "60"]);
    let before = ejected();
    assert_eq!(report["statuses"]["500"], 20, "nobody is left out unasked: {report}");

    stage.rule(
        "outliers",
        "{loadBalancer: {simple: ROUND_ROBIN}, outlierDetection: {consecutive5xxErrors: 3, baseEjectionTime: 5s, \
         maxEjectionPercent: 50}}",
    );
    // One good answer: what failed before is not counted.
    assert_eq!(stage.load("outliers/", &["--requests", "6"])["failed"], 0);
    let report = stage.load("outliers/break", &["--requests", "60"]);
    assert_eq!(report["failed"], 3, "three in a row, then none: {report}");
    assert!(ejected() > before);
    let report = stage.load("outliers/break", &["--requests", "60"]);
    let apps = counts(&report);
    assert!(report["failed"] == 0 && apps.len() == 2 && !apps.contains_key("v3"), "while it is out: {report}");
    // On a path where it is sound it passes its probation, without a failure on the way.
    until("it is in use again", SOON, || {
        let report = stage.load("outliers/", &["--requests", "60"]);
        assert_eq!(report["failed"], 0, "{report}");
        if counts(&report).values().filter(|n| **n == 20).count() == 3 { Ok(()) } else { Err(report.to_string()) }
    });
}

/// `slow` takes 100 ms for each answer, the others a few.
pub fn slow_outlier(stage: &Stage) {
    stage.rule(
        "lazy",
        "{loadBalancer: {simple: ROUND_ROBIN}, outlierDetection: {consecutive5xxErrors: 0, latencyPercent: 200, interval: \
         500ms, baseEjectionTime: 4s, maxEjectionPercent: 40}}",
    );
    until("the slow one is out", SOON, || {
        let apps = stage.answers("lazy/", &["--requests", "30"]);
        if apps.len() == 2 && !apps.contains_key("slow") { Ok(()) } else { Err(format!("{apps:?}")) }
    });
    assert!(stage.metric("causeway_ejections_total", &["lazy.prod", "reason=\"latency\""]) >= 1.0);
    // Without the rule nobody is left out any more.
    stage.rule("lazy", "{loadBalancer: {simple: ROUND_ROBIN}}");
    let apps = stage.answers("lazy/", &["--requests", "30"]);
    assert!(apps.len() == 3 && apps.values().all(|n| *n == 10), "{apps:?}");
}

/// Who of a backend is ejected for what, as the client's proxy shows it.
fn ejected(stage: &Stage, backend: &str) -> Vec<String> {
    let endpoints = stage.backend(backend)["endpoints"].as_array().cloned().unwrap_or_default();
    let reason = |e: Value| (e["standing"] == "ejected").then(|| e["reason"].as_str().unwrap_or_default().to_owned());
    endpoints.into_iter().filter_map(reason).collect()
}

/// `v2` alone answers 503, since the two others have seen this key before.
pub fn gateway_errors(stage: &Stage) {
    stage.rule("outliers", "{loadBalancer: {simple: ROUND_ROBIN}}");
    for version in ["v1", "v3"] {
        stage.load(&format!("{version}/"), &["--requests", "40", "--header", "x-key: gateway"]);
    }
    let rule = "{loadBalancer: {simple: ROUND_ROBIN}, outlierDetection: {consecutive5xxErrors: 0, \
                consecutiveGatewayErrors: 3, baseEjectionTime: 60s, maxEjectionPercent: 50}}";
    stage.rule("outliers", rule);
    let report = stage.load("outliers/break", &["--requests", "30"]);
    assert_eq!(report["statuses"]["500"], 10, "v3's answers are no gateway's: {report}");
    let report = stage.load("outliers/flaky/40/503", &["--requests", "60", "--header", "x-key: gateway"]);
    assert_eq!((&report["failed"], &report["statuses"]["503"]), (&3.into(), &3.into()), "{report}");
    assert_eq!(ejected(stage, "outliers.prod:80"), ["consecutive_gateway_errors"]);
    stage.rule("outliers", "{loadBalancer: {simple: ROUND_ROBIN}}");
}

/// Nobody listens where `deaf` should; nobody's request fails for it.
pub fn no_connection(stage: &Stage) {
    let rule = "{loadBalancer: {simple: ROUND_ROBIN}, outlierDetection: {consecutive5xxErrors: 0, \
                splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 3, baseEjectionTime: 60s, \
                maxEjectionPercent: 50}}";
    stage.rule("half", rule);
    let report = stage.load("half/", &["--requests", "30"]);
    assert_eq!((&report["failed"], &report["apps"]["v2"]), (&0.into(), &30.into()), "{report}");
    assert_eq!(ejected(stage, "half.prod:80"), ["consecutive_connect_failures"]);
    stage.rule("half", "{loadBalancer: {simple: ROUND_ROBIN}}");
}

/// Two of three fail; a third of them may be out.
pub fn share(stage: &Stage) {
    let rule = |percent: u32| {
        let rule = format!(
            "{{loadBalancer: {{simple: ROUND_ROBIN}}, outlierDetection: {{consecutive5xxErrors: 3, baseEjectionTime: 60s, \
             maxEjectionPercent: {percent}}}}}"
        );
        stage.rule("outliers", &rule);
    };
    rule(34);
    let report = stage.load("outliers/both", &["--requests", "60"]);
    assert_eq!(ejected(stage, "outliers.prod:80").len(), 1, "{report}");
    let report = stage.load("outliers/both", &["--requests", "60"]);
    assert_eq!(report["failed"], 30, "the other one stays, and fails: {report}");
    stage.rule("outliers", "{loadBalancer: {simple: ROUND_ROBIN}}");
    rule(67);
    stage.load("outliers/both", &["--requests", "60"]);
    assert_eq!(ejected(stage, "outliers.prod:80").len(), 2);
    assert_eq!(stage.load("outliers/both", &["--requests", "30"])["failed"], 0, "the one that is left");
    stage.rule("outliers", "{loadBalancer: {simple: ROUND_ROBIN}}");
}
