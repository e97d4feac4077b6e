//! A second, slow `select`, written from the words of the Gateway API and not from the code: all rules that match are
//! found by comparing characters, then one criterion after another strikes rules out until one is left.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::{Match, PathRank, Precedence, Request, Route, TextMatch, exact, named, precedence, route, select};

static LETTERS: LazyLock<TextMatch> = LazyLock::new(|| TextMatch::regex("/[a-z]+").unwrap());

/// A rule as its author thinks of it.
#[derive(Clone, Debug)]
struct Rule {
    host: Host,
    path: Option<Path>,
    method: Option<&'static str>,
    headers: Vec<(&'static str, &'static str)>,
    queries: Vec<(&'static str, &'static str)>,
    created: i64,
    index: usize,
}

#[derive(Clone, Debug)]
enum Host {
    Exact(&'static str),
    Below(&'static str),
}

#[derive(Clone, Debug)]
enum Path {
    Exact(&'static str),
    Prefix(&'static str),
    Letters,
}

pub(super) fn goes_before(a: &Precedence, b: &Precedence) -> bool {
    let rank = |p: PathRank| match p {
        PathRank::Exact => (3, 0),
        PathRank::Prefix(length) => (2, length),
        PathRank::Regex => (1, 0),
        PathRank::None => (0, 0),
    };
    // More is better, down to the age; then less is better.
    let more = |p: &Precedence| {
        let path = rank(p.path);
        [usize::from(p.exact_host), p.host_length, path.0, path.1, usize::from(p.method), p.headers, p.queries]
    };
    for (mine, theirs) in more(a).into_iter().zip(more(b)) {
        if mine != theirs {
            return mine > theirs;
        }
    }
    if a.created != b.created {
        return a.created < b.created;
    }
    if a.name != b.name {
        return a.name < b.name;
    }
    a.index < b.index
}

fn path_holds(path: &Path, have: &str) -> bool {
    match path {
        Path::Exact(want) => have == *want,
        Path::Prefix(want) => {
            let (want, have): (Vec<_>, Vec<_>) = (want.split('/').collect(), have.split('/').collect());
            have.len() >= want.len() && want.iter().zip(&have).all(|(w, h)| w == h)
        }
        Path::Letters => have.len() > 1 && have[1..].chars().all(|c| c.is_ascii_lowercase()),
    }
}

impl Rule {
    fn holds(&self, request: &Request) -> bool {
        let host = match self.host {
            Host::Exact(want) => request.host == want,
            Host::Below(want) => request.host.len() > want.len() && request.host.ends_with(want),
        };
        let header = |(name, value): &(&str, &str)| {
            let values: Vec<&str> = request.headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.trim()).collect();
            values.contains(value) || values.join(",") == *value && !values.is_empty()
        };
        let query = |(name, value): &(&str, &str)| {
            let first = request.query.split('&').find(|p| p.split('=').next() == Some(name));
            first.is_some_and(|p| p.get(name.len() + 1..).unwrap_or_default() == *value)
        };
        host && self.path.as_ref().is_none_or(|p| path_holds(p, &request.path))
            && self.method.is_none_or(|m| m == request.method)
            && self.headers.iter().all(header)
            && self.queries.iter().all(query)
    }

    fn precedence(&self) -> Precedence {
        let (exact_host, host) = match self.host {
            Host::Exact(h) => (true, h),
            Host::Below(h) => (false, h),
        };
        Precedence {
            exact_host,
            host_length: host.len(),
            path: match self.path {
                None => PathRank::None,
                Some(Path::Letters) => PathRank::Regex,
                Some(Path::Prefix(p)) => PathRank::Prefix(p.len()),
                Some(Path::Exact(_)) => PathRank::Exact,
            },
            method: self.method.is_some(),
            headers: self.headers.len(),
            queries: self.queries.len(),
            created: self.created,
            name: "dev/vs".into(),
            index: self.index,
        }
    }

    fn route(&self) -> Route {
        let pairs = |list: &[(&str, &str)]| list.iter().map(|(n, v)| named(n, exact(v), false)).collect();
        let one = Match {
            path: self.path.as_ref().map(|p| match p {
                Path::Exact(p) => exact(p),
                Path::Prefix(p) => TextMatch::PathPrefix((*p).into()),
                Path::Letters => LETTERS.clone(),
            }),
            method: self.method.map(Into::into),
            headers: pairs(&self.headers),
            queries: pairs(&self.queries),
            authority: Some(match self.host {
                Host::Exact(h) => exact(h),
                Host::Below(h) => TextMatch::Suffix(h.into()),
            }),
            ..Match::default()
        };
        route(&self.index.to_string(), vec![one])
    }
}

fn sorted(rules: &[Rule]) -> Vec<Route> {
    let mut rules: Vec<&Rule> = rules.iter().collect();
    rules.sort_by(|a, b| precedence(&a.precedence(), &b.precedence()));
    rules.iter().map(|r| r.route()).collect()
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let host = prop_oneof![
        Just(Host::Exact("shop.prod")),
        Just(Host::Exact("api.shop.prod")),
        Just(Host::Below(".prod")),
        Just(Host::Below(".shop.prod"))
    ];
    let path = prop_oneof![
        Just(Path::Exact("/a")),
        Just(Path::Exact("/a/b")),
        Just(Path::Prefix("/a")),
        Just(Path::Prefix("/a/b")),
        Just(Path::Letters)
    ];
    let method = prop::option::of(prop_oneof![Just("GET"), Just("POST")]);
    let pairs = || {
        prop::collection::vec((prop_oneof![Just("x"), Just("y")], prop_oneof![Just("1"), Just("2"), Just("1,2")]), 0..3)
    };
    let one = (host, prop::option::of(path), method, pairs(), pairs(), 0i64..2);
    prop::collection::vec(one, 0..8).prop_map(|rules| {
        let rule = |(index, (host, path, method, headers, queries, created))| Rule {
            host,
            path,
            method,
            headers,
            queries,
            created,
            index,
        };
        rules.into_iter().enumerate().map(rule).collect()
    })
}

prop_compose! {
    fn requests()(
        path in prop_oneof![Just("/"), Just("/a"), Just("/a/"), Just("/a/b"), Just("/a/b/c"), Just("/ab"), Just("/A"), Just("*")],
        query in prop_oneof![Just(""), Just("x=1"), Just("x=1&y=2"), Just("y=2&y=1&x"), Just("xx=1&x=2")],
        method in prop_oneof![Just("GET"), Just("POST"), Just("get")],
        host in prop_oneof![Just("shop.prod"), Just("api.shop.prod"), Just("xshop.prod"), Just("prod")],
        headers in prop::collection::vec((prop_oneof![Just("x"), Just("y")], prop_oneof![Just("1"), Just(" 2 "), Just("")]), 0..4),
    ) -> Request {
        let headers = headers.into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        Request { path: path.into(), query: query.into(), method: method.into(), host: host.into(), headers }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_selected_route_is_that_of_the_model(rules in rules(), request in requests()) {
        let holding: Vec<&Rule> = rules.iter().filter(|r| r.holds(&request)).collect();
        let best: Vec<_> = holding
            .iter()
            .filter(|r| holding.iter().all(|o| o.index == r.index || goes_before(&r.precedence(), &o.precedence())))
            .collect();
        prop_assert!(best.len() <= 1 && best.is_empty() == holding.is_empty(), "the model itself is a total order");
        let routes = sorted(&rules);
        let selected = select(&routes, &request).map(|s| s.route.name.to_string());
        prop_assert_eq!(selected, best.first().map(|r| r.index.to_string()));
    }

    #[test]
    fn a_rule_that_does_not_match_changes_nothing(rules in rules(), request in requests()) {
        let holding: Vec<Rule> = rules.iter().filter(|r| r.holds(&request)).cloned().collect();
        let name = |routes: &[Route]| select(routes, &request).map(|s| s.route.name.clone());
        prop_assert_eq!(name(&sorted(&rules)), name(&sorted(&holding)));
    }

    #[test]
    fn the_order_in_which_rules_are_read_changes_nothing(rules in rules().prop_shuffle(), request in requests()) {
        let name = |rules: &[Rule]| select(&sorted(rules), &request).map(|s| s.route.name.clone());
        let mut other = rules.clone();
        other.sort_by_key(|r| r.index);
        prop_assert_eq!(name(&rules), name(&other));
    }
}
