//! Reads one Kubernetes object, whatever source it comes from: decides whether its kind is used, checks it, and makes the
//! trimmed resource. What resources mean together is left to `compile`.

use super::core;
use super::resource::{Custom, Key, Kind, Meta, Origin, Resource};
use crate::problem::{Problem, Severity};
use causeway_crds::check::{Finding, What, check};
use causeway_crds::gateway::GROUP;
use causeway_crds::support::Effect;
use causeway_mesh::spiffe::{is_dns_label, is_dns_subdomain};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// What reading one object yields.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// A resource, with what was found in it.
    Usable(Resource, Vec<Problem>),
    /// It is of a kind that is used, and cannot be: the last good version stays. Where there is none, a policy comes as
    /// one that fails closed, since its absence would open what it guards.
    Refused(Key, Vec<Problem>, Option<Resource>),
    /// It is of no kind that is used, or has no name to go by.
    Passed(Problem),
}

/// Splits a `List` into its items; anything else is its own only item. Yields each with the path within the document.
pub fn items(value: Value) -> Vec<(String, Value)> {
    let is_list = value.get("kind").and_then(Value::as_str).is_some_and(|k| k.ends_with("List"))
        && value.get("items").is_some_and(Value::is_array);
    match value {
        Value::Object(mut object) if is_list => match object.remove("items") {
            Some(Value::Array(items)) => {
                items.into_iter().enumerate().flat_map(|(i, v)| items_below(&format!("items[{i}]"), v)).collect()
            }
            _ => Vec::new(),
        },
        other => vec![(String::new(), other)],
    }
}

fn items_below(path: &str, value: Value) -> Vec<(String, Value)> {
    items(value)
        .into_iter()
        .map(|(inner, v)| (if inner.is_empty() { path.to_owned() } else { format!("{path}.{inner}") }, v))
        .collect()
}

/// Reads one object.
pub fn object(value: &Value, origin: &Origin) -> Outcome {
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
    let (api, kind) = (text("apiVersion"), text("kind"));
    let place = |severity, code, field: &str, message: String, advice: &str| {
        origin.problem(severity, code, &described(value, kind), field, &message, advice)
    };
    if api.is_empty() || kind.is_empty() {
        let message = "this is not a Kubernetes resource: it has no apiVersion and kind".to_owned();
        return Outcome::Passed(place(Severity::Note, "not_a_resource", "", message, ""));
    }
    let (group, version) = api.split_once('/').unwrap_or(("", api));
    let used = match used(group, version, kind) {
        Used::Yes(kind) => kind,
        Used::OtherVersion(known) => {
            let message = format!("version `{version}` of {kind} is not known");
            let advice = format!("Use {group}/{known}.");
            return Outcome::Passed(place(Severity::Error, "unknown_version", "apiVersion", message, &advice));
        }
        Used::No if is_of_a_mesh(group, kind) => {
            let message = format!("{kind} of {api} is not implemented; what it asks for does not happen");
            return Outcome::Passed(place(Severity::Warning, "unsupported_kind", "", message, ""));
        }
        Used::No => {
            let message = format!("Causeway does not use {kind} of {api}; it is passed over");
            return Outcome::Passed(place(Severity::Note, "unused_kind", "", message, ""));
        }
    };
    let meta = match meta(value, used, group, origin) {
        Ok(meta) => meta,
        Err((field, message)) => {
            return Outcome::Passed(place(Severity::Error, "invalid_name", field, message, "Correct the metadata."));
        }
    };
    match used {
        Kind::VirtualService => custom(value, meta, Resource::VirtualService),
        Kind::DestinationRule => custom(value, meta, Resource::DestinationRule),
        Kind::AuthorizationPolicy => custom(value, meta, Resource::AuthorizationPolicy),
        Kind::PeerAuthentication => custom(value, meta, Resource::PeerAuthentication),
        Kind::ServiceEntry => custom(value, meta, Resource::ServiceEntry),
        Kind::RateLimitPolicy => custom(value, meta, Resource::RateLimitPolicy),
        Kind::HTTPRoute => custom(value, meta, Resource::HTTPRoute),
        Kind::GRPCRoute => custom(value, meta, Resource::GRPCRoute),
        Kind::TCPRoute => custom(value, meta, Resource::TCPRoute),
        Kind::TLSRoute => custom(value, meta, Resource::TLSRoute),
        Kind::ReferenceGrant => custom(value, meta, Resource::ReferenceGrant),
        _ => core::resource(value, &meta),
    }
}

/// Kinds by which people ask a mesh for something.
fn is_of_a_mesh(group: &str, kind: &str) -> bool {
    matches!(
        group,
        "causeway.dev" | "networking.istio.io" | "security.istio.io" | "telemetry.istio.io" | "extensions.istio.io"
    ) || group == GROUP && kind.ends_with("Route")
}

