#![allow(clippy::unwrap_used)]

use super::*;
use crate::compile::tests::incremental::{asked, comes_and_goes, names, put, take};
use crate::compile::tests::properties::clients;
use crate::compile::{Settings, compile, compile_after};
use crate::index::Resources;
use crate::publish::session::Session;
use crate::source::read::{Outcome, items, object};
use crate::source::resource::Origin;
use crate::source::yaml::documents;
use crate::source::{Event, Kind};
use proptest::prelude::*;
use proptest::sample::subsequence;
use std::fmt::Write as _;

fn key(name: &str) -> Arc<Key> {
    let key =
        Key { kind: Kind::VirtualService, namespace: "dev".into(), name: name.into(), group: "causeway.dev".into() };
    Arc::new(key)
}

#[test]
fn a_version_came_with_the_first_configuration_that_has_it() {
    let (a, b) = (key("a"), key("b"));
    let first = since([(&a, 1), (&b, 1)].into_iter(), None, 5);
    let second = since([(&a, 1), (&b, 2)].into_iter(), Some(&first), 6);
    assert_eq!((second[&a].serial, second[&b].serial), (5, 6));
    // Back to what it was before is another change.
    let other = [key("a"), key("b")];
    assert_eq!(since([(&other[0], 1), (&other[1], 2)].into_iter(), Some(&second), 7), second, "whoever holds the keys");
    let third = since([(&b, 1)].into_iter(), Some(&second), 7);
    assert_eq!(third.len(), 1);
    assert_eq!(third[&b], Came { version: 1, serial: 7 });
}

#[test]
fn equal_sets_are_one() {
    let view = View::new(Arc::default(), wire::TrustBundle::default());
    let one = view.shared([key("a"), key("b")].into());
    assert!(Arc::ptr_eq(&one, &view.shared([key("b"), key("a")].into())));
    assert!(!Arc::ptr_eq(&one, &view.shared([key("a")].into())));
}

fn view_of(text: &str) -> View {
    let mut resources = Resources::default();
    for document in documents(text).unwrap() {
        for (_, value) in items(document.value) {
            let Outcome::Usable(resource, problems) = object(&value, &Origin::default()) else { panic!("{value}") };
            resources.apply(Event::Upsert { resource, problems });
        }
    }
    View::new(Arc::new(compile(&Arc::new(resources), &Settings::default())), wire::TrustBundle::default())
}

fn client(namespace: &str, pod: &str) -> Client {
    Client { namespace: namespace.into(), account: "web".into(), pod: pod.into() }
}

/// Services `s0`, `s1`, ... of prod, each with a route in dev.
fn services(count: usize, labels: &str) -> String {
    let mut text = String::new();
    for n in 0..count {
        let _ = write!(
            text,
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{n}, namespace: prod}}\n\
             spec: {{clusterIP: 10.96.{}.{}, ports: [{{name: http, port: 80}}]}}\n\
             ---\napiVersion: causeway.dev/v1alpha1\nkind: VirtualService\nmetadata: {{name: s{n}, namespace: dev}}\n\
             spec: {{hosts: [s{n}.prod], http: [{{{labels}route: [{{destination: {{host: s{n}.prod}}}}]}}]}}\n",
            n / 250,
            n % 250 + 1
        );
    }
    text
}

#[test]
fn a_destination_is_made_once_for_all_clients_that_get_the_same() {
    let view = view_of(&services(1, ""));
    let of = |namespace: &str, pod: &str| view.destination(&client(namespace, pod), "s0.prod:80");
    assert!(Arc::ptr_eq(&of("dev", "a"), &of("dev", "b")));
    assert!(!Arc::ptr_eq(&of("dev", "a"), &of("prod", "a")), "its routes are of dev alone");
    assert_eq!((of("dev", "a").parts.len(), of("prod", "a").parts.len()), (1, 0));
    assert_eq!(view.concerns(&client("dev", "a"), []).len(), 1, "what the namespace routes is sent unasked");
}

#[test]
fn clients_whose_labels_a_route_looks_at_are_told_apart() {
    let pod = |name: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: dev, labels: {{app: {name}}}}}\n\
             spec: {{containers: []}}\n"
        )
    };
    let text = [services(1, "match: [{sourceLabels: {app: web}}], "), pod("web"), pod("api")].concat();
    let view = view_of(&text);
    let of = |pod: &str| view.destination(&client("dev", pod), "s0.prod:80").parts.len();
    assert_eq!((of("web"), of("api"), of("web")), (1, 0, 1));
}

