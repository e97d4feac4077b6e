//! Backends: which may be named, and what becomes of those that may not.

use super::*;

fn grant(from: &str, to: &str) -> String {
    let spec = format!("from: [{from}]\nto: [{to}]");
    route("ReferenceGrant", "prod", "grant", &spec)
}

fn consumer(backend: &str) -> String {
    let spec = format!(
        "parentRefs: [{{group: '', kind: Service, name: other}}]\nrules: [{{backendRefs: [{{name: other, port: 80}}, {backend}]}}]"
    );
    route("HTTPRoute", "dev", "r", &spec)
}

const FROM: &str = "{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: dev}";

#[test]
fn a_backend_of_another_namespace_needs_a_grant_there() {
    let backend = "{name: shop, namespace: prod, port: 80}";
    let judged = |grant: &str| {
        let model = model(&[world(), consumer(backend), grant.to_owned()].concat());
        (found(&model), broken(&seen_from(&model, "dev", "other:80")).len())
    };
    let refused = (vec!["reference_not_permitted spec.rules[0].backendRefs[1].namespace".to_owned()], 1);
    let (any, other) = ("{group: '', kind: Service}", "{group: '', kind: Service, name: canary}");
    assert_eq!(judged(""), refused);
    assert_eq!(judged(&grant(FROM, any)), (vec![], 0));
    assert_eq!(judged(&grant(FROM, "{group: '', kind: Service, name: shop}")), (vec![], 0));
    assert_eq!(judged(&grant(FROM, other)), refused);
    assert_eq!(judged(&grant(&FROM.replace("HTTPRoute", "GRPCRoute"), any)), refused);
    assert_eq!(judged(&grant(&FROM.replace("dev", "staging"), any)), refused);
    assert_eq!(judged(&grant(FROM, "{group: '', kind: Secret}")), refused);
}

#[test]
fn a_grant_that_says_something_unknown_grants_nothing() {
    let backend = "{name: shop, namespace: prod, port: 80}";
    let grant = grant(FROM, "{group: '', kind: Service, labels: {a: b}}");
    let model = model(&[world(), consumer(backend), grant].concat());
    assert_eq!(broken(&seen_from(&model, "dev", "other:80")).len(), 1);
}

#[test]
fn what_is_no_service_or_does_not_exist_is_broken_and_keeps_its_share() {
    let judged = |backend: &str| {
        let model = model(&[world(), consumer(backend)].concat());
        let destination = seen_from(&model, "dev", "other:80");
        let effective: Vec<u32> = split_of(&destination.routes[0]).backends.iter().map(|w| w.effective).collect();
        assert_eq!((effective, broken(&destination).len()), (vec![1, 1], 1), "{backend}");
        found(&model)
    };
    assert_eq!(judged("{name: gone, port: 80}"), ["unknown_service spec.rules[0].backendRefs[1].name"]);
    assert_eq!(judged("{name: other, port: 81}"), ["unknown_port spec.rules[0].backendRefs[1].port"]);
    assert_eq!(judged("{name: other}"), ["unknown_port spec.rules[0].backendRefs[1].port"]);
    assert_eq!(judged("{name: b, kind: Bucket, port: 80}"), ["unsupported_backend spec.rules[0].backendRefs[1].kind"]);
    assert_eq!(
        judged("{name: b, group: x.io, kind: Bucket}"),
        ["unsupported_backend spec.rules[0].backendRefs[1].group"]
    );
}

#[test]
fn a_rule_without_backend_is_answered_with_an_error() {
    let model = http("\n- matches: [{path: {value: /a}}]");
    assert_eq!(found(&model), ["no_destination spec.rules[0].backendRefs"]);
    assert_eq!(broken(&seen_from(&model, "dev", "shop.prod:80")), ["HTTPRoute prod/r spec.rules[0] names no backend"]);
}

#[test]
fn a_parent_that_does_not_exist_is_told_and_the_others_hold() {
    let spec = "parentRefs: [{group: '', kind: Service, name: gone}, {group: '', kind: Service, name: shop}]\nrules: [{backendRefs: [{name: shop, port: 80}]}]";
    let model = model(&[world(), route("HTTPRoute", "prod", "r", spec)].concat());
    assert_eq!(found(&model), ["unknown_parent spec.parentRefs[0].name"]);
    assert_eq!(seen_from(&model, "dev", "shop.prod:80").routes.len(), 1);
    let parents = &subject(&model, "r").parents.as_ref().unwrap().services;
    assert_eq!(parents.iter().map(|(i, p)| (*i, p.name.as_str())).collect::<Vec<_>>(), [(0, "gone"), (1, "shop")]);
}
