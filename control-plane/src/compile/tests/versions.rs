//! Routes that take the place of earlier versions of themselves: what is put in place of one resource's routes is
//! what would have been made anew.

use super::incremental::{Step, assert_steps_change_what_they_touch, comes_and_goes, names};
use super::properties::world;
use super::*;
use crate::compile::gateway::tests::route;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

const WEIGHTS: &str = "- route: [{destination: {host: a.prod, subset: one}, weight: 90}, {destination: {host: a.prod, subset: two}, weight: 10}]";
const OTHER_WEIGHTS: &str = "- route: [{destination: {host: a.prod, subset: one}, weight: 80}, {destination: {host: a.prod, subset: two}, weight: 20}]";

/// Routes, good and bad, alone and in each other's way.
const ROUTES: [&str; 12] = [
    WEIGHTS,
    OTHER_WEIGHTS,
    "- match: [{uri: {prefix: /x}}]\n  route: [{destination: {host: b.prod, port: {number: 81}}}]\n- route: [{destination: {host: a.prod}}]",
    "- route: [{destination: {host: a.prod}}]\n- match: [{uri: {exact: /never}}]\n  route: [{destination: {host: a.prod}}]",
    "- match: [{sourceLabels: {app: web}}]\n  route: [{destination: {host: a.prod}}]",
    "- match: [{sourceServiceAccount: dev/web}]\n  route: [{destination: {host: a.prod}}]",
    "- route: [{destination: {host: a.prod, subset: none}, weight: 1}, {destination: {host: a.prod, subset: one}, weight: 3}]",
    "- route: [{destination: {host: nosuch}}]",
    "- route: [{destination: {host: a.prod}}]\n  mirror: {host: nosuch}\n  timeout: soon",
    "- delegate: {name: child, namespace: prod}",
    "- delegate: {name: hosted, namespace: prod}\n- route: [{destination: {host: a.prod}}]",
    "- fault: {delay: {fixedDelay: 1s, percentage: {value: 5}}}\n  route: [{destination: {host: h.prod}}]",
];

/// Rules of the Gateway API.
const BACKENDS: [&str; 5] = [
    "{backendRefs: [{name: a, namespace: prod, port: 80, weight: 9}, {name: b, namespace: prod, port: 81, weight: 1}]}",
    "{backendRefs: [{name: a, namespace: prod, port: 80, weight: 8}, {name: b, namespace: prod, port: 81, weight: 2}]}",
    "{backendRefs: [{name: nosuch, port: 80}]}",
    "{matches: [{path: {value: /x}}], backendRefs: [{name: h, port: 8080}]}, {backendRefs: [{name: a, port: 80}]}",
    "{filters: [{type: Unknown}], backendRefs: [{name: a, port: 80}]}",
];

/// What DestinationRules say, good and bad.
const RULES: [&str; 14] = [
    "subsets: [{name: one, labels: {v: one}}, {name: two, labels: {v: two}}]",
    "subsets: [{name: one, labels: {v: two}}, {name: two, labels: {v: one}}]",
    "subsets: [{name: two, labels: {v: two}}, {name: one, labels: {v: one}}]",
    "subsets: [{name: one, labels: {v: one}}, {name: two, labels: {v: two}, trafficPolicy: {connectionPool: {tcp: {connectTimeout: 1s}}}}]\ntrafficPolicy: {tls: {mode: DISABLE}}",
    "subsets: [{name: one, labels: {v: one}}, {name: two, labels: {v: two}}]\ntrafficPolicy: {loadBalancer: {simple: RANDOM}}",
    "subsets: [{name: one, labels: {v: one}}]",
    "subsets: [{name: none, labels: {v: one}}]",
    "subsets: [{name: one, labels: {v: one}}, {name: one, labels: {v: two}}]",
    "subsets: [{name: one, labels: {v: one}, unknown: x}, {name: two, labels: {v: two}}]",
    "subsets: [{name: one, labels: {v: one}, trafficPolicy: {unknown: x}}, {name: two, labels: {v: two}}]",
    "trafficPolicy: {connectionPool: {tcp: {connectTimeout: soon}}}",
    "trafficPolicy: {tls: {mode: DISABLE}}",
    "workloadSelector: {matchLabels: {app: web}}\nsubsets: [{name: one, labels: {v: one}}]",
    "workloadSelector: {matchLabels: {app: web}, unknown: x}\ntrafficPolicy: {tls: {mode: DISABLE}}",
];

