//! Who gets which version: along a chain of calls, and where a version's share is below one percent.

use std::collections::BTreeMap;
use std::time::Duration;

use causeway_tests::kube::Inside;
use causeway_tests::until;

use crate::stage::{Stage, counts, url};

const CHAIN: &str = include_str!("../../fixtures/reach/chain.yaml");
const SHARE: &str = include_str!("../../fixtures/reach/share.yaml");

/// One call, with the header as it came, if it did: who answers, and the header that this application received.
fn call(from: &Inside, service: &str, version: Option<&str>) -> (String, Option<String>) {
    let header = version.map(|version| format!("x-shop-version: {version}"));
    let more: Vec<&str> = header.iter().flat_map(|header| ["-H", header]).collect();
    let reply = from.curl(&[&more[..], &[&url(&format!("{service}/headers"))]].concat());
    let headers = reply.json()["headers"].as_array().cloned().unwrap_or_default();
    let told = headers.iter().find(|h| h[0] == "x-shop-version").and_then(|h| h[1].as_str().map(str::to_owned));
    (reply.header("x-app").to_owned(), told)
}

/// The client calls `a`, which calls `b` and hands on the header, as an application does with those of tracing.
pub fn chain(stage: &Stage) {
    stage.apply(CHAIN);
    let mut begun = BTreeMap::new();
    for _ in 0..40 {
        let (first, version) = call(&stage.client, "a", None);
        let version = version.expect("the application is told its version");
        assert_eq!(first, format!("a-{version}"));
        let (.., from) = &stage.apps[&*first];
        let (second, told) = call(from, "b", Some(&version));
        assert_eq!((second, told), (format!("b-{version}"), Some(version.clone())), "after {first}");
        *begun.entry(version).or_insert(0) += 1;
    }
    // Half of 40: outside of these bounds in one of 10^9 runs.
    assert!(begun.len() == 2 && begun.values().all(|n| (2..=38).contains(n)), "both versions began chains: {begun:?}");
    // An application that does not hand it on begins anew; and whoever sends it chooses.
    for _ in 0..6 {
        let (.., from) = &stage.apps["a-v2"];
        assert_eq!(call(from, "b", None).0, "b-v1");
        assert_eq!(call(&stage.client, "a", Some("v2")).0, "a-v2");
    }
}

/// Asks on until it is a million times more likely that half of a percent was drawn than that a whole one was.
pub fn half_a_percent(stage: &Stage) {
    stage.apply(SHARE);
    let (mut canary, mut all) = (0.0, 0.0);
    let likelier = until("half a percent is told from one", Duration::from_secs(120), || {
        let answers = counts(&stage.load("share/", &["--requests", "1000", "--concurrency", "8"]));
        canary += answers.get("a-v2").copied().unwrap_or_default() as f64;
        all += answers.values().sum::<u64>() as f64;
        let likelier = canary * f64::ln(0.005 / 0.01) + (all - canary) * f64::ln(0.995 / 0.99);
        if likelier.abs() > 13.8 && all >= 5000.0 { Ok(likelier) } else { Err(format!("{canary} of {all}")) }
    });
    assert!(likelier > 0.0, "it is a whole one: {canary} of {all}");
    // Half a percent of 5,000 and more is less than five in one of 10^6 runs.
    assert!(canary >= 5.0, "it is none: {canary} of {all}");
}
