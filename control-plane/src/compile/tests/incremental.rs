//! A model that takes over what did not change is the one that would have been made anew.

use super::properties::{ASKED, COUNT, answers, clients, pieces};
use super::*;
use proptest::prelude::*;
use proptest::sample::subsequence;

fn is_name_space(text: &str) -> bool {
    ["kind: Service\n", "kind: ServiceEntry\n", "kind: ReferenceGrant\n"].iter().any(|kind| text.contains(kind))
}

/// What names mean stays; all else comes and goes.
pub(crate) fn comes_and_goes() -> Vec<String> {
    pieces().into_iter().filter(|p| !is_name_space(p)).collect()
}

/// What gives names a meaning, in versions that take each other's place.
pub(crate) fn names() -> Vec<String> {
    let mut all: Vec<String> = pieces().into_iter().filter(|p| is_name_space(p)).collect();
    for (namespace, name, spec) in [
        (
            "prod",
            "a",
            "clusterIP: 10.96.0.1, selector: {app: a}, ports: [{name: http, port: 80, targetPort: 8080}], sessionAffinity: ClientIP",
        ),
        (
            "prod",
            "a",
            "clusterIP: 10.96.0.2, selector: {app: b}, ports: [{name: tcp, port: 80, targetPort: 8080}, {name: http, port: 82}]",
        ),
        ("prod", "a", "type: ExternalName, externalName: b.prod.svc.cluster.local"),
        ("prod", "b", "clusterIP: 10.96.0.1, selector: {app: b}, ports: [{name: http, port: 80}]"),
        ("prod", "h", "clusterIP: None, selector: {app: b}, ports: [{port: 80}]"),
        ("prod", "nosuch", "clusterIP: 10.96.0.2, selector: {app: a}, ports: [{name: http, port: 80}]"),
        ("dev", "a", "clusterIP: 10.96.0.9, ports: [{name: http, port: 80}]"),
        ("dev", "h", "clusterIP: None, selector: {app: web}, ports: [{port: 8080}]"),
        ("dev", "chain", "type: ExternalName, externalName: a.dev.svc.cluster.local"),
        ("dev", "out", "type: ExternalName, externalName: api.example.com"),
    ] {
        all.push(service(namespace, name, spec));
    }
    let alike = service(
        "prod",
        "a",
        "clusterIP: 10.96.0.1, selector: {app: a}, ports: [{name: http, port: 80, targetPort: 8080}]",
    );
    all.push(alike.replace("namespace: prod}", "namespace: prod, labels: {nobody: asks}}"));
    let dns = "resolution: DNS\nports: [{number: 80, name: http}, {number: 443, name: tls, protocol: TLS}]";
    let fixed = "addresses: [192.0.2.0/28]\nresolution: STATIC\nports: [{number: 80, name: http}]\nendpoints: [{address: 10.0.0.3}, {address: 198.51.100.7}]";
    for (namespace, name, hosts, rest) in [
        ("dev", "one", "api.example.com", dns),
        ("dev", "one", "other.example.com", dns),
        ("dev", "two", "'*.example.com', api.example.com", dns),
        ("causeway-system", "root", "'*.example.com'", dns),
        ("causeway-system", "root", "'*.com'", &format!("exportTo: [prod]\n{dns}")),
        ("prod", "fixed", "db.example.com", fixed),
        ("prod", "fixed", "db.example.com", "addresses: [192.0.2.5]\nports: [{number: 81, name: http}]"),
        ("causeway-system", "fixed", "db.example.com", fixed),
    ] {
        all.push(custom("ServiceEntry", namespace, name, &format!("hosts: [{hosts}]\n{rest}")));
    }
    // Named by nothing but the reference of a route.
    for spec in [
        "clusterIP: 10.96.0.8, ports: [{name: http, port: 80}]",
        "clusterIP: 10.96.0.8, ports: [{name: http, port: 81}]",
    ] {
        all.push(service("dev", "only", spec));
    }
    let parent = "parentRefs: [{group: '', kind: Service, name: a, namespace: prod}]";
    let rules = "rules: [{backendRefs: [{name: only, port: 80}]}]";
    all.push(crate::compile::gateway::tests::route("HTTPRoute", "dev", "to-only", &format!("{parent}\n{rules}")));
    let routes = "http:\n- route: [{destination: {host: api.example.com, port: {number: 80}}, weight: 1}, {destination: {host: chain}, weight: 1}, {destination: {host: nosuch.prod}, weight: 1}]";
    for hosts in ["api.example.com", "chain", "a", "nosuch.prod"] {
        all.push(custom("VirtualService", "dev", &format!("of-{hosts}"), &format!("hosts: [{hosts}]\n{routes}")));
    }
    all
}

