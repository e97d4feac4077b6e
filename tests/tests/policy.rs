//! AuthorizationPolicy as requests and connections meet it.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use causeway_tests::capability::{Need, has};
use causeway_tests::pod::Reply;
use causeway_tests::yaml::Port;
use causeway_tests::{Mesh, Pod, PodSpec, Settings, until};

const PORTS: &[Port<'_>] = &[
    Port { name: "http", port: 80, target: 8080 },
    Port { name: "http-admin", port: 81, target: 8081 },
    Port { name: "tcp-push", port: 9000, target: 9000 },
];

struct Stage {
    server: Pod,
    dotted: Pod,
    lookalike: Pod,
    other: Pod,
    mesh: Mesh,
}

fn stage() -> Stage {
    let mesh = Mesh::start(Settings::default());
    mesh.service("prod", "server", PORTS, &[("app", "server")]);
    let mut server = mesh.pod(PodSpec::new("prod", "server"));
    server.app(&["http", "--name", "server", "--listen", "[::]:8080", "--listen", "[::]:8081"]);
    server.app(&["tcp-push", "--name", "push", "--listen", "[::]:9000"]);
    let dotted = mesh.pod(PodSpec::new("dev", "dotted").account("a.b"));
    let lookalike = mesh.pod(PodSpec::new("dev", "lookalike").account("axb"));
    let other = mesh.pod(PodSpec::new("ops", "other"));
    let stage = Stage {
        server: server.ready(),
        dotted: dotted.ready(),
        lookalike: lookalike.ready(),
        other: other.ready(),
        mesh,
    };
    for pod in [&stage.dotted, &stage.lookalike, &stage.other] {
        stage.expect(pod, &["http://server.prod/"], 200, "");
    }
    stage
}

impl Stage {
    fn policy(&self, name: &str, action: &str, rules: &str) {
        self.mesh.write(
            &format!("policy-{name}.yaml"),
            &format!(
                "apiVersion: causeway.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: \
                 prod}}\nspec:\n  selector: {{matchLabels: {{app: server}}}}\n  action: {action}\n  rules:\n{rules}"
            ),
        );
    }

    /// Waits until `pod` gets `status`, and with 403 the policy's name.
    fn expect(&self, pod: &Pod, arguments: &[&str], status: u16, policy: &str) -> Reply {
        until(&format!("{arguments:?} gives {status}"), Duration::from_secs(20), || {
            let reply = pod.curl(arguments);
            let named = policy.is_empty() || format!("{reply:?}").contains(policy);
            if reply.status == status && named { Ok(reply) } else { Err(format!("{reply:?}")) }
        })
    }
}

fn needs() -> bool {
    has(&[Need::Namespaces, Need::Program("curl")])
}

#[test]
fn an_allow_policy_admits_whom_it_names_and_nobody_else() {
    if !needs() {
        return;
    }
    let stage = stage();
    stage.policy("callers", "ALLOW", "  - from: [{source: {principals: [cluster.local/ns/dev/sa/a.b]}}]\n");
    stage.expect(&stage.lookalike, &["http://server.prod/"], 403, "prod/callers");
    stage.expect(&stage.other, &["http://server.prod/"], 403, "prod/callers");
    let refused = stage.other.curl(&["http://server.prod/"]);
    assert_eq!(refused.code(), "policy_denied", "{refused:?}");
    stage.expect(&stage.dotted, &["http://server.prod/"], 200, "");

    stage.policy("callers", "ALLOW", "  - from: [{source: {namespaces: [ops]}}]\n");
    stage.expect(&stage.other, &["http://server.prod/"], 200, "");
    stage.expect(&stage.dotted, &["http://server.prod/"], 403, "prod/callers");

    let rule =
        "  - from: [{source: {namespaces: [ops, dev]}}]\n    to: [{operation: {ports: [\"8080\"], methods: [GET]}}]\n";
    stage.policy("callers", "ALLOW", rule);
    stage.expect(&stage.dotted, &["http://server.prod/"], 200, "");
    stage.expect(&stage.dotted, &["-d", "x", "http://server.prod/"], 403, "prod/callers");
    stage.expect(&stage.dotted, &["http://server.prod:81/"], 403, "prod/callers");
    let bytes = stage.dotted.client(&["talk", "--connect", "server.prod:9000", "--until", "1"]);
    assert_eq!(bytes["bytes"], 0, "a rule for HTTP methods lets no bytes pass: {bytes}");
}

