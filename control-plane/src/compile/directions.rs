//! What routes and rules say, resolved: nothing of it depends on Pods or endpoints, so that these may come and go without it
//! being worked out again.

mod names;
mod replaced;

use super::catalog::{Catalog, name_of};
use super::lowered::RouteResource;
use super::previous::{self, Dangling, Versions};
use super::routes::Routes;
use super::rules::Rules;
use super::{Model, Settings, alias, examine, gateway, part, split, virtual_service};
use crate::index::Resources;
use crate::problem::Problem;
use crate::source::Key;
use names::Names;
pub(super) use replaced::Replaced;
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Directions {
    pub(super) rules: Arc<Rules>,
    pub(super) routes: Routes,
    pub(super) dangling: Dangling,
    /// Versions of VirtualServices that are in force, where they are not the latest throughout.
    pub(super) held: Option<Versions>,
    pub(super) distinctions: part::Distinctions,
    /// Made when the first Service changes: many a weight is changed before that.
    names: OnceLock<Names>,
    pub(super) problems: Vec<Problem>,
    /// All that differs from the directions before; None: they were made anew.
    pub(super) replaced: Option<Replaced>,
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
            None => {
                let replaced = before.and_then(|before| replaced::replaced(before, resources, settings, catalog));
                Arc::new(replaced.unwrap_or_else(|| Self::new(before, resources, settings, catalog)))
            }
        }
    }

    fn new(before: Option<&Model>, resources: &Resources, settings: &Settings, catalog: &Catalog) -> Self {
        let mut problems = Vec::new();
        let mut rules = Rules::new(resources, catalog, settings, &mut problems);
        // Routes of other APIs than VirtualServices, which are never held back.
        let others = gateway::lower(resources, catalog, &mut problems);
        let routes_of = |services: &Versions, problems: &mut Vec<Problem>| {
            let lowered = virtual_service::lower(services, catalog, settings, problems);
            let lowered = alias::routed(lowered, catalog, settings, problems);
            Routes::new(lowered.into_iter().chain(others.iter().cloned()).collect(), problems)
        };
        let mut routes = routes_of(&resources.virtual_services, &mut problems);
        let names = OnceLock::new();
        let world = split::World { catalog, rules: &rules, settings };
        let dangling = examine::examine(&routes, world, &mut problems);
        let dangling = previous::dangling(resources, dangling, before);
        let held = previous::in_force(resources, &dangling, &mut problems);
        if let Some(held) = &held {
            // Routes that are not in force are about names as well, and are not kept.
            let latest = std::mem::replace(&mut routes, routes_of(held, &mut Vec::new()));
            let _ = names.set(Names::of(resources, [&latest, &routes], catalog, settings));
        }
        if let Some(before) = before {
            rules.keep(&before.directions.rules, &routes, catalog, settings);
        }
        let distinctions = part::Distinctions::of(&routes, &rules);
        Self { rules: Arc::new(rules), routes, dangling, held, distinctions, names, problems, replaced: None }
    }
}

/// One route, where it becomes one.
fn lower_one(
    key: &Key,
    resources: &Resources,
    settings: &Settings,
    catalog: &Catalog,
    problems: &mut Vec<Problem>,
) -> Option<Arc<RouteResource>> {
    let all = &resources.virtual_services;
    let Some(resource) = all.get(key) else { return gateway::lower_one(key, resources, catalog, problems) };
    let lowered = virtual_service::lower_one(resource, all, catalog, settings, problems)?;
    let lowered = alias::routed(vec![lowered], catalog, settings, problems);
    let [lowered] = &*lowered else { return None };
    Some(Arc::clone(lowered))
}

/// Keys of routes of any API that are new, changed or gone.
pub(super) fn routes_changed<'a>(was: &'a Resources, is: &'a Resources) -> Vec<&'a Key> {
    let mut keys = is.virtual_services.changed(&was.virtual_services);
    keys.extend(is.http_routes.changed(&was.http_routes));
    keys.extend(is.grpc_routes.changed(&was.grpc_routes));
    keys.extend(is.tcp_routes.changed(&was.tcp_routes));
    keys.extend(is.tls_routes.changed(&was.tls_routes));
    keys
}

/// Whether nothing of which directions are made has changed, Services left out.
fn is_said_the_same(was: &Resources, is: &Resources) -> bool {
    routes_changed(was, is).is_empty()
        && is.destination_rules.is_same(&was.destination_rules)
        && is_outside_same(was, is)
}

/// Whether nothing of which directions are made has changed, Services, routes and rules left out.
fn is_outside_same(was: &Resources, is: &Resources) -> bool {
    is.service_entries.is_same(&was.service_entries) && is.reference_grants.is_same(&was.reference_grants)
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

/// Whether, with the same directions but for `replaced`, every other resource of the user's API stands as before.
pub(super) fn is_standing_the_same(
    before: &Model,
    is: &Resources,
    problems: &[Problem],
    replaced: Option<&Replaced>,
) -> bool {
    let was = &before.resources;
    let names: BTreeSet<String> =
        replaced.into_iter().flat_map(|r| r.subjects.keys()).map(ToString::to_string).collect();
    let is_of_another = |problem: &&Problem| !names.contains(&problem.resource);
    is.authorization_policies.is_same(&was.authorization_policies)
        && is.peer_authentications.is_same(&was.peer_authentications)
        && is.rate_limit_policies.is_same(&was.rate_limit_policies)
        && is.refused == was.refused
        && problems.iter().filter(is_of_another).eq(before.problems.iter().filter(is_of_another))
}
