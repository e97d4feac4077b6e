//! What routes of a VirtualService do besides choosing a backend, as the wire has it.

use super::*;
use causeway_mesh::config::decode;
use wire::route::Action;

/// The model of `prodsvc` with one VirtualService of prod.
fn with(http: &str) -> Model {
    let spec = format!("hosts: [prodsvc]\nhttp:\n{}", http.trim_start_matches('\n'));
    model(&format!("{}{}", prodsvc(), custom("VirtualService", "prod", "v", &spec)))
}

/// What a client of dev gets; a proxy takes it.
fn asked(model: &Model) -> wire::Destination {
    let destination = model.destination(&client("dev"), "prodsvc.prod:80");
    let body = Some(wire::resource::Body::Destination(destination.clone()));
    let resource = wire::Resource { name: "destination/x".into(), body, ..wire::Resource::default() };
    assert!(decode(&resource).is_ok(), "{:?}", decode(&resource).err());
    destination
}

/// The only route, of a spec without problems.
fn only(http: &str) -> wire::Route {
    let model = with(http);
    assert_eq!(found(&model), Vec::<String>::new());
    let mut routes = asked(&model).routes;
    assert_eq!(routes.len(), 1);
    routes.remove(0)
}

/// The problems of a spec, and how many routes are left.
fn told(http: &str) -> (Vec<String>, usize) {
    let model = with(http);
    (found(&model), asked(&model).routes.len())
}

const TO: &str = "route: [{destination: {host: prodsvc}}]";

#[test]
fn every_condition_on_a_request_reaches_the_wire() {
    let route = only(&format!(
        "- match: [{{scheme: {{exact: HTTPS}}, method: {{regex: 'GET|HEAD'}}, uri: {{prefix: /A}}, ignoreUriCase: true, withoutHeaders: {{X-Debug: {{}}}}}}]\n  {TO}"
    ));
    use wire::string_match::Kind;
    let kind = |m: &Option<wire::StringMatch>| m.clone().and_then(|m| m.kind);
    let [one] = &route.matches[..] else { panic!("{route:?}") };
    assert_eq!(kind(&one.scheme), Some(Kind::Exact("https".into())));
    assert_eq!((one.method.as_str(), kind(&one.method_match)), ("", Some(Kind::Regex("GET|HEAD".into()))));
    assert!(one.ignore_path_case && one.headers[0].invert);
    assert_eq!((one.headers[0].name.as_str(), kind(&one.headers[0].value)), ("x-debug", Some(Kind::Present(true))));
}

#[test]
fn a_route_may_be_for_one_service_account() {
    let model = with(&format!(
        "- match: [{{sourceServiceAccount: dev/web}}]\n  {TO}\n- match: [{{sourceServiceAccount: web}}]\n  name: of-prod\n  {TO}"
    ));
    let names = |client: &Client| {
        let all = model.destination(client, "prodsvc.prod:80").routes;
        all.iter().map(|r| r.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&client("dev")), ["prod/v#0"]);
    assert_eq!(names(&client("prod")), ["prod/v#1"]);
    let other = Client { account: "other".into(), ..client("dev") };
    assert!(names(&other).is_empty());
    assert_ne!(model.distinction(&client("dev")), model.distinction(&other));
}

#[test]
fn a_redirect_keeps_what_it_does_not_name() {
    let route = only("- redirect: {uri: /new?a=b, authority: 'x.example.com:81', scheme: HTTPS, redirectCode: 307}");
    let Some(Action::Redirect(redirect)) = route.action else { panic!("{route:?}") };
    assert_eq!((redirect.status, redirect.scheme.as_str(), redirect.host.as_str()), (307, "https", "x.example.com"));
    assert_eq!(redirect.port, Some(wire::redirect::Port::Number(81)));
    assert_eq!(redirect.path.and_then(|p| p.kind), Some(wire::path_change::Kind::Full("/new?a=b".into())));
    let route = only("- redirect: {derivePort: FROM_PROTOCOL_DEFAULT}");
    let Some(Action::Redirect(redirect)) = route.action else { panic!("{route:?}") };
    assert_eq!((redirect.status, redirect.port), (301, Some(wire::redirect::Port::OfScheme(true))));
}

