//! Hosts of the outside, aliases with routes of their own, egress by namespace, limits, and where pods are.

use super::*;

fn entry(namespace: &str, name: &str, spec: &str) -> String {
    custom("ServiceEntry", namespace, name, spec)
}

const API: &str = "hosts: [api.example.com]\nresolution: DNS\nports: [{number: 80, name: http, targetPort: 443}]";

fn dns(model: &Model, namespace: &str, text: &str) -> Vec<String> {
    let destination = model.destination(&client(namespace), text);
    destination.backends.iter().flat_map(|b| b.dns.clone()).collect()
}

#[test]
fn an_entry_holds_for_its_own_namespace_and_one_of_the_root_namespace_for_all() {
    let one = model(&entry("dev", "api", API));
    assert_eq!(dns(&one, "dev", "api.example.com:80"), ["api.example.com:443"]);
    assert_eq!(kind(&one.destination(&client("dev"), "api.example.com:80")), Kind::Entry);
    assert_eq!(kind(&one.destination(&client("prod"), "api.example.com:80")), Kind::Unknown);
    assert_eq!(kind(&one.destination(&client("dev"), "api.example.com:81")), Kind::Unknown);
    let other = API.replace("443", "8443");
    let both = model(&format!("{}{}", entry("causeway-system", "api", API), entry("dev", "api", &other)));
    assert_eq!(dns(&both, "prod", "api.example.com:80"), ["api.example.com:443"]);
    assert_eq!(dns(&both, "dev", "api.example.com:80"), ["api.example.com:8443"]);
    let hidden = format!("{API}\nexportTo: [prod]");
    let narrowed = model(&entry("causeway-system", "api", &hidden));
    assert_eq!(kind(&narrowed.destination(&client("dev"), "api.example.com:80")), Kind::Unknown);
    assert_eq!(found(&model(&entry("dev", "api", &hidden))), ["no_effect spec.exportTo"]);
}

#[test]
fn an_address_that_is_not_known_may_be_named_where_an_entry_has_the_port() {
    let model = model(&entry("dev", "api", API));
    assert!(model.destination(&client("dev"), "192.0.2.1:80").by_name);
    assert!(!model.destination(&client("dev"), "192.0.2.1:443").by_name);
    assert!(!model.destination(&client("prod"), "192.0.2.1:80").by_name);
}

#[test]
fn a_wildcard_is_resolved_as_it_was_asked_and_the_longest_wins() {
    let text = [
        entry("dev", "wide", "hosts: ['*.example.com']\nports: [{number: 443, protocol: TLS}]"),
        entry("dev", "deep", "hosts: ['*.eu.example.com']\nports: [{number: 443, protocol: TLS, targetPort: 8443}]"),
    ];
    let model = model(&text.concat());
    assert_eq!(dns(&model, "dev", "a.b.example.com:443"), ["a.b.example.com:443"]);
    assert_eq!(dns(&model, "dev", "a.eu.example.com:443"), ["a.eu.example.com:8443"]);
    assert_eq!(kind(&model.destination(&client("dev"), "example.com:443")), Kind::Unknown);
    let names = |text: &str| model.destination(&client("dev"), text).backends[0].name.clone();
    assert_ne!(names("a.example.com:443"), names("b.example.com:443"));
}

#[test]
fn static_endpoints_and_addresses_lead_to_the_entry_but_never_over_the_mesh() {
    let spec = "hosts: [db.example.com]\naddresses: [192.0.2.0/28, 10.96.0.10]\nresolution: STATIC\nports: [{number: 5432, \
                name: tcp-db}]\nendpoints: [{address: 198.51.100.7, locality: eu/eu-1}, {address: 127.0.0.1}]";
    let model = model(&format!("{}{}", prodsvc(), entry("dev", "db", spec)));
    assert_eq!(found(&model), ["invalid_address spec.endpoints[1].address"]);
    for text in ["192.0.2.9:5432", "198.51.100.7:5432", "db.example.com:5432"] {
        let destination = model.destination(&client("dev"), text);
        assert_eq!(kind(&destination), Kind::Entry, "{text}");
        assert_eq!(shares(destination.split.as_ref().unwrap()), [("db.example.com.dev:5432", 1, 1)]);
    }
    let endpoints = model.endpoints("db.example.com.dev:5432").unwrap().endpoints;
    assert_eq!((endpoints.len(), endpoints[0].region.as_str(), endpoints[0].zone.as_str()), (1, "eu", "eu-1"));
    assert_eq!(kind(&model.destination(&client("dev"), "192.0.2.9:5433")), Kind::Unknown);
    assert_eq!(model.destination(&client("dev"), "10.96.0.10:80").canonical, "prodsvc.prod:80");
}

