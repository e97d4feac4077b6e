//! What an application never saw is served elsewhere, what outlived its certificate is made anew; and what a proxy needs
//! of its pod before it calls itself ready.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::time::Duration;

use causeway_tests::capability::{Need, has};
use causeway_tests::process::run;
use causeway_tests::yaml::{self, Port};
use causeway_tests::{Mesh, Pod, PodSpec, Process, Settings, until};

const PORTS: &[Port<'_>] = &[Port { name: "http", port: 80, target: 8080 }];

fn needs() -> bool {
    has(&[Need::Namespaces, Need::Program("curl"), Need::Program("nft")])
}

fn server(mesh: &Mesh, number: usize) -> Pod {
    let name = format!("server-{number}");
    let mut pod = mesh.pod(PodSpec::new("prod", &name).account("server").label("app", "server"));
    pod.serve_http(&name, 8080);
    pod
}

#[test]
fn an_application_that_is_gone_costs_no_request_while_another_one_is_there() {
    if !needs() {
        return;
    }
    let mesh = Mesh::start(Settings::default());
    mesh.service("prod", "server", PORTS, &[("app", "server")]);
    let mut servers: Vec<Pod> = (0..3).map(|number| server(&mesh, number).ready()).collect();
    let client = mesh.pod(PodSpec::new("dev", "client")).ready();
    let load = |requests: &str, concurrency: &str| {
        let how = ["--requests", requests, "--concurrency", concurrency];
        client.client(&[&["load", "--url", "http://server.prod/"], &how[..]].concat())
    };
    until("every server answers", Duration::from_secs(20), || {
        let report = load("100", "4");
        let answered = report["apps"].as_object().map_or(0, |apps| apps.len());
        if report["failed"] == 0 && answered == 3 { Ok(()) } else { Err(report.to_string()) }
    });

    // They stay listed as ready, as endpoints do for a moment after their pod began to end.
    // One at a time, which takes another way between the proxies than several at once.
    servers[1].stop_apps();
    let report = load("200", "1");
    let by_the_first = report["apps"]["server-0"].as_u64().unwrap_or_default();
    assert!(report["failed"] == 0 && (50..150).contains(&by_the_first), "{report}");
    servers[2].stop_apps();
    let report = load("400", "4");
    assert_eq!((&report["failed"], &report["apps"]["server-0"]), (&0.into(), &400.into()), "{report}");

    let body = client.path("body");
    std::fs::write(&body, "x".repeat(60_000)).unwrap();
    let data = format!("@{}", body.display());
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        for _ in 0..15 {
            let reply = client.curl(&[version, "--data-binary", &data, "http://server.prod/sum"]);
            assert_eq!(reply.status, 200, "{reply:?}");
            assert_eq!(reply.json()["length"], 60_000, "{reply:?}");
            let chunked = ["-H", "transfer-encoding: chunked", "--data-binary", &data, "http://server.prod/sum"];
            let reply = client.curl(&[&[version], &chunked[if version == "--http1.1" { 0 } else { 2 }..]].concat());
            assert_eq!((reply.status, &reply.json()["length"]), (200, &60_000.into()), "{reply:?}");
        }
    }

    servers[0].stop_apps();
    let reply = client.curl(&["http://server.prod/"]);
    assert_eq!((reply.status, reply.code()), (503, "connect_failed"), "{reply:?}");
}

#[test]
fn requests_that_wait_for_one_connection_fail_over_together() {
    if !needs() {
        return;
    }
    let mesh = Mesh::start(Settings::default());
    mesh.service("prod", "server", PORTS, &[("app", "server")]);
    let servers: Vec<Pod> = (0..2).map(|number| server(&mesh, number).ready()).collect();
    // A machine that is cut off, as it is listed for a while: what is sent there is never answered.
    run(servers[1].command("ip").args(["link", "set", "eth0", "down"])).ok();
    let client = mesh.pod(PodSpec::new("dev", "client")).ready();
    let arguments = ["load", "--url", "http://server.prod/", "--requests", "64", "--concurrency", "16"];
    until("half of the first requests go to the machine that is cut off", Duration::from_secs(60), || {
        let report = client.client(&arguments);
        assert_eq!(report["failed"], 0, "{report}");
        // One attempt to connect takes 2 s; each of these once waited for those before it to fail on their own.
        let longest = report["micros"]["max"].as_u64().unwrap();
        assert!(longest < 3_900_000, "{report}");
        if longest > 1_900_000 { Ok(()) } else { Err(report.to_string()) }
    });
}

