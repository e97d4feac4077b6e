use super::*;

/// A backend whose one client stays until it was silent for `timeout`.
fn sticky(timeout: Duration) -> BackendState {
    with(|b| stick(b, timeout))
}

fn stick(backend: &mut Backend, timeout: Duration) {
    let keys = vec![HashKey::SourceAddress];
    backend.load_balancing.algorithm = Algorithm::ConsistentHash { keys, balance_percent: u32::MAX };
    backend.load_balancing.affinity = Some(timeout);
}

const KEY: Option<u64> = Some(42);

const LONG: Duration = Duration::from_secs(3600);

fn list(numbers: impl IntoIterator<Item = u8>) -> Arc<[Endpoint]> {
    numbers.into_iter().map(|n| endpoint(n, None)).collect()
}

#[test]
fn who_comes_back_in_time_stays_whoever_is_new() {
    let backend = sticky(LONG);
    fill(&backend, 1);
    let first = backend.choose(&[], KEY).unwrap();
    // By the key alone one of these would take it over: with the first there are 20.
    backend.update(&list(1..=20), |_| false);
    for _ in 0..50 {
        assert!(Arc::ptr_eq(&first, &backend.choose(&[], KEY).unwrap()));
    }
    let alone = sticky(LONG);
    alone.update(&list(1..=20), |_| false);
    assert_ne!(alone.choose(&[], KEY).unwrap().address(), first.address(), "this key's own is another");
}

#[test]
fn a_try_elsewhere_moves_nobody_and_who_is_gone_is_replaced_for_good() {
    let backend = sticky(LONG);
    fill(&backend, 3);
    let first = backend.choose(&[], KEY).unwrap();
    let elsewhere = backend.choose(&[Arc::clone(&first)], KEY).unwrap();
    assert!(!Arc::ptr_eq(&first, &elsewhere));
    assert!(Arc::ptr_eq(&first, &backend.choose(&[], KEY).unwrap()), "the next request begins with the same");
    let own = first.address();
    let left: Vec<u8> = (1..=3).filter(|n| endpoint(*n, None).address != own.ip()).collect();
    backend.update(&list(left), |_| false);
    let second = backend.choose(&[], KEY).unwrap();
    assert_ne!(second.address(), own);
    fill(&backend, 3);
    assert!(Arc::ptr_eq(&second, &backend.choose(&[], KEY).unwrap()), "although the key's own is back");
}

#[test]
fn who_was_silent_for_too_long_is_drawn_anew() {
    let backend = sticky(Duration::from_millis(5));
    fill(&backend, 3);
    let mut reached = std::collections::BTreeSet::new();
    let deadline = clock::now() + Duration::from_secs(20);
    while reached.len() < 3 && clock::now() < deadline {
        reached.insert(backend.choose(&[], KEY).unwrap().address());
        let came = clock::now();
        wait_until(|| clock::now().duration_since(came) > Duration::from_millis(6));
    }
    assert_eq!(reached.len(), 3);
}

#[test]
fn an_endpoint_that_is_ejected_or_too_far_away_is_left_and_a_new_configuration_forgets_nobody() {
    let rules = Outlier { server_errors: Some(1), base_ejection: Duration::from_secs(60), ..outlier() };
    let backend = with(|b| {
        stick(b, LONG);
        b.outlier = Some(rules);
        b.load_balancing.zones = Zones::Prefer;
    });
    fill(&backend, 5);
    let first = backend.choose(&[], KEY).unwrap();
    backend.ended(&first, answered(500));
    let second = backend.choose(&[], KEY).unwrap();
    assert!(!Arc::ptr_eq(&first, &second));

    let mut other = (*backend.backend).clone();
    other.limits.requests = Some(9);
    let mut registry = prometheus_client::registry::Registry::default();
    let metrics = Arc::new(crate::metrics::Metrics::new(&mut registry));
    let backend = BackendState::counted(Arc::new(other), metrics, Some(&backend));
    fill(&backend, 5);
    for _ in 0..20 {
        assert!(Arc::ptr_eq(&second, &backend.choose(&[], KEY).unwrap()));
    }
    // The first is near now, and nothing goes to those that are not.
    backend.stand_at("a", "");
    let near = |n: u8| if endpoint(n, None).address == second.address().ip() { "b" } else { "a" };
    let zoned = (1..=5).map(|n| Endpoint { zone: near(n).into(), ..endpoint(n, None) }).collect();
    backend.update(&zoned, |_| false);
    let third = backend.choose(&[], KEY).unwrap();
    assert!(!Arc::ptr_eq(&second, &third));
    assert!(Arc::ptr_eq(&third, &backend.choose(&[], KEY).unwrap()));
}
