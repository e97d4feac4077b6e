#![allow(clippy::unwrap_used)]

use super::*;
use crate::publish::progress::progress;
use crate::publish::view::{Came, Since};
use crate::source::{Key, Kind};
use proptest::prelude::*;

/// A catalogue that a test changes at will: which destination has which backends, which backend which endpoints.
#[derive(Clone, Debug, Default)]
struct Facts {
    destinations: BTreeMap<String, Vec<String>>,
    endpoints: BTreeMap<String, u32>,
    prefetch: Vec<String>,
    roots: u8,
    serial: u64,
    /// What takes part in a destination.
    parts: BTreeMap<String, Vec<Arc<Key>>>,
}

fn prepared(name: String, body: wire::resource::Body) -> Arc<Prepared> {
    Arc::new(Prepared::new(name, body, Parts::default()))
}

impl Catalogue for Facts {
    fn serial(&self) -> u64 {
        self.serial
    }
    fn destination(&self, _client: &Client, text: &str) -> Arc<Prepared> {
        let backends = self.destinations.get(text).cloned().unwrap_or_default();
        let backend = |name| wire::Backend { name, ..Default::default() };
        let backends = backends.into_iter().map(backend).collect();
        let destination = wire::Destination { canonical: text.to_owned(), backends, ..Default::default() };
        let body = wire::resource::Body::Destination(destination);
        let parts: Parts = self.parts.get(text).into_iter().flatten().cloned().collect();
        Arc::new(Prepared::new(format!("destination/{text}"), body, parts))
    }
    fn endpoints(&self, backend: &str) -> Arc<Prepared> {
        let port = self.endpoints.get(backend);
        let endpoints = port.map(|port| wire::Endpoint { port: *port, ..Default::default() }).into_iter().collect();
        prepared(format!("endpoints/{backend}"), wire::resource::Body::Endpoints(wire::Endpoints { endpoints }))
    }
    fn workload(&self, client: &Client) -> Arc<Prepared> {
        let workload = wire::Workload { pod: client.pod.clone(), ..Default::default() };
        prepared("workload".into(), wire::resource::Body::Workload(workload))
    }
    fn trust(&self) -> Arc<Prepared> {
        let trust = wire::TrustBundle { trust_domain: "cluster.local".into(), roots_der: vec![vec![self.roots]] };
        prepared("trust".into(), wire::resource::Body::Trust(trust))
    }
    fn prefetch(&self, _client: &Client) -> Arc<[String]> {
        self.prefetch.as_slice().into()
    }
    fn shared(&self, concerns: Concerns) -> Arc<Concerns> {
        Arc::new(concerns)
    }
    fn touched(&self, client: &Client, looked: &Looked) -> Option<Vec<usize>> {
        let again = |p: &Prepared| match p.resource.name.split_once('/') {
            Some(("destination", text)) => self.destination(client, text),
            Some((_, backend)) => self.endpoints(backend),
            None => unreachable!("the rest is destinations and endpoints"),
        };
        let is_same = self.workload(client) == looked.workload
            && self.trust() == looked.trust
            && self.prefetch(client) == looked.prefetch;
        let rest = looked.rest.iter().enumerate();
        is_same.then(|| rest.filter(|(_, p)| again(p) != **p).map(|(place, _)| place).collect())
    }
    fn passes(&self, client: &Client, looked: &Looked) -> bool {
        self.touched(client, looked).is_some_and(|places| places.is_empty())
    }
}

/// The other end: applies what it gets, as a proxy does.
#[derive(Clone, Debug, Default)]
struct Proxy {
    holds: BTreeMap<String, wire::Resource>,
    uses: BTreeSet<String>,
}

impl Proxy {
    fn hello(&self) -> wire::Hello {
        let held = |(name, r): (&String, &wire::Resource)| wire::Held { name: name.clone(), version: r.version };
        wire::Hello {
            workload: "dev/web".into(),
            held: self.holds.iter().map(held).collect(),
            destinations: self.uses.iter().cloned().collect(),
            ..Default::default()
        }
    }

    fn apply(&mut self, update: &wire::Update) {
        for name in &update.removed {
            assert!(self.holds.remove(name).is_some(), "removed what was never there: {name}");
        }
        for resource in &update.resources {
            self.holds.insert(resource.name.clone(), resource.clone());
        }
        let own = directory::digest(self.holds.iter().map(|(n, r)| (n.as_str(), r.version)));
        assert_eq!(own, update.digest, "the digest is that of what the proxy holds");
    }
}

