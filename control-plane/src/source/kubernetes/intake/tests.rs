#![allow(clippy::unwrap_used)]

use super::*;
use crate::index::Index;
use crate::source::read::object;
use crate::source::resource::Origin;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::json;

const PODS: Target = BUILTIN[4].1;

fn read(target: Target, namespace: &str, name: &str, spec: &serde_json::Value) -> Read {
    let value = json!({"apiVersion": target.api_version(), "kind": target.kind,
        "metadata": {"namespace": namespace, "name": name, "uid": "u", "generation": 3}, "spec": spec});
    let outcome = object(&value, &Origin::default());
    Read { id: (namespace.into(), name.into()), uid: "u".into(), generation: 3, outcome }
}

fn route(at: usize, name: &str) -> Read {
    let target = CUSTOM[at].best(&CUSTOM[at].versions.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>()).unwrap();
    read(target, "dev", name, &json!({"hosts": ["a"]}))
}

fn installed(at: usize, versions: &[&str]) -> Installed {
    let served = Some(versions.iter().map(|v| (*v).to_owned()).collect());
    Installed { name: CUSTOM[at].definition(), served }
}

/// How many kinds are Causeway's own; they come first.
fn own_kinds() -> usize {
    CUSTOM.iter().take_while(|kind| kind.is_own()).count()
}

fn own() -> Vec<Installed> {
    (0..own_kinds()).map(|at| installed(at, &["v1alpha1"])).collect()
}

/// Where the kind with this definition stands.
fn position(definition: &str) -> usize {
    CUSTOM.iter().position(|kind| kind.definition() == definition).unwrap()
}

/// An intake that has heard every kind of Kubernetes' own and that those of Causeway are installed.
fn listed() -> Intake {
    let mut intake = Intake::default();
    for (_, target) in BUILTIN {
        intake.heard(target, Step::Listed(Vec::new()));
    }
    intake.nodes(Step::Listed(Vec::new()));
    let orders = intake.definitions(Step::Listed(own()));
    assert_eq!((orders.stop.len(), orders.start.len()), (0, own_kinds()));
    intake
}

fn synced(events: &[Event]) -> bool {
    events.iter().any(|e| matches!(e, Event::Synced))
}

fn reported(index: &Index) -> Vec<(&'static str, String)> {
    index.snapshot().reported.iter().map(|p| (p.code, p.resource.clone())).collect()
}

fn forbidden() -> Fault {
    Fault::Forbidden("no".into())
}

#[test]
fn synced_comes_last_and_only_when_every_kind_was_listed() {
    let mut intake = listed();
    let targets: Vec<Target> = intake.following.values().copied().collect();
    for target in targets {
        assert!(!synced(&intake.events()));
        intake.heard(target, Step::Listed(Vec::new()));
    }
    let events = intake.events();
    assert!(matches!(events.last(), Some(Event::Synced)), "{events:?}");
    assert!(intake.events().is_empty());
}

#[test]
fn a_kind_of_ours_that_is_not_installed_is_a_problem_and_does_not_hold_the_start() {
    let mut intake = Intake::default();
    for (_, target) in BUILTIN {
        intake.heard(target, Step::Listed(Vec::new()));
    }
    intake.nodes(Step::Listed(Vec::new()));
    assert!(!synced(&intake.events()));
    intake.definitions(Step::Listed(Vec::new()));
    let mut index = Index::new();
    let events = intake.events();
    assert!(synced(&events));
    index.apply(events);
    assert_eq!(reported(&index).len(), own_kinds());
    assert!(reported(&index).contains(&("crd_missing", "virtualservices.causeway.dev".into())));
    for at in 0..own_kinds() {
        intake.definitions(Step::Applied(installed(at, &["v1alpha1"])));
    }
    index.apply(intake.events());
    assert!(reported(&index).is_empty());
}

#[test]
fn an_installed_policy_that_cannot_be_read_holds_the_start_and_a_route_does_not() {
    let mut intake = listed();
    let own: Vec<Target> = intake.following.values().copied().collect();
    own.iter().for_each(|t| intake.heard(*t, Step::Listed(Vec::new())));
    let at = [position("httproutes.gateway.networking.k8s.io"), position("authorizationpolicies.security.istio.io")];
    for at in at {
        intake.definitions(Step::Applied(installed(at, &["v1"])));
    }
    let [routes, policies] = at.map(|at| intake.following[&at]);
    intake.heard(routes, Step::Down(forbidden()));
    intake.heard(policies, Step::Down(forbidden()));
    assert!(!synced(&intake.events()));
    intake.heard(policies, Step::Listed(Vec::new()));
    assert!(synced(&intake.events()));
}

