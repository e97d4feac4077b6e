//! Limits of requests, as clients see them: who is over one is told so and when to come again, and nobody else is.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs)]

use std::time::{Duration, Instant};

use causeway_tests::capability::{Need, has};
use causeway_tests::pod::Reply;
use causeway_tests::yaml::Port;
use causeway_tests::{Mesh, Pod, PodSpec, Settings, until};

const HTTP: &[Port<'_>] = &[Port { name: "http", port: 80, target: 8080 }];

struct Stage {
    anna: Pod,
    bert: Pod,
    server: Pod,
    mesh: Mesh,
}

/// Clients `anna` and `bert` in `dev`, `shop.prod`, and the policy with these rules.
fn stage(rules: &str) -> Stage {
    let mesh = Mesh::start(Settings::default());
    mesh.service("prod", "shop", HTTP, &[("app", "shop")]);
    let mut server = mesh.pod(PodSpec::new("prod", "shop").containers(
        "  containers:\n  - name: app\n    image: app\n    readinessProbe: {httpGet: {path: /healthz, port: 8080}}\n",
    ));
    server.serve_http("shop", 8080);
    let (anna, bert) = (mesh.pod(PodSpec::new("dev", "anna")), mesh.pod(PodSpec::new("dev", "bert")));
    let stage = Stage { anna: anna.ready(), bert: bert.ready(), server: server.ready(), mesh };
    for client in [&stage.anna, &stage.bert] {
        until("the shop answers", Duration::from_secs(20), || {
            let reply = client.curl(&["http://shop.prod/"]);
            if reply.status == 200 { Ok(()) } else { Err(format!("{reply:?}")) }
        });
    }
    stage.policy(rules);
    stage
}

impl Stage {
    fn policy(&self, rules: &str) {
        self.mesh.write(
            "limits.yaml",
            &format!(
                "apiVersion: causeway.dev/v1alpha1\nkind: RateLimitPolicy\nmetadata: {{name: shop, namespace: prod}}\nspec:\n  \
                 selector: {{matchLabels: {{app: shop}}}}\n  rules:\n{rules}"
            ),
        );
    }

    /// Waits until requests for `url` are counted.
    fn counted(&self, client: &Pod, arguments: &[&str]) -> Reply {
        until(&format!("{arguments:?} is counted"), Duration::from_secs(20), || {
            let reply = client.curl(arguments);
            if reply.header("ratelimit-limit").is_empty() { Err(format!("{reply:?}")) } else { Ok(reply) }
        })
    }
}

fn needs() -> bool {
    has(&[Need::Namespaces, Need::Program("curl")])
}

/// How many of `count` requests in a row are let in; the rest must be refused as they should.
fn let_in(client: &Pod, arguments: &[&str], count: usize, policy: &str) -> usize {
    let replies = (0..count).map(|_| client.curl(arguments));
    let refused = |reply: &Reply| {
        if reply.status == 200 {
            return false;
        }
        assert_eq!((reply.status, reply.code()), (429, "rate_limited"), "{reply:?}");
        assert!(reply.header("causeway-detail").contains(policy) && reply.body.contains(policy), "{reply:?}");
        let wait: u64 = reply.header("retry-after").parse().unwrap();
        assert!(wait >= 1 && reply.header("ratelimit-remaining") == "0", "{reply:?}");
        true
    };
    count - replies.filter(refused).count()
}

#[test]
fn who_is_over_the_limit_gets_429_with_the_standard_headers_and_nobody_else_does() {
    if !needs() {
        return;
    }
    let stage =
        stage("  - {name: each, match: [{uri: {prefix: /each}}], requests: 5, per: 1h, key: {sourceIdentity: true}}\n");
    let first = stage.counted(&stage.anna, &["http://shop.prod/each"]);
    assert_eq!((first.status, first.header("ratelimit-limit"), first.header("ratelimit-remaining")), (200, "5", "4"));
    assert!(first.header("ratelimit-reset").parse::<u64>().unwrap() <= 720, "{first:?}");
    assert_eq!(let_in(&stage.anna, &["http://shop.prod/each"], 10, "prod/shop#each"), 4);
    assert_eq!(let_in(&stage.bert, &["http://shop.prod/each"], 10, "prod/shop#each"), 5);
    // Other paths are not counted.
    let other = stage.anna.curl(&["http://shop.prod/other"]);
    assert!(other.status == 200 && other.header("ratelimit-limit").is_empty(), "{other:?}");
    let seen = stage.server.metric("istio_requests_total", &["response_code=\"429\"", "response_flags=\"RL\""]);
    assert_eq!(seen, 11.0);
    // A change elsewhere in the policy does not begin the count anew.
    stage.policy(
        "  - {name: each, match: [{uri: {prefix: /each}}], requests: 5, per: 1h, key: {sourceIdentity: true}}\n  \
         - {name: more, match: [{uri: {prefix: /more}}], requests: 100, per: 1m}\n",
    );
    stage.counted(&stage.anna, &["http://shop.prod/more"]);
    assert_eq!(let_in(&stage.anna, &["http://shop.prod/each"], 1, "prod/shop#each"), 0);
    // Nor is a broken one taken for one that limits nothing.
    stage.policy("  - {name: each, match: [{uri: {regex: '('}}], requests: 5, per: 1h}\n");
    stage.mesh.wait_for_problem(&["invalid_regex", "spec.rules[0].match[0].uri.regex", "limits nothing"]);
}

#[test]
fn a_key_of_a_header_counts_each_value_and_the_bucket_fills_again() {
    if !needs() {
        return;
    }
    let stage = stage("  - {requests: 1, per: 2s, burst: 3, key: {header: X-Tenant}}\n");
    let of = |tenant: &str| format!("X-Tenant: {tenant}");
    stage.counted(&stage.anna, &["http://shop.prod/"]);
    for tenant in ["red", "blue"] {
        let header = of(tenant);
        let arguments = ["-H", header.as_str(), "http://shop.prod/"];
        let begun = Instant::now();
        let count = let_in(&stage.anna, &arguments, 6, "prod/shop#0");
        let came = usize::try_from(begun.elapsed().as_secs() / 2).unwrap() + 1;
        assert!((3..=3 + came).contains(&count), "{count} of 6 with room for 3");
        until("the bucket has room again", Duration::from_secs(10), || {
            let reply = stage.anna.curl(&arguments);
            if reply.status == 200 { Ok(()) } else { Err(format!("{reply:?}")) }
        });
    }
}

#[test]
fn a_limit_for_all_counts_every_client_and_probes_go_past_it() {
    if !needs() {
        return;
    }
    let stage = stage("  - {requests: 3, per: 1h}\n");
    stage.counted(&stage.anna, &["http://shop.prod/"]);
    let both = let_in(&stage.anna, &["http://shop.prod/"], 2, "prod/shop#0")
        + let_in(&stage.bert, &["http://shop.prod/"], 4, "prod/shop#0");
    assert_eq!(both, 2);
    // Kubelet, from the node, in the clear.
    let url = format!("http://{}:8080/healthz", stage.server.net().ip);
    for _ in 0..10 {
        let probe = Reply::of(&mut stage.mesh.node().namespace().command("curl"), &[&url]);
        assert_eq!(probe.status, 200, "{probe:?}");
    }
    // gRPC is told in its own way.
    let arguments =
        ["-H", "content-type: application/grpc", "-H", "te: trailers", "-X", "POST", "http://shop.prod/a.B/C"];
    let reply = stage.anna.curl(&arguments);
    assert_eq!((reply.status, reply.header("grpc-status"), reply.code()), (200, "8", "rate_limited"), "{reply:?}");
}
