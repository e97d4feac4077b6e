//! Mutual TLS: who is refused, what the wire shows, and what passes in the clear on purpose.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use causeway_tests::capability::{Need, has};
use causeway_tests::certs::Authority;
use causeway_tests::process::run;
use causeway_tests::yaml::Port;
use causeway_tests::{Mesh, Pod, PodSpec, Process, Settings, until};

const HTTP: &[Port<'_>] = &[Port { name: "http", port: 80, target: 8080 }];

fn server(mesh: &Mesh, spec: PodSpec) -> Pod {
    let mut pod = mesh.pod(spec);
    pod.serve_http("server", 8080);
    pod
}

/// Waits until `client` gets 200 from `url`.
fn works(client: &Pod, url: &str) {
    until(&format!("{url} answers"), Duration::from_secs(20), || {
        let reply = client.curl(&[url]);
        if reply.status == 200 { Ok(()) } else { Err(format!("{reply:?}")) }
    });
}

#[test]
fn plaintext_is_refused_when_strict_and_passes_when_permissive() {
    if !has(&[Need::Namespaces, Need::Program("curl")]) {
        return;
    }
    let mesh = Mesh::start(Settings::default());
    mesh.service("prod", "server", HTTP, &[("app", "server")]);
    let server = server(&mesh, PodSpec::new("prod", "server"));
    let client = mesh.pod(PodSpec::new("dev", "client")).ready();
    let outsider = mesh.pod(PodSpec::new("dev", "outsider").unmeshed());
    server.wait_ready();
    works(&client, "http://server.prod/");
    let urls = [format!("http://{}:8080/", server.net().ip), format!("http://[{}]:8080/", server.net().ip6)];
    for url in &urls {
        let reply = outsider.curl(&[url]);
        let refused = reply.status == 403 && reply.code() == "plaintext_refused";
        assert!(refused, "{reply:?}");
    }
    let address = format!("{}:8080", server.net().ip);
    let bytes = outsider.client(&["talk", "--connect", &address, "--send", "\\0\\0\\0hello", "--timeout-ms", "8000"]);
    assert!(bytes["text"] == "" && bytes["end"] != "timeout", "bytes in the clear are cut: {bytes}");

    let policy = |mode: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: default, namespace: \
             prod}}\nspec: {{mtls: {{mode: {mode}}}}}\n"
        )
    };
    mesh.write("peerauthentication.yaml", &policy("PERMISSIVE"));
    for url in &urls {
        works(&outsider, url);
    }
    works(&client, "http://server.prod/");
    mesh.write("peerauthentication.yaml", &policy("STRICT"));
    until("plain text is refused again", Duration::from_secs(20), || {
        let reply = outsider.curl(&[&urls[0]]);
        if reply.status == 403 { Ok(()) } else { Err(format!("{reply:?}")) }
    });
}

#[test]
fn the_wire_between_pods_carries_only_tls() {
    if !has(&[Need::Namespaces, Need::Program("curl"), Need::Program("tcpdump")]) {
        return;
    }
    let mesh = Mesh::start(Settings::default());
    let ports = [HTTP[0], Port { name: "tcp-echo", port: 9000, target: 9000 }];
    mesh.service("prod", "server", &ports, &[("app", "server")]);
    let mut server = server(&mesh, PodSpec::new("prod", "server"));
    server.app(&["tcp-echo", "--listen", "[::]:9000"]);
    let client = mesh.pod(PodSpec::new("dev", "client")).ready();
    server.wait_ready();
    works(&client, "http://server.prod/");
    let file = mesh.path("scratch/wire.pcap");
    let mut command = mesh.node().namespace().command("tcpdump");
    command.args(["-i", "any", "-U", "-s", "0", "-Z", "root", "-w"]).arg(&file);
    let mut capture = Process::start("tcpdump", &mut command, &mesh.path("logs/tcpdump.log"));
    capture.wait_for_log("listening on", Duration::from_secs(10));
    let reply = client.curl(&["-H", "x-marker: visible-header", "-d", "visible-body", "http://server.prod/echo"]);
    assert_eq!(reply.body, "visible-body", "{reply:?}");
    let talk = ["talk", "--connect", "server.prod:9000", "--send", "visible-bytes", "--half-close", "yes"];
    assert!(client.client(&talk)["text"].to_string().contains("visible-bytes"));
    until("the capture has the handshakes", Duration::from_secs(10), || {
        let seen = std::fs::read(&file).unwrap();
        if contains(&seen, &[0x17, 3, 3]) { Ok(()) } else { Err(format!("{} bytes", seen.len())) }
    });
    capture.signal("INT");
    capture.wait(Duration::from_secs(10));
    let seen = std::fs::read(&file).unwrap();
    assert!(!contains(&seen, b"visible-"), "the wire shows what the applications said");
    assert!(!contains(&seen, b"server.prod"), "the wire shows a host name");
    assert!(!contains(&seen, b"HTTP/1.1"), "the wire shows HTTP");
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|w| w == needle)
}

#[test]
fn an_endpoint_with_another_identity_than_its_pod_has_is_refused() {
    if !has(&[Need::Namespaces, Need::Program("curl")]) {
        return;
    }
    let mesh = Mesh::start(Settings::default());
    mesh.service("prod", "victim", HTTP, &[("app", "victim")]);
    let thief = server(&mesh, PodSpec::new("prod", "thief"));
    let client = mesh.pod(PodSpec::new("dev", "client")).ready();
    thief.wait_ready();
    // The directory says that the pod at this address is `victim`: a reused address, or a stale record.
    let text = std::fs::read_to_string(mesh.path("source").join(thief.file())).unwrap();
    mesh.forget(&thief);
    mesh.write("pod-victim.yaml", &text.replace("thief", "victim"));
    let reply = until("the refusal", Duration::from_secs(20), || {
        let reply = client.curl(&["http://victim.prod/"]);
        assert_ne!(reply.status, 200, "a thief was served: {reply:?}");
        if reply.code() == "identity_mismatch" { Ok(reply) } else { Err(format!("{reply:?}")) }
    });
    assert_eq!(reply.status, 503);
}

