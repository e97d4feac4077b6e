//! What is done with a request beside sending it on.

use std::time::{Duration, Instant};

use causeway_tests::pod::Reply;
use causeway_tests::process::run;
use causeway_tests::until;
use serde_json::Value;

use crate::stage::{SOON, Stage, url};

const ACTING: &str = include_str!("../../fixtures/traffic/acting.yaml");
const CORS: &str = include_str!("../../fixtures/traffic/cors.yaml");
const FAULTS: &str = include_str!("../../fixtures/traffic/faults.yaml");
const COPIES: &str = include_str!("../../fixtures/traffic/copies.yaml");

pub fn redirects_and_answers(stage: &Stage) {
    stage.apply(ACTING);
    for (at, status, location) in [
        ("acting/old?q=1", 301, "http://acting.prod/headers/landed?q=1"),
        ("acting/found", 302, "http://acting.prod/headers/found"),
        ("acting/other", 303, "http://acting.prod/headers/other"),
        ("acting/kept", 307, "http://acting.prod.svc.cluster.local/headers/kept"),
        ("acting/for-good?q", 308, "http://acting.prod:8080/headers/good?q"),
        ("acting/secure/a?b", 307, "https://acting.prod:8443/secure/a?b"),
    ] {
        let reply = stage.get(at, &[]);
        assert_eq!((reply.status, reply.header("location")), (status, location), "{at}: {reply:?}");
        assert_eq!(reply.code(), "", "a redirect is no error: {reply:?}");
    }
    // Followed: curl makes a GET of a POST that 301 to 303 answer, and leaves it alone with 307 and 308.
    for (at, method, target) in [
        ("acting/old", "GET", "/headers/landed"),
        ("acting/found", "GET", "/headers/found"),
        ("acting/other", "GET", "/headers/other"),
        ("acting/kept", "POST", "/headers/kept"),
        ("acting/for-good", "POST", "/headers/good"),
    ] {
        let mut curl = stage.client.command("curl");
        let seen = run(curl.args(["-sS", "-m", "20", "-L", "-d", "body", &url(at)])).json();
        assert_eq!((&seen["method"], &seen["target"]), (&method.into(), &target.into()), "{seen}");
    }
    let tea = stage.get("acting/tea", &[]);
    assert_eq!((tea.status, tea.body.as_str()), (418, "short and stout"), "{tea:?}");
    assert_eq!((tea.header("x-app"), tea.code()), ("", ""), "by the proxy, and no error: {tea:?}");
}

/// Values of a header that the application received.
fn values(seen: &Value, name: &str) -> Vec<String> {
    let all = seen["headers"].as_array().cloned().unwrap_or_default();
    all.iter().filter(|h| h[0] == name).filter_map(|h| h[1].as_str().map(str::to_owned)).collect()
}

pub fn rewrites_and_headers(stage: &Stage) {
    stage.apply(ACTING);
    let seen = stage.get("acting/api/a/b?x", &[]).json();
    assert_eq!((&seen["app"], &seen["target"]), (&"v1".into(), &"/headers/a/b?x".into()), "{seen}");
    assert_eq!(values(&seen, "host"), ["renamed.example"], "{seen}");
    let whole = stage.get("acting/whole/path?a=b", &[]).json();
    assert_eq!(whole["target"], "/headers/instead?a=b", "{whole}");
    let seen = stage.get("acting/users/jo/cart/1", &[]).json();
    assert_eq!(seen["target"], "/headers/cart/1/of/jo", "{seen}");
    assert_eq!(values(&seen, "host"), ["acting.prod"], "only where the route says so: {seen}");

    let more = ["-H", "x-set: mine", "-H", "x-add: mine", "-H", "x-gone: 1", "-H", "x-stays: 1"];
    let reply = stage.get("acting/headers/changed", &more);
    let seen = reply.json();
    assert_eq!((values(&seen, "x-set"), values(&seen, "x-stays")), (vec!["route".into()], vec!["1".into()]), "{seen}");
    assert_eq!(values(&seen, "x-add"), ["mine", "route", "share"], "{seen}");
    assert!(values(&seen, "x-gone").is_empty(), "{seen}");
    assert_eq!((reply.header("x-app"), reply.header("x-target")), ("route", ""), "set and removed: {reply:?}");
    let mut added: Vec<&str> = reply.header("x-more").split(", ").collect();
    added.sort_unstable();
    assert_eq!(added, ["route", "share"], "{reply:?}");
    let other = stage.get("acting/headers/other", &more);
    assert_eq!((other.header("x-app"), values(&other.json(), "x-gone")), ("v1", vec!["1".to_owned()]), "{other:?}");
}

