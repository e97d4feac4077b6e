//! What routes match and what they do, as a client sees it: YAML in a directory, a control plane, proxies, curl.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs)]

use std::time::Duration;

use causeway_tests::capability::{Need, has};
use causeway_tests::pod::Reply;
use causeway_tests::until;
use serde_json::Value;

#[path = "traffic/canary.rs"]
mod canary;
#[path = "traffic/rest.rs"]
mod rest;
#[path = "traffic/stage.rs"]
mod stage;

use stage::Stage;

const TIME: Duration = Duration::from_secs(20);

fn needs() -> bool {
    has(&[Need::Namespaces, Need::Program("curl")])
}

/// The application that answered, or the code of the proxy that did.
fn by(reply: &Reply) -> String {
    let words = [reply.code(), reply.header("x-app")].into_iter().find(|w| !w.is_empty());
    words.map_or_else(|| reply.status.to_string(), str::to_owned)
}

#[test]
fn each_part_of_a_match_decides() {
    if !needs() {
        return;
    }
    let stage = Stage::start();
    stage.http(
        "  - {match: [{uri: {prefix: /case}, ignoreUriCase: true}], route: [{destination: {host: shop, subset: v2}}]}
  - {match: [{method: {regex: 'PUT|DELETE'}, uri: {prefix: /method}}], route: [{destination: {host: shop, subset: v2}}]}
  - {match: [{withoutHeaders: {x-out: {}}, uri: {prefix: /absent}}], route: [{destination: {host: shop, subset: v2}}]}
  - {match: [{headers: {x-in: {}}, uri: {prefix: /present}}], route: [{destination: {host: shop, subset: v2}}]}
  - {match: [{headers: {x-in: {regex: 'a+'}}, uri: {prefix: /regex}}], route: [{destination: {host: shop, subset: v2}}]}
  - {match: [{queryParams: {q: {prefix: ab}}, uri: {prefix: /query}}], route: [{destination: {host: shop, subset: v2}}]}
  - {match: [{authority: {prefix: 'canary.'}, uri: {prefix: /host}}], route: [{destination: {host: shop, subset: v2}}]}
  - {match: [{scheme: {exact: https}, uri: {prefix: /scheme}}], route: [{destination: {host: shop, subset: v2}}]}
  - {match: [{port: 8081, uri: {prefix: /port}}], route: [{destination: {host: shop, subset: v2, port: {number: 8081}}}]}
  - {match: [{sourceNamespace: qa, uri: {prefix: /namespace}}], route: [{destination: {host: shop, subset: v2}}]}
  - {match: [{sourceLabels: {app: client}, uri: {prefix: /labels}}], route: [{destination: {host: shop, subset: v2}}]}
  - {match: [{sourceServiceAccount: qa/other, uri: {prefix: /account}}], route: [{destination: {host: shop, subset: v2}}]}
  - {match: [{uri: {regex: '/r/[0-9]+'}}], route: [{destination: {host: shop, subset: v2}}]}
  - {match: [{uri: {exact: /in-force}}], directResponse: {status: 418}}
  - route: [{destination: {host: shop, subset: v1}}]
",
    );
    // Not by an application: without any route both versions answer.
    stage.until_by(&["http://shop.prod/in-force"], "418");
    let at = |path: &str| format!("http://shop.prod{path}");
    let with =
        |more: &[&str], path: &str| [more, &[at(path).as_str()]].concat().iter().map(|s| (*s).to_owned()).collect();
    let rows: Vec<(Vec<String>, &str)> = vec![
        (with(&[], "/CASE/x"), "v2"),
        (with(&["-X", "DELETE"], "/method"), "v2"),
        (with(&["-X", "POST"], "/method"), "v1"),
        (with(&[], "/absent"), "v2"),
        (with(&["-H", "x-out: 1"], "/absent"), "v1"),
        (with(&["-H", "x-in: anything"], "/present"), "v2"),
        (with(&[], "/present"), "v1"),
        (with(&["-H", "x-in: aaa"], "/regex"), "v2"),
        (with(&["-H", "x-in: aab"], "/regex"), "v1"),
        (with(&[], "/query?q=abc"), "v2"),
        (with(&[], "/query?q=b"), "v1"),
        (with(&["-H", "host: canary.shop"], "/host"), "v2"),
        (with(&[], "/host"), "v1"),
        (with(&[], "/scheme"), "v1"),
        (with(&[], "/port"), "v1"),
        (vec!["http://shop.prod:8081/port".to_owned()], "v2"),
        (with(&[], "/namespace"), "v1"),
        (with(&[], "/labels"), "v2"),
        (with(&[], "/account"), "v1"),
        (with(&[], "/r/42"), "v2"),
        (with(&[], "/r/42a"), "v1"),
    ];
    for (arguments, want) in rows {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let reply = stage.client.curl(&arguments);
        assert_eq!(by(&reply), want, "{arguments:?}: {reply:?}");
    }
    for (path, want) in [("/namespace", "v2"), ("/labels", "v1"), ("/account", "v2")] {
        let reply = stage.other.curl(&[&at(path)]);
        assert_eq!(by(&reply), want, "from qa {path}: {reply:?}");
    }
}

