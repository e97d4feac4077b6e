#![allow(clippy::unwrap_used)]
use super::*;

fn endpoint(n: u8, identity: Option<&str>) -> Endpoint {
    Endpoint {
        address: IpAddr::from([10, 0, 0, n]),
        port: 8080,
        identity: identity.map(|i| i.parse().unwrap()),
        workload_name: "web".into(),
        pod: format!("web-{n}"),
        namespace: "prod".into(),
        zone: String::new(),
    }
}

fn backend() -> BackendState {
    BackendState::new(Arc::new(Backend {
        name: "web.prod:80".into(),
        service: "web".into(),
        namespace: "prod".into(),
        port: 80,
        subset: String::new(),
        connect_timeout: None,
        plaintext: false,
    }))
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
    let until = backend.endpoints.read().unwrap().until;
    backend.update(&Arc::from([]), |_| false);
    assert_eq!(backend.endpoints.read().unwrap().until, until);
    backend.endpoints.write().unwrap().until = Some(clock::now());
    assert!(backend.endpoints().is_empty(), "but not for ever");
    backend.update(&Arc::from([]), |_| false);
    assert!(backend.endpoints().is_empty());
    backend.update(&Arc::from([endpoint(3, Some(ID))]), |_| false);
    assert_eq!(backend.endpoints().len(), 1);
    assert!(backend.endpoints.read().unwrap().until.is_none());
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
    assert_eq!(backend.endpoints().len(), 1, "those of a last resort went before it");
    // What went long ago is forgotten.
    backend.update(&Arc::from(&all[..2]), |_| false);
    backend.update(&Arc::from(&all[..1]), |_| false);
    for (_, at) in &mut backend.endpoints.write().unwrap().gone {
        *at -= LAST_RESORT;
    }
    backend.update(&Arc::from([]), |_| false);
    assert_eq!(backend.endpoints().len(), 1);
}

#[test]
fn every_endpoint_is_tried_once_and_then_none() {
    let backend = backend();
    backend.update(&Arc::from([endpoint(1, None), endpoint(2, None), endpoint(3, None)]), |_| false);
    let mut tried: Vec<Arc<EndpointState>> = Vec::new();
    while let Some(next) = backend.choose(&tried) {
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
    let listed = backend.choose(&[]).unwrap();
    assert_eq!(listed.endpoint.pod, "web-4", "what is listed comes first");
    let mut tried = vec![listed];
    for _ in 0..2 {
        let next = backend.choose(&tried).unwrap();
        assert!(before[..2].iter().any(|b| Arc::ptr_eq(b, &next)), "only one that can prove who it is");
        tried.push(next);
    }
    assert!(backend.choose(&tried).is_none());
    for (_, at) in &mut backend.endpoints.write().unwrap().gone {
        *at -= LAST_RESORT;
    }
    assert_eq!(backend.reachable(), 1);
    assert!(backend.choose(&tried[..1]).is_none(), "what went long ago is not tried");
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
        assert_eq!(backend.choose(&[]).unwrap().endpoint.pod, "web-2");
    }
}

#[test]
fn load_spreads_over_equal_endpoints() {
    let backend = backend();
    backend.update(&Arc::from([endpoint(1, None), endpoint(2, None), endpoint(3, None), endpoint(4, None)]), |_| false);
    let mut pending = Vec::new();
    for _ in 0..400 {
        pending.push(backend.choose(&[]).unwrap().begin());
    }
    for state in &*backend.endpoints() {
        assert!((60..=140).contains(&state.load().pending), "{}", state.load().pending);
    }
    drop(pending);
    assert!(backend.endpoints().iter().all(|e| e.load().pending == 0));
}
