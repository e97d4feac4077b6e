//! What a DestinationRule says of retries at once and of idle connections, seen from outside of the proxy: by the
//! application that counts tries, and by the kernel that keeps connections alive.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a suite")]

#[path = "balancing/stage.rs"]
#[allow(dead_code, reason = "the other suites use more of it")]
mod stage;

use std::time::Duration;

use causeway_tests::capability::{Need, has};
use causeway_tests::pod::Reply;
use causeway_tests::process::run;
use causeway_tests::yaml::Port;
use causeway_tests::{Mesh, Pod, PodSpec, Settings, until};
use stage::{LIMIT, Stage, can_run};

const BACKEND: &str = "server.prod:80";

#[test]
fn no_more_than_so_many_retries_are_under_way() {
    if !can_run() {
        return;
    }
    let stage = Stage::set(&[("", &[])]);
    // A try lasts so long that all first ones have ended before a second one has.
    stage.mesh.write(
        "routes.yaml",
        "apiVersion: causeway.dev/v1alpha1\nkind: VirtualService\nmetadata: {name: server, namespace: prod}\nspec:\n  hosts: \
         [server]\n  http:\n  - route: [{destination: {host: server}}]\n    headers: {response: {set: {x-routed: 'yes'}}}\n    \
         retries: {attempts: 1, retryOn: reset, perTryTimeout: 2s, backoff: 1ms}\n",
    );
    until("the route is in force", LIMIT, || {
        let reply = stage.client.curl(&["http://server.prod/"]);
        if reply.header("x-routed") == "yes" { Ok(()) } else { Err(format!("{reply:?}")) }
    });
    let rule = |number: u32, limit: &str| {
        let policy = format!(
            "{{retryBudget: {{percent: 100, minRetryConcurrency: 100}}, connectionPool: {{http: {{http2MaxRequests: \
             {number}, {limit}}}}}}}"
        );
        stage.rule(&policy, |b| b["limits"]["requests"] == number);
    };
    rule(1001, "maxRetries: 3");
    assert_eq!(stage.backend(BACKEND)["limits"]["retries"], 3);
    assert_eq!(of_ten(&stage, "few"), [10 + 3, 3, 7, 7]);
    stage.comes(BACKEND, |b| b["in_use"]["retries"] == 0);
    // What they gave back is there again; one at a time is never too many.
    let alone = stage.load("/flaky/1/hang", &["--requests", "2", "--header", "x-key: alone"]);
    assert_eq!((&alone["failed"], &alone["statuses"]["200"]), (&0.into(), &2.into()), "{alone}");
    rule(1002, "");
    assert_eq!(of_ten(&stage, "all"), [20, 10, 0, 0]);
}

/// Ten requests at once that are never answered: what the application got, retries that were sent and that were not, and
/// how often the limit was met.
fn of_ten(stage: &Stage, key: &str) -> [u64; 4] {
    let counted = || {
        let retries = |outcome: &str| stage.client.metric("causeway_retries_total", &[outcome]) as u64;
        let met = stage.client.metric("causeway_circuit_open_total", &["limit=\"retries\"", BACKEND]) as u64;
        [retries("sent"), retries("no_budget"), met]
    };
    let before = counted();
    let header = format!("x-key: {key}");
    let report = stage.load("/flaky/1000000/hang", &["--requests", "10", "--concurrency", "10", "--header", &header]);
    assert_eq!(report["statuses"]["504"], 10, "the last try's answer stands: {report}");
    let after = counted();
    let url = format!("http://127.0.0.1:8080/tally/{key}");
    let tally = Reply::of(&mut stage.servers[0].net().command("curl"), &[&url]).json();
    let tries = u64::try_from(tally.as_array().unwrap().len()).unwrap();
    [tries, after[0] - before[0], after[1] - before[1], after[2] - before[2]]
}

/// Ports for HTTP and for bytes whose connections are kept alive for long, for a short time, and as nobody says.
const PORTS: [Port<'_>; 4] = [
    Port { name: "http", port: 80, target: 8080 },
    Port { name: "tcp-long", port: 7000, target: 7000 },
    Port { name: "tcp-short", port: 7001, target: 7001 },
    Port { name: "tcp-plain", port: 7002, target: 7002 },
];

