#![allow(clippy::unwrap_used)]
use std::net::IpAddr;
use std::time::Duration;

use causeway_mesh::balance::outlier::Reason;
use causeway_mesh::config::backend::{Algorithm, Backend, HashKey, Limits, Outlier, RetryBudget, SlowStart, Zones};
use causeway_mesh::reject::Reject;

use super::backend::LAST_RESORT;
use super::*;

mod affinity;

fn endpoint(n: u8, identity: Option<&str>) -> Endpoint {
    Endpoint {
        address: IpAddr::from([10, 0, 0, n]),
        port: 8080,
        identity: identity.map(|i| i.parse().unwrap()),
        workload_name: "web".into(),
        pod: format!("web-{n}"),
        namespace: "prod".into(),
        zone: String::new(),
        region: String::new(),
        for_zones: Vec::new(),
    }
}

fn backend() -> BackendState {
    with(|_| {})
}

/// A backend with other settings than the default.
fn with(change: impl FnOnce(&mut Backend)) -> BackendState {
    let mut backend = Backend::new("web.prod:80", "web", "prod", 80);
    change(&mut backend);
    BackendState::new(Arc::new(backend))
}

fn fill(backend: &BackendState, count: u8) {
    backend.update(&(1..=count).map(|n| endpoint(n, None)).collect(), |_| false);
}

/// How often each of the endpoints is chosen, none of them loaded.
fn chosen(backend: &BackendState, times: u32) -> Vec<u32> {
    let endpoints = backend.endpoints();
    let mut counts = vec![0; endpoints.len()];
    for _ in 0..times {
        let chosen = backend.choose(&[], None).unwrap();
        counts[endpoints.iter().position(|e| Arc::ptr_eq(e, &chosen)).unwrap()] += 1;
    }
    counts
}

const ID: &str = "spiffe://cluster.local/ns/prod/sa/web";

#[test]
fn an_endpoint_that_stays_keeps_its_load_and_one_with_a_new_identity_does_not() {
    let backend = backend();
    backend.update(&Arc::from([endpoint(1, Some(ID)), endpoint(2, Some(ID))]), |_| false);
    let before = backend.endpoints();
    let _pending = before[0].begin();
    let other = "spiffe://cluster.local/ns/prod/sa/other";
    backend.update(&Arc::from([endpoint(2, Some(other)), endpoint(1, Some(ID))]), |_| false);
    let after = backend.endpoints();
    assert!(Arc::ptr_eq(&before[0], &after[1]));
    assert_eq!(after[1].load().pending, 1);
    assert!(!Arc::ptr_eq(&before[1], &after[0]), "connections of another identity must not be used");
}

#[test]
fn the_own_application_is_spoken_to_as_it_is() {
    let backend = backend();
    backend.update(&Arc::from([endpoint(1, Some(ID)), endpoint(2, Some(ID))]), |ip| ip == IpAddr::from([10, 0, 0, 2]));
    let endpoints = backend.endpoints();
    assert!(endpoints[0].endpoint.identity.is_some());
    assert!(endpoints[1].endpoint.identity.is_none());
}

#[test]
fn the_last_endpoints_that_prove_who_they_are_stay_for_a_while_when_all_are_gone() {
    let backend = backend();
    let none: Arc<[Endpoint]> = Arc::from([]);
    backend.update(&Arc::from([endpoint(1, Some(ID)), endpoint(2, None)]), |_| false);
    let before = backend.endpoints();
    backend.update(&none, |_| false);
    let kept = backend.endpoints();
    assert_eq!(kept.len(), 1, "an address without an identity may be anybody's by now");
    assert!(Arc::ptr_eq(&kept[0], &before[0]));
    // Being gone again does not begin the time anew.
    let until = backend.held.read().unwrap().until;
    backend.update(&Arc::from([]), |_| false);
    assert_eq!(backend.held.read().unwrap().until, until);
    backend.held.write().unwrap().until = Some(clock::now());
    assert!(backend.endpoints().is_empty(), "but not for ever");
    backend.update(&Arc::from([]), |_| false);
    assert!(backend.endpoints().is_empty());
    backend.update(&Arc::from([endpoint(3, Some(ID))]), |_| false);
    assert_eq!(backend.endpoints().len(), 1);
    assert!(backend.held.read().unwrap().until.is_none());
}

