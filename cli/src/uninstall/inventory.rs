//! What there is of Causeway in a cluster: what was installed, what the control plane made, and what would suffer.
//! Changes nothing.

use std::collections::BTreeSet;

use causeway_control_plane::kubernetes::MANAGED_BY;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret};
use kube::Api;
use kube::api::{DynamicObject, ListParams, ObjectMeta, PartialObjectMeta};
use kube::core::{ApiResource, GroupVersionKind};

use crate::cluster::{CONTROL_PLANE, Cluster, NAMESPACE};
use crate::install::apply::{Step, api};
use crate::install::manifest::{self, Choices, Object};

/// The ConfigMap that proxies begin with.
pub use causeway_control_plane::inject::TRUST_CONFIG_MAP as TRUST;

/// Kinds by which somebody else's things in our namespace are noticed.
const KINDS: [(&str, &str, &str); 9] = [
    ("apps", "v1", "Deployment"),
    ("apps", "v1", "StatefulSet"),
    ("apps", "v1", "DaemonSet"),
    ("batch", "v1", "Job"),
    ("batch", "v1", "CronJob"),
    ("", "v1", "Service"),
    ("", "v1", "Secret"),
    ("", "v1", "ConfigMap"),
    ("", "v1", "PersistentVolumeClaim"),
];

/// A CustomResourceDefinition and what it holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    /// Itself, as the manifest has it.
    pub object: Object,
    /// Its resources, e.g. `VirtualService dev/prodsvc`.
    pub resources: Vec<String>,
}

/// What there is.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// Objects of the manifest, but definitions and the namespace.
    pub objects: Vec<Object>,
    /// Definitions.
    pub definitions: Vec<Definition>,
    /// Name of the Secret with the CA that the control plane made.
    pub secret: Option<String>,
    /// Namespaces with a ConfigMap of the roots.
    pub config_maps: Vec<String>,
    /// Whether namespace causeway-system is there.
    pub is_namespace_there: bool,
    /// What somebody else keeps in it.
    pub foreign: Vec<String>,
    /// Pods with a proxy that have not ended, `namespace/name`.
    pub injected: Vec<String>,
    /// Namespaces that ask for injection.
    pub labelled: Vec<String>,
}

impl Inventory {
    /// Whether there is nothing to remove.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
            && self.definitions.is_empty()
            && self.secret.is_none()
            && self.config_maps.is_empty()
            && (!self.is_namespace_there || !self.foreign.is_empty())
    }

    /// All routes and policies.
    pub fn resources(&self) -> impl Iterator<Item = String> {
        self.definitions.iter().flat_map(|definition| definition.resources.iter().cloned())
    }

    /// Asks the cluster.
    ///
    /// # Errors
    /// The API server cannot be asked, or does not answer this person.
    pub async fn take(cluster: &Cluster) -> anyhow::Result<Self> {
        let mut found = Self::default();
        for object in manifest::objects(&Choices::default())? {
            if cluster.ask(api(cluster, &object).get_metadata_opt(object.name())).await?.is_none() {
                continue;
            }
            match Step::of(object.kind()) {
                Step::Namespace => found.is_namespace_there = true,
                Step::Definitions => found.definitions.push(definition(cluster, object).await?),
                _ => found.objects.push(object),
            }
        }
        let client = || cluster.client();
        let managed = ListParams::default().labels(&format!("{MANAGED_BY}={CONTROL_PLANE}"));
        let maps: Api<ConfigMap> = Api::all(client());
        let maps = cluster.ask(maps.list_metadata(&managed)).await?;
        found.config_maps = maps.items.into_iter().filter_map(|map| map.metadata.namespace).collect();
        let secrets: Api<Secret> = Api::namespaced(client(), NAMESPACE);
        let secrets = cluster.ask(secrets.list_metadata(&managed)).await?;
        found.secret = secrets.items.into_iter().find_map(|secret| secret.metadata.name);
        let pods: Api<Pod> = Api::all(client());
        let pods = cluster.ask(pods.list(&ListParams::default().labels("causeway.dev/injected=true"))).await?;
        found.injected =
            pods.items.iter().filter(|pod| !is_finished(pod)).map(|pod| full_name(&pod.metadata)).collect();
        let namespaces: Api<Namespace> = Api::all(client());
        let labelled = ListParams::default().labels("causeway.dev/inject=true");
        let namespaces = cluster.ask(namespaces.list_metadata(&labelled)).await?;
        found.labelled = namespaces.items.into_iter().filter_map(|ns| ns.metadata.name).collect();
        if found.is_namespace_there {
            found.foreign = foreign(cluster, &found).await?;
        }
        Ok(found)
    }
}

fn is_finished(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).is_some_and(|p| p == "Succeeded" || p == "Failed")
}

fn full_name(metadata: &ObjectMeta) -> String {
    let name = metadata.name.clone().unwrap_or_default();
    metadata.namespace.as_ref().map_or_else(|| name.clone(), |namespace| format!("{namespace}/{name}"))
}

async fn definition(cluster: &Cluster, object: Object) -> anyhow::Result<Definition> {
    let text = |pointer: &str| object.0.pointer(pointer).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
    let (group, kind) = (text("/spec/group"), text("/spec/names/kind"));
    let resource = ApiResource {
        version: text("/spec/versions/0/name"),
        api_version: format!("{group}/{}", text("/spec/versions/0/name")),
        plural: text("/spec/names/plural"),
        group,
        kind: kind.clone(),
    };
    let api: Api<DynamicObject> = Api::all_with(cluster.client(), &resource);
    let items = match cluster.ask(async { Ok(api.list_metadata(&ListParams::default()).await) }).await? {
        Ok(list) => list.items,
        // It was just made, or is just going: it serves nothing.
        Err(kube::Error::Api(status)) if status.code == 404 => Vec::new(),
        Err(error) => return Err(cluster.explain(&error)),
    };
    let resources = items.iter().map(|item| format!("{kind} {}", full_name(&item.metadata))).collect();
    Ok(Definition { object, resources })
}

/// What is in our namespace and neither ours nor Kubernetes' own.
async fn foreign(cluster: &Cluster, found: &Inventory) -> anyhow::Result<Vec<String>> {
    let ours: BTreeSet<(String, String)> =
        found.objects.iter().map(|o| (o.kind().to_owned(), o.name().to_owned())).collect();
    let mut foreign = Vec::new();
    for (group, version, kind) in KINDS {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let api: Api<DynamicObject> = Api::namespaced_with(cluster.client(), NAMESPACE, &resource);
        let list = cluster.ask(api.list_metadata(&ListParams::default())).await?;
        for item in list.items {
            let name = item.metadata.name.clone().unwrap_or_default();
            if !ours.contains(&(kind.to_owned(), name.clone())) && !is_known(&item, &name) {
                foreign.push(format!("{kind} {name}"));
            }
        }
    }
    Ok(foreign)
}

/// What the control plane made itself, and what every namespace has.
fn is_known(item: &PartialObjectMeta<DynamicObject>, name: &str) -> bool {
    let managed = item.metadata.labels.iter().flatten().any(|(key, value)| key == MANAGED_BY && value == CONTROL_PLANE);
    managed || name == "kube-root-ca.crt"
}
