//! Every algorithm of balancing, zones and slow start: YAML, the control plane, proxies, a client that counts who answers.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a suite")]

#[path = "balancing/stage.rs"]
#[allow(dead_code, reason = "the other suites use more of it")]
mod stage;

use std::collections::BTreeSet;

use causeway_tests::{Pod, until};
use stage::{LIMIT, Stage, can_run};

#[test]
fn requests_are_balanced_as_the_destination_rule_says() {
    if !can_run() {
        return;
    }
    let stage = Stage::set(&[("", &[]), ("", &[]), ("", &[])]);
    assert_eq!(stage.backend("server.prod:80")["algorithm"], "peak_ewma");
    let spread = stage.answers("/slow/5", &["--requests", "300", "--concurrency", "6"]);
    assert!(spread.len() == 3 && spread.values().all(|n| *n >= 40), "peak EWMA: {spread:?}");

    simple(&stage, "ROUND_ROBIN", "round_robin");
    let turns = stage.answers("/", &["--requests", "30"]);
    assert!(turns.len() == 3 && turns.values().all(|n| *n == 10), "round robin: {turns:?}");

    simple(&stage, "RANDOM", "random");
    let random = stage.answers("/", &["--requests", "300"]);
    assert!(random.len() == 3 && random.values().all(|n| (60..=140).contains(n)), "random: {random:?}");

    simple(&stage, "LEAST_REQUEST", "least_request");
    let least = stage.answers("/slow/20", &["--requests", "120", "--concurrency", "6"]);
    assert!(least.len() == 3 && least.values().all(|n| (25..=55).contains(n)), "least request: {least:?}");

    hashed(&stage);
    by_cookie(&stage);
    by_source_address(&stage);
}

fn simple(stage: &Stage, asked: &str, shown: &str) {
    stage.rule(&format!("{{loadBalancer: {{simple: {asked}}}}}"), |b| b["algorithm"] == shown);
}

/// By header, query and source identity. The second rule is told from the first by a limit that nothing reaches.
fn hashed(stage: &Stage) {
    let hash = |stage: &Stage, key: &str, number: u32| {
        let pool = format!("connectionPool: {{http: {{http2MaxRequests: {number}}}}}");
        let policy = format!("{{loadBalancer: {{consistentHash: {{{key}}}}}, {pool}}}");
        stage.rule(&policy, |b| b["algorithm"] == "consistent_hash" && b["limits"]["requests"] == number);
    };
    hash(stage, "httpHeaderName: X-User", 1001);
    let alice = stage.answers("/", &["--requests", "30", "--header", "x-user: alice"]);
    assert_eq!(alice.len(), 1, "one user, one server: {alice:?}");
    let many = stage.answers("/", &["--requests", "90", "--header", "x-user: user-{n}"]);
    assert_eq!(many.len(), 3, "many users, all servers: {many:?}");
    let again = stage.answers("/", &["--requests", "30", "--header", "x-user: alice"]);
    assert_eq!(alice.keys().collect::<Vec<_>>(), again.keys().collect::<Vec<_>>());
    // Nobody gets more than 125 % of the mean, not even by one key.
    let crowd = stage.answers("/slow/50", &["--requests", "120", "--concurrency", "12", "--header", "x-user: alice"]);
    assert!(crowd.len() == 3 && crowd.values().all(|n| *n <= 70), "a crowd of one user: {crowd:?}");

    hash(stage, "httpQueryParameterName: user", 1002);
    let bob = stage.answers("/?user=bob", &["--requests", "30"]);
    assert_eq!(bob.len(), 1, "{bob:?}");
    let without = stage.answers("/", &["--requests", "90"]);
    assert_eq!(without.len(), 3, "what has no key is drawn: {without:?}");

    hash(stage, "useSourceIdentity: true", 1003);
    let own = stage.answers("/", &["--requests", "30"]);
    assert_eq!(own.len(), 1, "{own:?}");
}

/// The proxy gives a cookie to whoever has none, and the cookie leads back.
fn by_cookie(stage: &Stage) {
    let policy = "{loadBalancer: {consistentHash: {httpCookie: {name: stick, path: /, ttl: 60s}}}}";
    stage.rule(policy, |b| b["algorithm"] == "consistent_hash" && b["limits"]["requests"].is_null());
    let mut reached = BTreeSet::new();
    for _ in 0..12 {
        let first = stage.client.curl(&["http://server.prod/"]);
        let given = first.header("set-cookie").to_owned();
        assert!(given.starts_with("stick=") && given.contains("Max-Age=60"), "{first:?}");
        let cookie = format!("cookie: {}", given.split(';').next().unwrap());
        for _ in 0..2 {
            let next = stage.client.curl(&["-H", &cookie, "http://server.prod/"]);
            assert_eq!((next.body.as_str(), next.header("set-cookie")), (first.body.as_str(), ""), "{cookie}");
        }
        reached.insert(first.body);
    }
    assert!(reached.len() > 1, "{reached:?}");
}

