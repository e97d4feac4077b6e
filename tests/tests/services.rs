//! Every way in which Kubernetes names a group of pods, as a client meets it.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use causeway_tests::capability::{Need, has};
use causeway_tests::net::NODE_IP;
use causeway_tests::pod::Reply;
use causeway_tests::process::run;
use causeway_tests::yaml::Port;
use causeway_tests::{Mesh, Pod, PodSpec, Settings, until};

const HTTP: &[Port<'_>] = &[Port { name: "http", port: 80, target: 8080 }];

struct Stage {
    client: Pod,
    pods: Vec<Pod>,
    mesh: Mesh,
}

/// `count` pods `web-0`, ... of `prod` with the label `app: web`, and a client in `dev`.
fn stage(count: usize) -> Stage {
    let mesh = Mesh::start(Settings::default());
    let web = |n: usize| {
        let name = format!("web-{n}");
        let mut pod = mesh.pod(PodSpec::new("prod", &name).account("web").label("app", "web"));
        pod.serve_http(&name, 8080);
        pod
    };
    let pods: Vec<Pod> = (0..count).map(web).collect();
    let client = mesh.pod(PodSpec::new("dev", "client"));
    pods.iter().for_each(Pod::wait_ready);
    Stage { client: client.ready(), pods, mesh }
}

impl Stage {
    fn service(&self, namespace: &str, name: &str, spec: &str) {
        let text = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}\n"
        );
        self.mesh.write(&format!("service-{namespace}-{name}.yaml"), &text);
    }

    fn until(&self, what: &str, arguments: &[&str], is: impl Fn(&Reply) -> bool) -> Reply {
        until(what, Duration::from_secs(20), || {
            let reply = self.client.curl(arguments);
            if is(&reply) { Ok(reply) } else { Err(format!("{arguments:?}: {reply:?}")) }
        })
    }

    /// Waits until each of them has answered: one that was slow at first is left alone for some seconds.
    fn all_serve(&self, url: &str, apps: &[&str]) {
        let mut seen = BTreeSet::new();
        until("all serve", Duration::from_secs(60), || {
            seen.append(&mut Self::apps(&self.client, url, 20));
            if apps.iter().all(|app| seen.contains(*app)) { Ok(()) } else { Err(format!("{seen:?} of {apps:?}")) }
        });
        assert_eq!(seen.len(), apps.len(), "nobody else: {seen:?}");
    }

    /// Who answers `count` requests of `client`.
    fn apps(client: &Pod, url: &str, count: u32) -> BTreeSet<String> {
        (0..count).map(|_| client.curl(&[url]).header("x-app").to_owned()).collect()
    }
}

fn needs() -> bool {
    has(&[Need::Namespaces, Need::Program("curl")])
}

#[test]
fn pods_of_a_headless_service_have_mutual_tls_and_routes_by_their_addresses() {
    if !needs() {
        return;
    }
    let stage = stage(2);
    stage.service(
        "prod",
        "web",
        "clusterIP: None, selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]",
    );
    stage.mesh.write(
        "routes.yaml",
        "apiVersion: causeway.dev/v1alpha1\nkind: VirtualService\nmetadata: {name: web, namespace: prod}\nspec:\n  hosts: \
         [web]\n  http:\n  - route: [{destination: {host: web}}]\n    headers: {response: {set: {x-routed: 'yes'}}}\n",
    );
    // What a client does that has resolved a record of the kind SRV: the pod's address and its port.
    for (n, pod) in stage.pods.iter().enumerate() {
        let url = format!("http://{}:8080/", pod.net().ip);
        stage.until("the routes of the Service hold", &[&url], |r| r.header("x-routed") == "yes");
        // Who asks for a pod gets that one, although the route leads to the Service.
        assert_eq!(Stage::apps(&stage.client, &url, 12), BTreeSet::from([format!("web-{n}")]));
    }
    let secured = ["connection_security_policy=\"mutual_tls\"", "destination_service_name=\"\""];
    assert!(stage.client.metric("istio_requests_total", &secured[..1]) >= 2.0);
    let seen = stage.pods[0].metric("istio_requests_total", &secured[..1]);
    assert!(seen >= 1.0, "the pod saw {seen}");
    // A port that no Service has is the pod's all the same.
    let reply = stage.client.curl(&[&format!("http://{}:8081/", stage.pods[0].net().ip)]);
    assert_eq!(reply.code(), "connect_failed", "{reply:?}");
}