#[test]
fn endpoints_that_go_one_after_another_are_a_last_resort_together() {
    let backend = backend();
    let all = [endpoint(1, Some(ID)), endpoint(2, Some(ID)), endpoint(3, Some(ID))];
    for left in (0..=3).rev() {
        backend.update(&Arc::from(&all[..left]), |_| false);
    }
    assert_eq!(backend.endpoints().len(), 3);
    // One that comes back takes over, and is not remembered twice when it goes again.
    backend.update(&Arc::from(&all[..1]), |_| false);
    assert_eq!(backend.endpoints().len(), 1);
    backend.update(&Arc::from([]), |_| false);
    assert_eq!(backend.endpoints().len(), 3);
    // What went long ago is forgotten.
    backend.update(&Arc::from(&all[..1]), |_| false);
    age(&backend, LAST_RESORT);
    backend.update(&Arc::from([]), |_| false);
    assert_eq!(backend.endpoints().len(), 1);
}

#[test]
fn an_endpoint_that_comes_back_in_time_is_the_one_that_went() {
    let backend = backend();
    let all = [endpoint(1, Some(ID)), endpoint(2, Some(ID))];
    backend.update(&Arc::from(all.clone()), |_| false);
    let before = backend.endpoints();
    for meanwhile in [&all[..1], &[]] {
        backend.update(&Arc::from(meanwhile), |_| false);
        backend.update(&Arc::from(all.clone()), |_| false);
        assert!(Arc::ptr_eq(&before[1], &backend.endpoints()[1]), "{meanwhile:?}");
    }
    backend.update(&Arc::from(&all[..1]), |_| false);
    age(&backend, LAST_RESORT);
    backend.update(&Arc::from(all), |_| false);
    assert!(!Arc::ptr_eq(&before[1], &backend.endpoints()[1]), "by then it may be another's address");
}

/// As if all that is gone had gone so much earlier.
fn age(backend: &BackendState, by: Duration) {
    for (_, at) in &mut backend.held.write().unwrap().gone {
        *at -= by;
    }
}

#[test]
fn who_takes_over_from_a_last_resort_leaves_it_behind_for_when_it_fails() {
    let backend = backend();
    let all = [endpoint(1, Some(ID)), endpoint(2, Some(ID)), endpoint(3, Some(ID))];
    backend.update(&Arc::from(all.clone()), |_| false);
    backend.update(&Arc::from([]), |_| false);
    // A kubelet that comes back: one pod is about to end, which is told of first, and all others are not ready.
    backend.update(&Arc::from(&all[2..]), |_| false);
    assert_eq!(backend.reachable(), 3);
    let mut tried: Vec<Arc<EndpointState>> = Vec::new();
    while let Some(next) = backend.choose(&tried, None) {
        tried.push(next);
    }
    assert_eq!(tried[0].endpoint.address, all[2].address, "who is listed comes first");
    assert_eq!(tried.len(), 3);
    // Whatever comes and goes, each has its own time.
    age(&backend, LAST_RESORT / 2);
    backend.update(&Arc::from([]), |_| false);
    assert_eq!((backend.endpoints().len(), backend.reachable()), (3, 3));
    age(&backend, LAST_RESORT / 2);
    backend.update(&Arc::from(&all[..1]), |_| false);
    assert_eq!(backend.reachable(), 2, "the one that was listed last");
}

#[test]
fn every_endpoint_is_tried_once_and_then_none() {
    let backend = backend();
    backend.update(&Arc::from([endpoint(1, None), endpoint(2, None), endpoint(3, None)]), |_| false);
    let mut tried: Vec<Arc<EndpointState>> = Vec::new();
    while let Some(next) = backend.choose(&tried, None) {
        assert!(!tried.iter().any(|t| Arc::ptr_eq(t, &next)));
        tried.push(next);
    }
    assert_eq!(tried.len(), 3);
}

