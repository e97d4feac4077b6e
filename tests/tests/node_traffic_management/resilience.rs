//! What becomes of requests that last too long or fail.

use std::time::{Duration, Instant};

use causeway_tests::pod::Reply;
use serde_json::Value;

use crate::stage::Stage;

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
        ("error", "2/500", 200, 3),
        ("error", "1/drop", 200, 2),
        ("error", "1/404", 404, 1),
        ("gateway", "1/502", 200, 2),
        ("gateway", "1/500", 500, 1),
        ("conflict", "1/409", 200, 2),
        ("conflict", "2/409", 409, 2),
        ("list", "1/425", 200, 2),
        ("list", "1/504", 504, 1),
        ("default", "1/503", 200, 2),
        ("default", "1/500", 500, 1),
        ("never", "1/503", 503, 1),
        ("flaky", "1/503", 503, 1),
    ] {
        let (reply, tries) = tried(stage, rule, failures);
        assert_eq!((reply.status, tries.len()), (status, times), "{rule} {failures}: {reply:?} {tries:?}");
        assert!(tries.iter().all(|t| t["body"] == 4 && t["complete"] == true), "the body comes each time: {tries:?}");
        let told: Vec<_> = tries.iter().map(|t| t["attempt"].as_str().unwrap()).collect();
        assert_eq!(told, ["", "2", "3"][..times], "each says which it is: {tries:?}");
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
