//! Endpoints that fail are left out and come back; what is too much is refused: by DestinationRule, with real proxies.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, missing_docs, reason = "a suite")]

#[path = "balancing/stage.rs"]
#[allow(dead_code, reason = "the other suite uses more of it")]
mod stage;

use std::time::Duration;

use causeway_tests::until;
use stage::{LIMIT, Stage, can_run, counts, standing};

const BACKEND: &str = "server.prod:80";

/// A rule that ejects, told from others by a limit that nothing reaches.
fn ejecting(stage: &Stage, how: &str, base: &str, number: u32) {
    let policy = format!(
        "{{loadBalancer: {{simple: ROUND_ROBIN}}, connectionPool: {{http: {{http2MaxRequests: {number}}}}}, \
         outlierDetection: {{baseEjectionTime: {base}, {how}}}}}"
    );
    stage.rule(&policy, |b| b["ejects_outliers"] == true && b["limits"]["requests"] == number);
}

#[test]
fn endpoints_that_fail_are_ejected_and_come_back() {
    if !can_run() {
        return;
    }
    let mut stage = Stage::set(&[("", &["--broken", "/break"]), ("", &["--broken", "/break"]), ("", &[]), ("", &[])]);

    // 5xx in a row; one of four at most.
    ejecting(&stage, "consecutive5xxErrors: 3, maxEjectionPercent: 25", "2s", 1001);
    let report = stage.load("/break", &["--requests", "60"]);
    let ejected = |stage: &Stage| {
        let backend = stage.backend(BACKEND);
        (0..4).filter(|n| standing(&backend, &format!("server-{n}")).starts_with("ejected")).collect::<Vec<_>>()
    };
    println!("one of two broken ones is out: {report}, {:?}", ejected(&stage));
    assert_eq!(ejected(&stage).len(), 1, "{}", stage.backend(BACKEND));
    assert!(ejected(&stage)[0] < 2);
    assert!(stage.client.metric("causeway_ejections_total", &["consecutive_5xx", BACKEND]) >= 1.0);

    // Both.
    ejecting(&stage, "consecutive5xxErrors: 3, maxEjectionPercent: 50", "2s", 1002);
    until("nothing fails any more", LIMIT, || {
        let report = stage.load("/break", &["--requests", "30"]);
        let both = ejected(&stage) == [0, 1];
        if both && report["statuses"]["500"].is_null() { Ok(()) } else { Err(report.to_string()) }
    });
    // On a path where they are sound they pass their probation, without a failure on the way.
    until("all are in use again", LIMIT, || {
        let report = stage.load("/", &["--requests", "40"]);
        assert_eq!(report["failed"], 0, "{report}");
        let backend = stage.backend(BACKEND);
        let is_in = (0..4).all(|n| standing(&backend, &format!("server-{n}")) == "in -");
        if is_in && counts(&report).len() == 4 { Ok(()) } else { Err(format!("{report} {backend}")) }
    });

    gateway_errors(&stage);
    no_connection(&mut stage);
}

/// 503 counts, 500 does not; never more than half are out, and all are used again afterwards.
fn gateway_errors(stage: &Stage) {
    ejecting(stage, "consecutive5xxErrors: 0, consecutiveGatewayErrors: 3, maxEjectionPercent: 50", "2s", 1003);
    stage.load("/status/500", &["--requests", "60"]);
    let of = |stage: &Stage| stage.client.metric("causeway_ejections_total", &["consecutive_gateway_errors"]);
    assert_eq!(of(stage), 0.0);
    stage.load("/status/503", &["--requests", "60"]);
    assert!(of(stage) >= 2.0, "{}", stage.backend(BACKEND));
    until("all are in use again", LIMIT, || {
        let report = stage.load("/", &["--requests", "40"]);
        if counts(&report).len() == 4 { Ok(()) } else { Err(report.to_string()) }
    });
}

/// An application that does not listen any more: its requests go elsewhere, and it is left out.
fn no_connection(stage: &mut Stage) {
    let how = "consecutive5xxErrors: 0, splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 2";
    ejecting(stage, how, "2s", 1004);
    stage.servers[3].stop_apps();
    let report = stage.load("/", &["--requests", "60"]);
    assert_eq!(report["failed"], 0, "{report}");
    stage.comes(BACKEND, |b| standing(b, "server-3") == "ejected consecutive_connect_failures");
    stage.servers[3].serve_http("server-3", 8080);
    until("it is in use again", LIMIT, || {
        let report = stage.load("/", &["--requests", "40"]);
        if counts(&report).contains_key("server-3") { Ok(()) } else { Err(report.to_string()) }
    });
}

