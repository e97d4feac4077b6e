//! Preflights and actual requests, by the Fetch standard.

use std::time::Duration;

use proptest::prelude::*;

use crate::config::action::cors::{Asked, Cors, Decision, Listed};
use crate::text::TextMatch;

const SHOP: &str = "https://shop.example";

fn cors() -> Cors {
    Cors {
        origins: vec![TextMatch::Exact(SHOP.into())],
        methods: Listed::These("GET, PUT".into()),
        headers: Listed::These("x-user".into()),
        expose: Listed::These("x-trace".into()),
        max_age: Some(Duration::from_secs(600)),
        credentials: false,
        forward_unmatched: false,
    }
}

fn preflight(origin: &str) -> Asked<'_> {
    let (wanted_method, wanted_headers) = (Some("PUT"), Some("x-user,x-other"));
    Asked { method: "OPTIONS", origin: Some(origin), wanted_method, wanted_headers }
}

fn actual(origin: &str) -> Asked<'_> {
    Asked { method: "GET", origin: Some(origin), wanted_method: None, wanted_headers: None }
}

fn headers(decision: Decision) -> Vec<String> {
    let (Decision::Answer(headers) | Decision::Mark(headers)) = decision else { panic!("{decision:?}") };
    headers.into_iter().map(|(name, value)| format!("{}: {value}", name.replace("access-control-", ""))).collect()
}

#[test]
fn a_preflight_of_an_allowed_origin_is_answered() {
    let want = [
        "allow-origin: https://shop.example",
        "vary: origin",
        "allow-methods: GET, PUT",
        "allow-headers: x-user",
        "max-age: 600",
    ];
    assert_eq!(headers(cors().decide(&preflight(SHOP))), want);
}

#[test]
fn a_preflight_of_another_origin_is_answered_with_nothing_or_forwarded() {
    assert_eq!(cors().decide(&preflight("https://evil.example")), Decision::Answer(vec![]));
    let forwarding = Cors { forward_unmatched: true, ..cors() };
    assert_eq!(forwarding.decide(&preflight("https://evil.example")), Decision::Pass);
}

#[test]
fn an_actual_request_gets_its_marks() {
    let want = ["allow-origin: https://shop.example", "vary: origin", "expose-headers: x-trace"];
    assert_eq!(headers(cors().decide(&actual(SHOP))), want);
    assert_eq!(cors().decide(&actual("https://evil.example")), Decision::Pass);
    assert_eq!(cors().decide(&Asked { origin: None, ..actual("") }), Decision::Pass);
    // OPTIONS without a method that is wanted is no preflight.
    let options = Asked { method: "OPTIONS", ..actual(SHOP) };
    assert!(matches!(cors().decide(&options), Decision::Mark(_)));
    let other = Asked { method: "GET", ..preflight(SHOP) };
    assert!(matches!(cors().decide(&other), Decision::Mark(_)), "nor is a GET that wants one");
}

#[test]
fn a_wildcard_is_a_star_without_credentials_and_what_was_asked_for_with_them() {
    let any = Cors {
        origins: vec![TextMatch::Present],
        methods: Listed::Any,
        headers: Listed::Any,
        expose: Listed::Nothing,
        max_age: None,
        ..cors()
    };
    assert_eq!(headers(any.decide(&preflight(SHOP))), ["allow-origin: *", "allow-methods: *", "allow-headers: *"]);
    let with = Cors { credentials: true, ..any };
    let want = [
        "allow-origin: https://shop.example",
        "vary: origin",
        "allow-credentials: true",
        "allow-methods: PUT",
        "allow-headers: x-user,x-other",
    ];
    assert_eq!(headers(with.decide(&preflight(SHOP))), want);
}

proptest! {
    /// The one thing that must never happen: credentials together with a star, or an origin that nobody listed.
    #[test]
    fn no_other_origin_is_ever_allowed(origin in "https?://[a-z.]{1,20}", method in prop_oneof![Just("GET"), Just("OPTIONS")], wanted in prop::option::of(Just("PUT")), credentials: bool, any: bool) {
        let origins = if any { vec![TextMatch::Present] } else { vec![TextMatch::Suffix(".shop".into())] };
        let cors = Cors { origins, credentials, methods: Listed::Any, headers: Listed::Any, ..cors() };
        let asked = Asked { method, origin: Some(&origin), wanted_method: wanted, wanted_headers: Some("x") };
        if let Decision::Answer(headers) | Decision::Mark(headers) = cors.decide(&asked) {
            let allowed = headers.iter().find(|(name, _)| *name == "access-control-allow-origin").map(|(_, v)| v.as_str());
            match allowed {
                Some("*") => prop_assert!(any && !credentials),
                Some(named) => prop_assert!(named == origin && (any || origin.ends_with(".shop"))),
                None => prop_assert!(headers.is_empty() && !any && !origin.ends_with(".shop")),
            }
            prop_assert!(!credentials || headers.iter().all(|(_, v)| v != "*"));
        }
    }
}