fn client() -> Client {
    Client { namespace: "dev".into(), account: "web".into(), pod: "web".into() }
}

fn session(proxy: &Proxy) -> Session {
    Session::new(client(), &proxy.hello(), []).unwrap()
}

/// Sends and acknowledges until nothing is left to send.
fn settle(session: &mut Session, facts: &Facts, proxy: &mut Proxy) {
    for _ in 0..10 {
        let Some(update) = session.next(facts) else { return };
        proxy.apply(&update);
        session.on_ack(update.nonce).unwrap();
    }
    panic!("the session does not come to rest");
}

#[derive(Clone, Debug)]
enum Step {
    Backends(u8, Vec<u8>),
    Endpoints(u8, Option<u32>),
    Prefetch(Vec<u8>),
    Roots(u8),
    Use(u8),
    Drop(u8),
    Pass,
    Exchange,
    NackAll,
    NackFirst,
    LoseUpdateAndReconnect,
    ApplyThenReconnect,
}

fn step() -> impl Strategy<Value = Step> {
    let few = || prop::collection::vec(0u8..5, 0..3);
    prop_oneof![
        (0u8..5, few()).prop_map(|(d, b)| Step::Backends(d, b)),
        (0u8..5, prop::option::of(1u32..4)).prop_map(|(b, p)| Step::Endpoints(b, p)),
        few().prop_map(Step::Prefetch),
        (0u8..3).prop_map(Step::Roots),
        (0u8..5).prop_map(Step::Use),
        (0u8..5).prop_map(Step::Drop),
        Just(Step::Pass),
        Just(Step::Exchange),
        Just(Step::NackAll),
        Just(Step::NackFirst),
        Just(Step::LoseUpdateAndReconnect),
        Just(Step::ApplyThenReconnect),
    ]
}

fn name(d: u8) -> String {
    format!("svc{d}:80")
}

/// One step; what a proxy nacked is counted in `nacked` so that the test knows when exactness cannot be asked for.
fn take(step: Step, session: &mut Session, facts: &mut Facts, proxy: &mut Proxy, nacked: &mut bool) {
    match step {
        Step::Backends(d, b) => {
            facts.destinations.insert(name(d), b.into_iter().map(|b| format!("b{b}")).collect());
        }
        Step::Endpoints(b, Some(port)) => drop(facts.endpoints.insert(format!("b{b}"), port)),
        Step::Endpoints(b, None) => drop(facts.endpoints.remove(&format!("b{b}"))),
        Step::Prefetch(all) => facts.prefetch = all.into_iter().map(name).collect(),
        Step::Roots(roots) => facts.roots = roots,
        Step::Use(d) => {
            proxy.uses.insert(name(d));
            session.on_subscribe(&wire::Subscribe { add: vec![name(d)], remove: vec![] }).unwrap();
        }
        Step::Drop(d) => {
            proxy.uses.remove(&name(d));
            session.on_subscribe(&wire::Subscribe { add: vec![], remove: vec![name(d)] }).unwrap();
        }
        Step::Pass => {
            facts.serial += 1;
            if session.passes(facts) {
                assert!(session.next(facts).is_none(), "nothing was to be sent");
                assert_eq!(session.standing().confirmed, facts.serial);
            }
        }
        Step::Exchange => {
            if let Some(update) = session.next(facts) {
                proxy.apply(&update);
                session.on_ack(update.nonce).unwrap();
            }
        }
        Step::NackAll | Step::NackFirst => {
            let Some(update) = session.next(facts) else { return };
            let Some(first) = update.resources.first() else {
                proxy.apply(&update);
                return session.on_ack(update.nonce).unwrap();
            };
            *nacked = true;
            let resource = if matches!(step, Step::NackFirst) { first.name.clone() } else { String::new() };
            let fault = wire::Fault { resource, field: "x".into(), message: "no".into() };
            session.on_nack(&wire::Nack { nonce: update.nonce, faults: vec![fault] }).unwrap();
        }
        Step::LoseUpdateAndReconnect => {
            let _ = session.next(facts);
            *session = self::session(proxy);
        }
        Step::ApplyThenReconnect => {
            if let Some(update) = session.next(facts) {
                proxy.apply(&update);
            }
            *session = self::session(proxy);
        }
    }
}

