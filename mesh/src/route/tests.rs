use std::cmp::Ordering;
use std::time::Duration;

use proptest::prelude::*;

use super::{Match, NamedMatch, PathRank, Precedence, RequestView, Route, precedence, query_value, select};
use crate::config::action::Action;
use crate::split::Split;
use crate::text::TextMatch;

mod model;

/// A request as text, for tests of routing and policy.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) method: String,
    pub(crate) host: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Request {
    pub(crate) fn get(path: &str) -> Self {
        Self {
            path: path.into(),
            query: String::new(),
            method: "GET".into(),
            host: "prodsvc.prod".into(),
            headers: Vec::new(),
        }
    }

    pub(crate) fn method(self, method: &str) -> Self {
        Self { method: method.into(), ..self }
    }

    fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    fn query(self, query: &str) -> Self {
        Self { query: query.into(), ..self }
    }
}

impl RequestView for Request {
    fn path(&self) -> &str {
        &self.path
    }

    fn query(&self) -> &str {
        &self.query
    }

    fn method(&self) -> &str {
        &self.method
    }

    fn host(&self) -> &str {
        &self.host
    }

    fn header<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

pub(super) fn route(name: &str, matches: Vec<Match>) -> Route {
    Route {
        name: name.into(),
        matches,
        action: Action::Split(Split::new(&[], None, "")),
        timeout: Some(Duration::from_secs(1)),
        filters: None,
        retry: None,
    }
}

fn exact(text: &str) -> TextMatch {
    TextMatch::Exact(text.into())
}

fn named(name: &str, value: TextMatch, invert: bool) -> NamedMatch {
    NamedMatch { name: name.into(), value, invert }
}

fn on_header(name: &str, value: TextMatch, invert: bool) -> Match {
    Match { headers: vec![named(name, value, invert)], ..Match::default() }
}

fn on_query(name: &str, value: TextMatch, invert: bool) -> Match {
    Match { queries: vec![named(name, value, invert)], ..Match::default() }
}

#[test]
fn the_first_route_of_which_any_match_applies_is_taken() {
    let path = |p: &str| Match { path: Some(exact(p)), ..Match::default() };
    let routes = [route("a", vec![path("/a"), path("/b")]), route("b", vec![path("/b")]), route("rest", vec![])];
    let taken = |p: &str| &*select(&routes, &Request::get(p)).unwrap().route.name;
    assert_eq!((taken("/a"), taken("/b"), taken("/c")), ("a", "a", "rest"));
    assert!(select(&routes[..2], &Request::get("/c")).is_none());
    assert!(select(&[], &Request::get("/")).is_none());
}

#[test]
fn every_part_of_a_match_must_hold() {
    let one = Match {
        path: Some(TextMatch::PathPrefix("/shop".into())),
        method: Some("GET".into()),
        headers: vec![named("x-user", exact("ann"), false)],
        queries: vec![named("v", exact("2"), false)],
        authority: Some(exact("prodsvc.prod")),
        ..Match::default()
    };
    let good = Request::get("/shop/a").header("x-user", "ann").query("v=2");
    assert!(one.applies(&good));
    assert!(!one.applies(&Request { path: "/shopping".into(), ..good.clone() }));
    assert!(!one.applies(&good.clone().method("get")), "methods are case-sensitive");
    assert!(!one.applies(&Request { headers: vec![], ..good.clone() }));
    assert!(!one.applies(&good.clone().query("v=3")));
    assert!(!one.applies(&Request { host: "other".into(), ..good }));
}

#[test]
fn an_inverted_match_holds_where_the_value_is_other_or_absent() {
    let not_ann = on_header("x-user", exact("ann"), true);
    assert!(not_ann.applies(&Request::get("/")));
    assert!(not_ann.applies(&Request::get("/").header("x-user", "bob")));
    assert!(!not_ann.applies(&Request::get("/").header("x-user", "bob").header("x-user", "ann")));
    let absent = on_header("x-user", TextMatch::Present, true);
    assert!(absent.applies(&Request::get("/")) && !absent.applies(&Request::get("/").header("x-user", "")));
    let no_v = on_query("v", TextMatch::Present, true);
    assert!(no_v.applies(&Request::get("/").query("w=1")) && !no_v.applies(&Request::get("/").query("v")));
}

#[test]
fn a_header_given_twice_is_seen_by_each_value_and_joined() {
    let request = Request::get("/").header("x-group", " beta").header("x-group", "staff\t");
    for value in ["beta", "staff", "beta,staff"] {
        assert!(on_header("x-group", exact(value), false).applies(&request), "{value}");
    }
    assert!(!on_header("x-group", exact("staff,beta"), false).applies(&request));
}

#[test]
fn the_first_query_parameter_of_a_name_counts() {
    assert_eq!(query_value("a=1&b=2&a=3", "a"), Some("1"));
    assert_eq!(query_value("a&b=", "a"), Some(""));
    assert_eq!(query_value("a&b=x=y", "b"), Some("x=y"));
    assert_eq!(query_value("", "a"), None);
    assert_eq!(query_value("aa=1&A=2", "a"), None);
}

fn ranks() -> impl Strategy<Value = PathRank> {
    prop_oneof![
        Just(PathRank::None),
        Just(PathRank::Regex),
        (1usize..3).prop_map(PathRank::Prefix),
        Just(PathRank::Exact)
    ]
}

prop_compose! {
    /// From a small world, so that all but one field are often equal.
    fn precedences()(exact_host: bool, host_length in 0usize..2, path in ranks(), method: bool, headers in 0usize..2,
                     queries in 0usize..2, created in 0i64..2, name in "[ab]", index in 0usize..2) -> Precedence {
        Precedence { exact_host, host_length, path, method, headers, queries, created, name, index }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn precedence_is_a_total_order(a in precedences(), b in precedences(), c in precedences()) {
        prop_assert_eq!(precedence(&a, &b), precedence(&b, &a).reverse());
        prop_assert_eq!(precedence(&a, &b) == Ordering::Equal, a == b);
        if precedence(&a, &b).is_le() && precedence(&b, &c).is_le() {
            prop_assert!(precedence(&a, &c).is_le());
        }
    }

    #[test]
    fn precedence_is_that_of_the_model(a in precedences(), b in precedences()) {
        prop_assert_eq!(precedence(&a, &b).is_lt(), a != b && model::goes_before(&a, &b));
    }
}
