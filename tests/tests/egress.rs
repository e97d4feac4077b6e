//! Traffic that leaves the mesh: what is refused and what passes, and hosts of the outside by name, with routes and with
//! TLS that the proxy begins. The outside is a real nginx, and an application beside it, in a namespace of their own.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs)]

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use causeway_tests::capability::{Need, has};
use causeway_tests::certs::Authority;
use causeway_tests::mesh::Cluster;
use causeway_tests::pod::Reply;
use causeway_tests::process::Process;
use causeway_tests::{Mesh, Pod, PodSpec, Settings, until};

const HOST: &str = "api.example.test";

struct Stage {
    client: Pod,
    outside: Pod,
    _nginx: Process,
    mesh: Mesh,
}

/// A client in `dev`, and outside of the mesh the host `api.example.test`: HTTP on 80 and 8080, TLS on 443, TLS that asks for
/// a certificate on 8443.
fn stage() -> Stage {
    let mesh = Mesh::start(Settings::default());
    let mut outside = mesh.pod(PodSpec::new("outside", "api").unmeshed().unlisted());
    outside.app(&["http", "--name", "outside", "--listen", "[::]:8080", "--broken", "/broken"]);
    let nginx = nginx(&mesh, &outside);
    let address = Cluster { ip: outside.net().ip, ip6: outside.net().ip6 };
    mesh.alias("test", "api.example", address);
    mesh.alias("test", "other.example", address);
    let client = mesh.pod(PodSpec::new("dev", "client")).ready();
    Stage { client, outside, _nginx: nginx, mesh }
}

fn nginx(mesh: &Mesh, outside: &Pod) -> Process {
    let directory = mesh.path("scratch");
    let authority = Authority::new("example.test");
    std::fs::create_dir(directory.join("trusted")).unwrap();
    let (ca, _) = authority.write(&directory.join("trusted"));
    let (cert, key) = authority.server(&directory, "api", &[HOST]);
    let (_, client_key) = authority.server(&directory, "client", &["client.example.test"]);
    // The proxies run as another user.
    for path in [&client_key, &directory.join("trusted"), &ca] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    std::fs::create_dir(directory.join("stranger")).unwrap();
    Authority::new("stranger").write(&directory.join("stranger"));
    std::fs::set_permissions(directory.join("stranger"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let tls =
        format!("ssl_protocols TLSv1.3; ssl_certificate {}; ssl_certificate_key {};", cert.display(), key.display());
    let answer = "default_type text/plain; add_header x-app nginx always; \
                  return 200 \"$scheme sni=$ssl_server_name host=$host client=$ssl_client_verify $server_protocol\\n\";";
    let configuration = format!(
        "daemon off; worker_processes 1; pid {0}/nginx.pid; error_log {0}/nginx.err; events {{}}\nhttp {{ access_log off;\n\
         server {{ listen 80; listen [::]:80; {answer} }}\n\
         server {{ listen 443 ssl http2; listen [::]:443 ssl http2; {tls} {answer} }}\n\
         server {{ listen 8443 ssl; listen [::]:8443 ssl; {tls} ssl_client_certificate {1}; ssl_verify_client on; {answer} }}\n}}\n",
        directory.display(),
        ca.display()
    );
    let file = directory.join("nginx.conf");
    std::fs::write(&file, configuration).unwrap();
    let mut command = outside.command("nginx");
    command.arg("-c").arg(&file).arg("-p").arg(&directory);
    let process = Process::start("nginx", &mut command, &directory.join("nginx.log"));
    until("nginx answers", Duration::from_secs(20), || {
        let reply = Reply::of(&mut outside.command("curl"), &["http://127.0.0.1/"]);
        if reply.status == 200 { Ok(()) } else { Err(format!("{reply:?}")) }
    });
    process
}

impl Stage {
    fn write(&self, name: &str, kind: &str, namespace: &str, spec: &str) {
        let mut text = format!(
            "apiVersion: causeway.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: api, namespace: {namespace}}}\nspec:\n"
        );
        spec.lines().for_each(|line| writeln!(text, "  {line}").unwrap());
        self.mesh.write(name, &text);
    }

    fn entry(&self, namespace: &str, ports: &str) {
        let spec = format!("hosts: [{HOST}]\nresolution: DNS\nlocation: MESH_EXTERNAL\nports: {ports}\n");
        self.write(&format!("entry-{namespace}.yaml"), "ServiceEntry", namespace, &spec);
    }

    fn egress(&self, value: &str) {
        let text = format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: dev, labels: {{causeway.dev/egress: {value}}}}}\n"
        );
        self.mesh.write("namespace.yaml", &text);
    }

    /// Waits until the answer is as `is` says.
    fn until(&self, what: &str, arguments: &[&str], is: impl Fn(&Reply) -> bool) -> Reply {
        until(what, Duration::from_secs(20), || {
            let reply = self.client.curl(arguments);
            if is(&reply) { Ok(reply) } else { Err(format!("{arguments:?}: {reply:?}")) }
        })
    }

    fn trusted(&self) -> String {
        self.mesh.path("scratch/trusted/ca.crt").display().to_string()
    }
}