#[test]
fn names_of_the_cluster_and_of_the_own_machine_are_no_hosts_of_the_outside() {
    for host in [
        "prodsvc",
        "prodsvc.prod.svc.cluster.local",
        "a.svc",
        "x.localhost",
        "cluster.local",
        "192.0.2.1",
        "a b.c",
        "*.svc",
    ] {
        let spec = format!("hosts: ['{host}']\nresolution: DNS\nports: [{{number: 80}}]");
        let found = found(&model(&entry("dev", "api", &spec)));
        assert_eq!(found, ["invalid_host spec.hosts[0]"], "{host}");
    }
    // A short name of a Service that is there leads to it, whatever an entry says.
    let spec = "hosts: [prodsvc.prod]\nresolution: DNS\nports: [{number: 80}]";
    let model = model(&format!("{}{}", prodsvc(), entry("dev", "api", spec)));
    assert_eq!(kind(&model.destination(&client("dev"), "prodsvc.prod:80")), Kind::Service);
}

#[test]
fn routes_and_rules_hold_for_hosts_of_the_outside() {
    let text = [
        entry("dev", "api", API),
        custom(
            "VirtualService",
            "dev",
            "api",
            "hosts: [api.example.com]\nhttp: [{timeout: 3s, route: [{destination: {host: api.example.com}}]}]",
        ),
        custom(
            "DestinationRule",
            "dev",
            "api",
            "host: api.example.com\ntrafficPolicy: {tls: {mode: SIMPLE}, connectionPool: {tcp: {connectTimeout: 1s}}}",
        ),
    ];
    let model = model(&text.concat());
    assert_eq!(found(&model), [] as [&str; 0]);
    let destination = model.destination(&client("dev"), "api.example.com:80");
    assert_eq!((destination.routes.len(), destination.routes[0].timeout_ms), (1, 3000));
    let backend = &destination.backends[0];
    assert_eq!(shares(split_of(&destination.routes[0])), [("api.example.com.dev:80", 1, 1)]);
    assert_eq!((backend.connect_timeout_ms, backend.tls.as_ref().unwrap().sni.as_str()), (1000, "api.example.com"));
}

#[test]
fn an_alias_has_routes_of_its_own_for_requests_to_its_name() {
    let text = [
        prodsvc(),
        service("dev", "alias", "type: ExternalName, externalName: prodsvc.prod.svc.cluster.local"),
        custom(
            "VirtualService",
            "dev",
            "v",
            "hosts: [alias]\nhttp: [{timeout: 3s, route: [{destination: {host: alias}}]}]",
        ),
        custom(
            "VirtualService",
            "prod",
            "p",
            "hosts: [prodsvc]\nhttp: [{timeout: 1s, route: [{destination: {host: prodsvc}}]}]",
        ),
    ];
    let model = model(&text.concat());
    assert_eq!(found(&model), [] as [&str; 0]);
    for asked in ["10.96.0.10:80", "alias.dev:80"] {
        let routes = model.destination(&client("dev"), asked).routes;
        assert_eq!(routes.iter().map(|r| r.timeout_ms).collect::<Vec<_>>(), [3000, 1000], "{asked}");
        let authority = routes[0].matches[0].authority.as_ref().unwrap().kind.clone().unwrap();
        let wire::string_match::Kind::Regex(regex) = authority else { panic!("{authority:?}") };
        let pattern = causeway_mesh::text::TextMatch::regex(&regex).unwrap();
        for (host, is) in [("alias", true), ("alias.dev.svc", true), ("alias.prod", false), ("xalias", false)] {
            assert_eq!(pattern.is_match(host), is, "{host}");
        }
    }
    assert_eq!(model.destination(&client("qa"), "10.96.0.10:80").routes.len(), 1);
    // Where the Service has none, what is not for the alias goes to it as ever.
    let alone = super::model(&text[..3].concat());
    let routes = alone.destination(&client("dev"), "10.96.0.10:80").routes;
    assert_eq!((routes.len(), routes[1].matches.len()), (2, 0));
    assert_eq!(shares(split_of(&routes[1])), [("prodsvc.prod:80", 1, 1)]);
}

