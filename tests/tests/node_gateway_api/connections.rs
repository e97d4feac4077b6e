//! GRPCRoute, TCPRoute and TLSRoute with a Service as parent, by the suite's own echo pair and others.

use causeway_tests::kube::Inside;
use causeway_tests::process::run;
use causeway_tests::until;

use crate::{SOON, TOWN_NAME, Town, add, exam, parent};

/// The suite's image in two versions, with gRPC on 7070, TLS on 8443 and bytes on 9090, and a Service over both.
fn echo(image: &str) -> String {
    let mut yaml = String::new();
    for version in ["echo-v1", "echo-v2"] {
        yaml += &format!(
            "apiVersion: apps/v1
kind: Deployment
metadata: {{name: {version}, namespace: {TOWN_NAME}}}
spec:
  selector: {{matchLabels: {{version: {version}}}}}
  template:
    metadata: {{labels: {{app: echo, version: {version}}}}}
    spec:
      containers:
      - name: app
        image: {image}
        args: [--port=8080, --grpc=7070, --port=8443, --tls=8443, --crt=/cert.crt, --key=/cert.key]
        readinessProbe: {{tcpSocket: {{port: 8080}}, periodSeconds: 1}}
---
"
        );
    }
    for (name, selector) in [("echo", "app: echo"), ("echo-v1", "version: echo-v1"), ("echo-v2", "version: echo-v2")] {
        yaml += &format!(
            "apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {TOWN_NAME}}}
spec:
  selector: {{{selector}}}
  ports:
  - {{name: grpc, port: 7070}}
  - {{name: https, port: 443, targetPort: 8443}}
---
"
        );
    }
    yaml
}

/// The client of the suite's image: what it printed, or why it failed.
fn call(client: &Inside, arguments: &[&str]) -> Result<String, String> {
    let output = run(client.command("client").args(arguments));
    if output.code == Some(0) { Ok(output.stdout) } else { Err(output.stderr) }
}

#[test]
fn calls_and_tls_connections_are_routed_and_what_no_rule_takes_is_refused() {
    let Some(town) = Town::shared() else { return };
    let _told = town.node.told(&[TOWN_NAME]);
    let image = std::fs::read_to_string(exam::kit().join("image")).unwrap();
    add(town.node, &echo(image.trim()), &["echo-v1", "echo-v2"]);
    let spec = parent(
        "echo",
        "  rules:
  - matches: [{method: {service: causeway.test.Echo, method: Echo}, headers: [{name: x-to, value: two}]}]
    backendRefs: [{name: echo-v2, port: 7070}]
  - matches: [{method: {service: causeway.test.Echo}, headers: [{name: x-to, value: one}]}]
    filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-set, value: by-route}]}}]
    backendRefs: [{name: echo-v1, port: 7070}]
",
    );
    town.route("GRPCRoute", "echo", &spec.replace("name: echo}", "name: echo, port: 7070}"));
    let caller = town.node.app(TOWN_NAME, "version=echo-v1");
    for (to, version) in [("one", "echo-v1"), ("two", "echo-v2")] {
        let told = call(&caller, &["grpc://echo:7070", "-H", &format!("x-to:{to}")]).unwrap();
        assert!(told.contains(&format!("Hostname={version}-")), "{to}: {told}");
        assert_eq!(told.contains("RequestHeader=x-set:by-route"), to == "one", "{told}");
    }
    let refused = call(&caller, &["grpc://echo:7070"]).unwrap_err();
    assert!(refused.contains("grpc-status Some(\"12\")"), "no rule takes it, UNIMPLEMENTED: {refused}");

    let spec =
        parent("echo", "  hostnames: [two.example.org]\n  rules:\n  - backendRefs: [{name: echo-v2, port: 443}]\n");
    town.route("TLSRoute", "echo", &spec.replace("name: echo}", "name: echo, port: 443}"));
    let visit = |host: &str| {
        let to = format!("{host}:443:echo:443");
        town.client.curl(&["-k", "--connect-to", &to, &format!("https://{host}/")])
    };
    for _ in 0..6 {
        let reply = visit("two.example.org");
        assert!(reply.body.contains("Hostname=echo-v2-"), "{reply:?}");
    }
    until("a name that no TLSRoute has is not carried to its backend alone", SOON, || {
        let reply = visit("one.example.org");
        let elsewhere = reply.body.contains("Hostname=echo-v1-") || reply.status == 0;
        if elsewhere { Ok(()) } else { Err(format!("{reply:?}")) }
    });
}

#[test]
fn connections_are_split_by_a_tcp_route() {
    let Some(town) = Town::shared() else { return };
    let _told = town.node.told(&[TOWN_NAME]);
    let mut yaml = String::new();
    for name in ["one", "two", "both"] {
        let selector = if name == "both" { "role: greeter".to_owned() } else { format!("greeter: {name}") };
        yaml += &format!(
            "apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {TOWN_NAME}}}
spec: {{selector: {{{selector}}}, ports: [{{name: tcp, port: 9000}}]}}
---
"
        );
        if name != "both" {
            yaml += &format!(
                "apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {TOWN_NAME}}}
spec:
  selector: {{matchLabels: {{greeter: {name}}}}}
  template:
    metadata: {{labels: {{greeter: {name}, role: greeter}}}}
    spec:
      containers:
      - name: app
        image: causeway-test/app:1
        args: [tcp-greet, --name, {name}, --listen, \"[::]:9000\"]
---
"
            );
        }
    }
    add(town.node, &yaml, &["one", "two"]);
    // Connections that `one` gets; the others are of `two`.
    let of_one = |weights: (u32, u32), connections: u32| {
        let (one, two) = weights;
        let rules = format!(
            "  rules:\n  - backendRefs: [{{name: one, port: 9000, weight: {one}}}, {{name: two, port: 9000, weight: {two}}}]\n"
        );
        town.route("TCPRoute", "both", &parent("both", &rules));
        let greeting = |_| town.client.talk(&["both:9000", "--until", "14"])["text"].as_str().unwrap().to_owned();
        let greetings: Vec<String> = (0..connections).map(greeting).collect();
        let from = |name: &str| greetings.iter().filter(|g| **g == format!("hello from {name}\n")).count();
        assert_eq!(from("one") + from("two"), greetings.len(), "{greetings:?}");
        from("one")
    };
    assert_eq!((of_one((1, 0), 6), of_one((0, 1), 6)), (6, 0));
    // Three quarters of 80: outside of these bounds in one of 10^9 runs.
    let most = of_one((3, 1), 80);
    assert!((35..80).contains(&most), "{most}");
}