#[test]
fn when_all_that_is_listed_failed_those_that_went_lately_are_tried() {
    let backend = backend();
    let all = [endpoint(1, Some(ID)), endpoint(2, Some(ID)), endpoint(3, None)];
    backend.update(&Arc::from(&all[..]), |_| false);
    let before = backend.endpoints();
    backend.update(&Arc::from([endpoint(4, Some(ID))]), |_| false);
    assert_eq!(backend.reachable(), 3);
    let listed = backend.choose(&[], None).unwrap();
    assert_eq!(listed.endpoint.pod, "web-4", "what is listed comes first");
    let mut tried = vec![listed];
    for _ in 0..2 {
        let next = backend.choose(&tried, None).unwrap();
        assert!(before[..2].iter().any(|b| Arc::ptr_eq(b, &next)), "only one that can prove who it is");
        tried.push(next);
    }
    assert!(backend.choose(&tried, None).is_none());
    for (_, at) in &mut backend.held.write().unwrap().gone {
        *at -= LAST_RESORT;
    }
    assert_eq!(backend.reachable(), 1);
    assert!(backend.choose(&tried[..1], None).is_none(), "what went long ago is not tried");
}

#[test]
fn an_endpoint_that_failed_is_avoided() {
    let backend = backend();
    backend.update(&Arc::from([endpoint(1, None), endpoint(2, None)]), |_| false);
    for state in &*backend.endpoints() {
        state.observe(Duration::from_millis(1));
    }
    backend.endpoints()[0].failed();
    for _ in 0..100 {
        assert_eq!(backend.choose(&[], None).unwrap().endpoint.pod, "web-2");
    }
}

#[test]
fn load_spreads_over_equal_endpoints() {
    let backend = backend();
    backend.update(&Arc::from([endpoint(1, None), endpoint(2, None), endpoint(3, None), endpoint(4, None)]), |_| false);
    let mut pending = Vec::new();
    for _ in 0..400 {
        pending.push(backend.choose(&[], None).unwrap().begin());
    }
    for state in &*backend.endpoints() {
        assert!((60..=140).contains(&state.load().pending), "{}", state.load().pending);
    }
    drop(pending);
    assert!(backend.endpoints().iter().all(|e| e.load().pending == 0));
}

fn outlier() -> Outlier {
    Outlier {
        server_errors: Some(3),
        gateway_errors: None,
        connect_failures: Some(2),
        latency_percent: None,
        interval: Duration::from_secs(10),
        base_ejection: Duration::from_millis(40),
        max_ejection_percent: 50,
        min_health_percent: 0,
    }
}

fn answered(status: u16) -> Outcome {
    Outcome::Answered { status, after: Duration::from_millis(1) }
}

/// Polls until `is_so`, at most for a few seconds.
fn wait_until(is_so: impl Fn() -> bool) {
    let end = clock::now() + Duration::from_secs(5);
    while !is_so() {
        assert!(clock::now() < end, "never came");
        std::thread::yield_now();
    }
}

#[test]
fn one_that_fails_is_ejected_and_comes_back_on_probation() {
    let backend = with(|b| b.outlier = Some(outlier()));
    fill(&backend, 4);
    let bad = Arc::clone(&backend.endpoints()[0]);
    for _ in 0..3 {
        backend.ended(&bad, answered(500));
    }
    assert!(matches!(bad.standing(), Standing::Ejected { reason: Reason::ServerErrors, .. }));
    assert_eq!(chosen(&backend, 100)[0], 0);
    assert_eq!(backend.endpoints().len(), 4, "views still show it");
    wait_until(|| backend.choose(&[], None).is_some_and(|e| Arc::ptr_eq(&e, &bad)));
    assert!(matches!(bad.standing(), Standing::Probation { left: 5, .. }));
    // One request at a time.
    let pending = bad.begin();
    assert_eq!(chosen(&backend, 100)[0], 0);
    drop(pending);
    for _ in 0..5 {
        backend.ended(&bad, answered(200));
    }
    assert_eq!(bad.standing(), Standing::In);
    let _busy: Vec<_> = backend.endpoints().iter().map(EndpointState::begin).collect();
    backend.endpoints().iter().for_each(|e| e.observe(Duration::from_secs(1)));
    assert!(chosen(&backend, 400)[0] > 0, "it has more than one request again");
}

