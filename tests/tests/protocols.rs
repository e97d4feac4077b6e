//! What an application says arrives as it was said: HTTP/1.1, HTTP/2, gRPC, WebSocket, bytes, and TLS of its own.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "protocols/names.rs"]
mod names;
#[path = "protocols/streams.rs"]
mod streams;
#[path = "protocols/websocket.rs"]
mod websocket;

use std::time::Duration;

use causeway_tests::capability::{Need, has, python};
use causeway_tests::process::run;
use causeway_tests::yaml::Port;
use causeway_tests::{Mesh, Pod, PodSpec, Settings, until};

const PORTS: &[Port<'_>] = &[
    Port { name: "http", port: 80, target: 8080 },
    Port { name: "echo", port: 9000, target: 9000 },
    Port { name: "greet", port: 9001, target: 9001 },
    Port { name: "tcp-greet", port: 9002, target: 9001 },
    Port { name: "grpc", port: 50051, target: 50051 },
    Port { name: "ws", port: 8765, target: 8765 },
    Port { name: "own-tls", port: 8443, target: 8443 },
    Port { name: "undeclared", port: 8081, target: 8080 },
];

/// A client in `dev` and a server in `prod`, ready, the first request through.
struct Pair {
    client: Pod,
    server: Pod,
    cluster: causeway_tests::mesh::Cluster,
    mesh: Mesh,
}

fn pair() -> Pair {
    let mesh = Mesh::start(Settings::default());
    let cluster = mesh.service("prod", "server", PORTS, &[("app", "server")]);
    let mut server = mesh.pod(PodSpec::new("prod", "server"));
    server.serve_http("server", 8080);
    let pair = Pair { client: mesh.pod(PodSpec::new("dev", "client")).ready(), server: server.ready(), cluster, mesh };
    pair.works("http://server.prod/");
    pair
}

impl Pair {
    fn works(&self, url: &str) {
        until(&format!("{url} answers"), Duration::from_secs(20), || {
            let reply = self.client.curl(&["-g", url]);
            if reply.status == 200 { Ok(()) } else { Err(format!("{reply:?}")) }
        });
    }

    /// Raw bytes to the HTTP port; the answer's text.
    fn talk(&self, arguments: &[&str]) -> serde_json::Value {
        self.client.client(&[&["talk", "--connect"], arguments].concat())
    }

    fn python(&self, script: &str) -> std::process::Command {
        let mut command = self.server.net().command(python());
        command.arg(format!("{}/python/{script}", env!("CARGO_MANIFEST_DIR")));
        command
    }
}

fn needs() -> bool {
    has(&[Need::Namespaces, Need::Program("curl")])
}

