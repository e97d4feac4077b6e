//! Filters, timeouts and retries.

use super::*;
use causeway_mesh::wire::string_match::Kind;

fn rule(text: &str) -> (wire::Route, Vec<String>) {
    let model = http(text);
    let destination = seen_from(&model, "dev", "shop.prod:80");
    // Whatever a route says, a proxy takes it.
    let body = Some(wire::resource::Body::Destination(destination.clone()));
    let resource =
        wire::Resource { name: "destination/shop.prod:80".into(), version: 1, body, ..wire::Resource::default() };
    causeway_mesh::config::decode(&resource).unwrap();
    (destination.routes[0].clone(), found(&model))
}

#[test]
fn a_redirect_answers_by_itself() {
    let (route, wrong) = rule(
        "\n- filters: [{type: RequestRedirect, requestRedirect: {scheme: https, hostname: Example.org, statusCode: 307, path: {type: ReplacePrefixMatch, replacePrefixMatch: new}}}]",
    );
    assert_eq!(wrong, [] as [&str; 0]);
    let Some(wire::route::Action::Redirect(redirect)) = &route.action else { panic!("{route:?}") };
    assert_eq!((redirect.status, redirect.scheme.as_str(), redirect.host.as_str()), (307, "https", "example.org"));
    assert_eq!(redirect.port, Some(wire::redirect::Port::OfScheme(true)));
    assert_eq!(redirect.path.as_ref().unwrap().kind, Some(wire::path_change::Kind::Prefix("/new".into())));
}

#[test]
fn headers_rewrite_mirror_timeouts_and_retries_become_the_route() {
    let (route, wrong) = rule(
        "
- matches: [{path: {value: /old}}]
  filters:
  - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-A, value: '1'}], add: [{name: b, value: '2'}], remove: [c]}}
  - {type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: d, value: '3'}]}}
  - {type: URLRewrite, urlRewrite: {hostname: in.example.com, path: {type: ReplacePrefixMatch, replacePrefixMatch: ''}}}
  - {type: RequestMirror, requestMirror: {backendRef: {name: canary, port: 80}, fraction: {numerator: 1, denominator: 3}}}
  - {type: RequestMirror, requestMirror: {backendRef: {name: shop, port: 8080}, percent: 0}}
  timeouts: {request: 10s, backendRequest: 2s}
  retry: {codes: [500, 503], attempts: 3, backoff: 100ms}
  backendRefs: [{name: shop, port: 80, weight: 9}, {name: canary, port: 80, weight: 1}]",
    );
    assert_eq!(wrong, [] as [&str; 0]);
    let (request, response) = (route.request_headers.as_ref().unwrap(), route.response_headers.as_ref().unwrap());
    assert_eq!((request.set[0].name.as_str(), request.add[0].value.as_str()), ("x-a", "2"));
    assert_eq!((request.remove.as_slice(), response.add[0].name.as_str()), (&["c".to_owned()][..], "d"));
    let rewrite = route.rewrite.as_ref().unwrap();
    assert_eq!(rewrite.authority, "in.example.com");
    assert_eq!(rewrite.path.as_ref().unwrap().kind, Some(wire::path_change::Kind::Prefix(String::new())));
    assert_eq!(
        route.mirrors.iter().map(|m| (m.backend.as_str(), m.share_ppm)).collect::<Vec<_>>(),
        [("canary.prod:80", 333_333)]
    );
    let retry = route.retry.as_ref().unwrap();
    assert_eq!((route.timeout_ms, retry.try_timeout_ms, retry.attempts), (10_000, 2_000, 3));
    assert_eq!((retry.statuses.as_slice(), retry.backoff_min_ms, retry.backoff_ms), (&[500, 503][..], 100, 200));
    assert_eq!(shares(split_of(&route)), [("shop.prod:80", 9, 9), ("canary.prod:80", 1, 1)]);
}

