#![allow(clippy::unwrap_used)]
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use causeway_mesh::svid;
use proptest::prelude::*;
use rustls::sign::CertifiedKey;
use rustls_pki_types::UnixTime;
use serde_json::{Value, json};

use super::{CONFIGURATION, SERVER_NAMES, VALIDATOR, bundle, review, validate};
use crate::ca::{Authority, CaFiles};
use crate::index::Resources;
use crate::source::read::{self, Outcome};
use crate::source::resource::Origin;
use crate::source::{Event, yaml};
use crate::state::StateDir;
use crate::{compile, inject, kubernetes};

fn injection() -> inject::Settings {
    inject::Settings::new("causeway/proxy:1", "https://cp:15010", "cluster.local")
}

fn asked(operation: &str, object: &Value, old: &Value) -> review::Request {
    let request = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u1", "operation": operation, "namespace": "dev", "name": "", "object": object, "oldObject": old,
            "kind": {"group": "", "version": "v1", "kind": "Pod"}, "dryRun": true,
        },
    });
    review::read(&serde_json::to_vec(&request).unwrap()).unwrap()
}

fn answered(answer: &review::Answer) -> Value {
    let text = review::written("u1", answer);
    let value: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(value["response"]["uid"], "u1");
    value["response"].clone()
}

fn route(http: &Value) -> Value {
    json!({
        "apiVersion": "causeway.dev/v1alpha1", "kind": "VirtualService",
        "metadata": {"name": "r", "namespace": "dev"},
        "spec": {"hosts": ["prodsvc.prod.svc.cluster.local"], "http": http},
    })
}

fn good() -> Value {
    route(&json!([{"route": [{"destination": {"host": "prodsvc.prod.svc.cluster.local"}}]}]))
}

fn world(objects: &[Value]) -> Resources {
    let mut world = Resources::default();
    for object in objects {
        let Outcome::Usable(resource, problems) = read::object(object, &Origin::default()) else { panic!("{object}") };
        world.apply(Event::Upsert { resource, problems });
    }
    world
}

fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "prodsvc", "namespace": "prod"},
        "spec": {"clusterIP": "10.0.0.1", "ports": [{"name": "http", "port": 80}]},
    })
}

fn judged(new: &Value, old: Option<&Value>, resources: Option<&Resources>) -> validate::Judgement {
    validate::judge(new, old, resources, &compile::Settings::default())
}

fn codes(problems: &[crate::problem::Problem]) -> Vec<&'static str> {
    problems.iter().map(|p| p.code).collect()
}

#[test]
fn a_new_pod_is_answered_with_a_patch() {
    let pod = json!({"kind": "Pod", "metadata": {"generateName": "a-"}, "spec": {"containers": [{"name": "a"}]}});
    let response = answered(&review::inject(&asked("CREATE", &pod, &Value::Null), &injection()));
    assert_eq!(response["allowed"], true);
    assert_eq!(response["patchType"], "JSONPatch");
    let patch = base64::engine::general_purpose::STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
    let patch: Value = serde_json::from_slice(&patch).unwrap();
    assert!(patch.as_array().unwrap().iter().any(|o| o["path"] == "/spec/initContainers"), "{patch}");
}

#[test]
fn a_pod_that_cannot_be_injected_is_refused_with_field_and_cure() {
    let pod = json!({"kind": "Pod", "spec": {"hostNetwork": true, "containers": []}});
    let response = answered(&review::inject(&asked("CREATE", &pod, &Value::Null), &injection()));
    assert_eq!(response["allowed"], false);
    assert_eq!(response["status"]["details"]["causes"][0]["field"], "spec.hostNetwork");
    assert!(response["status"]["message"].as_str().unwrap().contains("causeway.dev/inject"), "{response}");
}

#[test]
fn what_is_no_new_pod_passes_untouched() {
    let pod = json!({"kind": "Pod", "spec": {"containers": []}});
    let other = json!({"kind": "Service", "spec": {}});
    for (operation, object) in [("UPDATE", &pod), ("CREATE", &other), ("DELETE", &Value::Null)] {
        let answer = review::inject(&asked(operation, object, &Value::Null), &injection());
        assert_eq!(answer, review::Answer::default());
    }
}