#[test]
fn a_failure_deletes_nothing_and_its_problem_goes_when_it_is_mended() {
    let (mut intake, mut index) = (listed(), Index::new());
    intake.heard(PODS, Step::Listed(vec![read(PODS, "n", "a", &json!({}))]));
    index.apply(intake.events());
    for fault in [forbidden(), Fault::Busy(None), Fault::Unavailable("away".into())] {
        intake.heard(PODS, Step::Down(fault));
        index.apply(intake.events());
        assert_eq!((index.snapshot().pods.len(), reported(&index).len()), (1, 1));
    }
    intake.heard(PODS, Step::Up);
    index.apply(intake.events());
    assert_eq!((index.snapshot().pods.len(), reported(&index).len()), (1, 0));
    intake.heard(PODS, Step::Listed(Vec::new()));
    index.apply(intake.events());
    assert!(index.snapshot().pods.is_empty());
}

#[test]
fn a_definition_that_comes_brings_its_kind_and_one_that_goes_takes_its_resources() {
    let (mut intake, mut index) = (listed(), Index::new());
    let at = position("virtualservices.networking.istio.io");
    let orders = intake.definitions(Step::Applied(installed(at, &["v1beta1", "v1alpha3"])));
    assert_eq!(orders.start.iter().map(|t| t.version).collect::<Vec<_>>(), ["v1beta1"]);
    intake.heard(orders.start[0], Step::Listed(vec![route(at, "a")]));
    intake.heard(intake.following[&0], Step::Listed(vec![route(0, "a")]));
    index.apply(intake.events());
    assert_eq!(index.snapshot().virtual_services.len(), 2);

    // A better version: followed instead, and nothing goes meanwhile.
    let old = orders.start[0];
    let orders = intake.definitions(Step::Applied(installed(at, &["v1", "v1beta1"])));
    assert_eq!((orders.stop.clone(), orders.start[0].version), (vec![old], "v1"));
    index.apply(intake.events());
    assert_eq!(index.snapshot().virtual_services.len(), 2);
    intake.heard(orders.start[0], Step::Listed(vec![route(at, "b")]));
    index.apply(intake.events());
    let names = |index: &Index| index.snapshot().virtual_services.keys().map(|k| k.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&index), ["a", "b"]);

    let orders = intake.definitions(Step::Deleted((String::new(), CUSTOM[at].definition())));
    assert_eq!((orders.stop.len(), orders.start.len()), (1, 0));
    index.apply(intake.events());
    assert_eq!(names(&index), ["a"]);
}

#[test]
fn a_definition_that_is_not_served_for_a_while_costs_no_policy() {
    let (mut intake, mut index) = (listed(), Index::new());
    let policies = intake.following[&2];
    let policy = || read(policies, "dev", "deny-all", &json!({}));
    intake.heard(policies, Step::Listed(vec![policy()]));
    for served in [Some(vec!["v2".to_owned()]), None] {
        let orders = intake.definitions(Step::Applied(Installed { name: CUSTOM[2].definition(), served }));
        assert_eq!(orders.start, []);
        index.apply(intake.events());
        assert_eq!(index.snapshot().authorization_policies.len(), 1);
        assert_eq!(reported(&index), [("crd_missing", CUSTOM[2].definition())]);
    }
    let orders = intake.definitions(Step::Applied(installed(2, &["v1alpha1"])));
    assert_eq!(orders.start, [policies]);
    intake.heard(policies, Step::Listed(vec![policy()]));
    index.apply(intake.events());
    assert_eq!((index.snapshot().authorization_policies.len(), reported(&index).len()), (1, 0));
    intake.definitions(Step::Applied(Installed { name: CUSTOM[2].definition(), served: None }));
    intake.definitions(Step::Deleted((String::new(), CUSTOM[2].definition())));
    index.apply(intake.events());
    assert!(index.snapshot().authorization_policies.is_empty());
}

#[test]
fn a_definition_that_is_unchanged_stops_and_starts_nothing() {
    let mut intake = listed();
    assert_eq!(intake.definitions(Step::Applied(installed(1, &["v1alpha1"]))), Orders::default());
    assert_eq!(intake.definitions(Step::Listed(own())), Orders::default());
    assert_eq!(intake.definitions(Step::Down(forbidden())), Orders::default());
}

#[test]
fn a_broken_object_is_a_problem_of_its_own_and_leaves_its_last_good_version() {
    let (mut intake, mut index) = (listed(), Index::new());
    let target = intake.following[&0];
    let broken = |name| read(target, "dev", name, &json!({"hosts": "not a list"}));
    intake.heard(target, Step::Listed(vec![route(0, "a"), broken("b"), route(0, "c")]));
    index.apply(intake.events());
    assert_eq!((index.snapshot().virtual_services.len(), index.snapshot().found.len()), (2, 1));
    intake.heard(target, Step::Applied(broken("a")));
    index.apply(intake.events());
    let snapshot = index.snapshot();
    assert_eq!((snapshot.virtual_services.len(), snapshot.found.len()), (2, 2));
    assert!(snapshot.refused.values().all(|generation| *generation == 3));
}