proptest! {
    #[test]
    fn a_proxy_ends_with_exactly_what_it_shall_hold(steps in prop::collection::vec(step(), 0..40)) {
        let (mut facts, mut proxy, mut nacked) = (Facts::default(), Proxy::default(), false);
        let mut session = session(&proxy);
        for step in steps {
            take(step, &mut session, &mut facts, &mut proxy, &mut nacked);
        }
        settle(&mut session, &facts, &mut proxy);
        if nacked {
            // A new stream forgets what was refused.
            session = self::session(&proxy);
            settle(&mut session, &facts, &mut proxy);
        }
        let expected: BTreeMap<String, wire::Resource> =
            session.wanted(&facts).into_iter().map(|(name, p)| (name, p.resource.clone())).collect();
        prop_assert_eq!(&proxy.holds, &expected);
        prop_assert!(session.resources().all(|(_, _, acked)| acked));
    }

    #[test]
    fn every_endpoint_a_destination_names_is_held_with_it(steps in prop::collection::vec(step(), 0..40)) {
        let (mut facts, mut proxy, mut nacked) = (Facts::default(), Proxy::default(), false);
        let mut session = session(&proxy);
        for step in steps {
            let is_nack = matches!(step, Step::NackAll | Step::NackFirst);
            take(step, &mut session, &mut facts, &mut proxy, &mut nacked);
            if is_nack && nacked {
                continue;
            }
            for resource in proxy.holds.values() {
                let Some(wire::resource::Body::Destination(d)) = &resource.body else { continue };
                for backend in &d.backends {
                    let name = format!("endpoints/{}", backend.name);
                    prop_assert!(nacked || proxy.holds.contains_key(&name), "{name} is missing");
                }
            }
        }
    }
}

#[test]
fn the_first_batch_comes_even_if_nothing_differs() {
    let (facts, mut proxy) = (Facts::default(), Proxy::default());
    let mut first = session(&proxy);
    settle(&mut first, &facts, &mut proxy);
    let mut resumed = session(&proxy);
    let update = resumed.next(&facts).unwrap();
    assert!(update.resources.is_empty() && update.removed.is_empty());
    resumed.on_ack(update.nonce).unwrap();
    assert!(resumed.next(&facts).is_none());
}

#[test]
fn only_one_batch_is_on_its_way() {
    let mut facts = Facts::default();
    let mut session = session(&Proxy::default());
    let first = session.next(&facts).unwrap();
    facts.roots = 1;
    assert!(session.next(&facts).is_none());
    assert!(session.is_waiting());
    session.on_ack(first.nonce).unwrap();
    let second = session.next(&facts).unwrap();
    assert_eq!(second.resources.len(), 1);
}

#[test]
fn what_was_refused_is_not_sent_again_until_it_changes_and_the_rest_goes_on() {
    let mut facts = Facts::default();
    let mut proxy = Proxy::default();
    let mut session = session(&proxy);
    settle(&mut session, &facts, &mut proxy);
    session.on_subscribe(&wire::Subscribe { add: vec!["a:80".into(), "b:80".into()], remove: vec![] }).unwrap();
    let update = session.next(&facts).unwrap();
    let fault = wire::Fault { resource: "destination/a:80".into(), field: "routes[0]".into(), message: "no".into() };
    session.on_nack(&wire::Nack { nonce: update.nonce, faults: vec![fault.clone()] }).unwrap();

    let rest = session.next(&facts).unwrap();
    assert_eq!(rest.resources.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["destination/b:80"]);
    proxy.apply(&rest);
    session.on_ack(rest.nonce).unwrap();
    assert!(session.next(&facts).is_none());
    assert_eq!(session.faults().collect::<Vec<_>>(), [&fault]);
    assert_eq!(session.resources().filter(|(_, _, acked)| !acked).count(), 1);

    facts.destinations.insert("a:80".into(), vec!["x".into()]);
    let changed = session.next(&facts).unwrap();
    assert!(changed.resources.iter().any(|r| r.name == "destination/a:80"));
    assert_eq!(session.faults().count(), 0);
}

#[test]
fn endpoints_of_a_destination_that_was_kept_are_kept_too() {
    let mut facts = Facts::default();
    facts.destinations.insert("a:80".into(), vec!["old".into()]);
    facts.endpoints.insert("old".into(), 1);
    let mut proxy = Proxy { uses: ["a:80".to_owned()].into(), ..Default::default() };
    let mut session = session(&proxy);
    settle(&mut session, &facts, &mut proxy);

    facts.destinations.insert("a:80".into(), vec!["new".into()]);
    let update = session.next(&facts).unwrap();
    let fault = wire::Fault { resource: "destination/a:80".into(), ..Default::default() };
    session.on_nack(&wire::Nack { nonce: update.nonce, faults: vec![fault] }).unwrap();
    settle(&mut session, &facts, &mut proxy);
    assert!(proxy.holds.contains_key("endpoints/old"));

    facts.destinations.insert("a:80".into(), vec!["newer".into()]);
    settle(&mut session, &facts, &mut proxy);
    assert!(!proxy.holds.contains_key("endpoints/old"));
}

