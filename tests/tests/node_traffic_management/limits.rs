//! What is too much is refused at once, and said so.

use causeway_tests::pod::Reply;
use causeway_tests::process::{Process, run};
use causeway_tests::until;
use serde_json::Value;

use crate::stage::{SOON, Stage, send};

const LIMITED: &str = include_str!("../../fixtures/traffic/limited.yaml");

/// The number of refusals of a load, all of them with our reason and none of another kind.
fn refused(report: &Value) -> u64 {
    let refused = report["apps"]["circuit_open"].as_u64().unwrap_or(0);
    assert_eq!(
        (&report["failed"], report["statuses"]["503"].as_u64().unwrap_or(0)),
        (&refused.into(), refused),
        "{report}"
    );
    refused
}

fn counted(stage: &Stage, service: &str, limit: &str) -> f64 {
    stage.metric("causeway_circuit_open_total", &[&format!("{service}.prod"), &format!("limit=\"{limit}\"")])
}

pub fn requests(stage: &Stage) {
    let many = ["--requests", "40", "--concurrency", "10"];
    assert_eq!(refused(&stage.load("circuit/slow/300", &many)), 0, "without a limit");
    stage.rule("circuit", "{connectionPool: {http: {http2MaxRequests: 4}}}");
    let before = counted(stage, "circuit", "requests");
    let over = refused(&stage.load("circuit/slow/300", &many));
    let told = counted(stage, "circuit", "requests") - before;
    assert!(over > 0 && told >= over as f64, "{over} refused, {told} counted");
    let within = stage.load("circuit/slow/50", &["--requests", "40", "--concurrency", "4"]);
    assert_eq!(refused(&within), 0, "what is within it is not refused: {within}");
}

/// One connection to each endpoint, one request at a time on it, one that waits.
pub fn pending(stage: &Stage) {
    stage.rule(
        "circuit",
        "{connectionPool: {tcp: {maxConnections: 1}, http: {maxConcurrentStreams: 1, http1MaxPendingRequests: 1}}}",
    );
    let before = counted(stage, "circuit", "pending");
    let over = refused(&stage.load("circuit/slow/200", &["--requests", "60", "--concurrency", "12"]));
    let told = counted(stage, "circuit", "pending") - before;
    assert!(over > 0 && told > 0.0, "{over} refused, {told} counted");
    let calm = stage.load("circuit/", &["--requests", "40", "--concurrency", "2"]);
    assert_eq!(refused(&calm), 0, "{calm}");
}

/// One connection to each of three endpoints, one request at a time on it: the others wait for a second, and not longer.
pub fn connections(stage: &Stage) {
    let load = || stage.load("crowded/slow/2500", &["--requests", "9", "--concurrency", "9"]);
    let before = counted(stage, "crowded", "connections");
    stage.rule(
        "crowded",
        "{connectionPool: {tcp: {maxConnections: 1, connectTimeout: 1s}, http: {maxConcurrentStreams: 1}}}",
    );
    let report = load();
    let over = refused(&report);
    assert!((1..=6).contains(&over) && counted(stage, "crowded", "connections") - before >= over as f64, "{report}");
    stage.rule("crowded", "{connectionPool: {tcp: {maxConnections: 9}, http: {maxConcurrentStreams: 1}}}");
    let report = load();
    assert_eq!(refused(&report), 0, "{report}");
}

/// Two connections for bytes may be open, for five seconds; the third is closed at once.
pub fn connections_for_bytes(stage: &Stage) {
    stage.rule("circuit", "{connectionPool: {tcp: {maxConnections: 2, maxConnectionDuration: 5s}}}");
    let before = counted(stage, "circuit", "connections");
    let mut held: Vec<Process> = (0..2).map(|number| talk_in_background(stage, number)).collect();
    until("both are open", SOON, || {
        let backend = stage.backend("circuit.prod:9000");
        if backend["in_use"]["connections"] == 2 { Ok(()) } else { Err(backend.to_string()) }
    });
    let third = talk(stage);
    assert_eq!(third["bytes"], 0, "{third}");
    assert!(counted(stage, "circuit", "connections") > before);
    for process in &mut held {
        process.wait(SOON);
        let report: Value = serde_json::from_str(&process.log()).unwrap();
        let lived = report["total_ms"].as_u64().unwrap();
        assert!(report["bytes"].as_u64() > Some(0) && (4500..12_000).contains(&lived), "{report}");
    }
    until("there is room again", SOON, || {
        let next = talk(stage);
        if next["bytes"].as_u64() > Some(0) { Ok(()) } else { Err(next.to_string()) }
    });
}

/// The server speaks first and does not end.
const TALK: &[&str] = &["talk", "--connect", "circuit.prod:9000"];

fn talk(stage: &Stage) -> Value {
    run(stage.client.command("causeway-test-app").args(TALK).args(["--until", "1"])).json()
}

fn talk_in_background(stage: &Stage, number: usize) -> Process {
    let log = stage.node.directory().join(format!("log/talk-{number}.log"));
    Process::start("talk", stage.client.command("causeway-test-app").args(TALK), &log)
}

pub fn rate(stage: &Stage) {
    stage.apply(LIMITED);
    let over = |reply: &Reply| {
        assert_eq!((reply.status, reply.code()), (429, "rate_limited"), "{reply:?}");
        assert_eq!(reply.header("causeway-detail"), "limit prod/limited#each", "{reply:?}");
        let wait: u64 = reply.header("retry-after").parse().unwrap();
        assert!((1..=1200).contains(&wait) && reply.header("ratelimit-remaining") == "0", "{reply:?}");
    };
    for from in [&stage.client, &stage.guest] {
        for left in ["2", "1", "0"] {
            let reply = send(from, "limited/counted", &[]);
            assert_eq!((reply.status, reply.header("ratelimit-limit")), (200, "3"), "{reply:?}");
            assert_eq!(reply.header("ratelimit-remaining"), left, "{reply:?}");
        }
        for _ in 0..3 {
            over(&send(from, "limited/counted", &[]));
        }
        let other = send(from, "limited/", &[]);
        assert!(other.status == 200 && other.header("ratelimit-limit").is_empty(), "{other:?}");
    }
}