/// A Service with one server, in the mesh or outside of it. The rule is there first, so that no connection is older.
fn server(mesh: &Mesh, name: &str) -> Pod {
    let keepalive = [
        (80, "{time: 99s, interval: 7s, probes: 4}"),
        (7000, "{time: 99s, interval: 7s, probes: 4}"),
        (7001, "{time: 2s, interval: 1s, probes: 2}"),
    ];
    let port = |(port, keepalive): &(u16, &str)| {
        format!("{{port: {{number: {port}}}, connectionPool: {{tcp: {{tcpKeepalive: {keepalive}}}}}}}")
    };
    let text = format!(
        "apiVersion: causeway.dev/v1alpha1\nkind: DestinationRule\nmetadata: {{name: {name}, namespace: prod}}\nspec:\n  host: \
         {name}\n  trafficPolicy: {{portLevelSettings: [{}]}}\n",
        keepalive.iter().map(port).collect::<Vec<_>>().join(", ")
    );
    mesh.write(&format!("rule-{name}.yaml"), &text);
    mesh.service("prod", name, &PORTS, &[("app", name)]);
    let spec = PodSpec::new("prod", name);
    let mut pod = mesh.pod(if name == "plain" { spec.unmeshed() } else { spec });
    pod.serve_http(name, 8080);
    let listen = ["--listen", "[::]:7000", "--listen", "[::]:7001", "--listen", "[::]:7002"];
    pod.app(&[&["tcp-echo"], &listen[..]].concat());
    pod.ready()
}

/// Waits until the kernel has a connection of the client's proxy to `port` of the server, whose next probe is as `is` says.
fn probed(client: &Pod, server: &Pod, port: u16, is: impl Fn(&str) -> bool) {
    let filter = format!("dst {} and dport = :{port}", server.net().ip);
    until(&format!("the kernel keeps the connection to {filter} alive"), LIMIT, || {
        let sockets = run(client.command("ss").args(["-Htno", "state", "established", &filter])).ok();
        let timer = sockets.lines().filter_map(|l| l.split_once("timer:(keepalive,")).map(|(_, timer)| timer);
        let timers: Vec<&str> = timer.filter_map(|t| t.split(',').next()).collect();
        if !timers.is_empty() && timers.iter().all(|t| is(t)) { Ok(()) } else { Err(sockets) }
    });
}

#[test]
fn idle_connections_are_probed_as_the_rule_says() {
    if !has(&[Need::Namespaces, Need::Program("curl"), Need::Program("ss")]) {
        return;
    }
    let mesh = Mesh::start(Settings::default());
    let servers = ["meshed", "plain"].map(|name| (name, server(&mesh, name)));
    let client = mesh.pod(PodSpec::new("dev", "client")).ready();
    let mut held = Vec::new();
    for (name, server) in &servers {
        until("the server answers", LIMIT, || {
            let reply = client.curl(&[&format!("http://{name}.prod/")]);
            if reply.header("x-app") == *name { Ok(()) } else { Err(format!("{reply:?}")) }
        });
        for port in [7000, 7001, 7002] {
            let target = format!("{name}.prod:{port}");
            let talk = ["talk", "--connect", &target, "--send", "hello\\n", "--timeout-ms", "60000"];
            held.push((port, client.background(&format!("{name}-{port}"), &talk)));
        }
        // More than a minute, as written; else at most the 15 s that every connection of the proxy has.
        let is_long = |timer: &str| timer.starts_with("1min");
        probed(&client, server, 8080, is_long);
        probed(&client, server, 7000, is_long);
        probed(&client, server, 7001, |timer| {
            !timer.contains("min") && !timer.starts_with("1") || timer.contains("ms")
        });
        probed(&client, server, 7002, |timer| timer.starts_with('1') && !timer.contains("min"));
    }

    // Machines that are cut off: after 2 s of silence and two probes their connections are closed, and no others.
    for (_, server) in &servers {
        run(server.command("ip").args(["link", "set", "eth0", "down"])).ok();
    }
    for (_, process) in held.iter_mut().filter(|(port, _)| *port == 7001) {
        process.wait(Duration::from_secs(11));
        let report: serde_json::Value = serde_json::from_str(&process.log()).unwrap();
        assert!(report["text"] == "hello\n" && report["end"] != "timeout", "{report}");
    }
    for (port, process) in held.iter_mut().filter(|(port, _)| *port != 7001) {
        assert!(process.is_alive(), "{port}: {}", process.log());
    }
}
