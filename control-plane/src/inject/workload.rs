//! Injection into what makes Pods: finds the Pod, or its template, in an object of another kind.

use serde_json::Value;

use super::{Refused, Settings, apply, patch};

/// Injects the Pod, or the template of Pods, that `object` holds. False for what holds none, or one that is injected
/// already or does not want to be; `object` is then as it was.
///
/// # Errors
/// [`Refused`] and the path to the template, e.g. `spec.template`; empty for a Pod.
pub fn inject_object(object: &mut Value, settings: &Settings) -> Result<bool, (Refused, &'static str)> {
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
    let (pointer, path) = match (text("apiVersion"), text("kind")) {
        ("v1", "Pod") => ("", ""),
        ("v1", "ReplicationController")
        | ("apps/v1", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
        | ("batch/v1", "Job") => ("/spec/template", "spec.template"),
        ("batch/v1", "CronJob") => ("/spec/jobTemplate/spec/template", "spec.jobTemplate.spec.template"),
        _ => return Ok(false),
    };
    let missing = || Refused::Malformed { field: "spec".to_owned(), message: "must be there" };
    let pod = object.pointer_mut(pointer).ok_or_else(|| (missing(), path))?;
    let operations = patch(pod, settings).map_err(|refused| (refused, path))?;
    let changes = !operations.is_empty();
    apply(pod, operations);
    Ok(changes)
}
