#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;
use serde_json::json;

#[test]
fn lines_are_those_of_the_keys() {
    let text = "# first\nkind: A\n---\nkind: B\nspec:\n  http:\n  - route:\n    - weight: 1\n    - weight: 2\n";
    let found = documents(text).unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].line, found[1].line), (2, 4));
    assert_eq!(found[1].value, json!({"kind": "B", "spec": {"http": [{"route": [{"weight": 1}, {"weight": 2}]}]}}));
    assert_eq!(found[1].lines["spec.http[0].route[1].weight"], 9);
    assert_eq!(found[1].lines["spec.http[0].route[0]"], 8);
}

#[test]
fn json_is_yaml() {
    let found = documents("{\n\t\"kind\": \"A\",\n\t\"list\": [1,\n2]}").unwrap();
    assert_eq!(found[0].value, json!({"kind": "A", "list": [1, 2]}));
    assert_eq!(found[0].lines["list[1]"], 4);
}

#[test]
fn a_broken_document_names_its_line() {
    let error = documents("kind: A\nspec:\n  a: [1, 2\n  b: }\n").unwrap_err();
    assert!(error.line >= 3, "{error:?}");
}

#[test]
fn a_key_that_stands_twice_is_refused() {
    assert!(documents("a: 1\na: 2\n").unwrap_err().message.contains("duplicate"));
    assert!(documents("1: 1\n'1': 2\n").unwrap_err().message.contains("twice"));
}

#[test]
fn empty_documents_are_left_out() {
    assert_eq!(documents("---\n---\n# nothing\n---\na: 1\n").unwrap().len(), 1);
    assert_eq!(documents("").unwrap().len(), 0);
}

#[test]
fn the_lines_of_a_document_after_an_empty_one_are_its_own() {
    let found = documents("---\n# nothing\n---\na: 1\n").unwrap();
    assert_eq!(found[0].line, 4);
}

#[test]
fn a_bomb_of_aliases_is_refused_before_it_is_expanded() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..30 {
        let before = format!("*a{}", i - 1);
        text += &format!("a{i}: &a{i} [{}]\n", vec![before; 10].join(", "));
    }
    assert!(documents(&text).unwrap_err().message.contains("aliases"));
}

#[test]
fn a_long_key_above_many_values_is_cheap() {
    let text = format!("{}:\n{}", "k".repeat(1000), "- 1\n".repeat(20_000));
    let found = documents(&text).unwrap();
    assert!(found[0].lines.len() < 10, "{}", found[0].lines.len());
}

#[test]
fn deep_nesting_is_refused() {
    assert!(documents(&"[".repeat(5000)).is_err());
    assert!(documents(&("- ".repeat(5000) + "x")).is_err());
}

#[test]
fn numbers_may_be_keys() {
    assert_eq!(documents("8080: {mode: STRICT}").unwrap()[0].value, json!({"8080": {"mode": "STRICT"}}));
}

#[test]
fn aliases_and_merge_keys_are_expanded() {
    let found = documents("base: &b {x: 1}\nuse:\n  <<: *b\n  y: 2\n").unwrap();
    assert_eq!(found[0].value["use"], json!({"x": 1, "y": 2}));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[ -~\n\t&*{}\\[\\]:,#-]{0,200}") {
        let _ = documents(&text);
    }
}