fn node(name: &str, zone: &str, region: &str) -> Located {
    Located { name: name.into(), zone: zone.into(), region: region.into() }
}

#[test]
fn pods_are_where_their_node_is_whichever_was_heard_of_first() {
    let (mut intake, mut index) = (listed(), Index::new());
    intake.events();
    let pod = |name: &str, node: &str| read(PODS, "n", name, &json!({"nodeName": node}));
    intake.heard(PODS, Step::Listed(vec![pod("first", "east"), pod("other", "west"), pod("new", "")]));
    intake.nodes(Step::Listed(vec![node("east", "a", "eu"), node("west", "b", "eu")]));
    intake.heard(PODS, Step::Applied(pod("second", "east")));
    let places = |intake: &mut Intake, index: &mut Index| {
        index.apply(intake.events());
        let snapshot = index.snapshot();
        let place =
            |p: &std::sync::Arc<crate::source::resource::Pod>| format!("{} {} {}", p.meta.key.name, p.zone, p.region);
        snapshot.pods.values().map(place).collect::<Vec<_>>()
    };
    assert_eq!(places(&mut intake, &mut index), ["first a eu", "new  ", "other b eu", "second a eu"]);
    // The same again, as a node's status brings it many times a day, is nothing.
    intake.nodes(Step::Applied(node("east", "a", "eu")));
    assert!(intake.events().is_empty());
    intake.nodes(Step::Applied(node("east", "c", "eu")));
    let events = intake.events();
    assert_eq!(events.len(), 2, "its two pods, and no others");
    index.apply(events);
    assert_eq!(places(&mut intake, &mut index), ["first c eu", "new  ", "other b eu", "second c eu"]);
    intake.nodes(Step::Deleted((String::new(), "west".into())));
    assert_eq!(places(&mut intake, &mut index)[2], "other  ");
}

#[test]
fn a_pods_own_label_wins_over_its_nodes() {
    let (mut intake, mut index) = (listed(), Index::new());
    intake.nodes(Step::Applied(node("east", "a", "eu")));
    let value = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "n", "name": "p", "uid": "u",
        "labels": {"topology.kubernetes.io/zone": "own"}}, "spec": {"nodeName": "east"}});
    let outcome = object(&value, &Origin::default());
    intake.heard(PODS, Step::Applied(Read { id: ("n".into(), "p".into()), uid: "u".into(), generation: 1, outcome }));
    index.apply(intake.events());
    let snapshot = index.snapshot();
    let pod = snapshot.pods.values().next().unwrap();
    assert_eq!((pod.zone.as_str(), pod.region.as_str()), ("own", "eu"));
}

#[test]
fn nodes_that_may_not_be_read_are_told_and_do_not_hold_the_start() {
    let mut intake = Intake::default();
    for (_, target) in BUILTIN {
        intake.heard(target, Step::Listed(Vec::new()));
    }
    intake.definitions(Step::Listed(Vec::new()));
    assert!(!synced(&intake.events()));
    intake.nodes(Step::Down(forbidden()));
    let mut index = Index::new();
    let events = intake.events();
    assert!(synced(&events));
    index.apply(events);
    assert!(reported(&index).iter().any(|(_, resource)| resource == "nodes"), "{:?}", reported(&index));
}

proptest! {
    /// Any mixture of lists, changes and failures ends where the last state of each object says.
    #[test]
    fn bursts_of_any_size_lead_to_the_same_index(
        worlds in vec(btree_map("[a-e]", 0..3u8, 0..5), 1..5), cuts in vec(any::<bool>(), 5), fails in vec(any::<bool>(), 5)
    ) {
        let (mut intake, mut index) = (listed(), Index::new());
        for ((world, cut), fail) in worlds.iter().zip(cuts).zip(fails) {
            if fail {
                intake.heard(PODS, Step::Down(Fault::Busy(None)));
            }
            let pods = world.iter().map(|(name, account)| {
                read(PODS, "n", name, &json!({"serviceAccountName": format!("s{account}")}))
            });
            intake.heard(PODS, Step::Listed(pods.collect()));
            if cut {
                index.apply(intake.events());
            }
        }
        index.apply(intake.events());
        let snapshot = index.snapshot();
        let held: BTreeMap<String, String> =
            snapshot.pods.values().map(|p| (p.meta.key.name.clone(), p.account.clone())).collect();
        let last = worlds.last().unwrap().iter().map(|(name, account)| (name.clone(), format!("s{account}"))).collect();
        prop_assert_eq!(held, last);
        prop_assert!(reported(&index).is_empty());
    }
}
