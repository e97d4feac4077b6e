//! Routes of the Gateway API on a real API server with the standard's own definitions: they are read when these come, and
//! the status says of each parent what became of it, beside what other controllers say.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test")]

#[path = "kube_status/world.rs"]
#[allow(dead_code, reason = "made for another suite")]
mod world;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use causeway_tests::capability::{Need, has};
use causeway_tests::process::run;
use causeway_tests::until;
use serde_json::{Value, json};
use world::{World, local};

/// For what takes one round of everything, on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);
const ROUTE: [&str; 4] = ["-n", "dev", "httproute", "split"];
const CONTROLLER: &str = "causeway.dev/mesh-controller";

/// The standard's definitions of its experimental channel.
fn install(world: &World) {
    let fetch = Path::new(env!("CARGO_MANIFEST_DIR")).join("gateway-api/fetch");
    let directory = run(Command::new(fetch).arg("--definitions")).ok();
    let file = format!("{}/experimental.yaml", directory.trim());
    world.kube.kubectl(&["apply", "--server-side", "-f", &file]).unwrap();
    world.kube.kubectl(&["wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"]).unwrap();
}

/// A route in `dev` with these parents beside a Gateway, and these rules.
fn route(parents: &str, rules: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: split, namespace: dev}}\nspec:\n  \
         parentRefs: [{{name: edge}}, {parents}]\n  rules: {rules}\n"
    )
}

const PRODSVC: &str = "{group: '', kind: Service, namespace: prod, name: prodsvc, port: 80}";
const BACKEND: &str = "{name: prodsvc, namespace: prod, port: 80}";

/// `(type, status, reason)` of our entry for the parent `at`, once it speaks of the object's generation.
fn conditions(object: &Value, at: usize) -> Result<Vec<[String; 3]>, String> {
    let parents = object["status"]["parents"].as_array().cloned().unwrap_or_default();
    let wanted = &object["spec"]["parentRefs"][at];
    let found = parents.iter().find(|p| p["controllerName"] == CONTROLLER && p["parentRef"] == *wanted);
    let all = found.and_then(|p| p["conditions"].as_array().cloned()).ok_or_else(|| object["status"].to_string())?;
    if !all.iter().all(|c| c["observedGeneration"] == object["metadata"]["generation"]) {
        return Err(object["status"].to_string());
    }
    let text = |c: &Value, field: &str| c[field].as_str().unwrap_or_default().to_owned();
    Ok(all.iter().map(|c| ["type", "status", "reason"].map(|field| text(c, field))).collect())
}

/// Waits until the status says this of a parent.
fn until_said(world: &World, at: usize, condition: &str, status: &str, reason: &str) -> Value {
    until(&format!("{condition} of parent {at} is {status}, {reason}"), LIMIT, || {
        let object = world.kube.get(&ROUTE)?;
        let wanted = [condition, status, reason].map(str::to_owned);
        let said = conditions(&object, at)?;
        if said.contains(&wanted) { Ok(object) } else { Err(object["status"].to_string()) }
    })
}

fn message(object: &Value, condition: &str) -> String {
    let ours = |p: &&Value| p["controllerName"] == CONTROLLER;
    let parents = object["status"]["parents"].as_array().unwrap();
    let all = parents.iter().filter(ours).flat_map(|p| p["conditions"].as_array().unwrap());
    all.into_iter().find(|c| c["type"] == condition).unwrap()["message"].as_str().unwrap().to_owned()
}