#[test]
fn one_that_is_ejected_is_in_use_once_nobody_asks_for_ejections() {
    let mut registry = prometheus_client::registry::Registry::default();
    let metrics = Arc::new(crate::metrics::Metrics::new(&mut registry));
    let before = with(|b| {
        b.outlier = Some(Outlier { base_ejection: Duration::from_secs(60), ..outlier() });
        b.load_balancing.algorithm = Algorithm::RoundRobin;
    });
    fill(&before, 4);
    let bad = Arc::clone(&before.endpoints()[0]);
    let fail = || (0..3).for_each(|_| before.ended(&bad, answered(500)));
    fail();
    assert_eq!(chosen(&before, 30), [0, 10, 10, 10]);
    let anew = Arc::new(Backend { outlier: None, ..(*before.backend).clone() });
    let after = BackendState::counted(anew, metrics, Some(&before));
    assert_eq!(bad.standing(), Standing::In);
    assert_eq!(chosen(&after, 40), [10; 4]);
    // Requests that began before end by the older rules.
    fail();
    assert!(matches!(bad.standing(), Standing::Ejected { .. }));
    after.stand_at("a", "b");
    assert_eq!(chosen(&after, 40), [10; 4]);
}

#[test]
fn no_more_are_ejected_than_allowed_and_one_of_two_is() {
    let backend = with(|b| b.outlier = Some(Outlier { max_ejection_percent: 10, ..outlier() }));
    fill(&backend, 2);
    let endpoints = backend.endpoints();
    for state in &*endpoints {
        for _ in 0..5 {
            backend.ended(state, Outcome::ConnectFailed);
        }
    }
    assert!(matches!(endpoints[0].standing(), Standing::Ejected { .. }));
    assert_eq!(endpoints[1].standing(), Standing::In);
    assert!(backend.choose(&[], None).is_some_and(|e| Arc::ptr_eq(&e, &endpoints[1])));
    let next = backend.choose(&endpoints[1..], None);
    assert!(next.is_some_and(|e| Arc::ptr_eq(&e, &endpoints[0])), "an ejected one is better than none at all");
}

#[test]
fn where_all_are_ejected_all_are_used() {
    let base_ejection = Duration::from_secs(60);
    let backend = with(|b| b.outlier = Some(Outlier { max_ejection_percent: 100, base_ejection, ..outlier() }));
    fill(&backend, 2);
    for state in &*backend.endpoints() {
        (0..2).for_each(|_| backend.ended(state, Outcome::Reset));
        assert!(matches!(state.standing(), Standing::Ejected { .. }));
    }
    assert!(chosen(&backend, 100).iter().all(|c| *c > 0));
}

#[test]
fn the_slow_one_is_ejected_when_latency_is_judged() {
    let rules = Outlier { latency_percent: Some(300), interval: Duration::from_millis(10), ..outlier() };
    let backend = with(|b| {
        b.outlier = Some(Outlier { base_ejection: Duration::from_secs(60), ..rules });
        b.load_balancing.algorithm = Algorithm::RoundRobin;
    });
    fill(&backend, 4);
    let endpoints = backend.endpoints();
    for (n, state) in endpoints.iter().enumerate() {
        state.observe(Duration::from_millis(if n == 2 { 500 } else { 10 }));
    }
    wait_until(|| {
        backend.choose(&[], None);
        matches!(endpoints[2].standing(), Standing::Ejected { reason: Reason::Latency, .. })
    });
    assert_eq!(chosen(&backend, 30), [10, 10, 0, 10]);
}