/// Kind, namespace, name, and what stands before its routes: versions of a few resources for Services that some share.
const RESOURCES: [(&str, &str, &str, &str); 32] = [
    ("VirtualService", "prod", "of-a", "hosts: [a]"),
    ("VirtualService", "prod", "of-a", "hosts: [a]\nexportTo: [prod]"),
    ("VirtualService", "prod", "of-a", "hosts: [a, b]"),
    ("VirtualService", "prod", "of-b", "hosts: [b.prod]"),
    ("VirtualService", "prod", "of-b", "hosts: [b.prod]\ngateways: [mesh, g]"),
    ("VirtualService", "prod", "of-b", "hosts: [b.prod]\ngateways: [g]"),
    ("VirtualService", "prod", "hosted", "hosts: [h.prod]"),
    ("VirtualService", "prod", "hosted", "hosts: [h.prod]\nexportTo: [dev]"),
    ("VirtualService", "prod", "hosted", "hosts: [h.prod, nosuch.example]"),
    ("VirtualService", "prod", "child", "exportTo: ['*']"),
    ("VirtualService", "dev", "alias", "hosts: [a]"),
    ("VirtualService", "dev", "alias", "hosts: [h.prod]"),
    ("VirtualService", "dev", "alias", "hosts: [a, h.prod]"),
    ("VirtualService", "dev", "far", "hosts: [b.prod]"),
    ("VirtualService", "prod", "wide", "hosts: ['*.prod.svc.cluster.local']"),
    ("istio", "prod", "of-a", "hosts: [a]"),
    ("HTTPRoute", "prod", "http", "parentRefs: [{group: '', kind: Service, name: a}]"),
    (
        "HTTPRoute",
        "prod",
        "http",
        "parentRefs: [{group: '', kind: Service, name: a, port: 80}, {group: '', kind: Service, name: h}]",
    ),
    ("HTTPRoute", "dev", "http", "parentRefs: [{group: '', kind: Service, name: b, namespace: prod}]"),
    ("HTTPRoute", "dev", "http", "parentRefs: [{name: some-gateway}]"),
    ("GRPCRoute", "prod", "grpc", "parentRefs: [{group: '', kind: Service, name: b, port: 81}]"),
    ("TCPRoute", "prod", "tcp", "parentRefs: [{group: '', kind: Service, name: b}]"),
    ("DestinationRule", "prod", "a", "host: a"),
    ("DestinationRule", "prod", "a", "host: a.prod.svc.cluster.local\nexportTo: [dev]"),
    ("DestinationRule", "prod", "a", "host: b"),
    ("DestinationRule", "prod", "again", "host: a"),
    ("DestinationRule", "prod", "of-b", "host: b.prod"),
    ("DestinationRule", "dev", "far", "host: a.prod"),
    ("DestinationRule", "dev", "alias", "host: a"),
    ("DestinationRule", "prod", "wide", "host: '*.prod.svc.cluster.local'"),
    ("DestinationRule", "prod", "lost", "host: nosuch"),
    ("istio rule", "prod", "a", "host: a"),
];

fn virtual_service(namespace: &str, name: &str, head: &str, http: &str) -> String {
    custom("VirtualService", namespace, name, &format!("{head}\nhttp:\n{http}"))
}

fn rule(namespace: &str, name: &str, head: &str, says: &str) -> String {
    custom("DestinationRule", namespace, name, &format!("{head}\n{says}"))
}

fn of_istio(text: &str) -> String {
    text.replace("causeway.dev/v1alpha1", "networking.istio.io/v1")
}

/// An HTTPRoute of the Service `b` in prod.
fn http_route(name: &str, rules: &str) -> String {
    let spec = format!("parentRefs: [{{group: '', kind: Service, name: b}}]\nrules: [{rules}]");
    route("HTTPRoute", "prod", name, &spec)
}