#[test]
fn an_alias_has_the_routes_of_its_service_and_may_have_its_own() {
    if !needs() {
        return;
    }
    let stage = stage(1);
    let cluster = stage.mesh.service("prod", "web", HTTP, &[("app", "web")]);
    stage.service("dev", "alias", "type: ExternalName, externalName: web.prod.svc.cluster.local");
    let url = format!("http://{}/", cluster.ip);
    stage.until("the Service answers", &[&url], |r| r.header("x-app") == "web-0");
    stage.mesh.write(
        "routes.yaml",
        "apiVersion: causeway.dev/v1alpha1\nkind: VirtualService\nmetadata: {name: alias, namespace: dev}\nspec:\n  hosts: \
         [alias]\n  http:\n  - route: [{destination: {host: alias}}]\n    headers: {response: {set: {x-via: alias}}}\n",
    );
    for host in ["alias", "alias.dev", "alias.dev.svc.cluster.local", "ALIAS.dev.svc"] {
        let arguments = ["-H", &format!("Host: {host}"), url.as_str()];
        let reply = stage.until("the alias has its own routes", &arguments, |r| r.header("x-via") == "alias");
        assert_eq!(reply.header("x-app"), "web-0", "{reply:?}");
    }
    for host in ["web.prod", "other", "alias.prod"] {
        let reply = stage.client.curl(&["-H", &format!("Host: {host}"), &url]);
        assert_eq!((reply.header("x-app"), reply.header("x-via")), ("web-0", ""), "{host}: {reply:?}");
    }
}

#[test]
fn hand_written_endpoints_are_used_with_and_without_a_proxy() {
    if !needs() {
        return;
    }
    let stage = stage(1);
    let mut legacy = stage.mesh.pod(PodSpec::new("outside", "legacy").unmeshed().unlisted());
    legacy.serve_http("legacy", 8080);
    let cluster = stage.mesh.cluster_address("prod", "mixed");
    stage.service("prod", "mixed", &format!("clusterIP: {}, ports: [{{name: http, port: 80}}]", cluster.ip));
    let (inside, outside) = (stage.pods[0].net().ip, legacy.net().ip);
    stage.mesh.write(
        "slice.yaml",
        &format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: mixed-1, namespace: prod, labels: \
             {{kubernetes.io/service-name: mixed}}}}\naddressType: IPv4\nports: [{{name: http, port: 8080}}]\nendpoints: \
             [{{addresses: [{inside}]}}, {{addresses: [{outside}]}}]\n"
        ),
    );
    let url = format!("http://{}/", cluster.ip);
    stage.until("the Service answers", &[&url], |r| r.status == 200);
    stage.all_serve(&url, &["legacy", "web-0"]);
    for policy in ["mutual_tls", "none"] {
        let labels = [&*format!("connection_security_policy=\"{policy}\""), "destination_service_name=\"mixed\""];
        assert!(stage.client.metric("istio_requests_total", &labels) >= 1.0, "{policy}");
    }
    // Addresses that nobody knows, as those of a load balancer or a node, are left alone.
    let left_alone = stage.client.curl(&[&format!("http://{outside}:8080/")]);
    assert_eq!(left_alone.header("x-app"), "legacy", "{left_alone:?}");
}

