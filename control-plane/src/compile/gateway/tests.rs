#![allow(clippy::unwrap_used)]
//! Routes of the Gateway API, judged by what a client is given.

mod conditions;
mod filters;
mod precedence;
mod references;

use crate::compile::tests::{client, found, model, pod, service, shares, split_of};
use crate::compile::{Model, Subject};
use causeway_mesh::wire;

/// `shop` in prod on two ports, `canary` in prod, `other` in dev.
pub(super) fn world() -> String {
    [
        service(
            "prod",
            "shop",
            "clusterIP: 10.96.0.1, selector: {app: shop}, ports: [{name: http, port: 80}, {name: http-alt, port: 8080}]",
        ),
        service("prod", "canary", "clusterIP: 10.96.0.2, selector: {app: shop}, ports: [{name: http, port: 80}]"),
        service("dev", "other", "clusterIP: 10.96.0.3, selector: {app: web}, ports: [{name: http, port: 80}]"),
        pod("prod", "shop", "10.1.0.1", "app: shop"),
        pod("dev", "web", "10.1.0.9", "app: web"),
    ]
    .concat()
}

pub(in crate::compile) fn route(kind: &str, namespace: &str, name: &str, spec: &str) -> String {
    let spec: String = spec.trim_matches('\n').lines().map(|l| format!("  {l}\n")).collect();
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n{spec}"
    )
}

/// Routes that contradict and miss each other in many ways, on the Services `a` and `b` of prod.
pub(in crate::compile) fn pieces() -> Vec<String> {
    let rules = [
        "- matches: [{path: {value: /x}}, {path: {type: Exact, value: /}, headers: [{name: Host, value: a}]}]\n  backendRefs: [{name: a, namespace: prod, port: 80, weight: 3}, {name: b, namespace: prod, port: 80}]",
        "- filters: [{type: RequestRedirect, requestRedirect: {port: 8443}}]\n- matches: [{path: {type: RegularExpression, value: '('}}]",
        "- filters: [{type: CORS, cors: {allowOrigins: ['*']}}, {type: RequestMirror, requestMirror: {backendRef: {name: b, namespace: prod, port: 81}, percent: 5}}]\n  timeouts: {backendRequest: 1s}\n  retry: {codes: [500]}\n  backendRefs: [{name: gone, port: 80}]",
        "- backendRefs: [{name: a, namespace: prod, port: 80, weight: 0}, {name: out, namespace: dev, port: 443}]",
    ];
    let mut all = vec![
        route(
            "ReferenceGrant",
            "prod",
            "g",
            "from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: dev}]\nto: [{group: '', kind: Service, name: b}]",
        ),
        route(
            "GRPCRoute",
            "prod",
            "grpc",
            "parentRefs: [{group: '', kind: Service, name: a}]\nrules: [{matches: [{method: {service: s}}], backendRefs: [{name: a, port: 80}]}]",
        ),
        route(
            "TCPRoute",
            "dev",
            "tcp",
            "parentRefs: [{group: '', kind: Service, name: b, namespace: prod}]\nrules: [{backendRefs: [{name: b, namespace: prod, port: 80}, {name: a, namespace: prod, port: 80}]}]",
        ),
        route(
            "TLSRoute",
            "prod",
            "tls",
            "parentRefs: [{group: '', kind: Service, name: b}]\nhostnames: [a.b, '*.b']\nrules: [{backendRefs: [{name: b, port: 80}]}]",
        ),
    ];
    for (index, rules) in rules.iter().enumerate() {
        for namespace in ["dev", "prod"] {
            let parents = "parentRefs: [{group: '', kind: Service, name: a, namespace: prod}, {group: '', kind: Service, name: b, namespace: prod, port: 81}]";
            all.push(route("HTTPRoute", namespace, &format!("h{index}"), &format!("{parents}\nrules:\n{rules}")));
        }
    }
    all
}

