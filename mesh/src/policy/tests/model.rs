//! A second, slow `authorize`, written from the words of the design and not from the code, and a small world to try
//! both in.

use proptest::prelude::*;

use super::{
    Decision, Inbound, MtlsMode, Operation, Peer, Policy, Principal, Rule, Source, authorize, authorize_tcp, id,
    is_allowed,
};
use crate::path::{normalise, variants};
use crate::route::tests::Request;
use crate::text::TextMatch;

#[derive(Clone, Copy, PartialEq)]
enum Truth {
    Yes,
    No,
    /// It depends on HTTP, and there are only bytes.
    Unknown,
}

use Truth::{No, Unknown, Yes};

fn truth(is: bool) -> Truth {
    if is { Yes } else { No }
}

fn and(parts: impl IntoIterator<Item = Truth>) -> Truth {
    parts.into_iter().fold(Yes, |all, one| match (all, one) {
        (No, _) | (_, No) => No,
        (Unknown, _) | (_, Unknown) => Unknown,
        _ => Yes,
    })
}

fn or(parts: impl IntoIterator<Item = Truth>) -> Truth {
    parts.into_iter().fold(No, |any, one| match (any, one) {
        (Yes, _) | (_, Yes) => Yes,
        (Unknown, _) | (_, Unknown) => Unknown,
        _ => No,
    })
}

/// An empty list asks nothing, a full one for one of its entries; no entry of the other list may hold.
fn lists<T>(some: &[T], none: &[T], holds: impl Fn(&T) -> bool) -> Truth {
    let asked = some.is_empty() || some.iter().filter(|x| holds(x)).count() > 0;
    truth(asked && none.iter().filter(|x| holds(x)).count() == 0)
}

fn source(source: &Source, peer: &Peer) -> Truth {
    let name = peer.id().map(ToString::to_string);
    let principal = |p: &Principal| match p {
        Principal::Any => name.is_some(),
        Principal::Id(id) => name == Some(id.to_string()),
    };
    let namespace = |n: &String| name.as_ref().is_some_and(|name| name.split('/').nth(4) == Some(n));
    and([
        lists(&source.principals, &source.not_principals, principal),
        lists(&source.namespaces, &source.not_namespaces, namespace),
    ])
}

fn operation(o: &Operation, port: u16, request: Option<&Request>, path: &str) -> Truth {
    let ports = lists(&o.ports, &o.not_ports, |p| *p == port);
    let http = match request {
        Some(r) => and([
            lists(&o.methods, &o.not_methods, |m| *m == r.method),
            lists(&o.hosts, &o.not_hosts, |h| h.is_match(&r.host)),
            lists(&o.paths, &o.not_paths, |p| p.is_match(path)),
        ]),
        None => {
            let lists = [
                o.methods.len(),
                o.not_methods.len(),
                o.paths.len(),
                o.not_paths.len(),
                o.hosts.len(),
                o.not_hosts.len(),
            ];
            if lists.iter().sum::<usize>() == 0 { Yes } else { Unknown }
        }
    };
    and([ports, http])
}

/// Whether a rule holds in all readings of the path (`Yes`), in none (`No`), or in some.
fn rule(rule: &Rule, peer: &Peer, port: u16, request: Option<&Request>) -> Truth {
    let anybody = if rule.from.is_empty() { Yes } else { or(rule.from.iter().map(|s| source(s, peer))) };
    let paths: Vec<String> = request.map_or(vec![String::new()], |r| variants(&r.path).map(Into::into).collect());
    let one = |o: &Operation| {
        let each: Vec<Truth> = paths.iter().map(|path| operation(o, port, request, path)).collect();
        if each.iter().all(|t| *t == each[0]) { each[0] } else { Unknown }
    };
    let anything = if rule.to.is_empty() { Yes } else { or(rule.to.iter().map(one)) };
    and([anybody, anything])
}

/// What is not known must not allow and must deny.
fn judge(inbound: &Inbound, peer: &Peer, port: u16, request: Option<&Request>) -> bool {
    let mode = inbound.ports.iter().find(|(p, _)| *p == port).map_or(inbound.mode, |(_, m)| *m);
    if peer.id().is_none() && mode == MtlsMode::Strict {
        return false;
    }
    let of = |p: &Policy| or(p.rules.iter().map(|r| rule(r, peer, port, request)));
    let (allows, denies): (Vec<&Policy>, Vec<&Policy>) = inbound.policies.iter().partition(|p| p.allow);
    if or(denies.into_iter().map(of)) != No {
        return false;
    }
    if allows.is_empty() { inbound.default_allow } else { or(allows.into_iter().map(of)) == Yes }
}

