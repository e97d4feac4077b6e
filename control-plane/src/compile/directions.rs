//! What routes and rules say, resolved: nothing of it depends on Pods or endpoints, so that these may come and go without it
//! being worked out again.

mod names;

use super::catalog::{Catalog, name_of};
use super::lowered::RouteResource;
use super::previous::{self, Dangling, Versions};
use super::routes::Routes;
use super::rules::Rules;
use super::{Model, Settings, alias, examine, gateway, part, split, virtual_service};
use crate::index::Resources;
use crate::problem::Problem;
use crate::source::resource::VirtualService;
use crate::source::{Key, Kind};
use names::Names;
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
    /// What is all that differs from the directions before; None: they were made anew.
    pub(super) replaced: Option<Vec<Arc<RouteResource>>>,
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
                let replaced = before.and_then(|before| Self::replaced(before, resources, settings, catalog));
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

    /// Those of `before` with other routes for some Services: where all that changed are routes of which each has its
    /// Services for itself, before and now, and nothing dangles in them. So a weight, and a route that comes or goes, cost what
    /// one resource costs. The result is that of [`Directions::new`]; None where that cannot be known from these resources
    /// alone.
    fn replaced(before: &Model, resources: &Resources, settings: &Settings, catalog: &Catalog) -> Option<Self> {
        let (last, was) = (&before.directions, &before.resources);
        let is_said = before.settings == *settings
            && resources.services.is_same(&was.services)
            && is_all_else_same(was, resources);
        if !is_said || last.held.is_some() || last.rules.keeps() {
            return None;
        }
        let (mut routes, mut problems) = (last.routes.clone(), Vec::new());
        let mut replaced = Vec::new();
        for key in routes_changed(was, resources) {
            if last.dangling.contains_key(key) || !last.stands_apart(key, was, resources) {
                return None;
            }
            let new = match is_there(key, resources) {
                true => Some(lower_one(key, resources, settings, catalog, &mut problems)?),
                false => None,
            };
            let old = match (is_there(key, was), &new) {
                (true, Some(new)) => Some(Arc::clone(routes.predecessor(new)?)),
                (true, None) => Some(Arc::clone(routes.only(key)?)),
                (false, Some(new)) if routes.has_room_for(new) => None,
                (false, _) => return None,
            };
            let asks = |of: &Option<Arc<RouteResource>>| of.as_deref().map(part::Distinctions::by).unwrap_or_default();
            if asks(&old) != asks(&new) {
                return None;
            }
            let own = Routes::new(new.iter().cloned().collect(), &mut problems);
            let world = split::World { catalog, rules: &last.rules, settings };
            if !examine::examine(&own, world, &mut problems).is_empty() {
                return None;
            }
            routes.replace(old.as_ref(), own);
            replaced.extend(new.or(old));
        }
        let names: BTreeSet<String> = replaced.iter().map(|r| r.meta.key.to_string()).collect();
        problems.extend(last.problems.iter().filter(|p| !names.contains(&p.resource)).cloned());
        Some(Self {
            rules: Arc::clone(&last.rules),
            routes,
            dangling: last.dangling.clone(),
            held: None,
            distinctions: last.distinctions,
            names: OnceLock::new(),
            problems,
            replaced: Some(replaced),
        })
    }

    /// Whether nothing else depends on which version of a route is there, or on whether it is there. That leaves who shares
    /// its Services.
    fn stands_apart(&self, key: &Key, was: &Resources, is: &Resources) -> bool {
        let (was, is) = (&was.virtual_services, &is.virtual_services);
        let delegates = |one: &VirtualService| one.spec.http.iter().any(|route| route.delegate.is_some());
        let is_apart = match (was.get(key), is.get(key)) {
            (Some(old), Some(new)) => {
                let is_like = (&old.spec.hosts, &old.spec.export_to) == (&new.spec.hosts, &new.spec.export_to);
                is_like && !delegates(old) && !delegates(new)
            }
            // Some root may delegate to it, or look for it.
            (Some(one), None) | (None, Some(one)) => {
                let has_roots = || self.routes.all.iter().any(|r| !r.delegates.is_empty());
                !delegates(one) && self.dangling.is_empty() && !has_roots()
            }
            // Of the Gateway API.
            (None, None) => true,
        };
        // What is said of both kinds of VirtualService is said of one name.
        is_apart && was.get(&key.twin()).is_none() && is.get(&key.twin()).is_none()
    }
}

fn is_there(key: &Key, resources: &Resources) -> bool {
    match key.kind {
        Kind::VirtualService => resources.virtual_services.get(key).is_some(),
        Kind::HTTPRoute => resources.http_routes.get(key).is_some(),
        Kind::GRPCRoute => resources.grpc_routes.get(key).is_some(),
        Kind::TCPRoute => resources.tcp_routes.get(key).is_some(),
        Kind::TLSRoute => resources.tls_routes.get(key).is_some(),
        _ => false,
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
    routes_changed(was, is).is_empty() && is_all_else_same(was, is)
}

/// Whether nothing of which directions are made has changed, Services and routes left out.
fn is_all_else_same(was: &Resources, is: &Resources) -> bool {
    is.service_entries.is_same(&was.service_entries)
        && is.destination_rules.is_same(&was.destination_rules)
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

/// Whether, with the same directions but for `replaced`, every other resource of the user's API stands as before.
pub(super) fn is_standing_the_same(
    before: &Model,
    is: &Resources,
    problems: &[Problem],
    replaced: &[Arc<RouteResource>],
) -> bool {
    let was = &before.resources;
    let names: BTreeSet<String> = replaced.iter().map(|r| r.meta.key.to_string()).collect();
    let is_of_another = |problem: &&Problem| !names.contains(&problem.resource);
    is.authorization_policies.is_same(&was.authorization_policies)
        && is.peer_authentications.is_same(&was.peer_authentications)
        && is.rate_limit_policies.is_same(&was.rate_limit_policies)
        && is.refused == was.refused
        && problems.iter().filter(is_of_another).eq(before.problems.iter().filter(is_of_another))
}
