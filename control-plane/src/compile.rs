//! Turns resources into what proxies act on. Pure: the same resources give the same model in whatever order they came.
//!
//! [`compile`] resolves everything once per change; the lookups of [`Model`] then answer for one client each.

mod alias;
mod asked;
mod catalog;
mod directions;
mod duration;
mod egress;
mod examine;
mod external;
mod gateway;
mod limit;
mod lookup;
mod lowered;
mod made;
mod matching;
mod part;
mod peer;
mod policy;
mod prefetch;
mod previous;
mod principal;
mod protocol;
mod routes;
mod rules;
mod scope;
mod selected;
mod split;
mod touched;
mod traffic;
mod virtual_service;

use crate::index::Resources;
use crate::problem::Problem;
use causeway_mesh::wire;
use std::collections::BTreeMap;
use std::sync::Arc;

pub use asked::Topic;
pub use gateway::{Parents, is_route};
pub use part::{Answer, Parts, Subject, Subjects};
pub use touched::Touched;

/// Namespace, then name.
type Name = (String, String);

/// What holds for the whole mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
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
            root_namespace: crate::kubernetes::NAMESPACE.into(),
        }
    }
}

/// Who asks: the proxy of one pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// `metadata.uid`, empty where the source does not say.
    pub uid: String,
    /// Succeeded, Failed or being deleted.
    pub finished: bool,
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
#[derive(Debug, Default)]
pub struct Model {
    settings: Settings,
    /// What it was made from.
    resources: Arc<Resources>,
    foundation: made::Foundation,
    directions: Arc<directions::Directions>,
    problems: Vec<Problem>,
    subjects: Arc<Subjects>,
    lineage: touched::Lineage,
    /// What it may answer otherwise than the model before; None: anything.
    touched: Option<Touched>,
}

/// Resolves `resources` once, with nothing before them.
pub fn compile(resources: &Arc<Resources>, settings: &Settings) -> Model {
    compile_after(None, resources, settings)
}

/// Resolves `resources`. A VirtualService that names something that does not exist stays as it was in `before`; a subset
/// that a route names and that no DestinationRule defines any more keeps its labels.
///
/// Where nothing dangles the result is that of [`compile`], whatever was before.
pub fn compile_after(before: Option<&Model>, resources: &Arc<Resources>, settings: &Settings) -> Model {
    let found = resources.found.iter().filter(|(key, _)| gateway::concerns(resources, key)).flat_map(|(_, all)| all);
    let mut problems: Vec<Problem> = resources.reported.iter().chain(found).cloned().collect();
    let foundation = made::Foundation::new(before, resources, settings, &mut problems);
    let catalog: &catalog::Catalog = &foundation.catalog;
    let directions = directions::Directions::after(before, resources, settings, catalog);
    problems.extend(directions.problems.iter().cloned());
    problems.sort();
    problems.dedup();
    let standing = before.and_then(|before| {
        let is_same = Arc::ptr_eq(&before.directions, &directions);
        let replaced = if is_same { None } else { Some(directions.replaced.as_ref()?) };
        directions::is_standing_the_same(before, resources, &problems, replaced).then_some((before, replaced))
    });
    let subjects = match standing {
        Some((before, None)) => Arc::clone(&before.subjects),
        Some((before, Some(replaced))) => Arc::new(part::replaced(&before.subjects, replaced, &problems)),
        None => Arc::new(part::subjects(&part::Compiled {
            resources,
            held: directions.held.as_ref(),
            routes: &directions.routes,
            rules: &directions.rules,
            problems: &problems,
            settings,
        })),
    };
    let mut model = Model {
        settings: settings.clone(),
        resources: Arc::clone(resources),
        foundation,
        directions,
        problems,
        subjects,
        lineage: touched::Lineage::after(before),
        touched: None,
    };
    model.touched = before.and_then(|before| touched::touched(before, &model));
    model
}

impl Model {
    fn catalog(&self) -> &catalog::Catalog {
        &self.foundation.catalog
    }

    /// Every problem of the configuration, those of the source included, sorted.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// What traffic of `client` to `text` (`host:port` or `ip:port`) becomes. Never fails: what the mesh does not
    /// know is of kind UNKNOWN.
    pub fn destination(&self, client: &Client, text: &str) -> wire::Destination {
        lookup::Lookup::new(self, client, text).run()
    }

