//! One row for each thing that is refused, and the field that the fault must name.

use super::{
    Body, decode, decode_destination, decode_endpoints, decode_workload, destination, endpoints, resource, split,
    split_key, string_match, text, wire, workload,
};

/// A value that no version of an enum has yet.
const LATER: i32 = 99;

fn workload_fault(field: &str, change: impl FnOnce(&mut wire::Workload)) {
    let mut wire = workload();
    change(&mut wire);
    let faults = decode_workload(wire).expect_err(field);
    assert_eq!(faults.iter().map(|f| f.field.as_str()).collect::<Vec<_>>(), [field], "{faults:?}");
    assert!(faults.iter().all(|f| f.resource == "workload" && !f.message.is_empty()));
}

fn inbound_fault(field: &str, change: impl FnOnce(&mut wire::Inbound)) {
    workload_fault(&format!("inbound.{field}"), |w| change(w.inbound.as_mut().unwrap()));
}

fn rule_fault(field: &str, change: impl FnOnce(&mut wire::Rule)) {
    let field = format!("policies[0].rules[0].{field}");
    inbound_fault(&field, |i| change(&mut i.policies[0].rules[0]));
}

fn destination_fault(field: &str, change: impl FnOnce(&mut wire::Destination)) {
    let mut wire = destination();
    change(&mut wire);
    let faults = decode_destination(wire).expect_err(field);
    assert_eq!(faults.iter().map(|f| f.field.as_str()).collect::<Vec<_>>(), [field], "{faults:?}");
}

fn match_fault(field: &str, change: impl FnOnce(&mut wire::Match)) {
    let field = format!("routes[0].matches[0].{field}");
    destination_fault(&field, |d| change(&mut d.routes[0].matches[0]));
}

fn endpoint_fault(field: &str, change: impl FnOnce(&mut wire::Endpoint)) {
    let mut wire = endpoints();
    change(&mut wire.endpoints[1]);
    let faults = decode_endpoints(wire).expect_err(field);
    assert_eq!(faults.iter().map(|f| f.field.as_str()).collect::<Vec<_>>(), [format!("endpoints[1].{field}")]);
}

#[test]
fn an_unset_or_later_enum_value_is_a_fault_where_security_hangs_on_it() {
    for value in [0, LATER, -1] {
        workload_fault("egress", |w| w.egress = value);
        inbound_fault("mode", |i| i.mode = value);
        inbound_fault("ports[0].mode", |i| i.ports[0].mode = value);
        inbound_fault("default_verdict", |i| i.default_verdict = value);
        inbound_fault("policies[0].verdict", |i| i.policies[0].verdict = value);
        destination_fault("kind", |d| d.kind = value);
    }
    destination_fault("protocol", |d| d.protocol = LATER);
}

#[test]
fn a_oneof_arm_of_a_later_version_arrives_as_none_and_is_a_fault() {
    let none = || wire::StringMatch { kind: None };
    let bare = |name: &str| wire::Resource { name: name.into(), version: 1, body: None, requires: vec![] };
    for name in ["workload", "trust", "destination/a:1", "endpoints/a:1"] {
        assert_eq!(decode(&bare(name)).unwrap_err()[0].field, "body");
    }
    destination_fault("routes[0].action", |d| d.routes[0].action = None);
    destination_fault("split.key", |d| d.split.as_mut().unwrap().key = Some(wire::SplitKey { kind: None }));
    match_fault("path", |m| m.path = Some(none()));
    match_fault("authority", |m| m.authority = Some(none()));
    match_fault("headers[0].value", |m| m.headers[0].value = Some(none()));
    match_fault("headers[0].value", |m| m.headers[0].value = None);
    match_fault("queries[0].value", |m| m.queries[0].value = None);
    rule_fault("to[0].paths[0]", |r| r.to[0].paths[0] = none());
    rule_fault("to[0].not_hosts[0]", |r| r.to[0].not_hosts = vec![none()]);
}

#[test]
fn a_condition_of_which_nothing_is_known_is_a_fault_and_not_everybody() {
    rule_fault("from[1]", |r| r.from.push(wire::Source::default()));
    rule_fault("to[0]", |r| r.to[0] = wire::Operation::default());
    destination_fault("routes[0].matches[1]", |d| d.routes[0].matches.push(wire::Match::default()));
}

