//! Which match comes before which.

use super::*;

fn order(documents: &str) -> Vec<String> {
    let model = model(&format!("{}{documents}", world()));
    assert_eq!(found(&model), [] as [&str; 0]);
    seen_from(&model, "dev", "shop.prod:80").routes.into_iter().map(|r| r.name).collect()
}

fn parent(rules: &str) -> String {
    format!("parentRefs: [{{group: '', kind: Service, name: shop}}]\nrules:\n{rules}")
}

const TO_SHOP: &str = "backendRefs: [{name: shop, port: 80}]";

#[test]
fn a_prefix_that_every_path_has_asks_nothing_in_either_api() {
    let regex = "{path: {type: RegularExpression, value: '/[a-z]+'}}";
    let rules =
        parent(&format!("- {{matches: [{{path: {{value: /}}}}], {TO_SHOP}}}\n- {{matches: [{regex}], {TO_SHOP}}}"));
    assert_eq!(order(&route("HTTPRoute", "prod", "r", &rules)), ["prod/r#1", "prod/r#0"]);
    let regex = route("HTTPRoute", "prod", "r", &parent(&format!("- {{matches: [{regex}], {TO_SHOP}}}")));
    for matched in ["match: [{uri: {prefix: /}}], ", "rewrite: {uri: /x}, ", ""] {
        let spec = format!("  hosts: [shop]\n  http: [{{{matched}route: [{{destination: {{host: shop}}}}]}}]\n");
        let ours = format!(
            "---\napiVersion: causeway.dev/v1alpha1\nkind: VirtualService\nmetadata: {{name: a, namespace: prod}}\nspec:\n{spec}"
        );
        assert_eq!(order(&format!("{ours}{regex}")), ["prod/r#0", "prod/a#0"], "{matched}");
    }
}

#[test]
fn a_match_on_host_counts_as_one_on_a_header() {
    let one = "headers: [{name: x-a, value: b}]";
    let two = "headers: [{name: x-b, value: b}, {name: Host, value: shop.prod}]";
    let rules = parent(&format!("- {{matches: [{{{one}}}], {TO_SHOP}}}\n- {{matches: [{{{two}}}], {TO_SHOP}}}"));
    assert_eq!(order(&route("HTTPRoute", "prod", "r", &rules)), ["prod/r#1", "prod/r#0"]);
}

#[test]
fn an_http_route_without_rules_has_the_one_that_the_standard_puts_there() {
    let spec = "parentRefs: [{group: '', kind: Service, name: shop}]";
    let text = |kind: &str| format!("{}{}", world(), route(kind, "prod", "r", spec));
    let model_of = |kind: &str| model(&text(kind));
    let http = model_of("HTTPRoute");
    assert_eq!(found(&http), ["no_destination spec.rules[0].backendRefs"]);
    let destination = seen_from(&http, "dev", "shop.prod:80");
    assert_eq!((destination.routes.len(), broken(&destination).len()), (1, 1), "every request is answered with 500");
    assert!(seen_from(&model_of("GRPCRoute"), "dev", "shop.prod:80").routes.is_empty(), "it puts none in a GRPCRoute");
}
