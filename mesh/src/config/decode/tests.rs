use proptest::prelude::*;

use super::decode;
use crate::config::{Fault, Kind, Protocol, Resource};
use crate::policy::{MtlsMode, Principal};
use crate::split::SplitKey;
use crate::text::TextMatch;
use crate::wire;
use crate::wire::resource::Body;
use crate::wire::route::Action;
use crate::wire::{split_key, string_match};

mod actions;
mod ugly;

fn resource(name: &str, body: Body) -> wire::Resource {
    wire::Resource { name: name.into(), version: 1, body: Some(body), requires: vec![] }
}

fn workload() -> wire::Workload {
    let rule = wire::Rule {
        from: vec![wire::Source {
            principals: vec!["spiffe://cluster.local/ns/dev/sa/web".into(), "*".into()],
            not_namespaces: vec!["qa".into()],
            ..Default::default()
        }],
        to: vec![wire::Operation {
            methods: vec!["GET".into()],
            paths: vec![text(string_match::Kind::Prefix("/Api".into()))],
            hosts: vec![text(string_match::Kind::Exact("Secret.COM".into()))],
            ports: vec![8080],
            ..Default::default()
        }],
    };
    wire::Workload {
        namespace: "prod".into(),
        pod: "prodsvc-v1-0".into(),
        service_account: "prodsvc".into(),
        workload_name: "prodsvc-v1".into(),
        cluster_domain: "cluster.local".into(),
        inbound: Some(wire::Inbound {
            mode: wire::MtlsMode::MtlsStrict.into(),
            ports: vec![wire::PortMode { port: 9000, mode: wire::MtlsMode::MtlsPermissive.into() }],
            default_verdict: wire::Verdict::Deny.into(),
            policies: vec![wire::Policy {
                name: "prod/p".into(),
                verdict: wire::Verdict::Allow.into(),
                rules: vec![rule],
            }],
            probes: vec![
                wire::Probe { port: 8080, path: Some("/a/../healthz?full=1".into()) },
                wire::Probe { port: 8080, path: None },
            ],
            ..wire::Inbound::default()
        }),
        egress: wire::Egress::Deny.into(),
        labels: [("app".to_owned(), "prodsvc".to_owned())].into(),
        ..wire::Workload::default()
    }
}

fn text(kind: string_match::Kind) -> wire::StringMatch {
    wire::StringMatch { kind: Some(kind) }
}

fn backend(subset: &str) -> wire::Backend {
    wire::Backend {
        name: format!("prodsvc.prod:80/{subset}"),
        service: "prodsvc".into(),
        namespace: "prod".into(),
        port: 80,
        subset: subset.into(),
        connect_timeout_ms: 0,
        plaintext: false,
        ..wire::Backend::default()
    }
}

fn split() -> wire::Split {
    let weighted = |subset, weight| wire::Weighted {
        backend: format!("prodsvc.prod:80/{subset}"),
        weight,
        effective: weight,
        ..wire::Weighted::default()
    };
    wire::Split {
        backends: vec![weighted("v1-canary", 10), weighted("v1-stable", 90)],
        key: None,
        origin: "dev/canary".into(),
        ..wire::Split::default()
    }
}

fn destination() -> wire::Destination {
    let one = wire::Match {
        path: Some(text(string_match::Kind::PathPrefix("/shop".into()))),
        method: "GET".into(),
        headers: vec![wire::NamedMatch {
            name: "X-User".into(),
            value: Some(text(string_match::Kind::Regex("a.*".into()))),
            invert: false,
        }],
        queries: vec![wire::NamedMatch {
            name: "v".into(),
            value: Some(text(string_match::Kind::Present(true))),
            invert: true,
        }],
        authority: Some(text(string_match::Kind::Suffix(".PROD".into()))),
        ..wire::Match::default()
    };
    wire::Destination {
        canonical: "prodsvc.prod:80".into(),
        protocol: wire::Protocol::Http1.into(),
        routes: vec![wire::Route {
            name: "dev/canary#0".into(),
            matches: vec![one],
            action: Some(Action::Split(split())),
            timeout_ms: 1500,
            ..wire::Route::default()
        }],
        split: Some(split()),
        backends: vec![backend("v1-canary"), backend("v1-stable")],
        kind: wire::destination::Kind::Service.into(),
        external: String::new(),
        service_name: "prodsvc".into(),
        service_namespace: "prod".into(),
        http_only: true,
        ..wire::Destination::default()
    }
}

