//! Pods of a headless StatefulSet reach one another by their own names, with mutual TLS.

use std::time::Duration;

use causeway_tests::until;

use crate::{ROLLOUT, namespace, node};

const SET: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: peer, namespace: peers}
---
apiVersion: v1
kind: Service
metadata: {name: peers, namespace: peers}
spec:
  clusterIP: None
  selector: {app: peers}
  ports: [{name: http, port: 8080, targetPort: 8080}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: peer, namespace: peers}
spec:
  serviceName: peers
  replicas: 3
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: peers}}
  template:
    metadata: {labels: {app: peers}}
    spec:
      serviceAccountName: peer
      containers:
      - name: app
        image: causeway-test/app:1
        args: [http, --name, $(NAME), --listen, \"[::]:8080\"]
        env: [{name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
        ports: [{containerPort: 8080}]
        readinessProbe: {httpGet: {port: 8080, path: /}, periodSeconds: 1}
---
apiVersion: causeway.dev/v1alpha1
kind: PeerAuthentication
metadata: {name: default, namespace: peers}
spec: {mtls: {mode: STRICT}}
";

#[test]
fn pods_of_a_headless_stateful_set_reach_each_other_by_name_with_mutual_tls() {
    let Some(node) = node() else { return };
    let _told = node.told(&["peers"]);
    node.apply(&namespace("peers")).unwrap();
    node.apply(SET).unwrap();
    node.rolled_out("peers", "statefulset/peer", ROLLOUT);
    for from in 0..3 {
        let inside = node.inside("peers", &format!("peer-{from}"), "app");
        for to in 0..3 {
            for name in [format!("peer-{to}.peers"), format!("peer-{to}.peers.peers.svc.cluster.local")] {
                let seen = until("a peer answers", Duration::from_secs(30), || {
                    let reply = inside.curl(&[&format!("http://{name}:8080/headers")]);
                    if reply.status == 200 { Ok(reply.json()) } else { Err(format!("{name}: {reply:?}")) }
                });
                assert_eq!(seen["app"], format!("peer-{to}"), "{name}");
                let caller = "URI=spiffe://cluster.local/ns/peers/sa/peer";
                // A pod that calls itself by its own address never leaves its loopback, and nobody vouches for it.
                assert_eq!(seen["headers"].to_string().contains(caller), from != to, "from peer-{from}: {seen}");
            }
        }
    }
}
