//! Requests that fail are tried again as their route says, within a budget, and never more often than anybody asked for.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs)]

use std::time::{Duration, Instant};

use causeway_tests::capability::{Need, has, python};
use causeway_tests::pod::Reply;
use causeway_tests::process::run;
use causeway_tests::{Pod, until};
use serde_json::Value;

#[allow(dead_code)]
#[path = "traffic/stage.rs"]
mod stage;

use stage::Stage;

const TIME: Duration = Duration::from_secs(20);

fn needs() -> bool {
    has(&[Need::Namespaces, Need::Program("curl")])
}

/// A request of its own key to `path`.
fn send(from: &Pod, key: &str, path: &str, more: &[&str]) -> Reply {
    let (key, url) = (format!("x-key: {key}"), format!("http://shop.prod{path}"));
    from.curl(&[&["-H", &key], more, &[&url]].concat())
}

/// What either version received under `key`.
fn received(stage: &Stage, key: &str) -> Vec<Value> {
    [stage.tally(&stage.v1, key), stage.tally(&stage.v2, key)].concat()
}

/// One endpoint, and a rule for each kind of failure.
fn rules() -> String {
    let rule = |path: &str, retries: &str| {
        format!(
            "  - {{match: [{{uri: {{prefix: {path}}}}}], rewrite: {{uri: /flaky}}, retries: {retries}, route: [{{destination: \
             {{host: shop, subset: v1}}}}]}}\n"
        )
    };
    [
        rule("/status", "{attempts: 2, retryOn: '503,409', backoff: 1ms}"),
        rule("/error", "{attempts: 2, retryOn: 5xx, backoff: 1ms}"),
        rule("/gateway", "{attempts: 2, retryOn: gateway-error, backoff: 1ms}"),
        rule("/conflict", "{attempts: 1, retryOn: retriable-4xx, backoff: 1ms}"),
        rule("/reset", "{attempts: 2, retryOn: reset, backoff: 1ms}"),
        rule("/connect", "{attempts: 2, retryOn: connect-failure, backoff: 1ms}"),
        rule("/late", "{attempts: 1, retryOn: reset, perTryTimeout: 400ms, backoff: 1ms}"),
        rule("/default", "{attempts: 2, backoff: 1ms}"),
        rule("/grpc", "{attempts: 2, retryOn: unavailable, backoff: 1ms}"),
        "  - {match: [{uri: {prefix: /whole}}], rewrite: {uri: /flaky}, timeout: 700ms, retries: {attempts: 5, retryOn: '503', \
         perTryTimeout: 300ms, backoff: 1ms}, route: [{destination: {host: shop, subset: v1}}]}\n"
            .to_owned(),
        "  - {match: [{uri: {prefix: /never}}], rewrite: {uri: /flaky}, retries: {attempts: 0}, route: [{destination: {host: \
         shop, subset: v1}}]}\n"
            .to_owned(),
        "  - route: [{destination: {host: shop, subset: v1}}]\n".to_owned(),
    ]
    .concat()
}

fn ready() -> Stage {
    let stage = Stage::start();
    stage.http(&rules());
    let mut number = 0;
    until("the rules are in force", TIME, || {
        number += 1;
        let key = format!("warm-{number}");
        let reply = send(&stage.client, &key, "/status/1/503", &[]);
        // Without the rules the application answers this path at once.
        let tries = received(&stage, &key).len();
        if tries == 2 { Ok(()) } else { Err(format!("{reply:?}\n{}", stage.mesh.admin("/problems").stdout)) }
    });
    stage
}

