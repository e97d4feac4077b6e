//! What stays in force of the model before, while a change names something that does not exist (yet): the last good
//! version of a VirtualService, and the last good labels of a subset whose DestinationRule went away.
//!
//! So the order in which a VirtualService, its DestinationRule and their Services are applied loses no request.

use super::Model;
use super::lowered::Reference;
use super::routes::Routes;
use crate::index::{Resources, Shelves};
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

/// Versions of VirtualServices.
pub(super) type Versions = Shelves<VirtualService>;

/// The VirtualServices that dangle, each with its last good version where it has one.
pub(super) type Dangling = BTreeMap<Key, Option<Arc<VirtualService>>>;

/// The last good versions of those that dangle. Of all others the latest version is good.
pub(super) fn dangling(resources: &Resources, keys: BTreeSet<Key>, before: Option<&Model>) -> Dangling {
    let good = |key: &Key| {
        let before = before?;
        match before.directions.dangling.get(key) {
            Some(good) => good.clone(),
            None => before.resources.virtual_services.get(key).cloned(),
        }
    };
    let known = keys.into_iter().filter(|key| resources.virtual_services.get(key).is_some());
    known.map(|key| (key.clone(), good(&key))).collect()
}

/// The VirtualServices in force: the latest version, or the last good one of those that dangle. None where they are the
/// latest throughout.
pub(super) fn in_force(resources: &Resources, dangling: &Dangling, problems: &mut [Problem]) -> Option<Versions> {
    let of = |(key, good): (&'_ Key, &'_ Option<Arc<VirtualService>>)| {
        let latest = resources.virtual_services.get(key).map(|v| &v.spec);
        let good = good.as_ref().filter(|good| Some(&good.spec) != latest)?;
        Some((key.clone(), Arc::clone(good)))
    };
    let held: BTreeMap<Key, Arc<VirtualService>> = dangling.iter().filter_map(of).collect();
    if held.is_empty() {
        return None;
    }
    let names: BTreeSet<String> = held.keys().map(ToString::to_string).collect();
    for problem in problems.iter_mut().filter(|p| DANGLING.contains(&p.code) && names.contains(&p.resource)) {
        problem.advice = format!("{} {HELD}", problem.advice.trim_end_matches(SHARE).trim_end());
    }
    let mut all = resources.virtual_services.clone();
    held.into_iter().for_each(|(key, good)| all.insert(key, good));
    Some(all)
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
