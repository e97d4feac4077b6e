//! Which answers may differ between one model and the next, so that what was answered before need not be worked out
//! again. Says too much rather than too little.

use super::lowered::{Reference, RouteResource};
use super::routes::Routes;
use super::rules::Rules;
use super::scope::{Host, resolve};
use super::{Model, Name, alias};
use crate::source::Key;
use causeway_mesh::wire;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a change may have changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Services, `(namespace, name)`: their endpoints, their routes or how they are reached.
    pub services: BTreeSet<Name>,
    /// Namespaces whose own routes changed.
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

    /// The Services on which the answer `found` depends; None where it depends on more than Services.
    pub fn used_by(&self, found: &wire::Destination) -> Option<Vec<Name>> {
        if found.kind != i32::from(wire::destination::Kind::Service) {
            return None;
        }
        let own = (found.service_namespace.clone(), found.service_name.clone());
        let mut all: BTreeSet<Name> = found.backends.iter().map(|b| (b.namespace.clone(), b.service.clone())).collect();
        // What a route names and what is not there takes part too: that it is not there.
        for attached in self.directions.routes.of(&own) {
            let namespace = &attached.meta().key.namespace;
            for reference in attached.resource.references() {
                match reference {
                    Reference::Named(to) => {
                        let Host::Service(name) = resolve(&to.host, namespace, self.catalog(), &self.settings) else {
                            continue;
                        };
                        if let alias::Target::Service(target) = alias::follow(&name, self.catalog(), &self.settings) {
                            all.insert(target);
                        }
                        all.insert(name);
                    }
                    Reference::Service { service, .. } => drop(all.insert(service.clone())),
                    Reference::Broken(_) => {}
                }
            }
        }
        all.insert(own);
        Some(all.into_iter().collect())
    }

    /// The Service whose endpoints the backend has; None where it has others, or none.
    pub fn used_by_backend(&self, backend: &str) -> Option<Vec<Name>> {
        drop(self.ready(backend)?);
        let (address, _) = backend.split_once('/').unwrap_or((backend, ""));
        let (name, namespace) = address.rsplit_once(':')?.0.rsplit_once('.')?;
        Some(vec![(namespace.to_owned(), name.to_owned())])
    }
}

/// What `now` may answer otherwise than `before`; None: anything.
pub(super) fn touched(before: &Model, now: &Model) -> Option<Touched> {
    let (was, is, last) = (&before.resources, &now.resources, &before.directions);
    let is_name_space_same = is.services.is_same(&was.services)
        && is.service_entries.is_same(&was.service_entries)
        && is.reference_grants.is_same(&was.reference_grants)
        && before.settings == now.settings;
    if !is_name_space_same
        || last.distinctions != now.directions.distinctions
        || !now.directions.rules.keeps_as(&last.rules)
    {
        return None;
    }
    let mut touched = Touched::default();
    let mut keys: BTreeSet<&Key> = is.virtual_services.changed(&was.virtual_services).into_iter().collect();
    keys.extend(is.http_routes.changed(&was.http_routes));
    keys.extend(is.grpc_routes.changed(&was.grpc_routes));
    keys.extend(is.tcp_routes.changed(&was.tcp_routes));
    keys.extend(is.tls_routes.changed(&was.tls_routes));
    keys.extend(is.destination_rules.changed(&was.destination_rules));
    // What dangles may be held back, or be held back no longer.
    keys.extend(last.dangling.iter().chain(&now.directions.dangling));
    if !keys.is_empty() {
        for routes in [&last.routes, &now.directions.routes] {
            touched.routes(routes, &keys);
        }
        for rules in [&last.rules, &now.directions.rules] {
            touched.rules(rules, &keys);
        }
    }
    let (last, foundation) = (&before.foundation, &now.foundation);
    if !foundation.catalog.is_same(&last.catalog) {
        touched.services.extend(foundation.catalog.differing(&last.catalog));
        touched.pods = foundation.catalog.differing_pods(&last.catalog);
    }
    touched.workloads = !(foundation.policies.is_same(&last.policies)
        && foundation.peers.is_same(&last.peers)
        && foundation.limits.is_same(&last.limits)
        && foundation.egress.is_same(&last.egress));
    Some(touched)
}

impl Touched {
    fn routes(&mut self, routes: &Routes, keys: &BTreeSet<&Key>) {
        let is_meant =
            |r: &RouteResource| keys.contains(&r.meta.key) || r.delegates.iter().any(|d| keys.contains(&d.key));
        for resource in routes.all.iter().filter(|r| is_meant(r)) {
            self.services.extend(resource.attachments.iter().map(|a| a.service.clone()));
            self.namespaces.insert(resource.meta.key.namespace.clone());
        }
    }

    fn rules(&mut self, rules: &Rules, keys: &BTreeSet<&Key>) {
        let attached = rules.attached().filter(|(_, a)| keys.contains(&a.meta().key));
        self.services.extend(attached.map(|(service, _)| service.clone()));
    }
}
