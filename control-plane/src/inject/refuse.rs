//! Pods that cannot be injected: they would bypass the proxy, read its secrets, or never start.

use serde_json::{Map, Value};

use super::{ADMIN_PORT, HEALTH_PORT, INBOUND_PORT, OUTBOUND_PORT, Refused, VOLUMES, is_our_container, list, name_of};

const LISTS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

/// # Errors
/// The first reason found, in the order of the checks.
pub(super) fn refuse(spec: &Map<String, Value>, proxy_uid: u32) -> Result<(), Refused> {
    if spec.get("hostNetwork").and_then(Value::as_bool) == Some(true) {
        return Err(Refused::HostNetwork);
    }
    let text = |of: &str, name: &str| spec.get(of).and_then(|o| o.get(name)).and_then(Value::as_str);
    if text("os", "name") == Some("windows") {
        return Err(Refused::Windows { field: "spec.os.name" });
    }
    if text("nodeSelector", "kubernetes.io/os") == Some("windows") {
        return Err(Refused::Windows { field: "spec.nodeSelector[kubernetes.io/os]" });
    }
    // The Pod's own uid holds for every container that names none.
    if runs_as(spec.get("securityContext"), proxy_uid) {
        return Err(Refused::ProxyUid { field: "spec.securityContext.runAsUser".to_owned(), uid: proxy_uid });
    }
    for of in LISTS {
        for (index, container) in list(spec, of)?.iter().enumerate() {
            let name = name_of(container).unwrap_or_default();
            let field = format!("spec.{of}[{index}]");
            match (is_our_container(name), of) {
                // Replaced by ours, whatever it is.
                (true, "initContainers") => {}
                (true, _) => {
                    return Err(Refused::ProxyName { field: format!("{field}.name"), name: name.to_owned() });
                }
                (false, _) => stranger(container, &field, proxy_uid)?,
            }
        }
    }
    Ok(())
}

/// A container of the user.
fn stranger(container: &Value, field: &str, proxy_uid: u32) -> Result<(), Refused> {
    if runs_as(container.get("securityContext"), proxy_uid) {
        return Err(Refused::ProxyUid { field: format!("{field}.securityContext.runAsUser"), uid: proxy_uid });
    }
    let entries = |name: &str| container.get(name).and_then(Value::as_array).into_iter().flatten().enumerate();
    for of in ["volumeMounts", "volumeDevices"] {
        for (index, mount) in entries(of) {
            if let Some(volume) = name_of(mount).filter(|name| VOLUMES.contains(name)) {
                return Err(Refused::ProxyVolume {
                    field: format!("{field}.{of}[{index}].name"),
                    volume: volume.to_owned(),
                });
            }
        }
    }
    for (index, port) in entries("ports") {
        let is_tcp = port.get("protocol").and_then(Value::as_str).is_none_or(|p| p == "TCP");
        let number = port.get("containerPort").and_then(Value::as_u64).filter(|_| is_tcp);
        let ours = [ADMIN_PORT, OUTBOUND_PORT, INBOUND_PORT, HEALTH_PORT].map(u64::from);
        if let Some(port) = number.filter(|n| ours.contains(n)) {
            return Err(Refused::ProxyPort { field: format!("{field}.ports[{index}].containerPort"), port });
        }
    }
    Ok(())
}

fn runs_as(context: Option<&Value>, uid: u32) -> bool {
    context.and_then(|c| c.get("runAsUser")).and_then(Value::as_u64) == Some(u64::from(uid))
}