#[test]
fn what_is_no_review_is_said_to_be_none() {
    let deep = format!("{{\"request\":{{\"uid\":\"u\",\"object\":{}{}}}}}", "[".repeat(100_000), "]".repeat(100_000));
    for bytes in
        [&b""[..], b"{}", b"[]", b"\xff\xfe", br#"{"request":{}}"#, br#"{"request":{"uid":""}}"#, deep.as_bytes()]
    {
        assert!(review::read(bytes).is_err());
    }
}

#[test]
fn an_error_of_the_resource_alone_is_refused_with_its_field_wherever_its_host_is() {
    let bad = route(&json!([{
        "match": [{"uri": {"regex": "("}}],
        "timeout": "soon",
        "route": [{"destination": {"host": "prodsvc.prod.svc.cluster.local"}, "weight": -1}],
    }]));
    let fields = |found: &validate::Judgement| found.errors.iter().map(|p| p.field.clone()).collect::<Vec<_>>();
    let mut mended = bad.clone();
    mended["spec"]["http"][0]["route"][0]["weight"] = json!(1);
    assert_eq!(fields(&judged(&bad, None, None)), ["spec.http[0].route[0].weight"]);
    for resources in [None, Some(&world(&[])), Some(&world(&[service()]))] {
        let found = judged(&mended, None, resources);
        assert_eq!(fields(&found), ["spec.http[0].match[0].uri.regex", "spec.http[0].timeout"], "{found:?}");
    }
    let response =
        answered(&review::validate(&asked("CREATE", &mended, &Value::Null), None, &compile::Settings::default()));
    assert_eq!(response["status"]["code"], 422);
    assert_eq!(response["status"]["details"]["causes"][1]["field"], "spec.http[0].timeout");
    assert!(response["status"]["message"].as_str().unwrap().starts_with("VirtualService dev/r is not valid: "));
}

#[test]
fn what_is_not_there_yet_is_a_warning() {
    let found = judged(&good(), None, Some(&world(&[])));
    assert_eq!((codes(&found.errors), codes(&found.warnings)), (vec![], vec!["unknown_host"]));
    let mut subset = good();
    subset["spec"]["http"][0]["route"][0]["destination"]["subset"] = json!("v1");
    let found = judged(&subset, None, Some(&world(&[service()])));
    assert_eq!((codes(&found.errors), codes(&found.warnings)), (vec![], vec!["unknown_subset"]));
    let found = judged(&good(), None, Some(&world(&[service()])));
    assert_eq!((codes(&found.errors), codes(&found.warnings)), (vec![], vec![]));
}

#[test]
fn unknown_fields_are_refused_where_they_would_change_what_happens() {
    let mut typo = good();
    typo["spec"]["http"][0]["timeot"] = json!("5s");
    let found = judged(&typo, None, None);
    assert_eq!(codes(&found.errors), ["unknown_field"]);
    let policy = json!({
        "apiVersion": "causeway.dev/v1alpha1", "kind": "AuthorizationPolicy",
        "metadata": {"name": "p", "namespace": "dev"},
        "spec": {"rules": [{"from": [{"source": {"principals": []}}]}]},
    });
    assert_eq!(codes(&judged(&policy, None, None).errors), ["empty_in_rule"]);
}

#[test]
fn all_weights_zero_is_legal() {
    let none = json!({"destination": {"host": "prodsvc.prod"}, "weight": 0});
    let zero = route(&json!([{"route": [none, none]}]));
    let found = judged(&zero, None, Some(&world(&[service()])));
    assert_eq!((codes(&found.errors), codes(&found.warnings)), (vec![], vec!["no_weight"]));
}

#[test]
fn istios_kinds_are_warned_about_and_never_refused() {
    let mut bad = route(&json!([{"match": [{"uri": {"regex": "("}}], "route": []}]));
    bad["apiVersion"] = json!("networking.istio.io/v1beta1");
    let found = judged(&bad, None, Some(&world(&[])));
    assert!(found.errors.is_empty());
    assert!(codes(&found.warnings).contains(&"invalid_regex"), "{found:?}");
}

#[test]
fn an_edit_is_refused_for_what_it_makes_wrong_not_for_what_was() {
    let was = route(&json!([{"timeout": "soon", "route": [{"destination": {"host": "prodsvc.prod"}}]}]));
    let mut labelled = was.clone();
    labelled["metadata"]["finalizers"] = json!([]);
    assert_eq!(judged(&labelled, Some(&was), None), validate::Judgement::default());
    let mut edited = was.clone();
    edited["spec"]["http"][0]["name"] = json!("first");
    let found = judged(&edited, Some(&was), None);
    assert_eq!((codes(&found.errors), codes(&found.warnings)), (vec![], vec!["invalid_duration"]));
    edited["spec"]["http"][0]["match"] = json!([{"uri": {"regex": "("}}]);
    assert_eq!(codes(&judged(&edited, Some(&was), None).errors), ["invalid_regex"]);
}

/// The rule is the one by which a proxy judges its peers.
#[test]
fn the_listeners_certificate_is_no_identity_to_a_proxy() {
    let directory = tempfile::tempdir().unwrap();
    let state = StateDir::open(directory.path()).unwrap();
    let now = crate::clock::unix_now();
    let day = Duration::from_secs(86_400);
    let authority = Arc::new(Authority::open(state, CaFiles::Own, "cluster.local", day, now).unwrap());
    let roots = authority.roots_source()().unwrap();
    let at = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now).unwrap()));
    let judged = |key: &CertifiedKey| {
        let (leaf, rest) = key.cert.split_first().unwrap();
        [svid::Usage::Server, svid::Usage::Client].map(|usage| svid::verify(&roots, leaf, rest, at, usage))
    };
    let (serving, issued) = authority.serving_key(&SERVER_NAMES, now).unwrap();
    for refused in judged(&serving) {
        assert!(matches!(refused, Err(svid::SvidError::San(_))), "{refused:?}");
    }
    assert!(issued.not_after <= now + 86_400);
    let (own, _) = authority.server_key(now).unwrap();
    assert!(judged(&own).iter().all(Result::is_ok));
}