/// Certificates that nobody in the mesh may accept, and one that is right.
fn forgeries(mesh: &Mesh) -> Vec<(&'static str, (PathBuf, PathBuf))> {
    let scratch = mesh.path("scratch");
    let right = "spiffe://cluster.local/ns/dev/sa/client";
    let leaf = |name, uris: &[&str]| (name, mesh.authority.leaf(&scratch, name, uris));
    let foreign = Authority::new("cluster.local");
    vec![
        leaf("right", &[right]),
        ("foreign-root", foreign.leaf(&scratch, "foreign-root", &[right])),
        leaf("other-trust-domain", &["spiffe://other.local/ns/dev/sa/client"]),
        leaf("two-names", &[right, "spiffe://cluster.local/ns/dev/sa/other"]),
        leaf("no-name", &[]),
        leaf("upper-case", &["SPIFFE://cluster.local/ns/dev/sa/client"]),
        leaf("percent", &["spiffe://cluster.local/ns/dev/sa/clien%74"]),
        leaf("short", &["spiffe://cluster.local/ns/dev"]),
    ]
}

#[test]
fn client_certificates_of_every_wrong_form_are_refused() {
    if !has(&[Need::Namespaces, Need::Program("openssl")]) {
        return;
    }
    let mesh = Mesh::start(Settings::default());
    let server = server(&mesh, PodSpec::new("prod", "server")).ready();
    let outsider = mesh.pod(PodSpec::new("dev", "outsider").unmeshed());
    let address = format!("{}:8080", server.net().ip);
    for (name, (cert, key)) in forgeries(&mesh) {
        let answer = tls_request(&outsider, &address, Some((&cert, &key)));
        assert_eq!(answer.contains("HTTP/1.1 200"), name == "right", "{name}: {answer}");
    }
    let answer = tls_request(&outsider, &address, None);
    assert!(!answer.contains("HTTP/1.1"), "no certificate: {answer}");
}

/// One HTTP/1.1 request over the mesh's own TLS, spoken by openssl.
fn tls_request(pod: &Pod, address: &str, identity: Option<(&Path, &Path)>) -> String {
    use std::io::Write as _;
    let mut command = pod.command("timeout");
    command.args(["5", "openssl", "s_client", "-connect", address, "-alpn", "causeway-h1", "-quiet", "-tls1_3"]);
    if let Some((cert, key)) = identity {
        command.arg("-cert").arg(cert).arg("-key").arg(key);
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let _ = input.write_all(b"GET / HTTP/1.1\r\nHost: server.prod\r\nConnection: close\r\n\r\n");
    let output = child.wait_with_output().unwrap();
    drop(input);
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn server_certificates_of_every_wrong_form_are_refused() {
    if !has(&[Need::Namespaces, Need::Program("openssl"), Need::Program("curl")]) {
        return;
    }
    let mesh = Mesh::start(Settings::default());
    mesh.service("dev", "client", HTTP, &[("app", "client")]);
    let caller = mesh.pod(PodSpec::new("dev", "caller")).ready();
    // Every forgery claims to be `client`; here they serve at the address of the pod of that account.
    let claimed = PodSpec::new("dev", "client").unmeshed().label("causeway.dev/injected", "true");
    let mut pod = mesh.pod(claimed);
    for (name, (cert, key)) in forgeries(&mesh).into_iter().filter(|(name, _)| *name != "right") {
        let mut command = pod.command("openssl");
        command.args(["s_server", "-www", "-accept", "8080", "-alpn", "causeway-h2,causeway-h1", "-tls1_3"]);
        command.arg("-cert").arg(cert).arg("-key").arg(key);
        pod.spawn(&mut command).wait_for_log("ACCEPT", Duration::from_secs(10));
        // Over HTTP/1.1, and over HTTP/2, which is for what may not be sent twice.
        for method in ["GET", "POST"] {
            until(&format!("{name} is refused"), Duration::from_secs(20), || {
                let reply = caller.curl(&["-X", method, "http://client.dev/"]);
                if reply.code() == "identity_mismatch" { Ok(()) } else { Err(format!("{reply:?}")) }
            });
        }
        pod.stop_apps();
    }
}

#[test]
fn probes_of_the_pod_spec_pass_in_the_clear_and_nothing_else() {
    if !has(&[Need::Namespaces, Need::Program("curl")]) {
        return;
    }
    let mesh = Mesh::start(Settings::default());
    let containers = "  containers:
  - name: app
    image: app
    ports: [{name: web, containerPort: 8080}]
    livenessProbe: {httpGet: {path: /healthz, port: 8080}}
    readinessProbe: {httpGet: {path: /readyz?full=1, port: web}}
";
    let server = server(&mesh, PodSpec::new("prod", "server").containers(containers)).ready();
    let kubelet = mesh.node().namespace();
    let get = |path: &str| {
        let url = format!("http://{}:8080{path}", server.net().ip);
        run(kubelet.command("curl").args(["-sS", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", &url])).stdout
    };
    until("the probes pass", Duration::from_secs(20), || {
        let (live, ready) = (get("/healthz"), get("/readyz?full=1"));
        if live == "200" && ready == "200" { Ok(()) } else { Err(format!("live {live}, ready {ready}")) }
    });
    for path in ["/", "/healthz/", "/healthz/../secret", "/healthzz", "/HEALTHZ", "/secret"] {
        assert_eq!(get(path), "403", "{path}");
    }
}