/// Everything that is asked, more than the pieces of [`properties`] need.
pub(crate) fn asked() -> Vec<String> {
    let more = [
        "a.dev:80",
        "chain.dev:80",
        "chain.dev:82",
        "out.dev:80",
        "nosuch:80",
        "b.prod:80",
        "h.prod:80",
        "h.dev:8080",
        "a.prod:82",
        "web.h.dev:8080",
        "10-0-0-1.h.prod:8080",
        "b-1.h.prod:80",
        "10.96.0.2:80",
        "10.96.0.9:80",
        "10.0.0.2:8080",
        "10.0.0.2:80",
        "api.example.com:80",
        "x.example.com:443",
        "other.example.com:80",
        "db.example.com:80",
        "192.0.2.5:80",
        "192.0.2.5:81",
        "198.51.100.7:80",
        "203.0.113.1:443",
        "[fd00::9]:80",
    ];
    ASKED.iter().copied().chain(more).map(str::to_owned).collect()
}

pub(crate) fn put(resources: &mut Resources, text: &str) {
    events(text).into_iter().for_each(|e| resources.apply(e));
}

pub(crate) fn take(resources: &mut Resources, text: &str) {
    for event in events(text) {
        if let Event::Upsert { resource, .. } = event {
            resources.apply(Event::Delete(resource.meta().key.clone()));
        }
    }
}

/// As `before`, which nothing can be taken over from but what stays in force.
pub(super) fn forgotten(before: &Model) -> Model {
    Model {
        settings: Settings { trust_domain: "another".to_owned(), ..before.settings.clone() },
        resources: Arc::clone(&before.resources),
        directions: Arc::clone(&before.directions),
        ..Model::default()
    }
}

/// Asserts that what `before` answered and what is said to be untouched is what `after` answers.
fn assert_untouched_is_the_same(before: &Model, after: &Model) -> usize {
    let Some(touched) = after.touched(before) else { return 0 };
    let is_kept = |topics: &[Topic]| !topics.iter().any(|topic| touched.topics.contains(topic));
    let mut kept = 0;
    for client in clients() {
        for text in &asked() {
            let found = before.answer(&client, text);
            for backend in &found.destination.backends {
                if is_kept(&before.used_by_backend(&backend.name)) {
                    assert_eq!(before.endpoints(&backend.name), after.endpoints(&backend.name), "{touched:?}");
                }
            }
            if is_kept(&found.topics) && before.distinction(&client) == after.distinction(&client) {
                assert_eq!(found, after.answer(&client, text), "{touched:?}");
                kept += 1;
            }
        }
        if !touched.workloads && !touched.pods.contains(&(client.namespace.clone(), client.pod.clone())) {
            let of = |model: &Model| (model.workload(&client), model.workload_parts(&client));
            assert_eq!(of(before), of(after));
        }
        if !touched.namespaces.contains(&client.namespace) {
            assert_eq!(before.prefetch(&client), after.prefetch(&client));
        }
    }
    kept
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn what_is_taken_over_is_what_would_be_made_anew(
        first in subsequence(comes_and_goes(), 0..=COUNT),
        steps in proptest::collection::vec((subsequence(comes_and_goes(), 0..4), subsequence(comes_and_goes(), 0..4)), 1..5),
    ) {
        let settings = Settings::default();
        let fixed: Vec<String> = pieces().into_iter().filter(|p| is_name_space(p)).collect();
        let mut index = Resources::default();
        fixed.iter().chain(&first).for_each(|text| put(&mut index, text));
        let mut before = compile(&Arc::new(index.clone()), &settings);
        for (new, gone) in steps {
            new.iter().for_each(|text| put(&mut index, text));
            gone.iter().for_each(|text| take(&mut index, text));
            let resources = Arc::new(index.clone());
            let after = compile_after(Some(&before), &resources, &settings);
            let anew = compile_after(Some(&forgotten(&before)), &Arc::new(index.apart()), &settings);
            prop_assert_eq!(after.problems(), anew.problems());
            prop_assert_eq!(answers(&after), answers(&anew));
            prop_assert_eq!(after.subjects(), anew.subjects());
            assert_untouched_is_the_same(&before, &after);
            before = after;
        }
    }
}

/// Everything that is asked, as each client is answered, with the endpoints of every backend.
fn everything(model: &Model) -> Vec<(Answer, Vec<Option<wire::Endpoints>>)> {
    let (clients, asked) = (clients(), asked());
    let each = clients.iter().flat_map(|client| asked.iter().map(move |text| model.answer(client, text)));
    let with_endpoints = |answer: Answer| {
        let endpoints = answer.destination.backends.iter().map(|b| model.endpoints(&b.name)).collect();
        (answer, endpoints)
    };
    each.map(with_endpoints).collect()
}

/// What is put in, what is taken away, and what else changes, in one step.
pub(super) type Step = (Vec<String>, Vec<String>, Vec<String>);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (subsequence(names(), 0..3), subsequence(names(), 0..3), subsequence(comes_and_goes(), 0..2));
    proptest::collection::vec(step, 1..8)
}