/// Kind and name, as far as there is one.
fn described(value: &Value, kind: &str) -> String {
    let text = |name: &str| value.pointer(&format!("/metadata/{name}")).and_then(Value::as_str).unwrap_or_default();
    match (text("namespace"), text("name")) {
        (_, "") => kind.to_owned(),
        ("", name) => format!("{kind} {name}"),
        (namespace, name) => format!("{kind} {namespace}/{name}"),
    }
}

enum Used {
    Yes(Kind),
    OtherVersion(&'static str),
    No,
}

fn used(group: &str, version: &str, kind: &str) -> Used {
    let (found, versions): (Kind, &'static [&'static str]) = match (group, kind) {
        ("", "Namespace") => (Kind::Namespace, &["v1"]),
        ("", "ServiceAccount") => (Kind::ServiceAccount, &["v1"]),
        ("", "Service") => (Kind::Service, &["v1"]),
        ("", "Pod") => (Kind::Pod, &["v1"]),
        ("discovery.k8s.io", "EndpointSlice") => (Kind::EndpointSlice, &["v1"]),
        ("causeway.dev", "VirtualService") => (Kind::VirtualService, &["v1alpha1"]),
        ("causeway.dev", "DestinationRule") => (Kind::DestinationRule, &["v1alpha1"]),
        ("causeway.dev", "AuthorizationPolicy") => (Kind::AuthorizationPolicy, &["v1alpha1"]),
        ("causeway.dev", "PeerAuthentication") => (Kind::PeerAuthentication, &["v1alpha1"]),
        ("causeway.dev", "ServiceEntry") => (Kind::ServiceEntry, &["v1alpha1"]),
        ("causeway.dev", "RateLimitPolicy") => (Kind::RateLimitPolicy, &["v1alpha1"]),
        ("networking.istio.io", "VirtualService") => (Kind::VirtualService, &["v1", "v1beta1", "v1alpha3"]),
        ("networking.istio.io", "DestinationRule") => (Kind::DestinationRule, &["v1", "v1beta1", "v1alpha3"]),
        ("networking.istio.io", "ServiceEntry") => (Kind::ServiceEntry, &["v1", "v1beta1", "v1alpha3"]),
        ("security.istio.io", "AuthorizationPolicy") => (Kind::AuthorizationPolicy, &["v1", "v1beta1"]),
        ("security.istio.io", "PeerAuthentication") => (Kind::PeerAuthentication, &["v1", "v1beta1"]),
        (GROUP, "HTTPRoute") => (Kind::HTTPRoute, &["v1", "v1beta1"]),
        (GROUP, "GRPCRoute") => (Kind::GRPCRoute, &["v1"]),
        (GROUP, "TCPRoute") => (Kind::TCPRoute, &["v1", "v1alpha2"]),
        (GROUP, "TLSRoute") => (Kind::TLSRoute, &["v1", "v1alpha3", "v1alpha2"]),
        (GROUP, "ReferenceGrant") => (Kind::ReferenceGrant, &["v1", "v1beta1"]),
        _ => return Used::No,
    };
    if versions.contains(&version) { Used::Yes(found) } else { Used::OtherVersion(versions[0]) }
}

fn meta(value: &Value, kind: Kind, group: &str, origin: &Origin) -> Result<Meta, (&'static str, String)> {
    let metadata = value.get("metadata").unwrap_or(&Value::Null);
    let text = |name: &str| metadata.get(name).and_then(Value::as_str).unwrap_or_default();
    let name = text("name");
    // Names become parts of SPIFFE IDs and of resource names on the wire, so only what Kubernetes allows may pass.
    let is_name = match kind {
        Kind::Namespace | Kind::Service => is_dns_label(name),
        _ => is_dns_subdomain(name),
    };
    if !is_name {
        let message = match name {
            "" => "metadata.name is missing".to_owned(),
            _ => format!("`{}` cannot be the name of a {kind:?}", name.escape_debug()),
        };
        return Err(("metadata.name", message));
    }
    let namespace = match (kind, text("namespace")) {
        (Kind::Namespace, _) => "",
        (_, "") => "default",
        (_, namespace) if is_dns_label(namespace) => namespace,
        (_, other) => return Err(("metadata.namespace", format!("`{}` cannot be a namespace", other.escape_debug()))),
    };
    let labels: BTreeMap<String, String> = metadata
        .get("labels")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned())))
        .collect();
    let created = OffsetDateTime::parse(text("creationTimestamp"), &Rfc3339).map_or(0, OffsetDateTime::unix_timestamp);
    Ok(Meta {
        key: Key { kind, namespace: namespace.to_owned(), name: name.to_owned(), group: group.to_owned() },
        labels,
        created,
        generation: metadata.get("generation").and_then(Value::as_i64).unwrap_or_default(),
        uid: text("uid").to_owned(),
        origin: Arc::new(origin.clone()),
        unsupported: Vec::new(),
    })
}

