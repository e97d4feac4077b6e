use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Picked, Split, Traits, Weighted, any_value_matches, cookie};
use crate::text::TextMatch;

const NAMES: [&str; 6] = ["a.ns:80", "a.ns:80/v1", "a.ns:80/v2", "b.ns:80", "c.ns:80", "d.ns:80"];

/// A split of backends 0, 1, ... of which all are ready.
fn split(weights: &[u32]) -> Split {
    let weighted =
        |(i, weight): (usize, &u32)| Weighted { backend: i, name: NAMES[i], weight: *weight, effective: *weight };
    Split::new(&weights.iter().enumerate().map(weighted).collect::<Vec<_>>(), None, "dev/canary")
}

fn backend_of(picked: Option<Picked>) -> Option<usize> {
    picked.map(|p| p.backend)
}

fn counts(split: &Split) -> BTreeMap<usize, u64> {
    let mut counts = BTreeMap::new();
    for point in 0..split.total() {
        *counts.entry(split.pick(point).unwrap().backend).or_insert(0) += 1;
    }
    counts
}

fn keys(count: u32) -> impl Iterator<Item = [u8; 4]> {
    (0..count).map(u32::to_le_bytes)
}

#[test]
fn ninety_to_ten_is_exact_over_all_points() {
    let split = split(&[10, 90]);
    assert_eq!(split.total(), 100);
    assert_eq!(counts(&split), BTreeMap::from([(0, 10), (1, 90)]));
}

#[test]
fn weights_are_ratios_and_need_not_sum_to_100() {
    assert_eq!(counts(&split(&[1, 2])), BTreeMap::from([(0, 1), (1, 2)]));
    assert_eq!(counts(&split(&[0, 7, 0, 1])), BTreeMap::from([(1, 7), (3, 1)]));
}

#[test]
fn the_greatest_weights_do_not_overflow() {
    let split = split(&[u32::MAX, u32::MAX, 1]);
    let max = u64::from(u32::MAX);
    assert_eq!(split.total(), 2 * max + 1);
    for (point, backend) in [(0, 0), (max - 1, 0), (max, 1), (2 * max - 1, 1), (2 * max, 2), (2 * max + 1, 0)] {
        assert_eq!(backend_of(split.pick(point)), Some(backend), "{point}");
    }
    assert!(split.pick(u64::MAX).is_some());
}

#[test]
fn all_zero_picks_nothing_and_says_so() {
    for split in [split(&[0, 0]), split(&[])] {
        assert!(split.is_zero);
        assert_eq!((split.total(), split.pick(0), split.pick(7), split.only()), (0, None, None, None));
        assert_eq!(split.pick_by_key(b"user"), None);
    }
    assert_eq!(split(&[0, 0]).backends(), [0, 1]);
}

#[test]
fn a_split_of_one_needs_no_draw() {
    assert_eq!(backend_of(split(&[0, 5]).only()), Some(1));
    assert_eq!(split(&[1, 5]).only(), None);
}

#[test]
fn a_backend_without_endpoint_gives_its_share_to_the_others() {
    let of = |effective: [u32; 2]| {
        let one = |i: usize, weight| Weighted { backend: i, name: NAMES[i], weight, effective: effective[i] };
        Split::new(&[one(0, 10), one(1, 90)], None, "")
    };
    assert_eq!(backend_of(of([0, 90]).only()), Some(1));
    assert_eq!(counts(&of([0, 0])), BTreeMap::from([(0, 10), (1, 90)]), "nobody is ready: as written");
    assert!(!of([0, 0]).is_zero);
    assert_eq!(counts(&of([20, 90])), BTreeMap::from([(0, 10), (1, 90)]), "never above the weight");
}