fn endpoints() -> wire::Endpoints {
    let one = |address: &str, identity: &str| wire::Endpoint {
        address: address.into(),
        port: 8080,
        identity: identity.into(),
        ..Default::default()
    };
    wire::Endpoints {
        endpoints: vec![one("10.0.0.1", "spiffe://cluster.local/ns/prod/sa/prodsvc"), one("fd00::1", "")],
    }
}

fn decode_workload(wire: wire::Workload) -> Result<Resource, Vec<Fault>> {
    decode(&resource("workload", Body::Workload(wire)))
}

fn decode_destination(wire: wire::Destination) -> Result<Resource, Vec<Fault>> {
    decode(&resource("destination/prodsvc.prod:80", Body::Destination(wire)))
}

fn decode_endpoints(wire: wire::Endpoints) -> Result<Resource, Vec<Fault>> {
    decode(&resource("endpoints/prodsvc.prod:80/v1-stable", Body::Endpoints(wire)))
}

#[test]
fn a_workload_is_decoded_whole() {
    let Ok(Resource::Workload(w)) = decode_workload(workload()) else { panic!("not a workload") };
    assert_eq!((&*w.namespace, &*w.pod, &*w.service_account), ("prod", "prodsvc-v1-0", "prodsvc"));
    assert!(!w.egress_allowed && !w.inbound.default_allow);
    assert_eq!((w.inbound.mode(80), w.inbound.mode(9000)), (MtlsMode::Strict, MtlsMode::Permissive));
    let policy = &w.inbound.policies[0];
    assert!(policy.allow);
    let (source, operation) = (&policy.rules[0].from[0], &policy.rules[0].to[0]);
    let web = "spiffe://cluster.local/ns/dev/sa/web".parse().unwrap();
    assert_eq!(source.principals, [Principal::Id(web), Principal::Any]);
    assert_eq!((source.not_namespaces.as_slice(), operation.ports.as_slice()), (&["qa".to_owned()][..], &[8080][..]));
    assert!(operation.paths[0].is_match("/Api/x") && !operation.paths[0].is_match("/api/x"));
    assert!(operation.hosts[0].is_match("secret.com"), "hosts are lower-cased");
    assert_eq!(w.inbound.probes.iter().map(|p| p.path.as_deref()).collect::<Vec<_>>(), [Some("/healthz"), None]);
    assert_eq!(&*w.inbound.probes[0].query, "full=1");
}

fn backend_at(split: &crate::split::Split, point: u64) -> usize {
    split.pick(point).unwrap().backend
}

#[test]
fn a_destination_is_decoded_whole() {
    let Ok(Resource::Destination(d)) = decode_destination(destination()) else { panic!("not a destination") };
    assert_eq!(
        (&*d.canonical, d.kind, d.protocol, d.http_only),
        ("prodsvc.prod:80", Kind::Service, Protocol::Http1, true)
    );
    let split = d.split.as_ref().unwrap();
    assert_eq!((split.total(), backend_at(split, 9), backend_at(split, 10), &*split.origin), (100, 0, 1, "dev/canary"));
    let route = &d.routes[0];
    assert_eq!((&*route.name, route.timeout.unwrap().as_millis()), ("dev/canary#0", 1500));
    let one = &route.matches[0];
    assert_eq!((&*one.headers[0].name, &*one.queries[0].name, one.queries[0].invert), ("x-user", "v", true));
    assert!(one.authority.as_ref().unwrap().is_match("prodsvc.prod"));
    assert_eq!((d.backends[1].port, &*d.backends[1].subset, d.backends[1].connect_timeout), (80, "v1-stable", None));
}

#[test]
fn endpoints_and_trust_are_decoded_whole() {
    let Ok(Resource::Endpoints(e)) = decode_endpoints(endpoints()) else { panic!("not endpoints") };
    assert_eq!(e[0].identity.as_ref().unwrap().account(), "prodsvc");
    assert!(e[1].identity.is_none() && e[1].address.is_ipv6());
    let trust = wire::TrustBundle { trust_domain: "cluster.local".into(), roots_der: vec![vec![0x30]] };
    let Ok(Resource::Trust(t)) = decode(&resource("trust", Body::Trust(trust))) else { panic!("not trust") };
    assert_eq!((&*t.trust_domain, t.roots.len()), ("cluster.local", 1));
}

#[test]
fn no_endpoint_and_no_route_are_valid() {
    assert!(decode_endpoints(wire::Endpoints::default()).is_ok());
    let bare = wire::Destination { routes: vec![], split: None, backends: vec![], ..destination() };
    let unknown = wire::Destination { kind: wire::destination::Kind::Unknown.into(), ..bare };
    assert!(decode_destination(unknown).is_ok());
}

