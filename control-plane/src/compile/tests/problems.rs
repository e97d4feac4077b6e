//! What is said of what is wrong.

use super::*;

fn with(spec: &str) -> Vec<String> {
    found(&model(&format!("{}{}", prodsvc(), custom("VirtualService", "dev", "v", spec))))
}

#[test]
fn each_dangling_reference_gives_exactly_one_problem() {
    let at = "spec.http[0].route[0].destination";
    let cases = [
        (SPLIT.replace("subset: v1-canary", "subset: v2"), format!("unknown_subset {at}.subset")),
        (
            SPLIT.replacen("{host: prodsvc.prod.svc.cluster.local", "{host: nosuch.prod", 1),
            format!("unknown_service {at}.host"),
        ),
        (SPLIT.replacen("subset: v1-canary", "port: {number: 81}", 1), format!("unknown_port {at}.port.number")),
        (SPLIT.replace("hosts: [prodsvc.prod.svc", "hosts: [prodsvk.prod.svc"), "unknown_host spec.hosts[0]".into()),
    ];
    for (spec, want) in cases {
        assert_eq!(with(&spec), [want]);
    }
}

#[test]
fn a_missing_subset_takes_no_share_and_is_named() {
    let model =
        model(&format!("{}{}", prodsvc(), custom("VirtualService", "dev", "v", &SPLIT.replace("v1-canary", "v2"))));
    let destination = model.destination(&client("dev"), "prodsvc.prod:80");
    let want = [("prodsvc.prod:80/v2", 10, 0), ("prodsvc.prod:80/v1-stable", 90, 90)];
    assert_eq!(shares(split_of(&destination.routes[0])), want);
    assert_eq!(model.endpoints("prodsvc.prod:80/v2"), Some(wire::Endpoints::default()));
}

#[test]
fn a_problem_names_file_line_and_field() {
    let text = format!("{}{}", prodsvc(), custom("VirtualService", "dev", "v", &SPLIT.replace("v1-canary", "v2")));
    let model = model(&text);
    let [problem] = model.problems() else { panic!("{:?}", model.problems()) };
    let line = text.lines().position(|l| l.contains("subset: v2")).unwrap() + 1;
    assert_eq!((problem.file.as_str(), problem.line as usize), ("f.yaml", line));
    assert_eq!(problem.resource, "VirtualService dev/v");
    assert!(
        problem
            .to_string()
            .starts_with(&format!("f.yaml:{line}: error[unknown_subset] VirtualService dev/v spec.http[0]"))
    );
}

#[test]
fn a_host_of_a_gateway_beside_a_known_one_is_a_warning() {
    let text = format!(
        "{}{}",
        prodsvc(),
        custom("VirtualService", "dev", "v", &SPLIT.replace("hosts: [", "hosts: [shop.example.com, "))
    );
    let model = model(&text);
    let [problem] = model.problems() else { panic!("{:?}", model.problems()) };
    assert_eq!((problem.code, problem.severity), ("unknown_host", crate::problem::Severity::Warning));
}

#[test]
fn a_target_port_that_no_pod_has_is_reported() {
    let model = model(&prodsvc().replace("targetPort: 8080", "targetPort: wbe"));
    assert_eq!(found(&model), ["unknown_target_port spec.ports[0].targetPort"]);
}

#[test]
fn a_kind_that_asks_a_mesh_for_something_is_no_mere_note() {
    let text =
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: a, namespace: \"b\\e[31m\"}\n";
    let model = model(text);
    assert_eq!(found(&model), ["unsupported_kind "]);
    assert_eq!(model.problems()[0].resource, "RequestAuthentication b\\u{1b}[31m/a");
}

#[test]
fn too_many_routes_are_reported_and_cut() {
    let http = "- match: [{uri: {exact: /x}}]\n  route: [{destination: {host: prodsvc.prod}}]\n".repeat(120);
    let all: String = (0..6)
        .map(|i| custom("VirtualService", "dev", &format!("v{i}"), &format!("hosts: [prodsvc.prod]\nhttp:\n{http}")))
        .collect();
    let model = model(&format!("{}{all}", prodsvc()));
    assert_eq!(found(&model), ["too_many_routes spec.http"]);
    assert_eq!(model.destination(&client("dev"), "prodsvc.prod:80").routes.len(), 500);
}

#[test]
fn zero_weights_are_a_warning_and_reach_the_proxy_as_they_are() {
    let spec = SPLIT.replace("weight: 10", "weight: 0").replace("weight: 90", "weight: 0");
    assert_eq!(with(&spec), ["no_weight spec.http[0].route"]);
    let model = model(&format!("{}{}", prodsvc(), custom("VirtualService", "dev", "v", &spec)));
    let destination = model.destination(&client("dev"), "prodsvc.prod:80");
    assert!(shares(split_of(&destination.routes[0])).iter().all(|s| s.1 == 0));
}