#[test]
fn a_namespace_may_say_otherwise_than_the_mesh_of_what_leaves_it() {
    let namespace = |name: &str, value: &str| {
        format!(
            "---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{causeway.dev/egress: {value}}}}}\n"
        )
    };
    let text = [namespace("dev", "deny"), namespace("qa", "allow"), namespace("odd", "maybe")].concat();
    let model = compiled(events(&text), &Settings { egress_allow: false, ..Settings::default() });
    let of = |namespace: &str| model.workload(&client(namespace)).egress();
    assert_eq!(
        [of("dev"), of("qa"), of("odd"), of("none")].map(|e| e == wire::Egress::Allow),
        [false, true, false, false]
    );
    assert_eq!(found(&model), ["unknown_value metadata.labels.causeway.dev/egress"]);
}

#[test]
fn limits_go_to_the_pods_that_are_selected_and_a_rule_that_is_not_understood_limits_nothing() {
    let spec = "selector: {matchLabels: {app: web}}\nrules:\n- {name: a, requests: 5, per: 1m, burst: 2, ports: [8080], key: \
                {header: X-User}, match: [{uri: {prefix: /a}}]}\n- {requests: 5, per: 1ms}\n- {requests: 5, per: 1s, match: [{uri: \
                {regex: '('}}]}\n- {requests: 5, per: 1s, key: {}}\n- {requests: 7, per: 1s, match: [{}, {uri: {prefix: /x}}]}";
    let model = model(&format!("{}{}", prodsvc(), custom("RateLimitPolicy", "dev", "p", spec)));
    let limits = model.workload(&client("dev")).inbound.unwrap().limits;
    let told: Vec<_> = limits.iter().map(|l| (l.name.as_str(), l.requests, l.window_ms, l.matches.len())).collect();
    assert_eq!(told, [("dev/p#a", 5, 60_000, 1), ("dev/p#4", 7, 1000, 0)]);
    assert_eq!(limits[0].key, Some(wire::rate_limit::Key::Header("x-user".into())));
    let wrong = [
        "invalid_duration spec.rules[1].per",
        "invalid_key spec.rules[3].key",
        "invalid_regex spec.rules[2].match[0].uri.regex",
    ];
    let mut all = found(&model);
    all.sort();
    assert_eq!(all, wrong);
    let other = Client { pod: "stable".into(), ..client("prod") };
    assert!(model.workload(&other).inbound.unwrap().limits.is_empty());
}

#[test]
fn zones_come_from_slices_where_pods_do_not_say_and_hints_are_passed_on() {
    let slice = "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s, namespace: prod, labels: \
                 {kubernetes.io/service-name: prodsvc}}\naddressType: IPv4\nports: [{name: http, port: 8080}]\nendpoints:\n- \
                 {addresses: [10.1.0.1], zone: eu-1, targetRef: {kind: Pod, name: stable}, hints: {forZones: [{name: eu-2}]}}\n- \
                 {addresses: [10.1.0.2], targetRef: {kind: Pod, name: canary}}\n";
    let model = model(&format!("{}{slice}", prodsvc()));
    let endpoints = model.endpoints("prodsvc.prod:80").unwrap().endpoints;
    assert_eq!((endpoints[0].zone.as_str(), endpoints[0].for_zones.clone()), ("eu-1", vec!["eu-2".to_owned()]));
    assert_eq!(endpoints[1].zone, "");
    let workload = model.workload(&Client { pod: "stable".into(), ..client("prod") });
    assert_eq!(workload.zone, "eu-1");
}

#[test]
fn a_service_without_slices_that_prefers_what_is_close_hints_at_the_zone_of_each_pod() {
    let pods = prodsvc().replace("labels: {", "labels: {topology.kubernetes.io/zone: a, ");
    let hints = |text: &str| model(text).endpoints("prodsvc.prod:80").unwrap().endpoints[0].for_zones.clone();
    assert!(hints(&pods).is_empty());
    let near = pods.replace("spec: {clusterIP", "spec: {trafficDistribution: PreferClose, clusterIP");
    assert_ne!(near, pods);
    assert_eq!(hints(&near), ["a"]);
}
