//! Flagger: by weights, to testers by a header, with copies, with cookies, by the Gateway API, and a faulty release that
//! it takes back.

use std::collections::BTreeSet;
use std::time::Instant;

use causeway_tests::until;
use serde_json::Value;

use crate::ROLLOUT;
use crate::shop::{STEP, Shop, answered, check_share, nothing_lost};

const APP: &str = include_str!("../../../deploy/examples/flagger/app.yaml");
const CANARY: &str = include_str!("../../../deploy/examples/flagger/canary.yaml");
const GATEWAY_API: &str = include_str!("../../../deploy/examples/flagger-gateway-api/canary.yaml");
const STEPS: &str = "    stepWeights: [10, 50, 100]\n";

/// The example as it stands.
pub fn by_weights() -> String {
    format!("{APP}---\n{CANARY}")
}

/// The same release through an HTTPRoute.
pub fn by_gateway_api() -> String {
    format!("{APP}---\n{GATEWAY_API}")
}

/// A/B: who sends a header gets the new version.
pub fn by_header() -> String {
    let analysis = "    iterations: 2\n    match:\n    - headers:\n        X-Tester: {exact: \"yes\"}\n";
    format!("{APP}---\n{}", CANARY.replace(STEPS, analysis))
}

/// Blue and green: the new version gets copies, then everything.
pub fn by_mirror() -> String {
    let analysis = "    iterations: 2\n    mirror: true\n    mirrorWeight: 100\n";
    format!("{APP}---\n{}", CANARY.replace(STEPS, analysis))
}

/// Who was answered by the new version once stays with it.
pub fn by_cookie() -> String {
    let analysis = "    stepWeights: [50]\n    sessionAffinity: {cookieName: release, maxAge: 60}\n";
    // Long enough for all that is asked while the weights stand.
    let canary = CANARY.replace(STEPS, analysis).replace("    interval: 10s\n", "    interval: 45s\n");
    format!("{APP}---\n{canary}")
}

fn phase(shop: &Shop<'_>) -> Result<String, String> {
    let canary = shop.get("canary/catalog")?;
    Ok(canary["status"]["phase"].as_str().unwrap_or_default().to_owned())
}

fn wait_for(shop: &Shop<'_>, wanted: &str) {
    until(&format!("the canary is {wanted}"), ROLLOUT, || match phase(shop)?.as_str() {
        phase if phase == wanted => Ok(()),
        phase => Err(format!("{phase}; {}", events(shop))),
    });
}

/// What Flagger said last of the canary.
fn events(shop: &Shop<'_>) -> String {
    let arguments = ["-n", &shop.namespace, "events", "--for", "canary/catalog", "--no-headers"];
    let text = shop.node.kubectl(&arguments).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(4)..].join(" | ")
}

