//! Injection into what makes Pods: finds the Pod, or its template, in an object of another kind.

use serde_json::Value;

use super::{Refused, Settings, apply, patch};

/// Where an object holds a Pod or a template of Pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// JSON pointer, empty for a Pod.
    pub pointer: &'static str,
    /// The same as a path with the dot that follows it, e.g. `spec.template.`; empty for a Pod.
    pub prefix: &'static str,
}

/// Where `object` holds one; None for kinds that make no Pods.
pub fn place(object: &Value) -> Option<Place> {
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
    match (text("apiVersion"), text("kind")) {
        ("v1", "Pod") => Some(Place { pointer: "", prefix: "" }),
        ("v1", "ReplicationController")
        | ("apps/v1", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
        | ("batch/v1", "Job") => Some(Place { pointer: "/spec/template", prefix: "spec.template." }),
        ("batch/v1", "CronJob") => {
            Some(Place { pointer: "/spec/jobTemplate/spec/template", prefix: "spec.jobTemplate.spec.template." })
        }
        _ => None,
    }
}

/// Injects the Pod, or the template of Pods, at `place` of `object`. False for one that is injected already or does not
/// want to be; `object` is then as it was.
///
/// # Errors
/// [`Refused`], whose fields are those of the Pod: [`Place::prefix`] goes before them.
pub fn inject_object(object: &mut Value, place: Place, settings: &Settings) -> Result<bool, Refused> {
    let missing = || Refused::Malformed { field: "spec".to_owned(), message: "must be there" };
    let pod = object.pointer_mut(place.pointer).ok_or_else(missing)?;
    let operations = patch(pod, settings)?;
    let changes = !operations.is_empty();
    apply(pod, operations);
    Ok(changes)
}
