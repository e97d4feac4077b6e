//! Which resources take part in what a client holds, and which version of each is in force.

use super::*;
use crate::source::{Key, Kind};

fn names(parts: &Parts) -> Vec<String> {
    parts.iter().map(|k| format!("{:?} {}", k.kind, k.path())).collect()
}

pub(super) fn key(kind: Kind, namespace: &str, name: &str) -> Key {
    Key { kind, namespace: namespace.into(), name: name.into(), group: "causeway.dev".into() }
}

fn generation(text: &str, generation: i64) -> String {
    text.replace("metadata: {", &format!("metadata: {{generation: {generation}, "))
}

/// What takes part in the destination `prodsvc` of prod for a client of this namespace.
fn parts(model: &Model, namespace: &str) -> Vec<String> {
    names(&model.answer(&client(namespace), "prodsvc.prod:80").parts)
}

#[test]
fn a_consumers_route_takes_part_for_its_own_namespace_and_the_producers_rule_for_all() {
    let model = model(&[prodsvc(), custom("VirtualService", "dev", "v", SPLIT)].concat());
    assert_eq!(parts(&model, "dev"), ["VirtualService dev/v", "DestinationRule prod/prodsvc"]);
    assert_eq!(parts(&model, "stage"), ["DestinationRule prod/prodsvc"]);
    let unknown = model.answer(&client("dev"), "nowhere.prod:80");
    assert!(unknown.parts.is_empty());
    assert_eq!(unknown.destination, model.destination(&client("dev"), "nowhere.prod:80"));
}

#[test]
fn the_rules_of_every_service_that_a_route_leads_to_take_part() {
    let other = [
        service("prod", "other", "clusterIP: 10.96.0.11, selector: {app: o}, ports: [{name: http, port: 80}]"),
        custom("DestinationRule", "prod", "other", "host: other\ntrafficPolicy: {tls: {mode: DISABLE}}"),
    ];
    let spec = "hosts: [prodsvc.prod]\nhttp: [{route: [{destination: {host: other.prod}}]}]";
    let text = [prodsvc(), other.concat(), custom("VirtualService", "dev", "v", spec)].concat();
    let expected = ["VirtualService dev/v", "DestinationRule prod/other", "DestinationRule prod/prodsvc"];
    assert_eq!(parts(&model(&text), "dev"), expected);
}

#[test]
fn a_route_that_does_not_apply_takes_no_part() {
    let labelled = SPLIT.replace("- route:", "- match: [{sourceLabels: {app: web}}]\n  route:");
    let model = model(&[prodsvc(), custom("VirtualService", "dev", "v", &labelled)].concat());
    assert_eq!(parts(&model, "dev").len(), 2);
    let other = Client { pod: "api".into(), ..client("dev") };
    assert_ne!(model.distinction(&client("dev")), model.distinction(&other));
    assert_eq!(names(&model.answer(&other, "prodsvc.prod:80").parts), ["DestinationRule prod/prodsvc"]);
}

#[test]
fn policies_take_part_in_the_pods_that_they_select() {
    let text = [
        prodsvc(),
        custom("AuthorizationPolicy", "prod", "canary", "selector: {matchLabels: {version: canary}}"),
        custom("AuthorizationPolicy", "prod", "all", "action: ALLOW"),
        custom("PeerAuthentication", "prod", "p", "mtls: {mode: STRICT}"),
        custom("PeerAuthentication", "causeway-system", "mesh", "mtls: {mode: PERMISSIVE}"),
    ];
    let model = model(&text.concat());
    let of = |pod: &str| names(&model.workload_parts(&Client { pod: pod.into(), ..client("prod") }));
    let wide = ["AuthorizationPolicy prod/all", "PeerAuthentication causeway-system/mesh", "PeerAuthentication prod/p"];
    assert_eq!(of("stable"), wide);
    assert_eq!(of("canary")[1..], ["AuthorizationPolicy prod/canary", wide[1], wide[2]]);
    assert_eq!(names(&model.workload_parts(&client("dev"))), ["PeerAuthentication causeway-system/mesh"]);
}

#[test]
fn a_subject_knows_the_generation_that_was_read_and_the_one_in_force() {
    let route = |spec: &str, number| generation(&custom("VirtualService", "dev", "v", spec), number);
    let (good, bad) = (route(SPLIT, 4), route(&SPLIT.replace("v1-canary", "v9"), 5));
    let compile_next = |before: Option<&Model>, events: Vec<Event>| {
        let mut resources = Resources::default();
        events.into_iter().for_each(|e| resources.apply(e));
        compile_after(before, &Arc::new(resources), &Settings::default())
    };
    let v = key(Kind::VirtualService, "dev", "v");
    let first = compile_next(None, events(&[prodsvc(), good.clone()].concat()));
    let subject = &first.subjects()[&v];
    assert_eq!((subject.generation, subject.in_force), (4, Some(4)));
    assert_eq!(subject.hosts, ["prodsvc.prod.svc.cluster.local"]);
    let second = compile_next(Some(&first), events(&[prodsvc(), bad].concat()));
    let held = &second.subjects()[&v];
    assert_eq!((held.generation, held.in_force, held.problems.len()), (5, Some(4), 1));
    assert_ne!(held.version, subject.version);

    // A version that cannot be read at all.
    let mut all = events(&[prodsvc(), good].concat());
    all.push(Event::Refused { key: v.clone(), generation: 6, problems: Vec::new() });
    let refused = compile_next(None, all);
    assert_eq!((refused.subjects()[&v].generation, refused.subjects()[&v].in_force), (6, Some(4)));
    let never = Event::Refused { key: key(Kind::DestinationRule, "dev", "d"), generation: 1, problems: Vec::new() };
    let never = compile_next(None, vec![never]);
    assert_eq!(never.subjects().values().map(|s| s.in_force).collect::<Vec<_>>(), [None]);
}

#[test]
fn the_version_of_a_subject_differs_with_its_errors_and_not_with_its_neighbours() {
    let v = key(Kind::VirtualService, "dev", "v");
    let version = |text: &str| model(text).subjects()[&v].version;
    let route = custom("VirtualService", "dev", "v", SPLIT);
    let fine = version(&[prodsvc(), route.clone()].concat());
    let crowd = [prodsvc(), route.clone(), pod("dev", "api", "10.1.0.77", "app: api")].concat();
    assert_eq!(version(&crowd), fine);
    let without = prodsvc().replace(&custom("DestinationRule", "prod", "prodsvc", SUBSETS), "");
    assert_ne!(version(&[without, route].concat()), fine);
}