/// The routing resource that Flagger writes.
fn route(shop: &Shop<'_>) -> &'static str {
    let is_gateway_api = shop.get("canary/catalog").is_ok_and(|c| c["spec"]["provider"] == "gatewayapi:v1");
    if is_gateway_api {
        "httproute.gateway.networking.k8s.io/catalog"
    } else {
        "virtualservice.networking.istio.io/catalog"
    }
}

/// The canary's weight in the first rule of it.
fn weight(object: &Value) -> Option<u64> {
    let spec = &object["spec"];
    let istio = spec["http"][0]["route"].as_array();
    let destinations = istio.or_else(|| spec["rules"][0]["backendRefs"].as_array())?;
    let name = |d: &&Value| d["destination"]["host"].as_str().or(d["name"].as_str()) == Some("catalog-canary");
    // A weight of zero may be left out of what is written.
    destinations.iter().find(name).map(|d| d["weight"].as_u64().unwrap_or(0))
}

/// Waits until Flagger has taken the Deployment over.
fn initialized(shop: &Shop<'_>) {
    wait_for(shop, "Initialized");
    until("the first route is in force", STEP, || shop.in_force(route(shop)));
    if route(shop).starts_with("virtualservice") {
        for name in ["catalog-primary", "catalog-canary"] {
            until("the rules are in force", STEP, || {
                shop.in_force(&format!("destinationrule.networking.istio.io/{name}"))
            });
        }
    }
}

/// Follows a release to its end; the shares that were seen in force.
fn follow(shop: &Shop<'_>, end: &str) -> BTreeSet<u64> {
    let route = route(shop);
    let (begun, mut seen) = (Instant::now(), BTreeSet::new());
    loop {
        let now = phase(shop).unwrap_or_default();
        if now == end {
            return seen;
        }
        assert!(now != "Failed", "{}", events(shop));
        assert!(begun.elapsed() < STEP * 3, "the canary is {now} after {:?}: {}", begun.elapsed(), events(shop));
        if now != "Progressing"
            || shop.in_force(route).is_ok_and(|s| weight(&s.object).is_none_or(|w| seen.contains(&w)))
        {
            std::thread::sleep(std::time::Duration::from_millis(100));
            continue;
        }
        if let Some((state, report)) = shop.send_under(route, 160, &[])
            && let Some(weight) = weight(&state.object)
        {
            check_share(&report, weight as f64 / 100.0);
            println!("{}: {weight} % in force, {} of {}", shop.namespace, answered(&report, "v2"), report["sent"]);
            seen.insert(weight);
        }
    }
}

/// 0, 10, 50, 100 and the promotion under load.
pub fn good_release(shop: &Shop<'_>) {
    initialized(shop);
    let load = shop.start_load("/");
    shop.release("deployment/catalog", "v2", &[]);
    let seen = follow(shop, "Succeeded");
    for weight in [10, 50, 100] {
        assert!(seen.contains(&weight), "{weight} % was not seen in force: {seen:?}");
    }
    until("the route is in force", STEP, || shop.in_force(route(shop)));
    check_share(&shop.send(200, "/", &[]), 1.0);
    let report = load.stop();
    println!("{}: {report}", shop.namespace);
    nothing_lost(&report);
}

/// The new version fails on one path; Flagger sees it in the mesh's metrics and takes it back.
pub fn faulty_release(shop: &Shop<'_>) {
    initialized(shop);
    let (load, other) = (shop.start_load("/item"), shop.start_load("/"));
    shop.release("deployment/catalog", "v2", &["--broken", "/item"]);
    wait_for(shop, "Failed");
    let said = events(shop);
    assert!(said.contains("advancement success rate"), "{said}");
    let state = until("the route is in force", STEP, || shop.in_force(route(shop)));
    assert_eq!(weight(&state.object), Some(0));
    let after = shop.send(300, "/item", &[]);
    nothing_lost(&after);
    assert_eq!(answered(&after, "v1"), 300.0, "{after}");
    nothing_lost(&other.stop());
    let report = load.stop();
    println!("{}: {report}", shop.namespace);
    // What failed is what the new version answered, and nothing else: a tenth of the time that it was there.
    assert_eq!(report["failed"], report["apps"]["v2"], "{report}");
    assert!(answered(&report, "v2") > 0.0, "{report}");
    assert!(answered(&report, "v2") < 0.2 * report["sent"].as_f64().unwrap(), "{report}");
}

/// Only who sends the header is answered by the new version, until it is promoted.
pub fn release_to_testers(shop: &Shop<'_>) {
    initialized(shop);
    let load = shop.start_load("/");
    // Flagger judges by what testers get; without them there is nothing to judge.
    let testers = shop.web.start_load(&[
        "--url",
        &format!("http://catalog.{}/", shop.namespace),
        "--header",
        "x-tester:yes",
        "--pause-ms",
        "50",
    ]);
    shop.release("deployment/catalog", "v2", &[]);
    until("testers alone get the new version", STEP, || {
        let state = shop.in_force(route(shop))?;
        (weight(&state.object) == Some(100)).then_some(()).ok_or_else(|| events(shop))?;
        let send = |headers: &[&str]| shop.send_under(route(shop), 200, headers).ok_or("the route was changed");
        let ((_, tester), (_, other)) = (send(&["x-tester:yes"])?, send(&["x-tester:no"])?);
        if phase(shop)? != "Progressing" {
            return Err(events(shop));
        }
        check_share(&tester, 1.0);
        check_share(&other, 0.0);
        Ok(())
    });
    wait_for(shop, "Succeeded");
    until("the route is in force", STEP, || shop.in_force(route(shop)));
    check_share(&shop.send(200, "/", &[]), 1.0);
    for report in [load.stop(), testers.stop()] {
        println!("{}: {report}", shop.namespace);
        nothing_lost(&report);
    }
}

/// Copies reach the new version, whose metrics Flagger judges, while every answer is the old one's.
pub fn mirrored_release(shop: &Shop<'_>) {
    initialized(shop);
    let load = shop.start_load("/");
    shop.release("deployment/catalog", "v2", &[]);
    until("copies are sent", STEP, || {
        let (state, report) = shop.send_under(route(shop), 200, &[]).ok_or_else(|| events(shop))?;
        let rule = &state.object["spec"]["http"][0];
        (rule["mirror"]["host"] == "catalog-canary").then_some(()).ok_or_else(|| events(shop))?;
        assert_eq!(rule["mirrorPercentage"]["value"], 100, "{rule}");
        check_share(&report, 0.0);
        Ok(())
    });
    wait_for(shop, "Succeeded");
    until("the route is in force", STEP, || shop.in_force(route(shop)));
    check_share(&shop.send(200, "/", &[]), 1.0);
    let report = load.stop();
    println!("{}: {report}", shop.namespace);
    nothing_lost(&report);
}

/// Half of the callers get the new version and a cookie; with the cookie they stay.
pub fn sticky_release(shop: &Shop<'_>) {
    initialized(shop);
    let load = shop.start_load("/");
    shop.release("deployment/catalog", "v2", &[]);
    until("the cookie leads back", STEP, || {
        let (state, report) = shop.send_under(route(shop), 160, &[]).ok_or_else(|| events(shop))?;
        // The cookie's rule comes first; the second has the weights.
        let rules = state.object["spec"]["http"].as_array().cloned().unwrap_or_default();
        let weights = rules.get(1).ok_or_else(|| events(shop))?;
        if weights["route"][1]["weight"] != 50 {
            return Err(events(shop));
        }
        check_share(&report, 0.5);
        let cookie =
            weights["route"][1]["headers"]["response"]["add"]["Set-Cookie"].as_str().expect("a cookie").to_owned();
        let url = format!("http://catalog.{}/", shop.namespace);
        let reply = until("an answer of the new version", STEP, || {
            let reply = shop.web.curl(&[&url]);
            if reply.header("x-app") == "v2" { Ok(reply) } else { Err(format!("{reply:?}")) }
        });
        assert_eq!(reply.header("set-cookie"), cookie, "{reply:?}");
        let pair = cookie.split(';').next().expect("name=value");
        let (_, kept) = shop.send_under(route(shop), 200, &[&format!("cookie:a=b; {pair}")]).ok_or("changed")?;
        check_share(&kept, 1.0);
        Ok(())
    });
    wait_for(shop, "Succeeded");
    let report = load.stop();
    println!("{}: {report}", shop.namespace);
    nothing_lost(&report);
}
