//! A pod without a proxy, on either side of the mesh.

use std::time::Duration;

use causeway_tests::until;

use crate::{ROLLOUT, client, namespace, node, server, service};

/// Without a PeerAuthentication every pod of the mesh is strict; here one says so and one is the exception.
const MODES: &str = "
apiVersion: causeway.dev/v1alpha1
kind: PeerAuthentication
metadata: {name: permissive, namespace: plain}
spec:
  selector: {matchLabels: {app: permissive}}
  mtls: {mode: PERMISSIVE}
---
apiVersion: causeway.dev/v1alpha1
kind: PeerAuthentication
metadata: {name: strict-only, namespace: plain}
spec:
  selector: {matchLabels: {app: strict}}
  mtls: {mode: STRICT}
";

#[test]
fn a_pod_without_a_proxy_is_served_where_policy_permits_and_refused_where_it_is_strict() {
    let Some(node) = node() else { return };
    let _told = node.told(&["plain", "outside"]);
    let mut yaml = namespace("plain");
    yaml += "{apiVersion: v1, kind: Namespace, metadata: {name: outside}}\n---\n";
    for name in ["permissive", "strict"] {
        yaml += &server("plain", name, name, &format!("app: {name}"), 1);
        yaml += &service("plain", name, &format!("app: {name}"));
    }
    yaml += &(client("plain", "meshed") + &client("outside", "bare") + &service("outside", "bare", "app: bare"));
    node.apply(&yaml).unwrap();
    node.apply(MODES).unwrap();
    for name in ["permissive", "strict", "meshed"] {
        node.rolled_out("plain", &format!("deploy/{name}"), ROLLOUT);
    }
    node.rolled_out("outside", "deploy/bare", ROLLOUT);
    let pods = node.get(&["-n", "outside", "pods"]).unwrap();
    assert!(!pods.to_string().contains("causeway-proxy"), "a namespace without the label is left alone");

    let (bare, meshed) = (node.app("outside", "app=bare"), node.app("plain", "app=meshed"));
    let seen = until("the permissive pod serves plain text", Duration::from_secs(30), || {
        let seen = bare.curl(&["http://permissive.plain/headers"]);
        if seen.status == 200 { Ok(seen) } else { Err(format!("{seen:?}")) }
    });
    assert!(!seen.body.contains("spiffe://"), "nobody vouches for a caller in plain text: {seen:?}");
    until("the strict pod refuses plain text", Duration::from_secs(30), || {
        let refused = bare.curl(&["http://strict.plain/headers"]);
        let is_refused = (refused.status, refused.code()) == (403, "plaintext_refused");
        if is_refused { Ok(()) } else { Err(format!("{refused:?}")) }
    });
    for name in ["permissive", "strict"] {
        let seen = meshed.curl(&[&format!("http://{name}.plain/headers")]);
        assert_eq!(seen.status, 200, "{name}: {seen:?}");
        assert!(seen.body.contains("URI=spiffe://cluster.local/ns/plain/sa/meshed"), "{name}: {seen:?}");
    }
    let seen = meshed.curl(&["http://bare.outside/headers"]);
    assert_eq!(seen.status, 200, "from the mesh to a pod without a proxy: {seen:?}");
}
