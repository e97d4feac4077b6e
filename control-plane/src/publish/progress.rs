//! On how many of the connected proxies each resource of the user's API is in force. Pure; `status` puts it into words.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

pub mod report;

use super::view::{Concerns, Since};
use crate::compile::Parts;
use crate::source::Key;

/// Names and faults that are told of one resource.
const MAX_TOLD: usize = 5;

/// How far one proxy's stream is.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// `namespace/pod`
    pub workload: String,
    /// Serial of the configuration that its stream has looked at last.
    pub seen: u64,
    /// Serial of the newest configuration of which everything is in force there, but for what is `stuck`.
    pub confirmed: u64,
    /// What concerns it, as of `seen`.
    pub concerns: Arc<Concerns>,
    /// What concerned it as of `confirmed`: until it has the newer one, the older may still act.
    pub before: Arc<Concerns>,
    /// Resources of the wire that it refused.
    pub stuck: Vec<Stuck>,
}

/// A resource of the wire that a proxy refused and that was not put right since.
#[derive(Clone, Debug, Default)]
pub struct Stuck {
    /// Serial of the newest configuration of which the proxy holds this resource; 0 where it has none of it.
    pub good: u64,
    /// Resources of the user's API that take part in what is refused or in what is held.
    pub parts: Vec<Parts>,
    /// Name of the resource of the wire, the field, and what is wrong with it.
    pub fault: (String, String, String),
}

/// How far one resource of the user's API is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// [`crate::compile::Subject::version`] that is spoken of.
    pub version: u64,
    /// Connected proxies that it concerns.
    pub total: u32,
    /// Of these, those that have it in force.
    pub acked: u32,
    /// Whether every stream has looked at it; until then `total` may lack some.
    pub settled: bool,
    /// Some proxies that do not have it in force, `namespace/pod`.
    pub behind: Vec<String>,
    /// Some refusals.
    pub faults: Vec<Refusal>,
}

/// What a proxy refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// `namespace/pod`
    pub workload: String,
    /// Resource of the wire, e.g. `destination/prodsvc.prod:80`.
    pub resource: String,
    /// Field within it.
    pub field: String,
    /// Why.
    pub message: String,
}

/// How far everything is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Every resource of the user's API that was read, also those that concern nobody.
    pub tallies: BTreeMap<Arc<Key>, Tally>,
    /// Connected proxies, `namespace/pod`.
    pub connected: BTreeSet<String>,
}

/// Proxies with the same concerns.
#[derive(Default)]
struct Group<'a> {
    /// By `confirmed`, the least first, once all are there.
    standings: Vec<&'a Standing>,
}

/// Counts. The cost is that of the proxies and of the distinct sets of concerns, not of proxies times resources.
pub fn progress(standings: &[Standing], since: &Since) -> Progress {
    let settled = standings.iter().map(|s| s.seen).min().unwrap_or(u64::MAX);
    let tally =
        |came: &super::view::Came| Tally { version: came.version, settled: came.serial <= settled, ..Tally::default() };
    let mut tallies: BTreeMap<Arc<Key>, Tally> = since.iter().map(|(k, c)| (Arc::clone(k), tally(c))).collect();
    let mut groups: HashMap<(*const Concerns, *const Concerns), Group<'_>> = HashMap::new();
    for standing in standings {
        let place = (Arc::as_ptr(&standing.concerns), Arc::as_ptr(&standing.before));
        groups.entry(place).or_default().standings.push(standing);
    }
    // In an order of their own, so that the same progress is told in the same words.
    let mut groups: Vec<Group<'_>> = groups.into_values().collect();
    for group in &mut groups {
        group.standings.sort_by(|a, b| (a.confirmed, &a.workload).cmp(&(b.confirmed, &b.workload)));
    }
    groups.sort_by(|a, b| a.standings.first().map(|s| &s.workload).cmp(&b.standings.first().map(|s| &s.workload)));
    for group in &groups {
        count(group, since, &mut tallies);
    }
    for standing in standings.iter().filter(|s| !s.stuck.is_empty()) {
        discount(standing, since, &mut tallies);
    }
    for tally in tallies.values_mut() {
        tally.behind.sort();
        tally.behind.truncate(MAX_TOLD);
        tally.faults.sort();
        tally.faults.truncate(MAX_TOLD);
    }
    Progress { tallies, connected: standings.iter().map(|s| s.workload.clone()).collect() }
}

fn count(group: &Group<'_>, since: &Since, tallies: &mut BTreeMap<Arc<Key>, Tally>) {
    let Some(first) = group.standings.first() else { return };
    let now = first.concerns.iter();
    let before = first.before.iter().filter(|k| !first.concerns.contains(*k));
    let size = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    for (key, is_now) in now.map(|k| (k, true)).chain(before.map(|k| (k, false))) {
        let (Some(came), Some(tally)) = (since.get(key), tallies.get_mut(key)) else { continue };
        let behind = group.standings.partition_point(|s| s.confirmed < came.serial);
        // What only concerned them before counts while they may still act by it.
        let total = if is_now { group.standings.len() } else { behind };
        tally.total = tally.total.saturating_add(size(total));
        tally.acked = tally.acked.saturating_add(size(total - behind));
        let room = MAX_TOLD.saturating_sub(tally.behind.len());
        tally.behind.extend(group.standings[..behind].iter().take(room).map(|s| s.workload.clone()));
    }
}

/// A proxy that refused a part of something does not have it in force, however far it is with the rest.
fn discount(standing: &Standing, since: &Since, tallies: &mut BTreeMap<Arc<Key>, Tally>) {
    let mut counted = BTreeSet::new();
    for stuck in &standing.stuck {
        for key in stuck.parts.iter().flat_map(|p| p.iter()) {
            let (Some(came), Some(tally)) = (since.get(key), tallies.get_mut(key)) else { continue };
            if stuck.good >= came.serial {
                continue;
            }
            let (resource, field, message) = stuck.fault.clone();
            if !message.is_empty() {
                let refusal = Refusal { workload: standing.workload.clone(), resource, field, message };
                tally.faults.push(refusal);
            }
            if !counted.insert(key) || standing.confirmed < came.serial {
                continue;
            }
            if standing.concerns.contains(key) {
                tally.acked = tally.acked.saturating_sub(1);
            } else {
                // It concerns the proxy only by what it has kept.
                tally.total = tally.total.saturating_add(1);
            }
            tally.behind.push(standing.workload.clone());
        }
    }
}

#[cfg(test)]
mod tests;
