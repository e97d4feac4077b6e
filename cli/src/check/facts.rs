//! What `causeway check` judges: facts of one cluster, gathered at the edge, each with the reason where it could not be.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::Value;

use super::network::Peer;
use crate::replicas::Replica;

/// A fact, or why it cannot be told.
pub type Known<T> = Result<T, String>;

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// Everything that is judged. Times are seconds since the epoch.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Version of this command, and so of the manifests in it.
    pub version: &'static str,
    /// This machine's clock.
    pub now: i64,
    /// The API server.
    pub server: Known<Server>,
    /// The nodes.
    pub nodes: Known<Vec<Node>>,
    /// What installing needs, and whether the caller may.
    pub permissions: Known<Vec<Permission>>,
    /// Our CustomResourceDefinitions.
    pub definitions: Known<Vec<Definition>>,
    /// The control plane's Deployment; None where Causeway is not installed.
    pub deployment: Known<Option<Deployment>>,
    /// The control plane's pods, and what each says.
    pub replicas: Known<Vec<Replica>>,
    /// The Lease of the leader.
    pub lease: Known<Option<Lease>>,
    /// Our webhook configurations that are there.
    pub webhooks: Known<Vec<Webhook>>,
    /// What became of a Pod that was tried.
    pub trial: Trial,
    /// Why a VirtualService without a fault was refused, where it was.
    pub validation: Known<Option<String>>,
    /// Every namespace.
    pub namespaces: Known<Vec<Namespace>>,
    /// Pods of namespaces with injection, and every injected Pod.
    pub pods: Known<Vec<Workload>>,
    /// NetworkPolicies of these namespaces and of the control plane's.
    pub policies: Known<Vec<NetworkPolicy>>,
    /// The control plane's pods as NetworkPolicies see them.
    pub control_plane_peers: Vec<Peer>,
    /// The pods of the cluster's DNS as NetworkPolicies see them.
    pub dns_peers: Vec<Peer>,
    /// Namespaces that hold the trust bundle, and its serial numbers.
    pub trust_bundles: Known<BTreeMap<String, BTreeSet<String>>>,
    /// Our custom resources.
    pub resources: Known<Vec<Value>>,
}

/// The API server.
#[derive(Clone, Debug)]
pub struct Server {
    /// URL.
    pub url: String,
    /// E.g. `v1.34.4`.
    pub version: String,
    /// Its clock minus ours, seconds; known to about a second.
    pub ahead: Option<i64>,
}

/// A node.
#[derive(Clone, Debug)]
pub struct Node {
    /// Name.
    pub name: String,
    /// Version of its kubelet.
    pub kubelet: String,
    /// Its clock minus the API server's, seconds; known to about a second.
    pub ahead: Option<i64>,
}

/// Something that installing needs.
#[derive(Clone, Debug)]
pub struct Permission {
    /// E.g. `create clusterroles.rbac.authorization.k8s.io`.
    pub what: String,
    /// Whether the caller may.
    pub is_allowed: bool,
}

/// One of our CustomResourceDefinitions as it should be there.
#[derive(Clone, Debug)]
pub struct Definition {
    /// E.g. `virtualservices.causeway.dev`.
    pub name: String,
    /// How it stands in the cluster.
    pub state: DefinitionState,
}

/// How a CustomResourceDefinition stands in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefinitionState {
    /// As this version of Causeway has it, and established.
    Current,
    /// Not there.
    Missing,
    /// There, with another schema.
    Different,
    /// There, but the API server does not serve it (yet).
    NotEstablished,
}

/// The control plane's Deployment.
#[derive(Clone, Debug)]
pub struct Deployment {
    /// Replicas asked for.
    pub wanted: i32,
    /// Replicas ready.
    pub ready: i32,
    /// Replicas of the newest template.
    pub updated: i32,
}

/// Who leads.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Pod name.
    pub holder: String,
    /// When it was renewed last, by the holder's clock.
    pub renewed: i64,
    /// How long it lasts, seconds.
    pub duration: i64,
}

/// One of our webhook configurations.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// `causeway-injector` or `causeway-validator`.
    pub name: String,
    /// Serial numbers of the roots that the API server trusts, one set for each webhook in it.
    pub roots: Vec<BTreeSet<String>>,
}

/// What became of a Pod that was created with a server-side dry run.
#[derive(Clone, Debug)]
pub enum Trial {
    /// It was injected.
    Injected {
        /// Where.
        namespace: String,
    },
    /// It passed as it was.
    Untouched {
        /// Where.
        namespace: String,
    },
    /// It was refused, with the API server's words.
    Refused {
        /// Where.
        namespace: String,
        /// The words.
        message: String,
    },
    /// It was not tried.
    Unknown(String),
}

/// A namespace.
#[derive(Clone, Debug)]
pub struct Namespace {
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: Labels,
}

impl Namespace {
    /// Whether its pods are injected unless they say otherwise.
    pub fn is_meshed(&self) -> bool {
        self.labels.get(super::INJECT_LABEL).is_some_and(|value| value == "true")
    }
}

/// A pod, as far as it is judged.
#[derive(Clone, Debug, Default)]
pub struct Workload {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: Labels,
    /// Addresses.
    pub addresses: Vec<std::net::IpAddr>,
    /// The phase is `Running`.
    pub is_running: bool,
    /// It uses the node's network.
    pub is_host_network: bool,
    /// When it was created.
    pub created: i64,
    /// What a person restarts to have it made anew, e.g. `deployment/web`; None for a bare pod.
    pub owner: Option<String>,
    /// It is being deleted.
    pub is_ending: bool,
}

impl Workload {
    /// `NAMESPACE/NAME`
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Whether injection has marked it.
    pub fn is_injected(&self) -> bool {
        self.labels.get(super::INJECTED_LABEL).is_some_and(|value| value == "true")
    }

    /// Whether it said that it does not want to be injected.
    pub fn has_opted_out(&self) -> bool {
        self.labels.get(super::INJECT_LABEL).is_some_and(|value| value == "false")
    }

    /// As a NetworkPolicy sees it.
    pub fn peer(&self, namespace_labels: &Labels) -> Peer {
        Peer {
            namespace: self.namespace.clone(),
            namespace_labels: namespace_labels.clone(),
            labels: self.labels.clone(),
            addresses: self.addresses.clone(),
            ports: BTreeMap::new(),
        }
    }
}