#[test]
fn what_a_redirect_or_rewrite_cannot_be_takes_out_its_route() {
    let cases = [
        ("- redirect: {redirectCode: 304}", "unknown_value spec.http[0].redirect.redirectCode"),
        ("- redirect: {scheme: ftp}", "unknown_value spec.http[0].redirect.scheme"),
        ("- redirect: {uri: new}", "invalid_path spec.http[0].redirect.uri"),
        ("- redirect: {authority: 'a b'}", "invalid_authority spec.http[0].redirect.authority"),
        ("- redirect: {port: 80, derivePort: FROM_REQUEST_PORT}", "unknown_value spec.http[0].redirect.derivePort"),
        ("- redirect: {}\n  directResponse: {status: 200}", "ambiguous_action spec.http[0]"),
        ("- directResponse: {body: {string: x}}", "missing_field spec.http[0].directResponse.status"),
        ("- directResponse: {status: 200, body: {bytes: '*'}}", "invalid_body spec.http[0].directResponse.body.bytes"),
        ("- rewrite: {uri: '/a?b'}\n  ROUTE", "invalid_path spec.http[0].rewrite.uri"),
        ("- rewrite: {uri: /a, uriRegexRewrite: {match: a}}\n  ROUTE", "ambiguous_action spec.http[0].rewrite"),
        (
            "- rewrite: {uriRegexRewrite: {match: '(', rewrite: b}}\n  ROUTE",
            "invalid_regex spec.http[0].rewrite.uriRegexRewrite",
        ),
        (
            "- rewrite: {uriRegexRewrite: {match: 'a', rewrite: '\\1'}}\n  ROUTE",
            "invalid_regex spec.http[0].rewrite.uriRegexRewrite",
        ),
    ];
    for (http, want) in cases {
        assert_eq!(told(&http.replace("ROUTE", TO)), (vec![want.to_owned()], 0), "{http}");
    }
}

#[test]
fn a_new_prefix_has_a_prefix_to_take_the_place_of() {
    let route = only(&format!("- rewrite: {{uri: /v2}}\n  {TO}"));
    use wire::string_match::Kind;
    let path = route.matches[0].path.clone().and_then(|p| p.kind);
    assert_eq!(path, Some(Kind::Prefix("/".into())));
    let change = route.rewrite.and_then(|r| r.path).and_then(|p| p.kind);
    assert_eq!(change, Some(wire::path_change::Kind::Prefix("/v2".into())));
    let plain = only(&format!("- rewrite: {{authority: a.example.com}}\n  {TO}"));
    assert!(plain.matches.is_empty());
}

#[test]
fn headers_are_changed_on_the_route_and_on_each_destination() {
    let route = only(
        "
- headers: {request: {set: {X-A: b, Host: h.example.com}, remove: [X-B]}, response: {add: {X-C: d}}}
  route:
  - {destination: {host: prodsvc, subset: v1-stable}, weight: 1, headers: {request: {add: {X-D: e}}}}
  - {destination: {host: prodsvc, subset: v1-stable}, weight: 2}",
    );
    let header = |name: &str, value: &str| wire::Header { name: name.into(), value: value.into() };
    let request = route.request_headers.clone().unwrap();
    assert_eq!((request.set, request.remove), (vec![header("x-a", "b")], vec!["x-b".to_owned()]));
    assert_eq!(route.response_headers.clone().unwrap().add, [header("x-c", "d")]);
    assert_eq!(route.rewrite.clone().unwrap().authority, "h.example.com");
    let split = split_of(&route);
    assert_eq!(shares(split).len(), 2, "two destinations of one backend differ by their headers");
    assert_eq!(split.backends[0].request_headers.clone().unwrap().add, [header("x-d", "e")]);
    assert_eq!(split.backends[0].version, "v1-stable");
}

