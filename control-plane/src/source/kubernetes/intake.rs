//! Takes in what is heard of every kind: what has been sent, what is not read just now, which kinds are to be followed,
//! and when the first reading is complete. Pure; the followers themselves are left to the caller.

use super::batch::Batch;
use super::fault::{self, Fault};
use super::follow::Step;
use super::kinds::{self, BUILTIN, CUSTOM, CustomKind, DEFINITIONS, Installed, NODES, Target};
use super::known::{Known, Read};
use super::places::{Located, Places};
use crate::problem::{Problem, Severity};
use crate::source::read::Outcome;
use crate::source::{Event, Resource};
use std::collections::{BTreeMap, BTreeSet};

/// Which followers to stop and to start, in this order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Orders {
    /// No longer wanted.
    pub stop: Vec<Target>,
    /// Wanted from now on.
    pub start: Vec<Target>,
}

/// What is known of all kinds.
#[derive(Default)]
pub struct Intake {
    /// By kind without its version: another version of a kind has the same objects.
    known: BTreeMap<(&'static str, &'static str), Known>,
    faults: BTreeMap<Target, Fault>,
    /// Kinds that were listed at least once, or given up on where that is allowed.
    settled: BTreeSet<Target>,
    /// Versions served, by the name of the definition; None where there is one that is not served.
    definitions: BTreeMap<String, Option<Vec<String>>>,
    following: BTreeMap<usize, Target>,
    places: Places,
    reported: Vec<Problem>,
    is_synced: bool,
    batch: Batch,
}

impl Intake {
    /// A step of one kind's follower.
    pub fn heard(&mut self, target: Target, step: Step<Read>) {
        let known = self.known.entry((target.group, target.plural)).or_default();
        let places = &self.places;
        let events = match step {
            Step::Listed(objects) => {
                self.faults.remove(&target);
                self.settled.insert(target);
                known.listed(objects.into_iter().map(|object| placed(object, places)).collect())
            }
            Step::Applied(object) => known.applied(placed(object, places)),
            Step::Deleted(id) => known.deleted(&id).into_iter().collect(),
            Step::Down(fault) => {
                self.faults.insert(target, fault);
                // To serve without these routes is better than to serve nobody.
                if following(&self.following, target).is_some_and(|c| !c.is_own() && !c.is_policy()) {
                    self.settled.insert(target);
                }
                Vec::new()
            }
            Step::Up => {
                self.faults.remove(&target);
                Vec::new()
            }
        };
        events.into_iter().for_each(|e| self.batch.push(e));
    }

    /// A step of the follower of the nodes.
    pub fn nodes(&mut self, step: Step<Located>) {
        let moved: BTreeSet<String> = match step {
            Step::Listed(all) => {
                self.faults.remove(&NODES);
                self.settled.insert(NODES);
                self.places.listed(all)
            }
            Step::Applied(node) => self.places.applied(node).into_iter().collect(),
            Step::Deleted((_, name)) => self.places.deleted(&name).into_iter().collect(),
            Step::Down(fault) => {
                self.faults.insert(NODES, fault);
                // To serve without zones is better than to serve nobody.
                self.settled.insert(NODES);
                BTreeSet::new()
            }
            Step::Up => {
                self.faults.remove(&NODES);
                BTreeSet::new()
            }
        };
        let Some(pods) = self.known.get_mut(&("", "pods")).filter(|_| !moved.is_empty()) else { return };
        let places = &self.places;
        let events = pods.revised(|resource| match resource {
            Resource::Pod(pod) if moved.contains(&pod.node) => places.put(pod),
            _ => None,
        });
        events.into_iter().for_each(|e| self.batch.push(e));
    }

    /// A step of the follower of the CustomResourceDefinitions.
    pub fn definitions(&mut self, step: Step<Installed>) -> Orders {
        match step {
            Step::Listed(all) => {
                self.faults.remove(&DEFINITIONS);
                self.settled.insert(DEFINITIONS);
                self.definitions = all.into_iter().map(|i| (i.name, i.served)).collect();
            }
            Step::Applied(Installed { name, served }) => drop(self.definitions.insert(name, served)),
            Step::Deleted((_, name)) => drop(self.definitions.remove(&name)),
            Step::Down(fault) => drop(self.faults.insert(DEFINITIONS, fault)),
            Step::Up => drop(self.faults.remove(&DEFINITIONS)),
        }
        self.follow(kinds::wanted(&self.definitions))
    }