#[test]
fn each_parent_of_a_route_is_told_what_became_of_it() {
    if !has(&[Need::Kubernetes, Need::GatewayApi]) {
        return;
    }
    let mut world = World::start();
    world.replica("cp-1", local());
    world.proxy("dev/web", 0);
    // The definitions come while the control plane runs.
    install(&world);
    let weighted = format!("[{{backendRefs: [{BACKEND}]}}]");
    world.kube.apply(&route(PRODSVC, &weighted)).unwrap();
    let object = until_said(&world, 1, "Programmed", "True", "Programmed");
    let said = conditions(&object, 1).unwrap();
    assert_eq!(said.iter().map(|c| c[0].as_str()).collect::<Vec<_>>(), ["Accepted", "ResolvedRefs", "Programmed"]);
    assert!(said.iter().all(|c| c[1] == "True"), "{said:?}");
    assert_eq!(message(&object, "Programmed"), "In force on 1 of 1 proxies.");
    assert_eq!(object["status"]["parents"].as_array().unwrap().len(), 1, "the Gateway is not ours");
    assert_eq!(world.weights("dev/web"), [1]);

    another_controllers_words_stay(&world);

    // A backend of another namespace that is no parent needs a grant there.
    let two = format!("[{{backendRefs: [{BACKEND}, {{name: other, namespace: prod, port: 80, weight: 3}}]}}]");
    world.kube.apply(&route(PRODSVC, &two)).unwrap();
    until_said(&world, 1, "ResolvedRefs", "False", "RefNotPermitted");
    until_said(&world, 1, "Programmed", "True", "Programmed");
    assert_eq!(world.weights("dev/web"), [1, 3], "its share is kept, for errors");
    let grant = "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {name: g, namespace: prod}\n\
                 spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: dev}], to: [{group: '', kind: Service}]}\n";
    world.kube.apply(grant).unwrap();
    until_said(&world, 1, "ResolvedRefs", "False", "BackendNotFound");
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: other, namespace: prod}\nspec: {selector: {app: prodsvc}, ports: [{port: 80, targetPort: 8080}]}\n";
    world.kube.apply(service).unwrap();
    until_said(&world, 1, "ResolvedRefs", "True", "ResolvedRefs");
    until_said(&world, 1, "Programmed", "True", "Programmed");
    assert_eq!(world.weights("dev/web"), [1, 3]);

    what_is_not_supported_is_named(&world);

    // A parent that is gone from the spec is gone from the status; the others' entries stay.
    let spec = json!({"spec": {"parentRefs": [{"name": "edge"}]}}).to_string();
    world.kube.kubectl(&[&["patch", "--type=merge", "-p", &spec][..], &ROUTE].concat()).unwrap();
    until("our entry is gone", LIMIT, || {
        let parents = world.kube.get(&ROUTE)?["status"]["parents"].clone();
        let left: Vec<&Value> = parents.as_array().into_iter().flatten().map(|p| &p["controllerName"]).collect();
        if left == ["example.com/edge"] { Ok(()) } else { Err(parents.to_string()) }
    });
}

/// What somebody else wrote stays beside ours.
fn another_controllers_words_stay(world: &World) {
    let object = world.kube.get(&ROUTE).unwrap();
    let entry = json!({
        "parentRef": object["spec"]["parentRefs"][0], "controllerName": "example.com/edge",
        "conditions": [{"type": "Accepted", "status": "True", "reason": "Accepted", "message": "", "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    });
    let mut parents = object["status"]["parents"].as_array().unwrap().clone();
    parents.push(entry.clone());
    let patch = json!({"status": {"parents": parents}}).to_string();
    let args = ["patch", "--subresource=status", "--type=merge", "-p", &patch];
    world.kube.kubectl(&[&args[..], &ROUTE].concat()).unwrap();
    let port = PRODSVC.replace("port: 80", "port: 99");
    world.kube.apply(&route(&port, &format!("[{{backendRefs: [{BACKEND}]}}]"))).unwrap();
    let object = until_said(world, 1, "Accepted", "False", "NoMatchingParent");
    let parents = object["status"]["parents"].as_array().unwrap();
    assert_eq!((parents.len(), parents.contains(&entry)), (2, true), "{parents:?}");
}

/// Rules that cannot be in force are named by their path; the others hold.
fn what_is_not_supported_is_named(world: &World) {
    let bad = format!(
        "{{filters: [{{type: ExtensionRef, extensionRef: {{group: x.io, kind: Zip, name: z}}}}], backendRefs: [{BACKEND}]}}"
    );
    world.kube.apply(&route(PRODSVC, &format!("[{{backendRefs: [{BACKEND}]}}, {bad}]"))).unwrap();
    let object = until_said(world, 1, "PartiallyInvalid", "True", "UnsupportedValue");
    let told = message(&object, "PartiallyInvalid");
    assert!(told.starts_with("Dropped Rule spec.rules[1]: spec.rules[1].filters[0].extensionRef: "), "{told}");
    assert!(conditions(&object, 1).unwrap().contains(&["Accepted", "True", "Accepted"].map(str::to_owned)));
    world.kube.apply(&route(PRODSVC, &format!("[{bad}]"))).unwrap();
    until_said(world, 1, "Accepted", "False", "UnsupportedValue");
}
