//! What injection does to a Pod, as a pure function: Pod and settings in, JSON patch (RFC 6902) out. Who calls it, the
//! webhook or a person's `inject -f`, is left to others.
//!
//! Idempotent, also after the API server and other webhooks had their way with what was added. The user's containers
//! stay as they are. Annotations tune resources, drain and excluded ports; none can change image, arguments, privileges
//! or identity.

use serde_json::{Map, Value, json};

mod added;
mod annotations;
mod quantity;
mod refuse;
mod settle;
#[cfg(test)]
mod tests;
mod warn;
mod workload;

use annotations::Tuning;
use settle::{Place, settled};
pub use warn::warnings;
pub use workload::{Place as WorkloadPlace, inject_object, place};

/// Label of a Pod that has been injected.
pub const INJECTED_LABEL: &str = "causeway.dev/injected";
/// Label of a Namespace or Pod that asks for injection (`"true"`) or not (`"false"`); the Pod's own wins.
pub const INJECT_LABEL: &str = "causeway.dev/inject";
/// The native sidecar (KEP-753: an init container that is always restarted).
pub const PROXY: &str = "causeway-proxy";
/// The init container that redirects traffic; the only one with a capability.
pub const REDIRECT: &str = "causeway-redirect";
/// The ConfigMap, in every namespace that has injection, that proxies begin with.
pub const TRUST_CONFIG_MAP: &str = "causeway-trust-bundle";
/// The uid that proxies run as.
pub const PROXY_UID: u32 = 2102;

const TOKEN_VOLUME: &str = "causeway-token";
const TRUST_VOLUME: &str = "causeway-trust-bundle";
const STATE_VOLUME: &str = "causeway-state";
/// There where an annotation asks for it.
const TLS_VOLUME: &str = "causeway-tls";
const VOLUMES: [&str; 4] = [TOKEN_VOLUME, TRUST_VOLUME, STATE_VOLUME, TLS_VOLUME];
const OUTBOUND_PORT: u16 = 15001;
const INBOUND_PORT: u16 = 15006;
const ADMIN_PORT: u16 = 15000;
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
    /// ConfigMap, in the Pod's namespace, with the key `trust-bundle.pem`.
    pub trust_bundle_config_map: String,
    /// The uid whose traffic is never redirected. No container of the user may run as it.
    pub proxy_uid: u32,
    /// Life of the projected token, seconds.
    pub token_seconds: u32,
}

impl Settings {
    /// Those of an installation that names only its image, its address and its trust domain.
    pub fn new(image: &str, control_plane: &str, trust_domain: &str) -> Self {
        Self {
            image: image.to_owned(),
            control_plane: control_plane.to_owned(),
            trust_domain: trust_domain.to_owned(),
            trust_bundle_config_map: TRUST_CONFIG_MAP.to_owned(),
            proxy_uid: PROXY_UID,
            token_seconds: 3600,
        }
    }
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
    /// There is no proxy for Windows.
    #[error("{field}: a Windows pod cannot be injected; label it `causeway.dev/inject: \"false\"`")]
    Windows {
        /// Path within the Pod.
        field: &'static str,
    },
    /// It would bypass the proxy.
    #[error("{field}: uid {uid} is the proxy's own; its traffic bypasses the proxy, choose another uid")]
    ProxyUid {
        /// Path within the Pod.
        field: String,
        /// The uid.
        uid: u32,
    },
    /// It would read the proxy's token or key.
    #[error(
        "{field}: volume {volume} is the proxy's own (its token, its key, its files); no other container may use it"
    )]
    ProxyVolume {
        /// Path within the Pod.
        field: String,
        /// The volume.
        volume: String,
    },
    /// A name of ours where none of ours belongs.
    #[error("{field}: the name {name} is the proxy's own; choose another")]
    ProxyName {
        /// Path within the Pod.
        field: String,
        /// The name.
        name: String,
    },
    /// The application could never bind it.
    #[error("{field}: port {port} is the proxy's own (15000, 15001, 15006, 15020); choose another")]
    ProxyPort {
        /// Path within the Pod.
        field: String,
        /// The port.
        port: u64,
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
    /// Kubelet would cut the drain off.
    #[error(
        "metadata.annotations[causeway.dev/drain-seconds]: {drain} s does not fit into \
         spec.terminationGracePeriodSeconds ({grace}), which must be at least {room} s longer; raise that or drain less"
    )]
    NoRoomToDrain {
        /// As asked for, seconds.
        drain: u32,
        /// As the Pod has it, seconds.
        grace: u32,
        /// What the rest of the shutdown needs, seconds.
        room: u32,
    },
}

impl Refused {
    /// Path within the Pod of what is wrong.
    pub fn field(&self) -> String {
        match self {
            Self::Malformed { field, .. }
            | Self::ProxyUid { field, .. }
            | Self::ProxyVolume { field, .. }
            | Self::ProxyName { field, .. }
            | Self::ProxyPort { field, .. } => field.clone(),
            Self::HostNetwork => "spec.hostNetwork".to_owned(),
            Self::Windows { field } => (*field).to_owned(),
            Self::Annotation { name, .. } => format!("metadata.annotations[{name}]"),
            Self::NoRoomToDrain { .. } => format!("metadata.annotations[{}]", annotations::DRAIN),
        }
    }
}

/// The patch that makes `pod` a Pod of the mesh; empty where it is one already or says that it does not want to be.
///
/// # Errors
/// [`Refused`], naming the field and what to do.
pub fn patch(pod: &Value, settings: &Settings) -> Result<Vec<Operation>, Refused> {
    let metadata = object(pod, "metadata")?.cloned().unwrap_or_default();
    let spec = object(pod, "spec")?.ok_or_else(|| malformed("spec", "must be there"))?;
    let labels = object_of(&metadata, "labels", "metadata.labels")?;
    let annotations = object_of(&metadata, "annotations", "metadata.annotations")?.unwrap_or_default();
    let opted_out = labels.as_ref().and_then(|l| l.get(INJECT_LABEL)).and_then(Value::as_str) == Some("false");
    // The picture of a static pod: kubelet runs that from its own file, whatever is said here.
    if opted_out || annotations.contains_key("kubernetes.io/config.mirror") {
        return Ok(Vec::new());
    }
    refuse::refuse(spec, settings.proxy_uid)?;
    let tuning = Tuning::read(&annotations, spec)?;

    let mut new_labels = labels.clone().unwrap_or_default();
    new_labels.insert(INJECTED_LABEL.to_owned(), json!("true"));
    let ours = [added::redirect(settings, &tuning), added::proxy(settings, &tuning)];
    let init = settled(list(spec, "initContainers")?, &ours, Place::First);
    let volumes = settled(list(spec, "volumes")?, &added::volumes(settings, &tuning), Place::Last);

    let mut operations = Vec::new();
    if pod.get("metadata").is_none_or(Value::is_null) {
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

/// Applies what [`patch`] made: `add` of members of objects that are there.
pub fn apply(pod: &mut Value, operations: Vec<Operation>) {
    for Operation { path, value, .. } in operations {
        let (parent, name) = path.rsplit_once('/').unwrap_or_default();
        if let Some(parent) = pod.pointer_mut(parent).and_then(Value::as_object_mut) {
            parent.insert(name.to_owned(), value);
        }
    }
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

fn name_of(value: &Value) -> Option<&str> {
    value.get("name").and_then(Value::as_str)
}

fn is_our_container(name: &str) -> bool {
    matches!(name, PROXY | REDIRECT)
}
