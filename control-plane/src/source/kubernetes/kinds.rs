//! Which kinds are watched, under which paths, and which of them the CustomResourceDefinitions of a cluster call for.

use super::mask::{Definition, Object};
use crate::source::Kind;
use serde_json::Value;
use std::collections::BTreeMap;

/// A kind of the API server in one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// Empty: core.
    pub group: &'static str,
    /// The version that is watched.
    pub version: &'static str,
    /// As in paths.
    pub plural: &'static str,
    /// As in objects.
    pub kind: &'static str,
}

/// A kind that a CustomResourceDefinition brings.
#[derive(Clone, Copy, Debug)]
pub struct CustomKind {
    /// API group.
    pub group: &'static str,
    /// As in paths.
    pub plural: &'static str,
    /// What it is to Causeway.
    pub kind: Kind,
    /// As in objects.
    pub name: &'static str,
    /// Versions that are read, best first.
    pub versions: &'static [&'static str],
}

const fn core(plural: &'static str, kind: &'static str) -> Target {
    Target { group: "", version: "v1", plural, kind }
}

/// Kinds that every cluster has.
pub const BUILTIN: [(Kind, Target); 5] = [
    (Kind::Namespace, core("namespaces", "Namespace")),
    (Kind::ServiceAccount, core("serviceaccounts", "ServiceAccount")),
    (Kind::Service, core("services", "Service")),
    (
        Kind::EndpointSlice,
        Target { group: "discovery.k8s.io", version: "v1", plural: "endpointslices", kind: "EndpointSlice" },
    ),
    (Kind::Pod, core("pods", "Pod")),
];

/// What says where pods run.
pub const NODES: Target = core("nodes", "Node");

/// What says which other kinds there are.
pub const DEFINITIONS: Target = Target {
    group: "apiextensions.k8s.io",
    version: "v1",
    plural: "customresourcedefinitions",
    kind: "CustomResourceDefinition",
};

const OWN: &str = "causeway.dev";
const NETWORKING: &str = "networking.istio.io";
const SECURITY: &str = "security.istio.io";
const GATEWAY: &str = causeway_crds::gateway::GROUP;

const fn custom(
    group: &'static str,
    plural: &'static str,
    kind: Kind,
    name: &'static str,
    versions: &'static [&'static str],
) -> CustomKind {
    CustomKind { group, plural, kind, name, versions }
}

/// Kinds that are watched where they are installed.
pub const CUSTOM: [CustomKind; 16] = [
    custom(OWN, "virtualservices", Kind::VirtualService, "VirtualService", &["v1alpha1"]),
    custom(OWN, "destinationrules", Kind::DestinationRule, "DestinationRule", &["v1alpha1"]),
    custom(OWN, "authorizationpolicies", Kind::AuthorizationPolicy, "AuthorizationPolicy", &["v1alpha1"]),
    custom(OWN, "peerauthentications", Kind::PeerAuthentication, "PeerAuthentication", &["v1alpha1"]),
    custom(OWN, "serviceentries", Kind::ServiceEntry, "ServiceEntry", &["v1alpha1"]),
    custom(OWN, "ratelimitpolicies", Kind::RateLimitPolicy, "RateLimitPolicy", &["v1alpha1"]),
    custom(NETWORKING, "serviceentries", Kind::ServiceEntry, "ServiceEntry", &["v1", "v1beta1", "v1alpha3"]),
    custom(NETWORKING, "virtualservices", Kind::VirtualService, "VirtualService", &["v1", "v1beta1", "v1alpha3"]),
    custom(NETWORKING, "destinationrules", Kind::DestinationRule, "DestinationRule", &["v1", "v1beta1", "v1alpha3"]),
    custom(SECURITY, "authorizationpolicies", Kind::AuthorizationPolicy, "AuthorizationPolicy", &["v1", "v1beta1"]),
    custom(SECURITY, "peerauthentications", Kind::PeerAuthentication, "PeerAuthentication", &["v1", "v1beta1"]),
    custom(GATEWAY, "httproutes", Kind::HTTPRoute, "HTTPRoute", &["v1", "v1beta1"]),
    custom(GATEWAY, "grpcroutes", Kind::GRPCRoute, "GRPCRoute", &["v1"]),
    custom(GATEWAY, "tcproutes", Kind::TCPRoute, "TCPRoute", &["v1", "v1alpha2"]),
    custom(GATEWAY, "tlsroutes", Kind::TLSRoute, "TLSRoute", &["v1", "v1alpha3", "v1alpha2"]),
    custom(GATEWAY, "referencegrants", Kind::ReferenceGrant, "ReferenceGrant", &["v1", "v1beta1"]),
];

