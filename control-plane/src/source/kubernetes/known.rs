//! What has been sent of one kind, and so which events a list or a change calls for. Pure: who lists and watches is left
//! to `follow`.

use crate::problem::Problem;
use crate::source::read::Outcome;
use crate::source::{Event, Key, Resource};
use std::collections::BTreeMap;

/// Namespace, then name.
pub type Id = (String, String);

/// One object as it was read.
#[derive(Clone, Debug)]
pub struct Read {
    /// Names it among its kind.
    pub id: Id,
    /// `metadata.uid`
    pub uid: String,
    /// `metadata.generation`
    pub generation: i64,
    /// What reading it yielded.
    pub outcome: Outcome,
}

/// The objects of one kind that exist.
#[derive(Debug, Default)]
pub struct Known {
    entries: BTreeMap<Id, Entry>,
}

#[derive(Debug)]
struct Entry {
    uid: String,
    /// None where it has no name that can be used; then `problems` are told by [`Known::passed`].
    key: Option<Key>,
    /// In force; None where no version could be used yet.
    resource: Option<Resource>,
    /// Whether that is a version as the user wrote it, not a policy that fails closed.
    is_good: bool,
    /// Generation of the latest version, where that cannot be used and an older one, or none, is in force.
    refused: Option<i64>,
    problems: Vec<Problem>,
}

impl Known {
    /// A complete list: what is not in it is gone.
    pub fn listed(&mut self, objects: Vec<Read>) -> Vec<Event> {
        let mut events = Vec::new();
        let mut before = std::mem::take(&mut self.entries);
        for read in objects {
            if let Some(entry) = before.remove(&read.id) {
                self.entries.insert(read.id.clone(), entry);
            }
            events.extend(self.applied(read));
        }
        events.extend(before.into_values().filter_map(|e| e.key).map(Event::Delete));
        events
    }

    /// One object that is new or changed. Nothing, where what is used of it stayed the same.
    pub fn applied(&mut self, read: Read) -> Vec<Event> {
        let before = self.entries.remove(&read.id);
        let same_object = before.as_ref().is_some_and(|b| b.uid == read.uid);
        let now = match read.outcome {
            Outcome::Usable(resource, problems) => Entry {
                uid: read.uid,
                key: Some(resource.meta().key.clone()),
                resource: Some(resource),
                is_good: true,
                refused: None,
                problems,
            },
            Outcome::Refused(key, problems, closed) => {
                // One that was deleted and made anew has no last good version.
                let held = before.as_ref().filter(|_| same_object);
                let of = |is_good| held.filter(|b| b.is_good == is_good).and_then(|b| b.resource.clone());
                let (good, is_good) = (of(true), of(true).is_some());
                let refused = (is_good || closed.is_none()).then_some(read.generation);
                let resource = good.or(closed).or_else(|| of(false));
                Entry { uid: read.uid, key: Some(key), resource, is_good, refused, problems }
            }
            Outcome::Passed(problem) => Entry {
                uid: read.uid,
                key: None,
                resource: None,
                is_good: false,
                refused: None,
                problems: vec![problem],
            },
        };
        let events = change(before.as_ref(), &now);
        self.entries.insert(read.id, now);
        events
    }

    /// One object that was deleted.
    pub fn deleted(&mut self, id: &Id) -> Option<Event> {
        self.entries.remove(id)?.key.map(Event::Delete)
    }

    /// What is in force, looked at again: the events of those that became another.
    pub fn revised(&mut self, revise: impl Fn(&Resource) -> Option<Resource>) -> Vec<Event> {
        let mut events = Vec::new();
        for entry in self.entries.values_mut().filter(|e| e.refused.is_none()) {
            if let Some(resource) = entry.resource.as_ref().and_then(&revise) {
                entry.resource = Some(resource.clone());
                events.push(Event::Upsert { resource, problems: entry.problems.clone() });
            }
        }
        events
    }

    /// The kind itself is gone.
    pub fn cleared(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.entries).into_values().filter_map(|e| e.key).map(Event::Delete).collect()
    }

    /// What is wrong with objects that no event can name.
    pub fn passed(&self) -> impl Iterator<Item = &Problem> {
        self.entries.values().filter(|e| e.key.is_none()).flat_map(|e| &e.problems)
    }
}

fn change(before: Option<&Entry>, now: &Entry) -> Vec<Event> {
    let was = |b: &Entry| b.refused == now.refused && b.problems == now.problems;
    let stays = before.is_some_and(|b| b.key == now.key && b.resource == now.resource);
    let (Some(key), problems) = (&now.key, now.problems.clone()) else {
        return before.and_then(|b| b.key.clone()).map(Event::Delete).into_iter().collect();
    };
    match (&now.resource, now.refused) {
        _ if stays && before.is_some_and(was) => Vec::new(),
        (Some(resource), None) => vec![Event::Upsert { resource: resource.clone(), problems }],
        (_, refused) => {
            let key = key.clone();
            let refused = Event::Refused { key: key.clone(), generation: refused.unwrap_or_default(), problems };
            // What is in force of an object that was deleted meanwhile goes with it.
            let old = before.filter(|b| b.resource.is_some() && now.resource.is_none());
            old.map(|_| Event::Delete(key)).into_iter().chain([refused]).collect()
        }
    }
}

#[cfg(test)]
mod tests;
