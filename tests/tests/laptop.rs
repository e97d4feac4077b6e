//! The mesh with explicit listeners on loopback: what a laptop or a VM has, no root and no redirection.
#![allow(clippy::unwrap_used, missing_docs)]

use std::process::Command;
use std::time::Duration;

use causeway_tests::binaries::binary;
use causeway_tests::capability::{Need, has};
use causeway_tests::laptop::{Laptop, Side};
use causeway_tests::pod::Reply;
use causeway_tests::ports::free_port;
use causeway_tests::process::run;
use causeway_tests::until;
use serde_json::Value;

/// `dev/web` calls; `prod/one` and `prod/two` serve HTTP and echo bytes.
struct Office {
    web: Side,
    tcp: u16,
    laptop: Laptop,
}

fn office(flags: &[&str]) -> Office {
    let mut laptop = Laptop::start("", flags);
    let (web, one, two) = (laptop.side(), laptop.side(), laptop.side());
    let (greet_one, greet_two) = (laptop.side(), laptop.side());
    let endpoint = |pod: &str, service: &str, version: &str, port: u16| {
        format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {service}-{pod}, namespace: \
             prod, labels: {{kubernetes.io/service-name: {service}}}}}\naddressType: IPv4\nports: [{{name: main, \
             port: {port}, protocol: TCP}}]\nendpoints:\n- {{addresses: [127.0.0.1], conditions: {{ready: true}}, \
             targetRef: {{kind: Pod, name: {pod}, namespace: prod}}}}\n# {version}\n"
        )
    };
    let pod = |namespace: &str, name: &str, version: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{version: \
             {version}, causeway.dev/injected: \"true\"}}}}\nspec: {{serviceAccountName: {name}, containers: [{{name: \
             a, image: a}}]}}\nstatus: {{phase: Running, podIP: 127.0.0.1, conditions: [{{type: Ready, status: \
             \"True\"}}]}}\n"
        )
    };
    let service = |name: &str, port: u16, protocol: &str| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: prod}}\nspec: {{ports: [{{name: \
             main, port: {port}, targetPort: {port}, appProtocol: {protocol}}}]}}\n"
        )
    };
    let rule = |name: &str| {
        format!(
            "---\napiVersion: causeway.dev/v1alpha1\nkind: DestinationRule\nmetadata: {{name: {name}, namespace: \
             prod}}\nspec: {{host: {name}, subsets: [{{name: a, labels: {{version: a}}}}, {{name: b, labels: \
             {{version: b}}}}]}}\n"
        )
    };
    let text = [
        pod("dev", "web", "a"), pod("prod", "one", "a"), pod("prod", "two", "b"),
        service("site", 80, "http"), endpoint("one", "site", "a", one.inbound), endpoint("two", "site", "b", two.inbound),
        service("greeter", 7000, "tcp"), endpoint("one", "greeter", "a", greet_one.inbound),
        endpoint("two", "greeter", "b", greet_two.inbound), rule("greeter"), rule("site"),
        "---\napiVersion: causeway.dev/v1alpha1\nkind: VirtualService\nmetadata: {name: greeter, namespace: prod}\nspec:\n  \
         hosts: [greeter]\n  tcp:\n  - route:\n    - {destination: {host: greeter, subset: a}, weight: 1}\n    - \
         {destination: {host: greeter, subset: b}, weight: 3}\n".to_owned(),
    ];
    laptop.write("mesh.yaml", &text.concat());
    let tcp = free_port();
    for (name, side, greeter) in [("one", one, greet_one), ("two", two, greet_two)] {
        let (http, greet) = (free_port(), free_port());
        laptop.app(&format!("http-{name}"), &["http", "--name", name, "--listen", &format!("127.0.0.1:{http}")]);
        laptop.app(&format!("greet-{name}"), &["tcp-greet", "--name", name, "--listen", &format!("127.0.0.1:{greet}")]);
        let second = format!("127.0.0.1:{}=127.0.0.1:{greet}", greeter.inbound);
        laptop.proxy(&format!("prod/{name}"), name, side, http, &["--inbound-explicit", &second]);
    }
    laptop.proxy("dev/web", "web", web, 9, &["--outbound-tcp", &format!("127.0.0.1:{tcp}=greeter.prod:7000")]);
    let office = Office { web, tcp, laptop };
    until("the first answer", Duration::from_secs(20), || {
        let reply = office.through(&["http://site.prod/"]);
        if reply.status == 200 { Ok(()) } else { Err(format!("{reply:?}")) }
    });
    office
}

impl Office {
    fn through(&self, arguments: &[&str]) -> Reply {
        let proxy = format!("http://127.0.0.1:{}", self.web.outbound);
        Reply::of(&mut Command::new("curl"), &[&["--suppress-connect-headers", "-x", &proxy], arguments].concat())
    }

    fn client(arguments: &[&str]) -> Value {
        run(Command::new(binary("causeway-test-app")).args(arguments)).json()
    }
}

