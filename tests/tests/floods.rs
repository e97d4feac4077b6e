//! Floods that took peers down, from their advisories: memory stays bounded and neighbours are served.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use causeway_tests::capability::{Need, has};
use causeway_tests::yaml::Port;
use causeway_tests::{Mesh, Pod, PodSpec, Settings, until};

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

impl Pair {
    /// Sends bytes to the client's outbound proxy while a neighbour calls; what both proxies grew by, KiB.
    fn flood(&self, name: &str, bytes: &[u8]) -> u64 {
        let file = self.mesh.path(&format!("scratch/{name}"));
        std::fs::write(&file, bytes).unwrap();
        let all = || self.client.proxy().rss_kib() + self.server.proxy().rss_kib();
        let before = all();
        let arguments =
            ["talk", "--connect", "server.prod:80", "--file", &file.display().to_string(), "--timeout-ms", "3000"];
        let mut flood = self.client.background(name, &arguments);
        let neighbour = ["load", "--url", "http://server.prod/", "--requests", "100", "--concurrency", "2"];
        let report = self.client.client(&neighbour);
        assert_eq!(report["failed"], 0, "{name}: a neighbour failed: {report}");
        flood.wait(Duration::from_secs(60));
        assert_eq!(self.client.client(&neighbour)["failed"], 0, "{name}: after the flood");
        all().saturating_sub(before)
    }
}

/// RFC 9113 section 4.1.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// `GET / server.prod` with indexed fields (RFC 7541 appendix A) and a literal authority.
fn request_block() -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x84, 0x41, 11];
    block.extend(b"server.prod");
    block
}

fn preface() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    bytes
}

const HEADERS: u8 = 1;
const END_HEADERS: u8 = 4;
const END_STREAM: u8 = 1;

#[test]
fn http2_floods_are_cut_and_cost_little_memory() {
    if !has(&[Need::Namespaces, Need::Program("curl")]) {
        return;
    }
    let pair = pair();
    // CVE-2023-44487: streams opened and reset at once.
    let mut reset = preface();
    for number in 0..100_000 {
        reset.extend(frame(HEADERS, END_HEADERS | END_STREAM, number * 2 + 1, &request_block()));
        reset.extend(frame(3, 0, number * 2 + 1, &8u32.to_be_bytes()));
    }
    // CVE-2024-27919: a header block that never ends.
    let mut continued = preface();
    continued.extend(frame(HEADERS, 0, 1, &request_block()));
    for number in 0..4_000u32 {
        let mut field = vec![0x00, 8];
        field.extend(format!("x{number:07}").bytes());
        field.push(100);
        field.extend([b'v'; 100]);
        continued.extend(frame(9, 0, 1, &field));
    }
    // RUSTSEC-2026-0258: empty DATA frames without end.
    let mut empty = preface();
    let mut post = vec![0x83, 0x86, 0x84, 0x41, 11];
    post.extend(b"server.prod");
    empty.extend(frame(HEADERS, END_HEADERS, 1, &post));
    for _ in 0..300_000 {
        empty.extend(frame(0, 0, 1, &[]));
    }
    // CVE-2026-47774: one long cookie, then references to it by index.
    let mut amplified = preface();
    let mut block = request_block();
    block.extend([0x60, 0x7f, 0xc1, 0x1e]); // literal with indexing, name 32 (cookie), 4,000 bytes
    block.extend([b'c'; 4_000]);
    block.extend(std::iter::repeat_n(0xbe, 12_000));
    amplified.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, &block[..16_384.min(block.len())]));
    // PING and SETTINGS floods: each demands an answer that nobody reads.
    let mut pings = preface();
    for _ in 0..200_000 {
        pings.extend(frame(6, 0, 0, &[0; 8]));
        pings.extend(frame(4, 0, 0, &[]));
    }
    for (name, bytes) in
        [("reset", reset), ("continued", continued), ("empty", empty), ("amplified", amplified), ("pings", pings)]
    {
        let grown = pair.flood(name, &bytes);
        assert!(grown < 40 * 1024, "{name}: {} bytes grew the proxies by {grown} KiB", bytes.len());
    }
}

#[test]
fn heads_past_the_limits_are_refused() {
    if !has(&[Need::Namespaces, Need::Program("curl")]) {
        return;
    }
    let pair = pair();
    let many = (0..10_000).map(|n| format!("h{n}: x\r\n")).collect::<String>();
    let cases = [
        ("one-long-header", format!("GET / HTTP/1.1\r\nHost: server.prod\r\nx: {}\r\n\r\n", "v".repeat(2_000_000))),
        ("many-headers", format!("GET / HTTP/1.1\r\nHost: server.prod\r\n{many}\r\n")),
        ("long-target", format!("GET /{} HTTP/1.1\r\nHost: server.prod\r\n\r\n", "t".repeat(2_000_000))),
        ("long-host", format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", "h".repeat(70_000))),
    ];
    for (name, text) in cases {
        let file = pair.mesh.path(&format!("scratch/{name}"));
        std::fs::write(&file, &text).unwrap();
        let file = file.display().to_string();
        let reply =
            pair.client.client(&["talk", "--connect", "server.prod:80", "--file", &file, "--timeout-ms", "5000"]);
        let text = reply["text"].as_str().unwrap();
        assert!(!text.contains(" 200 ") && reply["end"] != "timeout", "{name}: {reply}");
        let grown = pair.flood(name, text.as_bytes());
        assert!(grown < 20 * 1024, "{name}: {grown} KiB");
    }
}

#[test]
fn aborted_and_stalled_handshakes_leave_the_listener_alone() {
    if !has(&[Need::Namespaces, Need::Program("curl")]) {
        return;
    }
    let pair = pair();
    let target = format!("{}:8080", pair.server.net().ip);
    // The beginning of a ClientHello of the mesh's own version: a record that promises 512 bytes.
    let hello = "\\u{16}\\u{3}\\u{1}\\u{2}\\0\\u{1}\\0\\u{1}";
    let hello: String = hello
        .replace("\\u{16}", "\u{16}")
        .replace("\\u{3}", "\u{3}")
        .replace("\\u{1}", "\u{1}")
        .replace("\\u{2}", "\u{2}");
    let stop = pair.mesh.path("scratch/stop").display().to_string();
    let mut stalled = pair.outsider.background(
        "stalled",
        &["hold", "--connect", &target, "--count", "500", "--send", &hello, "--stop-file", &stop],
    );
    stalled.wait_for_log("held", Duration::from_secs(30));
    for _ in 0..100 {
        let arguments = ["talk", "--connect", &target, "--send", &hello, "--half-close", "yes", "--timeout-ms", "1000"];
        pair.outsider.client(&arguments);
    }
    let report = pair.client.client(&[
        "load",
        "--url",
        "http://server.prod/",
        "--requests",
        "200",
        "--concurrency",
        "4",
        "--keepalive",
        "no",
    ]);
    assert_eq!(report["failed"], 0, "{report}");
    let open = || {
        let sockets =
            pair.server.command("ss").args(["-Htn", "state", "established", "sport = :8080"]).output().unwrap();
        String::from_utf8_lossy(&sockets.stdout)
            .lines()
            .filter(|l| l.contains(&pair.outsider.net().ip.to_string()))
            .count()
    };
    until("stalled handshakes are closed in time", Duration::from_secs(30), || {
        let left = open();
        if left == 0 { Ok(()) } else { Err(format!("{left} open")) }
    });
    std::fs::write(&stop, "").unwrap();
    stalled.wait(Duration::from_secs(10));
}
