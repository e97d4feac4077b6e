//! A node whose pods and Services have IPv4 and IPv6: names, ClusterIPs, pods' own addresses, routes and policy are the
//! same by either.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a suite")]

use std::time::Duration;

use causeway_tests::capability::{NODE, has};
use causeway_tests::kube::{Families, Inside, Node};
use causeway_tests::pod::Reply;
use causeway_tests::until;
use causeway_tests::yaml::App;

/// Longest wait for a Deployment, on two cores that do everything.
const ROLLOUT: Duration = Duration::from_secs(120);

const PODS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: six, labels: {causeway.dev/inject: \"true\"}}
---
apiVersion: v1
kind: Namespace
metadata: {name: bare}
---
apiVersion: v1
kind: Service
metadata: {name: both, namespace: six}
spec:
  ipFamilyPolicy: RequireDualStack
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: six, namespace: six}
spec:
  ipFamilies: [IPv6]
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: members, namespace: six}
spec:
  clusterIP: None
  ipFamilies: [IPv6]
  selector: {version: v2}
  ports: [{name: http, port: 8080, targetPort: 8080}]
---
apiVersion: causeway.dev/v1alpha1
kind: PeerAuthentication
metadata: {name: default, namespace: six}
spec: {mtls: {mode: STRICT}}
---
apiVersion: causeway.dev/v1alpha1
kind: DestinationRule
metadata: {name: six, namespace: six}
spec:
  host: six
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
---
apiVersion: causeway.dev/v1alpha1
kind: VirtualService
metadata: {name: six, namespace: six}
spec:
  hosts: [six]
  http:
  - route:
    - {destination: {host: six, subset: v1}, weight: 0}
    - {destination: {host: six, subset: v2}, weight: 100}
---
";

/// The IPv6 address of the one pod that has a label.
fn address(node: &Node, label: &str) -> String {
    let pods = node.get(&["-n", "six", "pods", "-l", label]).unwrap();
    let ips = pods["items"][0]["status"]["podIPs"].as_array().unwrap().clone();
    let found = ips.iter().filter_map(|ip| ip["ip"].as_str()).find(|ip| ip.contains(':'));
    found.unwrap_or_else(|| panic!("no IPv6 address: {ips:?}")).to_owned()
}

fn answered(client: &Inside, arguments: &[&str]) -> Reply {
    until(&arguments.join(" "), Duration::from_secs(30), || {
        let reply = client.curl(arguments);
        if reply.status == 200 { Ok(reply) } else { Err(format!("{reply:?}")) }
    })
}

#[test]
fn names_addresses_routes_and_policy_are_the_same_by_ipv6() {
    if !has(NODE) {
        return;
    }
    let node = Node::with_causeway_and(Families::Both, &["--replicas=1"]);
    let _told = node.told(&["six", "bare"]);
    let pods = [("six", "v1", "app: web, version: v1"), ("six", "v2", "app: web, version: v2")];
    let clients = [("six", "client", "app: client"), ("bare", "stranger", "app: stranger")];
    let all: String = pods
        .iter()
        .chain(&clients)
        .map(|(namespace, name, labels)| App { namespace, name, labels, ..App::default() }.yaml())
        .collect();
    node.apply(&format!("{PODS}{all}")).unwrap();
    for (namespace, name, _) in pods.iter().chain(&clients) {
        node.rolled_out(namespace, &format!("deploy/{name}"), ROLLOUT);
    }
    node.wait(&["-n", "six", "virtualservices.causeway.dev/six"], "condition=Programmed", Duration::from_secs(60))
        .unwrap();
    let (client, stranger) = (node.app("six", "app=client"), node.app("bare", "app=stranger"));

    let own = format!("http://[{}]:8080/headers", address(&node, "version=v2"));
    let ways: [&[&str]; 6] = [
        &["-6", "http://six.six.svc.cluster.local/headers"],
        &["-6", "http://six/headers"],
        &["-6", "http://both.six/headers"],
        &["-4", "http://both.six/headers"],
        &["-6", "http://members.six:8080/headers"],
        &["-6", &own],
    ];
    for way in ways {
        let seen = answered(&client, way).json();
        assert!(seen["headers"].to_string().contains("URI=spiffe://cluster.local/ns/six/sa/client"), "{way:?}: {seen}");
    }
    // The route, not kube-proxy, chooses: with weight 0 nothing comes to v1.
    for _ in 0..40 {
        assert_eq!(answered(&client, &["-6", "http://six.six/headers"]).json()["app"], "v2");
    }
    // Strict holds for plain text over IPv6 too; the probed path alone is answered.
    for way in [&["-6", "http://six.six/headers"], &["-6", own.as_str()]] {
        let reply = stranger.curl(way);
        assert_eq!((reply.status, reply.header("causeway-error")), (403, "plaintext_refused"), "{reply:?}");
    }
}
