//! Argo Rollouts: subsets of one Service with managed routes for testers and copies, a Service for each version, and a
//! release that is aborted.

use causeway_tests::until;
use serde_json::Value;

use crate::ROLLOUT;
use crate::shop::{STEP, Shop, answered, check_share, nothing_lost};

const APP: &str = include_str!("../../../deploy/examples/argo-rollouts/app.yaml");
const RELEASE: &str = include_str!("../../../deploy/examples/argo-rollouts/rollout.yaml");
const ROUTE: &str = "virtualservice.networking.istio.io/catalog";
const RULE: &str = "destinationrule.networking.istio.io/catalog";

/// The example as it stands.
pub fn by_subsets() -> String {
    format!("{APP}---\n{RELEASE}")
}

/// The same release with a Service for each version, whose selectors the controller changes.
pub fn by_hosts() -> String {
    let (app, _) = APP.split_once("# Argo Rollouts adds").expect("the rule stands after the Service");
    let service = |name: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n  namespace: shop\nspec:\n  selector:\n    \
             app: catalog\n  ports:\n  - name: http\n    port: 80\n    targetPort: 8080\n---\n"
        )
    };
    let (head, rest) = RELEASE.split_once("          destinationRule:\n").expect("the subsets are named");
    let (_, steps) = rest.split_once("      steps:\n").expect("steps");
    let route = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: catalog
  namespace: shop
spec:
  hosts: [catalog]
  http:
  - name: primary
    route:
    - {destination: {host: catalog-stable, port: {number: 80}}, weight: 100}
    - {destination: {host: catalog-canary, port: {number: 80}}, weight: 0}
---
";
    let services = service("catalog-stable") + &service("catalog-canary");
    let names = "      stableService: catalog-stable\n      canaryService: catalog-canary\n";
    format!("{app}{services}{route}{head}{names}      steps:\n{steps}")
}

fn status(shop: &Shop<'_>) -> Value {
    shop.get("rollout/catalog").map(|r| r["status"].clone()).unwrap_or_default()
}

/// Waits until the release stands at a step that waits for a person, and what was written for it is in force.
fn paused(shop: &Shop<'_>, step: u64) {
    until(&format!("the release waits at step {step}"), ROLLOUT, || {
        let status = status(shop);
        let is_paused = status["pauseConditions"].as_array().is_some_and(|c| !c.is_empty());
        if is_paused && status["currentStepIndex"] == step { Ok(()) } else { Err(status.to_string()) }
    });
    until("the route is in force", STEP, || shop.in_force(ROUTE));
    // The subsets' labels are another resource, with a status of its own.
    if shop.get(RULE).is_ok() {
        until("the rule is in force", STEP, || shop.in_force(RULE));
    }
}