/// Every one of these resources with every one of these routes, or with what rules say.
fn versions(resources: &[(&str, &str, &str, &str)], routes: &[&str], backends: &[&str], rules: &[&str]) -> Vec<String> {
    let mut all = Vec::new();
    for (kind, namespace, name, head) in resources {
        match *kind {
            "VirtualService" => all.extend(routes.iter().map(|http| virtual_service(namespace, name, head, http))),
            "istio" => all.extend(routes.iter().map(|http| of_istio(&virtual_service(namespace, name, head, http)))),
            "DestinationRule" => all.extend(rules.iter().map(|says| rule(namespace, name, head, says))),
            "istio rule" => all.extend(rules.iter().map(|says| of_istio(&rule(namespace, name, head, says)))),
            _ => {
                let of = |rules: &&str| format!("{head}\nrules: [{rules}]");
                all.extend(backends.iter().map(of).map(|spec| route(kind, namespace, name, &spec)));
            }
        }
    }
    all
}

/// Versions of a few resources, put in one or two at a time, and now and then a name or another resource that comes or goes.
fn changes() -> impl Strategy<Value = (Vec<String>, Vec<Step>)> {
    let few = (
        subsequence(RESOURCES.to_vec(), 2..6),
        subsequence(ROUTES.to_vec(), 2..5),
        subsequence(BACKENDS.to_vec(), 2..4),
        subsequence(RULES.to_vec(), 2..5),
    );
    few.prop_flat_map(|(resources, routes, backends, rules)| {
        let versions = versions(&resources, &routes, &backends, &rules);
        let rarely =
            |all: Vec<String>| prop_oneof![5 => Just(Vec::new()), 1 => prop::collection::vec(select(all), 1..2)];
        let new = (prop::collection::vec(select(versions.clone()), 1..3), rarely(names()));
        let new = new.prop_map(|(versions, names)| [versions, names].concat());
        let gone = prop_oneof![
            8 => Just(Vec::new()),
            1 => prop::collection::vec(select(names()), 1..2),
            3 => prop::collection::vec(select(versions.clone()), 1..3),
        ];
        let other = prop_oneof![9 => Just(Vec::new()), 1 => subsequence(comes_and_goes(), 0..2)];
        let first = prop::collection::vec(select(versions), 0..4);
        (first, prop::collection::vec((new, gone, other), 1..10))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_version_in_place_of_another_is_what_would_be_made_anew(
        others in prop_oneof![3 => Just(Vec::new()), 1 => subsequence(comes_and_goes(), 0..4)],
        (first, steps) in changes(),
    ) {
        assert_steps_change_what_they_touch(&[world(), others].concat(), &first, steps);
    }
}

/// Whether only the routes of what changed were made anew, when `last` came after `before`, one after the other.
fn is_replaced(before: &[String], last: &str) -> bool {
    is_replaced_by(before, |index| incremental::put(index, last))
}

/// Likewise, when `last` goes.
fn is_taken_out(before: &[String], last: &str) -> bool {
    is_replaced_by(before, |index| incremental::take(index, last))
}

fn is_replaced_by(before: &[String], change: impl FnOnce(&mut Resources)) -> bool {
    let mut index = Resources::default();
    world().iter().for_each(|text| incremental::put(&mut index, text));
    let mut model = compile(&Arc::new(index.clone()), &Settings::default());
    for text in before {
        incremental::put(&mut index, text);
        model = compile_after(Some(&model), &Arc::new(index.clone()), &Settings::default());
    }
    change(&mut index);
    compile_after(Some(&model), &Arc::new(index), &Settings::default()).directions.replaced.is_some()
}

#[test]
fn a_weight_costs_what_shares_a_service_with_it() {
    let of = |name: &str, hosts: &str, http: &str| virtual_service("prod", name, &format!("hosts: [{hosts}]"), http);
    let before = [of("of-a", "a", WEIGHTS), of("of-h", "h", ROUTES[11])];
    let with = |more: String| [&before[..], &[more]].concat();
    let no_subsets = custom("DestinationRule", "prod", "a", "host: a");
    assert!(is_replaced(&before, &of("of-a", "a", OTHER_WEIGHTS)));
    let http = |rules: &str| http_route("http", rules);
    assert!(is_replaced(&with(http(BACKENDS[0])), &http(BACKENDS[1])));
    assert!(is_replaced(&with(http(BACKENDS[0])), &(http(BACKENDS[1]) + &of("of-a", "a", OTHER_WEIGHTS))));
    assert!(is_replaced(&with(of("bad", "nosuch", WEIGHTS)), &of("of-a", "a", OTHER_WEIGHTS)), "another dangles");
    assert!(is_replaced(&with(of("of-a2", "b", WEIGHTS)), &of("of-a", "a", ROUTES[3])), "its problems are its own");
    assert!(is_replaced(&before, &of("new", "b", WEIGHTS)), "it comes");
    assert!(is_replaced(&before, &http(BACKENDS[0])), "it comes");
    assert!(
        is_replaced(&with(of("of-a2", "a, b", ROUTES[2])), &of("of-a", "a", OTHER_WEIGHTS)),
        "another routes it too"
    );
    assert!(is_replaced(&before, &of("new", "a", WEIGHTS)), "another routes its Service");
    let moved = http(BACKENDS[0]).replace("name: b}", "name: a}");
    assert!(is_replaced(&with(http(BACKENDS[0])), &moved), "it is attached to another Service");
    let crowd = |count| (0..count).map(|n| of(&format!("one-{n}"), "a", WEIGHTS)).collect::<Vec<_>>();
    assert!(is_replaced(&[crowd(31), before[..1].to_vec()].concat(), &of("of-a", "a", OTHER_WEIGHTS)));
    let alias = virtual_service("dev", "alias", "hosts: [a, h.prod]", WEIGHTS);
    let aside = virtual_service("prod", "of-b", "hosts: [b.prod]\ngateways: [g]", WEIGHTS);
    for (why, before, last) in [
        ("another is held at its last good version", with(of("of-h", "h", ROUTES[7])), of("of-a", "a", OTHER_WEIGHTS)),
        ("a subset is kept that no rule defines any more", with(no_subsets), of("of-h", "h", ROUTES[2])),
        (
            "a Service came with it",
            with(of("waits", "later", WEIGHTS)),
            of("of-a", "a", OTHER_WEIGHTS) + &service("prod", "later", "ports: [{port: 80}]"),
        ),
        ("it is new and dangles", before.to_vec(), of("new", "b", ROUTES[7])),
        ("it is new and tells clients apart", before.to_vec(), of("new", "b", ROUTES[4])),
        ("it is new and another may look for it", vec![of("root", "b", ROUTES[10])], of("new", "a", WEIGHTS)),
        ("it was passed over", with(aside), of("of-b", "b", WEIGHTS)),
        ("it names another host", before.to_vec(), of("of-a", "b", WEIGHTS)),
        ("it dangles", before.to_vec(), of("of-a", "a", ROUTES[7])),
        ("it dangled", with(of("of-b", "b", ROUTES[7])), of("of-b", "b", WEIGHTS)),
        ("clients are told apart", before.to_vec(), of("of-a", "a", ROUTES[4])),
        ("it delegates", before.to_vec(), of("of-a", "a", ROUTES[9])),
        ("what shares its Service dangles", with(of("of-a2", "a", ROUTES[7])), of("of-a", "a", OTHER_WEIGHTS)),
        ("what shares its Service delegates", with(of("of-a2", "a", ROUTES[10])), of("of-a", "a", OTHER_WEIGHTS)),
        ("what shares its Service has two names", with(alias), of("of-a", "a", OTHER_WEIGHTS)),
        (
            "many share its Service",
            [crowd(32), vec![of("of-a", "a", WEIGHTS)]].concat(),
            of("of-a", "a", OTHER_WEIGHTS),
        ),
    ] {
        assert!(!is_replaced(&before, &last), "{why}");
    }
}

#[test]
fn a_route_that_goes_costs_what_shared_a_service_with_it() {
    let of = |name: &str, hosts: &str, http: &str| virtual_service("prod", name, &format!("hosts: [{hosts}]"), http);
    let before = [of("of-a", "a", WEIGHTS), of("of-h", "h", ROUTES[11]), http_route("http", BACKENDS[0])];
    let with = |more: String| [&before[..], &[more]].concat();
    assert!(is_taken_out(&before, &before[0]));
    assert!(is_taken_out(&before, &before[2]));
    assert!(is_taken_out(&with(of("of-a2", "a", ROUTES[2])), &before[0]), "another routes its Service");
    for (why, before, last) in [
        ("another would be held at its last good version", with(of("of-h", "h", ROUTES[7])), &before[0]),
        ("another may look for it", vec![before[0].clone(), of("root", "b", ROUTES[10])], &before[0]),
        ("clients are told apart", vec![of("of-a", "a", ROUTES[4])], &before[0]),
        ("it dangled", vec![of("of-a", "a", ROUTES[7])], &before[0]),
        ("it routed nothing", with(of("none", "nosuch", WEIGHTS)), &of("none", "nosuch", WEIGHTS)),
    ] {
        assert!(!is_taken_out(&before, last), "{why}");
    }
}

#[test]
fn a_rule_costs_its_own_services() {
    let of_a = |says: &str| rule("prod", "a", "host: a", says);
    let of_b = |says: &str| rule("prod", "b", "host: b", says);
    let weights = virtual_service("prod", "of-a", "hosts: [a]", WEIGHTS);
    let lost = virtual_service("prod", "of-h", "hosts: [h]", &WEIGHTS.replace("one", "lost"));
    let far = rule("dev", "far", "host: a.prod", RULES[4]);
    let wide = rule("prod", "wide", "host: '*.prod.svc.cluster.local'", RULES[11]);
    let selected = rule("dev", "far", "host: a.prod", RULES[12]);
    for (why, before, last) in [
        ("other labels", vec![], of_a(RULES[1])),
        ("other labels and another weight", vec![weights.clone()], of_a(RULES[1]) + &weights.replace("90", "80")),
        ("other labels, and rules of others are about its Service", vec![wide.clone(), far.clone()], of_a(RULES[1])),
        ("the rule of others", vec![wide.clone(), far.clone()], rule("dev", "far", "host: a.prod", RULES[3])),
        ("the rule of all", vec![wide.clone(), far.clone()], wide.replace("DISABLE", "ISTIO_MUTUAL")),
        ("other settings", vec![of_a(RULES[3])], of_a(RULES[4])),
        ("the first settings", vec![], of_a(RULES[4])),
        ("what is wrong with it is its own", vec![of_a(RULES[11])], of_a(RULES[10])),
        ("what is not understood of it stays", vec![of_a(RULES[8])], of_a(RULES[8]).replace("v: one", "v: two")),
        ("for certain clients", vec![selected.clone()], selected.replace("v: one", "v: two")),
        ("it is about nothing", vec![of_b(RULES[5]).replace("host: b", "host: none")], of_a(RULES[1])),
        ("it comes", vec![weights.clone()], of_b(RULES[0])),
        ("a subset comes", vec![of_b(RULES[5]), weights.clone()], of_b(RULES[0])),
        ("a subset goes that nobody names", vec![of_b(RULES[6]), weights.clone()], of_b(RULES[5])),
        ("it is about another Service", vec![], rule("prod", "a", "host: b", RULES[0])),
    ] {
        assert!(is_replaced(&before, &last), "{why}");
    }
    assert!(is_taken_out(&[of_b(RULES[0])], &of_b(RULES[0])));
    assert!(is_taken_out(&[], &of_a(RULES[0])));
    for (why, before, last) in [
        ("a route waits for a subset", vec![lost], of_b(RULES[0])),
        ("a route names the subset that goes", vec![weights.clone()], of_a(RULES[5])),
        (
            "a route names what it hides from others",
            vec![weights.clone()],
            rule("prod", "a", "host: a\nexportTo: ['.']", RULES[0]),
        ),
        ("it leaves the Service of a subset", vec![weights.clone()], rule("prod", "a", "host: b", RULES[0])),
        ("another is about its Service", vec![far], of_a(RULES[3])),
        ("it becomes one for certain clients", vec![], of_a(RULES[12])),
        ("a new one is for certain clients", vec![], selected),
        ("it is not understood", vec![], of_a(RULES[8])),
        ("it was not understood", vec![of_a(RULES[8])], of_a(RULES[0])),
        ("both kinds have its name", vec![of_istio(&of_a(RULES[0]))], of_a(RULES[1])),
        ("a Service came with it", vec![], of_a(RULES[1]) + &service("prod", "later", "ports: [{port: 80}]")),
    ] {
        assert!(!is_replaced(&before, &last), "{why}");
    }
    assert!(!is_taken_out(&[weights], &of_a(RULES[0])), "its labels are kept");
}

#[test]
fn what_is_looked_at_anew_still_waits_for_its_refused_version_to_be_mended() {
    let mut index = Resources::default();
    let route = |name: &str, weights: &str| virtual_service("prod", name, "hosts: [a]", weights);
    let first = [world(), vec![route("one", WEIGHTS), route("two", WEIGHTS)]].concat();
    first.iter().for_each(|text| incremental::put(&mut index, text));
    let one = parts::key(crate::source::Kind::VirtualService, "prod", "one");
    index.apply(Event::Refused { key: one.clone(), generation: 7, problems: Vec::new() });
    let before = compile(&Arc::new(index.clone()), &Settings::default());
    incremental::put(&mut index, &route("two", OTHER_WEIGHTS));
    let after = compile_after(Some(&before), &Arc::new(index.clone()), &Settings::default());
    assert!(after.directions.replaced.is_some());
    assert_eq!(after.subjects()[&one].generation, 7);
    assert_eq!(after.subjects(), compile(&Arc::new(index), &Settings::default()).subjects());
}

#[test]
fn what_reaches_from_one_resource_into_another_is_found_though_each_has_its_services_for_itself() {
    let of_a = |http: &str| virtual_service("prod", "of-a", "hosts: [a]", http);
    let istio = of_istio(&virtual_service("prod", "of-a", "hosts: [h]", ROUTES[8]));
    let alias = |hosts: &str| virtual_service("dev", "alias", &format!("hosts: [{hosts}]"), WEIGHTS);
    let hosted = |more: &str| virtual_service("prod", "hosted", &format!("hosts: [h.prod]{more}"), WEIGHTS);
    let other_b = service("prod", "b", "ports: [{name: http, port: 82}]");
    let child = virtual_service("prod", "child", "exportTo: ['*']", ROUTES[8]);
    for texts in [
        // What is said of a delegate with hosts depends on whom it is exported to.
        vec![of_a(ROUTES[10]), hosted(""), hosted("\nexportTo: [dev]"), hosted("")],
        // One resource becomes several where one of its hosts is an alias.
        vec![alias("h.prod"), alias("a, h.prod"), alias("h.prod"), alias("a, h.prod")],
        // What is wrong with a delegate is said while somebody delegates to it.
        vec![child, of_a(WEIGHTS), of_a(ROUTES[9]), of_a(WEIGHTS)],
        // Both have one name in what is said of them.
        vec![istio, of_a(WEIGHTS), of_a(OTHER_WEIGHTS)],
        // What a rule is about is what its new version is about.
        vec![rule("prod", "a", "host: a", RULES[11]), rule("prod", "a", "host: b", RULES[11])],
        // One comes where another stands alone.
        vec![
            virtual_service("dev", "far", "hosts: [b.prod]", WEIGHTS),
            virtual_service("prod", "of-b", "hosts: [b.prod]\ngateways: [g]", WEIGHTS),
            virtual_service("prod", "of-b", "hosts: [b.prod]", WEIGHTS),
        ],
        vec![http_route("one", BACKENDS[0]), http_route("two", BACKENDS[1]), http_route("one", BACKENDS[1])],
        // What a new version names may change.
        vec![of_a(WEIGHTS), of_a(ROUTES[2]), other_b.clone()],
        vec![of_a(WEIGHTS), service("prod", "x", "ports: [{port: 80}]"), of_a(ROUTES[2]), other_b],
    ] {
        let steps = texts[1..].iter().map(|text| (vec![text.clone()], Vec::new(), Vec::new()));
        assert_steps_change_what_they_touch(&world(), &texts[..1], steps.collect());
    }
}