fn needs() -> bool {
    has(&[Need::Namespaces, Need::Program("curl"), Need::Program("nginx")])
}

fn url(path: &str) -> String {
    format!("http://{HOST}{path}")
}

#[test]
fn named_hosts_pass_where_egress_is_denied_and_nothing_else_does() {
    if !needs() {
        return;
    }
    let stage = stage();
    let by_address = format!("http://{}/", stage.outside.net().ip);
    let secure = format!("https://{HOST}/");
    let ca = stage.trusted();
    assert_eq!(stage.client.curl(&[&by_address]).status, 200, "what is unknown passes by default");
    assert_eq!(stage.client.curl(&["--cacert", &ca, &secure]).status, 200);
    stage.egress("deny");
    let refused = stage.until("egress is denied", &[&by_address], |r| r.status == 403);
    assert_eq!(refused.code(), "egress_denied", "{refused:?}");
    assert_eq!(stage.client.curl(&["--cacert", &ca, &secure]).status, 0, "TLS is closed");

    // An entry of another namespace opens nothing here; one of the own does.
    stage.entry("prod", "[{number: 80, name: http, protocol: HTTP}]");
    std::thread::sleep(Duration::from_millis(1500)); // nothing shows that a thing has no effect
    assert_eq!(stage.client.curl(&[&url("/")]).status, 403);
    stage.entry("dev", "[{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, protocol: TLS}]");
    let reply = stage.until("the host is open", &[&url("/")], |r| r.status == 200);
    assert_eq!(reply.header("x-app"), "nginx", "{reply:?}");
    assert!(reply.body.contains("host=api.example.test"), "Host is kept: {reply:?}");
    let reply = stage.until("its TLS port is open", &["--cacert", &ca, &secure], |r| r.status == 200);
    assert!(reply.body.contains("https sni=api.example.test"), "{reply:?}");
    for still in [by_address.as_str(), "http://other.example.test/"] {
        assert_eq!(stage.client.curl(&[still]).code(), "egress_denied", "{still}");
    }
    let other = ["-k", "https://other.example.test/"];
    assert_eq!(stage.client.curl(&other).status, 0);

    // A name leads to where DNS has it, whatever address was dialled: it opens no other host.
    let elsewhere = stage.mesh.pod(PodSpec::new("outside", "elsewhere").unmeshed().unlisted());
    let dialled = format!("http://{}/", elsewhere.net().ip);
    let reply = stage.client.curl(&["-H", &format!("Host: {HOST}"), &dialled]);
    assert_eq!(reply.header("x-app"), "nginx", "{reply:?}");
    // And nobody's name leads into the mesh.
    let pod = stage.client.curl(&["-H", "Host: shop.prod.svc.cluster.local", &dialled]);
    assert_eq!(pod.code(), "egress_denied", "{pod:?}");

    stage.egress("allow");
    stage.until("all passes again", &[&by_address], |r| r.status == 200);
}

#[test]
fn the_root_namespace_names_hosts_for_everybody() {
    if !needs() {
        return;
    }
    let stage = stage();
    stage.egress("deny");
    stage.until("egress is denied", &[&url("/")], |r| r.code() == "egress_denied");
    stage.entry("causeway-system", "[{number: 80, name: http, protocol: HTTP}]");
    stage.until("the host is open", &[&url("/")], |r| r.status == 200);
    stage.entry("prod", "[{number: 80, name: http}]\nexportTo: ['*']");
    stage.mesh.wait_for_problem(&["no_effect", "spec.exportTo"]);
}

#[test]
fn routes_hold_for_named_hosts() {
    if !needs() {
        return;
    }
    let stage = stage();
    stage.entry("dev", "[{number: 8080, name: http, protocol: HTTP}]");
    let slow = format!("http://{HOST}:8080/slow/3000");
    stage.write(
        "routes.yaml",
        "VirtualService",
        "dev",
        &format!(
            "hosts: [{HOST}]\nhttp:\n- match: [{{uri: {{prefix: /slow}}}}]\n  timeout: 300ms\n  route: [{{destination: {{host: \
             {HOST}}}}}]\n- route: [{{destination: {{host: {HOST}}}}}]\n  headers: {{request: {{set: {{x-via: mesh}}}}}}\n  \
             retries: {{attempts: 2, retryOn: 5xx}}\n"
        ),
    );
    let late = stage.until("the timeout is in force", &[&slow], |r| r.status == 504);
    assert_eq!(late.code(), "upstream_timeout", "{late:?}");
    let seen = stage.client.curl(&[&format!("http://{HOST}:8080/headers")]);
    assert_eq!(seen.status, 200, "{seen:?}");
    assert!(seen.body.contains("x-via") && seen.body.contains(&format!("{HOST}:8080")), "{seen:?}");
    let broken = stage.client.curl(&[&format!("http://{HOST}:8080/broken")]);
    assert_eq!(broken.status, 500, "{broken:?}");
    let counted = stage.client.metric("istio_requests_total", &["destination_service=\"api.example.test\""]);
    assert!(counted >= 3.0, "named in the metrics: {counted}");
}