#[test]
fn a_machine_that_falls_silent_is_given_up_and_what_was_sent_there_goes_elsewhere() {
    if !needs() {
        return;
    }
    let mesh = Mesh::start(Settings::default());
    mesh.service("prod", "server", PORTS, &[("app", "server")]);
    let servers: Vec<Pod> = (0..2).map(|number| server(&mesh, number).ready()).collect();
    let client = mesh.pod(PodSpec::new("dev", "client")).ready();
    // One after the other, so that each has a connection to itself.
    let load = |requests: &str, concurrency: &str| {
        let url = "http://server.prod/";
        let how = ["--requests", requests, "--concurrency", concurrency, "--timeout-ms", "60000"];
        client.client(&[&["load", "--url", url], &how[..]].concat())
    };
    until("both servers answer", Duration::from_secs(20), || {
        let report = load("50", "1");
        let answered = report["apps"].as_object().map_or(0, |apps| apps.len());
        if report["failed"] == 0 && answered == 2 { Ok(()) } else { Err(report.to_string()) }
    });
    run(servers[1].command("ip").args(["link", "set", "eth0", "down"])).ok();
    // The kernel sent again what nobody acknowledged for a quarter of an hour.
    let report = load("8", "4");
    assert_eq!((&report["failed"], &report["apps"]["server-0"]), (&0.into(), &8.into()), "{report}");
}

/// A load that goes on until [`finish`], once `server` has answered more than `answers` of its requests.
fn load_on(mesh: &Mesh, client: &Pod, server: &mut Pod, url: &str, concurrency: &str, answers: usize) -> Process {
    let stop = stop_file(mesh);
    let load = ["load", "--url", url, "--stop-file", &stop, "--pause-ms", "5", "--concurrency", concurrency];
    let load = client.background("load", &load);
    until("the load is under way", Duration::from_secs(20), || {
        let answered = server.proxy().log().matches("\"status\":200").count();
        if answered > answers { Ok(()) } else { Err(format!("{answered} requests were answered")) }
    });
    load
}

fn stop_file(mesh: &Mesh) -> String {
    mesh.path("scratch/stop").display().to_string()
}

/// Ends a load; what it says.
fn finish(mesh: &Mesh, mut load: Process) -> serde_json::Value {
    std::fs::write(stop_file(mesh), "").unwrap();
    load.wait(Duration::from_secs(30));
    serde_json::from_str(&load.log()).unwrap()
}

/// A first change, after which the directory is looked at more often.
fn change_something(mesh: &Mesh, client: &Pod) {
    let other = mesh.service("prod", "other", PORTS, &[("app", "other")]);
    let other = format!("http://{}/", other.ip);
    until("the other Service is known", Duration::from_secs(20), || {
        let reply = client.curl(&[&other]);
        if reply.code() == "no_endpoints" { Ok(()) } else { Err(format!("{reply:?}")) }
    });
}

#[test]
fn the_successor_of_the_only_endpoint_is_waited_for() {
    if !needs() {
        return;
    }
    let mesh = Mesh::start(Settings::default());
    let cluster = mesh.service("prod", "server", PORTS, &[("app", "server")]);
    let mut old = mesh.pod(PodSpec::new("prod", "server-0").account("server").label("app", "server"));
    // Nearly always it has a request when it is killed, on a connection that it kept.
    old.app(&["http", "--name", "server-0", "--listen", "[::]:8080", "--delay-ms", "50"]);
    let mut old = old.ready();
    let mut new = mesh.pod(PodSpec::new("prod", "server-1").account("server").label("app", "successor"));
    new.serve_http("server-1", 8080);
    let _new = new.ready();
    let client = mesh.pod(PodSpec::new("dev", "client")).ready();
    until("the old one answers", Duration::from_secs(20), || {
        let reply = client.curl(&["http://server.prod/"]);
        if reply.status == 200 { Ok(()) } else { Err(format!("{reply:?}")) }
    });

    let load = load_on(&mesh, &client, &mut old, "http://server.prod/", "1", 2);
    change_something(&mesh, &client);
    // As in a rollout of one replica: the application ends, and what names its successor is on its way.
    old.stop_apps();
    let selector = [("app".to_owned(), "successor".to_owned())];
    let service = yaml::service("prod", "server", (cluster.ip, cluster.ip6), PORTS, &selector);
    mesh.write("service-prod-server.yaml", &service);
    until("the new one answers", Duration::from_secs(20), || {
        let reply = client.curl(&["http://server.prod/"]);
        if reply.status == 200 { Ok(()) } else { Err(format!("{reply:?}")) }
    });
    let report = finish(&mesh, load);
    assert_eq!(report["failed"], 0, "{report}");
    assert!(report["apps"]["server-0"].as_u64() > Some(0) && report["apps"]["server-1"].as_u64() > Some(0), "{report}");
}

