//! `shop.prod` with the versions `v1` and `v2` (and `v3` without a pod), `mirror.prod`, a client in `dev` and one in `qa`.

use std::time::Duration;

use causeway_tests::pod::Reply;
use causeway_tests::yaml::Port;
use causeway_tests::{Mesh, Pod, PodSpec, Settings, until};
use serde_json::Value;

const PORTS: &[Port<'_>] = &[
    Port { name: "http", port: 80, target: 8080 },
    Port { name: "http-more", port: 8081, target: 8080 },
    Port { name: "grpc", port: 50051, target: 50051 },
];

pub struct Stage {
    /// `client` in `dev`.
    pub client: Pod,
    /// `other` in `qa`.
    pub other: Pod,
    pub v1: Pod,
    pub v2: Pod,
    pub mirror: Pod,
    pub mesh: Mesh,
}

impl Stage {
    pub fn start() -> Self {
        let mesh = Mesh::start(Settings::default());
        mesh.service("prod", "shop", PORTS, &[("app", "shop")]);
        mesh.service("prod", "mirror", PORTS, &[("app", "mirror")]);
        let server = |name: &str, app: &str, version: &str| {
            let spec = PodSpec::new("prod", name).account(app).label("app", app).label("version", version);
            let mut pod = mesh.pod(spec);
            pod.serve_http(version, 8080);
            pod
        };
        let (v1, v2) = (server("shop-v1", "shop", "v1"), server("shop-v2", "shop", "v2"));
        let mirror = server("mirror", "mirror", "mirror");
        let subsets: Vec<String> =
            ["v1", "v2", "v3"].iter().map(|v| format!("{{name: {v}, labels: {{version: {v}}}}}")).collect();
        mesh.write(
            "rule.yaml",
            &format!(
                "apiVersion: causeway.dev/v1alpha1\nkind: DestinationRule\nmetadata: {{name: shop, namespace: \
                 prod}}\nspec:\n  host: shop\n  subsets: [{}]\n",
                subsets.join(", ")
            ),
        );
        let (client, other) = (PodSpec::new("dev", "client"), PodSpec::new("qa", "other"));
        let (client, other) = (mesh.pod(client), mesh.pod(other));
        let stage = Self {
            client: client.ready(),
            other: other.ready(),
            v1: v1.ready(),
            v2: v2.ready(),
            mirror: mirror.ready(),
            mesh,
        };
        stage.until_by(&["http://mirror.prod/"], "mirror");
        stage
    }

    /// Writes the VirtualService of `shop` with these rules (indented by two).
    pub fn http(&self, rules: &str) {
        self.resource("routes.yaml", "shop", "prod", rules);
    }

    pub fn resource(&self, file: &str, name: &str, namespace: &str, rules: &str) {
        self.mesh.write(
            file,
            &format!(
                "apiVersion: causeway.dev/v1alpha1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: \
                 {namespace}}}\nspec:\n  hosts: [shop.prod.svc.cluster.local]\n  http:\n{rules}"
            ),
        );
    }

    /// Waits until the answer is of the application `app`, or of a proxy with that code or status.
    pub fn until_by(&self, arguments: &[&str], app: &str) -> Reply {
        until(&format!("{arguments:?} is answered by {app}"), Duration::from_secs(30), || {
            let reply = self.client.curl(arguments);
            let is_it = reply.header("x-app") == app || reply.code() == app || reply.status.to_string() == app;
            if is_it { Ok(reply) } else { Err(format!("{reply:?}\n{}", self.mesh.admin("/problems").stdout)) }
        })
    }

    /// What the application of `pod` has received with this `x-key`.
    pub fn tally(&self, pod: &Pod, key: &str) -> Vec<Value> {
        let url = format!("http://127.0.0.1:8080/tally/{key}");
        let reply = Reply::of(&mut pod.net().command("curl"), &[&url]);
        reply.json().as_array().cloned().unwrap_or_default()
    }
}
