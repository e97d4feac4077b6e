//! The same resources from a directory and from an API server come to the same configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use causeway_control_plane::compile::{Client, Model, Settings, compile};
use causeway_control_plane::index::Resources;
use causeway_control_plane::problem::{Problem, Severity};
use causeway_control_plane::source::read::items;
use causeway_control_plane::source::{Event, directory, yaml};
use causeway_tests::capability::{Need, has};
use causeway_tests::kube::ApiServer;
use causeway_tests::until;
use serde_json::Value;
use std::time::Duration;

use super::objects::{self, account, definition, text};
use super::watched::Watched;

const KINDS: [&str; 11] = [
    "Namespace",
    "ServiceAccount",
    "Service",
    "EndpointSlice",
    "Pod",
    "VirtualService",
    "DestinationRule",
    "AuthorizationPolicy",
    "PeerAuthentication",
    "ServiceEntry",
    "RateLimitPolicy",
];

/// Every resource of the fixtures that is used, the first of a name, in the order in which a cluster takes them.
fn fixtures() -> Vec<Value> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![root.join("tests/kube_source/fixture.yaml"), root.join("fixtures/virtualservice.yaml")];
    for example in ["dev-prod", "three-tiers/presumed", "three-tiers/backend", "three-tiers/frontend"] {
        let folder = std::fs::read_dir(root.join("../deploy/examples").join(example)).unwrap();
        files.extend(folder.map(|f| f.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "yaml")));
    }
    let mut all: BTreeMap<(usize, String), Value> = BTreeMap::new();
    for file in files {
        for document in yaml::documents(&std::fs::read_to_string(file).unwrap()).unwrap() {
            for (_, value) in items(document.value) {
                let Some(place) = KINDS.iter().position(|k| *k == text(&value, "/kind")) else { continue };
                let name = |v: &Value| format!("{} {}", text(v, "/metadata/namespace"), text(v, "/metadata/name"));
                let group = text(&value, "/apiVersion").split('/').next().unwrap_or_default().to_owned();
                all.entry((place, format!("{group} {}", name(&value)))).or_insert(value);
            }
        }
    }
    // A cluster has one in each namespace.
    let namespaces: BTreeSet<String> =
        all.values().filter(|v| v["kind"] == "Namespace").map(|v| text(v, "/metadata/name").to_owned()).collect();
    for namespace in namespaces {
        all.entry((1, format!("v1 {namespace} default"))).or_insert_with(|| account(&namespace, "default"));
    }
    all.into_values().collect()
}

/// The object as somebody with a directory would have written it, had they known what the API server gives it.
fn told(object: &Value, made: &Value) -> Value {
    let mut told = object.clone();
    for field in ["uid", "generation", "creationTimestamp"] {
        if let Some(value) = made["metadata"].get(field) {
            told["metadata"][field] = value.clone();
        }
    }
    if object["kind"] == "Service" {
        for field in ["clusterIP", "clusterIPs"] {
            if let Some(value) = made["spec"].get(field) {
                told["spec"][field] = value.clone();
            }
        }
    }
    told
}

#[test]
fn the_same_resources_from_a_directory_and_from_an_api_server_are_the_same_configuration() {
    if !has(&[Need::Kubernetes]) {
        return;
    }
    let kube = ApiServer::start();
    super::install(&kube);
    let watched = Watched::start(kube.kubeconfig(), kube.kubeconfig().to_owned(), None);
    for (group, kind) in [
        ("networking.istio.io", "VirtualService"),
        ("networking.istio.io", "DestinationRule"),
        ("security.istio.io", "AuthorizationPolicy"),
        ("security.istio.io", "PeerAuthentication"),
    ] {
        let versions: &[&str] =
            if group.starts_with('n') { &["v1beta1", "v1", "v1alpha3"] } else { &["v1beta1", "v1"] };
        watched.run(objects::create(&watched.client, &definition(group, kind, versions)));
    }
    kube.kubectl(&["wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"]).unwrap();

    let folder = tempfile::tempdir().unwrap();
    let fixtures = fixtures();
    for (at, object) in fixtures.iter().enumerate() {
        // A kind that was established just now may be unknown for a moment.
        let made = until("the object is accepted", Duration::from_secs(20), || {
            watched.run(objects::try_create(&watched.client, object)).inspect_err(|error| {
                let is_early = error.contains("404") || error.contains("NotFound");
                assert!(is_early, "{error}");
            })
        });
        if let Some(status) = object.get("status").filter(|_| object["kind"] == "Pod") {
            watched.run(objects::patch_status(&watched.client, object, status));
        }
        std::fs::write(folder.path().join(format!("{at:03}.json")), told(object, &made).to_string()).unwrap();
    }
    let reading = directory::read(folder.path());
    let mut from_directory = Resources::default();
    for resource in reading.resources {
        from_directory.apply(Event::Upsert { resource, problems: Vec::new() });
    }
    let from_directory = Arc::new(from_directory);

    until("every object is read", Duration::from_secs(30), || {
        let there = watched.snapshot();
        let (here, there) = (counts(&from_directory), counts(&there));
        if here == there { Ok(()) } else { Err(format!("{here:?} and {there:?}")) }
    });
    let there = watched.snapshot();
    let settings = Settings::default();
    let (here, there) = (compile(&from_directory, &settings), compile(&there, &settings));
    let compared = compare(&from_directory, &here, &there);
    assert!(compared > 500, "only {compared} answers were compared");

    let mut read: Vec<Problem> = reading.problems.into_iter().chain(here.problems().iter().cloned()).collect();
    read.sort();
    let known = placeless(&read);
    assert!(known.len() >= 7, "{known:#?}");
    assert_eq!(known, placeless(there.problems()));
}

