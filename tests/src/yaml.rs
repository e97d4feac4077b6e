//! Kubernetes objects as text, for those that every suite needs; routes and policies are written by the suites.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

/// `{a: "b", c: "d"}`.
pub fn flow_map(pairs: &[(String, String)]) -> String {
    let inner: Vec<String> = pairs.iter().map(|(k, v)| format!("{k}: \"{v}\"")).collect();
    format!("{{{}}}", inner.join(", "))
}

/// A Namespace whose pods are injected, and the end of the document.
pub fn injected_namespace(name: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, labels: {{causeway.dev/inject: \"true\"}}}}}}\n---\n"
    )
}

/// The test application's HTTP server as a Deployment of one pod, ready when it answers, with a ServiceAccount of its name.
#[derive(Clone, Copy, Debug)]
pub struct App<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name, which it answers as `x-app`.
    pub name: &'a str,
    /// Labels of the pod, `app: web, version: v1`.
    pub labels: &'a str,
    /// Pods.
    pub replicas: u32,
    /// Port where it listens.
    pub port: u16,
    /// More arguments, each with a comma in front: `, --broken, /break`.
    pub more: &'a str,
    /// More of the pod's `spec` as lines that are indented by six, containers first; or empty.
    pub rest: &'a str,
}

impl Default for App<'_> {
    fn default() -> Self {
        Self { namespace: "prod", name: "app", labels: "", replicas: 1, port: 8080, more: "", rest: "" }
    }
}

impl App<'_> {
    /// The documents, each with its end.
    pub fn yaml(&self) -> String {
        let Self { namespace, name, labels, replicas, port, more, rest } = self;
        format!(
            "apiVersion: v1
kind: ServiceAccount
metadata: {{name: {name}, namespace: {namespace}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{{labels}}}}}
  template:
    metadata: {{labels: {{{labels}}}}}
    spec:
      serviceAccountName: {name}
      terminationGracePeriodSeconds: 5
      containers:
      - name: app
        image: causeway-test/app:1
        args: [http, --name, {name}, --listen, \"[::]:{port}\"{more}]
        readinessProbe: {{httpGet: {{port: {port}, path: /}}, periodSeconds: 1}}
{rest}---
"
        )
    }
}

/// A Service whose address the API server chooses, and the end of the document.
pub fn service_of(namespace: &str, name: &str, selector: &str, ports: &[Port<'_>]) -> String {
    let mut text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  selector: \
         {{{selector}}}\n  ports:\n"
    );
    for Port { name, port, target } in ports {
        let _ = writeln!(text, "  - {{name: {name}, port: {port}, targetPort: {target}}}");
    }
    text + "---\n"
}

/// A Pod. `containers` is the text of `spec.containers`, indented by two, or empty.
pub fn pod(
    namespace: &str,
    name: &str,
    account: &str,
    labels: &[(String, String)],
    addresses: (Ipv4Addr, Ipv6Addr),
    containers: &str,
    is_ready: bool,
) -> String {
    let mut text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  namespace: {namespace}\n  labels: {}\nspec:\n  \
         serviceAccountName: {account}\n",
        flow_map(labels)
    );
    text.push_str(if containers.is_empty() { "  containers:\n  - {name: app, image: app}\n" } else { containers });
    let (ip, ip6) = addresses;
    let ready = if is_ready { "True" } else { "False" };
    let _ = write!(
        text,
        "status:\n  phase: Running\n  podIP: {ip}\n  podIPs: [{{ip: \"{ip}\"}}, {{ip: \"{ip6}\"}}]\n  conditions: \
         [{{type: Ready, status: \"{ready}\"}}]\n"
    );
    text
}

/// One port of a Service.
#[derive(Clone, Copy, Debug)]
pub struct Port<'a> {
    /// Name; its prefix declares the protocol.
    pub name: &'a str,
    /// Service port.
    pub port: u16,
    /// Port of the application.
    pub target: u16,
}

/// A Service with both cluster addresses.
pub fn service(
    namespace: &str,
    name: &str,
    cluster: (Ipv4Addr, Ipv6Addr),
    ports: &[Port<'_>],
    selector: &[(String, String)],
) -> String {
    let (ip, ip6) = cluster;
    let mut text = format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n  namespace: {namespace}\nspec:\n  clusterIP: \
         {ip}\n  clusterIPs: [\"{ip}\", \"{ip6}\"]\n  ipFamilies: [IPv4, IPv6]\n  ipFamilyPolicy: PreferDualStack\n  \
         selector: {}\n  ports:\n",
        flow_map(selector)
    );
    for Port { name, port, target } in ports {
        let _ = writeln!(text, "  - {{name: {name}, port: {port}, targetPort: {target}}}");
    }
    text
}