/// Asserts after each step that what took over is what is made anew, and that what is said to be untouched is.
pub(super) fn assert_steps_change_what_they_touch(first: &[String], named: &[String], steps: Vec<Step>) {
    let settings = Settings::default();
    let mut index = Resources::default();
    first.iter().chain(named).for_each(|text| put(&mut index, text));
    let mut before = compile(&Arc::new(index.clone()), &settings);
    for (new, gone, other) in steps {
        gone.iter().for_each(|text| take(&mut index, text));
        new.iter().for_each(|text| put(&mut index, text));
        // The same pod or rule once more, or one that went.
        for (at, text) in other.iter().enumerate() {
            if at == 0 { put(&mut index, text) } else { take(&mut index, text) }
        }
        let after = compile_after(Some(&before), &Arc::new(index.clone()), &settings);
        let anew = compile_after(Some(&forgotten(&before)), &Arc::new(index.apart()), &settings);
        assert_eq!(after.problems(), anew.problems());
        assert_eq!(everything(&after), everything(&anew));
        assert_eq!(after.subjects(), anew.subjects());
        for client in clients() {
            assert_eq!(after.prefetch(&client), anew.prefetch(&client));
            assert_eq!(after.workload(&client), anew.workload(&client));
        }
        assert_untouched_is_the_same(&before, &after);
        before = after;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_names_mean_comes_and_goes_and_what_is_said_to_be_untouched_stays(
        first in subsequence(comes_and_goes(), 0..=COUNT),
        named in subsequence(names(), 0..=20),
        steps in steps(),
    ) {
        assert_steps_change_what_they_touch(&first, &named, steps);
    }

    /// Where nothing is broken, routes and rules are not worked out again for each name.
    #[test]
    fn what_names_mean_changes_among_few(
        first in subsequence(comes_and_goes(), 0..=6),
        named in subsequence(names(), 0..=12),
        steps in steps(),
    ) {
        assert_steps_change_what_they_touch(&first, &named, steps);
    }
}

/// What the last of several resources touches, put in one after the other; the last may be another version of one before.
fn touched_by_the_last(texts: &[String]) -> Touched {
    let mut index = Resources::default();
    let (last, before) = texts.split_last().unwrap();
    before.iter().for_each(|text| put(&mut index, text));
    let before = compile(&Arc::new(index.clone()), &Settings::default());
    put(&mut index, last);
    let after = compile_after(Some(&before), &Arc::new(index), &Settings::default());
    assert_untouched_is_the_same(&before, &after);
    after.touched(&before).unwrap().clone()
}

#[test]
fn a_service_touches_who_asks_for_it_and_its_namespace() {
    let own = |namespace: &str, name: &str| Topic::Service((namespace.to_owned(), name.to_owned()));
    let route =
        custom("VirtualService", "dev", "v", "hosts: [b.prod]\nhttp: [{route: [{destination: {host: b.prod}}]}]");
    let others = [
        service("prod", "a", "clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]"),
        service("prod", "b", "clusterIP: 10.96.0.2, ports: [{name: http, port: 80}]"),
        route,
    ];
    let new = service("test", "new", "clusterIP: 10.96.0.3, ports: [{port: 80}]");
    let touched = touched_by_the_last(&[&others[..], &[new]].concat());
    assert_eq!(touched.topics, [own("test", "new"), Topic::Address([10, 96, 0, 3].into())].into());
    assert_eq!((touched.namespaces, touched.workloads, touched.pods), (["test".to_owned()].into(), false, [].into()));

    let moved = others[1].replace("10.96.0.2", "10.96.0.4");
    let touched = touched_by_the_last(&[&others[..], &[moved]].concat());
    let addresses = [2, 4].map(|last| Topic::Address([10, 96, 0, last].into()));
    assert_eq!(touched.topics, [own("prod", "b")].into_iter().chain(addresses).collect());
    assert_eq!(
        touched.namespaces,
        ["dev".to_owned(), "prod".to_owned()].into(),
        "dev routes it, and is sent it unasked"
    );

    let labelled = others[0].replace("namespace: prod}", "namespace: prod, labels: {nobody: asks}}");
    assert_eq!(touched_by_the_last(&[&others[..], &[labelled]].concat()), Touched::default());
}

#[test]
fn a_route_is_touched_by_the_service_or_grant_that_it_waited_for() {
    let own = |name: &str| Topic::Service(("prod".to_owned(), name.to_owned()));
    let route = custom("VirtualService", "prod", "v", "hosts: [a]\nhttp: [{route: [{destination: {host: later}}]}]");
    let a = service("prod", "a", "ports: [{name: http, port: 80}]");
    let later = service("prod", "later", "ports: [{name: http, port: 80}]");
    let model = model(&[a.clone(), route.clone()].concat());
    assert!(model.answer(&client("dev"), "a.prod:80").topics.contains(&own("later")));
    let touched = touched_by_the_last(&[a, route, later]);
    assert!(touched.topics.contains(&own("later")), "{touched:?}");
    assert!(model.answer(&client("dev"), "later.prod:80").topics.contains(&own("later")), "it is told when it comes");
}