/// Pods of one ServiceAccount are told from each other, and what one sends goes to one server, however much that is.
/// Sizes of a table that we do not have are named, and move nobody.
fn by_source_address(stage: &Stage) {
    let clients: Vec<Pod> = (0..5).map(|n| stage.client(&format!("other-{n}"), "a")).collect();
    let reached = |key: &str, number: u32| {
        let pool = format!("connectionPool: {{http: {{http2MaxRequests: {number}}}}}");
        let policy = format!("{{loadBalancer: {{consistentHash: {{{key}}}}}, {pool}}}");
        stage.rule(&policy, |b| b["limits"]["requests"] == number);
        let each = clients.iter().map(|client| {
            until("the client sticks to one server", LIMIT, || {
                let report = stage::load(client, "/slow/5", &["--requests", "60", "--concurrency", "12"]);
                let apps: Vec<String> = stage::counts(&report).into_keys().collect();
                if let [one] = &*apps { Ok(one.clone()) } else { Err(report.to_string()) }
            })
        });
        each.collect::<Vec<String>>()
    };
    let bare = reached("useSourceIp: true", 1004);
    assert!(bare.iter().collect::<BTreeSet<_>>().len() > 1, "{bare:?}");
    assert_eq!(reached("useSourceIp: true, minimumRingSize: 4096", 1005), bare);
    stage.mesh.wait_for_problem(&["not implemented", "consistentHash.minimumRingSize"]);
    assert_eq!(reached("useSourceIp: true, ringHash: {minimumRingSize: 1}", 1006), bare);
    stage.mesh.wait_for_problem(&["not implemented", "consistentHash.ringHash"]);
    assert_eq!(reached("useSourceIp: true, maglev: {tableSize: 65537}", 1007), bare);
    stage.mesh.wait_for_problem(&["not implemented", "consistentHash.maglev"]);
}

#[test]
fn near_servers_are_preferred_and_a_new_one_is_warmed_up() {
    if !can_run() {
        return;
    }
    let mut stage = Stage::set(&[("a", &[]), ("b", &[]), ("b", &[])]);
    let policy = "{loadBalancer: {simple: ROUND_ROBIN, localityLbSetting: {enabled: true}}, \
                  outlierDetection: {splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 2, \
                  baseEjectionTime: 2s, maxEjectionPercent: 100}}";
    stage.rule(policy, |b| b["zones"] == "Prefer");
    let near = stage.answers("/", &["--requests", "60"]);
    assert_eq!(near.into_iter().collect::<Vec<_>>(), [("server-0".to_owned(), 60)]);
    // The near one is gone: everything spills over, and nothing fails.
    stage.servers[0].stop_apps();
    let report = stage.load("/", &["--requests", "60"]);
    assert_eq!(report["failed"], 0, "{report}");
    assert_eq!(stage::counts(&report).len(), 2, "{report}");
    stage.comes("server.prod:80", |b| stage::standing(b, "server-0") == "ejected consecutive_connect_failures");
    stage.servers[0].serve_http("server-0", 8080);
    until("the near one has everything again", LIMIT, || {
        let answers = stage.answers("/", &["--requests", "60"]);
        if answers.len() == 1 && answers.contains_key("server-0") { Ok(()) } else { Err(format!("{answers:?}")) }
    });

    // By now the others are older than the window.
    stage.rule("{loadBalancer: {simple: ROUND_ROBIN, warmup: {duration: 8s, minimumPercent: 10}}}", |b| {
        b["zones"] == "AsHinted" && b["ejects_outliers"] == false
    });
    until("all are warm", LIMIT, || {
        let answers = stage.answers("/", &["--requests", "90"]);
        if answers.len() == 3 && answers.values().all(|n| *n == 30) { Ok(()) } else { Err(format!("{answers:?}")) }
    });
    stage.add("b");
    stage.comes("server.prod:80", |b| b["endpoints"].as_array().is_some_and(|e| e.len() == 4));
    let young = stage.answers("/", &["--requests", "200"]);
    let share = young.get("server-3").copied().unwrap_or(0);
    assert!(share < 35, "a quarter would be 50: {young:?}");
    until("the new one has its whole share", LIMIT, || {
        let answers = stage.answers("/", &["--requests", "80"]);
        if answers.len() == 4 && answers.values().all(|n| *n == 20) { Ok(()) } else { Err(format!("{answers:?}")) }
    });
}
