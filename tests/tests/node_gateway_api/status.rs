//! What the status of a route says of each parent, and what becomes of the traffic meanwhile.

use causeway_tests::until;
use serde_json::Value;

use crate::{ROLLOUT, SOON, TOWN_NAME, Town, namespace, parent, server, service};

const CONTROLLER: &str = "causeway.dev/mesh-controller";

/// One that would be right, but for what a test puts in.
fn rule(backend: &str) -> String {
    format!("  rules:\n  - backendRefs: [{backend}]\n")
}

impl Town {
    /// What the status says of a route's parents, once it speaks of the route as it stands.
    fn parents(&self, what: &str) -> Vec<Value> {
        until(&format!("the status of {what}"), SOON, || {
            let route = self.node.get(&["-n", TOWN_NAME, what])?;
            let generation = &route["metadata"]["generation"];
            let parents = route["status"]["parents"].as_array().cloned().unwrap_or_default();
            let is_ours = |parent: &&Value| parent["controllerName"] == CONTROLLER;
            let ours: Vec<Value> = parents.iter().filter(is_ours).cloned().collect();
            let is_current = |parent: &Value| {
                let conditions = parent["conditions"].as_array();
                conditions.is_some_and(|all| all.iter().all(|c| c["observedGeneration"] == *generation))
            };
            if !ours.is_empty() && ours.iter().all(is_current) { Ok(ours) } else { Err(route["status"].to_string()) }
        })
    }

    /// Waits until a condition of the first parent has a status and a reason; its message.
    fn says(&self, what: &str, condition: &str, status: &str, reason: &str) -> String {
        until(&format!("{what} is {condition}={status}, {reason}"), SOON, || {
            let parents = self.parents(what);
            let conditions = parents[0]["conditions"].as_array().cloned().unwrap_or_default();
            let found = conditions.iter().find(|c| c["type"] == condition).cloned().unwrap_or_default();
            if found["status"] == status && found["reason"] == reason {
                Ok(found["message"].as_str().unwrap_or_default().to_owned())
            } else {
                Err(parents[0].to_string())
            }
        })
    }
}

