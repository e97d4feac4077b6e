//! What injection does to a Pod, as a pure function: Pod and settings in, JSON patch (RFC 6902) out. Who calls it, a
//! webhook or a person's `inject -f`, is left to others.
//!
//! Idempotent: patching a patched Pod changes nothing. The user's containers stay as they are. Annotations tune
//! resources, drain and excluded ports; none can change image, arguments, privileges or identity.

use serde_json::{Map, Value, json};

mod annotations;
#[cfg(test)]
mod tests;

use annotations::Tuning;

/// Label of a Pod that has been injected.
pub const INJECTED_LABEL: &str = "causeway.dev/injected";
/// Label by which a Pod says `"false"`: leave me alone.
pub const INJECT_LABEL: &str = "causeway.dev/inject";
/// The native sidecar (KEP-753: an init container that is always restarted).
pub const PROXY: &str = "causeway-proxy";
/// The init container that redirects traffic; the only one with a capability.
pub const REDIRECT: &str = "causeway-redirect";

const TOKEN_VOLUME: &str = "causeway-token";
const TRUST_VOLUME: &str = "causeway-trust-bundle";
const STATE_VOLUME: &str = "causeway-state";
const HEALTH_PORT: u16 = 15020;

/// What an installation decides for every Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Image of the proxy.
    pub image: String,
    /// `https://HOST:PORT` of the control plane.
    pub control_plane: String,
    /// Trust domain of the mesh.
    pub trust_domain: String,
    /// ConfigMap, in every namespace, with the key `trust-bundle.pem`.
    pub trust_bundle_config_map: String,
    /// The uid whose traffic is never redirected. No container of the user may run as it.
    pub proxy_uid: u32,
    /// Life of the projected token, seconds.
    pub token_seconds: u32,
}

/// One operation of a JSON patch.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Operation {
    /// `add` (which replaces what is there: RFC 6902 section 4.1).
    pub op: &'static str,
    /// JSON pointer.
    pub path: &'static str,
    /// The whole new value.
    pub value: Value,
}

/// Why a Pod cannot be injected. Such a Pod must not run unmeshed in silence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not a Pod, or a field has the wrong shape.
    #[error("{field}: {message}")]
    Malformed {
        /// Path within the Pod.
        field: String,
        /// What it must be.
        message: &'static str,
    },
    /// Redirection would redirect the node.
    #[error(
        "spec.hostNetwork: a pod of the host's network cannot be injected; label it `causeway.dev/inject: \"false\"`"
    )]
    HostNetwork,
    /// It would bypass the proxy.
    #[error("{field}: uid {uid} is the proxy's own; its traffic bypasses the proxy, choose another uid")]
    ProxyUid {
        /// Path within the Pod.
        field: String,
        /// The uid.
        uid: u32,
    },
    /// An annotation that cannot be read.
    #[error("metadata.annotations[{name}]: `{value}` {message}")]
    Annotation {
        /// Its name.
        name: &'static str,
        /// As given.
        value: String,
        /// What it must be.
        message: &'static str,
    },
}

/// The patch that makes `pod` a Pod of the mesh; empty where it is one already or says that it does not want to be.
///
/// # Errors
/// [`Refused`], naming the field and what to do.
pub fn patch(pod: &Value, settings: &Settings) -> Result<Vec<Operation>, Refused> {
    let metadata = object(pod, "metadata")?.cloned().unwrap_or_default();
    let spec = object(pod, "spec")?.ok_or(malformed("spec", "must be there"))?;
    let labels = object_of(&metadata, "labels", "metadata.labels")?;
    if labels.as_ref().and_then(|l| l.get(INJECT_LABEL)).and_then(Value::as_str) == Some("false") {
        return Ok(Vec::new());
    }
    if spec.get("hostNetwork").and_then(Value::as_bool) == Some(true) {
        return Err(Refused::HostNetwork);
    }
    check_uids(spec, settings.proxy_uid)?;
    let annotations = object_of(&metadata, "annotations", "metadata.annotations")?.unwrap_or_default();
    let tuning = Tuning::read(&annotations)?;

    let mut new_labels = labels.clone().unwrap_or_default();
    new_labels.insert(INJECTED_LABEL.to_owned(), json!("true"));
    let ours = [redirect(settings, &tuning), proxy(settings, &tuning)];
    let init = with_ours(spec, "initContainers", &ours, Place::First)?;
    let volumes = with_ours(spec, "volumes", &volumes(settings), Place::Last)?;

    let mut operations = Vec::new();
    if pod.get("metadata").is_none() {
        operations.push(Operation { op: "add", path: "/metadata", value: json!({"labels": new_labels}) });
    } else if labels.as_ref() != Some(&new_labels) {
        operations.push(Operation { op: "add", path: "/metadata/labels", value: Value::Object(new_labels) });
    }
    for (name, path, value) in [("initContainers", "/spec/initContainers", init), ("volumes", "/spec/volumes", volumes)]
    {
        if spec.get(name) != Some(&value) {
            operations.push(Operation { op: "add", path, value });
        }
    }
    Ok(operations)
}

fn malformed(field: &str, message: &'static str) -> Refused {
    Refused::Malformed { field: field.to_owned(), message }
}

fn object<'v>(pod: &'v Value, name: &str) -> Result<Option<&'v Map<String, Value>>, Refused> {
    match pod.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(map)) => Ok(Some(map)),
        Some(_) => Err(malformed(name, "must be an object")),
    }
}

fn object_of(map: &Map<String, Value>, name: &str, field: &str) -> Result<Option<Map<String, Value>>, Refused> {
    match map.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(map)) => Ok(Some(map.clone())),
        Some(_) => Err(malformed(field, "must be an object")),
    }
}

