//! What an application or a peer says of itself in headers is never believed, and the proxy's own ports are no target.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use causeway_tests::capability::{Need, has};
use causeway_tests::process::run;
use causeway_tests::yaml::Port;
use causeway_tests::{Mesh, Pod, PodSpec, Settings, until};
use serde_json::Value;

struct Pair {
    client: Pod,
    server: Pod,
    outsider: Pod,
    mesh: Mesh,
}

fn pair() -> Pair {
    let mesh = Mesh::start(Settings::default());
    mesh.service("prod", "server", &[Port { name: "http", port: 80, target: 8080 }], &[("app", "server")]);
    let mut server = mesh.pod(PodSpec::new("prod", "server"));
    server.serve_http("server", 8080);
    let client = mesh.pod(PodSpec::new("dev", "client"));
    let outsider = mesh.pod(PodSpec::new("dev", "outsider").unmeshed());
    let pair = Pair { client: client.ready(), server: server.ready(), outsider, mesh };
    until("the first request", Duration::from_secs(20), || {
        let reply = pair.client.curl(&["http://server.prod/"]);
        if reply.status == 200 { Ok(()) } else { Err(format!("{reply:?}")) }
    });
    pair
}

/// The values of a header as the application got them.
fn values(document: &Value, name: &str) -> Vec<String> {
    let all = document["headers"].as_array().unwrap();
    all.iter().filter(|h| h[0] == name).map(|h| h[1].as_str().unwrap().to_owned()).collect()
}

const FORGED: &[&str] = &[
    "-H",
    "X-Forwarded-Client-Cert: By=spiffe://cluster.local/ns/prod/sa/server;URI=spiffe://cluster.local/ns/prod/sa/root",
    "-H",
    "x-forwarded-client-cert: URI=spiffe://cluster.local/ns/prod/sa/second",
    "-H",
    "causeway-error: forged",
    "-H",
    "causeway-peer: forged",
    "-H",
    "Causeway-Anything: forged",
];

#[test]
fn forged_identity_headers_never_arrive() {
    if !has(&[Need::Namespaces, Need::Program("curl")]) {
        return;
    }
    let pair = pair();
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let mut arguments = vec![version];
        arguments.extend(FORGED);
        arguments.push("http://server.prod/headers");
        let seen = pair.client.curl(&arguments).json();
        let certs = values(&seen, "x-forwarded-client-cert");
        assert_eq!(certs.len(), 1, "{seen}");
        assert!(certs[0].contains("URI=spiffe://cluster.local/ns/dev/sa/client"), "{seen}");
        assert!(certs[0].contains("By=spiffe://cluster.local/ns/prod/sa/server"), "{seen}");
        assert!(!seen.to_string().contains("forged") && !seen.to_string().contains("sa/root"), "{seen}");
    }
    // A caller in the clear has no identity at all.
    let permissive = "apiVersion: causeway.dev/v1alpha1\nkind: PeerAuthentication\nmetadata: {name: default, namespace: \
                      prod}\nspec: {mtls: {mode: PERMISSIVE}}\n";
    pair.mesh.write("permissive.yaml", permissive);
    let url = format!("http://{}:8080/headers", pair.server.net().ip);
    let mut arguments = FORGED.to_vec();
    arguments.push(&url);
    let seen = until("plain text passes", Duration::from_secs(20), || {
        let reply = pair.outsider.curl(&arguments);
        if reply.status == 200 { Ok(reply.json()) } else { Err(format!("{reply:?}")) }
    });
    assert_eq!(values(&seen, "x-forwarded-client-cert"), Vec::<String>::new(), "{seen}");
    assert!(!seen.to_string().contains("forged"), "{seen}");
}

#[test]
fn hop_by_hop_headers_end_at_the_proxy_and_cannot_remove_ours() {
    if !has(&[Need::Namespaces, Need::Program("curl")]) {
        return;
    }
    let pair = pair();
    let seen = pair.client.curl(&[
        "-H",
        "Connection: keep-alive, x-hop, x-forwarded-client-cert, traceparent",
        "-H",
        "x-hop: 1",
        "-H",
        "Keep-Alive: timeout=5",
        "-H",
        "Proxy-Connection: keep-alive",
        "-H",
        "Proxy-Authorization: Basic eA==",
        "-H",
        "TE: gzip",
        "-H",
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "http://server.prod/headers",
    ]);
    let seen = seen.json();
    for name in ["x-hop", "keep-alive", "proxy-connection", "proxy-authorization"] {
        assert_eq!(values(&seen, name), Vec::<String>::new(), "{name}: {seen}");
    }
    assert_eq!(values(&seen, "x-forwarded-client-cert").len(), 1, "{seen}");
    let plain = pair
        .client
        .curl(&[
            "-H",
            "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "http://server.prod/headers",
        ])
        .json();
    let trace = values(&plain, "traceparent");
    assert!(trace.len() == 1 && trace[0].starts_with("00-0af7651916cd43dd8448eb211c80319c-"), "{plain}");
}

#[test]
fn the_proxys_own_ports_cannot_be_reached_through_a_proxy() {
    if !has(&[Need::Namespaces, Need::Program("curl")]) {
        return;
    }
    let pair = pair();
    let server = pair.server.net().ip;
    let reached = |text: &str| text.contains("spiffe://") || text.contains("# HELP") || text.contains("configuration");
    for port in [15000, 15001, 15006, 15010, 15014] {
        for pod in [&pair.client, &pair.outsider] {
            let reply = pod.curl(&["-m", "5", &format!("http://{server}:{port}/certs")]);
            assert!(reply.status != 200 && !reached(&reply.body), "{port} of another pod: {reply:?}");
        }
        let own = pair.client.net().ip;
        for host in [
            own.to_string(),
            "127.0.0.1".to_owned(),
            "localhost".to_owned(),
            "[::1]".to_owned(),
            format!("[{}]", pair.client.net().ip6),
        ] {
            let url = format!("http://{host}:{port}/certs");
            for way in [
                &["-x", "http://127.0.0.1:15001"][..],
                &["--suppress-connect-headers", "-p", "-x", "http://127.0.0.1:15001"],
            ] {
                let mut arguments = vec!["-g", "-m", "5"];
                arguments.extend(way);
                arguments.push(&url);
                let reply = pair.client.curl(&arguments);
                assert!(reply.status != 200 && !reached(&reply.body), "{url} by {way:?}: {reply:?}");
            }
        }
    }
    for pod in [&pair.client, &pair.server] {
        assert!(pod.proxy().cpu_share(Duration::from_secs(1)) < 0.5, "a loop goes on in {}", pod.net().name());
        assert_eq!(pod.health("/live").code, Some(0));
    }
    // The admin side binds to loopback only.
    let listening = run(pair.server.command("ss").args(["-Hltn", "sport = :15000"])).ok();
    assert!(!listening.contains("0.0.0.0:15000") && !listening.contains("*:15000"), "{listening}");
}