#[test]
fn headers_that_nobody_may_change_are_left_alone() {
    let (problems, routes) = told(&format!(
        "- headers: {{request: {{set: {{connection: close, 'a b': c}}, remove: [':path']}}, response: {{set: {{content-length: '1'}}}}}}\n  {TO}"
    ));
    let want = [
        "invalid_header spec.http[0].headers.request.set.a b",
        "unsupported_header spec.http[0].headers.request.remove[0]",
        "unsupported_header spec.http[0].headers.request.set.connection",
        "unsupported_header spec.http[0].headers.response.set.content-length",
    ];
    let mut problems = problems;
    problems.sort();
    assert_eq!((problems, routes), (want.map(str::to_owned).to_vec(), 1));
    let (problems, _) = told(&format!("- headers: {{request: {{set: {{x: '%REQ(y)%', z: 5% or 6%}}}}}}\n  {TO}"));
    assert_eq!(problems, ["literal_value spec.http[0].headers.request.set.x"]);
}

#[test]
fn retries_are_read_in_the_words_of_envoy() {
    use wire::retry::Condition;
    let retry = |text: &str| only(&format!("- retries: {{{text}}}\n  {TO}")).retry.unwrap();
    let found = retry("attempts: 3, perTryTimeout: 2s, retryOn: 'gateway-error,unavailable,418', backoff: 10ms");
    assert_eq!((found.attempts, found.try_timeout_ms, found.backoff_ms, found.backoff_max_ms), (3, 2000, 10, 100));
    assert_eq!(found.on, [i32::from(Condition::GatewayError), i32::from(Condition::TryTimeout)]);
    assert_eq!((found.grpc_codes, found.statuses), (vec![14], vec![418]));
    let default = retry("attempts: 2");
    assert_eq!(default.on, [i32::from(Condition::ConnectFailure), i32::from(Condition::RefusedStream)]);
    assert_eq!((default.grpc_codes, default.statuses), (vec![14, 1], vec![503]));
    assert_eq!(retry("attempts: 0").attempts, 0);
    let (problems, routes) = told(&format!("- retries: {{attempts: 20, retryOn: 'reset,envoy-ratelimited'}}\n  {TO}"));
    assert_eq!(routes, 1);
    assert_eq!(
        problems,
        ["unknown_condition spec.http[0].retries.retryOn", "too_many_retries spec.http[0].retries.attempts"]
    );
}

#[test]
fn faults_have_a_share_and_without_one_concern_nobody() {
    let route = only(&format!(
        "- fault: {{delay: {{fixedDelay: 2s, percent: 5}}, abort: {{grpcStatus: NOT_FOUND, percentage: {{value: 0.01}}}}}}\n  {TO}"
    ));
    let fault = route.fault.unwrap();
    assert_eq!((fault.delay_ms, fault.delay_ppm, fault.abort_ppm), (2000, 50_000, 100));
    assert_eq!(fault.abort, Some(wire::fault_injection::Abort::GrpcStatus(5)));
    let (problems, routes) = told(&format!("- fault: {{abort: {{httpStatus: 500}}}}\n  {TO}"));
    assert_eq!((problems, routes), (vec!["no_effect spec.http[0].fault.abort".to_owned()], 1));
}

#[test]
fn copies_go_to_every_mirror_that_exists() {
    let model = with(
        "
- mirror: {host: prodsvc, subset: v1-canary}
  mirrorPercentage: {value: 12.5}
  mirrors: [{destination: {host: nosuch}}, {destination: {host: prodsvc}, percentage: {value: 1}}]
  route: [{destination: {host: prodsvc, subset: v1-stable}}]",
    );
    assert_eq!(found(&model), ["unknown_service spec.http[0].mirrors[0].destination.host"]);
    let destination = asked(&model);
    let mirrors: Vec<_> = destination.routes[0].mirrors.iter().map(|m| (m.backend.as_str(), m.share_ppm)).collect();
    assert_eq!(mirrors, [("prodsvc.prod:80/v1-canary", 125_000), ("prodsvc.prod:80", 10_000)]);
    assert!(destination.backends.iter().any(|b| b.name == "prodsvc.prod:80/v1-canary"));
}

