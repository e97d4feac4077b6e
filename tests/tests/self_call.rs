//! A pod that calls its own Service and is chosen as its own endpoint: nothing redirects that connection on its way in.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use causeway_tests::capability::{Need, has};
use causeway_tests::yaml::Port;
use causeway_tests::{Mesh, PodSpec, Settings, until};

#[test]
fn a_pod_reaches_itself_through_its_own_service() {
    if !has(&[Need::Namespaces, Need::Program("curl")]) {
        return;
    }
    let mesh = Mesh::start(Settings::default());
    mesh.service("prod", "server", &[Port { name: "http", port: 80, target: 8080 }], &[("app", "server")]);
    let mut server = mesh.pod(PodSpec::new("prod", "server"));
    server.serve_http("server", 8080);
    let server = server.ready();
    until("the pod answers itself", Duration::from_secs(20), || {
        let reply = server.curl(&["http://server.prod/"]);
        if reply.status == 200 { Ok(()) } else { Err(format!("{reply:?}")) }
    });
    for _ in 0..20 {
        assert_eq!(server.curl(&["http://server.prod.svc.cluster.local/"]).status, 200);
    }
}
