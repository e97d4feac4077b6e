use proptest::prelude::*;

use super::{
    Decision, Denied, GRPC_HEALTH, Inbound, MtlsMode, Operation, Peer, Permit, Policy, Principal, Probe, Rule, Source,
    authorize, authorize_tcp,
};
use crate::path::normalise;
use crate::route::tests::Request;
use crate::spiffe::SpiffeId;
use crate::text::TextMatch;

mod model;

fn id(namespace: &str, account: &str) -> SpiffeId {
    SpiffeId::new("cluster.local", namespace, account).unwrap()
}

fn peer(namespace: &str, account: &str) -> Peer {
    Peer::Mesh(id(namespace, account))
}

fn inbound(default_allow: bool, policies: Vec<Policy>) -> Inbound {
    Inbound { default_allow, policies, ..Inbound::closed() }
}

fn allow(name: &str, rules: Vec<Rule>) -> Policy {
    Policy { name: name.into(), allow: true, rules }
}

fn deny(name: &str, rules: Vec<Rule>) -> Policy {
    Policy { name: name.into(), allow: false, rules }
}

fn from(principal: Principal) -> Source {
    Source { principals: vec![principal], ..Source::default() }
}

fn from_id(namespace: &str, account: &str) -> Rule {
    Rule { from: vec![from(Principal::Id(id(namespace, account)))], to: vec![] }
}

fn to(operation: Operation) -> Rule {
    Rule { from: vec![], to: vec![operation] }
}

fn to_path(pattern: TextMatch) -> Rule {
    to(Operation { paths: vec![pattern], ..Operation::default() })
}

fn exact(text: &str) -> TextMatch {
    TextMatch::Exact(text.into())
}

fn prefix(text: &str) -> TextMatch {
    TextMatch::Prefix(text.into())
}

fn is_allowed(decision: &Decision) -> bool {
    matches!(decision, Decision::Allow(_))
}

fn get(inbound: &Inbound, peer: &Peer, path: &str) -> Decision {
    authorize(inbound, peer, 8080, &Request::get(path))
}

#[test]
fn a_deny_wins_over_every_allow_and_says_which_rule_it_was() {
    let policies = vec![
        allow("prod/all", vec![Rule::default()]),
        deny("prod/no-admin", vec![from_id("dev", "other"), to_path(prefix("/admin"))]),
    ];
    let inbound = inbound(true, policies);
    assert_eq!(get(&inbound, &peer("dev", "web"), "/admin"), Decision::Deny(Denied::Policy("prod/no-admin".into(), 1)));
    assert_eq!(get(&inbound, &peer("dev", "web"), "/"), Decision::Allow(Permit { by: Some("prod/all".into()) }));
}

#[test]
fn without_any_allow_policy_the_default_holds() {
    let web = peer("dev", "web");
    assert_eq!(get(&inbound(true, vec![]), &web, "/"), Decision::Allow(Permit { by: None }));
    assert_eq!(get(&inbound(false, vec![]), &web, "/"), Decision::Deny(Denied::Default));
    let only_deny = vec![deny("prod/d", vec![from_id("dev", "other")])];
    assert!(is_allowed(&get(&inbound(true, only_deny), &web, "/")));
}

#[test]
fn an_allow_policy_without_rules_denies_everything() {
    let none = inbound(true, vec![allow("prod/none", vec![])]);
    assert_eq!(get(&none, &peer("dev", "web"), "/"), Decision::Deny(Denied::NoRule));
    assert_eq!(authorize_tcp(&none, &peer("dev", "web"), 5432), Decision::Deny(Denied::NoRule));
    assert!(is_allowed(&get(&inbound(true, vec![deny("prod/none", vec![])]), &peer("dev", "web"), "/")));
}

#[test]
fn what_holds_before_the_first_configuration_lets_nothing_in() {
    let closed = Inbound::closed();
    for peer in [peer("dev", "web"), Peer::Anonymous] {
        assert!(!is_allowed(&get(&closed, &peer, "/")));
        assert!(!is_allowed(&authorize_tcp(&closed, &peer, 80)));
    }
}