#[test]
fn what_the_account_used_before_comes_unasked_until_it_is_not_wanted() {
    let facts = Facts::default();
    let mut proxy = Proxy::default();
    let mut session = Session::new(client(), &proxy.hello(), ["a:80".to_owned()]).unwrap();
    settle(&mut session, &facts, &mut proxy);
    assert!(proxy.holds.contains_key("destination/a:80"));
    session.on_subscribe(&wire::Subscribe { add: vec![], remove: vec!["a:80".into()] }).unwrap();
    settle(&mut session, &facts, &mut proxy);
    assert!(!proxy.holds.contains_key("destination/a:80"));
}

#[test]
fn a_stream_that_breaks_the_rules_is_told_how() {
    let facts = Facts::default();
    let mut session = session(&Proxy::default());
    assert_eq!(session.on_ack(1), Err(SessionError::Nonce(1)));
    let update = session.next(&facts).unwrap();
    assert_eq!(session.on_ack(update.nonce + 1), Err(SessionError::Nonce(update.nonce + 1)));
    session.on_ack(update.nonce).unwrap();
    assert_eq!(session.on_ack(update.nonce), Err(SessionError::Nonce(update.nonce)));

    let add = |text: String| wire::Subscribe { add: vec![text], remove: vec![] };
    assert_eq!(session.on_subscribe(&add(String::new())), Err(SessionError::Text));
    assert_eq!(session.on_subscribe(&add("a".repeat(MAX_TEXT + 1))), Err(SessionError::Text));
    let many = wire::Subscribe { add: (0..=MAX_DESTINATIONS).map(|i| format!("s{i}:80")).collect(), remove: vec![] };
    assert_eq!(session.on_subscribe(&many), Err(SessionError::TooMany));
}

#[test]
fn a_batch_that_only_removes_cannot_be_refused() {
    let facts = Facts::default();
    let mut proxy = Proxy { uses: ["a:80".to_owned()].into(), ..Default::default() };
    let mut session = session(&proxy);
    settle(&mut session, &facts, &mut proxy);
    session.on_subscribe(&wire::Subscribe { add: vec![], remove: vec!["a:80".into()] }).unwrap();
    let update = session.next(&facts).unwrap();
    let nack = wire::Nack { nonce: update.nonce, faults: vec![] };
    assert_eq!(session.on_nack(&nack), Err(SessionError::Removal));
}

fn key(name: &str) -> Arc<Key> {
    let key =
        Key { kind: Kind::VirtualService, namespace: "dev".into(), name: name.into(), group: "causeway.dev".into() };
    Arc::new(key)
}

fn since(all: &[(&str, u64)]) -> Since {
    all.iter().map(|(name, serial)| (key(name), Came { version: *serial, serial: *serial })).collect()
}

/// `(acked, total)` of one resource on one proxy.
fn counted(session: &Session, since: &Since, name: &str) -> (u32, u32) {
    let tally = progress(&[session.standing()], since).tallies.remove(&key(name)).unwrap();
    assert!(tally.acked <= tally.total, "{tally:?}");
    (tally.acked, tally.total)
}

/// A proxy that uses `a:80`, to which `v` is a part, and has it in force as of serial 1.
fn routed() -> (Facts, Proxy, Session) {
    let mut facts = Facts { serial: 1, ..Facts::default() };
    facts.parts.insert("a:80".into(), vec![key("v")]);
    facts.destinations.insert("a:80".into(), vec!["one".into()]);
    let mut proxy = Proxy { uses: ["a:80".to_owned()].into(), ..Default::default() };
    let mut session = session(&proxy);
    settle(&mut session, &facts, &mut proxy);
    (facts, proxy, session)
}

#[test]
fn a_new_version_is_in_force_once_the_batch_with_it_is_acked() {
    let (mut facts, mut proxy, mut session) = routed();
    assert_eq!(counted(&session, &since(&[("v", 1)]), "v"), (1, 1));
    // The stream has not even looked.
    let changed = since(&[("v", 2)]);
    assert_eq!(counted(&session, &changed, "v"), (0, 1));
    facts.serial = 2;
    facts.destinations.insert("a:80".into(), vec!["two".into()]);
    let update = session.next(&facts).unwrap();
    assert_eq!(counted(&session, &changed, "v"), (0, 1), "on its way is not in force");
    proxy.apply(&update);
    session.on_ack(update.nonce).unwrap();
    assert_eq!(counted(&session, &changed, "v"), (1, 1));
}

