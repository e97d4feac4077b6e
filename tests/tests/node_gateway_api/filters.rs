//! Filters, timeouts, retries and matches that the conformance suite has no test of for a mesh.

use std::time::{Duration, Instant};

use causeway_tests::kube::Inside;
use causeway_tests::until;

use crate::{TOWN_NAME, Town, add, parent, server, service};

const MATCHES: &str = "  rules:
  - matches:
    - {method: POST}
    backendRefs: [{name: v2, port: 80}]
  - matches:
    - {path: {type: Exact, value: /exact}}
    - {path: {type: PathPrefix, value: /whole}}
    - {path: {type: RegularExpression, value: \"/item/[0-9]+\"}}
    - headers: [{type: RegularExpression, name: x-user, value: \"a(b|c)+\"}]
    - queryParams: [{type: RegularExpression, name: q, value: \"x.*\"}]
    backendRefs: [{name: v2, port: 80}]
  - backendRefs: [{name: v1, port: 80}]
";

const HEADERS: &str = "  rules:
  - filters:
    - type: ResponseHeaderModifier
      responseHeaderModifier: {set: [{name: x-app, value: set}], add: [{name: x-more, value: rule}], remove: [x-target]}
    backendRefs:
    - name: v1
      port: 80
      filters:
      - type: ResponseHeaderModifier
        responseHeaderModifier: {add: [{name: x-more, value: first}]}
      - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-side, value: first}]}}
    - name: v1
      port: 80
      filters:
      - type: ResponseHeaderModifier
        responseHeaderModifier: {add: [{name: x-more, value: second}]}
      - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-side, value: second}]}}
";

const MIRRORS: &str = "  rules:
  - filters:
    - {type: RequestMirror, requestMirror: {backendRef: {name: mirror, port: 80}}}
    - {type: RequestMirror, requestMirror: {backendRef: {name: half, port: 80}, percent: 50}}
    - {type: RequestMirror, requestMirror: {backendRef: {name: third, port: 80}, fraction: {numerator: 1, denominator: 3}}}
    backendRefs: [{name: v1, port: 80}]
";

const TIMEOUTS: &str = "  rules:
  - matches: [{path: {value: /slow/700}}]
    timeouts: {request: 200ms}
    backendRefs: [{name: v1, port: 80}]
  - matches: [{path: {value: /slow/701}}]
    timeouts: {request: 2s, backendRequest: 200ms}
    backendRefs: [{name: v1, port: 80}]
  - matches: [{path: {value: /slow/702}}]
    timeouts: {request: 0s}
    backendRefs: [{name: v1, port: 80}]
";

const RETRY: &str = "  rules:
  - retry: {codes: [500], attempts: 5, backoff: 5ms}
    backendRefs: [{name: flaky, port: 80}]
";