#[test]
fn a_client_sticks_to_an_endpoint_where_the_service_says_so() {
    if !needs() {
        return;
    }
    let stage = stage(3);
    let cluster = stage.mesh.cluster_address("prod", "web");
    let spec = |more: &str| {
        format!(
            "clusterIP: {}, selector: {{app: web}}, {more} ports: [{{name: http, port: 80, targetPort: 8080}}]",
            cluster.ip
        )
    };
    stage.service("prod", "web", &spec(""));
    let url = format!("http://{}/", cluster.ip);
    stage.until("the Service answers", &[&url], |r| r.status == 200);
    stage.all_serve(&url, &["web-0", "web-1", "web-2"]);
    stage.service("prod", "web", &spec("sessionAffinity: ClientIP,"));
    until("requests stick", Duration::from_secs(20), || {
        let apps = Stage::apps(&stage.client, &url, 12);
        if apps.len() == 1 { Ok(()) } else { Err(format!("{apps:?}")) }
    });
    let report = stage.client.client(&["load", "--url", &url, "--requests", "300", "--concurrency", "16"]);
    assert_eq!(report["apps"].as_object().unwrap().len(), 1, "load does not move it: {report}");
    let others: Vec<Pod> =
        (0..5).map(|n| stage.mesh.pod(PodSpec::new("dev", &format!("other-{n}")))).map(Pod::ready).collect();
    let each: Vec<BTreeSet<String>> = others.iter().map(|client| Stage::apps(client, &url, 6)).collect();
    assert!(each.iter().all(|apps| apps.len() == 1), "each sticks: {each:?}");

    let short = "sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 1}},";
    stage.service("prod", "web", &spec(short));
    let mut reached = BTreeSet::new();
    until("another is drawn after a silence", Duration::from_secs(40), || {
        let last = Instant::now();
        until("the client was silent for so long", Duration::from_secs(5), || {
            let silent = last.elapsed();
            if silent > Duration::from_millis(1050) { Ok(()) } else { Err(format!("{silent:?}")) }
        });
        let load = ["load", "--url", &url, "--requests", "15", "--pause-ms", "100"];
        let report = stage.client.client(&load);
        let apps = report["apps"].as_object().unwrap();
        assert!(apps.len() == 1 && report["failed"] == 0, "whoever is not silent stays: {report}");
        reached.extend(apps.keys().cloned());
        if reached.len() > 1 { Ok(()) } else { Err(format!("{reached:?}")) }
    });
}

#[test]
fn pods_that_are_not_ready_are_used_where_the_service_publishes_them() {
    if !needs() {
        return;
    }
    let stage = stage(0);
    let mut pod = stage.mesh.pod(PodSpec::new("prod", "web-0").account("web").label("app", "web").starting());
    pod.serve_http("web-0", 8080);
    pod.wait_ready();
    let cluster = stage.mesh.cluster_address("prod", "web");
    let spec = |more: &str| {
        format!(
            "clusterIP: {}, selector: {{app: web}}, {more} ports: [{{name: http, port: 80, targetPort: 8080}}]",
            cluster.ip
        )
    };
    stage.service("prod", "web", &spec(""));
    let url = format!("http://{}/", cluster.ip);
    stage.until("nothing is ready", &[&url], |r| r.code() == "no_endpoints");
    stage.service("prod", "web", &spec("publishNotReadyAddresses: true,"));
    stage.until("it is used all the same", &[&url], |r| r.header("x-app") == "web-0");
}

