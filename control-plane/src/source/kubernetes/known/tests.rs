#![allow(clippy::unwrap_used)]

use super::*;
use crate::index::Resources;
use crate::problem::Severity;
use crate::source::resource::{Kind, Meta, Named, Origin};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use std::sync::Arc;

/// One state of an object: which incarnation, which content, and how reading it ends.
#[derive(Clone, Debug, PartialEq)]
struct State {
    uid: u8,
    content: u8,
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Usable,
    Noted,
    Refused,
    Closed,
    Passed,
}

fn key(name: &str) -> Key {
    Key { kind: Kind::ServiceAccount, namespace: "n".into(), name: name.into(), group: String::new() }
}

fn resource(name: &str, uid: u8, content: &str) -> Resource {
    let meta = Meta {
        key: key(name),
        labels: [("content".to_owned(), content.to_owned())].into(),
        created: 0,
        generation: 0,
        uid: uid.to_string(),
        origin: Arc::new(Origin::default()),
        unsupported: Vec::new(),
    };
    Resource::ServiceAccount(Arc::new(Named { meta }))
}

fn read(name: &str, state: &State) -> Read {
    let content = state.content.to_string();
    let good = resource(name, state.uid, &content);
    let problem = good.meta().problem(Severity::Error, "x", "", &content, "");
    let outcome = match state.end {
        End::Usable => Outcome::Usable(good, Vec::new()),
        End::Noted => Outcome::Usable(good, vec![problem]),
        End::Refused => Outcome::Refused(key(name), vec![problem], None),
        End::Closed => Outcome::Refused(key(name), vec![problem], Some(resource(name, state.uid, "closed"))),
        End::Passed => Outcome::Passed(problem),
    };
    Read { id: ("n".into(), name.into()), uid: state.uid.to_string(), generation: state.content.into(), outcome }
}

fn states() -> impl Strategy<Value = State> {
    let end = prop_oneof![
        4 => Just(End::Usable), 1 => Just(End::Noted), 2 => Just(End::Refused), 1 => Just(End::Closed),
        1 => Just(End::Passed)
    ];
    (0..2u8, 0..3u8, end).prop_map(|(uid, content, end)| State { uid, content, end })
}

fn worlds() -> impl Strategy<Value = BTreeMap<String, State>> {
    btree_map("[a-d]", states(), 0..4)
}

fn apply(resources: &mut Resources, events: Vec<Event>) {
    events.into_iter().for_each(|e| resources.apply(e));
}

/// What must be in force, followed object by object without the code under test.
fn in_force(worlds: &[BTreeMap<String, State>]) -> (BTreeMap<String, String>, Vec<String>) {
    let mut held: BTreeMap<String, (u8, String)> = BTreeMap::new();
    let mut noted = Vec::new();
    for world in worlds {
        let before = std::mem::take(&mut held);
        noted.clear();
        for (name, state) in world {
            let last = before.get(name).filter(|(uid, _)| *uid == state.uid).map(|(_, content)| content.clone());
            let content = match state.end {
                End::Usable | End::Noted => Some(state.content.to_string()),
                End::Refused => last,
                End::Closed => last.or(Some("closed".into())),
                End::Passed => None,
            };
            if !matches!(state.end, End::Usable | End::Passed) {
                noted.push(name.clone());
            }
            if let Some(content) = content {
                held.insert(name.clone(), (state.uid, content));
            }
        }
    }
    (held.into_iter().map(|(name, (_, content))| (name, content)).collect(), noted)
}

fn shown(resources: &Resources) -> (BTreeMap<String, String>, Vec<String>) {
    let held = resources.service_accounts.values().map(|r| (r.meta.key.name.clone(), r.meta.labels["content"].clone()));
    (held.collect(), resources.found.keys().map(|k| k.name.clone()).collect())
}

proptest! {
    #[test]
    fn whatever_lists_come_the_index_holds_what_the_last_one_says(worlds in vec(worlds(), 1..5)) {
        let (mut known, mut resources) = (Known::default(), Resources::default());
        for world in &worlds {
            apply(&mut resources, known.listed(world.iter().map(|(name, state)| read(name, state)).collect()));
        }
        prop_assert_eq!(shown(&resources), in_force(&worlds));
    }

    #[test]
    fn changes_one_by_one_lead_where_a_list_leads(worlds in vec(worlds(), 1..5)) {
        let (mut known, mut resources) = (Known::default(), Resources::default());
        let mut last: BTreeMap<String, State> = BTreeMap::new();
        for world in &worlds {
            for name in last.keys().filter(|n| !world.contains_key(*n)) {
                apply(&mut resources, known.deleted(&("n".into(), name.clone())).into_iter().collect());
            }
            for (name, state) in world {
                apply(&mut resources, known.applied(read(name, state)));
            }
            last.clone_from(world);
        }
        prop_assert_eq!(shown(&resources), in_force(&worlds));
        prop_assert_eq!(known.passed().count(), last.values().filter(|s| s.end == End::Passed).count());
        apply(&mut resources, known.cleared());
        prop_assert!(resources.is_empty() && resources.found.is_empty());
    }

    #[test]
    fn the_same_list_again_says_nothing(world in worlds()) {
        let list = || world.iter().map(|(name, state)| read(name, state)).collect();
        let mut known = Known::default();
        known.listed(list());
        prop_assert!(known.listed(list()).is_empty());
        for (name, state) in &world {
            prop_assert!(known.applied(read(name, state)).is_empty());
        }
    }
}
