//! Names that lead to pods by another way than a Service's own address.

use causeway_tests::binaries::binary;
use causeway_tests::process::{Process, run};

use crate::stage::{CLIENT, SOON, Stage};

const ALIAS: &str = include_str!("../../fixtures/services/alias.yaml");
const SET: &str = include_str!("../../fixtures/services/set.yaml");

pub fn alias(stage: &Stage) {
    stage.apply(ALIAS);
    for name in ["alias", "alias.dev", "alias.dev.svc", "alias.dev.svc.cluster.local"] {
        let reply = stage.get(&format!("http://{name}/headers"));
        assert_eq!((reply.header("x-app"), reply.header("x-routed")), ("v1", "named"), "{name}: {reply:?}");
        assert!(reply.body.contains(CLIENT), "{reply:?}");
        let tea = stage.get(&format!("http://{name}/tea"));
        assert_eq!((tea.status, tea.body.as_str()), (418, "short and stout"), "{name}: {tea:?}");
        let own = stage.get(&format!("http://{name}/own"));
        assert_eq!((own.header("x-app"), own.header("x-routed")), ("v2", "alias"), "{name}: {own:?}");
    }
    let direct = stage.get("http://named.prod/own");
    assert_eq!((direct.header("x-app"), direct.header("x-routed")), ("v1", "named"), "not by its own name: {direct:?}");
    let greeted = stage.client.talk(&["alias:9001", "--until", "14"]);
    assert!(greeted["text"].as_str().is_some_and(|t| t.starts_with("hello from v")), "bytes too: {greeted}");
}

/// `outside.example.test` is the node, where no pod and no proxy is.
pub fn outside(stage: &Stage) {
    let mut command = stage.node.enter(binary("causeway-test-app"));
    command.args(["http", "--name", "outside", "--listen", "0.0.0.0:8085"]);
    let server = Process::start("outside", &mut command, &stage.node.directory().join("outside.log"));
    server.wait_for_log("listening", SOON);
    for name in ["outside", "outside.dev.svc.cluster.local", "outside.example.test"] {
        let url = format!("http://{name}:8085/headers");
        let seen = stage.until("it answers", &url, |r| r.header("x-app") == "outside");
        assert!(!seen.body.contains("spiffe://"), "no identity leaves the mesh: {seen:?}");
        assert!(seen.body.contains(&format!(r#"["host","{name}:8085"]"#)), "as it was asked for: {seen:?}");
    }
}

/// As a client does that knows nothing but the name of a service and its protocol: it asks the DNS for hosts and ports.
pub fn discovered(stage: &Stage) {
    stage.apply(SET);
    let mut nslookup = stage.client.command("nslookup");
    let told = run(nslookup.args(["-type=srv", "_http._tcp.set.prod.svc.cluster.local"])).stdout;
    let records = told.lines().filter_map(|line| line.split_once("service = "));
    let mut found: Vec<(&str, &str)> = records
        .filter_map(|(_, record)| {
            let mut words = record.split_whitespace().skip(2);
            Some((words.next()?, words.next()?))
        })
        .collect();
    found.sort_by_key(|(_, host)| *host);
    let hosts: Vec<&str> = found.iter().map(|(_, host)| host.split('.').next().unwrap()).collect();
    assert_eq!(hosts, ["set-0", "set-1"], "{told}");
    let secured = ["destination_service_name=\"set\"", "connection_security_policy=\"mutual_tls\""];
    let counted = || stage.client.metric("istio_requests_total", &secured);
    let before = counted();
    for (port, host) in &found {
        let pod = host.split('.').next().unwrap();
        let address = stage.address("prod", &format!("statefulset.kubernetes.io/pod-name={pod}"));
        for place in [format!("{host}:{port}"), format!("{pod}.set.prod:{port}"), format!("{address}:{port}")] {
            let reply = stage.get(&format!("http://{place}/headers"));
            assert_eq!((reply.header("x-app"), reply.header("x-routed")), (pod, "set"), "{place}: {reply:?}");
            assert!(reply.body.contains(CLIENT), "{place}: {reply:?}");
            let key = format!("x-key: {place}");
            let tried = stage.client.curl(&["-H", &key, &format!("http://{place}/flaky/2/503")]);
            assert_eq!((tried.status, tried.header("x-app")), (200, pod), "tried again there: {tried:?}");
            let refused = stage.guest.curl(&[&format!("http://{place}/")]);
            assert_eq!((refused.status, refused.code()), (403, "policy_denied"), "{place}: {refused:?}");
        }
    }
    assert!(counted() - before >= 12.0, "{before} {}", counted());
}