/// Reads a typed value; an error comes with the path of the field below `root`.
pub(super) fn typed<T: DeserializeOwned>(value: &Value, root: &str) -> Result<T, (String, String)> {
    serde_path_to_error::deserialize(value).map_err(|e| {
        let path = e.path().to_string();
        let field = match (root, path.as_str()) {
            (root, "." | "?") => root.to_owned(),
            ("", path) => path.to_owned(),
            (root, path) => format!("{root}.{path}"),
        };
        (field, e.into_inner().to_string())
    })
}

fn custom<S>(value: &Value, mut meta: Meta, wrap: impl FnOnce(Arc<Custom<S>>) -> Resource) -> Outcome
where
    S: DeserializeOwned,
{
    let none = Value::Object(serde_json::Map::new());
    let mut spec = value.get("spec").filter(|s| !s.is_null()).unwrap_or(&none).clone();
    let findings = check(&format!("{:?}", meta.key.kind), &spec);
    let invalid: Vec<String> =
        findings.iter().filter(|f| matches!(f.what, What::Invalid { .. })).map(|f| f.path.clone()).collect();
    meta.unsupported = findings.iter().filter(|f| disables(f)).map(|f| f.path.clone()).collect();
    let mut problems: Vec<Problem> = findings.into_iter().map(|f| told(&meta, f)).collect();
    strip_nulls(&mut spec);
    if !invalid.is_empty() {
        let key = meta.key.clone();
        return Outcome::Refused(key, problems, closed(spec, invalid, meta, wrap));
    }
    match typed::<S>(&spec, "spec") {
        Ok(spec) => Outcome::Usable(wrap(Arc::new(Custom { meta, spec })), problems),
        Err((field, message)) => {
            problems.push(meta.problem(Severity::Error, "wrong_type", &field, message, "Correct the value."));
            let key = meta.key.clone();
            Outcome::Refused(key, problems, closed(spec, vec![field], meta, wrap))
        }
    }
}

/// A policy without its invalid parts, which it holds as not understood; None for what is no policy.
fn closed<S>(
    mut spec: Value,
    invalid: Vec<String>,
    mut meta: Meta,
    wrap: impl FnOnce(Arc<Custom<S>>) -> Resource,
) -> Option<Resource>
where
    S: DeserializeOwned,
{
    if !matches!(meta.key.kind, Kind::AuthorizationPolicy | Kind::PeerAuthentication) {
        return None;
    }
    for path in invalid {
        // The alternative that holds it, else the rule, else the whole spec.
        let steps: Vec<String> = path.replace('[', ".[").split('.').skip(1).map(str::to_owned).collect();
        let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
        let place = match steps[..] {
            ["rules", rule, part @ ("from" | "to"), at, ..] => Some(vec!["rules", rule, part, at]),
            ["rules", rule, _, ..] => Some(vec!["rules", rule]),
            _ => None,
        };
        let pointer =
            place.map(|p| p.iter().map(|step| format!("/{}", step.trim_matches(['[', ']']))).collect::<String>());
        let target = pointer.and_then(|p| spec.pointer(&p).is_some().then_some(p));
        match target.and_then(|p| spec.pointer_mut(&p)) {
            Some(part) => *part = serde_json::json!({}),
            None => spec = serde_json::json!({}),
        }
        meta.unsupported.push(path);
    }
    let spec = typed::<S>(&spec, "spec").ok()?;
    Some(wrap(Arc::new(Custom { meta, spec })))
}

/// Kubernetes reads null as absent.
fn strip_nulls(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|_, v| !v.is_null());
            object.values_mut().for_each(strip_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_nulls),
        _ => {}
    }
}

fn disables(finding: &Finding) -> bool {
    match finding.what {
        What::Unknown { .. } | What::Empty | What::NotImplemented(Effect::Disables(_)) => true,
        What::Invalid { .. } | What::NotImplemented(Effect::Ignored(_)) => false,
    }
}

fn told(meta: &Meta, finding: Finding) -> Problem {
    let path = finding.path;
    match finding.what {
        What::Invalid { code, message } => {
            let advice = "Correct the value; until then the last good version of this resource stays in force.";
            meta.problem(Severity::Error, code, &path, message, advice)
        }
        What::Unknown { suggestion } => {
            let advice = suggestion.map_or_else(|| "Remove it.".to_owned(), |s| format!("Did you mean `{s}`?"));
            let message = "there is no such field; what holds it is taken not to apply".to_owned();
            meta.problem(Severity::Error, "unknown_field", &path, message, &advice)
        }
        What::NotImplemented(Effect::Disables(effect)) => {
            let message = format!("this field is not implemented yet, so {effect}");
            meta.problem(Severity::Error, "not_implemented", &path, message, "Remove it.")
        }
        What::NotImplemented(Effect::Ignored(effect)) => {
            let message = format!("this field is not implemented yet: {effect}");
            meta.problem(Severity::Warning, "not_implemented", &path, message, "")
        }
        What::Empty => {
            let message = "this is there but empty, which would match everybody; the rule fails closed".to_owned();
            meta.problem(Severity::Error, "empty_in_rule", &path, message, "Fill it or remove it.")
        }
    }
}