#[test]
fn a_deny_policy_wins_and_holds_for_every_spelling_of_the_path() {
    if !needs() {
        return;
    }
    let stage = stage();
    stage.policy("everybody", "ALLOW", "  - {}\n");
    stage.policy("no-admin", "DENY", "  - to: [{operation: {paths: [/admin, /admin/*]}}]\n");
    stage.expect(&stage.dotted, &["http://server.prod/admin"], 403, "prod/no-admin");
    stage.expect(&stage.dotted, &["http://server.prod/"], 200, "");
    let spellings = [
        "/admin/",
        "/admin/x",
        "/admin?x",
        "//admin",
        "/./admin",
        "/x/../admin",
        "/%61dmin",
        "/x/%2e%2e/admin",
        "/admin/..%2fadmin",
        "/admin;x/../admin/y",
        "/x//..//admin",
        "/%2e/admin",
        "/admin%2f",
        "/x/..%5cadmin",
        "/admin%00",
        "/ADMIN/../admin",
    ];
    for path in spellings {
        let url = format!("http://server.prod{path}");
        let reply = stage.dotted.curl(&["--path-as-is", &url]);
        // What was not refused must have reached the application as something that is not /admin by any reading.
        let seen = reply.header("x-target");
        let harmless =
            reply.status == 200 && !seen.contains("..") && !seen.contains('%') && !seen.starts_with("/admin");
        assert!([400, 403].contains(&reply.status) || harmless, "{path}: {reply:?}");
    }
    let absolute = "GET http://server.prod/admin HTTP/1.1\\r\\nHost: server.prod\\r\\nConnection: close\\r\\n\\r\\n";
    let reply = stage.dotted.client(&["talk", "--connect", "server.prod:80", "--send", absolute]);
    assert!(!reply["text"].as_str().unwrap().contains(" 200 "), "{reply}");
}

#[test]
fn a_live_connection_is_cut_when_policy_turns_against_it() {
    if !needs() {
        return;
    }
    let stage = stage();
    let mut talk = stage.other.background("talk", &["talk", "--connect", "server.prod:9000", "--timeout-ms", "30000"]);
    let pushed = || stage.other.metric("istio_tcp_received_bytes_total", &[]);
    let spared = stage.dotted.background("talk", &["talk", "--connect", "server.prod:9000", "--timeout-ms", "30000"]);
    until("bytes flow", Duration::from_secs(20), || {
        let open = stage.server.metric("istio_tcp_connections_opened_total", &[]);
        if open >= 2.0 { Ok(()) } else { Err(format!("opened {open}, received {}", pushed())) }
    });
    stage.policy("not-ops", "DENY", "  - from: [{source: {namespaces: [ops]}}]\n");
    talk.wait(Duration::from_secs(15));
    let report: serde_json::Value = serde_json::from_str(&talk.log()).unwrap();
    assert!(report["bytes"].as_u64() > Some(0), "{report}");
    assert_ne!(report["end"], "timeout", "{report}");
    assert!(std::path::Path::new(&format!("/proc/{}", spared.pid())).exists(), "the other client's connection lives");
    let again = stage.other.client(&["talk", "--connect", "server.prod:9000", "--until", "1"]);
    assert_eq!(again["bytes"], 0, "and is not let in again: {again}");
    let allowed = stage.dotted.client(&["talk", "--connect", "server.prod:9000", "--until", "1"]);
    assert!(allowed["bytes"].as_u64() > Some(0), "{allowed}");
}
