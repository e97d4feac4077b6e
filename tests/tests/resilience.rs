//! Faults: what goes on when the control plane, a proxy or an endpoint is gone, and what a drain loses (nothing).
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use causeway_tests::capability::{Need, has};
use causeway_tests::yaml::Port;
use causeway_tests::{Mesh, Pod, PodSpec, Process, Settings, until};
use serde_json::Value;

const PORTS: &[Port<'_>] =
    &[Port { name: "http", port: 80, target: 8080 }, Port { name: "tcp-push", port: 9000, target: 9000 }];
const URL: &str = "http://server.prod/";

/// A client and as many servers as asked for, the first request through.
struct Stage {
    client: Pod,
    servers: Vec<Pod>,
    mesh: Mesh,
}

fn stage(settings: Settings, servers: usize) -> Stage {
    let mesh = Mesh::start(settings);
    mesh.service("prod", "server", PORTS, &[("app", "server")]);
    let servers: Vec<Pod> = (0..servers)
        .map(|number| {
            let name = format!("server-{number}");
            let mut pod = mesh.pod(PodSpec::new("prod", &name).account("server").label("app", "server"));
            pod.serve_http(&name, 8080);
            pod.app(&["tcp-push", "--name", &name, "--listen", "[::]:9000"]);
            pod
        })
        .collect();
    let client = mesh.pod(PodSpec::new("dev", "client"));
    let stage = Stage { client: client.ready(), servers: servers.into_iter().map(Pod::ready).collect(), mesh };
    let want = stage.servers.len();
    until("every server answers", Duration::from_secs(20), || {
        let report = stage.load("/", &["--requests", "100", "--concurrency", "4"]);
        let answered = report["apps"].as_object().map_or(0, |apps| apps.len());
        if report["failed"] == 0 && answered == want { Ok(()) } else { Err(report.to_string()) }
    });
    stage
}

impl Stage {
    fn load(&self, path: &str, arguments: &[&str]) -> Value {
        let url = format!("http://server.prod{path}");
        self.client.client(&[&["load", "--url", &url], arguments].concat())
    }

    /// Load in the background until [`Self::stop`].
    fn background(&self, concurrency: &str) -> Process {
        let stop = self.mesh.path("scratch/stop").display().to_string();
        let arguments = ["load", "--url", URL, "--concurrency", concurrency, "--stop-file", &stop, "--pause-ms", "5"];
        self.client.background("load", &arguments)
    }

    fn stop(&self, mut load: Process) -> Value {
        std::fs::write(self.mesh.path("scratch/stop"), "").unwrap();
        load.wait(Duration::from_secs(30));
        serde_json::from_str(&load.log()).unwrap_or_else(|e| panic!("{e}: {}", load.log()))
    }

    fn sees_only(&self, server: &str) {
        until(&format!("only {server} answers"), Duration::from_secs(20), || {
            let report = self.load("/", &["--requests", "100", "--concurrency", "4"]);
            let apps = report["apps"].as_object().unwrap();
            if apps.len() == 1 && apps.contains_key(server) { Ok(()) } else { Err(report.to_string()) }
        });
    }
}

fn needs() -> bool {
    has(&[Need::Namespaces, Need::Program("curl")])
}

#[test]
fn traffic_goes_on_without_a_control_plane_and_so_does_a_restarted_proxy() {
    if !needs() {
        return;
    }
    let mut stage = stage(Settings::default(), 2);
    let pushed = stage.client.client(&["talk", "--connect", "server.prod:9000", "--until", "1"]);
    assert!(pushed["bytes"].as_u64() > Some(0), "{pushed}");
    let load = stage.background("4");
    stage.mesh.kill_control_plane();
    let report = stage.load("/", &["--seconds", "5", "--concurrency", "4"]);
    assert_eq!(report["failed"], 0, "{report}");
    let report = stage.stop(load);
    assert_eq!(report["failed"], 0, "{report}");

    for _ in 0..2 {
        stage.client.proxy_mut().kill();
        let refused = stage.client.curl(&["-m", "3", URL]);
        assert_eq!(refused.status, 0, "with no proxy nothing passes: {refused:?}");
        stage.client.start_proxy();
        stage.client.wait_ready();
        let report = stage.load("/", &["--requests", "200", "--concurrency", "4"]);
        assert_eq!(report["failed"], 0, "{report}");
    }
    stage.servers[0].proxy_mut().kill();
    stage.servers[0].start_proxy();
    stage.servers[0].wait_ready();
    until("the restarted server proxy serves", Duration::from_secs(20), || {
        let report = stage.load("/", &["--requests", "100", "--concurrency", "4"]);
        let both = report["apps"].as_object().unwrap().len() == 2;
        if both && report["failed"] == 0 { Ok(()) } else { Err(report.to_string()) }
    });
    let pushed = stage.client.client(&["talk", "--connect", "server.prod:9000", "--until", "1"]);
    assert!(pushed["bytes"].as_u64() > Some(0), "{pushed}");

    // When it comes back, everybody connects again and changes arrive.
    stage.mesh.start_control_plane();
    stage.mesh.forget(&stage.servers[1]);
    stage.sees_only("server-0");
}

#[test]
fn a_killed_endpoint_costs_at_most_what_was_in_flight() {
    if !needs() {
        return;
    }
    let mut stage = stage(Settings::default(), 2);
    let load = stage.background("8");
    let dead = stage.servers.pop().unwrap();
    until("the load runs", Duration::from_secs(10), || {
        let requests = stage.client.metric("istio_requests_total", &[]);
        if requests > 300.0 { Ok(()) } else { Err(requests.to_string()) }
    });
    let mut dead = dead;
    dead.proxy_mut().kill();
    let report = stage.load("/", &["--seconds", "3", "--concurrency", "4"]);
    assert_eq!(report["failed"], 0, "connections that were never made lose nothing: {report}");
    let report = stage.stop(load);
    assert!(report["failed"].as_u64() <= Some(8), "{report}");
}

#[test]
fn requests_that_come_one_at_a_time_outlive_proxies_that_end() {
    if !needs() {
        return;
    }
    let mut stage = stage(Settings::default(), 2);
    // Else an endpoint that was just gone is left alone for a while.
    stage.mesh.write(
        "rule.yaml",
        "apiVersion: causeway.dev/v1alpha1\nkind: DestinationRule\nmetadata: {name: server, namespace: prod}\nspec: {host: \
         server, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}\n",
    );
    let load = stage.background("1");
    for number in [0, 1, 0, 1] {
        for is_orderly in [true, false] {
            let served = |stage: &Stage| stage.servers[number].metric("istio_requests_total", &[]);
            let before = served(&stage);
            if is_orderly {
                // It is asked on and on, and closes each connection behind its answer.
                stage.servers[number].proxy().signal("TERM");
            }
            until("it serves", Duration::from_secs(30), || {
                let requests = served(&stage) - before;
                if requests > 20.0 { Ok(()) } else { Err(requests.to_string()) }
            });
            stage.servers[number].proxy_mut().kill();
            stage.servers[number].start_proxy();
            stage.servers[number].wait_ready();
        }
    }
    let report = stage.stop(load);
    assert_eq!(report["failed"], 0, "{report}");
}

#[test]
fn renewed_certificates_cost_no_request_and_no_connection() {
    if !needs() {
        return;
    }
    let stage = stage(Settings::default().control_plane(&["--leaf-ttl", "20s"]), 1);
    let serial = |pod: &Pod| {
        let certs = pod.proxy_admin(&[], "/certs").json();
        certs["serial"].as_str().unwrap().to_owned()
    };
    let server = serial(&stage.servers[0]);
    let load = stage.background("4");
    let long = stage.client.background("talk", &["talk", "--connect", "server.prod:9000", "--timeout-ms", "3000"]);
    let mut changes = 0;
    let mut last = serial(&stage.client);
    until("three renewals and more than two lives", Duration::from_secs(90), || {
        let now = serial(&stage.client);
        changes += usize::from(now != last);
        last = now;
        if changes >= 3 { Ok(()) } else { Err(format!("{changes} renewals")) }
    });
    assert_ne!(serial(&stage.servers[0]), server);
    assert!(
        std::path::Path::new(&format!("/proc/{}", long.pid())).exists(),
        "the long connection lives: {}",
        long.log()
    );
    let report = stage.stop(load);
    assert_eq!(report["failed"], 0, "{report}");
}

#[test]
fn after_their_certificates_expire_proxies_make_no_new_connection_and_then_recover() {
    if !needs() {
        return;
    }
    let mut stage = stage(Settings::default().control_plane(&["--leaf-ttl", "15s"]), 1);
    // Every TCP connection is a handshake of its own.
    let bytes = |stage: &Stage| {
        let talk = ["talk", "--connect", "server.prod:9000", "--until", "1", "--timeout-ms", "5000"];
        stage.client.client(&talk)["bytes"].as_u64().unwrap()
    };
    until("bytes flow", Duration::from_secs(20), || if bytes(&stage) > 0 { Ok(()) } else { Err("none".to_owned()) });
    stage.mesh.kill_control_plane();
    until("no handshake succeeds", Duration::from_secs(45), || {
        if bytes(&stage) == 0 { Ok(()) } else { Err("bytes flow".to_owned()) }
    });
    for _ in 0..5 {
        assert_eq!(bytes(&stage), 0, "it stays closed");
    }
    // Either side's end closes the way; what follows is about the client's own certificate, which may be the younger one.
    until("the client's certificate has ended too", Duration::from_secs(20), || {
        if stage.client.health("/ready").code == Some(0) { Err("still ready".to_owned()) } else { Ok(()) }
    });
    stage.client.proxy_mut().kill();
    stage.client.start_proxy();
    until("a restarted proxy is alive", Duration::from_secs(10), || {
        if stage.client.health("/live").code == Some(0) { Ok(()) } else { Err("dead".to_owned()) }
    });
    assert_ne!(stage.client.health("/ready").code, Some(0), "with an expired certificate it is not ready");
    stage.mesh.start_control_plane();
    until("it recovers", Duration::from_secs(40), || {
        let reply = stage.client.curl(&["-m", "5", URL]);
        if reply.status == 200 && bytes(&stage) > 0 { Ok(()) } else { Err(format!("{reply:?}")) }
    });
}

#[test]
fn a_drain_loses_nothing_and_ends_when_idle() {
    if !needs() {
        return;
    }
    let mut stage = stage(Settings::default(), 2);
    let load = stage.background("8");
    let mut leaving = stage.servers.pop().unwrap();
    let slow = stage.client.background(
        "slow",
        &["load", "--url", "http://server.prod/slow/2500", "--requests", "8", "--concurrency", "8"],
    );
    until("slow requests are in flight", Duration::from_secs(10), || {
        let requests = stage.client.metric("istio_requests_total", &[]);
        if requests > 200.0 { Ok(()) } else { Err(requests.to_string()) }
    });
    stage.mesh.forget(&leaving); // what Kubernetes does at the same time
    leaving.proxy().signal("TERM");
    until("readiness goes off", Duration::from_secs(5), || {
        let answer = leaving.health("/ready");
        if answer.code == Some(0) { Err(answer.stdout) } else { Ok(()) }
    });
    let status = leaving.proxy_mut().wait(Duration::from_secs(40));
    assert!(status.success(), "{status}");
    let mut slow = slow;
    slow.wait(Duration::from_secs(20));
    let report: Value = serde_json::from_str(&slow.log()).unwrap();
    assert_eq!(report["failed"], 0, "slow: {report}");
    let report = stage.stop(load);
    assert_eq!(report["failed"], 0, "{report}");
    stage.sees_only("server-0");
}

#[test]
fn the_outbound_side_drains_too_and_a_second_signal_aborts() {
    if !needs() {
        return;
    }
    let mut stage = stage(Settings::default(), 1);
    let mut slow = stage.client.background(
        "slow",
        &["load", "--url", "http://server.prod/slow/2000", "--requests", "4", "--concurrency", "4"],
    );
    let in_flight = |stage: &Stage| {
        // The application has the connection of the inbound proxy once a request is under way.
        let sockets =
            stage.client.command("ss").args(["-Htn", "state", "established", "dport = :80"]).output().unwrap();
        String::from_utf8_lossy(&sockets.stdout).lines().count()
    };
    until("requests are in flight", Duration::from_secs(10), || {
        let open = in_flight(&stage);
        if open >= 4 { Ok(()) } else { Err(open.to_string()) }
    });
    stage.client.proxy().signal("TERM");
    slow.wait(Duration::from_secs(20));
    let report: Value = serde_json::from_str(&slow.log()).unwrap();
    assert_eq!(report["failed"], 0, "{report}");
    assert!(stage.client.proxy_mut().wait(Duration::from_secs(20)).success());

    stage.client.start_proxy();
    stage.client.wait_ready();
    let slow = stage.client.background(
        "slower",
        &["load", "--url", "http://server.prod/slow/30000", "--requests", "1", "--timeout-ms", "40000"],
    );
    until("a request is in flight", Duration::from_secs(10), || {
        let open = in_flight(&stage);
        if open >= 1 { Ok(()) } else { Err(open.to_string()) }
    });
    stage.client.proxy().signal("TERM");
    until("it drains", Duration::from_secs(5), || {
        if stage.client.health("/ready").code == Some(0) { Err("ready".to_owned()) } else { Ok(()) }
    });
    assert!(stage.client.proxy_mut().is_alive(), "a request is still open");
    stage.client.proxy().signal("TERM");
    stage.client.proxy_mut().wait(Duration::from_secs(3));
    drop(slow);
}

const HALF_A_HEAD: &str = "GET / HTTP/1.1\\r\\nHost: server.prod\\r\\nx-slow: ";

#[test]
fn a_flood_past_the_descriptor_limit_neither_spins_nor_kills() {
    if !needs() {
        return;
    }
    let mesh = Mesh::start(Settings::default());
    mesh.service("prod", "server", PORTS, &[("app", "server")]);
    let mut server = mesh.pod(PodSpec::new("prod", "server").descriptors(256));
    server.serve_http("server", 8080);
    let client = mesh.pod(PodSpec::new("dev", "client").descriptors(256)).ready();
    let outsider = mesh.pod(PodSpec::new("dev", "outsider").unmeshed());
    server.wait_ready();
    let works = |what: &str| {
        until(what, Duration::from_secs(40), || {
            let reply = client.curl(&["-m", "5", URL]);
            if reply.status == 200 { Ok(()) } else { Err(format!("{reply:?}")) }
        });
    };
    works("it works before");
    let target = format!("{}:8080", server.net().ip);
    for (flooder, connect, proxy) in
        [(&client, "server.prod:80", client.proxy()), (&outsider, target.as_str(), server.proxy())]
    {
        let stop = mesh.path("scratch").join(format!("stop-{}", flooder.net().name())).display().to_string();
        let arguments = ["hold", "--connect", connect, "--count", "2000", "--send", HALF_A_HEAD, "--stop-file", &stop];
        let mut flood = flooder.background("flood", &arguments);
        flood.wait_for_log("held", Duration::from_secs(60));
        let share = proxy.cpu_share(Duration::from_secs(3));
        assert!(share < 0.3, "{} uses {share:.2} of a core while full", proxy.name);
        assert!(proxy.rss_kib() < 200 * 1024, "{} KiB", proxy.rss_kib());
        std::fs::write(&stop, "").unwrap();
        flood.wait(Duration::from_secs(20));
        works("it works again");
    }
}

#[test]
fn memory_stays_bounded_under_slow_clients_and_slow_readers() {
    if !needs() {
        return;
    }
    let stage = stage(Settings::default(), 1);
    let (client, server) = (stage.client.proxy(), stage.servers[0].proxy());
    let stop = |name: &str| stage.mesh.path(&format!("scratch/stop-{name}")).display().to_string();

    let before = client.rss_kib();
    let file = stop("heads");
    let arguments = [
        "hold",
        "--connect",
        "server.prod:80",
        "--count",
        "2000",
        "--send",
        HALF_A_HEAD,
        "--drip-ms",
        "500",
        "--stop-file",
        &file,
    ];
    let mut slow = stage.client.background("heads", &arguments);
    slow.wait_for_log("held", Duration::from_secs(60));
    let after = client.rss_kib();
    assert!(after < before + 100 * 1024, "2,000 half-sent heads: {before} -> {after} KiB");
    let report = stage.load("/", &["--requests", "100", "--concurrency", "4"]);
    assert_eq!(report["failed"], 0, "others are served meanwhile: {report}");
    std::fs::write(&file, "").unwrap();
    slow.wait(Duration::from_secs(20));

    let before = (client.rss_kib(), server.rss_kib());
    let file = stop("readers");
    let request = "GET /chunked/1000000000 HTTP/1.1\\r\\nHost: server.prod\\r\\n\\r\\n";
    let arguments = ["hold", "--connect", "server.prod:80", "--count", "20", "--send", request, "--stop-file", &file];
    let mut slow = stage.client.background("readers", &arguments);
    slow.wait_for_log("held", Duration::from_secs(60));
    let mut last = 0;
    until("the proxies stand still", Duration::from_secs(30), || {
        let now = client.rss_kib() + server.rss_kib();
        let still = now.abs_diff(last) < 64;
        last = now;
        std::thread::sleep(Duration::from_millis(500));
        if still { Ok(()) } else { Err(format!("{} + {} KiB, before {before:?}", client.rss_kib(), server.rss_kib())) }
    });
    let after = (client.rss_kib(), server.rss_kib());
    assert!(
        after.0 < before.0 + 64 * 1024 && after.1 < before.1 + 64 * 1024,
        "20 stalled readers: {before:?} -> {after:?} KiB"
    );
    std::fs::write(&file, "").unwrap();
    slow.wait(Duration::from_secs(20));
}

#[test]
fn metrics_do_not_grow_with_what_clients_make_up() {
    if !needs() {
        return;
    }
    let stage = stage(Settings::default(), 1);
    let made_up = |requests: &str| {
        let arguments = [
            "--requests",
            requests,
            "--concurrency",
            "16",
            "--header",
            "host:h{n}.example.com",
            "--header",
            "x-path:{n}",
        ];
        stage.load("/status/200", &arguments)
    };
    made_up("2000");
    let size = |pod: &Pod| pod.health("/metrics").ok().len();
    let before = (size(&stage.client), size(&stage.servers[0]), stage.client.proxy().rss_kib());
    made_up("20000");
    let after = (size(&stage.client), size(&stage.servers[0]), stage.client.proxy().rss_kib());
    assert!(after.0 < before.0 + 4096 && after.1 < before.1 + 4096, "bytes of metrics: {before:?} -> {after:?}");
    assert!(after.2 < before.2 + 20 * 1024, "KiB of the client's proxy: {before:?} -> {after:?}");
}
