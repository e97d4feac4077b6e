//! What is tried again and how often: no storm, no long body, gRPC by its codes, streams that an application refuses.

use std::process::Command;
use std::time::{Duration, Instant};

use causeway_tests::capability::python;
use causeway_tests::kube::Inside;
use causeway_tests::process::{Process, run};
use serde_json::Value;

use crate::stage::{SOON, Stage};

const PATIENCE: &str = include_str!("../../fixtures/traffic/patience.yaml");

pub fn bounds(stage: &Stage) {
    stage.apply(PATIENCE);
    let once = |key: &str, more: &[&str]| -> (u16, Vec<Value>) {
        let header = format!("x-key: {key}");
        let reply = stage.get("patience/status/1/503", &[&["-H", &header], more].concat());
        (reply.status, stage.received(1, key))
    };
    // A caller that is itself at its second try is not helped by more of ours.
    let (status, tries) = once("nested", &["-H", "x-envoy-attempt-count: 2"]);
    assert_eq!((status, tries.len()), (503, 1), "{tries:?}");
    let (status, tries) = once("first", &["-H", "x-envoy-attempt-count: 1"]);
    assert_eq!((status, tries.len()), (200, 2), "{tries:?}");
    for (length, status, times) in [(60_000, 200, 2), (70_000, 503, 1)] {
        let (found, tries) = once(&format!("body-{length}"), &["--data-binary", &"x".repeat(length)]);
        assert_eq!((found, tries.len()), (status, times), "{length}: {tries:?}");
        assert!(tries.iter().all(|t| t["body"] == length && t["complete"] == true), "{tries:?}");
    }
    assert!(stage.metric("causeway_retries_total", &["outcome=\"no_body\""]) >= 1.0);
    // Each waits for up to two seconds: that all twelve draw less than 300 ms happens in one of 10^9 runs.
    stage.rule("v1", "{retryBudget: {percent: 100, minRetryConcurrency: 100}}");
    let began = Instant::now();
    let more = ["--requests", "12", "--concurrency", "12", "--header", "x-key: wait-{n}"];
    let report = stage.load("patience/wait/1/503", &more);
    let longest = report["micros"]["max"].as_u64().unwrap();
    assert!(report["failed"] == 0 && longest > 300_000, "{report}");
    assert!(began.elapsed() < Duration::from_secs(8), "{report}");
}

/// A Python program of `tests/python` in a pod's network.
fn script(pod: &Inside, name: &str, arguments: &[&str]) -> Command {
    let mut command = pod.with_names(python());
    command.arg(format!("{}/python/{name}", env!("CARGO_MANIFEST_DIR"))).args(arguments);
    command.env("GRPC_DNS_RESOLVER", "native");
    command
}

fn serve(stage: &Stage, version: usize, name: &str, arguments: &[&str]) -> Process {
    let log = stage.node.directory().join(format!("log/{name}-{version}.log"));
    let server = Process::start(name, &mut script(&stage.versions[version - 1], name, arguments), &log);
    server.wait_for_log("listening", SOON);
    server
}

/// Another implementation calls and answers; the call fails the first time with the code that its key names.
pub fn grpc(stage: &Stage) {
    stage.apply(PATIENCE);
    let _server = serve(stage, 1, "grpc_retry.py", &["serve", "[::]:50051"]);
    let call = |service: &str, key: &str| {
        let target = format!("{service}.prod.svc.cluster.local:50051");
        run(&mut script(&stage.client, "grpc_retry.py", &["call", &target, key])).stdout.trim().to_owned()
    };
    for code in ["cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"] {
        let key = format!("{code}-1");
        assert_eq!(call("patience", &key), "OK 2 2", "{code}");
        let told = format!("{} the first time", code.to_uppercase().replace('-', "_"));
        assert_eq!(call("v1", &format!("{code}-2")), told, "without a rule");
    }
    // A rule for one code is none for another.
    assert_eq!(call("patience", "unavailable-internal-3"), "INTERNAL the first time");
}

/// `v1` refuses the first stream of each key without a look at it, `v2` none.
pub fn refused(stage: &Stage) {
    stage.apply(PATIENCE);
    let _servers =
        [(1, "1"), (2, "0")].map(|(version, times)| serve(stage, version, "h2_refuse.py", &["50052", times]));
    let ask = |service: &str, key: &str| {
        let header = format!("x-key: {key}");
        stage.get(&format!("{service}:50052/"), &["--http2-prior-knowledge", "-H", &header])
    };
    let again = ask("patience", "again-1");
    assert_eq!((again.status, again.header("x-refused"), again.header("x-attempt")), (200, "1", "2"), "{again:?}");
    let never = ask("patience", "never-1");
    assert_eq!((never.status, never.code()), (502, "upstream_refused"), "{never:?}");
    // Nobody has seen it, so it goes to another endpoint without a rule, and nobody's request fails.
    for number in 0..20 {
        let reply = ask("pair", &format!("pair-{number}"));
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    let refused = ask("v1", "count").header("x-all").parse::<u32>().unwrap();
    assert!(refused > 2, "v1 has refused some of them: {refused}");
}
