//! Directions after a change that is known to reach no further than the resources that share a Service with what changed:
//! these alone are lowered and examined, all else is taken over. So a weight, a rule's labels and a route that comes or goes
//! cost what they are about, not what the cluster has.

use super::{Directions, is_outside_same, lower_one, routes_changed};
use crate::compile::catalog::Catalog;
use crate::compile::lowered::RouteResource;
use crate::compile::part::{self, Distinctions};
use crate::compile::routes::Routes;
use crate::compile::rules::{self, Rules};
use crate::compile::scope::full;
use crate::compile::{Model, Name, Settings, examine, split};
use crate::index::Resources;
use crate::problem::Problem;
use crate::source::Key;
use crate::source::resource::{DestinationRule, VirtualService};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

/// Routes that share Services, through others that share theirs, are one whole up to here.
const MOST_TOGETHER: usize = 32;

/// What differs from the directions before.
#[derive(Debug, Default)]
pub(in crate::compile) struct Replaced {
    /// The resources that were looked at anew, as they stand but for their problems; None: it is gone.
    pub(in crate::compile) subjects: BTreeMap<Key, Option<part::Subject>>,
    /// Services to which another version, or none, applies.
    pub(in crate::compile) services: BTreeSet<Name>,
    /// Namespaces of the routes that changed.
    pub(in crate::compile) namespaces: BTreeSet<String>,
}

/// The directions of `before` with what changed put in place. The result is that of [`Directions::new`]; None where that
/// cannot be known from what changed and from what shares a Service with it.
pub(super) fn replaced(
    before: &Model,
    resources: &Resources,
    settings: &Settings,
    catalog: &Catalog,
) -> Option<Directions> {
    let (last, was) = (&*before.directions, &*before.resources);
    let is_said =
        before.settings == *settings && resources.services.is_same(&was.services) && is_outside_same(was, resources);
    if !is_said || last.held.is_some() || last.rules.keeps() {
        return None;
    }
    let (rules, routes) = (Arc::clone(&last.rules), last.routes.clone());
    let (problems, replaced) = (Vec::new(), Replaced::default());
    let mut change = Change { before, last, is: resources, settings, catalog, rules, routes, problems, replaced };
    let lost = change.put_rules()?;
    change.put_routes()?;
    if change.routes.names_subset(&lost) {
        // It is kept as it was.
        return None;
    }
    let Change { rules, routes, mut problems, replaced, .. } = change;
    let names: BTreeSet<String> = replaced.subjects.keys().map(ToString::to_string).collect();
    problems.extend(last.problems.iter().filter(|p| !names.contains(&p.resource)).cloned());
    Some(Directions {
        rules,
        routes,
        dangling: last.dangling.clone(),
        held: None,
        distinctions: last.distinctions,
        names: OnceLock::new(),
        problems,
        replaced: Some(replaced),
    })
}

struct Change<'a> {
    before: &'a Model,
    last: &'a Directions,
    is: &'a Resources,
    settings: &'a Settings,
    catalog: &'a Catalog,
    rules: Arc<Rules>,
    routes: Routes,
    /// Of what is looked at anew.
    problems: Vec<Problem>,
    replaced: Replaced,
}

