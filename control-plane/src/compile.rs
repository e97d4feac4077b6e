//! Turns resources into what proxies act on. Pure: the same resources give the same model in whatever order they came.
//!
//! [`compile`] resolves everything once per change; the lookups of [`Model`] then answer for one client each.

use crate::index::Resources;
use crate::problem::Problem;
use causeway_mesh::wire;
use std::sync::Arc;

/// What holds for the whole mesh.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Of every SPIFFE ID that is made.
    pub trust_domain: String,
    /// Suffix of the names of Services.
    pub cluster_domain: String,
    /// Verdict where no ALLOW policy selects a workload.
    pub default_allow: bool,
    /// Whether traffic to what the mesh does not know passes.
    pub egress_allow: bool,
    /// Policies of this namespace hold for the whole mesh.
    pub root_namespace: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            trust_domain: "cluster.local".into(),
            cluster_domain: "cluster.local".into(),
            default_allow: true,
            egress_allow: true,
            root_namespace: "causeway-system".into(),
        }
    }
}

/// Who asks: the proxy of one pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Client {
    /// Namespace of its certificate.
    pub namespace: String,
    /// ServiceAccount of its certificate.
    pub account: String,
    /// Name of the pod.
    pub pod: String,
}

/// What is known of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodInfo {
    /// Its ServiceAccount.
    pub account: String,
    /// Whether it carries a proxy.
    pub meshed: bool,
}

/// A Service as the admin view shows it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ServiceView {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// TCP ports.
    pub ports: Vec<u16>,
    /// Ready endpoints of the first port.
    pub endpoints: usize,
}

/// Everything resolved, with every problem found.
#[derive(Clone, Debug, Default)]
pub struct Model {
    problems: Vec<Problem>,
}

/// Resolves `resources` once.
pub fn compile(resources: &Arc<Resources>, settings: &Settings) -> Model {
    let _ = (resources, settings);
    Model::default()
}

impl Model {
    /// Every problem of the configuration, those of the source included, sorted.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// What traffic of `client` to `text` (`host:port` or `ip:port`) becomes. Never fails: what the mesh does not
    /// know is of kind UNKNOWN.
    pub fn destination(&self, client: &Client, text: &str) -> wire::Destination {
        let _ = client;
        wire::Destination {
            canonical: text.to_owned(),
            kind: wire::destination::Kind::Unknown.into(),
            ..Default::default()
        }
    }

    /// The ready endpoints of a backend that a destination names; None where no such backend exists.
    pub fn endpoints(&self, backend: &str) -> Option<wire::Endpoints> {
        let _ = backend;
        None
    }

    /// What concerns the client's own workload. A pod that is not known gets the policies of its whole namespace.
    pub fn workload(&self, client: &Client) -> wire::Workload {
        wire::Workload { namespace: client.namespace.clone(), pod: client.pod.clone(), ..Default::default() }
    }

    /// What is known of a pod.
    pub fn pod(&self, namespace: &str, name: &str) -> Option<&PodInfo> {
        let _ = (namespace, name);
        None
    }

    /// Destinations that `client` will most likely use: the Services of its own namespace by their full names.
    pub fn prefetch(&self, client: &Client) -> Vec<String> {
        let _ = client;
        Vec::new()
    }

    /// Every Service, for the admin view.
    pub fn services(&self) -> Vec<ServiceView> {
        Vec::new()
    }
}