#[test]
fn a_feature_that_is_required_and_not_known_is_a_fault() {
    let mut wire = resource("workload", Body::Workload(workload()));
    wire.requires = vec!["ip_blocks".into()];
    let faults = decode(&wire).unwrap_err();
    assert_eq!((faults[0].field.as_str(), faults.len()), ("requires[0]", 1));
    assert!(faults[0].message.contains("ip_blocks"));
}

#[test]
fn a_name_that_does_not_fit_the_body_is_a_fault() {
    for name in ["", "trust", "destination/", "destination", "endpoints/a:1", "Workload", "workload/x"] {
        let faults = decode(&resource(name, Body::Destination(destination()))).unwrap_err();
        assert_eq!(faults[0].field, "name", "{name}");
    }
    assert!(decode(&resource("destination/a:1", Body::Workload(workload()))).is_err());
}

#[test]
fn names_of_a_workload_are_checked() {
    workload_fault("namespace", |w| w.namespace = "Prod".into());
    workload_fault("pod", |w| w.pod = String::new());
    workload_fault("service_account", |w| w.service_account = "a/b".into());
    workload_fault("cluster_domain", |w| w.cluster_domain = ".local".into());
    workload_fault("inbound", |w| w.inbound = None);
}

#[test]
fn a_policy_is_checked_to_its_last_field() {
    inbound_fault("policies[0].name", |i| i.policies[0].name = String::new());
    for bad in
        ["", "web", "dev/web", "cluster.local/ns/dev/sa/web", "spiffe://cluster.local/ns/dev/sa/*", "**", "spiffe://*"]
    {
        rule_fault("from[0].principals[0]", |r| r.from[0].principals[0] = bad.into());
        rule_fault("from[0].not_principals[0]", |r| r.from[0].not_principals = vec![bad.into()]);
    }
    rule_fault("from[0].namespaces[0]", |r| r.from[0].namespaces = vec!["dev*".into()]);
    rule_fault("from[0].not_namespaces[0]", |r| r.from[0].not_namespaces = vec![String::new()]);
    for bad in ["", "*", "GET*", "GET POST", "GET\n", "G(T"] {
        rule_fault("to[0].methods[0]", |r| r.to[0].methods[0] = bad.into());
        rule_fault("to[0].not_methods[0]", |r| r.to[0].not_methods = vec![bad.into()]);
    }
    rule_fault("to[0].ports[0]", |r| r.to[0].ports[0] = 0);
    rule_fault("to[0].not_ports[0]", |r| r.to[0].not_ports = vec![65_536]);
    rule_fault("to[0].not_paths[0]", |r| r.to[0].not_paths = vec![text(string_match::Kind::Regex("(".into()))]);
    rule_fault("to[0].paths[0]", |r| r.to[0].paths[0] = text(string_match::Kind::Present(false)));
    rule_fault("to[0].hosts[0]", |r| r.to[0].hosts[0] = text(string_match::Kind::PathPrefix("/a".into())));
}

#[test]
fn ports_and_probes_are_checked() {
    inbound_fault("ports[0].port", |i| i.ports[0].port = 0);
    inbound_fault("ports[1]", |i| i.ports.push(i.ports[0]));
    inbound_fault("probes[1].port", |i| i.probes[1].port = 65_536);
    inbound_fault("probes[0].path", |i| i.probes[0].path = Some("healthz".into()));
}

#[test]
fn a_trust_bundle_without_domain_or_roots_is_a_fault() {
    let fault = |trust_domain: &str, roots_der| {
        let body = Body::Trust(wire::TrustBundle { trust_domain: trust_domain.into(), roots_der });
        decode(&resource("trust", body)).unwrap_err().remove(0).field
    };
    assert_eq!(fault("Cluster.Local", vec![vec![1]]), "trust_domain");
    assert_eq!(fault("cluster.local", vec![]), "roots_der");
    assert_eq!(fault("cluster.local", vec![vec![1], vec![]]), "roots_der[1]");
}