/// A Service's address at every node and that of its load balancer, each as kube-proxy leads it to the pods.
#[test]
fn addresses_of_nodes_and_load_balancers_are_left_alone() {
    if !needs() {
        return;
    }
    let stage = stage(1);
    let cluster = stage.mesh.cluster_address("prod", "web");
    stage.service(
        "prod",
        "web",
        &format!(
            "type: LoadBalancer, clusterIP: {}, externalIPs: [192.0.2.11], selector: {{app: web}}, ports: [{{name: http, \
             port: 80, targetPort: 8080, nodePort: 30080}}]}}\nstatus: {{loadBalancer: {{ingress: [{{ip: 192.0.2.10}}]}}",
            cluster.ip
        ),
    );
    stage.mesh.write(
        "routes.yaml",
        "apiVersion: causeway.dev/v1alpha1\nkind: VirtualService\nmetadata: {name: web, namespace: prod}\nspec:\n  hosts: \
         [web]\n  http:\n  - route: [{destination: {host: web}}]\n    headers: {response: {set: {x-routed: 'yes'}}}\n",
    );
    lead_outside_addresses(&stage);
    let by_cluster = format!("http://{}/", cluster.ip);
    stage.until("the routes hold", &[&by_cluster], |r| r.header("x-routed") == "yes");
    let outside =
        [format!("http://{NODE_IP}:30080/"), "http://192.0.2.10/".to_owned(), "http://192.0.2.11/".to_owned()];
    let (plain, named) = (["connection_security_policy=\"none\""], ["-H", "Host: web.prod.svc.cluster.local"]);
    // They lead past the caller's proxy, so what arrives is plain text: refused, where a pod does not accept that.
    for url in &outside {
        let reply = stage.client.curl(&[url]);
        assert_eq!((reply.status, reply.code()), (403, "plaintext_refused"), "{url}: {reply:?}");
    }
    stage.mesh.write(
        "authentication.yaml",
        "apiVersion: causeway.dev/v1alpha1\nkind: PeerAuthentication\nmetadata: {name: web, namespace: prod}\nspec: {mtls: \
         {mode: PERMISSIVE}}\n",
    );
    stage.until("plain text is accepted", &[&outside[0]], |r| r.status == 200);
    for url in &outside {
        let before = stage.pods[0].metric("istio_requests_total", &plain);
        for arguments in [&[url.as_str()][..], &[&named[..], &[url]].concat()] {
            let reply = stage.client.curl(arguments);
            assert_eq!((reply.header("x-app"), reply.header("x-routed")), ("web-0", ""), "{arguments:?}: {reply:?}");
        }
        assert_eq!(stage.pods[0].metric("istio_requests_total", &plain) - before, 2.0, "{url}: in plain text");
    }
    egress_decides(&stage, &outside, &by_cluster);
}

/// Addresses that the mesh does not know are refused where egress is denied, until somebody names them.
fn egress_decides(stage: &Stage, outside: &[String], by_cluster: &str) {
    stage.mesh.write(
        "namespace.yaml",
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: dev, labels: {causeway.dev/egress: deny}}\n",
    );
    for url in outside {
        stage.until("egress is denied", &[url], |r| (r.status, r.code()) == (403, "egress_denied"));
    }
    assert_eq!(stage.client.curl(&[by_cluster]).header("x-routed"), "yes");
    stage.mesh.write(
        "entry.yaml",
        "apiVersion: causeway.dev/v1alpha1\nkind: ServiceEntry\nmetadata: {name: balancer, namespace: dev}\nspec: {hosts: \
         [web.example.test], addresses: [192.0.2.10], resolution: NONE, ports: [{number: 80, name: http}]}\n",
    );
    let opened = stage.until("the one that is named is open", &[&outside[1]], |r| r.status == 200);
    assert_eq!((opened.header("x-app"), opened.header("x-routed")), ("web-0", ""), "{opened:?}");
    for url in [&outside[0], &outside[2]] {
        assert_eq!(stage.client.curl(&[url]).code(), "egress_denied", "{url}");
    }
}

/// What kube-proxy does for the Service on the node: its rules lead to the pod, and answers come back the same way.
fn lead_outside_addresses(stage: &Stage) {
    let to = format!("dnat to {}:8080", stage.pods[0].net().ip);
    let rules = format!(
        "table ip services {{\n chain prerouting {{ type nat hook prerouting priority dstnat;\n  ip daddr {NODE_IP} tcp dport \
         30080 {to}\n  ip daddr {{ 192.0.2.10, 192.0.2.11 }} tcp dport 80 {to}\n }}\n chain postrouting {{ type nat hook \
         postrouting priority srcnat;\n  ct status dnat masquerade\n }}\n}}\n"
    );
    let file = stage.mesh.path("scratch/services.nft");
    std::fs::write(&file, rules).unwrap();
    run(stage.mesh.node().namespace().command("nft").arg("-f").arg(&file)).ok();
}