#[test]
fn redirects_rewrites_and_answers_are_as_written() {
    if !needs() {
        return;
    }
    let stage = Stage::start();
    stage.http(
        "  - {match: [{uri: {prefix: /old}}], redirect: {uri: /new, authority: other.prod, redirectCode: 308}}
  - {match: [{uri: {prefix: /secure}}], redirect: {scheme: https, redirectCode: 302}}
  - {match: [{uri: {prefix: /port}}], redirect: {port: 8443, redirectCode: 303}}
  - {match: [{uri: {prefix: /moved}}], redirect: {uri: '%PREFIX()%/there', redirectCode: 307}}
  - {match: [{uri: {prefix: /bare}}], redirect: {authority: elsewhere.org}}
  - {match: [{uri: {prefix: /tea}}], directResponse: {status: 418, body: {string: short and stout}}}
  - {match: [{uri: {prefix: /none}}], directResponse: {status: 204}}
  - {match: [{uri: {prefix: /headers/full}}], rewrite: {uri: /headers/all}, route: [{destination: {host: shop, subset: v1}}]}
  - {match: [{uri: {exact: /exact}}], rewrite: {uri: /headers/e}, route: [{destination: {host: shop, subset: v1}}]}
  - {match: [{uri: {prefix: /api/}}], rewrite: {uri: /headers/}, route: [{destination: {host: shop, subset: v1}}]}
  - {match: [{uri: {prefix: /re/}}], rewrite: {uriRegexRewrite: {match: '/re/([^/]+)/(.*)', rewrite: '/headers/\\2/\\1'}}, route: [{destination: {host: shop, subset: v1}}]}
  - {match: [{uri: {prefix: /headers/host}}], rewrite: {authority: renamed.example}, route: [{destination: {host: shop, subset: v1}}]}
  - route: [{destination: {host: shop, subset: v1}}]
",
    );
    stage.until_by(&["http://shop.prod/tea"], "418");
    let curl = |path: &str| stage.client.curl(&[&format!("http://shop.prod{path}")]);
    for (path, status, location) in [
        ("/old?q=1", 308, "http://other.prod/new?q=1"),
        ("/secure/a?b", 302, "https://shop.prod/secure/a?b"),
        ("/port", 303, "http://shop.prod:8443/port"),
        ("/moved/on", 307, "http://shop.prod/there/on"),
        ("/bare/x", 301, "http://elsewhere.org/bare/x"),
    ] {
        let reply = curl(path);
        assert_eq!((reply.status, reply.header("location")), (status, location), "{reply:?}");
        assert!(reply.code().is_empty(), "no error: {reply:?}");
    }
    let tea = curl("/tea");
    assert_eq!((tea.body.as_str(), tea.header("content-type")), ("short and stout", "text/plain"), "{tea:?}");
    let head = stage.client.curl(&["-I", "http://shop.prod/tea"]);
    assert_eq!((head.status, head.header("content-length"), head.body.as_str()), (418, "15", ""), "{head:?}");
    assert_eq!((curl("/none").status, curl("/none").body.as_str()), (204, ""));
    for (path, target) in [
        ("/headers/full?q=1", "/headers/all?q=1"),
        ("/headers/fullness", "/headers/allness"),
        ("/exact", "/headers/e"),
        ("/api/a/b?x", "/headers/a/b?x"),
        ("/re/one/two/three", "/headers/two/three/one"),
    ] {
        let reply = curl(path);
        assert_eq!(reply.json()["target"], target, "{path}: {reply:?}");
    }
    let seen = curl("/headers/host").json();
    let host = |seen: &Value| seen["headers"].as_array().unwrap().iter().find(|h| h[0] == "host").unwrap()[1].clone();
    assert_eq!(host(&seen), "renamed.example", "{seen}");
    let seen = stage.client.curl(&["--http2-prior-knowledge", "http://shop.prod/headers/host"]).json();
    assert!(seen["target"].as_str().unwrap().contains("renamed.example"), "over HTTP/2: {seen}");
}