const NAMESPACES: [&str; 2] = ["dev", "qa"];
const ACCOUNTS: [&str; 3] = ["web", "a.b", "axb"];

fn peers() -> impl Strategy<Value = Peer> {
    prop_oneof![
        1 => Just(Peer::Anonymous),
        4 => (0usize..2, 0usize..3).prop_map(|(n, a)| Peer::Mesh(id(NAMESPACES[n], ACCOUNTS[a]))),
    ]
}

fn principals() -> impl Strategy<Value = Principal> {
    prop_oneof![
        Just(Principal::Any),
        (0usize..2, 0usize..3).prop_map(|(n, a)| Principal::Id(id(NAMESPACES[n], ACCOUNTS[a])))
    ]
}

fn few<T: std::fmt::Debug>(of: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<T>> {
    prop::collection::vec(of, 0..2)
}

fn texts() -> impl Strategy<Value = TextMatch> {
    let text = prop_oneof![Just("/a"), Just("/a/b"), Just("/"), Just("prod"), Just("b")];
    (text, 0..4).prop_map(|(text, kind)| match kind {
        0 => TextMatch::Exact(text.into()),
        1 => TextMatch::Prefix(text.into()),
        2 => TextMatch::Suffix(text.into()),
        _ => TextMatch::PathPrefix(text.into()),
    })
}

fn methods() -> impl Strategy<Value = String> {
    prop_oneof![Just("GET".to_owned()), Just("POST".to_owned())]
}

prop_compose! {
    fn sources()(principals in few(principals()), not_principals in few(principals()), namespaces in few("dev|qa"),
                 not_namespaces in few("dev|qa")) -> Source {
        Source { principals, not_principals, namespaces, not_namespaces }
    }
}

prop_compose! {
    fn operations()(methods in few(self::methods()), not_methods in few(self::methods()), paths in few(texts()), not_paths in few(texts()),
                    ports in few(80u16..82), not_ports in few(80u16..82), hosts in few(texts()), not_hosts in few(texts())) -> Operation {
        Operation { methods, not_methods, paths, not_paths, ports, not_ports, hosts, not_hosts }
    }
}

prop_compose! {
    pub(super) fn policies(allow: bool)(rules in prop::collection::vec((few(sources()), few(operations())), 0..3)) -> Policy {
        let rules = rules.into_iter().map(|(from, to)| Rule { from, to }).collect();
        Policy { name: "prod/p".into(), allow, rules }
    }
}

prop_compose! {
    pub(super) fn inbounds()(
        mode in prop_oneof![Just(MtlsMode::Strict), Just(MtlsMode::Permissive), Just(MtlsMode::Disable)],
        ports in few((80u16..82, Just(MtlsMode::Strict))),
        default_allow: bool,
        policies in prop::collection::vec(prop_oneof![policies(true), policies(false)], 0..4),
    ) -> Inbound {
        Inbound { mode, ports, default_allow, policies, probes: vec![] }
    }
}

prop_compose! {
    pub(super) fn requests()(peer in peers(), port in 80u16..82, method in methods(), host in "prod|b",
                             path in prop_oneof![Just("/"), Just("/a"), Just("/a/b"), Just("/a%2Fb"), Just("//a"), Just("/x/..%2Fa"), Just("/ab")]) -> (Peer, u16, Request) {
        let path = normalise(path).unwrap();
        (peer, port, Request { host, ..Request::get(&path).method(&method) })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn http_is_judged_as_by_the_model(inbound in inbounds(), request in requests()) {
        let (peer, port, request) = request;
        let decision = authorize(&inbound, &peer, port, &request);
        prop_assert_eq!(is_allowed(&decision), judge(&inbound, &peer, port, Some(&request)), "{:?}", decision);
    }

    #[test]
    fn bytes_are_judged_as_by_the_model(inbound in inbounds(), request in requests()) {
        let (peer, port, _) = request;
        let decision = authorize_tcp(&inbound, &peer, port);
        prop_assert_eq!(is_allowed(&decision), judge(&inbound, &peer, port, None), "{:?}", decision);
    }

    #[test]
    fn a_permit_names_the_policy_that_allowed(inbound in inbounds(), request in requests()) {
        let (peer, port, request) = request;
        if let Decision::Allow(permit) = authorize(&inbound, &peer, port, &request) {
            prop_assert_eq!(permit.by().is_some(), inbound.policies.iter().any(|p| p.allow));
        }
    }
}