#[test]
fn a_negative_weight_refuses_the_resource() {
    assert_eq!(with(&SPLIT.replace("weight: 10", "weight: -10")), ["negative_weight spec.http[0].route[0].weight"]);
}

#[test]
fn a_refused_version_leaves_the_last_good_one_in_force() {
    let mut all = events(&prodsvc());
    all.extend(events(&custom("VirtualService", "dev", "v", SPLIT)));
    all.extend(events(&custom("VirtualService", "dev", "v", &SPLIT.replace("weight: 10", "weight: -10"))));
    let model = compiled(all, &Settings::default());
    assert_eq!(found(&model), ["negative_weight spec.http[0].route[0].weight"]);
    let destination = model.destination(&client("dev"), "prodsvc.prod:80");
    assert_eq!(shares(split_of(&destination.routes[0]))[0].1, 10);
}

#[test]
fn routes_that_cannot_be_used_are_named_by_their_field() {
    let cases = [
        (
            "- match: [{uri: {regex: '('}}]\n  route: [{destination: {host: prodsvc.prod}}]",
            "invalid_regex spec.http[0].match[0].uri.regex",
        ),
        (
            "- match: [{method: {exact: 'G T'}}]\n  route: [{destination: {host: prodsvc.prod}}]",
            "invalid_method spec.http[0].match[0].method.exact",
        ),
        ("- timeout: soon\n  route: [{destination: {host: prodsvc.prod}}]", "invalid_duration spec.http[0].timeout"),
        ("- name: nothing", "no_destination spec.http[0]"),
        (
            "- split: {key: {cookie: 'a=b'}}\n  route: [{destination: {host: prodsvc.prod}}]",
            "invalid_key spec.http[0].split.key",
        ),
        (
            "- route: [{destination: {host: prodsvc.prod}}]\n- route: [{destination: {host: prodsvc.prod}}]",
            "shadowed_route spec.http[1]",
        ),
    ];
    for (http, want) in cases {
        assert_eq!(with(&format!("hosts: [prodsvc.prod]\nhttp:\n{http}")), [want]);
    }
}

#[test]
fn the_loser_of_two_whole_routes_is_told() {
    let text = format!(
        "{}{}{}",
        prodsvc(),
        custom("VirtualService", "dev", "b", SPLIT),
        custom("VirtualService", "dev", "a", SPLIT)
    );
    let model = model(&text);
    let [problem] = model.problems() else { panic!("{:?}", model.problems()) };
    assert_eq!((problem.code, problem.resource.as_str()), ("shadowed_route", "VirtualService dev/b"));
    assert!(problem.message.contains("dev/a"), "{}", problem.message);
}

#[test]
fn a_route_of_a_gateway_is_passed_over_with_a_note() {
    let model = model(&format!(
        "{}{}",
        prodsvc(),
        custom("VirtualService", "dev", "v", &format!("{SPLIT}\ngateways: [public]"))
    ));
    assert_eq!(model.problems().iter().map(|p| p.code).collect::<Vec<_>>(), ["gateway_only"]);
    assert!(model.destination(&client("dev"), "prodsvc.prod:80").routes.is_empty());
}

#[test]
fn http_routes_of_a_port_of_bytes_are_reported() {
    let text = prodsvc().replace("{name: http, port: 80", "{name: tcp, port: 80");
    let model = model(&format!("{text}{}", custom("VirtualService", "dev", "v", SPLIT)));
    assert_eq!(found(&model), ["http_route_on_tcp_port spec.http"]);
    let destination = model.destination(&client("dev"), "prodsvc.prod:80");
    assert!(destination.routes.is_empty() && !destination.http_only);
}

#[test]
fn a_wildcards_route_is_shadowed_only_where_no_service_reaches_it() {
    let wide =
        "hosts: ['*.prod.svc.cluster.local']\nhttp: [{match: [{uri: {prefix: /a}}], directResponse: {status: 202}}]";
    let both =
        [prodsvc(), custom("VirtualService", "prod", "split", SPLIT), custom("VirtualService", "prod", "wide", wide)];
    let alone = model(&both.concat());
    assert_eq!(found(&alone), ["shadowed_route spec.http[0]"], "the route for the whole host takes everything");
    let other =
        service("prod", "other", "clusterIP: 10.96.0.11, selector: {app: other}, ports: [{name: http, port: 80}]");
    assert_eq!(found(&model(&[both.concat(), other].concat())), [] as [&str; 0], "it is reached for the other");
}
