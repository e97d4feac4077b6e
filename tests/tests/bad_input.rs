//! Wrong configuration and wrong credentials, through the real programs: a clear error each, the last good state kept.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use causeway_tests::capability::{Need, has};
use causeway_tests::pod::Reply;
use causeway_tests::yaml::Port;
use causeway_tests::{Mesh, Pod, PodSpec, Settings, until};

struct Pair {
    client: Pod,
    server: Pod,
    mesh: Mesh,
}

const HTTP: &[Port<'_>] = &[Port { name: "http", port: 80, target: 8080 }];

fn pair() -> Pair {
    let mesh = Mesh::start(Settings::default());
    mesh.service("prod", "server", HTTP, &[("app", "server")]);
    let mut server = mesh.pod(PodSpec::new("prod", "server").label("version", "v1"));
    server.serve_http("server", 8080);
    mesh.write("route.yaml", &route("server.prod.svc.cluster.local", "v1", "weight: 1"));
    mesh.write("rule.yaml", RULE);
    let pair = Pair { client: mesh.pod(PodSpec::new("dev", "client")).ready(), server: server.ready(), mesh };
    pair.expect(200, "");
    pair
}

const RULE: &str = "apiVersion: causeway.dev/v1alpha1\nkind: DestinationRule\nmetadata: {name: server, namespace: \
                    prod}\nspec:\n  host: server\n  subsets: [{name: v1, labels: {version: v1}}]\n";

fn route(host: &str, subset: &str, rest: &str) -> String {
    format!(
        "apiVersion: causeway.dev/v1alpha1\nkind: VirtualService\nmetadata: {{name: server, namespace: prod}}\nspec:\n  \
         hosts: [server]\n  http:\n  - route:\n    - destination: {{host: {host}, subset: {subset}}}\n      {rest}\n"
    )
}

impl Pair {
    fn expect(&self, status: u16, code: &str) -> Reply {
        until(&format!("{status} {code}"), Duration::from_secs(20), || {
            let reply = self.client.curl(&["http://server.prod/"]);
            if reply.status == status && reply.code() == code { Ok(reply) } else { Err(format!("{reply:?}")) }
        })
    }

    fn still_works(&self) {
        let reply = self.client.curl(&["http://server.prod/"]);
        assert_eq!((reply.status, reply.body.as_str()), (200, "server\n"), "{reply:?}");
    }
}

fn needs() -> bool {
    has(&[Need::Namespaces, Need::Program("curl")])
}

#[test]
fn a_broken_file_is_reported_and_the_last_good_state_kept() {
    if !needs() {
        return;
    }
    let pair = pair();
    pair.mesh.write("route.yaml", "apiVersion: causeway.dev/v1alpha1\nkind: VirtualService\nspec: [\n  broken");
    pair.mesh.wait_for_problem(&["route.yaml"]);
    pair.still_works();
    pair.mesh.write("route.yaml", &route("server", "v1", "weight: -3"));
    pair.mesh.wait_for_problem(&["route.yaml", "weight"]);
    pair.still_works();
    pair.mesh.write("route.yaml", "apiVersion: causeway.dev/v1alpha1\nkind: VirtualService\nmetadata: {name: server, namespace: prod}\nspec: {hosts: 7}\n");
    pair.mesh.wait_for_problem(&["route.yaml", "hosts"]);
    pair.still_works();
    pair.mesh.write("service-prod-server.yaml", "\u{1}\u{2}: not yaml: [");
    pair.mesh.wait_for_problem(&["service-prod-server.yaml"]);
    pair.still_works();
    assert!(pair.mesh.control_plane().log().lines().count() < 400, "the same problem is not logged again and again");
}

#[test]
fn dangling_references_are_reported_with_their_field() {
    if !needs() {
        return;
    }
    let pair = pair();
    pair.mesh.write("route.yaml", &route("server.prod.svc.cluster.local", "v9", "weight: 1"));
    pair.mesh.wait_for_problem(&["v9", "subset", "route.yaml"]);
    let reply = pair.client.curl(&["http://server.prod/"]);
    assert!(reply.status == 200 || reply.status >= 500, "{reply:?}");
    pair.mesh.write("route.yaml", &route("missing.prod.svc.cluster.local", "v1", "weight: 1"));
    pair.mesh.wait_for_problem(&["missing", "host", "route.yaml"]);
    // A single destination would get everything.
    let none = "weight: 0\n    - {destination: {host: server.prod.svc.cluster.local}, weight: 0}";
    pair.mesh.write("route.yaml", &route("server.prod.svc.cluster.local", "v1", none));
    pair.expect(503, "no_weight");
    pair.mesh.write("route.yaml", &route("server.prod.svc.cluster.local", "v1", "weight: 1"));
    pair.expect(200, "");
    pair.server.net();
}

#[test]
fn bad_tokens_and_foreign_bundles_get_no_certificate() {
    if !needs() {
        return;
    }
    let mesh = Mesh::start(Settings::default());
    for name in ["client", "other"] {
        mesh.pod(PodSpec::new("dev", name).unmeshed().label("causeway.dev/injected", "true"));
    }
    let good = mesh.token("dev/client", &["--pod", "client"]).ok();
    let other = mesh.token("dev/other", &["--pod", "other"]).ok();
    let expired = mesh.token("dev/client", &["--pod", "client", "--ttl", "1s"]).ok();
    let elsewhere = Mesh::start(Settings::default());
    let foreign = elsewhere.token("dev/client", &["--pod", "client"]).ok();
    let mut parts: Vec<&str> = good.trim().split('.').collect();
    let stranger: Vec<&str> = other.trim().split('.').collect();
    parts[1] = stranger[1]; // the claims of one, the signature of another
    let spliced = parts.join(".");
    let bundle = std::fs::read(mesh.path("state/trust-bundle.pem")).unwrap();
    let foreign_bundle = std::fs::read(elsewhere.path("state/trust-bundle.pem")).unwrap();
    let cases = [
        ("good", good.as_str(), &bundle),
        ("expired", expired.as_str(), &bundle),
        ("foreign", foreign.as_str(), &bundle),
        ("spliced", spliced.as_str(), &bundle),
        ("garbage", "not.a.token", &bundle),
        ("empty", "", &bundle),
        ("other-pod", other.as_str(), &bundle),
        ("foreign-bundle", good.as_str(), &foreign_bundle),
    ];
    std::thread::sleep(Duration::from_millis(1_100)); // the short token's life, the only thing waited for by time
    let pods: Vec<_> = cases
        .iter()
        .map(|(name, token, bundle)| {
            let directory = mesh.path(&format!("scratch/{name}"));
            std::fs::create_dir(&directory).unwrap();
            std::fs::write(directory.join("token"), token.trim()).unwrap();
            std::fs::write(directory.join("trust-bundle.pem"), bundle).unwrap();
            let spec = PodSpec::new("dev", &format!("client-{name}")).unlisted();
            let own = format!("https://{}:15010", causeway_tests::net::NODE_IP);
            // All claim to be the pod `client`.
            (*name, mesh.pod(spec.control_plane(&own, directory).workload("dev/client")))
        })
        .collect();
    until("the good token gets a certificate", Duration::from_secs(20), || {
        let log = pods[0].1.proxy().log();
        let certs = pods[0].1.proxy_admin(&[], "/certs").stdout;
        if certs.contains("spiffe://cluster.local/ns/dev/sa/client") { Ok(()) } else { Err(certs + &log) }
    });
    for (name, pod) in &pods[1..] {
        let (name, wanted): (&str, &[&str]) = match *name {
            "foreign-bundle" => (name, &["trust", "certificate", "issuer", "UnknownIssuer"]),
            _ => (name, &["oken", "UNAUTHENTICATED", "nauthenticated", "ermission"]),
        };
        until(&format!("{name} is told why"), Duration::from_secs(20), || {
            let log = pod.proxy().log();
            if wanted.iter().any(|w| log.contains(w)) { Ok(()) } else { Err(log) }
        });
        assert_ne!(pod.health("/ready").code, Some(0), "{name} is not ready");
        assert!(!pod.proxy_admin(&[], "/certs").stdout.contains("/sa/client\""), "{name} has a certificate");
        let token = cases.iter().find(|c| c.0 == name).unwrap().1.trim();
        let secret = token.rsplit('.').next().unwrap();
        assert!(secret.len() < 20 || !pod.proxy().log().contains(secret), "{name}: the token is in the log");
    }
    let log = mesh.control_plane().log();
    assert!(!log.contains(good.trim().rsplit('.').next().unwrap()), "a token is in the control plane's log");
}