#[test]
fn origins_are_compared_as_browsers_write_them() {
    let (route, wrong) = rule(
        "\n- filters: [{type: CORS, cors: {allowOrigins: ['https://a.com:443', 'http://*.b.com:81', 'https://*'], allowMethods: [GET], allowCredentials: true}}]\n  backendRefs: [{name: shop, port: 80}]",
    );
    assert_eq!(wrong, [] as [&str; 0]);
    let cors = route.cors.as_ref().unwrap();
    let origins: Vec<Kind> = cors.origins.iter().map(|o| o.kind.clone().unwrap()).collect();
    let regex = |text: &str| Kind::Regex(text.into());
    let want = [Kind::Exact("https://a.com".into()), regex("http://[^/]+[.]b[.]com:81"), regex("https://[^/]+")];
    assert_eq!((origins.as_slice(), cors.max_age_s, cors.credentials), (&want[..], Some(5), true));
}

#[test]
fn what_cannot_be_done_is_named_by_its_path_and_answered_with_an_error() {
    let shop = "backendRefs: [{name: shop, port: 80}]";
    let filter = |filter: &str| format!("\n- filters: [{filter}]\n  {shop}");
    let cases = [
        (
            filter("{type: ExtensionRef, extensionRef: {group: x, kind: Y, name: z}}"),
            "not_implemented",
            "filters[0].extensionRef",
        ),
        (filter("{type: ExternalAuth, externalAuth: {protocol: HTTP}}"), "not_implemented", "filters[0].externalAuth"),
        (filter("{type: Compress}"), "unknown_value", "filters[0].type"),
        (filter("{type: URLRewrite}"), "missing_field", "filters[0].urlRewrite"),
        (filter("{type: RequestRedirect, requestRedirect: {}}"), "incompatible_filters", "backendRefs"),
        (
            filter("{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: Connection, value: x}]}}"),
            "unsupported_header",
            "filters[0].requestHeaderModifier.set[0]",
        ),
        (
            filter("{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: a, value: x}], remove: [A]}}"),
            "invalid_header",
            "filters[0].responseHeaderModifier.remove[0]",
        ),
        (
            filter("{type: URLRewrite, urlRewrite: {hostname: 'a b'}}"),
            "invalid_authority",
            "filters[0].urlRewrite.hostname",
        ),
        (
            filter("{type: CORS, cors: {allowOrigins: ['ftp://a']}}"),
            "invalid_origin",
            "filters[0].cors.allowOrigins[0]",
        ),
        (filter("{type: CORS, cors: {}}, {type: CORS, cors: {}}"), "incompatible_filters", "filters[1]"),
        (
            format!(
                "\n- matches: [{{path: {{type: Exact, value: /a}}}}]\n  filters: [{{type: URLRewrite, urlRewrite: {{path: {{type: ReplacePrefixMatch, replacePrefixMatch: /b}}}}}}]\n  {shop}"
            ),
            "incompatible_filters",
            "filters[0].urlRewrite.path.replacePrefixMatch",
        ),
        (format!("\n- timeouts: {{request: soon}}\n  {shop}"), "invalid_duration", "timeouts.request"),
        (
            format!("\n- timeouts: {{request: 1s, backendRequest: 2s}}\n  {shop}"),
            "invalid_duration",
            "timeouts.backendRequest",
        ),
        (format!("\n- sessionPersistence: {{sessionName: s}}\n  {shop}"), "not_implemented", "sessionPersistence"),
        (format!("\n- priority: 7\n  {shop}"), "unknown_field", "priority"),
        (
            "\n- backendRefs: [{name: shop, port: 80, filters: [{type: CORS, cors: {}}]}]".to_owned(),
            "not_implemented",
            "backendRefs[0].filters[0].cors",
        ),
    ];
    for (text, code, field) in cases {
        let model = http(&text);
        assert_eq!(found(&model), [format!("{code} spec.rules[0].{field}")], "{text}");
        let destination = seen_from(&model, "dev", "shop.prod:80");
        let told = broken(&destination);
        assert_eq!(told, ["HTTPRoute prod/r spec.rules[0] is not valid, see its status"], "{text}");
    }
}