#[test]
fn every_form_of_a_name_works_through_the_explicit_proxy() {
    if !has(&[Need::Program("curl")]) {
        return;
    }
    let office = office(&[]);
    for host in [
        "site.prod",
        "site.prod.svc",
        "site.prod.svc.cluster.local",
        "SITE.Prod.svc.CLUSTER.local",
        "site.prod.svc.cluster.local.",
    ] {
        for port in ["", ":80"] {
            let reply = office.through(&[&format!("http://{host}{port}/headers")]);
            assert_eq!(reply.status, 200, "{host}{port}: {reply:?}");
            let caller = "URI=spiffe://cluster.local/ns/dev/sa/web";
            assert!(reply.body.contains(caller), "{reply:?}");
        }
    }
    // A short name is one of the caller's own namespace, where there is no `site`.
    let missing = office.through(&["http://site/"]);
    assert!(missing.status >= 400 && !missing.code().is_empty(), "{missing:?}");
    let tunnel = office.through(&["-p", "http://site.prod:80/headers"]);
    assert_eq!(tunnel.status, 200, "CONNECT: {tunnel:?}");
    let by_host = Reply::of(
        &mut Command::new("curl"),
        &["--noproxy", "*", "-H", "Host: site.prod", &format!("http://127.0.0.1:{}/", office.web.outbound)],
    );
    assert_eq!(by_host.status, 200, "by Host alone: {by_host:?}");
    let other_port = office.through(&["http://site.prod:81/"]);
    assert!(other_port.status >= 400 && !other_port.code().is_empty(), "{other_port:?}");
}

#[test]
fn tcp_connections_are_split_by_weight_through_an_explicit_listener() {
    if !has(&[Need::Program("curl")]) {
        return;
    }
    let office = office(&[]);
    let target = format!("127.0.0.1:{}", office.tcp);
    let greeting = || Office::client(&["talk", "--connect", &target, "--until", "15"])["text"].to_string();
    until("both greet", Duration::from_secs(20), || {
        let seen: Vec<String> = (0..12).map(|_| greeting()).collect();
        let has = |name: &str| seen.iter().any(|g| g.contains(name));
        if has("from one") && has("from two") { Ok(()) } else { Err(format!("{seen:?}")) }
    });
    let seen: Vec<String> = (0..400).map(|_| greeting()).collect();
    let one = seen.iter().filter(|g| g.contains("from one")).count();
    let two = seen.iter().filter(|g| g.contains("from two")).count();
    assert_eq!(one + two, 400, "each connection was greeted");
    // 1:3 of 400 is 100, sigma 8.7.
    assert!((65..=135).contains(&one), "weight 1 of 4 got {one} of 400");
}

#[test]
fn what_the_mesh_does_not_know_is_refused_with_the_reason() {
    if !has(&[Need::Program("curl")]) {
        return;
    }
    let closed = office(&["--egress", "deny"]);
    let refused = closed.through(&["http://192.0.2.7:8080/"]);
    assert_eq!((refused.status, refused.code()), (403, "egress_denied"), "{refused:?}");
    let mut open = office(&[]);
    let port = free_port();
    open.laptop.app("outside", &["http", "--name", "outside", "--listen", &format!("127.0.0.1:{port}")]);
    let own = open.through(&[&format!("http://localhost:{port}/headers")]);
    assert!(own.status >= 400 && !own.code().is_empty(), "the proxy's own host is no destination: {own:?}");
    let unknown = open.through(&["http://no-such-name.invalid/"]);
    assert_eq!((unknown.status, unknown.code()), (404, "unknown_host"), "{unknown:?}");
}

#[test]
fn the_control_plane_says_who_is_connected_and_has_acked_what() {
    if !has(&[Need::Program("curl")]) {
        return;
    }
    let office = office(&[]);
    let view = until("three proxies have acked all", Duration::from_secs(20), || {
        let view = office.laptop.control("/proxies").json();
        let all = view["proxies"].as_array().unwrap();
        let done = all.iter().all(|p| p["acked"] == p["total"] && p["total"].as_u64() > Some(0));
        if all.len() == 3 && done { Ok(view) } else { Err(view.to_string()) }
    });
    for workload in ["dev/web", "prod/one", "prod/two"] {
        assert!(view.to_string().contains(&format!("\"{workload}\"")), "{view}");
    }
    let metrics =
        run(Command::new("curl").args(["-sS", &format!("http://127.0.0.1:{}/metrics", office.web.health)])).ok();
    let line = metrics
        .lines()
        .find(|l| l.starts_with("istio_requests_total{") && l.contains("destination_service_name=\"site\""));
    let line = line.unwrap_or_else(|| panic!("{metrics}"));
    for label in [
        "reporter=\"source\"",
        "source_workload=\"web\"",
        "destination_service_namespace=\"prod\"",
        "response_code=\"200\"",
        "connection_security_policy=",
    ] {
        assert!(line.contains(label), "{label} is not in {line}");
    }
}
