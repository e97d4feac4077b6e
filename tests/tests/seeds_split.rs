//! The first seed document: a VirtualService in `dev` sends a tenth of the calls to `prodsvc.prod` to the canary.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use causeway_tests::capability::{Need, has};
use causeway_tests::yaml::Port;
use causeway_tests::{Mesh, Pod, PodSpec, Settings, until};
use serde_json::Value;

const SEED: &str = include_str!("../fixtures/virtualservice.yaml");
const URL: &str = "http://prodsvc.prod.svc.cluster.local/";

/// What the seed presumes: the Service, its Pods and the DestinationRule.
struct Shop {
    client: Pod,
    _stable: Pod,
    _canary: Pod,
    mesh: Mesh,
}

fn shop() -> Shop {
    let mesh = Mesh::start(Settings::default());
    mesh.service("prod", "prodsvc", &[Port { name: "http", port: 80, target: 8080 }], &[("app", "prodsvc")]);
    let prodsvc = |version: &str| {
        let spec = PodSpec::new("prod", &format!("prodsvc-{version}")).account("prodsvc").label("app", "prodsvc");
        let mut pod = mesh.pod(spec.label("version", version));
        pod.serve_http(version, 8080);
        pod
    };
    let (stable, canary) = (prodsvc("stable"), prodsvc("canary"));
    mesh.write("destinationrule.yaml", DESTINATION_RULE);
    mesh.write("virtualservice.yaml", SEED);
    let client = mesh.pod(PodSpec::new("dev", "client")).ready();
    let shop = Shop { client, _stable: stable.ready(), _canary: canary.ready(), mesh };
    shop.wait_for_share(URL, |canary| (0.03..0.25).contains(&canary));
    shop
}

const DESTINATION_RULE: &str = "
apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata: {name: prodsvc, namespace: prod}
spec:
  host: prodsvc.prod.svc.cluster.local
  subsets:
  - {name: v1-canary, labels: {version: canary}}
  - {name: v1-stable, labels: {version: stable}}
";

impl Shop {
    fn load(&self, url: &str, requests: &str) -> Value {
        self.client.client(&["load", "--url", url, "--requests", requests, "--concurrency", "16"])
    }

    /// Waits until the canary's share of 400 requests is as wanted, and nothing fails.
    fn wait_for_share(&self, url: &str, wanted: impl Fn(f64) -> bool) {
        until("the canary's share", Duration::from_secs(30), || {
            let report = self.load(url, "400");
            if report["failed"] == 0 && wanted(share(&report)) { Ok(()) } else { Err(report.to_string()) }
        });
    }

    fn set_weights(&self, canary: u32, stable: u32) {
        let text = SEED.replace("weight: 10 ", &format!("weight: {canary} "));
        let text = text.replace("weight: 90 ", &format!("weight: {stable} "));
        assert!(text.contains(&format!("weight: {canary} ")) && text.contains(&format!("weight: {stable} ")));
        self.mesh.write("virtualservice.yaml", &text);
    }
}

fn share(report: &Value) -> f64 {
    report["apps"]["canary"].as_f64().unwrap_or(0.0) / report["sent"].as_f64().unwrap()
}

#[test]
fn a_tenth_of_twenty_thousand_requests_reaches_the_canary() {
    if !has(&[Need::Namespaces, Need::Program("curl")]) {
        return;
    }
    let shop = shop();
    for host in ["prodsvc.prod.svc.cluster.local", "prodsvc.prod.svc", "prodsvc.prod"] {
        for port in ["", ":80"] {
            let reply = shop.client.curl(&[&format!("http://{host}{port}/")]);
            assert!(reply.status == 200 && ["stable\n", "canary\n"].contains(&reply.body.as_str()), "{reply:?}");
        }
    }
    let report = shop.load(URL, "20000");
    assert_eq!(report["failed"], 0, "{report}");
    let canary = report["apps"]["canary"].as_f64().unwrap();
    let sigma = (20_000.0_f64 * 0.1 * 0.9).sqrt();
    assert!((canary - 2_000.0).abs() < 4.0 * sigma, "canary got {canary}: {report}");
    let seen = shop.client.metric("istio_requests_total", &["destination_service_name=\"prodsvc\"", "source"]);
    assert!(seen >= 20_000.0, "the client's proxy counted {seen}");
}

#[test]
fn weights_change_under_load_without_a_failed_request() {
    if !has(&[Need::Namespaces]) {
        return;
    }
    let shop = shop();
    let stop = shop.mesh.path("scratch/stop").display().to_string();
    let mut load = shop.client.background("load", &["load", "--url", URL, "--concurrency", "8", "--stop-file", &stop]);
    for (canary, stable) in [(50, 50), (100, 0), (0, 100), (1, 3)] {
        shop.set_weights(canary, stable);
        let want = f64::from(canary) / f64::from(canary + stable);
        shop.wait_for_share(
            URL,
            |seen| if want == 0.0 || want == 1.0 { seen == want } else { (seen - want).abs() < 0.1 },
        );
    }
    std::fs::write(&stop, "").unwrap();
    load.wait(Duration::from_secs(20));
    let report: Value = serde_json::from_str(&load.log()).unwrap();
    assert_eq!(report["failed"], 0, "{report}");
    assert!(report["sent"].as_u64().unwrap() > 500, "{report}");
}

#[test]
fn a_sticky_split_keeps_every_key_and_moves_only_whom_it_must() {
    if !has(&[Need::Namespaces]) {
        return;
    }
    let shop = shop();
    let sticky = |canary: u32| {
        let text = SEED.replace("networking.istio.io/v1beta1", "causeway.dev/v1alpha1");
        let text = text.replace("weight: 10 ", &format!("weight: {canary} "));
        text.replace("  - route:", "  - split: {key: {header: x-user}}\n    route:")
    };
    let side = |user: usize| shop.client.curl(&["-H", &format!("x-user: user-{user}"), URL]).body;
    let sides = || (0..60).map(side).collect::<Vec<_>>();
    shop.mesh.write("virtualservice.yaml", &sticky(10));
    until("the split is sticky", Duration::from_secs(20), || {
        let (first, second) = (sides(), sides());
        if first == second { Ok(()) } else { Err(format!("{first:?}")) }
    });
    let before = sides();
    shop.mesh.write("virtualservice.yaml", &sticky(90));
    let after = until("half of the users are with the canary", Duration::from_secs(20), || {
        let now = sides();
        let moved = now.iter().filter(|s| *s == "canary\n").count();
        if (15..=45).contains(&moved) { Ok(now) } else { Err(format!("{moved} of 60")) }
    });
    for (user, (old, new)) in before.iter().zip(&after).enumerate() {
        assert!(!(old == "canary\n" && new == "stable\n"), "user-{user} was moved back");
    }
}

#[test]
fn a_route_of_dev_changes_nothing_for_clients_of_other_namespaces() {
    if !has(&[Need::Namespaces]) {
        return;
    }
    let shop = shop();
    let other = shop.mesh.pod(PodSpec::new("staging", "client")).ready();
    shop.set_weights(0, 100);
    shop.wait_for_share(URL, |canary| canary == 0.0);
    let report = other.client(&["load", "--url", URL, "--requests", "400", "--concurrency", "8"]);
    assert_eq!(report["failed"], 0, "{report}");
    // How evenly is the balancer's affair (it weighs latency); under the route of dev it would be none at all.
    assert!(share(&report) > 0.0, "the Service's own endpoints share the calls: {report}");
}
