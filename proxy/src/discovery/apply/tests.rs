//! Tests of how a batch comes in force.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use wire::resource::Body;

use super::*;

fn own() -> Own {
    Own { namespace: "dev".to_owned(), pod: "web-0".to_owned(), trust_domain: "cluster.local".to_owned() }
}

fn resource(name: &str, version: u64, body: Body) -> Arc<wire::Resource> {
    Arc::new(wire::Resource { name: name.to_owned(), version, body: Some(body), ..Default::default() })
}

fn endpoints(backend: &str, version: u64, ports: &[u32]) -> Arc<wire::Resource> {
    let endpoint = |port: &u32| wire::Endpoint { address: "10.0.0.1".to_owned(), port: *port, ..Default::default() };
    let body = wire::Endpoints { endpoints: ports.iter().map(endpoint).collect() };
    resource(&format!("endpoints/{backend}"), version, Body::Endpoints(body))
}

fn destination(text: &str, version: u64) -> Arc<wire::Resource> {
    let kind = wire::destination::Kind::Unknown.into();
    let body = wire::Destination { canonical: text.to_owned(), kind, ..Default::default() };
    resource(&format!("destination/{text}"), version, Body::Destination(body))
}

fn workload(namespace: &str, pod: &str) -> Arc<wire::Resource> {
    let inbound = wire::Inbound {
        mode: wire::MtlsMode::MtlsStrict.into(),
        default_verdict: wire::Verdict::Deny.into(),
        ..Default::default()
    };
    let body = wire::Workload {
        namespace: namespace.to_owned(),
        pod: pod.to_owned(),
        service_account: "web".to_owned(),
        workload_name: "web".to_owned(),
        cluster_domain: "cluster.local".to_owned(),
        inbound: Some(inbound),
        egress: wire::Egress::Allow.into(),
        ..Default::default()
    };
    resource("workload", 1, Body::Workload(body))
}

fn trust(domain: &str, roots: Vec<Vec<u8>>) -> Arc<wire::Resource> {
    resource("trust", 1, Body::Trust(wire::TrustBundle { trust_domain: domain.to_owned(), roots_der: roots }))
}

fn root() -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

fn applied(held: &mut Held, resources: &[Arc<wire::Resource>], removed: &[&str]) {
    let removed: Vec<String> = removed.iter().map(|n| (*n).to_owned()).collect();
    let batch = Batch::decode(resources, &removed, held, &own()).unwrap();
    let expected = held.digest_after(&batch);
    held.apply(batch);
    assert_eq!(directory::digest(held.versions()), expected);
}

fn faults(held: &Held, resources: &[Arc<wire::Resource>]) -> Vec<String> {
    Batch::decode(resources, &[], held, &own())
        .unwrap_err()
        .iter()
        .map(|f| format!("{}: {}", f.resource, f.field))
        .collect()
}

#[test]
fn a_batch_is_in_force_as_a_whole() {
    let mut held = Held::default();
    applied(
        &mut held,
        &[
            workload("dev", "web-0"),
            trust("cluster.local", vec![root()]),
            destination("a.b:80", 1),
            endpoints("a.b:80", 1, &[1]),
        ],
        &[],
    );
    let snapshot = held.snapshot(&Snapshot::default());
    assert_eq!(snapshot.workload.as_ref().unwrap().pod, "web-0");
    assert_eq!(snapshot.trust.as_ref().unwrap().roots.len(), 1);
    assert!(snapshot.destinations.contains_key("a.b:80") && snapshot.endpoints.contains_key("a.b:80"));
    applied(&mut held, &[], &["destination/a.b:80"]);
    let next = held.snapshot(&snapshot);
    assert!(next.destinations.is_empty() && next.generation == snapshot.generation + 1);
}

#[test]
fn one_fault_refuses_the_batch_and_every_fault_is_told() {
    let held = Held::default();
    let bad = endpoints("a.b:80", 2, &[70_000]);
    let worse = trust("cluster.local", vec![vec![1, 2, 3]]);
    let found = faults(&held, &[destination("a.b:80", 1), bad, worse]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("endpoints/a.b:80: endpoints[0]"), "{found:?}");
    assert_eq!(found[1], "trust: roots_der");
}

#[test]
fn what_is_somebody_elses_is_refused() {
    let held = Held::default();
    assert_eq!(faults(&held, &[workload("dev", "web-1")]), ["workload: pod"]);
    assert_eq!(faults(&held, &[workload("prod", "web-0")]), ["workload: pod"]);
    assert_eq!(faults(&held, &[trust("other.local", vec![root()])]), ["trust: trust_domain"]);
    assert_eq!(faults(&held, &[destination("a.b:80", 1), destination("a.b:80", 2)]), ["destination/a.b:80: name"]);
}

#[test]
fn a_body_that_its_name_does_not_fit_is_refused() {
    let rename = |name: &str| {
        let mut resource = wire::Resource::clone(&destination("a.b:80", 1));
        resource.name = name.to_owned();
        Arc::new(resource)
    };
    for name in ["endpoints/a.b:80", "workload", "trust", "destination/", "", "else"] {
        assert!(!faults(&Held::default(), &[rename(name)]).is_empty(), "{name}");
    }
}

#[test]
fn what_did_not_change_keeps_its_pointer() {
    let mut held = Held::default();
    applied(&mut held, &[destination("a.b:80", 1), endpoints("a.b:80", 1, &[1]), endpoints("c.d:80", 1, &[1])], &[]);
    let first = held.snapshot(&Snapshot::default());
    // The same version sent again, the same content under another version, and a true change.
    applied(&mut held, &[destination("a.b:80", 1), endpoints("a.b:80", 2, &[1]), endpoints("c.d:80", 2, &[2])], &[]);
    let second = held.snapshot(&first);
    assert!(Arc::ptr_eq(&first.destinations["a.b:80"], &second.destinations["a.b:80"]));
    assert!(Arc::ptr_eq(&first.endpoints["a.b:80"], &second.endpoints["a.b:80"]));
    assert!(!Arc::ptr_eq(&first.endpoints["c.d:80"], &second.endpoints["c.d:80"]));
    let key = |s: &Snapshot| s.destinations.get_key_value("a.b:80").unwrap().0.clone();
    assert!(Arc::ptr_eq(&key(&first), &key(&second)));
}

proptest! {
    #[test]
    fn any_history_of_batches_ends_in_the_digest_of_what_is_left(
        steps in prop::collection::vec((prop::collection::vec((0..6u8, 1..4u64), 0..5), prop::collection::vec(0..6u8, 0..3)), 0..8)
    ) {
        let mut held = Held::default();
        let mut model = BTreeMap::new();
        for (upserts, removed) in steps {
            let upserts: BTreeMap<u8, u64> = upserts.into_iter().collect();
            let resources: Vec<_> = upserts.iter().map(|(n, v)| endpoints(&format!("s{n}.a:80"), *v, &[*v as u32])).collect();
            let names: Vec<String> = removed.iter().map(|n| format!("endpoints/s{n}.a:80")).collect();
            applied(&mut held, &resources, &names.iter().map(String::as_str).collect::<Vec<_>>());
            model.retain(|name, _| !names.contains(name));
            model.extend(upserts.iter().map(|(n, v)| (format!("endpoints/s{n}.a:80"), *v)));
            prop_assert_eq!(directory::digest(held.versions()), directory::digest(model.iter().map(|(n, v)| (n.as_str(), *v))));
            prop_assert_eq!(held.snapshot(&Snapshot::default()).endpoints.len(), model.len());
        }
    }
}
