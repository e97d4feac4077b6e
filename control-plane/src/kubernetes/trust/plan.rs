//! Which ConfigMaps must be written or removed, as a pure function of what is wanted and what is there.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};

use super::{BUNDLE_KEY, CONFIG_MAP};
use crate::index::Resources;
use crate::inject::INJECT_LABEL;
use crate::kubernetes::{INJECTOR, MANAGED_BY, NAME, NAMESPACE};

/// The MutatingWebhookConfiguration that the ConfigMaps go with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// `metadata.uid`
    pub uid: String,
}

/// What is there in one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    bundle: Option<String>,
    is_ours: bool,
    /// Uids of owners that are a MutatingWebhookConfiguration.
    owners: Vec<String>,
}

impl Seen {
    /// What `map` says.
    pub fn of(map: &ConfigMap) -> Self {
        let owners = map.metadata.owner_references.iter().flatten();
        Self {
            bundle: map.data.as_ref().and_then(|d| d.get(BUNDLE_KEY)).cloned(),
            is_ours: map.metadata.labels.as_ref().and_then(|l| l.get(MANAGED_BY)).is_some_and(|v| v == NAME),
            owners: owners.filter(|o| o.kind == "MutatingWebhookConfiguration").map(|o| o.uid.clone()).collect(),
        }
    }
}

/// What to do in a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Apply the ConfigMap.
    Write(String),
    /// Remove it.
    Delete(String),
}

/// The namespaces whose proxies need the bundle: those that opted in, those with a pod that did or that is injected
/// still, and the control plane's own, where it tells that this cluster has a CA.
pub fn namespaces(resources: &Resources) -> BTreeSet<String> {
    let says_yes = |labels: &BTreeMap<String, String>| labels.get(INJECT_LABEL).is_some_and(|v| v == "true");
    let by_label = resources.namespaces.values().filter(|n| says_yes(&n.meta.labels)).map(|n| &n.meta.key.name);
    let by_pod =
        resources.pods.values().filter(|p| p.meshed || says_yes(&p.meta.labels)).map(|p| &p.meta.key.namespace);
    // Injection never touches Kubernetes' own namespaces, whatever labels say there.
    let mut wanted: BTreeSet<_> = by_label.chain(by_pod).filter(|n| !n.starts_with("kube-")).cloned().collect();
    wanted.insert(NAMESPACE.to_owned());
    wanted
}

/// What makes `seen` what is wanted. A ConfigMap of that name which is not ours is taken over where one is wanted, and
/// left alone elsewhere.
pub fn plan(
    wanted: &BTreeSet<String>,
    bundle: &str,
    owner: Option<&Owner>,
    seen: &BTreeMap<String, Seen>,
) -> Vec<Action> {
    let is_good = |s: &Seen| {
        let owners: Vec<_> = owner.map(|o| o.uid.clone()).into_iter().collect();
        s.is_ours && s.bundle.as_deref() == Some(bundle) && s.owners == owners
    };
    let write = wanted.iter().filter(|n| !seen.get(*n).is_some_and(is_good)).cloned().map(Action::Write);
    let over = seen.iter().filter(|(n, s)| s.is_ours && !wanted.contains(*n)).map(|(n, _)| n.clone());
    write.chain(over.map(Action::Delete)).collect()
}

/// The ConfigMap as it is applied.
pub fn config_map(bundle: &str, owner: Option<&Owner>) -> Value {
    let owners: Vec<_> = owner
        .map(|owner| {
            json!({
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": "MutatingWebhookConfiguration",
                "name": INJECTOR,
                "uid": owner.uid,
            })
        })
        .into_iter()
        .collect();
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": CONFIG_MAP,
            "labels": { MANAGED_BY: NAME, "app.kubernetes.io/part-of": "causeway" },
            "ownerReferences": owners,
        },
        "data": { BUNDLE_KEY: bundle },
    })
}

#[cfg(test)]
mod tests;
