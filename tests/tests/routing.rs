//! Which route wins, what it does, and that changing it never costs a request.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs)]

use std::time::Duration;

use causeway_tests::capability::{Need, has};
use causeway_tests::mesh::Cluster;
use causeway_tests::pod::Reply;
use causeway_tests::yaml::Port;
use causeway_tests::{Mesh, Pod, PodSpec, Settings, until};
use serde_json::Value;

const HTTP: &[Port<'_>] = &[Port { name: "http", port: 80, target: 8080 }];
const URL: &str = "http://shop.prod/";

struct Stage {
    client: Pod,
    old: Pod,
    cluster: Cluster,
    other: Cluster,
    mesh: Mesh,
    _bystander: Pod,
}

/// `shop.prod` with version `old`; subsets `old` and `new`, the latter without a pod; `other.prod` beside it.
fn stage() -> Stage {
    let mesh = Mesh::start(Settings::default());
    let cluster = mesh.service("prod", "shop", HTTP, &[("app", "shop")]);
    let other = mesh.service("prod", "other", HTTP, &[("app", "other")]);
    let mut old =
        mesh.pod(PodSpec::new("prod", "shop-old").account("shop").label("app", "shop").label("version", "old"));
    old.serve_http("old", 8080);
    let mut bystander = mesh.pod(PodSpec::new("prod", "other"));
    bystander.serve_http("other", 8080);
    mesh.write(
        "rule.yaml",
        "apiVersion: causeway.dev/v1alpha1\nkind: DestinationRule\nmetadata: {name: shop, namespace: prod}\nspec:\n  host: \
         shop\n  subsets: [{name: old, labels: {version: old}}, {name: new, labels: {version: new}}]\n",
    );
    let client = mesh.pod(PodSpec::new("dev", "client")).ready();
    let stage = Stage { client, old: old.ready(), cluster, other, mesh, _bystander: bystander.ready() };
    stage.expect(&[URL], "old");
    stage.expect(&["http://other.prod/"], "other");
    stage
}

impl Stage {
    fn routes(&self, http: &str) {
        self.mesh.write(
            "routes.yaml",
            &format!(
                "apiVersion: causeway.dev/v1alpha1\nkind: VirtualService\nmetadata: {{name: shop, namespace: prod}}\nspec:\n  \
                 hosts: [shop]\n  http:\n{http}"
            ),
        );
    }

    fn new_version(&self) -> Pod {
        let spec = PodSpec::new("prod", "shop-new").account("shop").label("app", "shop").label("version", "new");
        let mut pod = self.mesh.pod(spec.starting());
        pod.serve_http("new", 8080);
        pod.wait_ready();
        self.mesh.mark_ready(&mut pod);
        pod
    }

    /// Waits until the answer is of the application `app`, or carries it as the proxy's own code.
    fn expect(&self, arguments: &[&str], app: &str) -> Reply {
        until(&format!("{arguments:?} is answered by {app}"), Duration::from_secs(20), || {
            let reply = self.client.curl(arguments);
            if reply.header("x-app") == app || reply.code() == app { Ok(reply) } else { Err(format!("{reply:?}")) }
        })
    }
}

fn needs() -> bool {
    has(&[Need::Namespaces, Need::Program("curl")])
}

#[test]
fn the_right_route_wins_and_what_matches_nothing_is_404() {
    if !needs() {
        return;
    }
    let stage = stage();
    let _new = stage.new_version();
    let to = |subset: &str| format!("    route: [{{destination: {{host: shop, subset: {subset}}}}}]\n");
    let (new, old) = (to("new"), to("old"));
    // Within one VirtualService the order holds; of several for one host the more specific match goes first.
    stage.mesh.write(
        "prefix.yaml",
        &format!(
            "apiVersion: causeway.dev/v1alpha1\nkind: VirtualService\nmetadata: {{name: a-prefix, namespace: prod}}\nspec:\n  \
             hosts: [shop]\n  http:\n  - match: [{{uri: {{prefix: /a}}}}]\n{old}"
        ),
    );
    stage.routes(&format!(
        "  - match: [{{uri: {{exact: /a/exact}}}}]\n{new}  - match: [{{uri: {{prefix: /a/long}}}}]\n{new}  - match: [{{uri: \
         {{prefix: /h}}, headers: {{x-user: {{exact: anna}}}}}}]\n{new}  - match: [{{uri: {{prefix: /h}}}}]\n{old}  - match: \
         [{{uri: {{regex: '/r/[0-9]+'}}}}]\n{new}  - match: [{{method: {{exact: PUT}}, uri: {{prefix: /m}}}}]\n{new}  - match: \
         [{{queryParams: {{v: {{exact: '2'}}}}, uri: {{prefix: /q}}}}]\n{new}  - match: [{{uri: {{prefix: /q}}}}]\n{old}"
    ));
    let at = |path: &str| format!("http://shop.prod{path}");
    stage.expect(&[&at("/nothing")], "no_route");
    for (arguments, app) in [
        (vec![at("/a")], "old"),
        (vec![at("/a/other")], "old"),
        (vec![at("/a/longer/x")], "new"),
        (vec![at("/a/exact?x=1")], "new"),
        (vec![at("/h")], "old"),
        (vec!["-H".into(), "X-User: anna".into(), at("/h")], "new"),
        (vec!["-H".into(), "X-User: annabel".into(), at("/h")], "old"),
        (vec![at("/r/123")], "new"),
        (vec![at("/r/123x")], "no_route"),
        (vec!["-X".into(), "PUT".into(), at("/m")], "new"),
        (vec![at("/m")], "no_route"),
        (vec![at("/q?v=2")], "new"),
        (vec![at("/q?v=22")], "old"),
        (vec![at("/nothing")], "no_route"),
    ] {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let reply = stage.client.curl(&arguments);
        let seen = if reply.code().is_empty() { reply.header("x-app") } else { reply.code() };
        assert_eq!(seen, app, "{arguments:?}: {reply:?}");
        assert_eq!(reply.status == 404, app == "no_route", "{reply:?}");
    }
}

#[test]
fn a_timeout_is_504_and_leaves_the_connection_usable() {
    if !needs() {
        return;
    }
    let stage = stage();
    stage.routes("  - route: [{destination: {host: shop}}]\n    timeout: 500ms\n");
    let reply = until("the timeout is in force", Duration::from_secs(20), || {
        let reply = stage.client.curl(&["http://shop.prod/slow/3000"]);
        if reply.status == 504 { Ok(reply) } else { Err(format!("{reply:?}")) }
    });
    assert_eq!(reply.code(), "upstream_timeout", "{reply:?}");
    let again = stage.client.curl(&["http://shop.prod/slow/3000", "http://shop.prod/"]);
    assert!(again.body.contains("old\n"), "the next request on the connection is served: {again:?}");
    let long = stage.client.curl(&["http://shop.prod/drip/40"]);
    assert_eq!(long.body.lines().count(), 40, "the timeout is for the head of the response: {long:?}");
}

#[test]
fn redirected_traffic_goes_where_it_was_sent_whatever_its_host_says() {
    if !needs() {
        return;
    }
    let stage = stage();
    let shop = format!("http://{}/", stage.cluster.ip);
    for host in ["other.prod", "other.prod.svc.cluster.local", "evil.example.com", "127.0.0.1:15000", "shop.prod"] {
        let reply = stage.client.curl(&["-H", &format!("Host: {host}"), &shop]);
        assert_eq!(reply.header("x-app"), "old", "{host}: {reply:?}");
    }
    let reply = stage.client.curl(&["-H", "Host: shop.prod", &format!("http://{}/", stage.other.ip)]);
    assert_eq!(reply.header("x-app"), "other", "{reply:?}");
    // A pod's own address is not subject to the routes of its Service.
    stage.routes("  - route: [{destination: {host: other}}]\n");
    stage.expect(&[URL], "other");
    let direct = stage.client.curl(&[&format!("http://{}:8080/", stage.old.net().ip)]);
    assert_eq!(direct.header("x-app"), "old", "{direct:?}");
}

#[test]
fn a_canary_without_pods_gets_nothing_until_it_has_one_and_no_request_fails() {
    if !needs() {
        return;
    }
    let stage = stage();
    let stop = stage.mesh.path("scratch/stop").display().to_string();
    let arguments = ["load", "--url", URL, "--concurrency", "6", "--stop-file", &stop, "--pause-ms", "5"];
    let mut load = stage.client.background("load", &arguments);
    stage.routes(
        "  - route:\n    - {destination: {host: shop, subset: old}, weight: 50}\n    - {destination: {host: shop, subset: \
         new}, weight: 50}\n",
    );
    let acked = || {
        let view = stage.mesh.admin("/proxies").json();
        view["proxies"].as_array().unwrap().iter().all(|p| p["acked"] == p["total"])
    };
    until("the route is acked", Duration::from_secs(10), || if acked() { Ok(()) } else { Err("not yet".to_owned()) });
    let share = |app: &str| -> (u64, Value) {
        let report = stage.client.client(&["load", "--url", URL, "--requests", "200", "--concurrency", "4"]);
        (report["apps"][app].as_u64().unwrap_or(0), report)
    };
    let (old, report) = share("old");
    assert_eq!(old, 200, "{report}");
    let new = stage.new_version();
    until("the canary has its half", Duration::from_secs(20), || {
        let (new, report) = share("new");
        if (60..140).contains(&new) { Ok(()) } else { Err(report.to_string()) }
    });
    stage.mesh.forget(&new); // and leaves again
    until("all is with the old version", Duration::from_secs(20), || {
        let (old, report) = share("old");
        if old == 200 { Ok(()) } else { Err(report.to_string()) }
    });
    // Rules and routes go and come in any order.
    for _ in 0..3 {
        stage.mesh.remove("routes.yaml");
        stage.mesh.remove("rule.yaml");
        let (_, report) = share("old");
        assert_eq!(report["failed"], 0, "{report}");
        stage.routes("  - route: [{destination: {host: shop, subset: old}}]\n");
        let (_, report) = share("old");
        assert_eq!(report["failed"], 0, "{report}");
        stage.mesh.write(
            "rule.yaml",
            "apiVersion: causeway.dev/v1alpha1\nkind: DestinationRule\nmetadata: {name: shop, namespace: prod}\nspec:\n  \
             host: shop\n  subsets: [{name: old, labels: {version: old}}, {name: new, labels: {version: new}}]\n",
        );
    }
    std::fs::write(&stop, "").unwrap();
    load.wait(Duration::from_secs(20));
    let report: Value = serde_json::from_str(&load.log()).unwrap();
    assert_eq!(report["failed"], 0, "{report}");
}

#[test]
fn a_service_without_endpoints_is_a_quick_503_that_names_it() {
    if !needs() {
        return;
    }
    let stage = stage();
    stage.mesh.forget(&stage.old);
    let reply = stage.expect(&[URL], "no_endpoints");
    assert_eq!(reply.status, 503);
    assert!(reply.body.contains("shop.prod"), "{reply:?}");
    let begun = std::time::Instant::now();
    stage.client.curl(&[URL]);
    assert!(begun.elapsed() < Duration::from_secs(2), "it took {:?}", begun.elapsed());
}