fn list<'v>(spec: &'v Map<String, Value>, name: &str) -> Result<&'v [Value], Refused> {
    match spec.get(name) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(list)) => Ok(list),
        Some(_) => Err(malformed(&format!("spec.{name}"), "must be a list")),
    }
}

/// No container of the user may run as the proxy: what runs as it is not redirected. The Pod's own uid holds for every
/// container that names none.
fn check_uids(spec: &Map<String, Value>, uid: u32) -> Result<(), Refused> {
    let is_uid = |v: &Value| v.pointer("/securityContext/runAsUser").and_then(Value::as_u64) == Some(u64::from(uid));
    if is_uid(&Value::Object(spec.clone())) {
        return Err(Refused::ProxyUid { field: "spec.securityContext.runAsUser".to_owned(), uid });
    }
    for name in ["containers", "initContainers", "ephemeralContainers"] {
        for (index, container) in list(spec, name)?.iter().enumerate() {
            if is_uid(container) && !is_ours(container) {
                return Err(Refused::ProxyUid {
                    field: format!("spec.{name}[{index}].securityContext.runAsUser"),
                    uid,
                });
            }
        }
    }
    Ok(())
}

fn name_of(value: &Value) -> Option<&str> {
    value.get("name").and_then(Value::as_str)
}

fn is_ours(value: &Value) -> bool {
    matches!(name_of(value), Some(PROXY | REDIRECT | TOKEN_VOLUME | TRUST_VOLUME | STATE_VOLUME))
}

#[derive(Clone, Copy)]
enum Place {
    First,
    Last,
}

/// The user's entries in their order with ours before or behind; whatever bears one of our names is replaced by ours.
fn with_ours(spec: &Map<String, Value>, name: &str, ours: &[Value], place: Place) -> Result<Value, Refused> {
    let theirs = list(spec, name)?.iter().filter(|v| !is_ours(v)).cloned();
    Ok(Value::Array(match place {
        Place::First => ours.iter().cloned().chain(theirs).collect(),
        Place::Last => theirs.chain(ours.iter().cloned()).collect(),
    }))
}

fn redirect(settings: &Settings, tuning: &Tuning) -> Value {
    let mut args = vec!["redirect".to_owned(), "--apply".to_owned(), format!("--proxy-uid={}", settings.proxy_uid)];
    for (flag, ports) in [
        ("--exclude-outbound-ports", &tuning.exclude_outbound_ports),
        ("--exclude-inbound-ports", &tuning.exclude_inbound_ports),
    ] {
        if !ports.is_empty() {
            args.push(format!("{flag}={}", ports.iter().map(u16::to_string).collect::<Vec<_>>().join(",")));
        }
    }
    json!({
        "name": REDIRECT,
        "image": settings.image,
        "args": args,
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
        "securityContext": {
            "runAsUser": 0,
            "runAsNonRoot": false,
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    })
}

fn proxy(settings: &Settings, tuning: &Tuning) -> Value {
    let field = |path: &str| json!({"fieldRef": {"fieldPath": path}});
    json!({
        "name": PROXY,
        "image": settings.image,
        "restartPolicy": "Always",
        "args": [
            format!("--control-plane={}", settings.control_plane),
            format!("--trust-domain={}", settings.trust_domain),
            "--trust-bundle=/var/run/causeway/trust/trust-bundle.pem",
            "--token-file=/var/run/secrets/causeway/token",
            "--workload=$(POD_NAMESPACE)/$(POD_NAME)",
            "--outbound=[::]:15001",
            "--inbound=[::]:15006",
            "--admin=127.0.0.1:15000",
            format!("--health=[::]:{HEALTH_PORT}"),
            "--state=/var/run/causeway/state",
            format!("--drain-deadline={}s", tuning.drain_seconds),
        ],
        "env": [
            {"name": "POD_NAME", "valueFrom": field("metadata.name")},
            {"name": "POD_NAMESPACE", "valueFrom": field("metadata.namespace")},
        ],
        "ports": [{"name": "causeway-health", "containerPort": HEALTH_PORT, "protocol": "TCP"}],
        "startupProbe": probe(1, 600),
        "readinessProbe": probe(5, 2),
        "resources": tuning.resources(),
        "securityContext": {
            "runAsUser": settings.proxy_uid,
            "runAsGroup": settings.proxy_uid,
            "runAsNonRoot": true,
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [
            {"name": TOKEN_VOLUME, "mountPath": "/var/run/secrets/causeway", "readOnly": true},
            {"name": TRUST_VOLUME, "mountPath": "/var/run/causeway/trust", "readOnly": true},
            {"name": STATE_VOLUME, "mountPath": "/var/run/causeway/state"},
        ],
    })
}

fn probe(period: u32, failures: u32) -> Value {
    json!({
        "httpGet": {"path": "/ready", "port": HEALTH_PORT},
        "periodSeconds": period,
        "failureThreshold": failures,
        "timeoutSeconds": 2,
    })
}

fn volumes(settings: &Settings) -> [Value; 3] {
    let token = json!({
        "audience": crate::token::AUDIENCE, "expirationSeconds": settings.token_seconds, "path": "token",
    });
    [
        json!({"name": TOKEN_VOLUME, "projected": {"sources": [{"serviceAccountToken": token}]}}),
        json!({"name": TRUST_VOLUME, "configMap": {"name": settings.trust_bundle_config_map}}),
        json!({"name": STATE_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "32Mi"}}),
    ]
}