#[test]
fn the_share_of_keys_is_that_of_the_weights() {
    let split = split(&[10, 60, 30]);
    let mut counts = [0f64; 3];
    let draws = 100_000;
    for key in keys(draws) {
        counts[split.pick_by_key(&key).unwrap().backend] += 1.0;
    }
    for (count, share) in counts.iter().zip([0.1, 0.6, 0.3]) {
        // Five standard deviations of a binomial draw: the keys are fixed, so this cannot flake.
        let deviation = (f64::from(draws) * share * (1.0 - share)).sqrt();
        assert!((count - f64::from(draws) * share).abs() < 5.0 * deviation, "{count} of {draws}, share {share}");
    }
}

#[test]
fn raising_the_canary_moves_no_user_back() {
    let steps: Vec<Split> = [0, 1, 5, 10, 50, 99, 100].map(|canary| split(&[canary, 100 - canary])).into();
    for key in keys(20_000) {
        let path: Vec<_> = steps.iter().map(|s| s.pick_by_key(&key).unwrap().backend).collect();
        let turn = path.iter().position(|b| *b == 0).unwrap();
        assert!(path[turn..].iter().all(|b| *b == 0), "{path:?}");
    }
}

#[test]
fn only_as_many_keys_move_as_must() {
    let (before, after) = (split(&[5, 95]), split(&[10, 90]));
    let draws = 100_000;
    let moved = keys(draws).filter(|k| before.pick_by_key(k) != after.pick_by_key(k)).count() as f64;
    assert!((moved / f64::from(draws) - 0.05).abs() < 0.005, "{moved}");
}

proptest! {
    #[test]
    fn each_backend_has_exactly_its_weight_of_the_points(weights in prop::collection::vec(0u32..40, 1..6)) {
        let split = split(&weights);
        let counts = counts(&split);
        for (i, weight) in weights.iter().enumerate() {
            prop_assert_eq!(counts.get(&i).copied().unwrap_or(0), u64::from(*weight));
        }
        let shares: BTreeMap<_, _> = split.shares().map(|(i, w)| (i, u64::from(w))).collect();
        prop_assert_eq!(shares, counts);
    }

    #[test]
    fn weight_zero_is_never_picked(weights in prop::collection::vec(prop_oneof![Just(0u32), any::<u32>()], 1..6), point in any::<u64>(), key in any::<[u8; 8]>()) {
        let split = split(&weights);
        for picked in [backend_of(split.pick(point)), backend_of(split.pick_by_key(&key))] {
            match picked {
                Some(backend) => prop_assert!(weights[backend] > 0),
                None => prop_assert!(weights.iter().all(|w| *w == 0)),
            }
        }
    }

    #[test]
    fn a_key_sticks_whatever_the_order_of_the_backends(weights in prop::collection::vec(1u32..100, 2..6), key in any::<[u8; 8]>()) {
        let mut weighted: Vec<_> = weights.iter().enumerate().map(|(i, w)| Weighted { backend: i, name: NAMES[i], weight: *w, effective: *w }).collect();
        let forward = backend_of(Split::new(&weighted, None, "").pick_by_key(&key));
        weighted.reverse();
        prop_assert_eq!(backend_of(Split::new(&weighted, None, "").pick_by_key(&key)), forward);
    }

    #[test]
    fn a_key_sticks_to_the_name_of_a_backend_and_not_to_its_number(weights in prop::collection::vec(1u32..100, 2..6), key in any::<[u8; 8]>()) {
        let named = |number: &dyn Fn(usize) -> usize| {
            let one = |(i, w): (usize, &u32)| Weighted { backend: number(i), name: NAMES[i], weight: *w, effective: *w };
            Split::new(&weights.iter().enumerate().map(one).collect::<Vec<_>>(), None, "").pick_by_key(&key).map(|p| p.backend)
        };
        prop_assert_eq!(named(&|i| i).map(|i| weights.len() - 1 - i), named(&|i| weights.len() - 1 - i));
    }

    #[test]
    fn a_change_of_one_weight_moves_keys_only_to_or_from_it(weights in prop::collection::vec(0u32..100, 2..6), which in any::<prop::sample::Index>(), now in 0u32..100, key in any::<[u8; 8]>()) {
        let changed = which.index(weights.len());
        let mut later = weights.clone();
        later[changed] = now;
        let (was, is) = (backend_of(split(&weights).pick_by_key(&key)), backend_of(split(&later).pick_by_key(&key)));
        if was != is && was.is_some() && is.is_some() {
            let gained = now > weights[changed];
            prop_assert_eq!(if gained { is } else { was }, Some(changed));
        }
    }

    #[test]
    fn scaling_all_weights_moves_nobody(weights in prop::collection::vec(1u32..1000, 2..6), factor in 1u32..1000, key in any::<[u8; 8]>()) {
        let scaled: Vec<u32> = weights.iter().map(|w| w * factor).collect();
        prop_assert_eq!(split(&weights).pick_by_key(&key), split(&scaled).pick_by_key(&key));
    }
}