#[test]
fn turns_are_taken_and_least_requests_win() {
    let backend = with(|b| b.load_balancing.algorithm = Algorithm::RoundRobin);
    fill(&backend, 3);
    assert_eq!(chosen(&backend, 30), [10, 10, 10]);
    let backend = with(|b| b.load_balancing.algorithm = Algorithm::LeastRequest);
    fill(&backend, 2);
    let _pending = backend.endpoints()[0].begin();
    backend.endpoints()[1].observe(Duration::from_secs(1));
    assert_eq!(chosen(&backend, 30), [0, 30]);
    let backend = with(|b| b.load_balancing.algorithm = Algorithm::Random);
    fill(&backend, 2);
    let _pending = backend.endpoints()[0].begin();
    assert!(chosen(&backend, 400).iter().all(|c| (120..280).contains(c)));
}

#[test]
fn equal_keys_go_to_one_endpoint_until_it_has_its_bound() {
    let keys = vec![HashKey::Header("x-user".into())];
    let backend = with(|b| b.load_balancing.algorithm = Algorithm::ConsistentHash { keys, balance_percent: 200 });
    fill(&backend, 4);
    let first = backend.choose(&[], Some(42)).unwrap();
    for _ in 0..20 {
        assert!(Arc::ptr_eq(&first, &backend.choose(&[], Some(42)).unwrap()));
    }
    let other = backend.choose(&[Arc::clone(&first)], Some(42)).unwrap();
    assert!(!Arc::ptr_eq(&first, &other));
    let mut pending = Vec::new();
    for _ in 0..40 {
        pending.push(backend.choose(&[], Some(42)).unwrap().begin());
    }
    let most = backend.endpoints().iter().map(|e| e.pending()).max().unwrap();
    assert!((10..=20).contains(&most), "{most}");
}

#[test]
fn near_endpoints_are_preferred_and_what_they_cannot_take_spills_over() {
    let backend = with(|b| {
        b.load_balancing.zones = Zones::Prefer;
        b.outlier = Some(Outlier { base_ejection: Duration::from_secs(60), ..outlier() });
    });
    backend.stand_at("a", "eu");
    let in_zone = |n, zone: &str| Endpoint { zone: zone.into(), region: "eu".into(), ..endpoint(n, None) };
    let list = |zones: [&str; 4]| -> Arc<[Endpoint]> { (1..).zip(zones).map(|(n, z)| in_zone(n, z)).collect() };
    backend.update(&list(["a", "a", "b", "b"]), |_| false);
    let counts = chosen(&backend, 200);
    assert_eq!(counts[2] + counts[3], 0, "{counts:?}");
    // One of two near ones is out: about 30 % go elsewhere.
    let near = Arc::clone(&backend.endpoints()[0]);
    (0..2).for_each(|_| backend.ended(&near, Outcome::ConnectFailed));
    let counts = chosen(&backend, 1000);
    assert!(counts[0] == 0 && (200..400).contains(&(counts[2] + counts[3])), "{counts:?}");
    // Zones that change leave the endpoint what it was.
    backend.update(&list(["b", "b", "a", "a"]), |_| false);
    assert!(Arc::ptr_eq(&near, &backend.endpoints()[0]));
    let counts = chosen(&backend, 200);
    assert_eq!(counts[0] + counts[1], 0, "{counts:?}");
    // A long queue near by makes a far one the better choice.
    let queue: Vec<_> = (0..40).flat_map(|_| [2, 3]).map(|i: usize| backend.endpoints()[i].begin()).collect();
    assert!(chosen(&backend, 100)[1] > 0);
    drop(queue);
}

#[test]
fn turns_go_round_in_each_zone_whatever_the_others_get() {
    let backend = with(|b| {
        b.load_balancing.zones = Zones::Prefer;
        b.load_balancing.algorithm = Algorithm::RoundRobin;
    });
    backend.stand_at("a", "");
    let in_zone = |n, zone: &str| Endpoint { zone: zone.into(), ..endpoint(n, None) };
    backend.update(&(1..).zip(["a", "a", "b", "b"]).map(|(n, z)| in_zone(n, z)).collect(), |_| false);
    assert_eq!(chosen(&backend, 40), [20, 20, 0, 0]);
    // Queues so long that every choice looks at the other zone, too.
    let near: Vec<_> = backend.endpoints()[..2].iter().flat_map(|e| (0..9).map(|_| e.begin())).collect();
    assert_eq!(chosen(&backend, 40), [0, 0, 20, 20]);
    drop(near);
    assert_eq!(chosen(&backend, 40), [20, 20, 0, 0]);
}