#[test]
fn each_condition_is_tried_again_as_often_as_it_says() {
    if !needs() {
        return;
    }
    let stage = ready();
    // What fails the first so many times, the status that the client sees, and how often the application was asked.
    for (path, status, times) in [
        ("/status/2/503", 200, 3),
        ("/status/2/409", 200, 3),
        ("/status/1/500", 500, 1),
        ("/status/9/503", 503, 3),
        ("/error/2/500", 200, 3),
        ("/error/1/drop", 200, 2),
        ("/error/1/404", 404, 1),
        ("/gateway/1/502", 200, 2),
        ("/gateway/1/500", 500, 1),
        ("/conflict/1/409", 200, 2),
        ("/conflict/2/409", 409, 2),
        ("/reset/1/drop", 200, 2),
        ("/reset/1/503", 503, 1),
        ("/connect/1/drop", 502, 1),
        ("/default/1/503", 200, 2),
        ("/default/1/500", 500, 1),
        ("/never/1/503", 503, 1),
    ] {
        let reply = send(&stage.client, path.trim_start_matches('/'), path, &["-X", "POST", "-d", "body"]);
        let key = path.trim_start_matches('/').replace('/', "%2F");
        let tries = received(&stage, path.trim_start_matches('/'));
        assert_eq!((reply.status, tries.len()), (status, times), "{path} {key}: {reply:?} {tries:?}");
        for (n, one) in tries.iter().enumerate() {
            let attempt = if n == 0 { String::new() } else { (n + 1).to_string() };
            assert_eq!((&one["attempt"], &one["body"], &one["complete"]), (&attempt.into(), &4.into(), &true.into()));
        }
    }
    let limit = stage.client.metric("istio_requests_total", &["response_flags=\"URX\""]);
    assert!(limit >= 2.0, "tries that were used up are told: {limit}");
    assert!(stage.client.metric("causeway_retries_total", &["sent"]) >= 12.0);
}

