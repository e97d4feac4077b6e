//! TLS that the application speaks, sent on by the name in its ClientHello; and bytes, split by weight.

use std::collections::BTreeMap;
use std::time::Duration;

use causeway_tests::capability::{Need, has};
use causeway_tests::yaml::Port;
use causeway_tests::{Mesh, Pod, PodSpec, Settings, until};

use super::needs;

const PORTS: &[Port<'_>] = &[
    Port { name: "tls", port: 443, target: 8443 },
    Port { name: "undeclared", port: 444, target: 8443 },
    Port { name: "tcp-greet", port: 9001, target: 9001 },
    Port { name: "greet", port: 9002, target: 9001 },
];

const RULE: &str = "apiVersion: causeway.dev/v1alpha1\nkind: DestinationRule\nmetadata: {name: app, namespace: prod}\n\
    spec: {host: app, subsets: [{name: a, labels: {version: a}}, {name: b, labels: {version: b}}]}\n";

fn route(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: causeway.dev/v1alpha1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: prod}}\nspec: \
         {{hosts: [app], {spec}}}\n"
    )
}

/// The application `app` of the given version, over TLS of its own, and one that greets.
fn server(mesh: &Mesh, version: &str) -> Pod {
    let mut pod = mesh.pod(PodSpec::new("prod", version).label("app", "app").label("version", version));
    let scratch = mesh.path("scratch").join(version);
    std::fs::create_dir(&scratch).unwrap();
    let (cert, key) = mesh.authority.leaf(&scratch, version, &["spiffe://unrelated/app"]);
    let (directory, cert, key) = (scratch.display(), cert.display(), key.display());
    let text = format!(
        "daemon off; user root; worker_processes 1; pid {directory}/nginx.pid; error_log stderr warn;\nevents {{}}\nhttp \
         {{ access_log off; client_body_temp_path {directory}/b; proxy_temp_path {directory}/p; fastcgi_temp_path \
         {directory}/f; uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;\nserver {{ listen 8443 ssl http2; \
         ssl_certificate {cert}; ssl_certificate_key {key}; location / {{ return 200 \"{version} asked as \
         $ssl_server_name\\n\"; }} }} }}\n"
    );
    let conf = scratch.join("nginx.conf");
    std::fs::write(&conf, text).unwrap();
    let mut nginx = pod.command("nginx");
    pod.spawn(nginx.args(["-e", "stderr", "-c"]).arg(&conf));
    pod.app(&["tcp-greet", "--name", version, "--listen", "[::]:9001"]);
    pod
}

/// How often each version answered `times` requests for `name` on `port`.
fn asked(client: &Pod, port: u16, name: &str, times: u32) -> BTreeMap<String, u32> {
    let mut answers = BTreeMap::new();
    for _ in 0..times {
        let (url, to) = (format!("https://{name}:{port}/"), format!("{name}:{port}:app.prod:{port}"));
        let reply = client.curl(&["-k", "--connect-to", &to, &url]);
        assert!(reply.status != 200 || reply.body.trim_end().ends_with(name), "{reply:?}");
        let version = reply.body.split(' ').next().unwrap_or_default().to_owned();
        *answers.entry(if reply.status == 200 { version } else { reply.error }).or_default() += 1;
    }
    answers
}

fn greeted(client: &Pod, port: u16, times: u32) -> BTreeMap<String, u32> {
    let mut answers = BTreeMap::new();
    for _ in 0..times {
        let heard = client.client(&["talk", "--connect", &format!("app.prod:{port}"), "--until", "13"]);
        *answers
            .entry(heard["text"].as_str().unwrap().trim_start_matches("hello from ").trim().to_owned())
            .or_default() += 1;
    }
    answers
}

#[test]
fn tls_goes_by_the_name_it_asks_for_and_bytes_by_weight() {
    if !needs() || !has(&[Need::Program("openssl"), Need::Program("nginx")]) {
        return;
    }
    let mesh = Mesh::start(Settings::default());
    mesh.service("prod", "app", PORTS, &[("app", "app")]);
    mesh.write("rule.yaml", RULE);
    let tls = "tls: [{match: [{sniHosts: [only-a.example]}], route: [{destination: {host: app, subset: a}}]}, \
        {match: [{sniHosts: ['*.b.example']}], route: [{destination: {host: app, subset: b}}]}]";
    mesh.write("tls.yaml", &route("tls", tls));
    let (a, b) = (server(&mesh, "a").ready(), server(&mesh, "b").ready());
    let client = mesh.pod(PodSpec::new("dev", "client")).ready();
    let all = |version: &str, times| BTreeMap::from([(version.to_owned(), times)]);
    for port in [443, 444] {
        until(&format!("both versions answer on {port}"), Duration::from_secs(20), || {
            let answers = asked(&client, port, "other.example", 8);
            if answers.len() == 2 && answers.keys().all(|v| v == "a" || v == "b") {
                Ok(())
            } else {
                Err(format!("{answers:?}"))
            }
        });
        assert_eq!(asked(&client, port, "only-a.example", 12), all("a", 12), "port {port}");
        assert_eq!(asked(&client, port, "x.b.example", 12), all("b", 12), "port {port}");
        assert_eq!(asked(&client, port, "b.example", 8).len(), 2, "the wildcard wants a label in front");
    }
    // The ClientHello in two pieces of any sizes is the same hello: it is TLS's own handshake that goes through.
    assert!(
        client.health("/metrics").ok().contains("istio_tcp_connections_opened"),
        "counted as bytes, never decrypted"
    );

    for (weights, want) in [((100, 0), "a"), ((0, 100), "b")] {
        let to =
            |subset: &str, weight: u32| format!("{{destination: {{host: app, subset: {subset}}}, weight: {weight}}}");
        let tcp = format!("tcp: [{{route: [{}, {}]}}]", to("a", weights.0), to("b", weights.1));
        mesh.write("tcp.yaml", &route("tcp", &tcp));
        for port in [9001, 9002] {
            until(&format!("bytes on {port} go to {want}"), Duration::from_secs(20), || {
                let answers = greeted(&client, port, 10);
                if answers == all(want, 10) { Ok(()) } else { Err(format!("{answers:?}")) }
            });
        }
    }
    // Routes for requests: a port that declares nothing is HTTP from then on, and its server is not asked for a greeting.
    mesh.remove("tls.yaml");
    mesh.write("tcp.yaml", &route("tcp", "http: [{route: [{destination: {host: app}}]}]"));
    until("what is no request is refused", Duration::from_secs(20), || {
        let talk = ["talk", "--connect", "app.prod:9002", "--send", "no request\\r\\n\\r\\n", "--timeout-ms", "3000"];
        let heard = client.client(&talk)["text"].as_str().unwrap().to_owned();
        if heard.starts_with("HTTP/1.1 400") && !heard.contains("hello") { Ok(()) } else { Err(heard) }
    });
    let heard = client.client(&["talk", "--connect", "app.prod:9001", "--until", "13"]);
    assert!(heard["text"].as_str().unwrap().starts_with("hello from"), "what is declared as bytes stays so: {heard}");
    drop((a, b));
}
