//! Where pods run: zone and region of each node, put into its pods. From Kubernetes 1.35 on pods carry these labels
//! themselves, and then those hold. Pure.

use super::mask::{Machine, Object};
use crate::source::Resource;
use crate::source::resource::Pod;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const ZONE: &str = "topology.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";

/// A node as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Located {
    /// `metadata.name`
    pub name: String,
    /// Empty where no label says it.
    pub zone: String,
    /// Empty where no label says it.
    pub region: String,
}

/// Reads a node.
pub fn located(object: &Object<Machine>) -> Located {
    let label = |name: &str| {
        let labels = object.value.pointer("/metadata/labels").and_then(Value::as_object);
        labels.and_then(|l| l.get(name)).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    Located { name: object.metadata("name").to_owned(), zone: label(ZONE), region: label(REGION) }
}

/// The nodes that exist.
#[derive(Debug, Default)]
pub struct Places {
    nodes: BTreeMap<String, Located>,
}

impl Places {
    /// A complete list; the names of the nodes that moved.
    pub fn listed(&mut self, all: Vec<Located>) -> BTreeSet<String> {
        let now: BTreeMap<String, Located> = all.into_iter().map(|node| (node.name.clone(), node)).collect();
        let before = std::mem::replace(&mut self.nodes, now);
        let names = before.keys().chain(self.nodes.keys());
        names.filter(|name| before.get(*name) != self.nodes.get(*name)).cloned().collect()
    }

    /// A node that is new or changed; its name where it moved. Most changes are of its status.
    pub fn applied(&mut self, node: Located) -> Option<String> {
        let name = node.name.clone();
        let before = self.nodes.insert(name.clone(), node);
        (before.as_ref() != self.nodes.get(&name)).then_some(name)
    }

    /// A node that is gone; its name.
    pub fn deleted(&mut self, name: &str) -> Option<String> {
        self.nodes.remove(name).map(|node| node.name)
    }

    /// The pod with the place of its node, where it does not have that already.
    pub fn put(&self, pod: &Pod) -> Option<Resource> {
        let node = self.nodes.get(&pod.node);
        let of = |label: &str, node: Option<&String>| {
            let own = pod.meta.labels.get(label).filter(|value| !value.is_empty());
            own.or(node).cloned().unwrap_or_default()
        };
        let (zone, region) = (of(ZONE, node.map(|n| &n.zone)), of(REGION, node.map(|n| &n.region)));
        let is_new = pod.zone != zone || pod.region != region;
        is_new.then(|| Resource::Pod(Arc::new(Pod { zone, region, ..pod.clone() })))
    }
}
