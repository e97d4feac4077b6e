//! Names, addresses and endpoints.

use super::*;

#[test]
fn short_names_are_those_of_the_clients_namespace() {
    let model = model(&prodsvc());
    assert_eq!(model.destination(&client("prod"), "prodsvc:80").canonical, "prodsvc.prod:80");
    let unknown = model.destination(&client("dev"), "prodsvc:80");
    assert_eq!((kind(&unknown), unknown.canonical.as_str()), (Kind::Unknown, "prodsvc:80"));
}

#[test]
fn a_port_that_the_service_does_not_have_is_unknown() {
    let model = model(&prodsvc());
    for text in ["prodsvc.prod:81", "10.96.0.10:81", "example.com:443", "10.9.9.9:80", "", ":", "[::1]:80", "a b:80"] {
        let destination = model.destination(&client("dev"), text);
        assert_eq!((kind(&destination), destination.canonical.as_str()), (Kind::Unknown, text));
        assert!(destination.split.is_none());
    }
}

#[test]
fn a_pods_own_address_is_that_pod_and_not_subject_to_the_routes_of_its_service() {
    let model = model(&format!("{}{}", prodsvc(), custom("VirtualService", "prod", "v", SPLIT)));
    let destination = model.destination(&client("dev"), "10.1.0.2:8080");
    assert_eq!(kind(&destination), Kind::Pod);
    assert!(destination.routes.is_empty());
    assert_eq!(shares(destination.split.as_ref().unwrap()), [("10.1.0.2:8080", 1, 1)]);
    let endpoints = model.endpoints("10.1.0.2:8080").unwrap().endpoints;
    assert_eq!(endpoints[0].identity, "spiffe://cluster.local/ns/prod/sa/canary-sa");
}

fn headless() -> String {
    [
        service(
            "prod",
            "web",
            "clusterIP: None, selector: {app: web}, ports: [{name: http, port: 80, targetPort: web}]",
        ),
        pod("prod", "web-0", "10.1.2.1", "app: web"),
        pod("prod", "web-1", "10.1.2.2", "app: web"),
    ]
    .concat()
}

#[test]
fn a_pod_of_a_headless_service_is_found_by_name_and_address_and_its_routes_hold() {
    let spec = "hosts: [web]\nhttp:\n- match: [{uri: {prefix: /old}}]\n  route: [{destination: {host: web}}]";
    let model = model(&format!("{}{}", headless(), custom("VirtualService", "prod", "v", spec)));
    for text in ["web-1.web.prod.svc.cluster.local:8080", "web-1.web.prod:8080", "10.1.2.2:8080"] {
        let destination = model.destination(&client("prod"), text);
        assert_eq!((kind(&destination), destination.canonical.as_str()), (Kind::Pod, "10.1.2.2:8080"), "{text}");
        assert_eq!(destination.routes.len(), 1);
        assert_eq!(shares(destination.split.as_ref().unwrap()), [("10.1.2.2:8080", 1, 1)]);
        // A route to the Service leads to the pod that was asked for, and is counted as the Service's.
        assert_eq!(shares(routed_to(&destination)), [("10.1.2.2:8080", 1, 1)]);
        let backends: Vec<_> = destination.backends.iter().map(|b| (b.name.as_str(), b.service.as_str())).collect();
        assert_eq!(backends, [("10.1.2.2:8080", "web")]);
    }
    for port in [80, 8080] {
        let whole = model.destination(&client("prod"), &format!("web:{port}"));
        assert_eq!((kind(&whole), whole.canonical.as_str()), (Kind::Service, "web.prod:80"));
    }
    assert_eq!(model.endpoints("web.prod:80").unwrap().endpoints.len(), 2);
}

