//! What becomes of requests that last too long or fail, and of endpoints that do.

use std::time::{Duration, Instant};

use causeway_tests::pod::Reply;
use causeway_tests::until;
use serde_json::Value;

use crate::stage::{SOON, Stage, counts};

const PATIENCE: &str = include_str!("../../fixtures/traffic/patience.yaml");

pub fn timeouts(stage: &Stage) {
    stage.apply(PATIENCE);
    let reply = stage.get("patience/slow/10", &[]);
    assert_eq!((reply.status, reply.header("x-app")), (200, "v1"), "{reply:?}");
    let began = Instant::now();
    let late = stage.get("patience/slow/8000", &[]);
    assert_eq!((late.status, late.code()), (504, "upstream_timeout"), "{late:?}");
    let took = began.elapsed();
    assert!((Duration::from_millis(500)..Duration::from_secs(5)).contains(&took), "{took:?}");
}

/// A request that fails so often: the answer, and what the application received.
fn tried(stage: &Stage, rule: &str, failures: &str) -> (Reply, Vec<Value>) {
    let name = format!("{rule}-{failures}").replace('/', "-");
    let key = format!("x-key: {name}");
    let reply = stage.get(&format!("patience/{rule}/{failures}"), &["-H", &key, "-d", "body"]);
    (reply, stage.received(1, &name))
}

pub fn retries(stage: &Stage) {
    stage.apply(PATIENCE);
    // The rule, what fails and how often, the status that the client sees, and how often the application was asked.
    for (rule, failures, status, times) in [
        ("status", "2/503", 200, 3),
        ("status", "3/503", 503, 3),
        ("status", "1/500", 500, 1),
        ("reset", "1/drop", 200, 2),
        ("reset", "1/503", 503, 1),
        ("never", "1/503", 503, 1),
        ("flaky", "1/503", 503, 1),
    ] {
        let (reply, tries) = tried(stage, rule, failures);
        assert_eq!((reply.status, tries.len()), (status, times), "{rule} {failures}: {reply:?} {tries:?}");
        assert!(tries.iter().all(|t| t["body"] == 4 && t["complete"] == true), "the body comes each time: {tries:?}");
    }
    // Of two tries the first hangs, or both do.
    let began = Instant::now();
    let (reply, tries) = tried(stage, "each", "1/hang");
    let took = began.elapsed();
    assert_eq!((reply.status, tries.len()), (200, 2), "{reply:?}");
    assert!((Duration::from_millis(500)..Duration::from_secs(5)).contains(&took), "{took:?}");
    let (reply, tries) = tried(stage, "each", "9/hang");
    assert_eq!((reply.status, reply.code(), tries.len()), (504, "upstream_timeout", 2), "{reply:?}");
}

/// A backend that fails every request is asked more often by so many as its budget has room for.
pub fn retry_budget(stage: &Stage) {
    stage.apply(PATIENCE);
    let tries = |key: &str| {
        let header = format!("x-key: {key}");
        let arguments = ["--requests", "300", "--concurrency", "20", "--header", &header];
        let report = stage.load("patience/status/1000000/503", &arguments);
        assert_eq!(report["statuses"]["503"], 300, "{report}");
        stage.received(1, key).len()
    };
    stage.rule("v1", "{retryBudget: {percent: 100, minRetryConcurrency: 100}}");
    assert_eq!(tries("wide"), 900, "each as often as its route says");
    stage.rule("v1", "{retryBudget: {percent: 10, minRetryConcurrency: 1}}");
    let before = stage.metric("causeway_retries_total", &["outcome=\"no_budget\""]);
    let narrow = tries("narrow");
    assert!((300..500).contains(&narrow), "{narrow}");
    assert!(stage.metric("causeway_retries_total", &["outcome=\"no_budget\""]) > before + 100.0);
}

/// `deaf` is ready, and nobody listens at its port.
pub fn connect_failures(stage: &Stage) {
    stage.apply(PATIENCE);
    let sent = || stage.metric("causeway_retries_total", &["outcome=\"sent\""]);
    let before = sent();
    let reply = stage.get("patience/connect", &[]);
    assert_eq!((reply.status, reply.code()), (503, "connect_failed"), "{reply:?}");
    assert!(sent() >= before + 2.0, "it was tried again: {before} {}", sent());
    // Beside an endpoint that listens nobody notices it.
    stage.rule("half", "{loadBalancer: {simple: ROUND_ROBIN}}");
    let report = stage.load("half/", &["--requests", "30"]);
    assert_eq!((&report["failed"], &report["apps"]["v2"]), (&0.into(), &30.into()), "{report}");
}

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