#[test]
fn every_kind_of_split_key_is_known() {
    for (kind, want) in [
        (split_key::Kind::Header("X-User".into()), SplitKey::Header("x-user".into())),
        (split_key::Kind::Cookie("Session".into()), SplitKey::Cookie("Session".into())),
        (split_key::Kind::SourceIdentity(true), SplitKey::SourceIdentity),
    ] {
        let mut wire = destination();
        wire.split.as_mut().unwrap().key = Some(wire::SplitKey { kind: Some(kind) });
        let Ok(Resource::Destination(d)) = decode_destination(wire) else { panic!("not a destination") };
        assert_eq!(d.split.as_ref().unwrap().key, Some(want));
    }
}

#[test]
fn an_address_of_ipv4_in_ipv6_is_ipv4() {
    let mut wire = endpoints();
    wire.endpoints[0].address = "::ffff:10.0.0.1".into();
    let Ok(Resource::Endpoints(e)) = decode_endpoints(wire) else { panic!("not endpoints") };
    assert!(e[0].address.is_ipv4());
}

#[test]
fn an_external_destination_names_host_and_port() {
    let with = |external: &str| wire::Destination {
        kind: wire::destination::Kind::External.into(),
        external: external.into(),
        ..destination()
    };
    let Ok(Resource::Destination(d)) = decode_destination(with("DB.example.com.:5432")) else {
        panic!("not a destination")
    };
    assert_eq!(d.external.as_deref(), Some("db.example.com:5432"));
    for bad in ["", "db.example.com", "http://db.example.com:80", "db:0"] {
        let faults = decode_destination(with(bad)).unwrap_err();
        assert_eq!(faults[0].field, "external", "{bad}");
    }
}

#[test]
fn all_faults_of_a_resource_are_reported_at_once() {
    let mut wire = destination();
    wire.backends[0].port = 0;
    wire.split.as_mut().unwrap().backends[1].backend = "nowhere".into();
    wire.routes[0].matches[0].headers[0].name = "bad name".into();
    let fields: Vec<_> = decode_destination(wire).unwrap_err().into_iter().map(|f| f.field).collect();
    assert_eq!(fields, ["backends[0].port", "split.backends[1].backend", "routes[0].matches[0].headers[0].name"]);
}

#[test]
fn a_fault_names_resource_field_and_reason() {
    let mut wire = endpoints();
    wire.endpoints[1].port = 70_000;
    let faults = decode_endpoints(wire).unwrap_err();
    let want = "endpoints/prodsvc.prod:80/v1-stable: endpoints[1].port: 70000 is not a port from 1 to 65535";
    assert_eq!(faults.iter().map(ToString::to_string).collect::<Vec<_>>(), [want]);
}

proptest! {
    /// What a confused or hostile control plane might send: bytes that happen to be a resource.
    #[test]
    fn any_bytes_are_decoded_or_refused_without_panic(name in prop_oneof![Just("workload"), Just("destination/a:1"), Just("endpoints/a:1"), Just("trust")],
                                                      tag in 3u8..7, bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let length = u8::try_from(bytes.len()).unwrap();
        let encoded = [&[tag << 3 | 2, length][..], &bytes].concat();
        if let Ok(mut resource) = <wire::Resource as prost::Message>::decode(&*encoded) {
            resource.name = name.into();
            if let Err(faults) = decode(&resource) {
                prop_assert!(!faults.is_empty());
            }
        }
    }

    /// One byte of a good resource changed: decoded or refused, and what is decoded can be used.
    #[test]
    fn a_changed_byte_is_no_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut encoded = prost::Message::encode_to_vec(&resource("destination/a:1", Body::Destination(destination())));
        let at = at.index(encoded.len());
        encoded[at] = byte;
        if let Ok(resource) = <wire::Resource as prost::Message>::decode(&*encoded)
            && let Ok(Resource::Destination(d)) = decode(&resource)
        {
            for split in d.routes.iter().filter_map(|r| r.split()).chain(&d.split) {
                prop_assert!(split.backends().iter().all(|b| *b < d.backends.len()));
            }
        }
    }

    #[test]
    fn a_pattern_on_a_host_has_no_upper_case(host in "[A-Za-z.]{1,12}") {
        let mut wire = destination();
        wire.routes[0].matches[0].authority = Some(text(string_match::Kind::Exact(host.clone())));
        let Ok(Resource::Destination(d)) = decode_destination(wire) else { panic!("not a destination") };
        let Some(TextMatch::Exact(have)) = &d.routes[0].matches[0].authority else { panic!("not exact") };
        prop_assert_eq!(&**have, host.to_ascii_lowercase());
    }
}
