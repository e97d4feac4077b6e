//! Parts of the model that are taken over from the model before where nothing that they are made from has changed. What
//! comes out is the same as if everything were made anew; only the work is less.

use super::{Model, Settings, alias, catalog, egress, external, limit, peer, policy};
use crate::index::Resources;
use crate::problem::Problem;
use crate::source::Key;
use std::ops::Deref;
use std::sync::Arc;

/// A part, and the problems found while it was made.
#[derive(Debug)]
pub(super) struct Made<T> {
    what: Arc<T>,
    problems: Arc<[Problem]>,
}

impl<T> Made<T> {
    fn new(make: impl FnOnce(&mut Vec<Problem>) -> T) -> Self {
        let mut problems = Vec::new();
        Self { what: Arc::new(make(&mut problems)), problems: problems.into() }
    }

    /// Whether one was taken over from the other.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.what, &other.what)
    }
}

impl<T> Deref for Made<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.what
    }
}

// By hand, because derived ones would ask the same of `T`.
impl<T> Clone for Made<T> {
    fn clone(&self) -> Self {
        Self { what: Arc::clone(&self.what), problems: Arc::clone(&self.problems) }
    }
}

impl<T: Default> Default for Made<T> {
    fn default() -> Self {
        Self::new(|_| T::default())
    }
}

/// The parts that do not depend on routes.
#[derive(Clone, Debug, Default)]
pub(super) struct Foundation {
    pub(super) catalog: Made<catalog::Catalog>,
    pub(super) policies: Made<policy::Policies>,
    pub(super) peers: Made<peer::Peers>,
    pub(super) limits: Made<limit::Limits>,
    pub(super) egress: Made<egress::Egress>,
}

impl Foundation {
    /// Makes what has to be made anew after `before`; adds every problem of every part.
    pub(super) fn new(
        before: Option<&Model>,
        resources: &Resources,
        settings: &Settings,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let before = before.filter(|b| b.settings == *settings).map(|b| (&b.foundation, &*b.resources));
        let catalog = before.map(|(foundation, was)| {
            let is_same = resources.pods.is_same(&was.pods)
                && resources.endpoint_slices.is_same(&was.endpoint_slices)
                && resources.services.is_same(&was.services)
                && resources.service_entries.is_same(&was.service_entries);
            match is_same {
                true => foundation.catalog.clone(),
                false => Made::new(|problems| catalog_after(&foundation.catalog, was, resources, settings, problems)),
            }
        });
        let pods = before.map(|(_, was)| resources.pods.changed(&was.pods)).unwrap_or_default();
        let policies = before
            .filter(|(_, was)| {
                resources.authorization_policies.is_same(&was.authorization_policies)
                    && resources.service_accounts.is_same(&was.service_accounts)
                    && resources.namespaces.is_same(&was.namespaces)
                    && pods.iter().all(|key| is_account_known_as_before(key, was, resources))
            })
            .map(|(foundation, _)| foundation.policies.clone());
        let peers = before
            .filter(|(foundation, was)| {
                let is_seen = |key: &&Key| foundation.peers.compares_pods_of(&key.namespace);
                resources.peer_authentications.is_same(&was.peer_authentications) && !pods.iter().any(is_seen)
            })
            .map(|(foundation, _)| foundation.peers.clone());
        let limits = before
            .filter(|(_, was)| resources.rate_limit_policies.is_same(&was.rate_limit_policies))
            .map(|(foundation, _)| foundation.limits.clone());
        let egress = before
            .filter(|(_, was)| resources.namespaces.is_same(&was.namespaces))
            .map(|(foundation, _)| foundation.egress.clone());
        let made = Self {
            catalog: catalog.unwrap_or_else(|| Made::new(|problems| whole_catalog(resources, settings, problems))),
            policies: policies.unwrap_or_else(|| Made::new(|p| policy::Policies::new(resources, settings, p))),
            peers: peers.unwrap_or_else(|| Made::new(|p| peer::Peers::new(resources, settings, p))),
            limits: limits.unwrap_or_else(|| Made::new(|p| limit::Limits::new(resources, settings, p))),
            egress: egress.unwrap_or_else(|| Made::new(|p| egress::Egress::new(resources, settings, p))),
        };
        let lists = [
            &made.catalog.problems,
            &made.policies.problems,
            &made.peers.problems,
            &made.limits.problems,
            &made.egress.problems,
        ];
        problems.extend(lists.into_iter().flat_map(|list| list.iter().cloned()));
        made
    }
}

fn whole_catalog(resources: &Resources, settings: &Settings, problems: &mut Vec<Problem>) -> catalog::Catalog {
    let mut catalog = catalog::Catalog::new(resources, settings);
    catalog.add_entries(external::Entries::new(resources, &catalog, settings, problems));
    catalog.examine(problems);
    alias::examine(&catalog, settings, problems);
    catalog
}

/// As [`whole_catalog`], given that of the resources before.
fn catalog_after(
    before: &catalog::Catalog,
    was: &Resources,
    resources: &Resources,
    settings: &Settings,
    problems: &mut Vec<Problem>,
) -> catalog::Catalog {
    let mut catalog = catalog::Catalog::after(before, was, resources);
    if !resources.service_entries.is_empty() {
        catalog.add_entries(external::Entries::new(resources, &catalog, settings, problems));
    }
    catalog.examine(problems);
    alias::examine(&catalog, settings, problems);
    catalog
}

/// Whether the accounts of a pod that changed are known by some pod or by none, as before.
fn is_account_known_as_before(key: &Key, was: &Resources, resources: &Resources) -> bool {
    let is_known = |all: &Resources, account: &str| {
        all.pods.of(&key.namespace).is_some_and(|pods| pods.values().any(|pod| pod.account == account))
    };
    let (last, now) = (was.pods.get(key), resources.pods.get(key));
    let accounts = last.map(|pod| &pod.account) == now.map(|pod| &pod.account);
    accounts
        || [last, now].into_iter().flatten().all(|pod| is_known(was, &pod.account) == is_known(resources, &pod.account))
}
