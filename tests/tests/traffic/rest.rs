//! The fields of VirtualService.http that no other suite requests, each once, on one mesh.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use causeway_tests::until;

use super::stage::Stage;
use super::{TIME, by, needs};

/// Arguments of curl, a path of `shop.prod`, and who answers: v2 where the condition holds, else v1.
const ROWS: &[(&[&str], &str, &str)] = &[
    (&["-X", "PUT"], "/method", "v2"),
    (&["-X", "DELETE"], "/method", "v2"),
    (&["-X", "POST"], "/method", "v1"),
    (&["-H", "host: Canary.Shop"], "/host", "v2"),
    (&["-H", "host: canary.shop.more"], "/host", "v1"),
    (&["-H", "host: any.test:80"], "/host", "v2"),
    (&["-H", "host: any.test.more"], "/host", "v1"),
    (&["-H", "x-in: one"], "/header", "v2"),
    (&["-H", "x-in: ones"], "/header", "v1"),
    (&["-H", "x-in: two-and-more"], "/header", "v2"),
    (&["-H", "x-in: two"], "/header", "v1"),
    (&["-H", "x-out: one"], "/without/exact", "v1"),
    (&["-H", "x-out: ones"], "/without/exact", "v2"),
    (&[], "/without/exact", "v2"),
    (&["-H", "x-out: two-and-more"], "/without/prefix", "v1"),
    (&["-H", "x-out: two"], "/without/prefix", "v2"),
    (&["-H", "x-out: aaa"], "/without/regex", "v1"),
    (&["-H", "x-out: aab"], "/without/regex", "v2"),
    (&[], "/query?p=1&q=one", "v2"),
    (&[], "/query?q=ones", "v1"),
    (&[], "/query?q=42", "v2"),
    (&[], "/query?q=42a", "v1"),
    (&[], "/scheme/plain", "v2"),
    (&["--http2-prior-knowledge"], "/scheme/plain", "v2"),
    (&["--request-target", "https://shop.prod/scheme/plain"], "/", "v1"),
    (&["--request-target", "https://shop.prod/scheme/tls"], "/", "v2"),
    (&["--request-target", "http://shop.prod/scheme/tls"], "/", "v1"),
    (&[], "/scheme/tls", "v1"),
    (&["--request-target", "https://shop.prod/scheme/prefix"], "/", "v2"),
    (&[], "/scheme/prefix", "v1"),
    (&["--request-target", "https://shop.prod/scheme/regex"], "/", "v2"),
    (&[], "/scheme/regex", "v1"),
    (&[], "/mesh", "v2"),
    (&[], "/edge", "v1"),
    (&[], "/team/other", "mirror"),
    (&[], "/team/tea", "418"),
    (&[], "/exported", "v1"),
];

/// Path, status and Location.
const REDIRECTS: &[(&str, u16, &str)] = &[
    ("http://shop.prod/moved/on?q=1", 307, "http://shop.prod/there/on?q=1"),
    ("http://shop.prod/under/x", 307, "http://shop.prod:8080/x"),
    ("http://shop.prod:8081/derived/default", 301, "http://shop.prod/d"),
    ("http://shop.prod:8081/derived/request", 301, "http://shop.prod:8081/d"),
    ("http://shop.prod:8081/plain", 301, "http://shop.prod:8081/d"),
];

fn staged() -> Stage {
    let stage = Stage::start();
    stage.mesh.write("routes.yaml", include_str!("rest.yaml"));
    stage.until_by(&["http://shop.prod/team/tea"], "418");
    until("what is exported to qa is there", TIME, || {
        let reply = stage.other.curl(&["http://mirror.prod/exported"]);
        if reply.status == 202 { Ok(()) } else { Err(format!("{reply:?}")) }
    });
    stage
}