#[test]
fn a_slow_endpoint_is_ejected_by_its_latency() {
    if !can_run() {
        return;
    }
    let stage = Stage::set(&[("", &["--delay-ms", "150"]), ("", &[]), ("", &[]), ("", &[])]);
    ejecting(&stage, "consecutive5xxErrors: 0, latencyPercent: 400, interval: 500ms", "30s", 1001);
    until("the slow one is out", LIMIT, || {
        let answers = stage.answers("/slow/5", &["--requests", "40"]);
        let standing = standing(&stage.backend(BACKEND), "server-0");
        if standing == "ejected latency" { Ok(()) } else { Err(format!("{standing} {answers:?}")) }
    });
    let answers = stage.answers("/", &["--requests", "60"]);
    assert!(!answers.contains_key("server-0"), "{answers:?}");
}

#[test]
fn what_is_above_a_limit_is_refused_at_once() {
    if !can_run() {
        return;
    }
    let stage = Stage::set(&[("", &[]), ("", &[])]);
    stage.rule("{connectionPool: {http: {http2MaxRequests: 4}}}", |b| b["limits"]["requests"] == 4);
    let answers = stage.answers("/slow/300", &["--requests", "40", "--concurrency", "10"]);
    let refused = answers.get("circuit_open").copied().unwrap_or(0);
    // All four that pass may go to one endpoint, where the other was slow before.
    assert!(refused > 0 && answers.len() > 1, "{answers:?}");
    assert!(stage.client.metric("causeway_circuit_open_total", &["requests", BACKEND]) >= refused as f64);
    let answers = stage.answers("/slow/50", &["--requests", "40", "--concurrency", "4"]);
    assert_eq!(answers.get("circuit_open"), None, "what is within it is not: {answers:?}");
    let reply = stage.client.curl(&["http://server.prod/"]);
    assert_eq!(reply.status, 200, "{reply:?}");

    pending(&stage);
    few_requests_per_connection(&stage);
    tcp(&stage);
}

/// One connection each, one request at a time on it, one that waits: the others are refused.
fn pending(stage: &Stage) {
    let policy = "{connectionPool: {tcp: {maxConnections: 1}, http: {maxConcurrentStreams: 1, \
                  http1MaxPendingRequests: 1}}}";
    stage.rule(policy, |b| b["limits"]["waiting"] == 1);
    // Connections of before have more room, and go on; new ones are made once these are closed.
    let answers = stage.answers("/slow/200", &["--requests", "60", "--concurrency", "12"]);
    assert!(answers.get("circuit_open").copied() > Some(0), "{answers:?}");
    assert!(stage.client.metric("causeway_circuit_open_total", &["pending", BACKEND]) > 0.0);
    let calm = stage.load("/", &["--requests", "40", "--concurrency", "2"]);
    assert_eq!(calm["failed"], 0, "{calm}");
}

/// Each request on a connection of its own.
fn few_requests_per_connection(stage: &Stage) {
    let opened = || {
        let counters = causeway_tests::process::run(stage.client.command("cat").arg("/proc/net/snmp")).ok();
        let tcp = counters.lines().filter_map(|l| l.strip_prefix("Tcp: ")).nth(1).unwrap().to_owned();
        tcp.split_whitespace().nth(4).unwrap().parse::<u64>().unwrap()
    };
    let of_load = || {
        let before = opened();
        let report = stage.load("/", &["--requests", "30"]);
        assert_eq!(report["failed"], 0, "{report}");
        opened() - before
    };
    stage.rule("{connectionPool: {tcp: {maxConnections: 76}}}", |b| b["limits"]["connections"] == 76);
    let shared = of_load();
    assert!(shared < 10, "{shared}");
    stage.rule("{connectionPool: {tcp: {maxConnections: 77}, http: {maxRequestsPerConnection: 1}}}", |b| {
        b["limits"]["connections"] == 77
    });
    let own = of_load();
    assert!(own >= 30, "{own}");
}

/// Connections for bytes: not more than so many, not longer than so long, not idle.
fn tcp(stage: &Stage) {
    let backend = "server.prod:9000";
    let push = ["talk", "--connect", "server.prod:9000", "--timeout-ms", "8000"];
    assert!(stage.client.client(&[&push[..], &["--until", "1"]].concat())["bytes"].as_u64() > Some(0));
    stage.rule("{connectionPool: {tcp: {maxConnections: 2, maxConnectionDuration: 3s}}}", |b| {
        b["limits"]["connections"] == 2
    });
    stage.comes(backend, |b| b["limits"]["connections"] == 2);
    let mut held: Vec<_> = (0..2).map(|n| stage.client.background(&format!("held-{n}"), &push)).collect();
    stage.comes(backend, |b| b["in_use"]["connections"] == 2);
    let third = stage.client.client(&push);
    assert_eq!(third["bytes"], 0, "{third}");
    for process in &mut held {
        process.wait(Duration::from_secs(20));
        let report: serde_json::Value = serde_json::from_str(&process.log()).unwrap();
        let lived = report["total_ms"].as_u64().unwrap();
        assert!(report["bytes"].as_u64() > Some(0) && (2500..7000).contains(&lived), "{report}");
    }
    stage.comes(backend, |b| b["in_use"]["connections"] == 0);
}
