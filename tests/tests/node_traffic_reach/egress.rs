//! What is outside of the mesh: refused or not, by namespace and by mesh; hosts by name, with routes and with TLS.

use std::time::{Duration, Instant};

use causeway_tests::kube::Inside;
use causeway_tests::process::run;
use causeway_tests::until;

use crate::stage::{SOON, Stage, url};

const OPENED: &str = include_str!("../../fixtures/reach/opened.yaml");
const ROUTES: &str = include_str!("../../fixtures/reach/routes.yaml");
const NAMED: &str = include_str!("../../fixtures/reach/named.yaml");
const API: &str = include_str!("../../fixtures/reach/api.yaml");

const GREETING: &str = "hello from outside\n";

/// Says for a namespace whether what the mesh does not know passes; `-` takes the label away.
fn egress(stage: &Stage, namespace: &str, value: &str) {
    let label = if value == "-" { "causeway.dev/egress-".to_owned() } else { format!("causeway.dev/egress={value}") };
    stage.node.kubectl(&["label", "--overwrite", "namespace", namespace, &label]).unwrap();
}

/// Connects to the server of bytes, which speaks first; what it said.
fn greeting(stage: &Stage, from: &Inside) -> String {
    let to = format!("{}:9000", stage.outside.address);
    from.talk(&[&to, "--until", "1", "--timeout-ms", "10000"])["text"].as_str().unwrap().to_owned()
}

/// Waits until requests of a pod to an address that nobody has named are answered like this.
fn comes(stage: &Stage, from: &Inside, status: u16, code: &str) {
    until(&format!("{status} {code}"), SOON, || {
        let reply = from.curl(&[&format!("http://{}:8080/", stage.outside.address)]);
        if (reply.status, reply.code()) == (status, code) { Ok(()) } else { Err(format!("{reply:?}")) }
    });
}

pub fn denied_by_namespace(stage: &Stage) {
    let (client, address) = (&stage.client, &stage.outside.address);
    comes(stage, client, 200, "");
    assert_eq!(greeting(stage, client), GREETING, "by default all passes");
    egress(stage, "dev", "deny");
    comes(stage, client, 403, "egress_denied");
    let refused = || client.metric("causeway_refused_total", &["outbound", "cause=\"egress_denied\""]);
    let before = refused();
    assert_eq!(greeting(stage, client), "", "closed before a byte came");
    let by_address = format!("https://{address}/");
    assert_eq!(client.curl(&["-k", &by_address]).status, 0, "TLS is closed");
    assert_eq!(refused() - before, 2.0, "and each is counted");
    comes(stage, &stage.far, 200, "");
    assert_eq!(greeting(stage, &stage.far), GREETING, "other namespaces go on");
    assert_eq!(client.curl(&[&url("a/")]).status, 200, "the mesh is not the outside");

    stage.apply(&OPENED.replace("NODE", address));
    let named = client.curl(&["http://outside.example.test/"]);
    assert_eq!((named.status, named.header("x-app")), (200, "nginx"), "{named:?}");
    assert!(named.body.contains("host=outside.example.test"), "Host is kept: {named:?}");
    let secure = client.curl(&["-k", "https://outside.example.test/"]);
    assert!(secure.body.contains("https sni=outside.example.test"), "{secure:?}");
    assert_eq!(greeting(stage, client), GREETING, "by its address");
    let other = client.curl(&["http://other.example.test/"]);
    assert_eq!((other.status, other.code()), (403, "egress_denied"), "no other name: {other:?}");
    assert_eq!(client.curl(&["-k", "https://other.example.test/"]).status, 0);
    comes(stage, client, 403, "egress_denied");

    stage.node.kubectl_with_input(&["delete", "-f", "-"], &OPENED.replace("NODE", address)).unwrap();
    until("what is named no more is refused", SOON, || {
        let reply = client.curl(&["http://outside.example.test/"]);
        if reply.code() == "egress_denied" { Ok(()) } else { Err(format!("{reply:?}")) }
    });
    egress(stage, "dev", "-");
    comes(stage, client, 200, "");
}