#[test]
fn an_identity_is_equal_part_by_part_and_never_by_prefix_suffix_or_dot() {
    let inbound = inbound(true, vec![allow("prod/p", vec![from_id("dev", "a.b")])]);
    let other_domain = SpiffeId::new("other.local", "dev", "a.b").unwrap();
    assert!(is_allowed(&get(&inbound, &peer("dev", "a.b"), "/")));
    assert!(is_allowed(&authorize_tcp(&inbound, &peer("dev", "a.b"), 80)));
    for other in [
        peer("dev", "axb"),
        peer("dev", "a.b.c"),
        peer("dev", "x.a.b"),
        peer("dev", "a"),
        peer("dev", "b"),
        peer("xdev", "a.b"),
        peer("de", "a.b"),
        Peer::Mesh(other_domain),
    ] {
        assert!(!is_allowed(&get(&inbound, &other, "/")), "{other:?}");
        assert!(!is_allowed(&authorize_tcp(&inbound, &other, 80)), "{other:?}");
    }
}

#[test]
fn the_star_means_any_verified_identity() {
    let mut inbound = inbound(true, vec![allow("prod/p", vec![Rule { from: vec![from(Principal::Any)], to: vec![] }])]);
    inbound.mode = MtlsMode::Permissive;
    assert!(is_allowed(&get(&inbound, &peer("dev", "web"), "/")));
    assert_eq!(get(&inbound, &Peer::Anonymous, "/"), Decision::Deny(Denied::NoRule));
    inbound.policies[0].allow = false;
    assert!(!is_allowed(&get(&inbound, &peer("dev", "web"), "/")));
    assert!(is_allowed(&get(&inbound, &Peer::Anonymous, "/")));
}

#[test]
fn a_namespace_is_matched_exactly() {
    let source = Source { namespaces: vec!["dev".into()], ..Source::default() };
    let inbound = inbound(false, vec![allow("prod/p", vec![Rule { from: vec![source], to: vec![] }])]);
    assert!(is_allowed(&get(&inbound, &peer("dev", "web"), "/")));
    for namespace in ["dev2", "de", "prod", "xdev"] {
        assert!(!is_allowed(&get(&inbound, &peer(namespace, "web"), "/")), "{namespace}");
    }
}

#[test]
fn a_not_list_excludes_and_an_anonymous_peer_is_in_none() {
    let source = Source {
        not_namespaces: vec!["dev".into()],
        not_principals: vec![Principal::Id(id("qa", "bot"))],
        ..Source::default()
    };
    let mut inbound = inbound(false, vec![allow("prod/p", vec![Rule { from: vec![source], to: vec![] }])]);
    inbound.mode = MtlsMode::Permissive;
    assert!(is_allowed(&get(&inbound, &peer("qa", "web"), "/")));
    assert!(!is_allowed(&get(&inbound, &peer("qa", "bot"), "/")));
    assert!(!is_allowed(&get(&inbound, &peer("dev", "web"), "/")));
    assert!(is_allowed(&get(&inbound, &Peer::Anonymous, "/")), "it is not of dev; strict mode keeps it out");
}

#[test]
fn from_and_to_of_a_rule_must_both_hold() {
    let mut rule = from_id("dev", "web");
    rule.to = vec![Operation { methods: vec!["GET".into()], ports: vec![8080], ..Operation::default() }];
    let inbound = inbound(false, vec![allow("prod/p", vec![rule])]);
    let judge = |peer: &Peer, port, method: &str| {
        is_allowed(&authorize(&inbound, peer, port, &Request::get("/").method(method)))
    };
    assert!(judge(&peer("dev", "web"), 8080, "GET"));
    assert!(!judge(&peer("dev", "api"), 8080, "GET"));
    assert!(!judge(&peer("dev", "web"), 8081, "GET"));
    assert!(!judge(&peer("dev", "web"), 8080, "POST"));
    assert!(!judge(&peer("dev", "web"), 8080, "get"));
}

#[test]
fn each_part_of_an_operation_and_its_not_list_is_looked_at() {
    let operation = Operation {
        not_methods: vec!["DELETE".into()],
        not_paths: vec![prefix("/admin")],
        not_ports: vec![9090],
        hosts: vec![TextMatch::Suffix(".prod".into())],
        not_hosts: vec![exact("secret.prod")],
        ..Operation::default()
    };
    let inbound = inbound(false, vec![allow("prod/p", vec![to(operation)])]);
    let judge = |port, request: Request| is_allowed(&authorize(&inbound, &peer("dev", "web"), port, &request));
    let good = Request::get("/shop");
    assert!(judge(8080, good.clone()));
    assert!(!judge(8080, good.clone().method("DELETE")));
    assert!(!judge(9090, good.clone()));
    assert!(!judge(8080, Request::get("/admin/x")));
    assert!(!judge(8080, Request { host: "secret.prod".into(), ..good.clone() }));
    assert!(!judge(8080, Request { host: "shop.dev".into(), ..good }));
}

