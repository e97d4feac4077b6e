//! Who gets the canary: users that stick, versions that follow a chain of calls, shares below a percent, and namespaces
//! that choose for themselves.

use std::collections::BTreeMap;

use causeway_tests::{Pod, until};

use super::stage::Stage;
use super::{TIME, by, needs};

#[test]
fn users_stick_to_their_version_and_raising_the_canary_moves_nobody_back() {
    if !needs() {
        return;
    }
    let stage = Stage::start();
    let users: Vec<String> = (0..150).map(|n| format!("x-user: user-{n}")).collect();
    let versions = |canary: u32| -> BTreeMap<&str, String> {
        stage.http(&format!(
            "  - split: {{key: {{header: x-user}}}}\n    headers: {{response: {{set: {{x-share: '{canary}'}}}}}}\n    route:\n    \
             - {{destination: {{host: shop, subset: v1}}, weight: {}}}\n    - {{destination: {{host: shop, subset: v2}}, \
             weight: {canary}}}\n",
            100 - canary
        ));
        until("the share is in force", TIME, || {
            let reply = stage.client.curl(&["http://shop.prod/"]);
            if reply.header("x-share") == canary.to_string() { Ok(()) } else { Err(format!("{reply:?}")) }
        });
        users.iter().map(|user| (user.as_str(), by(&stage.client.curl(&["-H", user, "http://shop.prod/"])))).collect()
    };
    let (few, again, more) = (versions(20), versions(20), versions(60));
    assert_eq!(few, again, "a user sticks");
    let share = |versions: &BTreeMap<&str, String>| versions.values().filter(|v| *v == "v2").count();
    assert!((10..55).contains(&share(&few)) && (65..120).contains(&share(&more)), "{} {}", share(&few), share(&more));
    let back: Vec<_> = few.iter().filter(|(user, v)| *v == "v2" && more[*user] != "v2").collect();
    assert!(back.is_empty(), "{back:?}");
}

#[test]
fn a_version_follows_a_chain_of_three_calls() {
    if !needs() {
        return;
    }
    let stage = Stage::start();
    stage.http(
        "  - split: {propagate: {header: x-version}}
    route:
    - {destination: {host: shop, subset: v1}, weight: 50}
    - {destination: {host: shop, subset: v2}, weight: 50}
    - {destination: {host: shop, subset: v3}, weight: 0}
",
    );
    // Each hop hands on the header that it received, as an application does with those of tracing.
    let hop = |from: &Pod, version: Option<&str>| -> (String, String) {
        let given = format!("x-version: {}", version.unwrap_or_default());
        let more: &[&str] = if version.is_some() { &["-H", &given] } else { &[] };
        let reply = from.curl(&[more, &["http://shop.prod/headers"]].concat());
        let seen = reply.json();
        let headers = seen["headers"].as_array().cloned().unwrap_or_default();
        let version = headers.iter().find(|h| h[0] == "x-version").map(|h| h[1].as_str().unwrap().to_owned());
        (by(&reply), version.unwrap_or_default())
    };
    until("the version is told", TIME, || {
        let seen = hop(&stage.client, None);
        if seen.1.is_empty() { Err(format!("{seen:?}")) } else { Ok(()) }
    });
    let pod = |app: &str| if app == "v1" { &stage.v1 } else { &stage.v2 };
    until("the chain of each pod is in force", TIME, || {
        let told = ["v1", "v2"].map(|app| hop(pod(app), None).1);
        if told.iter().any(String::is_empty) { Err(format!("{told:?}")) } else { Ok(()) }
    });
    let mut seen = BTreeMap::new();
    for _ in 0..40 {
        let (first, version) = hop(&stage.client, None);
        assert_eq!(first, version, "the application is told its version");
        let (second, version) = hop(pod(&first), Some(&version));
        let (third, _) = hop(pod(&second), Some(&version));
        assert_eq!((&second, &third), (&first, &first), "all three are of one version");
        *seen.entry(first).or_insert(0) += 1;
    }
    assert!(seen.len() == 2 && seen.values().all(|n| *n >= 5), "both versions began chains: {seen:?}");
    let (app, version) = hop(&stage.client, Some("v3"));
    assert!(["v1", "v2"].contains(&&*app) && app == version, "a version without a pod is no reason to fail: {app}");
}

#[test]
fn a_share_below_a_percent_is_kept() {
    if !needs() {
        return;
    }
    let stage = Stage::start();
    stage.http(
        "  - headers: {response: {set: {x-share: small}}}
    route:
    - {destination: {host: shop, subset: v1}, weight: 99.5}
    - {destination: {host: shop, subset: v2}, weight: 0.5}
",
    );
    until("the share is in force", TIME, || {
        let reply = stage.client.curl(&["http://shop.prod/"]);
        if reply.header("x-share") == "small" { Ok(()) } else { Err(format!("{reply:?}")) }
    });
    let arguments = ["load", "--url", "http://shop.prod/", "--requests", "6000", "--concurrency", "8"];
    let report = stage.client.client(&arguments);
    let canary = report["apps"]["v2"].as_u64().unwrap_or(0);
    // 30 expected, 5.5 the standard deviation.
    assert!((5..60).contains(&canary), "{report}");
    assert_eq!(report["apps"]["v1"].as_u64().unwrap_or(0) + canary, 6000, "{report}");
}

#[test]
fn a_consumer_namespace_pins_its_version_and_nobody_elses() {
    if !needs() {
        return;
    }
    let stage = Stage::start();
    stage.http(
        "  - route:
    - {destination: {host: shop, subset: v1}, weight: 50}
    - {destination: {host: shop, subset: v2}, weight: 50}
",
    );
    let pin = "  - headers: {response: {set: {x-pinned: 'yes'}}}\n    route: [{destination: {host: \
               shop.prod.svc.cluster.local, subset: v1}}]\n";
    stage.resource("pin.yaml", "pin", "qa", pin);
    until("the pin is in force", TIME, || {
        let reply = stage.other.curl(&["http://shop.prod/"]);
        if reply.header("x-pinned") == "yes" { Ok(()) } else { Err(format!("{reply:?}")) }
    });
    let arguments = ["load", "--url", "http://shop.prod/", "--requests", "200", "--concurrency", "4"];
    let pinned = stage.other.client(&arguments);
    assert_eq!(pinned["apps"]["v1"], 200, "{pinned}");
    let free = stage.client.client(&arguments);
    let canary = free["apps"]["v2"].as_u64().unwrap_or(0);
    assert!((60..140).contains(&canary), "{free}");
}