/// An HTTPRoute in prod on all ports of `shop` with these rules.
pub(super) fn http(rules: &str) -> Model {
    let rules: String = rules.trim_matches('\n').lines().map(|l| format!("\n{l}")).collect();
    let spec = format!("parentRefs: [{{group: '', kind: Service, name: shop}}]\nrules:{rules}");
    model(&format!("{}{}", world(), route("HTTPRoute", "prod", "r", &spec)))
}

pub(super) fn seen_from(model: &Model, namespace: &str, text: &str) -> wire::Destination {
    model.destination(&client(namespace), text)
}

/// The one resource of this name.
pub(super) fn subject<'a>(model: &'a Model, name: &str) -> &'a Subject {
    model.subjects().iter().find(|(key, _)| key.name == name).map(|(_, subject)| subject).unwrap()
}

/// Texts of the backends that are broken.
pub(super) fn broken(destination: &wire::Destination) -> Vec<&str> {
    destination.backends.iter().map(|b| b.broken.as_str()).filter(|b| !b.is_empty()).collect()
}

#[test]
fn a_route_in_the_services_namespace_is_everybodys_and_one_elsewhere_that_namespaces() {
    let mine = "parentRefs: [{group: '', kind: Service, name: shop, namespace: prod}]\nrules: [{backendRefs: [{name: shop, namespace: prod, port: 80}]}]";
    let theirs =
        "parentRefs: [{group: '', kind: Service, name: shop}]\nrules: [{backendRefs: [{name: canary, port: 80}]}]";
    let text = format!(
        "{}{}{}",
        world(),
        route("HTTPRoute", "dev", "mine", mine),
        route("HTTPRoute", "prod", "theirs", theirs)
    );
    let model = model(&text);
    assert_eq!(found(&model), [] as [&str; 0]);
    let names = |namespace| -> Vec<String> {
        seen_from(&model, namespace, "shop.prod:80").routes.into_iter().map(|r| r.name).collect()
    };
    assert_eq!(names("dev"), ["dev/mine#0", "prod/theirs#0"]);
    assert_eq!(names("prod"), ["prod/theirs#0"]);
}

#[test]
fn a_parent_may_be_one_port_by_number_and_name() {
    let of = |parent: &str| {
        let spec = format!("parentRefs: [{{group: '', kind: Service, name: shop, {parent}}}]\nrules: [{{}}]");
        let model = model(&format!("{}{}", world(), route("HTTPRoute", "prod", "r", &spec)));
        let routes = |port: u16| seen_from(&model, "dev", &format!("shop.prod:{port}")).routes.len();
        let wrong: Vec<String> = found(&model).into_iter().filter(|f| f.starts_with("unknown_parent")).collect();
        (routes(80), routes(8080), wrong)
    };
    assert_eq!(of("port: 80"), (1, 0, vec![]));
    assert_eq!(of("sectionName: http-alt"), (0, 1, vec![]));
    assert_eq!(of("sectionName: http, port: 80"), (1, 0, vec![]));
    assert_eq!(
        of("sectionName: http, port: 8080"),
        (0, 0, vec!["unknown_parent spec.parentRefs[0].sectionName".into()])
    );
    assert_eq!(of("port: 81"), (0, 0, vec!["unknown_parent spec.parentRefs[0].port".into()]));
}

#[test]
fn a_route_that_attaches_to_gateways_alone_is_not_ours() {
    let spec = "parentRefs: [{name: edge}]\nhostnames: [shop.example.com]\nrules: [{filters: [{type: ExtensionRef, extensionRef: {group: x, kind: Y, name: z}}], backendRefs: [{name: nobody, port: 1}]}]";
    let model = model(&format!("{}{}", world(), route("HTTPRoute", "prod", "edge", spec)));
    assert_eq!(found(&model), [] as [&str; 0]);
    assert!(subject(&model, "edge").parents.as_ref().unwrap().services.is_empty());
    assert!(seen_from(&model, "dev", "shop.prod:80").routes.is_empty());
}

