#![allow(clippy::unwrap_used)]
use super::*;
use crate::fields::leaves;
use crate::support::{IMPLEMENTED, NOT_IMPLEMENTED, rooted};
use serde_json::json;

fn is_below(leaf: &str, path: &str) -> bool {
    leaf.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[', '{']))
}

#[test]
fn every_field_is_either_implemented_or_reported() {
    for manifest in manifests().into_iter().chain(crate::gateway::schemas()) {
        let mut all = Vec::new();
        leaves(manifest.spec_schema().unwrap(), "spec", &mut all);
        assert!(!all.is_empty());
        for leaf in all {
            let leaf = rooted(&leaf);
            let (more, less) = (crate::gateway::support::IMPLEMENTED, crate::gateway::support::NOT_IMPLEMENTED);
            let done =
                IMPLEMENTED.iter().chain(more).filter(|(k, p)| *k == manifest.kind && is_below(&leaf, p)).count();
            let not = NOT_IMPLEMENTED
                .iter()
                .chain(less)
                .filter(|(k, p, _)| *k == manifest.kind && is_below(&leaf, p))
                .count();
            assert_eq!(done + not, 1, "{} {leaf}", manifest.kind);
        }
    }
}

#[test]
fn every_field_has_a_description_and_no_default() {
    fn walk(schema: &Value, path: &str) {
        assert!(schema.get("default").is_none(), "{path}");
        for (name, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let path = format!("{path}.{name}");
            assert!(inner.get("description").is_some(), "{path} has no description");
            walk(inner, &path);
        }
        for part in ["items", "additionalProperties"] {
            schema.get(part).into_iter().for_each(|inner| walk(inner, path));
        }
    }
    manifests().iter().chain(&crate::gateway::schemas()).for_each(|m| walk(m.spec_schema().unwrap(), &m.kind));
}

fn only(kind: &str, spec: impl Into<Value>) -> Finding {
    let mut found = check(kind, &spec.into());
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

#[test]
fn a_typo_is_unknown_and_names_the_nearest_field() {
    let found = only("VirtualService", json!({"hosts": ["a"], "http": [{"rout": []}]}));
    assert_eq!(found.path, "spec.http[0].rout");
    assert_eq!(found.what, What::Unknown { suggestion: Some("route".into()) });
}

#[test]
fn a_negative_weight_is_invalid() {
    let route = json!({"destination": {"host": "a"}, "weight": -10});
    let found = only("VirtualService", json!({"hosts": ["a"], "http": [{"route": [route]}]}));
    assert_eq!(found.path, "spec.http[0].route[0].weight");
    assert!(matches!(found.what, What::Invalid { code: "negative_weight", .. }));
}

#[test]
fn a_weight_may_be_a_fraction() {
    let route = json!({"destination": {"host": "a"}, "weight": 0.5});
    assert_eq!(check("VirtualService", &json!({"hosts": ["a"], "http": [{"route": [route]}]})), []);
}

#[test]
fn a_wrong_type_says_what_was_expected() {
    let found = only("DestinationRule", json!({"host": "a", "subsets": {"name": "v1"}}));
    assert_eq!(found.path, "spec.subsets");
    let What::Invalid { code: "wrong_type", message } = found.what else { panic!("{:?}", found.what) };
    assert_eq!(message, "expected a list, found a mapping");
}

#[test]
fn a_missing_host_is_invalid() {
    let found = only("DestinationRule", json!({}));
    assert_eq!(found.path, "spec.host");
}

#[test]
fn an_unknown_value_lists_the_choices() {
    let found = only("PeerAuthentication", json!({"mtls": {"mode": "strict"}}));
    let What::Invalid { code: "unknown_value", message } = found.what else { panic!("{:?}", found.what) };
    assert!(message.contains("STRICT"), "{message}");
}

#[test]
fn what_is_not_implemented_is_reported_once_and_not_entered() {
    let tunnel = json!({"protocol": "CONNECT"});
    let found = only("DestinationRule", json!({"host": "a", "trafficPolicy": {"tunnel": tunnel}}));
    assert_eq!(found.path, "spec.trafficPolicy.tunnel");
    assert!(matches!(found.what, What::NotImplemented(Effect::Ignored(_))));
}

#[test]
fn an_empty_list_in_a_policy_is_not_taken_for_everybody() {
    for source in [json!({"principals": []}), json!({"namespaces": null})] {
        let found = only("AuthorizationPolicy", json!({"rules": [{"from": [{"source": source}]}]}));
        assert_eq!(found.what, What::Empty);
    }
    let found = only("AuthorizationPolicy", json!({"rules": [{"from": [{"source": {}}]}]}));
    assert_eq!((found.path.as_str(), found.what), ("spec.rules[0].from[0].source", What::Empty));
}

#[test]
fn the_policy_of_a_subset_is_checked_like_that_of_the_rule() {
    let subset = json!({"name": "v1", "trafficPolicy": {"tunnel": {}}});
    let found = only("DestinationRule", json!({"host": "a", "subsets": [subset]}));
    assert_eq!(found.path, "spec.subsets[0].trafficPolicy.tunnel");
}

#[test]
fn everything_that_a_peer_can_send_is_bounded() {
    fn walk(schema: &Value, path: &str) {
        let has = |name: &str| schema.get(name).is_some();
        match schema.get("type").and_then(Value::as_str) {
            Some("string") => assert!(has("maxLength") || has("enum"), "{path} has no maxLength"),
            Some("array") => assert!(has("maxItems"), "{path} has no maxItems"),
            Some("object") => assert!(has("properties") || has("maxProperties"), "{path} has no maxProperties"),
            _ => {}
        }
        for (name, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            walk(inner, &format!("{path}.{name}"));
        }
        for part in ["items", "additionalProperties"] {
            schema.get(part).into_iter().for_each(|inner| walk(inner, &format!("{path}[]")));
        }
    }
    manifests().iter().chain(&crate::gateway::schemas()).for_each(|m| walk(m.spec_schema().unwrap(), &m.kind));
}