const CORS: &str = "  rules:
  - filters:
    - type: CORS
      cors:
        allowOrigins: [\"https://shop.example.org\", \"https://*.wild.example.org\"]
        allowMethods: [GET, PUT]
        allowHeaders: [x-token]
        exposeHeaders: [x-app]
        allowCredentials: true
        maxAge: 600
    backendRefs: [{name: v1, port: 80}]
";

#[test]
fn requests_are_matched_by_method_path_and_regular_expressions() {
    let Some(town) = Town::shared() else { return };
    let _told = town.node.told(&[TOWN_NAME]);
    town.route("HTTPRoute", "matches", &parent("matches", MATCHES));
    let cases: [(&[&str], &str); 12] = [
        (&["http://matches/"], "v1"),
        (&["-X", "POST", "http://matches/"], "v2"),
        (&["http://matches/exact"], "v2"),
        (&["http://matches/exact/not"], "v1"),
        (&["http://matches/whole"], "v2"),
        (&["http://matches/whole/segments"], "v2"),
        (&["http://matches/wholesome"], "v1"),
        (&["http://matches/item/12"], "v2"),
        (&["http://matches/item/12a"], "v1"),
        (&["-H", "x-user: abcb", "http://matches/"], "v2"),
        (&["-H", "x-user: abd", "http://matches/"], "v1"),
        (&["http://matches/?q=xy"], "v2"),
    ];
    for (arguments, app) in cases {
        let reply = town.client.curl(arguments);
        assert_eq!((reply.status, reply.header("x-app")), (200, app), "{arguments:?}: {reply:?}");
    }
}

#[test]
fn headers_of_answers_and_of_each_backend_are_changed() {
    let Some(town) = Town::shared() else { return };
    let _told = town.node.told(&[TOWN_NAME]);
    town.route("HTTPRoute", "headers", &parent("headers", HEADERS));
    let mut sides = [0, 0];
    for _ in 0..40 {
        let reply = town.client.curl(&["http://headers/headers"]);
        assert_eq!((reply.status, reply.header("x-app"), reply.header("x-target")), (200, "set", ""), "{reply:?}");
        let is_second = reply.body.contains("[\"x-side\",\"second\"]");
        assert!(is_second || reply.body.contains("[\"x-side\",\"first\"]"), "{reply:?}");
        let mut more: Vec<&str> = reply.header("x-more").split(", ").collect();
        more.sort_unstable();
        assert_eq!(more, if is_second { ["rule", "second"] } else { ["first", "rule"] }, "{reply:?}");
        sides[usize::from(is_second)] += 1;
    }
    assert!(sides.iter().all(|count| *count > 5), "the same Service twice, with an even share each: {sides:?}");
}

/// Requests that the proxy of an application's pod has taken, by its metrics.
fn taken(app: &Inside) -> f64 {
    let text = app.curl(&["http://127.0.0.1:15020/metrics"]).body;
    let is_count = |line: &&str| line.starts_with("istio_requests_total{") && line.contains("reporter=\"destination\"");
    text.lines().filter(is_count).filter_map(|l| l.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

#[test]
fn mirrors_get_their_share_and_the_answer_is_the_backends() {
    let Some(town) = Town::shared() else { return };
    let _told = town.node.told(&[TOWN_NAME]);
    let names = ["mirror", "half", "third"];
    let mirror = |name| server(TOWN_NAME, name, &[]) + &service(TOWN_NAME, name, &format!("version: {name}"));
    // Of no other Service of the town.
    add(town.node, &names.map(mirror).concat().replace("app: web", "app: mirror"), &names);
    town.route("HTTPRoute", "mirrors", &parent("mirrors", MIRRORS));
    let apps = names.map(|name| town.node.app(TOWN_NAME, &format!("version={name}")));
    let report = town.client.load(&["--url", "http://mirrors/", "--requests", "600", "--concurrency", "4"]);
    assert_eq!((&report["failed"], &report["apps"]["v1"]), (&0.into(), &600.into()), "{report}");
    until("every mirror has its share", Duration::from_secs(10), || {
        let seen = apps.map(|app| taken(&app));
        // Four standard deviations.
        let fits = |seen: f64, share: f64| (seen - 600.0 * share).abs() <= 4.0 * (600.0 * share * (1.0 - share)).sqrt();
        let all = fits(seen[0], 1.0) && fits(seen[1], 0.5) && fits(seen[2], 1.0 / 3.0);
        if all { Ok(()) } else { Err(format!("{seen:?} of 600")) }
    });
}

#[test]
fn a_timeout_of_the_request_and_of_each_try_ends_in_504() {
    let Some(town) = Town::shared() else { return };
    let _told = town.node.told(&[TOWN_NAME]);
    town.route("HTTPRoute", "timeouts", &parent("timeouts", TIMEOUTS));
    for path in ["/slow/700", "/slow/701"] {
        let begun = Instant::now();
        let reply = town.client.curl(&[&format!("http://timeouts{path}")]);
        assert_eq!((reply.status, reply.code()), (504, "upstream_timeout"), "{path}: {reply:?}");
        assert!(begun.elapsed() < Duration::from_millis(700), "{path}: after {:?}", begun.elapsed());
    }
    let reply = town.client.curl(&["http://timeouts/slow/702"]);
    assert_eq!(reply.status, 200, "0s is no timeout: {reply:?}");
}

#[test]
fn answers_with_a_code_that_is_retried_do_not_reach_the_client() {
    let Some(town) = Town::shared() else { return };
    let _told = town.node.told(&[TOWN_NAME]);
    let yaml = server(TOWN_NAME, "good", &[]) + &server(TOWN_NAME, "bad", &["--broken", "/"]);
    let yaml = yaml.replace("app: web", "app: flaky").replace("path: /}", "path: /ready}");
    add(town.node, &(yaml + &service(TOWN_NAME, "flaky", "app: flaky")), &["good", "bad"]);
    let statuses = |url: &str| {
        let report = town.client.load(&["--url", url, "--requests", "60", "--pause-ms", "20"]);
        report["statuses"].clone()
    };
    let without = statuses("http://flaky/");
    assert!(without["500"].as_u64() > Some(0), "without a route the faulty pod is seen: {without}");
    town.route("HTTPRoute", "retries", &parent("retries", RETRY));
    assert_eq!(statuses("http://retries/"), serde_json::json!({"200": 60}));
}

#[test]
fn browsers_of_allowed_origins_are_told_so() {
    let Some(town) = Town::shared() else { return };
    let _told = town.node.told(&[TOWN_NAME]);
    town.route("HTTPRoute", "cors", &parent("cors", CORS));
    let preflight = |origin: &str| {
        let method = "Access-Control-Request-Method: PUT";
        let origin = format!("Origin: {origin}");
        town.client.curl(&["-X", "OPTIONS", "-H", &origin, "-H", method, "http://cors/"])
    };
    for origin in ["https://shop.example.org", "https://a.b.wild.example.org"] {
        let reply = preflight(origin);
        assert!([200, 204].contains(&reply.status), "{reply:?}");
        assert_eq!(reply.header("access-control-allow-origin"), origin, "{reply:?}");
        assert_eq!(reply.header("access-control-allow-credentials"), "true", "{reply:?}");
        assert_eq!(reply.header("access-control-max-age"), "600", "{reply:?}");
        let methods = reply.header("access-control-allow-methods");
        assert!(methods.contains("GET") && methods.contains("PUT"), "{reply:?}");
        assert_eq!(reply.header("access-control-allow-headers"), "x-token", "{reply:?}");
        assert_eq!(reply.header("x-app"), "", "the application is not asked: {reply:?}");
    }
    let reply = preflight("https://elsewhere.example.org");
    assert_eq!(reply.header("access-control-allow-origin"), "", "{reply:?}");
    let reply = town.client.curl(&["-H", "Origin: https://shop.example.org", "http://cors/"]);
    assert_eq!((reply.status, reply.header("x-app")), (200, "v1"), "{reply:?}");
    assert_eq!(reply.header("access-control-allow-origin"), "https://shop.example.org", "{reply:?}");
    assert_eq!(reply.header("access-control-expose-headers"), "x-app", "{reply:?}");
}