fn routed_to(destination: &wire::Destination) -> &wire::Split {
    match destination.routes[0].action.as_ref().unwrap() {
        wire::route::Action::Split(split) => split,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_route_of_a_headless_service_may_lead_from_the_pod_that_was_asked_for_to_a_subset_or_another_service() {
    let spec = "hosts: [web]\nhttp:\n- route:\n  - {destination: {host: web}, weight: 1}\n  - {destination: {host: web, \
                subset: one}, weight: 2}\n  - {destination: {host: prodsvc}, weight: 3}";
    let rule = "host: web\nsubsets: [{name: one, labels: {app: web}}]";
    let all = [
        headless(),
        prodsvc(),
        custom("VirtualService", "prod", "v", spec),
        custom("DestinationRule", "prod", "r", rule),
    ];
    let destination = model(&all.concat()).destination(&client("prod"), "web-1.web.prod:8080");
    let want = [("10.1.2.2:8080", 1, 1), ("web.prod:80/one", 2, 2), ("prodsvc.prod:80", 3, 3)];
    assert_eq!(shares(routed_to(&destination)), want);
}

#[test]
fn slices_replace_pods_and_their_conditions_count() {
    let slice = "---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: prodsvc-1, namespace: prod, labels: {kubernetes.io/service-name: prodsvc}}
addressType: IPv4
ports: [{name: http, port: 9090}]
endpoints:
- {addresses: [10.1.0.1], targetRef: {kind: Pod, name: stable}, zone: z1}
- {addresses: [10.1.0.2], conditions: {ready: false}}
- {addresses: [10.7.7.7]}
- {addresses: [10.1.0.9]}
- {addresses: [169.254.169.254]}
";
    let model = model(&format!("{}{slice}", prodsvc()));
    let endpoints = model.endpoints("prodsvc.prod:80").unwrap().endpoints;
    let got: Vec<_> =
        endpoints.iter().map(|e| (e.address.as_str(), e.port, e.identity.as_str(), e.zone.as_str())).collect();
    // 10.1.0.9 is a pod of dev: a slice of prod lends it no identity.
    let want = [
        ("10.1.0.1", 9090, "spiffe://cluster.local/ns/prod/sa/stable-sa", "z1"),
        ("10.1.0.9", 9090, "", ""),
        ("10.7.7.7", 9090, "", ""),
    ];
    assert_eq!(got, want);
    assert_eq!(model.endpoints("prodsvc.prod:80/v1-stable").unwrap().endpoints.len(), 1);
}

#[test]
fn while_every_endpoint_terminates_those_that_serve_are_used() {
    let slice = "---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s, namespace: prod, labels: {kubernetes.io/service-name: prodsvc}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [10.1.0.1], conditions: {ready: false, serving: true, terminating: true}}
- {addresses: [10.1.0.2], conditions: {ready: false, serving: false, terminating: true}}
";
    let model = model(&format!("{}{slice}", prodsvc()));
    let endpoints = model.endpoints("prodsvc.prod:80").unwrap().endpoints;
    assert_eq!(endpoints.iter().map(|e| e.address.as_str()).collect::<Vec<_>>(), ["10.1.0.1"]);
}

#[test]
fn while_no_endpoint_is_ready_those_are_used_that_only_their_node_was_not_heard_of() {
    let status = |name: &str, labels: &str, ip: &str, spec: &str, conditions: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: prod, labels: {{app: prodsvc, {labels}}}}}\n\
             spec: {{{spec}}}\nstatus: {{podIP: {ip}, conditions: [{conditions}]}}\n"
        )
    };
    let lost = "{type: Ready, status: 'False'}, {type: ContainersReady, status: 'True'}";
    let failed = "{type: Ready, status: 'False'}, {type: ContainersReady, status: 'False'}";
    let pods = [
        service("prod", "prodsvc", "clusterIP: 10.96.0.10, selector: {app: prodsvc}, ports: [{name: http, port: 80}]"),
        status("lost", "a: b", "10.1.0.1", "", lost),
        status("failed", "a: b", "10.1.0.2", "", failed),
        status("gated", "a: b", "10.1.0.3", "readinessGates: [{conditionType: example.com/x}]", lost),
        pod("dev", "web", "10.1.0.9", "app: web"),
    ]
    .concat();
    let slice = |first: &str| {
        let not = "{ready: false, serving: false, terminating: false}";
        format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: s, namespace: prod, labels: \
             {{kubernetes.io/service-name: prodsvc}}}}\naddressType: IPv4\nports: [{{name: http, port: 80}}]\nendpoints:\n\
             - {{addresses: [10.1.0.8], conditions: {first}}}\n- {{addresses: [10.1.0.1], conditions: {not}}}\n\
             - {{addresses: [10.1.0.2], conditions: {not}}}\n- {{addresses: [10.1.0.3], conditions: {not}}}\n"
        )
    };
    let addresses = |text: &str| -> Vec<String> {
        let endpoints = model(text).endpoints("prodsvc.prod:80").unwrap().endpoints;
        endpoints.into_iter().map(|e| e.address).collect()
    };
    let ready = slice("{ready: true, serving: true, terminating: false}");
    assert_eq!(addresses(&format!("{pods}{ready}")), ["10.1.0.8"]);
    let terminating = slice("{ready: false, serving: true, terminating: true}");
    assert_eq!(addresses(&format!("{pods}{terminating}")), ["10.1.0.1", "10.1.0.8"]);
    assert_eq!(addresses(&pods), ["10.1.0.1"], "without slices alike");
}