/// What once took seconds: each stream compiled each destination anew.
#[test]
fn a_change_reaches_many_streams_at_the_cost_of_one() {
    const STREAMS: usize = 200;
    let view = view_of(&services(51, "")).after(None, 1);
    let hello =
        wire::Hello { destinations: (0..51).map(|n| format!("s{n}.prod:80")).collect(), ..wire::Hello::default() };
    let mut sessions: Vec<_> =
        (0..STREAMS).map(|n| Session::new(client("dev", &format!("web-{n}")), &hello, []).unwrap()).collect();
    let began = crate::clock::now();
    for session in &mut sessions {
        assert!(session.next(&view).unwrap().resources.len() > 51);
    }
    let first = began.elapsed();
    let first_standing = sessions[0].standing();
    assert!(sessions.iter().all(|s| Arc::ptr_eq(&s.standing().concerns, &first_standing.concerns)));
    assert_eq!(first_standing.concerns.len(), 51);
    assert!(first.as_secs() < 5, "{first:?}");
}

/// What once compiled every destination of every client anew.
#[test]
fn a_weight_leaves_every_other_answer_as_it_was() {
    let mut resources = Resources::default();
    let put = |resources: &mut Resources, text: &str| {
        for document in documents(text).unwrap() {
            let Outcome::Usable(resource, problems) = object(&document.value, &Origin::default()) else { panic!() };
            resources.apply(Event::Upsert { resource, problems });
        }
    };
    put(&mut resources, &services(20, ""));
    let settings = Settings::default();
    let first = Arc::new(compile(&Arc::new(resources.clone()), &settings));
    let before = View::new(Arc::clone(&first), wire::TrustBundle::default()).after(None, 1);
    let hello = wire::Hello { destinations: (0..20).map(|n| format!("s{n}.prod:80")).collect(), ..Default::default() };
    let mut sessions = [client("dev", "a"), client("test", "b")].map(|c| Session::new(c, &hello, []).unwrap());
    for session in &mut sessions {
        let update = session.next(&before).unwrap();
        session.on_ack(update.nonce).unwrap();
    }

    let route = "apiVersion: causeway.dev/v1alpha1\nkind: VirtualService\nmetadata: {name: s7, namespace: dev}\n\
                 spec: {hosts: [s7.prod], http: [{timeout: 3s, route: [{destination: {host: s7.prod}}]}]}\n";
    put(&mut resources, route);
    let second = crate::compile::compile_after(Some(&first), &Arc::new(resources), &settings);
    let all = |view: &View, namespace| -> Vec<Arc<Prepared>> {
        (0..20).map(|n| view.destination(&client(namespace, "a"), &format!("s{n}.prod:80"))).collect()
    };
    let known = ["dev", "test"].map(|namespace| (namespace, all(&before, namespace)));
    let after = View::new(Arc::new(second), wire::TrustBundle::default()).after(Some(&before), 2);
    for (namespace, known) in known {
        let now = all(&after, namespace);
        let made: Vec<usize> = (0..20).filter(|n| !Arc::ptr_eq(&known[*n], &now[*n])).collect();
        assert_eq!(made, [7]);
    }
    let sent = sessions.each_mut().map(|s| s.next(&after).map(|u| u.resources.len()));
    // By its name, which was asked for, and by its address, which is sent unasked.
    assert_eq!(sent, [Some(2), None], "the route is of dev alone");
    assert_eq!(sessions[1].standing().confirmed, 2, "nothing to send is in force at once");
}

/// A stream and what the proxy at its other end holds.
struct Stream {
    session: Session,
    held: BTreeMap<String, u64>,
}

impl Stream {
    fn new(client: Client) -> Self {
        let hello = wire::Hello { destinations: asked(), ..wire::Hello::default() };
        Self { session: Session::new(client, &hello, []).unwrap(), held: BTreeMap::new() }
    }

