//! A client, some servers behind one Service, and a DestinationRule that the tests write.

use std::collections::BTreeMap;
use std::time::Duration;

use causeway_tests::capability::{Need, has};
use causeway_tests::mesh::Cluster;
use causeway_tests::yaml::Port;
use causeway_tests::{Mesh, Pod, PodSpec, Settings, until};
use serde_json::Value;

const PORTS: &[Port<'_>] =
    &[Port { name: "http", port: 80, target: 8080 }, Port { name: "tcp-push", port: 9000, target: 9000 }];

/// Longest wait for a change.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Whether this machine can run it.
pub fn can_run() -> bool {
    has(&[Need::Namespaces, Need::Program("curl")])
}

/// The running pods.
pub struct Stage {
    pub client: Pod,
    pub servers: Vec<Pod>,
    /// Of the Service.
    pub cluster: Cluster,
    pub mesh: Mesh,
}

impl Stage {
    /// `server-0` and so on, in these zones and with more flags each for the application; the client is in zone `a`.
    pub fn set(servers: &[(&str, &[&str])]) -> Self {
        Self::set_around("a", servers)
    }

    /// As [`Self::set`], the client in `place`. A place is `ZONE`, `REGION/ZONE` or nothing.
    pub fn set_around(place: &str, servers: &[(&str, &[&str])]) -> Self {
        let mesh = Mesh::start(Settings::default());
        let cluster = mesh.service("prod", "server", PORTS, &[("app", "server")]);
        let client = mesh.pod(in_zone(PodSpec::new("dev", "client"), place));
        let servers = servers.iter().enumerate().map(|(n, (zone, flags))| server(&mesh, n, zone, flags));
        let servers = servers.collect::<Vec<Pod>>().into_iter().map(Pod::ready).collect::<Vec<Pod>>();
        let stage = Self { client: client.ready(), servers, cluster, mesh };
        let want = stage.servers.len();
        until("every server answers", LIMIT, || {
            let report = stage.load("/", &["--requests", "60", "--concurrency", "4"]);
            if counts(&report).len() == want && report["failed"] == 0 { Ok(()) } else { Err(report.to_string()) }
        });
        stage
    }

    /// One more server.
    pub fn add(&mut self, zone: &str) {
        let pod = server(&self.mesh, self.servers.len(), zone, &[]);
        self.servers.push(pod.ready());
    }

    /// One more client, in `place`, with the ServiceAccount of the first.
    pub fn client(&self, name: &str, place: &str) -> Pod {
        self.mesh.pod(in_zone(PodSpec::new("dev", name).account("client"), place)).ready()
    }

    /// `causeway-test-app load` of the client.
    pub fn load(&self, path: &str, arguments: &[&str]) -> Value {
        load(&self.client, path, arguments)
    }

    /// Requests by the name of who answered: a server, or the code of the proxy's refusal.
    pub fn answers(&self, path: &str, arguments: &[&str]) -> BTreeMap<String, u64> {
        counts(&self.load(path, arguments))
    }

    /// The client's view of a backend.
    pub fn backend(&self, name: &str) -> Value {
        let view = self.client.proxy_admin(&[], "/backends").json();
        let all = view["backends"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|b| b["name"] == name).unwrap_or_default()
    }

    /// Writes the DestinationRule and waits until the client's proxy shows a backend that `is_so`.
    pub fn rule(&self, policy: &str, is_so: impl Fn(&Value) -> bool) {
        let text = format!(
            "apiVersion: causeway.dev/v1alpha1\nkind: DestinationRule\nmetadata: {{name: server, namespace: prod}}\n\
             spec:\n  host: server\n  trafficPolicy: {policy}\n"
        );
        self.mesh.write("rule.yaml", &text);
        self.comes("server.prod:80", is_so);
    }

    /// Waits until the client's proxy shows a backend that `is_so`.
    pub fn comes(&self, name: &str, is_so: impl Fn(&Value) -> bool) {
        until(&format!("{name} is as it should be"), LIMIT, || {
            let backend = self.backend(name);
            if is_so(&backend) { Ok(()) } else { Err(backend.to_string()) }
        });
    }
}

/// `causeway-test-app load` of any client.
pub fn load(client: &Pod, path: &str, arguments: &[&str]) -> Value {
    let url = format!("http://server.prod{path}");
    client.client(&[&["load", "--url", &url], arguments].concat())
}

/// How an endpoint stands, by the name of its pod.
pub fn standing(backend: &Value, pod: &str) -> String {
    let endpoints = backend["endpoints"].as_array().cloned().unwrap_or_default();
    let endpoint = endpoints.into_iter().find(|e| e["pod"] == pod).unwrap_or_default();
    format!("{} {}", endpoint["standing"].as_str().unwrap_or("?"), endpoint["reason"].as_str().unwrap_or("-"))
}

fn in_zone(spec: PodSpec, place: &str) -> PodSpec {
    let (region, zone) = place.split_once('/').unwrap_or(("", place));
    let labels = [("topology.kubernetes.io/region", region), ("topology.kubernetes.io/zone", zone)];
    labels.iter().filter(|(_, value)| !value.is_empty()).fold(spec, |spec, (name, value)| spec.label(name, value))
}

fn server(mesh: &Mesh, number: usize, zone: &str, flags: &[&str]) -> Pod {
    let name = format!("server-{number}");
    let mut pod = mesh.pod(in_zone(PodSpec::new("prod", &name).account("server").label("app", "server"), zone));
    pod.app(&[&["http", "--name", &name, "--listen", "[::]:8080"], flags].concat());
    pod.app(&["tcp-push", "--name", &name, "--listen", "[::]:9000"]);
    pod
}

/// Requests by the name of who answered.
pub fn counts(report: &Value) -> BTreeMap<String, u64> {
    let apps = report["apps"].as_object().cloned().unwrap_or_default();
    apps.into_iter().filter_map(|(name, count)| Some((name, count.as_u64()?))).collect()
}
