//! Which endpoint takes a request where nobody is near, and how much is sent again or on one connection.

use std::collections::BTreeMap;

use causeway_tests::process::run;
use causeway_tests::until;

use crate::stage::{SOON, Stage, counts};

const AGAIN: &str = include_str!("../../fixtures/reach/again.yaml");

/// `b-v2` takes 30 ms for each answer, the three others none.
pub fn random(stage: &Stage) {
    let answers = |requests: &str| counts(&stage.load("all/", &["--requests", requests, "--concurrency", "6"]));
    stage.rule("prod", "all", "{loadBalancer: {simple: PEAK_EWMA}}");
    let quick = answers("400");
    assert_eq!(quick.values().sum::<u64>(), 400, "{quick:?}");
    let slow = quick.get("b-v2").copied().unwrap_or_default();
    let is_least = quick.iter().all(|(app, n)| app == "b-v2" || *n > slow);
    assert!(is_least, "the slow one gets little: {quick:?}");

    stage.rule("prod", "all", "{loadBalancer: {simple: RANDOM}}");
    let any: Vec<BTreeMap<String, u64>> = (0..3).map(|_| answers("400")).collect();
    // A quarter of 400: outside of these bounds in one of 10^10 loads. In turn it would be 100 each time.
    let is_quarter = |n: &u64| (49..=158).contains(n);
    assert!(any.iter().all(|load| load.len() == 4 && load.values().all(is_quarter)), "the slow one too: {any:?}");
    assert!(any.iter().any(|load| load.values().any(|n| *n != 100)), "not in turn: {any:?}");
}

/// Ten requests at once that are never answered: what the application got, retries that were sent and that were not, and
/// how often the limit was met.
fn of_ten(stage: &Stage, key: &str) -> [u64; 4] {
    let counted = || {
        let retries = |outcome: &str| stage.client.metric("causeway_retries_total", &[outcome]) as u64;
        let labels = ["limit=\"retries\"", "pool.prod:80"];
        [retries("sent"), retries("no_budget"), stage.client.metric("causeway_circuit_open_total", &labels) as u64]
    };
    let before = counted();
    let header = format!("x-key: {key}");
    let report =
        stage.load("pool/flaky/1000000/hang", &["--requests", "10", "--concurrency", "10", "--header", &header]);
    assert_eq!(report["statuses"]["504"], 10, "the last try's answer stands: {report}");
    let after = counted();
    let (.., app) = &stage.apps["a-v1"];
    let tally = app.curl(&[&format!("http://127.0.0.1:8080/tally/{key}")]).json();
    let tries = u64::try_from(tally.as_array().unwrap().len()).unwrap();
    [tries, after[0] - before[0], after[1] - before[1], after[2] - before[2]]
}

pub fn retries(stage: &Stage) {
    stage.apply(AGAIN);
    let rule = |limit: &str| {
        let policy = format!(
            "{{retryBudget: {{percent: 100, minRetryConcurrency: 100}}, connectionPool: {{http: {{http2MaxRequests: 1000, \
             {limit}}}}}}}"
        );
        stage.rule("prod", "pool", &policy);
    };
    rule("maxRetries: 3");
    assert_eq!(of_ten(stage, "few"), [10 + 3, 3, 7, 7]);
    rule("");
    assert_eq!(of_ten(stage, "all"), [20, 10, 0, 0]);
}

/// Connections that programs of the client's pod have opened, its proxy among them.
fn opened(stage: &Stage) -> u64 {
    let counters = run(stage.client.network("cat").arg("/proc/net/snmp")).ok();
    let tcp = counters.lines().filter_map(|l| l.strip_prefix("Tcp: ")).nth(1).unwrap().to_owned();
    tcp.split_whitespace().nth(4).unwrap().parse().unwrap()
}

pub fn requests_per_connection(stage: &Stage) {
    let of_load = || {
        let before = opened(stage);
        let report = stage.load("pool/", &["--requests", "30"]);
        assert_eq!(report["failed"], 0, "{report}");
        opened(stage) - before
    };
    stage.rule("prod", "pool", "{connectionPool: {tcp: {maxConnections: 50}}}");
    let shared = of_load();
    assert!(shared < 10, "{shared}");
    stage.rule("prod", "pool", "{connectionPool: {tcp: {maxConnections: 50}, http: {maxRequestsPerConnection: 1}}}");
    let own = of_load();
    assert!(own >= 30, "{own}");
}

/// Whether the kernel keeps a connection of the client's proxy to `a-v1` alive as `is` says of the time until its next probe.
fn keeps(stage: &Stage, is: impl Fn(&str) -> bool) -> Result<(), String> {
    let (_, address, _) = &stage.apps["a-v1"];
    let filter = format!("dst {address} and dport = :8080");
    let sockets = run(stage.client.network("ss").args(["-Htno", "state", "established", &filter])).ok();
    let mut timers = sockets.lines().filter_map(|line| line.split_once("timer:(keepalive,")).map(|(_, timer)| timer);
    if timers.any(is) { Ok(()) } else { Err(sockets) }
}

/// Every connection of a proxy is probed after some seconds; those of this Service after two hours, as it asks for.
pub fn probed(stage: &Stage) {
    let is_long = |timer: &str| timer.split(',').next().is_some_and(|t| t.ends_with("min") && t.starts_with("11"));
    assert!(keeps(stage, is_long).is_err(), "{:?}", keeps(stage, is_long));
    stage.rule("prod", "probed", "{connectionPool: {tcp: {tcpKeepalive: {time: 7170s, interval: 60s, probes: 5}}}}");
    assert_eq!(stage.load("probed/", &["--requests", "6"])["failed"], 0);
    until("the kernel waits as long as it was told", SOON, || keeps(stage, is_long));
    let report = stage.load("pool/", &["--requests", "6"]);
    assert_eq!(report["failed"], 0, "{report}");
    until("others are probed soon", SOON, || keeps(stage, |timer| !timer.contains("min")));
}
