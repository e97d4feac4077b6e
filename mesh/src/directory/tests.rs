use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Directory, Versioned, apply, diff, digest, version};

/// Few names and few bodies, so that two directories often share both.
fn directories() -> impl Strategy<Value = Directory<String>> {
    prop::collection::btree_map("[a-f]", "[xyz]{0,2}", 0..6).prop_map(|map| {
        let versioned = |body: String| Versioned { version: version(body.as_bytes()), body };
        Directory(map.into_iter().map(|(name, body)| (name, versioned(body))).collect())
    })
}

fn pairs(of: &Directory<String>) -> Vec<(&str, u64)> {
    of.0.iter().map(|(name, v)| (name.as_str(), v.version)).collect()
}

proptest! {
    #[test]
    fn applying_the_difference_yields_the_new_directory(a in directories(), b in directories()) {
        let delta = diff(&a, &b);
        let mut onto = a;
        apply(delta, &mut onto);
        prop_assert_eq!(onto, b);
    }

    #[test]
    fn the_difference_holds_nothing_that_did_not_change(a in directories(), b in directories()) {
        let delta = diff(&a, &b);
        prop_assert!(delta.upserts.iter().all(|(n, v)| a.0.get(n) != Some(v)));
        prop_assert!(delta.removed.iter().all(|n| a.0.contains_key(n) && !b.0.contains_key(n)));
        prop_assert_eq!(delta.is_empty(), a == b);
        prop_assert!(diff(&a, &a).is_empty());
    }

    #[test]
    fn the_digest_tells_directories_apart_and_not_orders(a in directories(), b in directories()) {
        let forward = digest(pairs(&a).into_iter());
        prop_assert_eq!(forward, digest(pairs(&a).into_iter().rev()));
        prop_assert_eq!(forward == digest(pairs(&b).into_iter()), a == b);
    }

    #[test]
    fn equal_versions_are_equal_contents(a in prop::collection::vec(any::<u8>(), 0..40), b in prop::collection::vec(any::<u8>(), 0..40)) {
        prop_assert_eq!(version(&a) == version(&b), a == b);
        prop_assert_ne!(version(&a), 0);
    }
}

#[test]
fn the_digest_tells_which_name_has_which_version() {
    assert_ne!(digest([("a", 1), ("b", 2)].into_iter()), digest([("a", 2), ("b", 1)].into_iter()));
    assert_ne!(digest([("a", 1)].into_iter()), digest([("a", 1), ("a", 1)].into_iter()));
    assert_eq!(digest(std::iter::empty()), 0);
}

#[test]
fn the_digest_and_the_version_are_those_of_every_release() {
    // Both sides of the wire compute them, in different versions of the program: they may never change.
    assert_eq!(version(b"causeway"), 1_346_641_993_282_643_175);
    assert_eq!(digest([("workload", 7), ("trust", 9)].into_iter()), 14_305_101_551_163_449_223);
}

#[test]
fn bodies_are_not_compared() {
    let one = |body| Directory(BTreeMap::from([("a".to_owned(), Versioned { version: 1, body })]));
    assert!(diff(&one("x"), &one("y")).is_empty());
}