/// All of `shop` to one of two Services.
fn all_to(name: &str) -> String {
    let rest = if name == "stable" { "canary" } else { "stable" };
    format!(
        "apiVersion: causeway.dev/v1alpha1\nkind: VirtualService\nmetadata: {{name: shop, namespace: prod}}\nspec:\n  \
         hosts: [shop]\n  http:\n  - route: [{{destination: {{host: {name}}}, weight: 100}}, {{destination: {{host: {rest}}}, \
         weight: 0}}]\n"
    )
}

#[test]
fn what_the_last_canary_did_not_see_goes_where_the_route_leads_by_then() {
    if !needs() {
        return;
    }
    let mesh = Mesh::start(Settings::default());
    mesh.service("prod", "shop", PORTS, &[("app", "stable")]);
    mesh.service("prod", "stable", PORTS, &[("app", "stable")]);
    mesh.service("prod", "canary", PORTS, &[("app", "canary")]);
    let serve = |name: &str| {
        let mut pod = mesh.pod(PodSpec::new("prod", name).account(name).label("app", name));
        pod.app(&["http", "--name", name, "--listen", "[::]:8080", "--delay-ms", "50"]);
        pod.ready()
    };
    let (_stable, mut canary) = (serve("stable"), serve("canary"));
    mesh.write("shop.yaml", &all_to("canary"));
    let client = mesh.pod(PodSpec::new("dev", "client")).ready();
    until("the canary answers", Duration::from_secs(20), || {
        let reply = client.curl(&["http://shop.prod/"]);
        if reply.header("x-app") == "canary" { Ok(()) } else { Err(format!("{reply:?}")) }
    });
    let load = load_on(&mesh, &client, &mut canary, "http://shop.prod/", "4", 8);
    change_something(&mesh, &client);
    // As when a release is taken back: the canary is scaled down in the moment in which its share is taken from it.
    canary.stop_apps();
    mesh.write("shop.yaml", &all_to("stable"));
    until("the other one answers", Duration::from_secs(20), || {
        let reply = client.curl(&["http://shop.prod/"]);
        if reply.header("x-app") == "stable" { Ok(()) } else { Err(format!("{reply:?}")) }
    });
    let report = finish(&mesh, load);
    assert_eq!(report["failed"], 0, "{report}");
    assert!(report["apps"]["canary"].as_u64() > Some(0) && report["apps"]["stable"].as_u64() > Some(0), "{report}");
}

#[test]
fn a_proxy_to_which_nothing_is_redirected_is_not_ready_and_says_why() {
    if !needs() {
        return;
    }
    let mesh = Mesh::start(Settings::default());
    let mut pod = mesh.pod(PodSpec::new("dev", "client"));
    pod.wait_ready();
    pod.proxy_mut().kill();
    assert!(pod.command("nft").args(["delete", "table", "inet", "causeway"]).status().unwrap().success());
    pod.start_proxy();
    until("redirection is all that is awaited", Duration::from_secs(20), || {
        let answer = pod.health("/ready");
        if answer.stdout.contains("awaited: redirection\n") { Ok(()) } else { Err(answer.stdout) }
    });
    pod.proxy().wait_for_log("the nftables table `inet causeway` is", Duration::from_secs(5));
    pod.redirect(&[]);
    pod.wait_ready();
    // An application that uses the port of the test is not disturbed by it.
    pod.app(&["tcp-greet", "--name", "own", "--listen", "127.0.0.1:15019"]);
    let answer = pod.client(&["talk", "--connect", "127.0.0.1:15019", "--until", "1"]);
    assert_eq!(answer["text"].as_str().unwrap_or_default().trim(), "hello from own", "{answer}");
    pod.wait_ready();
}

#[test]
fn the_state_may_be_kept_in_a_directory_that_belongs_to_somebody_else() {
    if !needs() {
        return;
    }
    let mut mesh = Mesh::start(Settings::default());
    let mut pod = mesh.pod(PodSpec::new("dev", "client"));
    pod.wait_ready();
    pod.proxy_mut().kill();
    // As the root of a pod's volume is.
    let state = pod.path("state");
    std::fs::remove_dir_all(&state).unwrap();
    std::fs::create_dir(&state).unwrap();
    chown(&state, Some(0), Some(0)).unwrap();
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o777)).unwrap();
    pod.start_proxy();
    pod.wait_ready();
    until("both files are written", Duration::from_secs(10), || {
        let held = |name: &str| state.join("proxy").join(name).exists();
        if held("identity") && held("config") { Ok(()) } else { Err("not yet".to_owned()) }
    });
    let ours = std::fs::metadata(state.join("proxy")).unwrap();
    assert_eq!((ours.mode() & 0o777, ours.uid()), (0o700, 2102), "nobody else reads the key");
    mesh.kill_control_plane();
    pod.proxy_mut().kill();
    pod.start_proxy();
    pod.wait_ready();
}

