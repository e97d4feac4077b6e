//! What is allowed in an injected Pod and probably not meant.

use serde_json::Value;

use super::{INJECT_LABEL, VOLUMES, is_our_container, name_of};
use crate::token::AUDIENCE;

/// Sentences for whoever created the Pod, each naming the field and the cure.
pub fn warnings(pod: &Value) -> Vec<String> {
    let mut warnings = Vec::new();
    let label = pod.pointer("/metadata/labels").and_then(|l| l.get(INJECT_LABEL)).and_then(Value::as_str);
    if label == Some("false") {
        return warnings;
    }
    for of in ["containers", "initContainers"] {
        let path = format!("/spec/{of}");
        for (index, container) in pod.pointer(&path).and_then(Value::as_array).into_iter().flatten().enumerate() {
            if !name_of(container).is_some_and(is_our_container) {
                of_container(container, &format!("spec.{of}[{index}]"), &mut warnings);
            }
        }
    }
    for (index, volume) in pod.pointer("/spec/volumes").and_then(Value::as_array).into_iter().flatten().enumerate() {
        let sources = volume.pointer("/projected/sources").and_then(Value::as_array).into_iter().flatten();
        let is_mesh_token =
            |s: &Value| s.pointer("/serviceAccountToken/audience").and_then(Value::as_str) == Some(AUDIENCE);
        if !name_of(volume).is_some_and(|n| VOLUMES.contains(&n)) && sources.into_iter().any(is_mesh_token) {
            warnings.push(format!(
                "spec.volumes[{index}]: a token of audience {AUDIENCE} lets the application take this pod's mesh \
                 identity without its proxy"
            ));
        }
    }
    warnings
}

fn of_container(container: &Value, field: &str, warnings: &mut Vec<String>) {
    let context = container.get("securityContext");
    let is_privileged = context.and_then(|c| c.get("privileged")).and_then(Value::as_bool) == Some(true);
    if is_privileged {
        warnings.push(format!("{field}.securityContext.privileged: this container can take the redirection away"));
    }
    let added = context.and_then(|c| c.pointer("/capabilities/add")).and_then(Value::as_array).into_iter().flatten();
    for capability in added.filter_map(Value::as_str) {
        if matches!(capability.trim_start_matches("CAP_"), "NET_ADMIN" | "SYS_ADMIN" | "SYS_PTRACE" | "ALL") {
            warnings.push(format!(
                "{field}.securityContext.capabilities.add: with {capability} this container can get round the proxy"
            ));
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let https = container.pointer(&format!("/{name}/httpGet/scheme")).and_then(Value::as_str) == Some("HTTPS");
        if let Some(port) = container.pointer(&format!("/{name}/httpGet/port")).filter(|_| https) {
            let port = port.as_str().map_or_else(|| port.to_string(), str::to_owned);
            warnings.push(format!(
                "{field}.{name}: strict mutual TLS refuses kubelet's HTTPS probe; set port {port} to PERMISSIVE in a \
                 PeerAuthentication's portLevelMtls, or name it in causeway.dev/exclude-inbound-ports, or use exec"
            ));
        }
    }
}
