//! What routes and rules say, resolved: nothing of it depends on Pods or endpoints, so that these may come and go without it
//! being worked out again.

mod names;

use super::catalog::{Catalog, name_of};
use super::previous::{self, Good};
use super::routes::Routes;
use super::rules::Rules;
use super::{Model, Settings, alias, examine, gateway, part, split, virtual_service};
use crate::index::Resources;
use crate::problem::Problem;
use crate::source::Key;
use crate::source::resource::VirtualService;
use names::Names;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Directions {
    pub(super) rules: Rules,
    pub(super) routes: Routes,
    pub(super) good: Good,
    /// Versions of VirtualServices that are in force, where they are not the latest throughout.
    pub(super) held: Option<Good>,
    pub(super) distinctions: part::Distinctions,
    /// Made when the first Service changes: many a weight is changed before that.
    names: OnceLock<Names>,
    pub(super) problems: Vec<Problem>,
}

impl Directions {
    /// Those of `before` where they say the same, else new ones.
    pub(super) fn after(
        before: Option<&Model>,
        resources: &Resources,
        settings: &Settings,
        catalog: &Catalog,
    ) -> Arc<Self> {
        match before.filter(|b| {
            b.settings == *settings && is_said_the_same(&b.resources, resources) && are_names_the_same(b, resources)
        }) {
            Some(before) => Arc::clone(&before.directions),
            None => Arc::new(Self::new(before, resources, settings, catalog)),
        }
    }

    fn new(before: Option<&Model>, resources: &Resources, settings: &Settings, catalog: &Catalog) -> Self {
        let mut problems = Vec::new();
        let mut rules = Rules::new(resources, catalog, settings, &mut problems);
        // Routes of other APIs than VirtualServices, which are never held back.
        let others = gateway::lower(resources, catalog, &mut problems);
        let routes_of = |services: &BTreeMap<Key, Arc<VirtualService>>, problems: &mut Vec<Problem>| {
            let lowered = virtual_service::lower(services, catalog, settings, problems);
            let lowered = alias::routed(lowered, catalog, settings, problems);
            Routes::new(lowered.into_iter().chain(others.iter().cloned()).collect(), problems)
        };
        let mut routes = routes_of(&resources.virtual_services, &mut problems);
        let names = OnceLock::new();
        let world = split::World { catalog, rules: &rules, settings };
        let dangling = examine::examine(&routes, world, &mut problems);
        let good = previous::good(resources, &dangling, before);
        let held = previous::in_force(resources, &dangling, &good, &mut problems);
        if let Some(held) = &held {
            // Routes that are not in force are about names as well, and are not kept.
            let latest = std::mem::replace(&mut routes, routes_of(held, &mut Vec::new()));
            let _ = names.set(Names::of(resources, [&latest, &routes], catalog, settings));
        }
        if let Some(before) = before {
            rules.keep(&before.directions.rules, &routes, catalog, settings);
        }
        let distinctions = part::Distinctions::of(&routes, &rules);
        Self { rules, routes, good, held, distinctions, names, problems }
    }
}

/// Whether nothing of which directions are made has changed, Services left out.
fn is_said_the_same(was: &Resources, is: &Resources) -> bool {
    is.service_entries.is_same(&was.service_entries)
        && is.virtual_services.is_same(&was.virtual_services)
        && is.destination_rules.is_same(&was.destination_rules)
        && is.http_routes.is_same(&was.http_routes)
        && is.grpc_routes.is_same(&was.grpc_routes)
        && is.tcp_routes.is_same(&was.tcp_routes)
        && is.tls_routes.is_same(&was.tls_routes)
        && is.reference_grants.is_same(&was.reference_grants)
}

/// Whether all that routes and rules are about is there with the same ports and aliases, which is all that they look at.
fn are_names_the_same(before: &Model, is: &Resources) -> bool {
    let (was, directions) = (&before.resources.services, &before.directions);
    // Of `before`, which said the same as what the directions were made from: else they had been made anew.
    let names = || {
        let make = || Names::of(&before.resources, [&directions.routes], before.catalog(), &before.settings);
        directions.names.get_or_init(make)
    };
    is.services.changed(was).into_iter().all(|key| match (was.get(key), is.services.get(key)) {
        (Some(was), Some(is)) if (&was.external_name, &was.ports) == (&is.external_name, &is.ports) => true,
        _ => !names().hold(&name_of(key), &before.settings),
    })
}

/// Whether, with the same directions, every resource of the user's API stands as before.
pub(super) fn is_standing_the_same(before: &Model, is: &Resources, problems: &[Problem]) -> bool {
    let was = &before.resources;
    is.authorization_policies.is_same(&was.authorization_policies)
        && is.peer_authentications.is_same(&was.peer_authentications)
        && is.rate_limit_policies.is_same(&was.rate_limit_policies)
        && is.refused == was.refused
        && problems == before.problems
}