    fn follow(&mut self, wanted: BTreeMap<usize, Target>) -> Orders {
        let before = std::mem::replace(&mut self.following, wanted);
        let differs = |from: &BTreeMap<usize, Target>, to: &BTreeMap<usize, Target>| -> Vec<Target> {
            from.iter().filter(|(at, target)| to.get(at) != Some(target)).map(|(_, target)| *target).collect()
        };
        let orders = Orders { stop: differs(&before, &self.following), start: differs(&self.following, &before) };
        for target in &orders.stop {
            self.faults.remove(target);
            self.settled.remove(target);
        }
        // Only a definition that is gone takes its resources. Those of one that is not served now, or in another version,
        // are judged by the next list.
        for kind in CUSTOM.iter().filter(|kind| !self.definitions.contains_key(&kind.definition())) {
            let known = self.known.remove(&(kind.group, kind.plural));
            known.into_iter().flat_map(|mut k| k.cleared()).for_each(|e| self.batch.push(e));
        }
        orders
    }

    /// What has changed since the last call.
    pub fn events(&mut self) -> Vec<Event> {
        let mut problems = fault::problems(&self.faults);
        problems.extend(self.missing());
        problems.extend(self.known.values().flat_map(Known::passed).cloned());
        if problems != self.reported {
            self.reported.clone_from(&problems);
            self.batch.push(Event::Report(problems));
        }
        if !self.is_synced && self.is_complete() {
            self.is_synced = true;
            self.batch.push(Event::Synced);
        }
        self.batch.take()
    }

    /// Whether everything that must be known was listed.
    fn is_complete(&self) -> bool {
        let builtin = BUILTIN.iter().map(|(_, target)| target);
        let mut needed = builtin.chain([&NODES, &DEFINITIONS]).chain(self.following.values());
        needed.all(|target| self.settled.contains(target))
    }

    /// Kinds that ought to be there and are not, or in no version that is read.
    fn missing(&self) -> Vec<Problem> {
        if !self.settled.contains(&DEFINITIONS) {
            return Vec::new();
        }
        let absent = CUSTOM.iter().enumerate().filter(|(at, _)| !self.following.contains_key(at));
        absent
            .filter_map(|(_, kind)| absence(kind, self.definitions.get(&kind.definition()).and_then(Option::as_ref)))
            .collect()
    }
}

/// The object, a pod with the place of its node.
fn placed(mut read: Read, places: &Places) -> Read {
    if let Outcome::Usable(resource @ Resource::Pod(_), _) = &mut read.outcome
        && let Resource::Pod(pod) = &*resource
        && let Some(placed) = places.put(pod)
    {
        *resource = placed;
    }
    read
}

/// The kind that is followed as `target`, where it is a custom one.
fn following(all: &BTreeMap<usize, Target>, target: Target) -> Option<&'static CustomKind> {
    all.iter().find(|(_, t)| **t == target).map(|(at, _)| &CUSTOM[*at])
}

fn absence(kind: &CustomKind, served: Option<&Vec<String>>) -> Option<Problem> {
    let (name, best) = (kind.definition(), kind.versions[0]);
    let (severity, code, message, advice) = match served {
        None if !kind.is_own() => return None,
        None => {
            let message = format!("the CustomResourceDefinition {name} is not installed, so nobody can write one");
            let advice = "Apply crds/manifests, or run `causeway install --apply`.".to_owned();
            (Severity::Error, "crd_missing", message, advice)
        }
        Some(versions) => {
            let message = format!("the API server serves {name} in {} only, which is not read", versions.join(", "));
            let advice = format!("Install the CustomResourceDefinition that has {best}.");
            let code = if kind.is_own() { "crd_missing" } else { "unknown_version" };
            (Severity::Error, code, message, advice)
        }
    };
    let (file, field) = (String::new(), String::new());
    Some(Problem { file, line: 0, severity, code, resource: name, field, message, advice })
}

#[cfg(test)]
mod tests;
