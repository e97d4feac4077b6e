//! Addresses by which others reach a Service from outside: kube-proxy leads them to the pods, the mesh does not.

use crate::stage::{CLIENT, Stage};

const ROUTE: &str = include_str!("../../fixtures/services/exposed.yaml");
const PERMISSIVE: &str = include_str!("../../fixtures/services/permissive.yaml");

pub fn left_alone(stage: &Stage) {
    stage.apply(ROUTE);
    let status = r#"{"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.10"}]}}}"#;
    let patch = ["patch", "service", "exposed", "--subresource=status", "--type=merge", "-p", status];
    stage.node.kubectl(&[&["-n", "prod"], &patch[..]].concat()).unwrap();
    let own = stage.get("http://exposed.prod/headers");
    assert_eq!((own.header("x-app"), own.header("x-routed")), ("exposed", "exposed"), "{own:?}");
    assert!(own.body.contains(CLIENT), "{own:?}");
    let urls = [
        format!("http://{}:30080/headers", stage.node.address()),
        "http://192.0.2.10/headers".to_owned(),
        "http://192.0.2.11/headers".to_owned(),
    ];
    // They lead past the caller's proxy, so what arrives is plain text: refused, where a pod does not accept that.
    for url in &urls {
        stage.until("plain text is refused", url, |r| (r.status, r.code()) == (403, "plaintext_refused"));
    }
    stage.apply(PERMISSIVE);
    for url in &urls {
        for host in ["x.example", "exposed.prod.svc.cluster.local"] {
            let reply = stage.client.curl(&["-H", &format!("Host: {host}"), url]);
            let (app, routed) = (reply.header("x-app"), reply.header("x-routed"));
            assert_eq!((reply.status, app, routed), (200, "exposed", ""), "{url} {host}: {reply:?}");
            assert!(!reply.body.contains("spiffe://"), "in plain text: {reply:?}");
        }
    }
}
