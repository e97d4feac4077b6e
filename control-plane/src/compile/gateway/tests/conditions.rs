//! Conditions of rules.

use super::*;
use causeway_mesh::wire::string_match::Kind;

fn one(matches: &str) -> wire::Match {
    let model = http(&format!("\n- matches: [{matches}]\n  backendRefs: [{{name: shop, port: 80}}]"));
    assert_eq!(found(&model), [] as [&str; 0], "{matches}");
    seen_from(&model, "dev", "shop.prod:80").routes[0].matches[0].clone()
}

fn text(of: Option<&wire::StringMatch>) -> Kind {
    of.unwrap().kind.clone().unwrap()
}

#[test]
fn paths_are_prefixes_by_segments_unless_said_otherwise() {
    assert_eq!(text(one("{path: {value: /a/}}").path.as_ref()), Kind::PathPrefix("/a".into()));
    assert_eq!(text(one("{path: {type: Exact, value: /a/}}").path.as_ref()), Kind::Exact("/a/".into()));
    let regex = "{path: {type: RegularExpression, value: '/a[0-9]+'}}";
    assert_eq!(text(one(regex).path.as_ref()), Kind::Regex("/a[0-9]+".into()));
}

#[test]
fn of_a_name_that_is_there_twice_the_first_counts_and_host_is_the_authority() {
    let found = one(
        "{headers: [{name: X-A, value: '1'}, {name: x-a, value: '2'}, {name: Host, value: 'Shop.Example.com:80'}], queryParams: [{name: q, value: '1'}, {name: q, value: '2'}, {name: Q, type: RegularExpression, value: '.'}]}",
    );
    let names = |all: &[wire::NamedMatch]| -> Vec<(String, Kind)> {
        all.iter().map(|m| (m.name.clone(), text(m.value.as_ref()))).collect()
    };
    assert_eq!(names(&found.headers), [("x-a".into(), Kind::Exact("1".into()))]);
    assert_eq!(names(&found.queries), [("q".into(), Kind::Exact("1".into())), ("Q".into(), Kind::Regex(".".into()))]);
    assert_eq!(text(found.authority.as_ref()), Kind::Exact("shop.example.com".into()));
}

#[test]
fn a_rule_with_a_condition_that_is_not_clear_takes_nothing_and_the_others_hold() {
    let cases = [
        ("{path: {type: Glob, value: /a}}", "unknown_value", "path.type"),
        ("{path: {value: a}}", "invalid_path", "path.value"),
        ("{path: {value: /a/../b}}", "invalid_path", "path.value"),
        ("{path: {type: RegularExpression, value: '('}}", "invalid_regex", "path.value"),
        ("{method: 'G T'}", "invalid_method", "method"),
        ("{headers: [{name: 'a b', value: x}]}", "invalid_header", "headers[0].name"),
        ("{headers: [{type: Suffix, name: a, value: x}]}", "unknown_value", "headers[0].type"),
        ("{cookies: [{name: a, value: x}]}", "unknown_field", "cookies"),
    ];
    for (matches, code, field) in cases {
        let model = http(&format!(
            "\n- matches: [{{method: GET}}, {matches}]\n  backendRefs: [{{name: canary, port: 80}}]\n- backendRefs: [{{name: shop, port: 80}}]"
        ));
        assert_eq!(found(&model), [format!("{code} spec.rules[0].matches[1].{field}")], "{matches}");
        let routes = seen_from(&model, "dev", "shop.prod:80").routes;
        assert_eq!(routes.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["prod/r#1"], "{matches}");
    }
}