/// An entry of the root namespace opens its host to all namespaces, and nothing else.
pub fn for_everybody(stage: &Stage) {
    let everybody = [&stage.client, &stage.far];
    for namespace in ["dev", "qa"] {
        egress(stage, namespace, "deny");
    }
    for from in everybody {
        comes(stage, from, 403, "egress_denied");
        let reply = from.curl(&["http://outside.example.test/"]);
        assert_eq!((reply.status, reply.code()), (403, "egress_denied"), "{reply:?}");
    }
    let entry = OPENED.replace("NODE", &stage.outside.address).replace("namespace: dev", "namespace: causeway-system");
    stage.apply(&entry);
    for from in everybody {
        let reply = from.curl(&["http://outside.example.test/"]);
        assert_eq!((reply.status, reply.header("x-app")), (200, "nginx"), "{reply:?}");
        assert_eq!(greeting(stage, from), GREETING, "bytes by address");
        assert_eq!(from.curl(&["http://other.example.test/"]).code(), "egress_denied");
    }
    stage.node.kubectl_with_input(&["delete", "-f", "-"], &entry).unwrap();
    for namespace in ["dev", "qa"] {
        egress(stage, namespace, "-");
    }
    for from in everybody {
        comes(stage, from, 200, "");
    }
}

/// The host has no name in any DNS: clients connect to its address, or say its name, and get the endpoints of the entry.
pub fn named_endpoints(stage: &Stage) {
    let (client, address) = (&stage.client, &stage.outside.address);
    egress(stage, "dev", "deny");
    comes(stage, client, 403, "egress_denied");
    let entry = NAMED.replace("NODE", address);
    stage.apply(&entry);
    for arguments in [&["http://192.0.2.50/"][..], &["-H", "Host: legacy.example.test", "http://192.0.2.99/"]] {
        let mut reached = std::collections::BTreeSet::new();
        until("both endpoints answer", SOON, || {
            let reply = client.curl(arguments);
            assert_eq!(reply.status, 200, "{arguments:?}: {reply:?}");
            reached.insert(reply.header("x-app").to_owned());
            if reached.len() == 2 { Ok(()) } else { Err(format!("{reached:?}")) }
        });
        assert!(reached.contains("nginx") && reached.contains("outside"), "each at its own port: {reached:?}");
    }
    let other = client.curl(&["http://192.0.2.51/"]);
    assert_eq!(other.code(), "egress_denied", "no other address: {other:?}");
    stage.node.kubectl_with_input(&["delete", "-f", "-"], &entry).unwrap();
    egress(stage, "dev", "-");
    comes(stage, client, 200, "");
}

pub fn routes(stage: &Stage) {
    let client = &stage.client;
    stage.apply(&format!("{}\n---\n{ROUTES}", OPENED.replace("NODE", &stage.outside.address)));
    let at = |path: &str| format!("http://outside.example.test:8080{path}");
    let began = Instant::now();
    let late = client.curl(&[&at("/slow/8000")]);
    assert_eq!((late.status, late.code()), (504, "upstream_timeout"), "{late:?}");
    let took = began.elapsed();
    assert!((Duration::from_millis(500)..Duration::from_secs(5)).contains(&took), "{took:?}");
    // Asked twice more, and no more than that.
    for (failures, status) in [(2, 200), (3, 503)] {
        let key = format!("outside-{failures}");
        let reply = client.curl(&["-H", &format!("x-key: {key}"), &at(&format!("/flaky/{failures}/503"))]);
        assert_eq!((reply.status, reply.header("x-app")), (status, "outside"), "{reply:?}");
        let seen = client.curl(&[&at(&format!("/tally/{key}"))]).json();
        assert_eq!(seen.as_array().map(Vec::len), Some(3), "{seen}");
    }
    let seen = client.curl(&[&at("/headers")]).json()["headers"].to_string();
    assert!(seen.contains("x-via") && seen.contains("outside.example.test:8080"), "{seen}");
    assert!(client.metric("istio_requests_total", &["destination_service=\"outside.example.test\""]) >= 5.0);

    // Twelve requests of one connection of curl's, as nginx counts them.
    let most = || {
        let urls = ["http://outside.example.test/"; 12];
        let text = run(client.command("curl").args(["-sS", "-m", "20"]).args(urls)).ok();
        let request = |line: &str| line.rsplit_once("request=")?.1.trim().parse::<u32>().ok();
        assert_eq!(text.lines().count(), 12, "{text}");
        text.lines().filter_map(request).max().unwrap()
    };
    stage.rule("dev", "outside.example.test", "{connectionPool: {tcp: {maxConnections: 9}}}");
    assert!(most() >= 12);
    stage.rule("dev", "outside.example.test", "{connectionPool: {http: {maxRequestsPerConnection: 4}}}");
    // Those of before have no such limit, and end with the rule that made them.
    until("no connection serves more than four", SOON, || match most() {
        4 => Ok(()),
        more => Err(more.to_string()),
    });
}

