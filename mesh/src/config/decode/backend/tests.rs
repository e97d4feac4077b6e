#![allow(clippy::unwrap_used)]
use super::*;
use crate::config::Protocol;
use crate::wire::hash_key::Kind;
use crate::wire::load_balancing::{Algorithm as Wire, Zones as WireZones};

fn decoded(wire: &wire::Backend) -> Result<Backend, Vec<String>> {
    let mut faults = Faults { resource: "r", found: Vec::new() };
    match backend(wire, &At::ROOT, &mut faults) {
        Some(backend) if faults.found.is_empty() => Ok(backend),
        _ => Err(faults.found.into_iter().map(|f| f.field).collect()),
    }
}

fn plain() -> wire::Backend {
    wire::Backend { name: "a.b:80".into(), port: 80, ..wire::Backend::default() }
}

#[test]
fn what_is_absent_is_the_default() {
    let backend = decoded(&plain()).unwrap();
    assert_eq!(backend, Backend::new("a.b:80", "", "", 80));
    assert_eq!(backend.retry_budget, RetryBudget { percent: 20, min_concurrency: 3 });
}

#[test]
fn zeros_are_the_defaults_that_they_stand_for() {
    let wire = wire::Backend {
        load_balancing: Some(wire::LoadBalancing {
            algorithm: Wire::ConsistentHash.into(),
            hash: vec![wire::HashKey { kind: Some(Kind::Header("X-User".into())) }],
            slow_start_ms: 1000,
            zones: WireZones::Prefer.into(),
            affinity_ms: 2500,
            failover: vec![wire::Failover { from: "eu".into(), to: "us".into() }],
            ..wire::LoadBalancing::default()
        }),
        limits: Some(wire::Limits { max_requests: 7, ..wire::Limits::default() }),
        outlier: Some(wire::Outlier { consecutive_5xx: 5, ..wire::Outlier::default() }),
        protocol: wire::Protocol::Http2.into(),
        dns: vec!["API.example.com:443".into()],
        ..plain()
    };
    let backend = decoded(&wire).unwrap();
    let keys = vec![HashKey::Header("x-user".into())];
    assert_eq!(backend.load_balancing.algorithm, Algorithm::ConsistentHash { keys, balance_percent: 125 });
    let slow_start = SlowStart { window: Duration::from_secs(1), min_percent: 10, aggression: 1.0 };
    assert_eq!(backend.load_balancing.slow_start, Some(slow_start));
    assert_eq!(backend.load_balancing.zones, Zones::Prefer);
    assert_eq!(backend.load_balancing.failover, [Failover { from: "eu".into(), to: "us".into() }]);
    assert_eq!(backend.load_balancing.affinity, Some(Duration::from_millis(2500)));
    assert_eq!(backend.limits, Limits { requests: Some(7), ..Limits::default() });
    let outlier = backend.outlier.unwrap();
    assert_eq!((outlier.server_errors, outlier.gateway_errors), (Some(5), None));
    assert_eq!(
        (outlier.interval.as_secs(), outlier.base_ejection.as_secs(), outlier.max_ejection_percent),
        (10, 30, 10)
    );
    assert_eq!(backend.protocol, Protocol::Http2);
    assert_eq!(backend.dns, ["api.example.com:443"]);
}

#[test]
fn every_fault_is_named_by_its_field() {
    let wire = wire::Backend {
        load_balancing: Some(wire::LoadBalancing {
            algorithm: Wire::ConsistentHash.into(),
            hash: vec![wire::HashKey { kind: None }],
            hash_balance_percent: 100,
            slow_start_aggression: -1.0,
            zones: 9,
            failover: vec![wire::Failover { from: "eu".into(), to: String::new() }],
            ..wire::LoadBalancing::default()
        }),
        outlier: Some(wire::Outlier { latency_percent: 100, max_ejection_percent: 101, ..wire::Outlier::default() }),
        tls: Some(wire::OriginateTls { key_path: "/k".into(), ..wire::OriginateTls::default() }),
        retry_budget: Some(wire::RetryBudget { percent: 101, min_concurrency: 0 }),
        dns: vec!["nowhere".into()],
        ..plain()
    };
    let faults = decoded(&wire).unwrap_err();
    for field in [
        "load_balancing.hash[0]",
        "load_balancing.hash_balance_percent",
        "load_balancing.slow_start_aggression",
        "load_balancing.zones",
        "load_balancing.failover[0].to",
        "outlier.latency_percent",
        "outlier.max_ejection_percent",
        "tls.key_path",
        "retry_budget.percent",
        "dns[0]",
    ] {
        assert!(faults.iter().any(|f| f == field), "{field}: {faults:?}");
    }
}

#[test]
fn a_reference_that_is_not_valid_needs_no_port() {
    let broken = wire::Backend { broken: "no Service a/b".into(), port: 0, ..plain() };
    assert_eq!(decoded(&broken).unwrap().broken.as_deref(), Some("no Service a/b"));
    assert_eq!(decoded(&wire::Backend { port: 0, ..plain() }).unwrap_err(), ["port"]);
}

#[test]
fn who_has_no_key_has_no_memory_either() {
    let load_balancing = Some(wire::LoadBalancing { affinity_ms: 1, ..wire::LoadBalancing::default() });
    let faults = decoded(&wire::Backend { load_balancing, ..plain() }).unwrap_err();
    assert_eq!(faults, ["load_balancing.affinity_ms"]);
}