#[test]
fn bytes_neither_win_an_allowance_nor_evade_a_denial_that_is_written_for_http() {
    let web = peer("dev", "web");
    for operation in [
        Operation { methods: vec!["GET".into()], ..Operation::default() },
        Operation { not_methods: vec!["GET".into()], ..Operation::default() },
        Operation { paths: vec![prefix("/")], ..Operation::default() },
        Operation { not_paths: vec![prefix("/admin")], ..Operation::default() },
        Operation { hosts: vec![exact("a")], ..Operation::default() },
        Operation { not_hosts: vec![exact("a")], ..Operation::default() },
    ] {
        let allows = inbound(true, vec![allow("prod/p", vec![to(operation.clone())])]);
        let denies = inbound(true, vec![deny("prod/p", vec![to(operation)])]);
        assert!(!is_allowed(&authorize_tcp(&allows, &web, 80)));
        assert!(!is_allowed(&authorize_tcp(&denies, &web, 80)));
    }
    let on_port = |ports| to(Operation { ports, methods: vec!["GET".into()], ..Operation::default() });
    assert!(is_allowed(&authorize_tcp(&inbound(true, vec![deny("prod/p", vec![on_port(vec![81])])]), &web, 80)));
    let ports_only = to(Operation { ports: vec![5432], ..Operation::default() });
    assert!(is_allowed(&authorize_tcp(&inbound(false, vec![allow("prod/p", vec![ports_only])]), &web, 5432)));
}

#[test]
fn plaintext_is_refused_when_strict() {
    let mut inbound = inbound(true, vec![]);
    inbound.ports = vec![(9000, MtlsMode::Permissive), (9001, MtlsMode::Disable)];
    let judge = |port| authorize(&inbound, &Peer::Anonymous, port, &Request::get("/"));
    assert_eq!(judge(8080), Decision::Deny(Denied::Plaintext));
    assert_eq!(authorize_tcp(&inbound, &Peer::Anonymous, 8080), Decision::Deny(Denied::Plaintext));
    for port in [9000, 9001] {
        assert!(is_allowed(&judge(port)) && is_allowed(&authorize_tcp(&inbound, &Peer::Anonymous, port)));
    }
}

fn probed() -> Inbound {
    let probe = |port, path: Option<&str>| Probe { port, path: path.map(Into::into), query: "".into() };
    let mut inbound = inbound(false, vec![deny("prod/all", vec![Rule::default()])]);
    inbound.probes = vec![probe(8080, Some("/healthz")), probe(9000, Some(GRPC_HEALTH)), probe(5432, None)];
    inbound
}

#[test]
fn the_exact_probe_of_the_pod_passes_although_kubelet_has_no_identity() {
    let judge = |port, method: &str, path| {
        is_allowed(&authorize(&probed(), &Peer::Anonymous, port, &Request::get(path).method(method)))
    };
    assert!(judge(8080, "GET", "/healthz") && judge(8080, "HEAD", "/healthz"));
    assert!(judge(9000, "POST", GRPC_HEALTH));
    for (port, method, path) in [
        (8081, "GET", "/healthz"),
        (8080, "POST", "/healthz"),
        (8080, "get", "/healthz"),
        (8080, "GET", "/healthz/"),
        (8080, "GET", "/healthz/../admin"),
        (8080, "GET", "/"),
        (9000, "GET", GRPC_HEALTH),
        (9000, "POST", "/grpc.health.v1.Health/Watch"),
        (8080, "POST", GRPC_HEALTH),
        (5432, "GET", "/healthz"),
    ] {
        assert!(!judge(port, method, path), "{port} {method} {path}");
    }
}