/// What must be equal once everything has come: objects, addresses, and objects with problems.
fn counts(resources: &Resources) -> Vec<usize> {
    vec![
        resources.services.iter().filter(|(k, _)| k.namespace != "default").count(),
        resources.endpoint_slices.iter().filter(|(k, _)| k.namespace != "default").count(),
        resources.pods.len(),
        resources.pods.values().map(|p| p.ips.len()).sum(),
        resources.virtual_services.len(),
        resources.destination_rules.len(),
        resources.authorization_policies.len(),
        resources.peer_authentications.len(),
        resources.service_entries.len(),
        resources.rate_limit_policies.len(),
    ]
}

/// Problems without their place in a file, of which the API server knows none.
fn placeless(problems: &[Problem]) -> Vec<String> {
    let real = problems.iter().filter(|p| p.severity != Severity::Note);
    let placeless = real.map(|p| Problem { file: String::new(), line: 0, ..p.clone() }.to_string());
    let sorted: BTreeSet<String> = placeless.collect();
    sorted.into_iter().collect()
}

/// Asks both for everything that any client may ask for; the number of answers.
fn compare(resources: &Resources, here: &Model, there: &Model) -> usize {
    let mut clients: Vec<Client> = Vec::new();
    for pod in resources.pods.values() {
        let (namespace, name) = (pod.meta.key.namespace.clone(), pod.meta.key.name.clone());
        clients.push(Client { namespace, account: pod.account.clone(), pod: name });
    }
    for namespace in resources.namespaces.keys() {
        clients.push(Client { namespace: namespace.name.clone(), account: "x".into(), pod: "unknown".into() });
    }
    let mut texts: BTreeSet<String> =
        ["example.com:443", "api.example.com:443", "nobody:80", "10.9.9.9:80", "[fd00::1]:8080"]
            .map(str::to_owned)
            .into();
    for service in resources.services.values() {
        let key = &service.meta.key;
        let (ns, name) = (&key.namespace, &key.name);
        let mut hosts: Vec<String> = service.cluster_ips.iter().map(ToString::to_string).collect();
        hosts.extend([
            name.clone(),
            format!("{name}.{ns}"),
            format!("{name}.{ns}.svc"),
            format!("{name}.{ns}.svc.cluster.local"),
        ]);
        hosts.extend(resources.pods.values().map(|p| format!("{}.{name}.{ns}.svc.cluster.local", p.meta.key.name)));
        for port in service.ports.iter().map(|p| p.port).chain([443, 1]) {
            texts.extend(hosts.iter().map(|host| format!("{host}:{port}")));
        }
    }
    for pod in resources.pods.values() {
        texts.extend(
            pod.ips.iter().filter(|ip| ip.is_ipv4()).flat_map(|ip| [80, 5432, 8080, 9001].map(|p| format!("{ip}:{p}"))),
        );
    }
    let mut compared = 0;
    let mut backends = BTreeSet::new();
    for client in &clients {
        assert_eq!(here.workload(client), there.workload(client), "{client:?}");
        assert_eq!(here.prefetch(client), there.prefetch(client), "{client:?}");
        assert_eq!(here.pod(&client.namespace, &client.pod), there.pod(&client.namespace, &client.pod));
        for text in &texts {
            let found = here.destination(client, text);
            assert_eq!(found, there.destination(client, text), "{client:?} {text}");
            backends.extend(found.backends.into_iter().map(|b| b.name));
            compared += 1;
        }
    }
    for backend in &backends {
        assert_eq!(here.endpoints(backend), there.endpoints(backend), "{backend}");
    }
    let with_endpoints = backends.iter().filter(|b| here.endpoints(b).is_some_and(|e| !e.endpoints.is_empty())).count();
    assert!(with_endpoints > 10, "{with_endpoints} of {backends:?}");
    compared
}