pub fn cors(stage: &Stage) {
    stage.apply(CORS);
    let from = |origin: &str, more: &[&str]| {
        let origin = format!("origin: {origin}");
        stage.get("cors/", &[&["-H", &origin], more].concat())
    };
    let preflight = ["-X", "OPTIONS", "-H", "access-control-request-method: PUT"];
    let allowed = from("https://shop.example", &preflight);
    assert_eq!((allowed.status, allowed.header("x-app")), (200, ""), "by the proxy: {allowed:?}");
    for (name, want) in [
        ("access-control-allow-origin", "https://shop.example"),
        ("access-control-allow-methods", "GET, PUT"),
        ("access-control-allow-headers", "x-user"),
        ("access-control-max-age", "600"),
        ("access-control-allow-credentials", "true"),
    ] {
        assert_eq!(allowed.header(name), want, "{name}: {allowed:?}");
    }
    let other = from("https://evil.example", &preflight);
    let allows = other.header("access-control-allow-origin");
    assert_eq!((other.status, allows, other.header("x-app")), (200, "", ""), "by the proxy too: {other:?}");
    let marked = from("https://a.test", &[]);
    assert_eq!((marked.status, marked.header("x-app")), (200, "v1"), "{marked:?}");
    assert_eq!(marked.header("access-control-allow-origin"), "https://a.test", "{marked:?}");
    assert_eq!(marked.header("access-control-expose-headers"), "x-app", "{marked:?}");
    let unmarked = from("https://evil.example", &[]);
    assert_eq!((unmarked.header("x-app"), unmarked.header("access-control-allow-origin")), ("v1", ""), "{unmarked:?}");
}

pub fn faults(stage: &Stage) {
    stage.apply(FAULTS);
    let timed = |more: &[&str]| -> (Reply, Duration) {
        let began = Instant::now();
        (stage.get("faults/", more), began.elapsed())
    };
    let (late, took) = timed(&["-H", "x-test: late"]);
    assert_eq!((late.status, late.header("x-app")), (200, "v1"), "{late:?}");
    assert!(took >= Duration::from_millis(700), "{took:?}");
    let (other, took) = timed(&[]);
    assert_eq!((other.status, other.header("x-app")), (200, "v1"), "{other:?}");
    assert!(took < Duration::from_millis(700), "nobody else is delayed: {took:?}");
    for _ in 0..5 {
        let (gone, _) = timed(&["-H", "x-test: gone"]);
        assert_eq!((gone.status, gone.code()), (410, "fault_injected"), "{gone:?}");
        assert_eq!(gone.header("causeway-detail"), "route prod/faults#1", "{gone:?}");
    }
    let (grpc, _) = timed(&["-H", "x-test: grpc", "-H", "content-type: application/grpc", "-X", "POST"]);
    assert_eq!((grpc.status, grpc.header("grpc-status")), (200, "8"), "{grpc:?}");
    assert!(stage.metric("causeway_injected_faults_total", &["delay"]) >= 1.0);
    assert!(stage.metric("causeway_injected_faults_total", &["abort"]) >= 6.0);
}