    /// The ready endpoints of a backend that a destination names. A backend that is gone or never was has none; None
    /// where the text cannot be the name of a backend.
    pub fn endpoints(&self, backend: &str) -> Option<wire::Endpoints> {
        if let Some(found) = self.ready(backend) {
            return Some(wire::Endpoints { endpoints: found.map(|m| m.endpoint.clone()).collect() });
        }
        let (address, _) = backend.split_once('/').unwrap_or((backend, ""));
        let parsed = causeway_mesh::name::host_port(address).ok()?;
        let port = parsed.port?;
        let pod = parsed.host.parse().ok().and_then(|ip| Some((ip, self.catalog().pod_at(ip)?)));
        let endpoint = pod.map(|(ip, pod)| self.catalog().endpoint(pod, ip, port));
        Some(wire::Endpoints { endpoints: endpoint.into_iter().collect() })
    }

    /// What concerns the client's own workload. A pod that is not known gets the policies of its whole namespace.
    pub fn workload(&self, client: &Client) -> wire::Workload {
        let pod = self.catalog().pod(&client.namespace, &client.pod);
        let labels = pod.map(|p| p.meta.labels.clone()).unwrap_or_default();
        let (mode, ports) = self.foundation.peers.of(&client.namespace, &labels);
        let default = if self.settings.default_allow { wire::Verdict::Allow } else { wire::Verdict::Deny };
        let probes = pod.map(|p| p.probes.as_slice()).unwrap_or_default();
        wire::Workload {
            namespace: client.namespace.clone(),
            pod: client.pod.clone(),
            service_account: client.account.clone(),
            workload_name: pod.map_or_else(|| client.pod.clone(), |p| p.workload_name.clone()),
            cluster_domain: self.settings.cluster_domain.clone(),
            inbound: Some(wire::Inbound {
                mode: mode.into(),
                ports,
                default_verdict: default.into(),
                policies: self.foundation.policies.of(&client.namespace, &labels),
                probes: probes.iter().map(|p| wire::Probe { port: p.port.into(), path: p.path.clone() }).collect(),
                limits: self.foundation.limits.of(&client.namespace, &labels),
            }),
            egress: self.foundation.egress.of(&client.namespace).into(),
            zone: pod.map(|p| self.catalog().zone(p).to_owned()).unwrap_or_default(),
            region: pod.map(|p| p.region.clone()).unwrap_or_default(),
            labels,
        }
    }

    /// What is known of a pod.
    pub fn pod(&self, namespace: &str, name: &str) -> Option<PodInfo> {
        let pod = self.catalog().pod(namespace, name)?;
        Some(PodInfo {
            account: pod.account.clone(),
            meshed: pod.meshed,
            uid: pod.meta.uid.clone(),
            finished: pod.finished,
        })
    }

    /// Destinations that `client` will most likely use, as subscription texts: the Services of its own namespace and
    /// those that routes of its namespace are about.
    pub fn prefetch(&self, client: &Client) -> Vec<String> {
        prefetch::prefetch(self, client)
    }

    /// Every Service, for the admin view.
    pub fn services(&self) -> Vec<ServiceView> {
        let view = |(namespace, name, service): (&str, &String, &Arc<crate::source::resource::Service>)| {
            let first = service.ports.first().map_or(0, |p| p.port);
            let members = self.catalog().members(&(namespace.to_owned(), name.clone()), first);
            ServiceView {
                namespace: namespace.to_owned(),
                name: name.clone(),
                ports: service.ports.iter().map(|p| p.port).collect(),
                endpoints: members.iter().filter(|m| m.ready).count(),
            }
        };
        self.catalog().services.iter().map(view).collect()
    }

    fn world(&self) -> split::World<'_> {
        split::World { catalog: self.catalog(), rules: &self.directions.rules, settings: &self.settings }
    }

    /// Labels of the client's pod, where it is known.
    pub fn labels(&self, client: &Client) -> Option<&BTreeMap<String, String>> {
        self.catalog().pod(&client.namespace, &client.pod).map(|p| &p.meta.labels)
    }

    fn is_ready(&self, backend: &str) -> bool {
        self.ready(backend).is_some_and(|mut ready| ready.next().is_some())
    }

    /// The ready endpoints of a Service port, or of one of its subsets; None where there is no such backend.
    fn ready<'a>(&'a self, backend: &'a str) -> Option<impl Iterator<Item = &'a catalog::Member>> {
        let (address, subset) = backend.split_once('/').unwrap_or((backend, ""));
        let (host, port) = address.rsplit_once(':')?;
        let (name, namespace) = host.rsplit_once('.')?;
        let (service, port) = ((namespace.to_owned(), name.to_owned()), port.parse().ok()?);
        self.catalog().services.get(&service)?.ports.iter().find(|p| p.port == port)?;
        let subset = match subset {
            "" => None,
            subset => Some(self.directions.rules.defined(&service, subset)?),
        };
        let members = self.catalog().members(&service, port).iter();
        Some(members.filter(move |m| m.ready && subset.is_none_or(|s| rules::belongs(s, m))))
    }
}

#[cfg(test)]
pub(crate) mod tests;