#[test]
fn a_new_endpoint_gets_less_for_a_while() {
    let slow_start = SlowStart { window: Duration::from_secs(600), min_percent: 10, aggression: 1.0 };
    let backend = with(|b| {
        b.load_balancing.slow_start = Some(slow_start);
        b.load_balancing.algorithm = Algorithm::Random;
    });
    fill(&backend, 2);
    // Both are new: the same for both.
    assert!(chosen(&backend, 400).iter().all(|c| (100..300).contains(c)));
    let backend = with(|b| b.load_balancing.algorithm = Algorithm::RoundRobin);
    fill(&backend, 3);
    assert_eq!(chosen(&backend, 9), [3, 3, 3]);
}

#[test]
fn requests_waiting_and_retries_have_their_limits() {
    let limits = Limits { requests: Some(2), pending: Some(1), retries: Some(1), ..Limits::default() };
    let backend = with(|b| b.limits = limits);
    let entered = [backend.enter(), backend.enter()];
    assert!(entered.iter().all(Result::is_ok));
    assert_eq!(backend.enter().err().unwrap().reject, Reject::CircuitOpen);
    drop(entered);
    assert!(backend.enter().is_ok());
    let _waiting = backend.wait().ok().unwrap();
    assert_eq!(backend.wait().err().unwrap().reject, Reject::CircuitOpen);
    let retrying = backend.retry();
    assert!(retrying.is_some() && backend.retry().is_none());
    drop(retrying);
    assert!(backend.retry().is_some());
    let backend = with(|b| b.retry_budget = RetryBudget { percent: 50, min_concurrency: 1 });
    let _entered: Vec<_> = (0..8).map(|_| backend.enter().ok().unwrap()).collect();
    let retrying: Vec<_> = (0..10).filter_map(|_| backend.retry()).collect();
    assert_eq!(retrying.len(), 4);
}

#[test]
fn connections_have_a_limit_and_each_endpoint_its_first_one() {
    let backend = with(|b| b.limits = Limits { connections: Some(1), ..Limits::default() });
    let slot = backend.own_connection().ok().unwrap();
    assert!(backend.own_connection().is_err());
    let first = backend.connection(true);
    assert!(first.is_some() && backend.connection(false).is_none());
    drop((slot, first));
    assert!(backend.connection(false).is_some());
    assert_eq!(backend.in_use().counts(), [0; 4]);
}

#[test]
fn a_new_configuration_keeps_endpoints_and_what_is_in_use() {
    let mut registry = prometheus_client::registry::Registry::default();
    let metrics = Arc::new(crate::metrics::Metrics::new(&mut registry));
    let before = with(|b| b.outlier = Some(Outlier { base_ejection: Duration::from_secs(60), ..outlier() }));
    fill(&before, 3);
    let _entered = before.enter().ok().unwrap();
    let bad = Arc::clone(&before.endpoints()[1]);
    (0..2).for_each(|_| before.ended(&bad, Outcome::ConnectFailed));
    let mut anew = Backend::clone(&before.backend);
    anew.limits.requests = Some(1);
    let after = BackendState::counted(Arc::new(anew.clone()), Arc::clone(&metrics), Some(&before));
    assert!(Arc::ptr_eq(&after.endpoints()[1], &bad));
    assert_eq!(chosen(&after, 100)[1], 0, "still ejected");
    assert!(after.enter().is_err());
    anew.plaintext = true;
    let otherwise = BackendState::counted(Arc::new(anew), metrics, Some(&before));
    assert!(otherwise.endpoints().is_empty(), "connections that are made otherwise are not shared");
}