/// What `kubectl argo rollouts promote` does.
fn promote(shop: &Shop<'_>) {
    patch_status(shop, r#"{"status":{"pauseConditions":null}}"#);
}

fn patch_status(shop: &Shop<'_>, patch: &str) {
    let what = ["-n", &shop.namespace, "patch", "rollout/catalog", "--subresource=status", "--type=merge", "-p", patch];
    shop.node.kubectl(&what).unwrap();
}

fn healthy(shop: &Shop<'_>) {
    until("the release is healthy", ROLLOUT, || {
        let status = status(shop);
        if status["phase"] == "Healthy" { Ok(()) } else { Err(status.to_string()) }
    });
}

/// The share of the new version while the route stays as it is.
fn share(shop: &Shop<'_>, weight: u32) {
    let (state, report) = until("the route stays as it is", STEP, || {
        shop.send_under(ROUTE, 600, &[]).ok_or_else(|| "changed".to_owned())
    });
    let rules = state.object["spec"]["http"].as_array().cloned().unwrap_or_default();
    let primary = rules.iter().find(|r| r["name"] == "primary").expect("the user's own route");
    let written = |i: usize| primary["route"][i]["weight"].as_u64().unwrap_or(0);
    assert_eq!((written(0), written(1)), (u64::from(100 - weight), u64::from(weight)), "{primary}");
    check_share(&report, f64::from(weight) / 100.0);
    println!("{}: {weight} % in force, {} of {}", shop.namespace, answered(&report, "v2"), report["sent"]);
}

/// Requests of `web` that the pods of the new version have answered, by their proxies' own count.
fn arrived_at_canary(shop: &Shop<'_>) -> f64 {
    let hash = status(shop)["currentPodHash"].as_str().unwrap_or_default().to_owned();
    let label = format!("rollouts-pod-template-hash={hash}");
    let pods = shop.node.get(&["-n", &shop.namespace, "pods", "-l", &label]).unwrap();
    let counts = pods["items"].as_array().into_iter().flatten().map(|pod| {
        let address = pod["status"]["podIP"].as_str().unwrap_or_default();
        let reply = causeway_tests::process::run(std::process::Command::new("curl").args([
            "-sS",
            "-m",
            "10",
            &format!("http://{address}:15020/metrics"),
        ]));
        let text = reply.ok();
        let own = text.lines().filter(|l| {
            l.starts_with("istio_requests_total{") && l.contains("reporter=\"destination\"") && l.contains("/sa/web\"")
        });
        own.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>()
    });
    counts.sum()
}

fn begin(shop: &Shop<'_>) -> causeway_tests::kube::Load {
    healthy(shop);
    until("the route is in force", STEP, || shop.in_force(ROUTE));
    until("the caller sees the Service", STEP, || {
        let reply = shop.web.curl(&[&format!("http://catalog.{}/", shop.namespace)]);
        if reply.status == 200 { Ok(()) } else { Err(format!("{reply:?}")) }
    });
    let load = shop.start_load("/");
    shop.release("rollout/catalog", "v2", &[]);
    load
}

fn end(shop: &Shop<'_>, load: causeway_tests::kube::Load) {
    healthy(shop);
    until("the managed routes are gone", STEP, || {
        let state = shop.in_force(ROUTE)?;
        let rules = state.object["spec"]["http"].as_array().map_or(0, Vec::len);
        if rules == 1 { Ok(()) } else { Err(state.object["spec"].to_string()) }
    });
    check_share(&shop.send(200, "/", &[]), 1.0);
    let report = load.stop();
    println!("{}: {report}", shop.namespace);
    nothing_lost(&report);
}

/// Testers by a header, copies of a third, then 10, 50 and 100 %.
pub fn release_with_managed_routes(shop: &Shop<'_>) {
    let load = begin(shop);
    paused(shop, 2);
    check_share(&shop.send(200, "/", &["x-tester:yes"]), 1.0);
    check_share(&shop.send(200, "/", &[]), 0.0);

    promote(shop);
    paused(shop, 4);
    let state = shop.in_force(ROUTE).unwrap();
    assert_eq!(state.object["spec"]["http"][1]["mirrorPercentage"]["value"], 35, "{}", state.object["spec"]);
    // The load goes on beside it, so the count is compared with what both sent: at least what is sent here.
    let before = arrived_at_canary(shop);
    let sent = 2000.0;
    check_share(&shop.send(2000, "/", &[]), 0.0);
    let copies = until("the copies have arrived", STEP, || {
        let copies = arrived_at_canary(shop) - before;
        if copies > 0.3 * sent { Ok(copies) } else { Err(format!("{copies}")) }
    });
    assert!(copies < 0.35 * sent * 2.5, "{copies} copies of {sent} requests and the load");

    promote(shop);
    for (step, weight) in [(8, 10), (10, 50), (12, 100)] {
        paused(shop, step);
        share(shop, weight);
        // Testers keep their own route for as long as the controller keeps it.
        let state = shop.in_force(ROUTE).unwrap();
        let mut rules = state.object["spec"]["http"].as_array().into_iter().flatten();
        if rules.any(|r| r["name"] == "testers") {
            check_share(&shop.send(100, "/", &["x-tester:yes"]), 1.0);
        } else {
            println!("{}: {weight} %: the controller took the testers' route away", shop.namespace);
        }
        promote(shop);
    }
    end(shop, load);
    until("the rule is in force", STEP, || shop.in_force(RULE));
}

/// The same without subsets.
pub fn release_by_services(shop: &Shop<'_>) {
    let load = begin(shop);
    paused(shop, 2);
    check_share(&shop.send(200, "/", &["x-tester:yes"]), 1.0);
    check_share(&shop.send(200, "/", &[]), 0.0);
    promote(shop);
    paused(shop, 4);
    check_share(&shop.send(200, "/", &[]), 0.0);
    promote(shop);
    for (step, weight) in [(8, 10), (10, 50), (12, 100)] {
        paused(shop, step);
        share(shop, weight);
        promote(shop);
    }
    end(shop, load);
}

/// At half of the traffic somebody aborts: everything is the old version's again, and nothing was lost.
pub fn aborted_release(shop: &Shop<'_>) {
    let load = begin(shop);
    for step in [2, 4, 8] {
        paused(shop, step);
        promote(shop);
    }
    paused(shop, 10);
    share(shop, 50);
    patch_status(shop, r#"{"status":{"abort":true}}"#);
    until("the release is degraded", ROLLOUT, || {
        let status = status(shop);
        if status["phase"] == "Degraded" { Ok(()) } else { Err(status.to_string()) }
    });
    until("the old weights are in force", STEP, || {
        let state = shop.in_force(ROUTE)?;
        let rules = state.object["spec"]["http"].as_array().cloned().unwrap_or_default();
        let weight = rules.first().map(|r| r["route"][0]["weight"].clone());
        if rules.len() == 1 && weight == Some(100.into()) { Ok(()) } else { Err(state.object["spec"].to_string()) }
    });
    check_share(&shop.send(300, "/", &[]), 0.0);
    let report = load.stop();
    println!("{}: {report}", shop.namespace);
    nothing_lost(&report);
}
