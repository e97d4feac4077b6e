//! Puts together what the replicas know of each resource's way to the proxies. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::compile::Client;
use crate::publish::Progress;
use crate::publish::progress::{Refusal, Tally};
use crate::publish::view::Concerns;
use crate::source::Key;

/// Another replica, by what it said last.
#[derive(Clone, Debug)]
pub struct Other {
    /// Its name, or its address while it has not said its name.
    pub name: String,
    /// None: it does not answer.
    pub progress: Option<Arc<Progress>>,
}

/// How far one resource is on all proxies of the mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Proxies that it concerns.
    pub total: u32,
    /// Of these, those that have it in force.
    pub acked: u32,
    /// Whether every stream of every replica has looked at it.
    pub settled: bool,
    /// Some connected proxies that do not have it in force.
    pub behind: Vec<String>,
    /// Proxies of running pods that are connected to no replica.
    pub missing: Vec<String>,
    /// Some refusals.
    pub refusals: Vec<Refusal>,
    /// Replicas that do not answer.
    pub silent: Vec<String>,
    /// Replicas that have another version of it.
    pub lagging: Vec<String>,
}

/// Proxies that are connected nowhere, by the resources that concern them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing(BTreeMap<Arc<Key>, Vec<String>>);

impl Missing {
    /// Of the pods that run, those whose proxy is connected to nobody; `concerns` says what each is about.
    pub fn new(
        running: impl Iterator<Item = Client>,
        connected: &[&BTreeSet<String>],
        concerns: impl Fn(&Client) -> Arc<Concerns>,
    ) -> Self {
        let mut missing: BTreeMap<Arc<Key>, Vec<String>> = BTreeMap::new();
        for client in running {
            let name = format!("{}/{}", client.namespace, client.pod);
            if connected.iter().any(|c| c.contains(&name)) {
                continue;
            }
            for key in concerns(&client).iter() {
                missing.entry(Arc::clone(key)).or_default().push(name.clone());
            }
        }
        Self(missing)
    }
}

/// How far `key` is, of which this replica has `version` in force.
pub fn sum(key: &Key, version: u64, own: &Progress, others: &[Other], missing: &Missing) -> Sum {
    let mut sum = Sum { settled: true, ..Sum::default() };
    match own.tallies.get(key) {
        Some(tally) => add(&mut sum, tally, tally.version == version),
        // The progress is older than the configuration: a moment later it is not.
        None => sum.settled = false,
    }
    for other in others {
        let Some(progress) = &other.progress else {
            sum.silent.push(other.name.clone());
            continue;
        };
        match progress.tallies.get(key) {
            Some(tally) if tally.version == version => add(&mut sum, tally, true),
            Some(tally) => {
                add(&mut sum, tally, false);
                sum.lagging.push(other.name.clone());
            }
            None => sum.lagging.push(other.name.clone()),
        }
    }
    if let Some(missing) = missing.0.get(key) {
        sum.total = sum.total.saturating_add(u32::try_from(missing.len()).unwrap_or(u32::MAX));
        sum.missing.clone_from(missing);
    }
    sum
}

/// Adds one replica's figures; of another version nothing counts as in force.
fn add(sum: &mut Sum, tally: &Tally, is_same: bool) {
    sum.total = sum.total.saturating_add(tally.total);
    if !is_same {
        sum.settled = false;
        return;
    }
    sum.acked = sum.acked.saturating_add(tally.acked);
    sum.settled &= tally.settled;
    sum.behind.extend(tally.behind.iter().cloned());
    sum.refusals.extend(tally.faults.iter().cloned());
}