#[test]
fn what_no_other_suite_requests_does_what_the_documents_say() {
    if !needs() {
        return;
    }
    let stage = staged();
    for (arguments, path, who) in ROWS {
        let reply = stage.client.curl(&[*arguments, &[&format!("http://shop.prod{path}")]].concat());
        assert_eq!(by(&reply), *who, "{arguments:?} {path}: {reply:?}");
    }
    for (url, status, location) in REDIRECTS {
        let reply = stage.client.curl(&[url]);
        assert_eq!((reply.status, reply.header("location")), (*status, *location), "{url}: {reply:?}");
    }
    assert_eq!(by(&stage.other.curl(&["http://shop.prod/exported"])), "v1", "who names the host wins over a wildcard");
    assert_eq!(stage.client.curl(&["http://mirror.prod/exported"]).header("x-app"), "mirror", "not exported to dev");
    assert_eq!(stage.client.curl(&["http://shop.prod/bytes"]).body, "short and stout");
    headers_of_one_share(&stage);
    origins(&stage);
    let began = Instant::now();
    assert_eq!(by(&stage.client.curl(&["http://shop.prod/late"])), "v1");
    assert!(began.elapsed() >= Duration::from_millis(700), "{:?}", began.elapsed());
    let again = stage.client.curl(&["-H", "x-key: again", "http://shop.prod/flaky/2/503"]);
    assert_eq!((again.status, stage.tally(&stage.v1, "again").len()), (200, 3), "{again:?}");
    copies(&stage);
    sticky(&stage);
    let problems = stage.mesh.admin("/problems").stdout;
    assert!(!problems.contains("routes.yaml"), "{problems}");
}

fn headers_of_one_share(stage: &Stage) {
    let reply = stage.client.curl(&["-H", "x-set: mine", "-H", "x-gone: 1", "http://shop.prod/headers/share"]);
    let seen = reply.json();
    let values = |seen: &serde_json::Value, name: &str| -> Vec<String> {
        let all = seen["headers"].as_array().unwrap();
        all.iter().filter(|h| h[0] == name).map(|h| h[1].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!((values(&seen, "x-set"), values(&seen, "x-gone")), (vec!["share".to_owned()], vec![]), "{seen}");
    assert_eq!((reply.header("x-more"), reply.header("x-target")), ("share, route", ""), "{reply:?}");
    let seen = stage.client.curl(&["http://shop.prod/headers/named"]).json();
    assert_eq!(values(&seen, "host"), ["of.the.share"], "{seen}");
}

fn origins(stage: &Stage) {
    for (path, origin, allowed) in [
        ("older", "https://shop.example", "https://shop.example"),
        ("older", "https://other.example", ""),
        ("prefix", "https://shop.test", "https://shop.test"),
        ("prefix", "https://shops.test", ""),
    ] {
        let (origin, url) = (format!("origin: {origin}"), format!("http://shop.prod/cors/{path}"));
        let reply = stage.client.curl(&["-H", &origin, &url]);
        assert_eq!(reply.header("access-control-allow-origin"), allowed, "{path} {origin}: {reply:?}");
        assert_eq!(by(&reply), "v1", "{reply:?}");
    }
}

fn copies(stage: &Stage) {
    let send = |key: &str, path: &str| {
        let key = format!("x-key: {key}");
        assert_eq!(by(&stage.client.curl(&["-H", &key, &format!("http://shop.prod/copied/{path}")])), "v1");
    };
    for (path, pod) in [("all", &stage.v2), ("listed", &stage.mirror)] {
        send(path, path);
        until("the copy arrives", TIME, || match stage.tally(pod, path).len() {
            1 => Ok(()),
            n => Err(format!("{path}: {n}")),
        });
    }
    (0..100).for_each(|_| send("half", "half"));
    let copied = until("about half is copied", TIME, || match stage.tally(&stage.mirror, "half").len() {
        n if n > 20 => Ok(n),
        n => Err(n.to_string()),
    });
    // Six standard deviations.
    assert!(copied <= 80, "{copied} of 100");
}

fn sticky(stage: &Stage) {
    let mut versions: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    for user in (0..20).chain(0..20) {
        let cookie = format!("cookie: theme=dark; user={user}");
        versions.entry(user).or_default().insert(by(&stage.client.curl(&["-H", &cookie, "http://shop.prod/cookie"])));
    }
    assert!(versions.values().all(|of_user| of_user.len() == 1), "a user sticks: {versions:?}");
    assert_eq!(versions.values().flatten().collect::<BTreeSet<_>>().len(), 2, "to either: {versions:?}");
    let of_identity: BTreeSet<_> = (0..15).map(|_| by(&stage.client.curl(&["http://shop.prod/identity"]))).collect();
    assert_eq!(of_identity.len(), 1, "one caller, one version: {of_identity:?}");
}