impl Change<'_> {
    /// Puts in the rules that changed. Returns the names of subsets that went with their earlier versions.
    fn put_rules(&mut self) -> Option<BTreeSet<String>> {
        let (was, is) = (&self.before.resources.destination_rules, &self.is.destination_rules);
        let changed = is.changed(was);
        let mut lost = BTreeSet::new();
        if changed.is_empty() {
            return Some(lost);
        }
        let (mut rules, mut about) = (Rules::clone(&self.rules), Vec::new());
        for key in changed {
            let (old, new) = (was.get(key), is.get(key));
            if was.get(&key.twin()).is_some() || is.get(&key.twin()).is_some() {
                return None;
            }
            let names = |rule: &Arc<DestinationRule>| rules::about(rule, self.catalog, self.settings);
            let services: BTreeSet<Name> = old.into_iter().chain(new).flat_map(names).collect();
            let own = Rules::of(new, self.catalog, self.settings, &mut self.problems);
            let hosts = own.services().map(|service| full(service, self.settings)).collect();
            self.note(key, hosts);
            rules.replace(key, &services, own);
            if !old.zip(new).is_some_and(|(old, new)| rules::is_alike(old, new)) {
                let is_plain = |rule: &Arc<DestinationRule>| {
                    rule.spec.workload_selector.is_none() && rule.meta.unsupported.is_empty()
                };
                if !old.into_iter().chain(new).all(is_plain) || !rules.is_alone(key, &services) {
                    return None;
                }
                let (old, new) = (subsets(old), subsets(new));
                // Somebody may wait for one that comes.
                if !new.is_subset(&old) && self.last.problems.iter().any(|p| p.code == "unknown_subset") {
                    return None;
                }
                lost.extend(old.difference(&new).map(|(_, name)| name.to_string()));
            }
            self.replaced.services.extend(services.iter().cloned());
            about.push((key, services));
        }
        for (key, services) in about {
            self.problems.extend(rules.conflicts_of(key, &services));
        }
        self.rules = Arc::new(rules);
        Some(lost)
    }

    /// Puts in the routes that changed, and makes those anew that share a Service with them.
    fn put_routes(&mut self) -> Option<()> {
        let changed = routes_changed(&self.before.resources, self.is);
        let (mut new, mut open) = (Vec::new(), Vec::new());
        for key in &changed {
            let [old, now] = [self.stood(key)?, self.stands(key)?];
            let asks = |of: &Option<Arc<RouteResource>>| of.as_deref().map(Distinctions::by).unwrap_or_default();
            if asks(&old) != asks(&now) {
                return None;
            }
            for route in old.iter().chain(&now) {
                self.replaced.services.extend(route.services().cloned());
                self.replaced.namespaces.insert(route.meta.key.namespace.clone());
                open.extend(route.services().cloned());
            }
            new.extend(now);
        }
        let mut together: BTreeSet<Key> = changed.into_iter().cloned().collect();
        let mut services: BTreeSet<Name> = BTreeSet::new();
        while let Some(service) = open.pop() {
            for key in self.routes.of(&service).map(|at| at.meta().key.clone()).collect::<Vec<_>>() {
                if together.contains(&key) {
                    continue;
                }
                if together.len() == MOST_TOGETHER {
                    return None;
                }
                open.extend(self.stood(&key)??.services().cloned());
                new.push(self.stands(&key)??);
                together.insert(key);
            }
            services.insert(service);
        }
        new.sort_by(|one, other| one.meta.key.cmp(&other.meta.key));
        let own = Routes::new(new, &mut self.problems);
        let world = split::World { catalog: self.catalog, rules: &self.rules, settings: self.settings };
        if !examine::examine(&own, world, &mut self.problems).is_empty() {
            return None;
        }
        for key in &together {
            let hosts = own.all.iter().filter(|r| r.meta.key == *key).flat_map(|r| r.services());
            self.note(key, hosts.map(|service| full(service, self.settings)).collect());
        }
        self.routes.replace(&together, &services, own);
        Some(())
    }

    /// The route that stood there; None where it cannot be told apart from others.
    fn stood(&self, key: &Key) -> Option<Option<Arc<RouteResource>>> {
        let was = self.before.subjects.get(key).is_some_and(|subject| subject.in_force.is_some());
        if !was {
            return Some(None);
        }
        let is_apart = !self.last.dangling.contains_key(key) && self.stands_apart(key);
        let only = self.last.routes.only(key).filter(|_| is_apart)?;
        Some(Some(Arc::clone(only)))
    }

    /// The route that stands there now, likewise.
    fn stands(&mut self, key: &Key) -> Option<Option<Arc<RouteResource>>> {
        if part::subject(self.is, key).is_none() {
            return Some(None);
        }
        if !self.stands_apart(key) {
            return None;
        }
        lower_one(key, self.is, self.settings, self.catalog, &mut self.problems).map(Some)
    }

    /// Whether nothing else depends on which version of a route is there, or on whether it is there. That leaves who shares
    /// its Services.
    fn stands_apart(&self, key: &Key) -> bool {
        let (was, is) = (&self.before.resources.virtual_services, &self.is.virtual_services);
        let delegates = |one: &VirtualService| one.spec.http.iter().any(|route| route.delegate.is_some());
        let is_apart = match (was.get(key), is.get(key)) {
            (Some(old), Some(new)) => {
                let is_like = (&old.spec.hosts, &old.spec.export_to) == (&new.spec.hosts, &new.spec.export_to);
                is_like && !delegates(old) && !delegates(new)
            }
            // Some root may delegate to it, or look for it.
            (Some(one), None) | (None, Some(one)) => {
                let has_roots = || self.last.routes.all.iter().any(|r| !r.delegates.is_empty());
                !delegates(one) && self.last.dangling.is_empty() && !has_roots()
            }
            // Of the Gateway API.
            (None, None) => true,
        };
        // What is said of both kinds of VirtualService is said of one name.
        is_apart && was.get(&key.twin()).is_none() && is.get(&key.twin()).is_none()
    }

    /// Says that a resource is looked at anew, and what it is about now.
    fn note(&mut self, key: &Key, hosts: Vec<String>) {
        let subject = part::subject(self.is, key).map(|subject| part::Subject { hosts, ..subject });
        self.replaced.subjects.insert(key.clone(), subject);
    }
}

/// Subsets by name, each with what decides who may name it.
fn subsets(rule: Option<&Arc<DestinationRule>>) -> BTreeSet<((&str, &[String]), &str)> {
    let Some(spec) = rule.map(|rule| &rule.spec) else { return BTreeSet::new() };
    spec.subsets.iter().map(|subset| ((&*spec.host, &*spec.export_to), &*subset.name)).collect()
}