#[test]
fn http1_arrives_as_it_was_sent() {
    if !needs() {
        return;
    }
    let pair = pair();
    let seen = pair.client.curl(&[
        "-H",
        "X-Mixed-Case: a",
        "-H",
        "x-two: 1",
        "-H",
        "x-two: 2",
        "http://server.prod/headers/a%20b?q=%2F&q=2",
    ]);
    let document = seen.json();
    assert_eq!(document["target"], "/headers/a%20b?q=%2F&q=2");
    assert_eq!(document["version"], "HTTP/1.1");
    let headers = document["headers"].to_string();
    for part in [r#"["host","server.prod"]"#, r#"["x-mixed-case","a"]"#, r#"["x-two","1"]"#, r#"["x-two","2"]"#] {
        assert!(headers.contains(part), "{part} is not in {headers}");
    }

    let head = pair.client.curl(&["-I", "http://server.prod/bytes/1000"]);
    assert_eq!((head.status, head.header("content-length"), head.body.as_str()), (200, "1000", ""), "{head:?}");
    for status in ["204", "304", "404", "418", "500", "503"] {
        let reply = pair.client.curl(&[&format!("http://server.prod/status/{status}")]);
        assert_eq!(reply.status.to_string(), status, "{reply:?}");
        assert_eq!(reply.header("x-app"), "server", "the application's own answer: {reply:?}");
    }
    for method in ["PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"] {
        let reply = pair.client.curl(&["-X", method, "http://server.prod/headers"]);
        assert_eq!(reply.json()["method"], method);
    }
    let empty = pair.client.curl(&["-d", "", "http://server.prod/headers"]).json();
    assert!(empty["headers"].to_string().contains(r#"["content-length","0"]"#), "{empty}");
}

#[test]
fn keep_alive_pipelining_and_expect_continue_work() {
    if !needs() {
        return;
    }
    let pair = pair();
    let twice = pair.client.curl(&["http://server.prod/", "-w", "%{num_connects}", "http://server.prod/"]);
    assert!(twice.body.ends_with("server\n0"), "the second request took the first's connection: {twice:?}");
    let request = |path: &str| format!("GET {path} HTTP/1.1\\r\\nHost: server.prod\\r\\n\\r\\n");
    let three = [request("/slow/300"), request("/status/404"), request("/bytes/3")].concat();
    let answer = pair.talk(&["server.prod:80", "--send", &three, "--timeout-ms", "1500"]);
    let text = answer["text"].as_str().unwrap();
    let order: Vec<&str> = text.match_indices("HTTP/1.1 ").map(|(at, _)| &text[at + 9..at + 12]).collect();
    assert_eq!(order, ["200", "404", "200"], "pipelined answers in order: {text}");

    let body = "x".repeat(20_000);
    let reply = pair.client.curl(&["-H", "Expect: 100-continue", "-d", &body, "http://server.prod/sum"]);
    assert_eq!(reply.json()["length"], 20_000, "{reply:?}");
    let head = "POST /sum HTTP/1.1\\r\\nHost: server.prod\\r\\nContent-Length: 5\\r\\nExpect: 100-continue\\r\\nConnection: close\\r\\n\\r\\n";
    let answer = pair.talk(&["server.prod:80", "--send", head, "--send", "hello", "--timeout-ms", "5000"]);
    let text = answer["text"].as_str().unwrap();
    assert!(text.starts_with("HTTP/1.1 100 Continue\r\n\r\n"), "the body was asked for: {text}");
    assert!(text.contains(r#""length":5"#), "{text}");

    let old = pair.talk(&["server.prod:80", "--send", "GET / HTTP/1.0\\r\\nHost: server.prod\\r\\n\\r\\n"]);
    let text = old["text"].as_str().unwrap();
    assert!(text.contains(" 200 ") && text.ends_with("server\n") && old["end"] == "closed", "HTTP/1.0: {old}");
    assert!(!text.to_lowercase().contains("transfer-encoding"), "HTTP/1.0 knows no chunks: {text}");
}

#[test]
fn bodies_of_any_size_and_framing_arrive_unchanged() {
    if !needs() {
        return;
    }
    let pair = pair();
    let file = pair.mesh.path("scratch/body");
    let content: Vec<u8> = (0..30_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(&file, &content).unwrap();
    let back = pair.mesh.path("scratch/back");
    let (upload, output) = (format!("@{}", file.display()), back.display().to_string());
    for framing in ["Content-Length:", "Transfer-Encoding: chunked"] {
        // An empty header value makes curl leave its own out, so only one of the two is passed.
        let mut arguments =
            vec!["-sS", "-m", "60", "-X", "POST", "--data-binary", &upload, "-H", "Expect:", "-o", &output];
        if framing.starts_with("Transfer") {
            arguments.extend(["-H", framing]);
        }
        arguments.push("http://server.prod/echo");
        run(pair.client.command("curl").args(&arguments)).ok();
        assert!(std::fs::read(&back).unwrap() == content, "{framing} echoed {} bytes", back.metadata().unwrap().len());
    }
    for path in ["bytes", "chunked"] {
        for size in [0, 1, 16_384, 16_385, 5_000_000] {
            let url = format!("/{path}/{size}");
            let get = |pod: &Pod, base: &str| {
                run(pod.command("sh").args(["-c", &format!("curl -sS -m 30 {base}{url} | sha256sum")])).ok()
            };
            let (through, direct) =
                (get(&pair.client, "http://server.prod"), get(&pair.server, "http://127.0.0.1:8080"));
            assert_eq!(through, direct, "{url}");
        }
    }
    let request =
        "GET /trailers HTTP/1.1\\r\\nHost: server.prod\\r\\nTE: trailers\\r\\nConnection: close, TE\\r\\n\\r\\n";
    let answer = pair.talk(&["server.prod:80", "--send", request]);
    assert!(answer["text"].as_str().unwrap().contains("x-trailer: at the end"), "response trailers: {answer}");
    let request = "POST /headers HTTP/1.1\\r\\nHost: server.prod\\r\\nTransfer-Encoding: chunked\\r\\nTrailer: x-sum\\r\\nConnection: close\\r\\n\\r\\n3\\r\\nabc\\r\\n0\\r\\nx-sum: 42\\r\\n\\r\\n";
    let answer = pair.talk(&["server.prod:80", "--send", request]);
    assert!(answer["text"].as_str().unwrap().contains(r#"["x-sum","42"]"#), "request trailers: {answer}");
}

#[test]
fn http2_by_prior_knowledge_works() {
    if !needs() || !has(&[Need::Program("nghttp")]) {
        return;
    }
    let pair = pair();
    for base in ["http://server.prod", "http://server.prod:8081"] {
        pair.works(&format!("{base}/"));
        let reply = pair.client.curl(&["--http2-prior-knowledge", "-d", "hello", &format!("{base}/headers/x?y=1")]);
        let seen = reply.json();
        assert!(seen["target"].as_str().unwrap().ends_with("/headers/x?y=1"), "{seen}");
        assert_eq!((seen["body"].as_str(), seen["version"].as_str()), (Some("hello"), Some("HTTP/2.0")), "{seen}");
    }
    let output =
        run(pair.client.command("nghttp").args(["-m", "50", "-n", "-s", "http://server.prod/bytes/10000"])).ok();
    assert_eq!(output.matches(" 200 ").count(), 50, "{output}");
    let reply = pair.client.curl(&[
        "--http2-prior-knowledge",
        "-o",
        "/dev/null",
        "-w",
        "%{size_download}",
        "http://server.prod/bytes/8000000",
    ]);
    assert!(reply.error.is_empty(), "{reply:?}");
}

#[test]
fn grpc_of_all_four_kinds_works_with_another_implementation() {
    if !needs() || !has(&[Need::Python]) {
        return;
    }
    let mut pair = pair();
    let mut server = pair.python("grpc_server.py");
    pair.server.spawn(server.arg("[::]:50051")).wait_for_log("listening", Duration::from_secs(20));
    let script = format!("{}/python/grpc_client.py", env!("CARGO_MANIFEST_DIR"));
    for target in ["server.prod.svc.cluster.local:50051", "server.prod:50051"] {
        let output =
            run(pair.client.net().command(python()).args([&script, target]).env("GRPC_DNS_RESOLVER", "native"));
        assert!(output.stdout.contains("all kinds ok"), "{output:?}");
    }
    let calls = pair.client.metric("istio_requests_total", &["grpc"]);
    assert!(calls > 0.0, "counted as gRPC");
}

#[test]
fn bytes_pass_both_ways_with_half_close_and_no_stall() {
    if !needs() {
        return;
    }
    let mut pair = pair();
    pair.server.app(&["tcp-echo", "--listen", "[::]:9000"]);
    pair.server.app(&["tcp-greet", "--name", "server", "--listen", "[::]:9001"]);
    let echo = until("the echo answers", Duration::from_secs(20), || {
        let echo = pair.talk(&["server.prod:9000", "--send", "\\0binary\\n", "--half-close", "yes"]);
        if echo["end"] == "closed" && echo["bytes"].as_u64() > Some(0) { Ok(echo) } else { Err(echo.to_string()) }
    });
    assert_eq!(echo["text"], "\0binary\nend 8\n", "{echo}");
    let file = pair.mesh.path("scratch/bytes");
    std::fs::write(&file, vec![0xf5; 20_000_000]).unwrap();
    let big = pair.talk(&["server.prod:9000", "--file", &file.display().to_string(), "--half-close", "yes"]);
    assert_eq!((big["bytes"].as_u64(), big["end"].as_str()), (Some(20_000_013), Some("closed")), "{}", big["end"]);

    // A server that speaks first: on a port declared as tcp no byte of the client is waited for.
    pair.talk(&["server.prod:9002", "--until", "1"]);
    let declared = pair.talk(&["server.prod:9002", "--until", "18"]);
    assert_eq!(declared["text"], "hello from server\n", "{declared}");
    assert!(declared["first_ms"].as_u64() < Some(100), "declared: {declared}");
    pair.talk(&["server.prod:9001", "--until", "1"]);
    let detected = pair.talk(&["server.prod:9001", "--until", "18"]);
    assert_eq!(detected["text"], "hello from server\n", "{detected}");
    assert!(detected["first_ms"].as_u64() < Some(100), "undeclared: {detected}");
}

#[test]
fn tls_of_the_application_is_carried_as_bytes() {
    if !needs() || !has(&[Need::Program("openssl"), Need::Program("nginx")]) {
        return;
    }
    let mut pair = pair();
    let scratch = pair.mesh.path("scratch");
    let (cert, key) = pair.mesh.authority.leaf(&scratch, "app", &["spiffe://unrelated/app"]);
    let conf = scratch.join("nginx.conf");
    let directory = scratch.display();
    let text = format!(
        "daemon off; user root; worker_processes 1; pid {directory}/nginx.pid; error_log stderr warn;\nevents \
         {{}}\nhttp {{ access_log off; client_body_temp_path {directory}/b; proxy_temp_path {directory}/p; \
         fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;\nserver {{ \
         listen 8443 ssl http2; ssl_certificate {}; ssl_certificate_key {}; location / {{ return 200 \"nginx \
         $server_protocol $ssl_protocol\\n\"; }} }} }}\n",
        cert.display(),
        key.display()
    );
    std::fs::write(&conf, text).unwrap();
    let mut nginx = pair.server.command("nginx");
    pair.server.spawn(nginx.args(["-e", "stderr", "-c"]).arg(&conf));
    for (flag, version) in [("--http1.1", "HTTP/1.1"), ("--http2", "HTTP/2.0")] {
        let reply = until("nginx answers over its own TLS", Duration::from_secs(20), || {
            let reply = pair.client.curl(&["-k", flag, "https://server.prod:8443/"]);
            if reply.status == 200 { Ok(reply) } else { Err(format!("{reply:?}")) }
        });
        assert!(reply.body.starts_with(&format!("nginx {version}")), "{reply:?}");
    }
}

#[test]
fn ipv6_works_like_ipv4() {
    if !needs() {
        return;
    }
    let mut pair = pair();
    pair.server.app(&["tcp-echo", "--listen", "[::]:9000"]);
    let cluster = pair.cluster.ip6;
    pair.works(&format!("http://[{cluster}]/"));
    let reply = pair.client.curl(&["-g", &format!("http://[{cluster}]/headers")]);
    let caller = "URI=spiffe://cluster.local/ns/dev/sa/client";
    assert!(reply.body.contains(caller), "{reply:?}");
    let echo = pair.talk(&[&format!("[{cluster}]:9000"), "--send", "six", "--half-close", "yes"]);
    assert_eq!(echo["text"], "sixend 3\n", "{echo}");
    pair.works(&format!("http://[{}]:8080/", pair.server.net().ip6));
    pair.works(&format!("http://{}:8080/", pair.server.net().ip));
}

#[test]
fn what_is_not_in_the_mesh_is_reached_in_the_clear_without_our_identity() {
    if !needs() {
        return;
    }
    let pair = pair();
    let mut legacy = pair.mesh.pod(PodSpec::new("old", "legacy").unmeshed());
    legacy.serve_http("legacy", 8080);
    let mut unknown = pair.mesh.pod(PodSpec::new("old", "unknown").unmeshed().unlisted());
    unknown.serve_http("unknown", 8080);
    unknown.app(&["tcp-greet", "--name", "unknown", "--listen", "[::]:9001"]);
    pair.mesh.service("old", "legacy", &PORTS[..1], &[("app", "legacy")]);
    let client = pair.mesh.pod(PodSpec::new("dev", "late")).ready(); // its hosts file knows the new Service
    for url in ["http://legacy.old/headers".to_owned(), format!("http://{}:8080/headers", unknown.net().ip)] {
        let reply = until(&format!("{url} answers"), Duration::from_secs(20), || {
            let reply = client.curl(&[&url]);
            if reply.status == 200 { Ok(reply) } else { Err(format!("{reply:?}")) }
        });
        assert!(!reply.body.contains("spiffe://"), "no identity leaves the mesh: {reply:?}");
    }
    let greeting = client.client(&["talk", "--connect", &format!("{}:9001", unknown.net().ip), "--until", "19"]);
    assert_eq!(greeting["text"], "hello from unknown\n", "{greeting}");
}