#[test]
fn the_query_is_part_of_a_probe() {
    let mut inbound = probed();
    let judge = |inbound: &Inbound, query: &str| {
        let request = Request { query: query.into(), ..Request::get("/healthz") };
        is_allowed(&authorize(inbound, &Peer::Anonymous, 8080, &request))
    };
    assert!(judge(&inbound, "") && !judge(&inbound, "delete=all"));
    inbound.probes[0].query = "full=1".into();
    assert!(judge(&inbound, "full=1") && !judge(&inbound, "") && !judge(&inbound, "full=1&x"));
}

#[test]
fn a_probe_gives_nothing_to_a_peer_with_an_identity_nor_to_bytes() {
    assert!(!is_allowed(&get(&probed(), &peer("dev", "web"), "/healthz")));
    for port in [8080, 9000, 5432] {
        assert_eq!(authorize_tcp(&probed(), &Peer::Anonymous, port), Decision::Deny(Denied::Plaintext));
    }
}

/// Spellings of `/admin/secret` that some server reads as such.
const SPELLINGS: [&str; 14] = [
    "/admin/secret",
    "//admin/secret",
    "/admin//secret",
    "/%61dmin/secret",
    "/admin%2Fsecret",
    "/admin%2fsecret",
    "/%2Fadmin/secret",
    "/admin%5Csecret",
    "/admin\\secret",
    "/public/../admin/secret",
    "/public/%2e%2e/admin/secret",
    "/public/..%2Fadmin/secret",
    "/public%2F..%5Cadmin/secret",
    "/public/..;/admin/secret",
];

#[test]
fn no_spelling_of_a_path_evades_a_denial() {
    let denials = [
        to_path(exact("/admin/secret")),
        to_path(prefix("/admin/")),
        to_path(TextMatch::PathPrefix("/admin".into())),
        to_path(TextMatch::regex("/admin/.*").unwrap()),
        to(Operation { not_paths: vec![prefix("/public/")], ..Operation::default() }),
    ];
    for rule in denials {
        let inbound = inbound(true, vec![deny("prod/d", vec![rule.clone()])]);
        for spelling in SPELLINGS {
            let path = normalise(spelling).unwrap();
            assert!(!is_allowed(&get(&inbound, &peer("dev", "web"), &path)), "{spelling} by {rule:?}");
        }
    }
}

#[test]
fn no_spelling_of_a_path_wins_an_allowance() {
    let allowances = [
        to_path(prefix("/public")),
        to_path(TextMatch::PathPrefix("/public".into())),
        to(Operation { not_paths: vec![prefix("/admin")], ..Operation::default() }),
    ];
    for rule in allowances {
        let inbound = inbound(true, vec![allow("prod/a", vec![rule.clone()])]);
        for spelling in SPELLINGS {
            let path = normalise(spelling).unwrap();
            assert!(!is_allowed(&get(&inbound, &peer("dev", "web"), &path)), "{spelling} by {rule:?}");
        }
        for path in ["/public", "/public/a", "/public/a%20b", "/public//a", "/public/x%2Fy"] {
            assert!(is_allowed(&get(&inbound, &peer("dev", "web"), path)), "{path} by {rule:?}");
        }
    }
}

#[test]
fn a_port_may_have_its_own_mode() {
    let mut inbound = Inbound::closed();
    inbound.ports = vec![(9000, MtlsMode::Permissive)];
    assert_eq!((inbound.mode(9000), inbound.mode(9001)), (MtlsMode::Permissive, MtlsMode::Strict));
}

proptest! {
    #[test]
    fn adding_a_deny_never_allows_more(inbound in model::inbounds(), added in model::policies(false), request in model::requests()) {
        let (peer, port, request) = request;
        let mut more = inbound.clone();
        more.policies.push(added);
        if !is_allowed(&authorize(&inbound, &peer, port, &request)) {
            prop_assert!(!is_allowed(&authorize(&more, &peer, port, &request)));
        }
        if !is_allowed(&authorize_tcp(&inbound, &peer, port)) {
            prop_assert!(!is_allowed(&authorize_tcp(&more, &peer, port)));
        }
    }

    #[test]
    fn bytes_are_never_allowed_where_some_request_of_the_peer_is_denied(inbound in model::inbounds(), request in model::requests()) {
        let (peer, port, request) = request;
        if is_allowed(&authorize_tcp(&inbound, &peer, port)) {
            prop_assert!(is_allowed(&authorize(&inbound, &peer, port, &request)));
        }
    }
}
