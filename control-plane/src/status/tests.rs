#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::event::notices;
use super::*;
use crate::compile::Client;
use crate::publish::Progress;
use crate::publish::progress::{Refusal, Tally};
use crate::source::{Key, Kind};

fn key(name: &str) -> Arc<Key> {
    let key =
        Key { kind: Kind::VirtualService, namespace: "dev".into(), name: name.into(), group: "causeway.dev".into() };
    Arc::new(key)
}

fn subject(generation: i64, problems: &[(Severity, &'static str)]) -> Subject {
    let problem = |(severity, code): &(Severity, &'static str)| Problem {
        file: String::new(),
        line: 0,
        severity: *severity,
        code,
        resource: "VirtualService dev/v".into(),
        field: "spec.http[0].route[0].destination.subset".into(),
        message: "no DestinationRule defines it".into(),
        advice: "Add it.".into(),
    };
    Subject {
        uid: "u".into(),
        generation,
        in_force: Some(generation),
        hosts: vec!["prodsvc.prod.svc.cluster.local".into()],
        problems: problems.iter().map(problem).collect(),
        parents: None,
        version: 1,
    }
}

fn sum_of(acked: u32, total: u32) -> Sum {
    Sum { acked, total, settled: true, ..Sum::default() }
}

fn judge(subject: &Subject, sum: &Sum, previous: &Status, holds: bool) -> Status {
    of(&Facts { subject, sum, previous, holds, now: 1_000 })
}

fn first(subject: &Subject, sum: &Sum) -> Status {
    judge(subject, sum, &Status::default(), false)
}

fn message(status: &Status, kind: &str) -> String {
    status.conditions.iter().find(|c| c.type_ == kind).unwrap().message.clone()
}

fn programmed_of(status: &Status) -> (&str, &str) {
    found(status, PROGRAMMED).unwrap()
}

#[test]
fn every_condition_says_of_which_generation_it_speaks() {
    let status = first(&subject(7, &[]), &sum_of(3, 3));
    assert!(status.conditions.iter().all(|c| c.observed_generation == Some(7)));
    assert_eq!(status.observed_generation, Some(7));
    assert_eq!((status.acked, status.total, status.proxies.as_deref()), (Some(3), Some(3), Some("3/3")));
    assert_eq!(status.resolved_hosts, ["prodsvc.prod.svc.cluster.local"]);
    assert_eq!(programmed_of(&status), ("True", "Programmed"));
    assert_eq!(message(&status, PROGRAMMED), "In force on 3 of 3 proxies.");
}

#[test]
fn programmed_is_true_only_when_nobody_is_awaited() {
    let fine = subject(1, &[]);
    let reason = |sum: &Sum| programmed_of(&first(&fine, sum)).1.to_owned();
    assert_eq!(reason(&sum_of(0, 0)), "NoProxies");
    let behind = Sum { behind: vec!["dev/web-2".into()], missing: vec!["dev/web-1".into()], ..sum_of(1, 3) };
    let status = first(&fine, &behind);
    assert_eq!(programmed_of(&status), ("False", "Pending"));
    assert_eq!(
        message(&status, PROGRAMMED),
        "In force on 1 of 3 proxies; waiting for dev/web-2; not connected: dev/web-1."
    );
    let lagging = Sum { lagging: vec!["cp-2".into()], settled: false, ..sum_of(3, 3) };
    assert_eq!(reason(&lagging), "Pending");
    assert_eq!(reason(&Sum { settled: false, ..sum_of(0, 0) }), "Pending");
    let silent = Sum { silent: vec!["cp-2".into()], ..sum_of(3, 3) };
    assert_eq!(programmed_of(&first(&fine, &silent)), ("Unknown", "ReplicaSilent"));
    assert!(message(&first(&fine, &silent), PROGRAMMED).contains("no answer from replica cp-2"));
}

#[test]
fn a_refusal_names_the_proxy_the_field_and_why() {
    let refusal = Refusal {
        workload: "dev/web".into(),
        resource: "destination/prodsvc.prod:80".into(),
        field: "routes[2].split".into(),
        message: "too many".into(),
    };
    let status = first(&subject(1, &[]), &Sum { refusals: vec![refusal], ..sum_of(1, 2) });
    assert_eq!(programmed_of(&status), ("False", "Refused"));
    let text = message(&status, PROGRAMMED);
    assert!(text.contains("dev/web refused destination/prodsvc.prod:80 at routes[2].split: too many."), "{text}");
}

#[test]
fn what_names_nothing_is_not_resolved_and_not_in_force() {
    let status = first(&subject(1, &[(Severity::Error, "unknown_subset")]), &sum_of(2, 2));
    assert_eq!(found(&status, ACCEPTED), Some(("True", "Accepted")));
    assert_eq!(found(&status, RESOLVED), Some(("False", "SubsetNotFound")));
    assert_eq!(programmed_of(&status), ("False", "NotInForce"));
    let text = message(&status, RESOLVED);
    assert_eq!(text, "spec.http[0].route[0].destination.subset: no DestinationRule defines it. Add it.");
}

#[test]
fn a_held_back_generation_names_the_one_in_force() {
    let held = Subject { in_force: Some(4), ..subject(5, &[(Severity::Error, "unknown_subset")]) };
    let status = first(&held, &sum_of(2, 2));
    assert_eq!(programmed_of(&status), ("False", "HeldBack"));
    assert!(message(&status, PROGRAMMED).contains("generation 4 stays in force, on 2 of 2 proxies"));
    assert_eq!(status.proxies.as_deref(), Some("0/2"), "of this generation, none");
    let refused = Subject { in_force: Some(4), ..subject(5, &[(Severity::Error, "wrong_type")]) };
    let status = first(&refused, &sum_of(2, 2));
    assert_eq!(found(&status, ACCEPTED), Some(("False", "Invalid")));
    assert!(message(&status, ACCEPTED).ends_with("Until then generation 4 stays in force."));
    let never = Subject { in_force: None, ..refused };
    assert_eq!(programmed_of(&first(&never, &sum_of(0, 0))), ("False", "NotInForce"));
}

#[test]
fn warnings_and_notes_change_no_condition() {
    let status = first(
        &subject(1, &[(Severity::Warning, "shadowed_route"), (Severity::Warning, "unknown_host")]),
        &sum_of(1, 1),
    );
    assert!(status.conditions.iter().all(|c| c.status == "True"), "{status:?}");
    assert!(message(&status, ACCEPTED).contains("no DestinationRule defines it"));
    let status = first(&subject(1, &[(Severity::Warning, "unknown_service_account")]), &sum_of(1, 1));
    assert_eq!(found(&status, RESOLVED), Some(("False", "ServiceAccountNotFound")));
    assert_eq!(programmed_of(&status).0, "True");
}

#[test]
fn a_transition_time_changes_with_the_status_alone() {
    let before = first(&subject(1, &[]), &sum_of(1, 1));
    let later = |subject: &Subject, sum: &Sum| of(&Facts { subject, sum, previous: &before, holds: false, now: 9_000 });
    let at = |status: &Status, kind: &str| {
        status.conditions.iter().find(|c| c.type_ == kind).unwrap().last_transition_time.0.as_second()
    };
    let more = later(&subject(2, &[]), &sum_of(2, 2));
    assert_eq!((at(&more, PROGRAMMED), at(&more, ACCEPTED)), (1_000, 1_000));
    let less = later(&subject(2, &[]), &sum_of(1, 2));
    assert_eq!((at(&less, PROGRAMMED), at(&less, ACCEPTED)), (9_000, 1_000));
    assert!(differs_much(&before, &less) && differs_much(&before, &more));
    assert!(!differs_much(&before, &later(&subject(1, &[]), &sum_of(5, 5))), "figures alone");
}

#[test]
fn proxies_that_come_and_go_do_not_take_it_away_at_once() {
    let fine = subject(1, &[]);
    let before = first(&fine, &sum_of(2, 2));
    let behind = Sum { behind: vec!["dev/web-3".into()], ..sum_of(2, 3) };
    assert_eq!(programmed_of(&judge(&fine, &behind, &before, true)), ("True", "Programmed"));
    assert_eq!(programmed_of(&judge(&fine, &behind, &before, false)), ("False", "Pending"));
    // An error of its own is no coming and going.
    let broken = subject(1, &[(Severity::Error, "unknown_subset")]);
    assert_eq!(programmed_of(&judge(&broken, &behind, &before, true)).0, "False");
}

#[test]
fn a_long_message_is_cut() {
    let mut long = subject(1, &[(Severity::Error, "wrong_type")]);
    long.problems[0].message = "ä".repeat(5_000);
    assert!(message(&first(&long, &sum_of(0, 0)), ACCEPTED).len() < MAX_MESSAGE + 10);
}

fn progress(version: u64, acked: u32, total: u32, connected: &[&str]) -> Progress {
    let tally = Tally { version, acked, total, settled: true, ..Tally::default() };
    Progress {
        tallies: BTreeMap::from([(key("v"), tally)]),
        connected: connected.iter().map(|c| (*c).to_owned()).collect(),
    }
}

#[test]
fn the_figures_of_replicas_add_up_only_where_they_speak_of_the_same() {
    let own = progress(1, 1, 2, &[]);
    let other = |name: &str, progress| Other { name: name.into(), progress };
    let same = other("cp-2", Some(Arc::new(progress(1, 3, 3, &[]))));
    let older = other("cp-3", Some(Arc::new(progress(9, 4, 4, &[]))));
    let found = sum(&key("v"), 1, &own, &[same.clone(), older, other("cp-4", None)], &Missing::default());
    assert_eq!((found.acked, found.total), (4, 9), "an older version is in force nowhere");
    assert_eq!((found.lagging, found.silent), (vec!["cp-3".to_owned()], vec!["cp-4".to_owned()]));
    let unknown = sum(&key("w"), 1, &own, &[same], &Missing::default());
    assert!(!unknown.settled && unknown.lagging == ["cp-2"]);
}

#[test]
fn a_running_pod_that_is_connected_nowhere_counts_as_behind() {
    let client = |pod: &str| Client { namespace: "dev".into(), account: "web".into(), pod: pod.into() };
    let own: BTreeSet<String> = ["dev/web-1".to_owned()].into();
    let other: BTreeSet<String> = ["dev/web-2".to_owned()].into();
    let concerns = Arc::new(BTreeSet::from([key("v")]));
    let running = ["web-1", "web-2", "web-3"].map(client).into_iter();
    let missing = Missing::new(running, &[&own, &other], |_| Arc::clone(&concerns));
    let found = sum(&key("v"), 1, &progress(1, 2, 2, &[]), &[], &missing);
    assert_eq!((found.acked, found.total, found.missing), (2, 3, vec!["dev/web-3".to_owned()]));
}

#[test]
fn an_event_tells_of_what_a_person_would_want_to_know() {
    let reasons = |before: &Status, after: &Status| -> Vec<(bool, String)> {
        notices(before, after).into_iter().map(|n| (n.is_warning, n.reason)).collect()
    };
    let (none, fine) = (Status::default(), first(&subject(1, &[]), &sum_of(1, 1)));
    let pending = |generation| first(&subject(generation, &[]), &sum_of(0, 1));
    assert_eq!(reasons(&none, &fine), [], "a thousand good resources are no news");
    assert_eq!(reasons(&none, &pending(1)), []);
    assert_eq!(reasons(&pending(1), &fine), [(false, "Programmed".to_owned())]);
    let next = first(&subject(2, &[]), &sum_of(1, 1));
    assert_eq!(reasons(&fine, &next), [(false, "Programmed".to_owned())], "a new generation is in force");
    assert_eq!(reasons(&fine, &pending(2)), []);
    let broken = first(&subject(2, &[(Severity::Error, "unknown_subset")]), &sum_of(1, 1));
    assert_eq!(reasons(&fine, &broken), [(true, "SubsetNotFound".to_owned())]);
    assert_eq!(reasons(&broken, &broken), []);
    assert_eq!(reasons(&broken, &next), [(false, RESOLVED.to_owned()), (false, "Programmed".to_owned())]);
    let refusal = Refusal { message: "x".repeat(5_000), ..Refusal::default() };
    let refused = first(&subject(1, &[]), &Sum { refusals: vec![refusal], ..sum_of(0, 1) });
    let told = notices(&pending(1), &refused);
    assert!(told[0].is_warning && told[0].note.len() <= 1_024);
}

/// 2,000 resources on three replicas: one look of the replica that writes.
#[test]
fn two_thousand_resources_are_judged_in_a_moment() {
    let all: Vec<_> = (0..2_000).map(|n| key(&format!("v{n}"))).collect();
    let tally = Tally { version: 1, acked: 5, total: 5, settled: true, ..Tally::default() };
    let tallies: BTreeMap<_, _> = all.iter().map(|k| (Arc::clone(k), tally.clone())).collect();
    let own = Progress { tallies, connected: BTreeSet::new() };
    let others = ["cp-2", "cp-3"].map(|name| Other { name: name.into(), progress: Some(Arc::new(own.clone())) });
    let fine = subject(1, &[]);
    let began = crate::clock::now();
    for key in &all {
        let sum = sum(key, 1, &own, &others, &Missing::default());
        assert_eq!((sum.acked, sum.total), (15, 15));
        assert_eq!(programmed_of(&first(&fine, &sum)).0, "True");
    }
    let took = began.elapsed();
    assert!(took.as_secs() < 5, "{took:?}");
}

mod parents {
    use super::*;
    use crate::compile::Parents;
    use crate::status::parents::{ParentStatus, differ_much, of};
    use causeway_crds::gateway::ParentReference;

    fn service(name: &str, port: Option<u32>) -> ParentReference {
        let (group, kind) = (Some(String::new()), Some("Service".to_owned()));
        ParentReference { group, kind, name: name.into(), port, ..ParentReference::default() }
    }

    /// A route of two rules with two Services as parents, between them a Gateway.
    fn route(problems: &[(&'static str, &str)]) -> Subject {
        let found = |(code, field): &(&'static str, &str)| Problem {
            field: (*field).to_owned(),
            ..subject(1, &[(Severity::Error, code)]).problems[0].clone()
        };
        let services = vec![(0, service("shop", Some(80))), (2, service("gone", None))];
        Subject {
            problems: problems.iter().map(found).collect(),
            parents: Some(Parents { services, rules: 2 }),
            ..subject(7, &[])
        }
    }

    fn told(subject: &Subject, before: &[ParentStatus]) -> Vec<ParentStatus> {
        let facts = Facts { subject, sum: &sum_of(2, 2), previous: &Status::default(), holds: false, now: 1_000 };
        of(&facts, before)
    }

    fn conditions(parent: &ParentStatus) -> Vec<(&str, &str, &str)> {
        parent.conditions.iter().map(|c| (&*c.type_, &*c.status, &*c.reason)).collect()
    }

    const FINE: [(&str, &str, &str); 3] = [
        ("Accepted", "True", "Accepted"),
        ("ResolvedRefs", "True", "ResolvedRefs"),
        ("Programmed", "True", "Programmed"),
    ];

    #[test]
    fn each_parent_is_echoed_and_judged_by_what_concerns_it() {
        let all = told(&route(&[("unknown_parent", "spec.parentRefs[2].name")]), &[]);
        let json = serde_json::to_value(&all[0]).unwrap();
        let echo = serde_json::json!({"group": "", "kind": "Service", "name": "shop", "port": 80});
        assert_eq!((&json["parentRef"], &json["controllerName"]), (&echo, &"causeway.dev/mesh-controller".into()));
        assert_eq!(conditions(&all[0]), FINE);
        assert_eq!(conditions(&all[1])[0], ("Accepted", "False", "NoMatchingParent"));
        assert!(all[0].conditions.iter().all(|c| c.observed_generation == Some(7)));
    }

    #[test]
    fn a_rule_that_is_dropped_is_partially_invalid_and_all_of_them_are_not_accepted() {
        let some = told(&route(&[("not_implemented", "spec.rules[1].filters[0].extensionRef")]), &[]);
        assert_eq!(conditions(&some[0])[..3], FINE);
        assert_eq!(conditions(&some[0])[3], ("PartiallyInvalid", "True", "UnsupportedValue"));
        let message = &some[0].conditions[3].message;
        assert!(message.starts_with("Dropped Rule spec.rules[1]: spec.rules[1].filters[0].extensionRef"), "{message}");
        let both =
            route(&[("incompatible_filters", "spec.rules[0].filters"), ("incompatible_filters", "spec.rules[1]")]);
        let both = told(&both, &[]);
        assert_eq!(conditions(&both[0])[0], ("Accepted", "False", "IncompatibleFilters"));
        assert_eq!((both[0].conditions.len(), conditions(&both[0])[2].1), (3, "False"));
        let whole = told(&route(&[("unknown_field", "spec.hostname")]), &[]);
        assert_eq!(conditions(&whole[0])[0], ("Accepted", "False", "UnsupportedValue"));
    }

    #[test]
    fn a_backend_that_is_not_valid_costs_its_share_and_not_the_route() {
        for (code, reason) in [
            ("unknown_service", "BackendNotFound"),
            ("unsupported_backend", "InvalidKind"),
            ("reference_not_permitted", "RefNotPermitted"),
        ] {
            let all = told(&route(&[(code, "spec.rules[0].backendRefs[0].name")]), &[]);
            let want = [FINE[0], ("ResolvedRefs", "False", reason), FINE[2]];
            assert_eq!(conditions(&all[0]), want);
        }
    }

    #[test]
    fn a_condition_that_stays_keeps_its_time() {
        let mut before = told(&route(&[]), &[]);
        for condition in before.iter_mut().flat_map(|p| &mut p.conditions) {
            condition.last_transition_time = Time(Timestamp::from_second(5).unwrap());
        }
        let after = told(&route(&[]), &before);
        assert_eq!(after, before);
        let after = told(&route(&[("unknown_service", "spec.rules[0].backendRefs[0].name")]), &before);
        let times: Vec<i64> = after[0].conditions.iter().map(|c| c.last_transition_time.0.as_second()).collect();
        assert_eq!(times, [5, 1_000, 5]);
        assert!(differ_much(&after, &before));
    }
}