impl Target {
    /// Of all namespaces.
    pub fn path(&self) -> String {
        match self.group {
            "" => format!("/api/{}/{}", self.version, self.plural),
            group => format!("/apis/{group}/{}/{}", self.version, self.plural),
        }
    }

    /// As objects name it.
    pub fn api_version(&self) -> String {
        match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// As roles and people name it: `pods`, `virtualservices.causeway.dev`.
    pub fn name(&self) -> String {
        match self.group {
            "" => self.plural.to_owned(),
            group => format!("{}.{group}", self.plural),
        }
    }
}

impl CustomKind {
    /// Name of its CustomResourceDefinition.
    pub fn definition(&self) -> String {
        format!("{}.{}", self.plural, self.group)
    }

    /// The best version among `served`, None where none of them is read.
    pub fn best(&self, served: &[String]) -> Option<Target> {
        let version = self.versions.iter().find(|v| served.iter().any(|s| s == **v))?;
        Some(Target { group: self.group, version, plural: self.plural, kind: self.name })
    }

    /// Whether it is of Causeway's own API, which an installation always has.
    pub fn is_own(&self) -> bool {
        self.group == OWN
    }

    /// Whether to serve without it would let in what it forbids.
    pub fn is_policy(&self) -> bool {
        matches!(self.kind, Kind::AuthorizationPolicy | Kind::PeerAuthentication)
    }
}

/// What a CustomResourceDefinition says, as far as it is one that matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Its own name, `virtualservices.causeway.dev`.
    pub name: String,
    /// None where the API server does not serve it (yet).
    pub served: Option<Vec<String>>,
}

/// Reads a CustomResourceDefinition; everything but the names that matter comes without versions.
pub fn installed(object: &Object<Definition>) -> Installed {
    let name = object.metadata("name").to_owned();
    if !CUSTOM.iter().any(|c| c.definition() == name) {
        return Installed { name, served: None };
    }
    let list = |pointer| object.value.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let is = |item: &Value, field: &str, wanted: &str| item.get(field).and_then(Value::as_str) == Some(wanted);
    let conditions = list("/status/conditions");
    let established = conditions.iter().any(|c| is(c, "type", "Established") && is(c, "status", "True"));
    let served = list("/spec/versions").iter().filter(|v| v.get("served").and_then(Value::as_bool).unwrap_or_default());
    let versions = served.filter_map(|v| v.get("name").and_then(Value::as_str).map(str::to_owned)).collect();
    Installed { name, served: established.then_some(versions) }
}

/// Which of [`CUSTOM`] to watch, by the position there, given the versions that each definition serves.
pub fn wanted(served: &BTreeMap<String, Option<Vec<String>>>) -> BTreeMap<usize, Target> {
    let best = |(at, kind): (usize, &CustomKind)| Some((at, kind.best(served.get(&kind.definition())?.as_ref()?)?));
    CUSTOM.iter().enumerate().filter_map(best).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn definition(served: &[(&str, bool)], established: &str) -> Object<Definition> {
        let versions: Vec<Value> =
            served.iter().map(|(name, served)| serde_json::json!({"name": name, "served": served})).collect();
        let value = serde_json::json!({"metadata": {"name": "virtualservices.networking.istio.io"},
            "spec": {"versions": versions}, "status": {"conditions": [{"type": "Established", "status": established}]}});
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_best_version_that_is_served_is_watched() {
        let kind = CUSTOM.iter().find(|c| c.definition() == "virtualservices.networking.istio.io").unwrap();
        let of = |versions: &[(&str, bool)]| {
            let served = installed(&definition(versions, "True")).served.unwrap();
            kind.best(&served).map(|t| t.version)
        };
        assert_eq!(of(&[("v1alpha3", true), ("v1beta1", true), ("v1", true)]), Some("v1"));
        assert_eq!(of(&[("v1alpha3", true), ("v1beta1", true), ("v1", false)]), Some("v1beta1"));
        assert_eq!(of(&[("v1alpha3", true)]), Some("v1alpha3"));
        assert_eq!(of(&[("v9", true)]), None);
        assert_eq!(installed(&definition(&[("v1", true)], "False")).served, None);
    }

    #[test]
    fn paths_and_names_are_those_of_the_api_server() {
        let (_, pods) = BUILTIN[4];
        assert_eq!((pods.path().as_str(), pods.name().as_str()), ("/api/v1/pods", "pods"));
        let route = CUSTOM[0].best(&["v1alpha1".to_owned()]).unwrap();
        assert_eq!(route.path(), "/apis/causeway.dev/v1alpha1/virtualservices");
        assert_eq!((route.api_version().as_str(), route.name()), ("causeway.dev/v1alpha1", CUSTOM[0].definition()));
    }
}