/// The client's ends of its connections to the server's pod.
fn connections(client: &Pod) -> BTreeSet<String> {
    let shown = client.command("ss").args(["-Htn", "state", "established", "dport = :8080"]).output().unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    shown.lines().filter_map(|l| l.split_whitespace().nth(2)).map(str::to_owned).collect()
}

#[test]
fn what_comes_alone_has_a_connection_and_what_comes_together_shares_one() {
    if !needs() {
        return;
    }
    let mesh = Mesh::start(Settings::default());
    mesh.service("prod", "server", PORTS, &[("app", "server")]);
    let _server = server(&mesh, 0).ready();
    let mut limited = mesh.pod(PodSpec::new("prod", "limited").label("app", "limited"));
    limited.serve_http("limited", 8080);
    let _limited = limited.ready();
    mesh.write(
        "rule.yaml",
        "apiVersion: causeway.dev/v1alpha1\nkind: DestinationRule\nmetadata: {name: limited, namespace: prod}\nspec: {host: \
         limited, trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}}}\n",
    );
    mesh.service("prod", "limited", PORTS, &[("app", "limited")]);
    let client = mesh.pod(PodSpec::new("dev", "client")).ready();
    let load = |path: &str, requests: &str, concurrency: &str| {
        let url = format!("http://server.prod{path}");
        let report = client.client(&["load", "--url", &url, "--requests", requests, "--concurrency", concurrency]);
        assert_eq!(report["failed"], 0, "{report}");
    };
    let post = || {
        let reply = client.curl(&["--data-binary", "x", "http://server.prod/sum"]);
        assert_eq!(reply.status, 200, "{reply:?}");
    };
    load("/", "50", "1");
    let alone = connections(&client);
    assert_eq!(alone.len(), 1, "one after the other, one connection: {alone:?}");
    post();
    let shared: BTreeSet<String> = connections(&client).difference(&alone).cloned().collect();
    assert_eq!(shared.len(), 1, "what may not be sent twice goes another way");
    post();
    load("/", "50", "1");
    assert_eq!(connections(&client), &alone | &shared, "each way is kept");
    load("/slow/20", "400", "64");
    let all = connections(&client);
    assert!(all.is_superset(&(&alone | &shared)) && all.len() <= 3, "what comes together shares: {all:?}");
    load("/", "50", "1");
    assert_eq!(connections(&client), all, "and each way is kept");

    // Where connections are limited the shared one does not wait for others.
    let url = "http://limited.prod/";
    until("the other server answers", Duration::from_secs(20), || {
        let reply = client.curl(&[url]);
        if reply.status == 200 { Ok(()) } else { Err(format!("{reply:?}")) }
    });
    for concurrency in ["1", "16"] {
        let report = client.client(&["load", "--url", url, "--requests", "64", "--concurrency", concurrency]);
        assert_eq!(report["failed"], 0, "{report}");
        let own: Vec<String> = connections(&client).difference(&all).cloned().collect();
        assert_eq!(own.len(), 1, "{concurrency}: {own:?}");
    }
}

#[test]
fn a_connection_between_proxies_is_given_up_when_the_certificate_it_began_with_ends() {
    if !needs() {
        return;
    }
    let mesh = Mesh::start(Settings::default().control_plane(&["--leaf-ttl", "15s"]));
    mesh.service("prod", "server", PORTS, &[("app", "server")]);
    let _server = server(&mesh, 0).ready();
    let client = mesh.pod(PodSpec::new("dev", "client")).ready();
    let stop = mesh.path("scratch/stop").display().to_string();
    let mut load =
        client.background("load", &["load", "--url", "http://server.prod/", "--stop-file", &stop, "--pause-ms", "5"]);
    let first = until("there is a connection", Duration::from_secs(10), || {
        let now = connections(&client);
        if now.is_empty() { Err("none".to_owned()) } else { Ok(now) }
    });
    until("another one has taken its place", Duration::from_secs(40), || {
        let now = connections(&client);
        if !now.is_empty() && now.is_disjoint(&first) { Ok(()) } else { Err(format!("{first:?} -> {now:?}")) }
    });
    std::fs::write(&stop, "").unwrap();
    load.wait(Duration::from_secs(30));
    let report: serde_json::Value = serde_json::from_str(&load.log()).unwrap();
    assert_eq!(report["failed"], 0, "{report}");
}