#[test]
fn headers_are_removed_set_and_added_by_route_and_by_destination() {
    if !needs() {
        return;
    }
    let stage = Stage::start();
    stage.http(
        "  - match: [{uri: {prefix: /headers}}]
    headers:
      request: {set: {x-set: route}, add: {x-add: route}, remove: [x-gone]}
      response: {set: {x-answer: route}, remove: [x-target]}
    route:
    - destination: {host: shop, subset: v1}
      headers:
        request: {add: {x-add: share, x-mine: v1}}
        response: {set: {x-answer: share, x-share: v1}}
  - {match: [{uri: {prefix: /fail}}], headers: {response: {set: {x-always: here}}}, route: [{destination: {host: shop, subset: v3}}]}
  - route: [{destination: {host: shop, subset: v1}}]
",
    );
    let url = "http://shop.prod/headers";
    let reply = until("the headers are changed", TIME, || {
        let reply = stage.client.curl(&["-H", "x-set: mine", "-H", "x-add: mine", "-H", "x-gone: 1", url]);
        if reply.header("x-answer").is_empty() { Err(format!("{reply:?}")) } else { Ok(reply) }
    });
    let seen = reply.json();
    let values = |name: &str| -> Vec<String> {
        let all = seen["headers"].as_array().unwrap();
        all.iter().filter(|h| h[0] == name).map(|h| h[1].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(values("x-set"), ["route"], "{seen}");
    assert_eq!(values("x-add"), ["mine", "route", "share"], "{seen}");
    assert_eq!((values("x-gone").len(), values("x-mine")), (0, vec!["v1".to_owned()]), "{seen}");
    assert_eq!((reply.header("x-answer"), reply.header("x-share")), ("route", "v1"), "the route has the last word");
    assert_eq!(reply.header("x-target"), "", "{reply:?}");
    let failed = stage.client.curl(&["http://shop.prod/fail"]);
    assert_eq!((failed.status, failed.header("x-always")), (503, "here"), "also on the proxy's own: {failed:?}");
    assert!(!failed.code().is_empty(), "which says that it is its own: {failed:?}");
}

#[test]
fn cors_answers_preflights_and_marks_responses() {
    if !needs() {
        return;
    }
    let stage = Stage::start();
    stage.http(
        "  - match: [{uri: {prefix: /open}}]
    corsPolicy: {allowOrigins: [{exact: 'https://shop.example'}, {regex: 'https://[a-z]+[.]test'}], allowMethods: [GET, PUT], allowHeaders: [x-user], exposeHeaders: [x-app], maxAge: 10m, allowCredentials: true, unmatchedPreflights: IGNORE}
    fault: {abort: {httpStatus: 500, percentage: {value: 100}}}
    route: [{destination: {host: shop, subset: v1}}]
  - match: [{uri: {prefix: /forward}}]
    corsPolicy: {allowOrigins: [{exact: 'https://shop.example'}]}
    route: [{destination: {host: shop, subset: v1}}]
  - route: [{destination: {host: shop, subset: v1}}]
",
    );
    let preflight = |origin: &str, path: &str| {
        let origin = format!("origin: {origin}");
        let url = format!("http://shop.prod{path}");
        stage.client.curl(&["-X", "OPTIONS", "-H", &origin, "-H", "access-control-request-method: PUT", &url])
    };
    let allowed = until("preflights are answered", TIME, || {
        let reply = preflight("https://shop.example", "/open");
        if reply.header("access-control-allow-origin").is_empty() { Err(format!("{reply:?}")) } else { Ok(reply) }
    });
    assert_eq!((allowed.status, allowed.header("x-app")), (200, ""), "by the proxy: {allowed:?}");
    for (name, want) in [
        ("access-control-allow-origin", "https://shop.example"),
        ("access-control-allow-methods", "GET, PUT"),
        ("access-control-allow-headers", "x-user"),
        ("access-control-max-age", "600"),
        ("access-control-allow-credentials", "true"),
    ] {
        assert_eq!(allowed.header(name), want, "{name}: {allowed:?}");
    }
    let other = preflight("https://evil.example", "/open");
    assert_eq!((other.status, other.header("access-control-allow-origin")), (200, ""), "{other:?}");
    assert_eq!(preflight("https://evil.example", "/forward").header("x-app"), "v1", "forwarded where unmatched");
    let marked = stage.client.curl(&["-H", "origin: https://a.test", "http://shop.prod/open"]);
    assert_eq!(marked.code(), "fault_injected", "{marked:?}");
    assert_eq!(marked.header("access-control-allow-origin"), "https://a.test", "a page may read an error: {marked:?}");
    assert_eq!(marked.header("access-control-expose-headers"), "x-app", "{marked:?}");
    assert_eq!(marked.header("vary"), "origin", "{marked:?}");
}

#[test]
fn faults_strike_as_often_as_written() {
    if !needs() {
        return;
    }
    let stage = Stage::start();
    stage.http(
        "  - {match: [{uri: {prefix: /late}}], timeout: 300ms, fault: {delay: {fixedDelay: 700ms, percentage: {value: 100}}}, route: [{destination: {host: shop, subset: v1}}]}
  - {match: [{uri: {prefix: /gone}}], fault: {abort: {httpStatus: 410, percentage: {value: 100}}}, route: [{destination: {host: shop, subset: v1}}]}
  - {match: [{uri: {prefix: /half}}], fault: {abort: {httpStatus: 503, percentage: {value: 50}}}, route: [{destination: {host: shop, subset: v1}}]}
  - {match: [{uri: {prefix: /grpc}}], fault: {abort: {grpcStatus: RESOURCE_EXHAUSTED, percentage: {value: 100}}}, route: [{destination: {host: shop, subset: v1}}]}
  - route: [{destination: {host: shop, subset: v1}}]
",
    );
    stage.until_by(&["http://shop.prod/gone"], "fault_injected");
    let gone = stage.client.curl(&["http://shop.prod/gone"]);
    assert_eq!((gone.status, gone.header("causeway-detail")), (410, "route prod/shop#1"), "{gone:?}");
    let began = std::time::Instant::now();
    let late = stage.client.curl(&["http://shop.prod/late"]);
    assert_eq!(by(&late), "v1", "the delay is before the route's timeout begins: {late:?}");
    assert!(began.elapsed() >= Duration::from_millis(700));
    let report =
        stage.client.client(&["load", "--url", "http://shop.prod/half", "--requests", "400", "--concurrency", "4"]);
    let served = report["apps"]["v1"].as_u64().unwrap();
    assert!((140..260).contains(&served), "half of 400, within six standard deviations: {report}");
    let grpc = ["-H", "content-type: application/grpc", "-X", "POST", "http://shop.prod/grpc"];
    let reply = stage.client.curl(&grpc);
    assert_eq!((reply.status, reply.header("grpc-status")), (200, "8"), "{reply:?}");
    let plain = stage.client.curl(&["http://shop.prod/grpc"]);
    assert_eq!(plain.status, 429, "who speaks no gRPC is told by HTTP: {plain:?}");
    assert!(stage.client.metric("istio_requests_total", &["response_flags=\"FI\""]) > 100.0);
    assert!(stage.client.metric("istio_requests_total", &["response_flags=\"DI\""]) >= 1.0);
    assert!(stage.client.metric("causeway_injected_faults_total", &["delay"]) >= 1.0);
}

#[test]
fn mirrors_get_a_copy_and_the_request_never_waits_for_them() {
    if !needs() {
        return;
    }
    let stage = Stage::start();
    stage.http(
        "  - match: [{uri: {prefix: /copied}}]
    mirrors: [{destination: {host: mirror}, percentage: {value: 100}}, {destination: {host: shop, subset: v2}, percentage: {value: 100}}]
    rewrite: {uri: /copied/as}
    route: [{destination: {host: shop, subset: v1}}]
  - match: [{uri: {prefix: /half}}]
    mirrors: [{destination: {host: mirror}, percentage: {value: 50}}]
    route: [{destination: {host: shop, subset: v1}}]
  - match: [{uri: {prefix: /lost}}]
    mirrors: [{destination: {host: shop, subset: v3}}]
    route: [{destination: {host: shop, subset: v1}}]
  - match: [{uri: {prefix: /slow}}]
    mirrors: [{destination: {host: mirror}, percentage: {value: 100}}]
    rewrite: {uri: /slow/5000}
    route: [{destination: {host: shop, subset: v1}}]
  - route: [{destination: {host: shop, subset: v1}}]
",
    );
    let body = "x".repeat(20_000);
    let send = |key: &str, path: &str, more: &[&str]| {
        let (key, url) = (format!("x-key: {key}"), format!("http://shop.prod{path}"));
        stage.client.curl(&[&["-H", &key], more, &[&url]].concat())
    };
    until("a copy arrives", TIME, || {
        let reply = send("warm", "/copied", &[]);
        if stage.tally(&stage.mirror, "warm").is_empty() { Err(format!("{reply:?}")) } else { Ok(()) }
    });
    let reply = send("post", "/copied", &["--data-binary", &body]);
    assert_eq!(by(&reply), "v1", "the answer is the application's: {reply:?}");
    for pod in [&stage.mirror, &stage.v2] {
        let copies = until("the copy arrives", TIME, || {
            let copies = stage.tally(pod, "post");
            if copies.is_empty() { Err("none".to_owned()) } else { Ok(copies) }
        });
        assert_eq!(copies.len(), 1, "{copies:?}");
        let copy = &copies[0];
        assert_eq!((&copy["host"], &copy["body"]), (&"shop.prod-shadow".into(), &20_000.into()), "{copy}");
        assert_eq!((&copy["path"], &copy["method"]), (&"/copied/as".into(), &"POST".into()), "{copy}");
        assert_eq!(copy["complete"], true, "{copy}");
    }
    assert_eq!(stage.tally(&stage.v1, "post").len(), 1, "and the request itself went once");
    let file = stage.mesh.path("scratch/long");
    std::fs::write(&file, "x".repeat(200_000)).unwrap();
    assert_eq!(by(&send("long", "/copied", &["--data-binary", &format!("@{}", file.display())])), "v1");
    for _ in 0..200 {
        assert_eq!(by(&send("half", "/half", &[])), "v1");
    }
    let copies = stage.tally(&stage.mirror, "half").len();
    assert!((60..140).contains(&copies), "half of 200: {copies}");
    assert!(stage.tally(&stage.mirror, "long").is_empty(), "a long body is not copied");
    let began = std::time::Instant::now();
    assert_eq!(by(&send("lost", "/lost", &[])), "v1", "a mirror without endpoints costs nothing");
    assert!(began.elapsed() < Duration::from_secs(2));
    assert!(stage.client.metric("causeway_mirrored_requests_total", &["sent"]) > 60.0);
    assert!(stage.client.metric("causeway_mirrored_requests_total", &["no_body"]) >= 1.0);
    assert!(stage.client.metric("causeway_mirrored_requests_total", &["failed"]) >= 1.0);
}