#[test]
fn each_match_has_its_own_precedence_and_the_older_route_wins_ties() {
    let model = http(
        "
- matches: [{path: {value: /}}, {path: {value: /a/b}, method: GET}]
  backendRefs: [{name: shop, port: 80}]
- matches: [{path: {value: /a/b}}, {path: {type: Exact, value: /x}}]
  backendRefs: [{name: canary, port: 80}]",
    );
    assert_eq!(found(&model), [] as [&str; 0]);
    let destination = seen_from(&model, "dev", "shop.prod:80");
    let order: Vec<(&str, usize)> = destination.routes.iter().map(|r| (r.name.as_str(), r.matches.len())).collect();
    assert_eq!(order, [("prod/r#1", 1), ("prod/r#0", 1), ("prod/r#1", 1), ("prod/r#0", 0)]);
    assert!(destination.http_only);
}

#[test]
fn tcp_and_tls_routes_split_connections() {
    let tcp = "parentRefs: [{group: '', kind: Service, name: db, port: 5432}]\nrules: [{backendRefs: [{name: db, port: 5432, weight: 3}, {name: gone, port: 1}]}]";
    let tls = "parentRefs: [{group: '', kind: Service, name: db, port: 443}]\nhostnames: ['*.Example.com', 10.0.0.1]\nrules: [{backendRefs: [{name: db, port: 443}]}]";
    let db = service(
        "prod",
        "db",
        "clusterIP: 10.96.0.7, selector: {app: shop}, ports: [{name: tcp, port: 5432}, {name: tls, port: 443}]",
    );
    let text = [world(), db, route("TCPRoute", "prod", "t", tcp), route("TLSRoute", "prod", "s", tls)].concat();
    let model = model(&text);
    assert_eq!(found(&model), ["unknown_service spec.rules[0].backendRefs[1].name", "invalid_host spec.hostnames[1]"]);
    let destination = seen_from(&model, "dev", "db.prod:5432");
    let weights: Vec<(u32, u32)> =
        shares(destination.split.as_ref().unwrap()).into_iter().map(|(_, w, e)| (w, e)).collect();
    assert_eq!((weights, broken(&destination).len()), (vec![(3, 3), (1, 1)], 1));
    let destination = seen_from(&model, "dev", "db.prod:443");
    assert_eq!(destination.tls_routes[0].sni_hosts, ["*.example.com"]);
}

#[test]
fn a_grpc_call_is_matched_by_service_and_method() {
    let spec = "
parentRefs: [{group: '', kind: Service, name: shop}]
rules:
- matches: [{method: {service: a.B, method: C}}]
  backendRefs: [{name: canary, port: 80}]
- matches: [{method: {service: a.B}}, {method: {method: D.e}}, {method: {type: RegularExpression, service: 'x.*'}}]
  backendRefs: [{name: shop, port: 80}]
- backendRefs: [{name: shop, port: 80, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-A, value: b}]}}]}]";
    let model = model(&format!("{}{}", world(), route("GRPCRoute", "prod", "g", spec)));
    assert_eq!(found(&model), [] as [&str; 0]);
    let destination = seen_from(&model, "dev", "shop.prod:80");
    let mut paths = Vec::new();
    for found in destination.routes.iter().flat_map(|r| &r.matches) {
        paths.push(format!("{:?}", found.path.as_ref().unwrap().kind.as_ref().unwrap()));
    }
    assert_eq!(
        paths,
        [r#"Exact("/a.B/C")"#, r#"Prefix("/a.B/")"#, r#"Regex("/[^/]+/D\\x2ee")"#, r#"Regex("/(?:x.*)/[^/]+")"#]
    );
    let last = destination.routes.last().unwrap();
    assert_eq!(split_of(last).backends[0].request_headers.as_ref().unwrap().set[0].name, "x-a");
}
