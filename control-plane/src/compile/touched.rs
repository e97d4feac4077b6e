//! Which answers may differ between one model and the next, so that what was answered before need not be worked out
//! again. Says too much rather than too little.

use super::asked::Topic;
use super::catalog::name_of;
use super::directions::routes_changed;
use super::lowered::RouteResource;
use super::routes::Routes;
use super::rules::Rules;
use super::{Model, Name};
use crate::source::Key;
use crate::source::resource::Service;
use causeway_mesh::name;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a change may have changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// What may be read otherwise: Services by their endpoints, their routes or how they are reached.
    pub topics: BTreeSet<Topic>,
    /// Namespaces whose own Services or routes changed.
    pub namespaces: BTreeSet<String>,
    /// Whether what [`Model::workload`] answers may differ for anybody.
    pub workloads: bool,
    /// Pods for which it may differ, `(namespace, name)`.
    pub pods: BTreeSet<Name>,
}

/// Says which model came after which.
#[derive(Clone, Debug, Default)]
pub(super) struct Lineage {
    own: Arc<()>,
    before: Option<Arc<()>>,
}

impl Lineage {
    pub(super) fn after(before: Option<&Model>) -> Self {
        Self { own: Arc::default(), before: before.map(|b| Arc::clone(&b.lineage.own)) }
    }
}

impl Model {
    /// What may be answered otherwise than by `before`; None: anything, or `before` is not what this was made after.
    pub fn touched(&self, before: &Self) -> Option<&Touched> {
        let is_next = self.lineage.before.as_ref().is_some_and(|b| Arc::ptr_eq(b, &before.lineage.own));
        self.touched.as_ref().filter(|_| is_next)
    }

    /// What the endpoints of a backend are read from.
    pub fn used_by_backend(&self, backend: &str) -> Vec<Topic> {
        let (address, _) = backend.split_once('/').unwrap_or((backend, ""));
        let named = || {
            let (name, namespace) = address.rsplit_once(':')?.0.rsplit_once('.')?;
            Some(Topic::Service((namespace.to_owned(), name.to_owned())))
        };
        let ip = || name::host_port(address).ok()?.host.parse().ok().map(Topic::Address);
        named().into_iter().chain(ip()).collect()
    }
}

/// What `now` may answer otherwise than `before`; None: anything.
pub(super) fn touched(before: &Model, now: &Model) -> Option<Touched> {
    let last = &before.directions;
    if before.settings != now.settings || last.distinctions != now.directions.distinctions {
        return None;
    }
    let mut touched = Touched::default();
    if !Arc::ptr_eq(last, &now.directions) {
        touched.directions(before, now);
    }
    let names = names(before, now);
    touched.prefetches(&last.routes, &now.directions.routes, &names);
    touched.names(before, now, names);
    let (last, foundation) = (&before.foundation, &now.foundation);
    if !foundation.catalog.is_same(&last.catalog) {
        touched.services(foundation.catalog.differing(&last.catalog));
        touched.pods = foundation.catalog.differing_pods(&last.catalog);
        touched.topics.extend(foundation.catalog.differing_addresses(&last.catalog).into_iter().map(Topic::Address));
    }
    touched.workloads = !(foundation.policies.is_same(&last.policies)
        && foundation.peers.is_same(&last.peers)
        && foundation.limits.is_same(&last.limits)
        && foundation.egress.is_same(&last.egress));
    Some(touched)
}

/// Services and hosts of ServiceEntries that came, went or say something else.
fn names(before: &Model, now: &Model) -> BTreeSet<Name> {
    let (was, is) = (&before.resources.services, &now.resources.services);
    let is_other = |key: &&Key| match (was.get(key), is.get(key)) {
        (Some(was), Some(is)) => !is_alike(was, is),
        _ => true,
    };
    let services = is.changed(was).into_iter().filter(is_other);
    let mut names: BTreeSet<Name> = services.map(name_of).collect();
    names.extend(now.catalog().entries.differing(&before.catalog().entries).cloned());
    names
}

/// Whether they differ in labels at most, which nobody asks for.
fn is_alike(was: &Service, is: &Service) -> bool {
    let is = Service { meta: was.meta.clone(), ..is.clone() };
    *was == is
}

impl Touched {
    fn services(&mut self, services: impl IntoIterator<Item = Name>) {
        self.topics.extend(services.into_iter().map(Topic::Service));
    }

    /// Namespaces whose clients are sent one of `names` unasked.
    fn prefetches(&mut self, before: &Routes, now: &Routes, names: &BTreeSet<Name>) {
        if names.is_empty() {
            return;
        }
        let is_about = |r: &&Arc<RouteResource>| r.attachments.iter().any(|a| names.contains(&a.service));
        let routes = before.all.iter().chain(&now.all).filter(is_about).map(|r| r.meta.key.namespace.clone());
        self.namespaces.extend(routes.chain(names.iter().map(|(namespace, _)| namespace.clone())));
    }

    fn names(&mut self, before: &Model, now: &Model, names: BTreeSet<Name>) {
        for model in [before, now] {
            for name in &names {
                if model.catalog().entries.get(name).is_some() {
                    self.topics.insert(Topic::Entries(name.0.clone()));
                }
                let service = model.catalog().services.get(name);
                self.topics.extend(service.into_iter().flat_map(|s| s.cluster_ips.iter().copied()).map(Topic::Address));
            }
        }
        self.services(names);
    }

    /// What is said of routes and rules.
    fn directions(&mut self, before: &Model, now: &Model) {
        let (was, is) = (&before.resources, &now.resources);
        let (last, now) = (&before.directions, &now.directions);
        if let Some(replaced) = &now.replaced {
            self.services(replaced.services.iter().cloned());
            self.namespaces.extend(replaced.namespaces.iter().cloned());
            return;
        }
        let mut keys: BTreeSet<&Key> = routes_changed(was, is).into_iter().collect();
        keys.extend(is.destination_rules.changed(&was.destination_rules));
        // A name that came or went, or that may be used now, changes what unchanged resources lead to; and what dangles is
        // held back, or is held back no longer.
        keys.extend(now.routes.differing(&last.routes));
        self.services(now.rules.differing(&last.rules).cloned());
        for directions in [last, now] {
            self.routes(&directions.routes, &keys);
            self.rules(&directions.rules, &keys);
        }
    }

    fn routes(&mut self, routes: &Routes, keys: &BTreeSet<&Key>) {
        let is_meant =
            |r: &RouteResource| keys.contains(&r.meta.key) || r.delegates.iter().any(|d| keys.contains(&d.key));
        routes.all.iter().filter(|r| is_meant(r)).for_each(|r| self.route(r));
    }

    fn route(&mut self, resource: &RouteResource) {
        self.services(resource.attachments.iter().map(|a| a.service.clone()));
        self.namespaces.insert(resource.meta.key.namespace.clone());
    }

    fn rules(&mut self, rules: &Rules, keys: &BTreeSet<&Key>) {
        let attached = rules.attached().filter(|(_, a)| keys.contains(&a.meta().key));
        self.services(attached.map(|(service, _)| service.clone()));
    }
}