#[test]
fn each_parent_has_a_status_that_echoes_it_and_says_what_is_wrong() {
    let Some(town) = Town::shared() else { return };
    let _told = town.node.told(&[TOWN_NAME]);
    let spec = "spec:
  parentRefs:
  - {group: \"\", kind: Service, name: parents, port: 80}
  - {group: \"\", kind: Service, name: absent}
  - {group: \"\", kind: Service, name: parents, port: 81}
  - {name: a-gateway}
  rules:
  - backendRefs: [{name: v1, port: 80}]
";
    town.node.apply(&Town::yaml("HTTPRoute", "several", spec)).unwrap();
    let parents = town.parents("httproute/several");
    let route = town.node.get(&["-n", TOWN_NAME, "httproute/several"]).unwrap();
    assert_eq!(parents.len(), 3, "the Gateway is somebody else's: {parents:?}");
    let accepted = |index: usize| {
        let conditions = parents[index]["conditions"].as_array().unwrap();
        let found = conditions.iter().find(|c| c["type"] == "Accepted").unwrap();
        (found["status"].as_str().unwrap().to_owned(), found["reason"].as_str().unwrap().to_owned())
    };
    for (index, wanted) in
        [("True", "Accepted"), ("False", "NoMatchingParent"), ("False", "NoMatchingParent")].iter().enumerate()
    {
        assert_eq!(parents[index]["parentRef"], route["spec"]["parentRefs"][index], "echoed as it was written");
        let (status, reason) = accepted(index);
        assert_eq!((status.as_str(), reason.as_str()), *wanted, "{}", parents[index]);
    }
    // It holds where it can.
    until("the route is in force on port 80", SOON, || {
        let apps: Vec<String> =
            (0..8).map(|_| town.client.curl(&["http://parents/"]).header("x-app").to_owned()).collect();
        if apps.iter().all(|app| app == "v1") { Ok(()) } else { Err(format!("{apps:?}")) }
    });
    let apps: Vec<String> =
        (0..32).map(|_| town.client.curl(&["http://parents:8080/"]).header("x-app").to_owned()).collect();
    assert!(apps.iter().any(|app| app == "v2"), "port 8080 is not the route's: {apps:?}");
}

#[test]
fn a_backend_that_is_not_there_costs_its_share_alone_and_is_named() {
    let Some(town) = Town::shared() else { return };
    let _told = town.node.told(&[TOWN_NAME]);
    let spec = parent("backends", &rule("{name: v1, port: 80, weight: 3}, {name: absent, port: 80, weight: 1}"));
    town.node.apply(&Town::yaml("HTTPRoute", "backends", &spec)).unwrap();
    let message = town.says("httproute/backends", "ResolvedRefs", "False", "BackendNotFound");
    assert!(message.contains("spec.rules[0].backendRefs[1]") && message.contains("absent"), "{message}");
    town.says("httproute/backends", "Accepted", "True", "Accepted");
    town.says("httproute/backends", "Programmed", "True", "Programmed");
    let report = town.client.load(&["--url", "http://backends/", "--requests", "800"]);
    let (good, bad) = (report["statuses"]["200"].as_f64().unwrap(), report["statuses"]["500"].as_f64().unwrap());
    assert_eq!(good + bad, 800.0, "{report}");
    assert!((bad - 200.0).abs() <= 4.0 * (800.0_f64 * 0.25 * 0.75).sqrt(), "{report}");
    let spec = parent("backends", &rule("{name: v1, port: 80, kind: Bucket, group: example.org}"));
    town.node.apply(&Town::yaml("HTTPRoute", "backends", &spec)).unwrap();
    town.says("httproute/backends", "ResolvedRefs", "False", "InvalidKind");
    town.programmed("httproute/backends");
    let reply = town.client.curl(&["http://backends/"]);
    assert_eq!((reply.status, reply.code()), (500, "broken_backend"), "{reply:?}");
    town.route("HTTPRoute", "backends", &parent("backends", &rule("{name: v2, port: 80}")));
    town.says("httproute/backends", "ResolvedRefs", "True", "ResolvedRefs");
    assert_eq!(town.client.curl(&["http://backends/"]).header("x-app"), "v2");
}

#[test]
fn another_namespace_is_reached_with_its_grant_alone() {
    let Some(town) = Town::shared() else { return };
    let _told = town.node.told(&[TOWN_NAME, "owner"]);
    let owner = namespace("owner") + &server("owner", "v2", &[]) + &service("owner", "v2", "version: v2");
    town.node.apply(&owner).unwrap();
    town.node.rolled_out("owner", "deploy/v2", ROLLOUT);
    let spec = parent("grants", &rule("{name: v2, namespace: owner, port: 80}"));
    town.node.apply(&Town::yaml("HTTPRoute", "grants", &spec)).unwrap();
    let message = town.says("httproute/grants", "ResolvedRefs", "False", "RefNotPermitted");
    assert!(message.contains("ReferenceGrant") && message.contains("owner"), "{message}");
    town.programmed("httproute/grants");
    assert_eq!(town.client.curl(&["http://grants/"]).status, 500);
    let grant = "apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: web, namespace: owner}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: town}]
  to: [{group: \"\", kind: Service, name: v2}]
";
    town.node.apply(grant).unwrap();
    town.says("httproute/grants", "ResolvedRefs", "True", "ResolvedRefs");
    town.programmed("httproute/grants");
    let reply = town.client.curl(&["http://grants/headers"]);
    assert_eq!((reply.status, reply.header("x-app")), (200, "v2"), "{reply:?}");
    assert!(reply.body.contains("URI=spiffe://cluster.local/ns/town/sa/client"), "{reply:?}");
    town.node.kubectl(&["-n", "owner", "delete", "referencegrant", "web"]).unwrap();
    town.says("httproute/grants", "ResolvedRefs", "False", "RefNotPermitted");
    until("the grant's end is in force", SOON, || {
        let reply = town.client.curl(&["http://grants/"]);
        if reply.status == 500 { Ok(()) } else { Err(format!("{reply:?}")) }
    });
}

#[test]
fn what_is_not_supported_is_named_by_its_path_and_takes_no_request_by_accident() {
    let Some(town) = Town::shared() else { return };
    let _told = town.node.told(&[TOWN_NAME]);
    let spec = parent(
        "unsupported",
        "  rules:
  - matches: [{path: {value: /ok}}]
    backendRefs: [{name: v1, port: 80}]
  - matches: [{path: {value: /sticky}}]
    sessionPersistence: {sessionName: s}
    backendRefs: [{name: v1, port: 80}]
  - matches: [{path: {value: /own}}]
    filters: [{type: ExtensionRef, extensionRef: {group: example.org, kind: Filter, name: f}}]
    backendRefs: [{name: v1, port: 80}]
",
    );
    town.node.apply(&Town::yaml("HTTPRoute", "unsupported", &spec)).unwrap();
    let message = town.says("httproute/unsupported", "PartiallyInvalid", "True", "UnsupportedValue");
    for field in ["spec.rules[1].sessionPersistence", "spec.rules[2].filters[0]"] {
        assert!(message.contains(field), "{message}");
    }
    town.says("httproute/unsupported", "Accepted", "True", "Accepted");
    town.programmed("httproute/unsupported");
    assert_eq!(town.client.curl(&["http://unsupported/ok"]).header("x-app"), "v1");
    for path in ["/sticky", "/own"] {
        let reply = town.client.curl(&[&format!("http://unsupported{path}")]);
        assert_eq!((reply.status, reply.code()), (500, "broken_backend"), "{path}: {reply:?}");
    }
}
