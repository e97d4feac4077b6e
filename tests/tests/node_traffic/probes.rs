//! The kubelet's probes come without a certificate and go on working where everybody else needs one.

use std::time::Duration;

use causeway_tests::until;

use crate::{ROLLOUT, namespace, node};

const PODS: &str = "
apiVersion: causeway.dev/v1alpha1
kind: PeerAuthentication
metadata: {name: default, namespace: probes}
spec: {mtls: {mode: STRICT}}
---
apiVersion: v1
kind: Pod
metadata: {name: green, namespace: probes, labels: {app: green}}
spec:
  containers:
  - name: app
    image: causeway-test/app:1
    args: [http, --name, green, --listen, \"[::]:8080\", --listen, \"[::]:9090\"]
    ports: [{containerPort: 8080, name: web}, {containerPort: 9090, name: checks}]
    startupProbe: {httpGet: {port: web, path: /status/200}, periodSeconds: 1, failureThreshold: 30}
    readinessProbe: {httpGet: {port: checks, path: /ready}, periodSeconds: 1, timeoutSeconds: 5, failureThreshold: 1}
    livenessProbe: {httpGet: {port: 8080, path: '/alive?deep=1'}, periodSeconds: 1, timeoutSeconds: 5, failureThreshold: 1}
  - name: tcp
    image: causeway-test/app:1
    args: [tcp-echo, --listen, \"[::]:7070\"]
    ports: [{containerPort: 7070, name: echo}]
    readinessProbe: {tcpSocket: {port: echo}, periodSeconds: 1, timeoutSeconds: 5, failureThreshold: 1}
    livenessProbe: {tcpSocket: {port: 7070}, periodSeconds: 1, timeoutSeconds: 5, failureThreshold: 1}
  - name: grpc
    image: causeway-test/app:1
    args: [http, --name, grpc, --listen, \"[::]:6060\"]
    ports: [{containerPort: 6060}]
    readinessProbe: {grpc: {port: 6060}, periodSeconds: 1, timeoutSeconds: 5, failureThreshold: 1}
    livenessProbe: {grpc: {port: 6060, service: deep}, periodSeconds: 1, timeoutSeconds: 5, failureThreshold: 1}
  - name: command
    image: causeway-test/app:1
    args: [http, --name, command, --listen, \"[::]:5050\"]
    livenessProbe: {exec: {command: [curl, -fsS, -m, '2', \"http://127.0.0.1:5050/\"]}, periodSeconds: 2, timeoutSeconds: 5}
---
apiVersion: v1
kind: Pod
metadata: {name: red, namespace: probes, labels: {app: red}}
spec:
  containers:
  - name: app
    image: causeway-test/app:1
    args: [http, --name, red, --listen, \"[::]:8080\"]
    readinessProbe: {httpGet: {port: 8080, path: /status/503}, periodSeconds: 1}
";

#[test]
fn probes_of_the_kubelet_stay_green_under_strict_mutual_tls_and_red_ones_stay_red() {
    let Some(node) = node() else { return };
    let _told = node.told(&["probes"]);
    node.apply(&namespace("probes")).unwrap();
    node.apply(PODS).unwrap();
    node.wait(&["-n", "probes", "pod/green"], "condition=Ready", ROLLOUT).unwrap();

    // The policy is in force: what is no probe is refused.
    let address = node.get(&["-n", "probes", "pod", "green"]).unwrap()["status"]["podIP"].as_str().unwrap().to_owned();
    until("plain text is refused", Duration::from_secs(30), || {
        let mut curl = node.enter("curl");
        let reply = causeway_tests::pod::Reply::of(&mut curl, &["-m", "5", &format!("http://{address}:8080/secret")]);
        if reply.status == 200 { Err(format!("{reply:?}")) } else { Ok(()) }
    });
    // A dozen rounds of every probe later nothing has failed once.
    std::thread::sleep(Duration::from_secs(12));
    let pod = node.get(&["-n", "probes", "pod", "green"]).unwrap();
    for container in pod["status"]["containerStatuses"].as_array().unwrap() {
        assert_eq!(
            (container["restartCount"].as_u64(), container["ready"].as_bool()),
            (Some(0), Some(true)),
            "{container}"
        );
    }
    let events =
        node.kubectl(&["-n", "probes", "get", "events", "--field-selector=involvedObject.name=green"]).unwrap();
    let failed: Vec<&str> = events.lines().filter(|l| l.contains("Unhealthy") && !l.contains("Startup")).collect();
    assert!(failed.is_empty(), "{failed:?}");

    let red = node.get(&["-n", "probes", "pod", "red"]).unwrap();
    let app = red["status"]["containerStatuses"].as_array().unwrap().iter().find(|c| c["name"] == "app").unwrap();
    assert_eq!((app["started"].as_bool(), app["ready"].as_bool()), (Some(true), Some(false)), "{app}");
}