#[test]
fn the_proxy_begins_tls_and_judges_the_server() {
    if !needs() {
        return;
    }
    let stage = stage();
    let scratch = |name: &str| stage.mesh.path(&format!("scratch/{name}")).display().to_string();
    stage.entry(
        "dev",
        "[{number: 80, name: http, protocol: HTTP, targetPort: 443}, {number: 8443, name: http-m, protocol: HTTP}]",
    );
    let rule = |tls: &str| {
        let spec = format!("host: {HOST}\ntrafficPolicy:\n  tls: {tls}\n");
        stage.write("rule.yaml", "DestinationRule", "dev", &spec);
    };
    rule(&format!("{{mode: SIMPLE, caCertificates: {}}}", stage.trusted()));
    let reply = stage.until("TLS is begun", &[&url("/a?b")], |r| r.body.starts_with("https"));
    assert!(reply.body.contains("sni=api.example.test host=api.example.test client=NONE HTTP/1.1"), "{reply:?}");
    let http2 = stage.client.curl(&["--http2-prior-knowledge", &url("/")]);
    assert!(http2.body.contains("HTTP/2.0"), "{http2:?}");
    let refused = |why: &str| {
        let reply = stage.until(why, &[&url("/")], |r| r.status == 503 && r.body.contains(why));
        assert_eq!(reply.code(), "connect_failed", "{reply:?}");
    };
    rule(&format!("{{mode: SIMPLE, caCertificates: {}}}", scratch("stranger/ca.crt")));
    refused("UnknownIssuer");
    rule(&format!("{{mode: SIMPLE, caCertificates: {}, subjectAltNames: [wrong.example.test]}}", stage.trusted()));
    refused("not valid for name");
    rule("{mode: SIMPLE, caCertificates: /nowhere/ca.crt}");
    refused("/nowhere/ca.crt");

    let secure = format!("http://{HOST}:8443/");
    rule(&format!("{{mode: SIMPLE, caCertificates: {}}}", stage.trusted()));
    stage.until("without a certificate the server refuses", &[&secure], |r| r.status == 400);
    rule(&format!(
        "{{mode: MUTUAL, caCertificates: {}, clientCertificate: {}, privateKey: {}}}",
        stage.trusted(),
        scratch("client.crt"),
        scratch("client.key")
    ));
    let reply = stage.until("with one it answers", &[&secure], |r| r.status == 200);
    assert!(reply.body.contains("client=SUCCESS"), "{reply:?}");
}

#[test]
fn static_endpoints_and_addresses_are_of_the_entry() {
    if !needs() {
        return;
    }
    let stage = stage();
    stage.egress("deny");
    let ip = stage.outside.net().ip;
    let spec = format!(
        "hosts: [legacy.example.test]\naddresses: [192.0.2.10]\nresolution: STATIC\nports: [{{number: 80, name: http, targetPort: \
         8080}}]\nendpoints: [{{address: {ip}}}]\n"
    );
    stage.write("static.yaml", "ServiceEntry", "dev", &spec);
    let reply = stage.until("the address is of the entry", &["http://192.0.2.10/"], |r| r.status == 200);
    assert_eq!(reply.header("x-app"), "outside", "{reply:?}");
    let direct = stage.client.curl(&[&format!("http://{ip}:8080/")]);
    assert_eq!(direct.status, 200, "its endpoints are too: {direct:?}");
    let named = stage.client.curl(&["-H", "Host: legacy.example.test", "http://192.0.2.99/"]);
    assert_eq!(named.header("x-app"), "outside", "{named:?}");
    let other = stage.client.curl(&[&format!("http://{ip}/")]);
    assert_eq!(other.code(), "egress_denied", "another port is not: {other:?}");
    let wrong = "hosts: [shop.prod.svc.cluster.local, db]\nresolution: STATIC\nports: [{number: 80}]\nendpoints: [{address: \
                 127.0.0.1}]\n";
    stage.write("wrong.yaml", "ServiceEntry", "prod", wrong);
    stage.mesh.wait_for_problem(&["invalid_host", "spec.hosts[0]", "a name of the cluster"]);
    stage.mesh.wait_for_problem(&["invalid_host", "spec.hosts[1]"]);
    assert!(Path::new(&stage.trusted()).is_file());
}