pub fn origination(stage: &Stage) {
    let client = &stage.client;
    stage.apply(API);
    let rule = |tls: &str| stage.rule("dev", "api.example.test", &format!("{{tls: {{{tls}}}}}"));
    let trusted = "caCertificates: /var/run/causeway/tls/ca.crt";
    let plain = client.curl(&["http://api.example.test/a?b"]);
    assert_eq!(plain.status, 400, "nobody begins TLS yet: {plain:?}");
    rule(&format!("mode: SIMPLE, {trusted}"));
    let reply = client.curl(&["http://api.example.test/a?b"]);
    let seen = "https sni=api.example.test host=api.example.test client=NONE HTTP/1.1";
    assert!(reply.status == 200 && reply.body.starts_with(seen), "{reply:?}");
    let http2 = client.curl(&["--http2-prior-knowledge", "http://api.example.test/"]);
    assert!(http2.body.contains("HTTP/2.0"), "{http2:?}");

    for (tls, why) in [
        ("mode: SIMPLE, caCertificates: /var/run/causeway/tls/stranger.crt", "UnknownIssuer"),
        (&format!("mode: SIMPLE, {trusted}, subjectAltNames: [wrong.example.test]"), "not valid for name"),
        (&format!("mode: SIMPLE, {trusted}, sni: wrong.example.test"), "not valid for name"),
        ("mode: SIMPLE, caCertificates: /var/run/causeway/tls/nothing.crt", "nothing.crt"),
        // The bundle of the container, which does not know our authority.
        ("mode: SIMPLE", "UnknownIssuer"),
    ] {
        rule(tls);
        let reply = client.curl(&["http://api.example.test/"]);
        assert_eq!((reply.status, reply.code()), (503, "connect_failed"), "{tls}: {reply:?}");
        assert!(reply.body.contains(why), "{tls}: {reply:?}");
    }

    let mutual = "http://api.example.test:8443/";
    rule(&format!("mode: SIMPLE, {trusted}"));
    assert_eq!(client.curl(&[mutual]).status, 400, "it asks for a certificate");
    let pair = "clientCertificate: /var/run/causeway/tls/client.crt, privateKey: /var/run/causeway/tls/client.key";
    rule(&format!("mode: MUTUAL, {trusted}, {pair}"));
    let reply = client.curl(&[mutual]);
    assert!(reply.status == 200 && reply.body.contains("client=SUCCESS"), "{reply:?}");
}

/// The setting of the installation, and namespaces that say otherwise.
pub fn denied_by_mesh(stage: &Stage) {
    stage.node.kubectl(&["-n", "dev", "delete", "serviceentries.causeway.dev", "--all"]).unwrap();
    stage.node.install(&["--egress", "deny"]);
    for from in [&stage.client, &stage.far] {
        comes(stage, from, 403, "egress_denied");
        assert_eq!(greeting(stage, from), "");
        assert_eq!(from.curl(&[&url("a/")]).status, 200);
    }
    egress(stage, "qa", "allow");
    comes(stage, &stage.far, 200, "");
    assert_eq!(greeting(stage, &stage.far), GREETING);
    comes(stage, &stage.client, 403, "egress_denied");
    egress(stage, "qa", "-");
    stage.node.install(&[]);
    for from in [&stage.client, &stage.far] {
        comes(stage, from, 200, "");
    }
}