    /// Sends and acknowledges until nothing is left to send.
    fn settle(&mut self, view: &View) {
        while let Some(update) = self.session.next(view) {
            update.removed.iter().for_each(|name| _ = self.held.remove(name));
            self.held.extend(update.resources.iter().map(|r| (r.name.clone(), r.version)));
            self.session.on_ack(update.nonce).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn whoever_sleeps_through_changes_holds_what_a_new_stream_would_be_sent(
        first in subsequence(comes_and_goes(), 0..=30),
        named in subsequence(names(), 0..=20),
        steps in prop::collection::vec(
            (subsequence(names(), 0..2), subsequence(names(), 0..2), subsequence(comes_and_goes(), 0..2)),
            1..8,
        ),
    ) {
        let settings = Settings::default();
        let mut index = Resources::default();
        first.iter().chain(&named).for_each(|text| put(&mut index, text));
        let mut model = Arc::new(compile(&Arc::new(index.clone()), &settings));
        let mut view = View::new(Arc::clone(&model), wire::TrustBundle::default()).after(None, 1);
        let mut streams: Vec<Stream> = clients().into_iter().map(Stream::new).collect();
        streams.iter_mut().for_each(|s| s.settle(&view));
        for (number, (new, gone, other)) in (2..).zip(steps) {
            gone.iter().for_each(|text| take(&mut index, text));
            new.iter().for_each(|text| put(&mut index, text));
            for (at, text) in other.iter().enumerate() {
                if at == 0 { put(&mut index, text) } else { take(&mut index, text) }
            }
            model = Arc::new(compile_after(Some(&model), &Arc::new(index.clone()), &settings));
            view = View::new(Arc::clone(&model), wire::TrustBundle::default()).after(Some(&view), number);
            // No answer is taken over here, and nobody slept.
            let anew = View::new(Arc::clone(&model), wire::TrustBundle::default()).after(None, number);
            for stream in &mut streams {
                if !stream.session.passes(&view) {
                    stream.settle(&view);
                }
                let mut fresh = Stream::new(stream.session.client().clone());
                fresh.settle(&anew);
                prop_assert_eq!(&stream.held, &fresh.held);
                let (slept, awake) = (stream.session.standing(), fresh.session.standing());
                prop_assert_eq!((slept.confirmed, slept.concerns), (awake.confirmed, awake.concerns));
            }
        }
    }
}

#[test]
fn a_service_that_nobody_uses_wakes_nobody() {
    let service = |name: &str| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: other}}\nspec: {{ports: [{{port: 80}}]}}\n"
        )
    };
    let mut index = Resources::default();
    put(&mut index, &services(3, ""));
    let model = Arc::new(compile(&Arc::new(index.clone()), &Settings::default()));
    let before = View::new(Arc::clone(&model), wire::TrustBundle::default()).after(None, 1);
    let asks = |texts: &[&str]| {
        let hello = wire::Hello { destinations: texts.iter().map(|t| (*t).to_owned()).collect(), ..Default::default() };
        let mut session = Session::new(client("dev", "a"), &hello, []).unwrap();
        let update = session.next(&before).unwrap();
        session.on_ack(update.nonce).unwrap();
        session
    };
    let mut user = asks(&["s0.prod:80", "example.com:443", "203.0.113.1:443"]);
    let mut waiting = asks(&["late.other:80"]);
    put(&mut index, &service("late"));
    let model = Arc::new(compile_after(Some(&model), &Arc::new(index), &Settings::default()));
    let after = View::new(model, wire::TrustBundle::default()).after(Some(&before), 2);
    assert!(user.passes(&after) && user.next(&after).is_none());
    assert_eq!(user.standing().confirmed, 2);
    assert!(!waiting.passes(&after), "who asked before it was there hears of it");
    assert_eq!(waiting.next(&after).unwrap().resources.len(), 2);
}

#[test]
fn answers_that_nobody_uses_any_more_are_not_taken_over() {
    let view = view_of(&services(2, "")).after(None, 1);
    let used = view.destination(&client("dev", "a"), "s0.prod:80");
    drop(view.destination(&client("dev", "a"), "s1.prod:80"));
    let next = View::new(Arc::clone(&view.model), wire::TrustBundle::default()).after(Some(&view), 2);
    let kept: Vec<Arc<Prepared>> = next.destinations.read().unwrap().values().cloned().collect();
    assert_eq!(kept.len(), 1);
    assert!(Arc::ptr_eq(&kept[0], &used));
}