#[test]
fn what_comes_later_does_not_take_away_what_is_in_force() {
    let (mut facts, _, mut session) = routed();
    facts.serial = 2;
    facts.endpoints.insert("one".into(), 7);
    assert!(session.next(&facts).is_some());
    assert_eq!(counted(&session, &since(&[("v", 1)]), "v"), (1, 1));
}

#[test]
fn a_proxy_counts_until_it_has_dropped_what_concerned_it() {
    let (mut facts, mut proxy, mut session) = routed();
    facts.serial = 2;
    facts.parts.clear();
    facts.destinations.insert("a:80".into(), vec!["default".into()]);
    let moved = since(&[("v", 2)]);
    let update = session.next(&facts).unwrap();
    assert_eq!(counted(&session, &moved, "v"), (0, 1), "it still routes by the old version");
    proxy.apply(&update);
    session.on_ack(update.nonce).unwrap();
    assert_eq!(counted(&session, &moved, "v"), (0, 0));
}

#[test]
fn a_refusal_holds_back_only_what_took_part_and_only_what_is_newer() {
    let (mut facts, mut proxy, mut session) = routed();
    facts.serial = 2;
    facts.parts.insert("a:80".into(), vec![key("v"), key("w")]);
    facts.parts.insert("b:80".into(), vec![key("x")]);
    facts.destinations.insert("a:80".into(), vec!["bad".into()]);
    session.on_subscribe(&wire::Subscribe { add: vec!["b:80".into()], remove: vec![] }).unwrap();
    let update = session.next(&facts).unwrap();
    let fault = wire::Fault { resource: "destination/a:80".into(), field: "routes[0]".into(), message: "no".into() };
    session.on_nack(&wire::Nack { nonce: update.nonce, faults: vec![fault] }).unwrap();
    settle(&mut session, &facts, &mut proxy);
    let now = since(&[("v", 1), ("w", 2), ("x", 2)]);
    assert_eq!(counted(&session, &now, "v"), (1, 1), "its version is older than what was refused");
    assert_eq!(counted(&session, &now, "w"), (0, 1));
    assert_eq!(counted(&session, &now, "x"), (1, 1));
    let told = progress(&[session.standing()], &now).tallies.remove(&key("w")).unwrap();
    assert_eq!((told.faults[0].field.as_str(), told.faults[0].message.as_str()), ("routes[0]", "no"));
    // The next version is refused too: what was good stays what was good.
    facts.serial = 3;
    facts.destinations.insert("a:80".into(), vec!["worse".into()]);
    let update = session.next(&facts).unwrap();
    assert_eq!(counted(&session, &now, "w"), (0, 1), "not yet answered");
    session.on_nack(&wire::Nack { nonce: update.nonce, faults: vec![] }).unwrap();
    assert_eq!((counted(&session, &now, "v"), counted(&session, &now, "w")), ((1, 1), (0, 1)));
    facts.serial = 4;
    facts.destinations.insert("a:80".into(), vec!["good".into()]);
    settle(&mut session, &facts, &mut proxy);
    assert_eq!(counted(&session, &now, "w"), (1, 1));
}

#[test]
fn back_to_what_the_proxy_kept_is_in_force_at_once() {
    let (mut facts, mut proxy, mut session) = routed();
    facts.serial = 2;
    facts.destinations.insert("a:80".into(), vec!["bad".into()]);
    let update = session.next(&facts).unwrap();
    session.on_nack(&wire::Nack { nonce: update.nonce, faults: vec![] }).unwrap();
    facts.serial = 3;
    facts.destinations.insert("a:80".into(), vec!["one".into()]);
    settle(&mut session, &facts, &mut proxy);
    assert_eq!(counted(&session, &since(&[("v", 3)]), "v"), (1, 1));
}

#[test]
fn a_resumed_stream_has_nothing_in_force_until_it_is_heard() {
    let (mut facts, mut proxy, _) = routed();
    facts.serial = 9;
    let mut resumed = self::session(&proxy);
    let known = since(&[("v", 1)]);
    let update = resumed.next(&facts).unwrap();
    assert_eq!(counted(&resumed, &known, "v"), (0, 1));
    proxy.apply(&update);
    resumed.on_ack(update.nonce).unwrap();
    assert_eq!(counted(&resumed, &known, "v"), (1, 1));
}