#[test]
fn an_alias_to_the_outside_is_external_and_one_to_the_own_machine_is_nothing() {
    let text = [
        service("dev", "api", "type: ExternalName, externalName: api.example.com"),
        service("dev", "evil", "type: ExternalName, externalName: localhost"),
        service("dev", "meta", "type: ExternalName, externalName: 169.254.169.254"),
    ];
    let model = model(&text.concat());
    let destination = model.destination(&client("dev"), "api:443");
    assert_eq!((kind(&destination), destination.external.as_str()), (Kind::External, "api.example.com:443"));
    assert_eq!(kind(&model.destination(&client("dev"), "evil:15000")), Kind::Unknown);
    assert_eq!(found(&model), ["refused_external_name spec.externalName"; 2]);
}

#[test]
fn aliases_that_lead_round_are_reported_and_lead_nowhere() {
    let text = [
        service("dev", "a", "type: ExternalName, externalName: b.dev.svc.cluster.local"),
        service("dev", "b", "type: ExternalName, externalName: a.dev.svc.cluster.local"),
    ];
    let model = model(&text.concat());
    assert_eq!(found(&model), ["alias_loop spec.externalName"; 2]);
    assert_eq!(kind(&model.destination(&client("dev"), "a:80")), Kind::Unknown);
}

#[test]
fn the_declared_protocol_is_app_protocol_or_the_prefix_of_the_ports_name() {
    use wire::Protocol::*;
    let cases = [
        ("name: http-web", Http1),
        ("name: grpc", Http2),
        ("name: postgres", Tcp),
        ("name: https-x", Tls),
        ("name: web", Unspecified),
        ("name: tcp, appProtocol: kubernetes.io/h2c", Http2),
        ("name: http, appProtocol: mysql", Tcp),
        ("name: grpc-web-x", Http1),
        ("name: a, appProtocol: grpc-web", Http1),
        ("name: a, appProtocol: kubernetes.io/ws", Http1),
        ("name: a, appProtocol: kubernetes.io/wss", Tls),
        ("name: a, appProtocol: HTTPS", Tls),
        ("name: a, appProtocol: mongo", Tcp),
        ("name: a, appProtocol: redis", Tcp),
    ];
    for (port, want) in cases {
        let model = model(&service("prod", "s", &format!("ports: [{{{port}, port: 80}}]")));
        assert_eq!(model.destination(&client("dev"), "s.prod:80").protocol(), want, "{port}");
        assert_eq!(found(&model), [] as [&str; 0], "{port}");
    }
}

#[test]
fn an_app_protocol_that_nobody_knows_is_found_out_and_said() {
    for word in ["gopher", "kubernetes.io/gopher", "example.com/http"] {
        let model = model(&service("prod", "s", &format!("ports: [{{name: http, appProtocol: {word}, port: 80}}]")));
        assert_eq!(model.destination(&client("dev"), "s.prod:80").protocol(), wire::Protocol::Unspecified, "{word}");
        assert_eq!(found(&model), ["unknown_app_protocol spec.ports[0].appProtocol"], "{word}");
    }
}