#[test]
fn one_try_and_all_tries_together_end_in_time() {
    if !needs() {
        return;
    }
    let stage = ready();
    let began = Instant::now();
    let reply = send(&stage.client, "late", "/late/1/hang", &[]);
    assert_eq!((reply.status, received(&stage, "late").len()), (200, 2), "the second try is served: {reply:?}");
    assert!((400..3000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    let reply = send(&stage.client, "later", "/late/9/hang", &[]);
    assert_eq!(
        (reply.status, reply.code(), received(&stage, "later").len()),
        (504, "upstream_timeout", 2),
        "{reply:?}"
    );
    let began = Instant::now();
    let reply = send(&stage.client, "whole", "/whole/9/hang", &[]);
    assert_eq!((reply.status, reply.code()), (504, "upstream_timeout"), "{reply:?}");
    assert!((300..2500).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
}

#[test]
fn tries_do_not_multiply_along_a_chain_and_long_bodies_are_sent_once() {
    if !needs() {
        return;
    }
    let stage = ready();
    // A caller that is itself at its second try is not helped by more of ours.
    let nested = ["-H", "x-envoy-attempt-count: 2"];
    let reply = send(&stage.client, "nested", "/status/1/503", &nested);
    assert_eq!((reply.status, received(&stage, "nested").len()), (503, 1), "{reply:?}");
    let first = send(&stage.client, "first", "/status/1/503", &["-H", "x-envoy-attempt-count: 1"]);
    assert_eq!((first.status, received(&stage, "first").len()), (200, 2), "{first:?}");
    for (length, status, times) in [(60_000, 200, 2), (70_000, 503, 1)] {
        let file = stage.mesh.path(&format!("scratch/{length}"));
        std::fs::write(&file, "x".repeat(length)).unwrap();
        let key = format!("body-{length}");
        let reply = send(&stage.client, &key, "/status/1/503", &["--data-binary", &format!("@{}", file.display())]);
        let tries = received(&stage, &key);
        assert_eq!((reply.status, tries.len()), (status, times), "{length}: {reply:?}");
        assert!(tries.iter().all(|t| t["body"] == length && t["complete"] == true), "{tries:?}");
    }
    assert!(stage.client.metric("causeway_retries_total", &["no_body"]) >= 1.0);
}

#[test]
fn a_backend_that_only_fails_is_not_flooded() {
    if !needs() {
        return;
    }
    let stage = ready();
    let url = "http://shop.prod/status/1000000/503";
    // With a key of its own for all, so that every request fails for ever.
    let arguments = [
        "load",
        "--url",
        url,
        "--requests",
        "600",
        "--concurrency",
        "30",
        "--header",
        "x-key: flood",
        "--pause-ms",
        "1",
    ];
    let report = stage.client.client(&arguments);
    let tries = received(&stage, "flood").len();
    assert!(tries >= 600, "{report}");
    // Without a budget there were 1800. With 30 in flight it has room for 6 at once.
    assert!(tries < 1300, "{tries} tries of 600 requests: {report}");
    assert!(stage.client.metric("causeway_retries_total", &["no_budget"]) > 100.0);
}

#[test]
fn without_a_rule_only_what_nobody_saw_is_sent_again() {
    if !needs() {
        return;
    }
    let stage = Stage::start();
    let reply = send(&stage.client, "plain", "/flaky/1/drop", &["-X", "POST", "-d", "body"]);
    assert_eq!((reply.status, reply.code(), received(&stage, "plain").len()), (502, "upstream_reset", 1), "{reply:?}");
    let reply = send(&stage.client, "status", "/flaky/1/503", &[]);
    assert_eq!((reply.status, received(&stage, "status").len()), (503, 1), "{reply:?}");
}

#[test]
fn grpc_is_tried_again_and_fails_in_its_own_words() {
    if !needs() || !has(&[Need::Python]) {
        return;
    }
    let mut stage = Stage::start();
    let script = format!("{}/python/grpc_retry.py", env!("CARGO_MANIFEST_DIR"));
    let mut server = stage.v1.net().command(python());
    server.args([&script, "serve", "[::]:50051"]);
    stage.v1.spawn(&mut server).wait_for_log("listening", TIME);
    let call = |key: &str| {
        let mut command = stage.client.net().command(python());
        command.args([&script, "call", "shop.prod.svc.cluster.local:50051", key]).env("GRPC_DNS_RESOLVER", "native");
        run(&mut command).stdout.trim().to_owned()
    };
    let routes = |more: &str| {
        let to = "route: [{destination: {host: shop, subset: v1}}]";
        stage.http(&format!("  - match: [{{port: 50051}}]\n    {to}\n{more}  - {to}\n"));
    };
    routes("");
    assert_eq!(call("alone"), "UNAVAILABLE the first time", "without a rule");
    routes("    headers: {request: {add: {x-added: here}}}\n    retries: {attempts: 1, retryOn: unavailable}\n");
    let mut number = 0;
    until("the first failure is hidden", TIME, || {
        number += 1;
        let said = call(&format!("key-{number}"));
        if said == "OK 2 2 here" { Ok(()) } else { Err(said) }
    });
    routes("    fault: {abort: {grpcStatus: PERMISSION_DENIED, percentage: {value: 100}}}\n");
    until("the fault is told", TIME, || {
        let said = call("");
        if said.starts_with("PERMISSION_DENIED") { Ok(()) } else { Err(said) }
    });
}

#[test]
fn streams_that_an_application_refuses_are_sent_to_another_or_again_by_a_rule() {
    if !needs() || !has(&[Need::Python]) {
        return;
    }
    let mut stage = Stage::start();
    let script = format!("{}/python/h2_refuse.py", env!("CARGO_MANIFEST_DIR"));
    // The first version refuses the first stream of each key, the second none.
    for (pod, times) in [(&mut stage.v1, "1"), (&mut stage.v2, "0")] {
        let mut server = pod.net().command(python());
        pod.spawn(server.args([&script, "50051", times])).wait_for_log("listening", TIME);
    }
    let ask = |key: &str| {
        let header = format!("x-key: {key}");
        stage.client.curl(&["--http2-prior-knowledge", "-H", &header, "http://shop.prod:50051/"])
    };
    let all = || ask("count").header("x-all").parse::<u32>().unwrap_or(0);
    until("one that was refused was sent to the other", TIME, || {
        let (before, key) = (all(), format!("key-{}", all()));
        for number in 0..10 {
            let reply = ask(&format!("{key}-{number}"));
            assert_eq!(reply.status, 200, "nobody has seen it: {reply:?}");
        }
        let after = (0..10).map(|_| all()).max().unwrap_or(0);
        if after > before { Ok(()) } else { Err(format!("{before} {after}")) }
    });
    let one = "route: [{destination: {host: shop, subset: v1}}]";
    stage.http(&format!("  - retries: {{attempts: 0}}\n    {one}\n"));
    let mut number = 0;
    until("where there is no other, and no rule, it is told", TIME, || {
        number += 1;
        let reply = ask(&format!("never-{number}"));
        let is_it = (reply.status, reply.code()) == (502, "upstream_refused");
        if is_it { Ok(()) } else { Err(format!("{reply:?}")) }
    });
    stage.http(&format!("  - retries: {{attempts: 2, retryOn: refused-stream, backoff: 1ms}}\n    {one}\n"));
    until("by the rule it is sent to the same again", TIME, || {
        number += 1;
        let reply = ask(&format!("again-{number}"));
        let told = (reply.status, reply.header("x-refused"), reply.header("x-attempt"));
        if told == (200, "1", "2") { Ok(()) } else { Err(format!("{reply:?}")) }
    });
}
