//! Events that belong to one burst, of which only what they come to is told. Pure; when a burst ends is left to the
//! caller.

use crate::problem::Problem;
use crate::source::{Event, Key};
use std::collections::BTreeMap;

/// The sum of some events: applying it is applying them in order.
#[derive(Debug, Default)]
pub struct Batch {
    changes: BTreeMap<Key, Sum>,
    reported: Option<Vec<Problem>>,
    is_synced: bool,
}

/// What the events of one key come to: at most one that settles what is in force, then at most one that refuses.
#[derive(Debug, Default)]
struct Sum {
    settled: Option<Event>,
    refused: Option<Event>,
}

impl Batch {
    /// Adds one event.
    pub fn push(&mut self, event: Event) {
        match event {
            Event::Upsert { resource, problems } => {
                self.settle(resource.meta().key.clone(), Event::Upsert { resource, problems });
            }
            Event::Delete(key) => self.settle(key.clone(), Event::Delete(key)),
            Event::Refused { key, generation, problems } => {
                let sum = self.changes.entry(key.clone()).or_default();
                sum.refused = Some(Event::Refused { key, generation, problems });
            }
            Event::Report(problems) => self.reported = Some(problems),
            Event::Synced => self.is_synced = true,
        }
    }

    fn settle(&mut self, key: Key, event: Event) {
        self.changes.insert(key, Sum { settled: Some(event), refused: None });
    }

    /// The events, at most two of a key, and empties the batch.
    pub fn take(&mut self) -> Vec<Event> {
        let Self { changes, reported, is_synced } = std::mem::take(self);
        let mut events: Vec<Event> =
            changes.into_values().flat_map(|s| s.settled.into_iter().chain(s.refused)).collect();
        events.extend(reported.map(Event::Report));
        events.extend(is_synced.then_some(Event::Synced));
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Index;
    use crate::problem::Severity;
    use crate::source::resource::{Kind, Meta, Named, Origin, Resource};
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn resource(name: &str, content: u8) -> Resource {
        let meta = Meta {
            key: Key { kind: Kind::Namespace, namespace: String::new(), name: name.into(), group: String::new() },
            labels: [("content".to_owned(), content.to_string())].into(),
            created: 0,
            generation: 0,
            uid: String::new(),
            origin: Arc::new(Origin::default()),
            unsupported: Vec::new(),
        };
        Resource::Namespace(Arc::new(Named { meta }))
    }

    fn event() -> impl Strategy<Value = Event> {
        ("[a-c]", 0..5u8, 0..3u8, 0..2usize).prop_map(|(name, what, content, problems)| {
            let resource = resource(&name, content);
            let problem = resource.meta().problem(Severity::Error, "x", "", content.to_string(), "");
            let key = resource.meta().key.clone();
            match what {
                0 => Event::Upsert { resource, problems: vec![problem; problems] },
                1 => Event::Refused { key, generation: content.into(), problems: vec![problem] },
                2 => Event::Delete(key),
                3 => Event::Report(vec![problem; problems]),
                _ => Event::Synced,
            }
        })
    }

    fn shown(index: &Index) -> String {
        format!("{:?} {}", index.snapshot(), index.is_synced())
    }

    proptest! {
        #[test]
        fn a_batch_comes_to_what_its_events_come_to(before in vec(event(), 0..6), burst in vec(event(), 0..12)) {
            let mut one_by_one = Index::new();
            one_by_one.apply(before.clone());
            one_by_one.apply(burst.clone());
            let mut batched = Index::new();
            batched.apply(before);
            let mut batch = Batch::default();
            burst.into_iter().for_each(|e| batch.push(e));
            let events = batch.take();
            prop_assert!(events.len() <= 3 * 2 + 2);
            batched.apply(events);
            prop_assert_eq!(shown(&one_by_one), shown(&batched));
            prop_assert!(batch.take().is_empty());
        }
    }
}
