//! The exams of others, sat by a pair of proxies: h2spec for HTTP/2's frames, and gRPC's own interop programs.
//!
//! Both count what they ran: a case that goes missing fails like one that is failed.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use causeway_tests::capability::{Need, has};
use causeway_tests::mesh::Cluster;
use causeway_tests::process::run;
use causeway_tests::yaml::Port;
use causeway_tests::{Mesh, Pod, PodSpec, Settings, exams, until};

const PORTS: &[Port<'_>] = &[
    Port { name: "http", port: 80, target: 8080 },
    Port { name: "http2", port: 81, target: 8080 },
    Port { name: "undeclared", port: 82, target: 8080 },
    Port { name: "grpc", port: 50051, target: 50051 },
];

/// Cases that need an account of somebody's cloud.
const ELSEWHERE: [&str; 7] = [
    "compute_engine_creds",
    "service_account_creds",
    "jwt_token_creds",
    "per_rpc_creds",
    "oauth2_auth_token",
    "google_default_credentials",
    "compute_engine_channel_credentials",
];

/// Its server does not say who it is (`got empty server ID`, with no proxy between as well).
const UNANSWERED: [&str; 1] = ["pick_first_unary"];

/// What the client of grpc-go 1.85 knows and its `--help` does not say.
const UNSAID: [&str; 2] = ["rpc_soak", "channel_soak"];

fn needs() -> bool {
    has(&[Need::Namespaces, Need::Program("curl"), Need::Exams])
}

fn pair() -> (Pod, Pod, Cluster, Mesh) {
    let mesh = Mesh::start(Settings::default());
    let cluster = mesh.service("prod", "server", PORTS, &[("app", "server")]);
    let mut server = mesh.pod(PodSpec::new("prod", "server"));
    server.serve_http("server", 8080);
    let (client, server) = (mesh.pod(PodSpec::new("dev", "client")).ready(), server.ready());
    for port in [80, 81, 82] {
        until("the first request goes through", Duration::from_secs(20), || {
            let reply = client.curl(&["--http2-prior-knowledge", &format!("http://server.prod:{port}/")]);
            if reply.status == 200 { Ok(()) } else { Err(format!("{reply:?}")) }
        });
    }
    (client, server, cluster, mesh)
}

/// The numbers of `145 tests, 144 passed, 1 skipped, 0 failed`.
fn totals(output: &str) -> Vec<u32> {
    let last = output.lines().rev().find(|l| l.contains(" tests, ")).unwrap_or_default();
    last.split(", ").filter_map(|part| part.split(' ').next()?.parse().ok()).collect()
}

#[test]
fn h2spec_passes_whatever_the_port_declares() {
    if !needs() {
        return;
    }
    let (client, _server, _, _mesh) = pair();
    // An HTTP/1.1 answer to what is no HTTP at all is right where HTTP/1.1 is declared, and where the application gives it.
    for (port, failed) in [("80", 1), ("81", 0), ("82", 1)] {
        let mut command = client.command(exams::program("h2spec").to_str().unwrap());
        let output = run(command.args(["-h", "server.prod", "-p", port, "-o", "5", "-S"])).stdout;
        let (run, failures) = (totals(&output), output.split("Failures:").nth(1).unwrap_or(&output));
        println!("port {port}: {run:?} of cases, passed, skipped, failed");
        assert!(run[0] >= 145 && run[2] == 0 && run[3] <= failed, "port {port}: {run:?}\n{failures}");
        assert!(run[3] == 0 || failures.contains("2: Sends invalid connection preface"), "port {port}: {failures}");
    }
}

/// Every case that the client's own help names, and those that it forgets, but for other people's clouds.
fn cases(client: &Pod) -> BTreeSet<String> {
    let mut command = client.command(exams::program("grpc-interop-client").to_str().unwrap());
    let help = run(command.arg("--help")).stderr;
    let (_, list) = help.split_once("Valid options are:").unwrap();
    let said = list.lines().filter_map(|line| line.trim().split_once(" : ").or(line.trim().split_once(": ")));
    let said = said.map(|(name, _)| name.trim().to_owned()).filter(|name| !name.contains(' '));
    let all: BTreeSet<String> = said.chain(UNSAID.map(str::to_owned)).collect();
    all.into_iter().filter(|name| !ELSEWHERE.contains(&name.as_str()) && !UNANSWERED.contains(&name.as_str())).collect()
}

#[test]
fn every_interop_case_of_grpc_passes() {
    if !needs() {
        return;
    }
    let (client, mut server, cluster, _mesh) = pair();
    let mut command = server.command(exams::program("grpc-interop-server").to_str().unwrap());
    server.spawn(command.arg("--port=50051"));
    let cases = cases(&client);
    assert!(cases.len() >= 18, "the list of cases has shrunk: {cases:?}");
    let sit = |case: &str| {
        let mut command = client.command("timeout");
        let program = exams::program("grpc-interop-client");
        // By address: the client would ask a DNS server that is not there for its service config, for 20 s.
        let (host, case) = (format!("--server_host={}", cluster.ip), format!("--test_case={case}"));
        command.args(["60", program.to_str().unwrap(), &host, "--server_port=50051", &case]);
        if case.contains("orca") {
            // What has the client read load reports (gRPC's interop-test-descriptions.md).
            let balancer = r#"{"loadBalancingConfig":[{"test_backend_metrics_load_balancer":{}}]}"#;
            command.arg(format!("--service_config_json={balancer}"));
        }
        run(command.arg("--soak_overall_timeout_seconds=30"))
    };
    until("the interop server answers", Duration::from_secs(20), || {
        let output = sit("empty_unary");
        if output.code == Some(0) { Ok(()) } else { Err(output.stderr) }
    });
    let mut failures = String::new();
    for case in &cases {
        let output = sit(case);
        if output.code != Some(0) {
            let _ = writeln!(failures, "== {case}: {:?}\n{}{}", output.code, output.stdout, output.stderr);
        }
    }
    println!("{} cases: {cases:?}", cases.len());
    assert!(failures.is_empty(), "{failures}");
    assert!(client.metric("istio_requests_total", &["grpc"]) >= cases.len() as f64, "the cases went through the mesh");
}