#[test]
fn only_our_webhooks_with_other_roots_are_written() {
    let right = base64::engine::general_purpose::STANDARD.encode("roots");
    let configuration = json!({
        "metadata": {"resourceVersion": "7"},
        "webhooks": [
            {"name": "namespace.inject.causeway.dev", "clientConfig": {"caBundle": right}},
            {"name": "pod.inject.causeway.dev", "clientConfig": {"caBundle": "b2xk"}},
            {"name": "of.somebody.else", "clientConfig": {}},
        ],
    });
    let patch = bundle::difference(&configuration, "roots").unwrap();
    assert_eq!(patch["metadata"]["resourceVersion"], "7");
    assert_eq!(patch["webhooks"], json!([{"name": "pod.inject.causeway.dev", "clientConfig": {"caBundle": right}}]));
    let mut settled = configuration;
    settled["webhooks"][1]["clientConfig"]["caBundle"] = json!(right);
    assert_eq!(bundle::difference(&settled, "roots"), None);
}

#[test]
fn the_installed_configuration_speaks_of_the_names_that_the_code_has() {
    let documents = yaml::documents(CONFIGURATION).unwrap();
    let of = |kind: &str| documents.iter().find(|d| d.value["kind"] == kind).unwrap().value.clone();
    let mutating = of("MutatingWebhookConfiguration");
    assert_eq!(mutating["metadata"]["name"], kubernetes::INJECTOR);
    let validating = of("ValidatingWebhookConfiguration");
    assert_eq!(validating["metadata"]["name"], VALIDATOR);
    for webhook in mutating["webhooks"].as_array().unwrap().iter().chain(validating["webhooks"].as_array().unwrap()) {
        let service = &webhook["clientConfig"]["service"];
        let name = format!("{}.{}.svc", service["name"].as_str().unwrap(), service["namespace"].as_str().unwrap());
        assert!(SERVER_NAMES.contains(&name.as_str()));
        assert!(webhook["clientConfig"].get("caBundle").is_none());
        let selector = webhook["namespaceSelector"].to_string();
        assert!(["kube-system", "causeway-system"].iter().all(|n| selector.contains(n)), "{selector}");
    }
    for name in [inject::PROXY, inject::REDIRECT, inject::INJECT_LABEL, inject::INJECTED_LABEL] {
        assert!(of("ValidatingAdmissionPolicy").to_string().contains(name), "{name}");
    }
    assert!(CONFIGURATION.contains(&format!("!= {}", inject::PROXY_UID)));
}

proptest! {
    #[test]
    fn no_bytes_make_a_review_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = review::read(&bytes);
    }

    #[test]
    fn no_object_makes_an_answer_panic(
        key in "(spec|metadata|kind|apiVersion|hosts|http|containers)",
        inner in "(spec|metadata|kind|name|hosts|http|labels|initContainers)",
        text in "\\PC{0,12}",
        number in any::<i64>(),
    ) {
        for value in [json!(text), json!(number), json!([text]), json!({inner.clone(): text}), json!({inner: [number]})] {
            let mut object = good();
            object[&key] = value;
            for request in [asked("CREATE", &object, &Value::Null), asked("UPDATE", &object, &good())] {
                let _ = review::written("u", &review::inject(&request, &injection()));
                let _ = review::written("u", &review::validate(&request, None, &compile::Settings::default()));
            }
        }
    }
}