pub fn mirrors(stage: &Stage) {
    stage.apply(COPIES);
    for number in 0..3 {
        let key = format!("x-key: copies-{number}");
        let reply = stage.get("copies/copied/a?b", &["-H", &key, "--data-binary", "some body"]);
        assert_eq!((reply.status, reply.header("x-app")), (200, "v1"), "the answer is the application's: {reply:?}");
    }
    for version in [2, 3] {
        let copies = until("the copies arrive", SOON, || {
            let copies: Vec<Value> = (0..3).flat_map(|n| stage.received(version, &format!("copies-{n}"))).collect();
            if copies.len() == 3 { Ok(copies) } else { Err(format!("{copies:?}")) }
        });
        for copy in copies {
            assert_eq!((&copy["host"], &copy["path"]), (&"copies.prod-shadow".into(), &"/copied/a?b".into()), "{copy}");
            assert_eq!((&copy["method"], &copy["body"]), (&"POST".into(), &9.into()), "{copy}");
        }
    }
    let own = stage.received(1, "copies-0");
    assert_eq!((own.len(), &own[0]["host"]), (1, &"copies.prod".into()), "{own:?}");
    stage.get("copies/", &["-H", "x-key: not-copied"]);
    assert!(stage.received(2, "not-copied").is_empty());
    assert!(stage.metric("causeway_mirrored_requests_total", &["sent"]) >= 6.0);
}

/// A fifth of 300, within six standard deviations.
const FIFTH: std::ops::RangeInclusive<u64> = 19..=101;

pub fn shares(stage: &Stage) {
    stage.apply(FAULTS);
    let delayed = || stage.metric("causeway_injected_faults_total", &["delay"]);
    let before = delayed();
    let report = stage.load("faults/", &["--requests", "300", "--concurrency", "4", "--header", "x-test: some"]);
    let aborted = report["statuses"]["418"].as_u64().unwrap_or(0);
    assert!(FIFTH.contains(&aborted) && report["apps"]["fault_injected"] == aborted, "{report}");
    assert_eq!(report["apps"]["v1"], 300 - aborted, "{report}");
    // Half of 300, within six standard deviations.
    assert!((98.0..=202.0).contains(&(delayed() - before)), "{before} {}", delayed());

    stage.apply(COPIES);
    let report = stage.load("copies/part", &["--requests", "300", "--concurrency", "4", "--header", "x-key: part"]);
    assert_eq!(report["apps"]["v1"], 300, "{report}");
    until("all copies arrive at the one", SOON, || match stage.received(3, "part").len() {
        300 => Ok(()),
        fewer => Err(fewer.to_string()),
    });
    let copies = stage.received(2, "part").len() as u64;
    assert!(FIFTH.contains(&copies), "a fifth arrives at the other: {copies}");
}

/// The copy hangs at `v2`, which has not seen the key before, for a minute; nobody listens where `deaf` should.
pub fn hanging_mirrors(stage: &Stage) {
    stage.apply(COPIES);
    let key = ["-H", "x-key: hung"];
    stage.get("v1/", &key);
    let failed = || stage.metric("causeway_mirrored_requests_total", &["failed"]);
    let (before, began) = (failed(), Instant::now());
    let reply = stage.get("copies/flaky/1/hang", &key);
    assert_eq!((reply.status, reply.header("x-app"), &*reply.body), (200, "v1", "v1\n"), "{reply:?}");
    let took = began.elapsed();
    assert!(took < Duration::from_secs(10), "it waits for nobody: {took:?}");
    until("the copy arrives", SOON, || match stage.received(2, "hung").len() {
        1 => Ok(()),
        other => Err(other.to_string()),
    });
    until("the other one has failed", SOON, || if failed() > before { Ok(()) } else { Err(failed().to_string()) });
}

pub fn deleted(stage: &Stage) {
    let route = "apiVersion: causeway.dev/v1alpha1\nkind: VirtualService\nmetadata: {name: deleted, namespace: prod}\n\
                 spec: {hosts: [deleted], http: [{directResponse: {status: 418}}]}\n";
    assert_eq!(stage.get("deleted/", &[]).status, 200, "before there is a route");
    stage.apply(route);
    assert_eq!(stage.get("deleted/", &[]).status, 418);
    stage.node.kubectl_with_input(&["delete", "-f", "-"], route).unwrap();
    until("the route is gone", SOON, || {
        let reply = stage.get("deleted/", &[]);
        if reply.status == 200 { Ok(()) } else { Err(format!("{reply:?}")) }
    });
}