#[test]
fn cors_is_taken_with_its_older_fields() {
    let route = only(&format!(
        "- corsPolicy: {{allowOrigin: ['https://a.example'], allowOrigins: [{{exact: '*'}}], allowMethods: ['GET, PUT'], maxAge: 2m, allowCredentials: true, unmatchedPreflights: IGNORE}}\n  {TO}"
    ));
    let cors = route.cors.unwrap();
    assert_eq!(
        (cors.origins.len(), cors.methods, cors.max_age_s),
        (2, vec!["GET".to_owned(), "PUT".into()], Some(120))
    );
    assert!(cors.credentials && !cors.forward_unmatched);
    assert_eq!(cors.origins[1].kind, Some(wire::string_match::Kind::Present(true)));
}

#[test]
fn the_version_follows_a_chain_of_calls() {
    let route = only(
        "
- split: {key: {header: X-User}, propagate: {header: X-Version}}
  route:
  - {destination: {host: prodsvc, subset: v1-stable}, weight: 1}
  - {destination: {host: prodsvc, subset: v1-canary}, weight: 1}",
    );
    let split = split_of(&route);
    assert_eq!(split.version_header, "x-version");
    assert_eq!(split.backends.iter().map(|b| b.version.as_str()).collect::<Vec<_>>(), ["v1-stable", "v1-canary"]);
}

#[test]
fn tls_connections_are_routed_by_the_longest_name() {
    let text = [
        service("prod", "db", "clusterIP: 10.96.0.9, selector: {app: db}, ports: [{name: tls, port: 5432}]"),
        pod("prod", "db-0", "10.1.1.1", "app: db, v: a"),
        custom("DestinationRule", "prod", "db", "host: db\nsubsets: [{name: a, labels: {v: a}}]"),
        custom(
            "VirtualService",
            "prod",
            "db",
            "
hosts: [db]
tls:
- match: [{sniHosts: ['*.example.com', '*.a.Example.com']}, {sniHosts: [x.example.com], destinationSubnets: [10.97.0.0/16]}]
  route: [{destination: {host: db, subset: a}}]
- match: [{sniHosts: [db.a.example.com], sourceNamespace: dev}]
  route: [{destination: {host: db}}]
tcp:
- match: [{sourceSubnet: 10.9.0.0/16}]
  route: [{destination: {host: db, subset: a}}]",
        ),
    ];
    let model = model(&text.concat());
    assert_eq!(found(&model), Vec::<String>::new());
    let destination = model.destination(&client("dev"), "db.prod:5432");
    let names: Vec<_> = destination.tls_routes.iter().map(|r| (r.name.as_str(), r.sni_hosts.concat())).collect();
    let want = [
        ("prod/db#tls1", "db.a.example.com".to_owned()),
        ("prod/db#tls0", "*.a.example.com".to_owned()),
        ("prod/db#tls0", "*.example.com".to_owned()),
    ];
    assert_eq!(names, want);
    assert_eq!(shares(&destination.split.unwrap()), [("db.prod:5432", 1, 1)], "no client has such an address");
    let of_prod = model.destination(&client("prod"), "db.prod:5432");
    assert_eq!(of_prod.tls_routes.len(), 2);
}

#[test]
fn a_single_destination_gets_everything_whatever_its_weight() {
    let route = only("- route: [{destination: {host: prodsvc}, weight: 0}]");
    assert_eq!(shares(split_of(&route)), [("prodsvc.prod:80", 1, 1)]);
}