#[test]
fn session_affinity_lasts_as_long_as_the_service_says() {
    for (affinity, config, lasts, problems) in [
        ("ClientIP", "{clientIP: {timeoutSeconds: 60}}", Some(60_000), 0),
        ("ClientIP", "{clientIP: {}}", Some(10_800_000), 0),
        ("ClientIP", "{clientIP: {timeoutSeconds: 0}}", Some(10_800_000), 1),
        ("ClientIP", "{clientIP: {timeoutSeconds: 86401}}", Some(10_800_000), 1),
        ("None", "{clientIP: {timeoutSeconds: 60}}", None, 0),
    ] {
        let spec = format!("sessionAffinity: {affinity}, sessionAffinityConfig: {config}, ports: [{{port: 80}}]");
        let model = model(&service("prod", "s", &spec));
        let destination = model.destination(&client("dev"), "s.prod:80");
        let found = destination.backends[0].load_balancing.as_ref().map(|l| l.affinity_ms);
        assert_eq!(found, lasts, "{affinity} {config}");
        let told = vec!["out_of_range spec.sessionAffinityConfig.clientIP.timeoutSeconds"; problems];
        assert_eq!(self::found(&model), told, "{affinity} {config}");
    }
}

#[test]
fn a_pod_that_has_finished_or_is_not_ready_is_no_endpoint() {
    let text = prodsvc().replace("status: {podIP: 10.1.0.1}", "status: {podIP: 10.1.0.1, phase: Succeeded}").replace(
        "status: {podIP: 10.1.0.2}",
        "status: {podIP: 10.1.0.2, conditions: [{type: Ready, status: 'False'}]}",
    );
    assert!(model(&text).endpoints("prodsvc.prod:80").unwrap().endpoints.is_empty());
    let published =
        text.replace("selector: {app: prodsvc}", "publishNotReadyAddresses: true, selector: {app: prodsvc}");
    assert_eq!(model(&published).endpoints("prodsvc.prod:80").unwrap().endpoints.len(), 1);
}

#[test]
fn prefetch_names_what_the_namespace_offers_and_routes() {
    let model = model(&format!(
        "{}{}{}",
        prodsvc(),
        service("dev", "own", "ports: [{port: 90}]"),
        custom("VirtualService", "dev", "v", SPLIT)
    ));
    assert_eq!(model.prefetch(&client("dev")), ["10.96.0.10:80", "own.dev.svc.cluster.local:90"]);
    assert!(model.prefetch(&client("elsewhere")).is_empty());
}

#[test]
fn every_pod_is_known_with_its_account() {
    let bare = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: bare, namespace: dev}\nspec: {containers: []}\n";
    let model = model(&format!("{}{bare}", prodsvc()));
    let info = |account: &str, meshed| PodInfo { account: account.into(), meshed, uid: String::new(), finished: false };
    assert_eq!(model.pod("prod", "stable"), Some(info("stable-sa", true)));
    assert_eq!(model.pod("dev", "bare"), Some(info("default", false)));
    assert_eq!(model.pod("dev", "nobody"), None);
}

#[test]
fn an_endpoint_of_a_pod_that_is_gone_is_nobody_rather_than_somebody_without_an_identity() {
    let ready = |conditions: &str| {
        let slice = format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: s, namespace: prod, labels: \
             {{kubernetes.io/service-name: web}}}}\naddressType: IPv4\nports: [{{name: http, port: 80}}]\nendpoints:\n- \
             {{addresses: [10.1.0.1], conditions: {{{conditions}}}, targetRef: {{kind: Pod, name: web-0}}}}\n"
        );
        let web = service("prod", "web", "selector: {app: web}, ports: [{name: http, port: 80}]");
        let identities = |pod: &str| -> Vec<String> {
            let model = model(&[&web, &slice, pod].concat());
            let found = model.endpoints("web.prod:80").unwrap().endpoints;
            found.into_iter().map(|e| e.identity).collect()
        };
        let there = identities(&pod("prod", "web-0", "10.1.0.1", "app: web"));
        (there, identities(""), identities(&pod("prod", "web-0", "10.1.0.2", "app: web")))
    };
    let its = vec!["spiffe://cluster.local/ns/prod/sa/web-0-sa".to_owned()];
    for conditions in ["ready: true", "ready: false, serving: true, terminating: true"] {
        assert_eq!(ready(conditions), (its.clone(), Vec::new(), Vec::new()), "{conditions}");
    }
}
