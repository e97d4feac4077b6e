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