#[test]
fn endpoints_are_checked() {
    for bad in [
        "",
        "10.0.0",
        "010.0.0.1",
        "[::1]",
        "fe80::1%eth0",
        "prodsvc",
        "0.0.0.0",
        "::",
        "::ffff:0.0.0.0",
        "224.0.0.1",
        "ff02::1",
    ] {
        endpoint_fault("address", |e| e.address = bad.into());
    }
    endpoint_fault("port", |e| e.port = 0);
    for bad in ["spiffe://cluster.local", "*", " ", "spiffe://Cluster.local/ns/a/sa/b"] {
        endpoint_fault("identity", |e| e.identity = bad.into());
    }
}

#[test]
fn backends_and_splits_are_checked() {
    destination_fault("canonical", |d| d.canonical = String::new());
    destination_fault("external", |d| d.external = "db.example.com:5432".into());
    destination_fault("backends[1].port", |d| d.backends[1].port = 0);
    destination_fault("backends[0].connect_timeout_ms", |d| d.backends[0].connect_timeout_ms = u64::MAX);
    destination_fault("backends[2].name", |d| d.backends.push(d.backends[0].clone()));
    destination_fault("split.backends", |d| d.split.as_mut().unwrap().backends.clear());
    destination_fault("split.backends[0].backend", |d| d.split.as_mut().unwrap().backends[0].backend = "x".into());
    destination_fault("split.backends[0].effective", |d| d.split.as_mut().unwrap().backends[0].effective = 11);
    destination_fault("routes[0].split.backends[1].backend", |d| {
        let mut other = split();
        other.backends[1].backend = "prodsvc.prod:80".into();
        d.routes[0].action = Some(wire::route::Action::Split(other));
    });
}

#[test]
fn the_key_of_a_split_is_checked() {
    use split_key::Kind;
    for (field, kind) in [
        ("split.key.header", Kind::Header("a b".into())),
        ("split.key.header", Kind::Header(String::new())),
        ("split.key.header", Kind::Header(":path".into())),
        ("split.key.cookie", Kind::Cookie(String::new())),
        ("split.key.cookie", Kind::Cookie("a=b".into())),
        ("split.key.cookie", Kind::Cookie("a;b".into())),
        ("split.key.source_identity", Kind::SourceIdentity(false)),
    ] {
        destination_fault(field, |d| d.split.as_mut().unwrap().key = Some(wire::SplitKey { kind: Some(kind) }));
    }
}

#[test]
fn routes_and_matches_are_checked() {
    use string_match::Kind;
    destination_fault("routes[0].name", |d| d.routes[0].name = String::new());
    destination_fault("routes[0].timeout_ms", |d| d.routes[0].timeout_ms = u64::MAX);
    match_fault("method", |m| m.method = "*".into());
    match_fault("headers[0].name", |m| m.headers[0].name = ":authority".into());
    match_fault("queries[0].name", |m| m.queries[0].name = String::new());
    match_fault("path", |m| m.path = Some(text(Kind::PathPrefix("shop".into()))));
    match_fault("path", |m| m.path = Some(text(Kind::Regex("a{9999}{9999}".into()))));
    match_fault("path", |m| m.path = Some(text(Kind::Exact("x".repeat(5000)))));
    match_fault("headers[0].value", |m| m.headers[0].value = Some(text(Kind::PathPrefix("/a".into()))));
}

#[test]
fn lists_are_limited() {
    destination_fault("routes", |d| d.routes = vec![d.routes[0].clone(); 1025]);
    destination_fault("routes[0].matches", |d| d.routes[0].matches = vec![d.routes[0].matches[0].clone(); 257]);
    destination_fault("split.backends", |d| {
        let split = d.split.as_mut().unwrap();
        split.backends = vec![split.backends[0].clone(); 257];
    });
    inbound_fault("policies", |i| i.policies = vec![i.policies[0].clone(); 1025]);
}

#[test]
fn a_fault_shows_no_control_character_and_no_endless_text() {
    let mut wire = workload();
    wire.namespace = format!("\x1b[31m{}", "a".repeat(10_000));
    let message = decode_workload(wire).unwrap_err().remove(0).message;
    assert!(!message.contains('\x1b') && message.len() < 200, "{message}");
}