#[test]
fn a_backend_that_is_listed_twice_has_the_keys_of_both_weights() {
    let one = |weight| Weighted { backend: 0, name: NAMES[0], weight, effective: weight };
    let other = Weighted { backend: 1, name: NAMES[1], weight: 50, effective: 50 };
    let split = Split::new(&[one(20), other, one(30)], None, "");
    let draws = 50_000;
    let first = keys(draws).filter(|key| split.pick_by_key(key).unwrap().backend == 0).count() as f64;
    assert!((first / f64::from(draws) - 0.5).abs() < 0.02, "{first}");
    let places: BTreeMap<usize, u64> = (0..100).fold(BTreeMap::new(), |mut counts, point| {
        *counts.entry(split.pick(point).unwrap().place).or_default() += 1;
        counts
    });
    assert_eq!(places, BTreeMap::from([(0, 20), (1, 50), (2, 30)]), "the place tells them apart");
}

#[test]
fn a_version_names_its_backend_whatever_the_weight() {
    let named = |version: &str| Traits { version: version.into(), ..Traits::default() };
    let split = split(&[0, 100, 0]).with_traits(vec![named("v2"), named("v1"), named("")], Some("x-version"));
    assert_eq!(split.of_version("v2"), Some(Picked { backend: 0, place: 0 }));
    assert_eq!(split.of_version("v1"), Some(Picked { backend: 1, place: 1 }));
    for none in ["", "v3", "V1", "v1 "] {
        assert_eq!(split.of_version(none), None, "{none}");
    }
    assert_eq!((split.version_header(), &*split.traits(1).unwrap().version), (Some("x-version"), "v1"));
}

#[test]
fn a_cookie_is_found_among_others() {
    let found = |values: &[&'static str], name| cookie(values.iter().copied(), name);
    assert_eq!(found(&["a=1; user=x; b=2"], "user"), Some("x"));
    assert_eq!(found(&["a=1", "user=x=y"], "user"), Some("x=y"));
    assert_eq!(found(&["user=x; user=y"], "user"), Some("x"), "the first wins");
    assert_eq!(found(&["user=", "xuser=1"], "user"), Some(""));
    assert_eq!(found(&["xuser=1; User=2; user"], "user"), None);
    assert_eq!(found(&[], "user"), None);
}

#[test]
fn a_header_matches_by_each_value_and_by_all_joined() {
    let is = |pattern: &str, values: &[&'static str]| {
        any_value_matches(&TextMatch::Exact(pattern.into()), values.iter().copied())
    };
    assert!(is("b", &["a", "b"]) && is("a", &["a", "b"]) && is("a,b", &["a", "b"]) && is("a,b,c", &["a", "b", "c"]));
    assert!(!is("a", &["x,a"]) && !is("b,c", &["a", "b", "c"]) && !is("", &[]));
    assert!(is("admin", &[" \tadmin\t "]) && is("a,b", &[" a ", "\tb"]), "blanks around a value are no part of it");
    assert!(!is("admin", &["\u{a0}admin"]), "a no-break space is");
    assert!(any_value_matches(&TextMatch::Present, [""].into_iter()));
    assert!(!any_value_matches(&TextMatch::Present, std::iter::empty()));
}
