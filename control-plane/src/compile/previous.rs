//! What stays in force of the model before, while a change names something that does not exist (yet): the last good
//! version of a VirtualService, and the last good labels of a subset whose DestinationRule went away.
//!
//! So the order in which a VirtualService, its DestinationRule and their Services are applied loses no request.

use super::Model;
use super::lowered::Reference;
use super::routes::Routes;
use crate::index::Resources;
use crate::problem::Problem;
use crate::source::Key;
use crate::source::resource::VirtualService;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Said of a destination that does not exist, where nothing is held.
pub(super) const SHARE: &str = "Until then its share goes to the other destinations.";
const HELD: &str = "Until then the last good version of this resource stays in force.";
/// Codes of what makes a VirtualService dangle.
const DANGLING: [&str; 6] =
    ["unknown_service", "unknown_port", "unknown_subset", "external_destination", "unknown_host", "unknown_delegate"];

/// The last good version of every VirtualService that has one.
pub(super) type Good = BTreeMap<Key, Arc<VirtualService>>;

/// The good versions as they are now, given the keys of those that dangle.
pub(super) fn good(resources: &Resources, dangling: &BTreeSet<Key>, before: Option<&Model>) -> Good {
    let version = |(key, latest): (&Key, &Arc<VirtualService>)| {
        let good = if dangling.contains(key) { before?.directions.good.get(key)? } else { latest };
        Some((key.clone(), Arc::clone(good)))
    };
    resources.virtual_services.iter().filter_map(version).collect()
}

/// The VirtualServices in force: the latest version, or the last good one of those that dangle. None where they are the
/// latest throughout.
pub(super) fn in_force(
    resources: &Resources,
    dangling: &BTreeSet<Key>,
    good: &Good,
    problems: &mut [Problem],
) -> Option<Good> {
    let differs = |key: &&Key| {
        let latest = resources.virtual_services.get(*key).map(|v| &v.spec);
        good.get(*key).is_some_and(|g| Some(&g.spec) != latest)
    };
    let held: BTreeSet<&Key> = dangling.iter().filter(differs).collect();
    if held.is_empty() {
        return None;
    }
    let names: BTreeSet<String> = held.iter().map(ToString::to_string).collect();
    for problem in problems.iter_mut().filter(|p| DANGLING.contains(&p.code) && names.contains(&p.resource)) {
        problem.advice = format!("{} {HELD}", problem.advice.trim_end_matches(SHARE).trim_end());
    }
    let version = |(key, latest): (&Key, &Arc<VirtualService>)| {
        let held = if held.contains(key) { good.get(key) } else { None };
        (key.clone(), Arc::clone(held.unwrap_or(latest)))
    };
    Some(resources.virtual_services.iter().map(version).collect())
}

/// Every subset that a route in force names: `(host, namespace of the resource, subset)`.
pub(super) fn named_subsets(routes: &Routes) -> BTreeSet<(&str, &str, &str)> {
    let mut all = BTreeSet::new();
    for resource in routes.all.iter().filter(|r| !r.attachments.is_empty()) {
        for reference in resource.references() {
            let Reference::Named(destination) = reference else { continue };
            if let Some(subset) = destination.subset.as_deref().filter(|s| !s.is_empty()) {
                all.insert((destination.host.as_str(), resource.meta.key.namespace.as_str(), subset));
            }
        }
    }
    all
}
