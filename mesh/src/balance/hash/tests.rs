use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Ring, bound, key};

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("10.0.0.{n}:8080")).collect()
}

fn ring(names: &[String]) -> Ring {
    Ring::new(names.iter().map(String::as_bytes))
}

#[test]
fn nothing_is_picked_from_nothing_and_the_only_one_always() {
    assert_eq!(ring(&[]).pick(7, |_| true), None);
    assert_eq!(ring(&names(1)).pick(key(b"x"), |_| false), Some(0));
}

#[test]
fn keys_spread_over_the_endpoints() {
    let ring = ring(&names(10));
    let mut counts = BTreeMap::new();
    for n in 0..10_000 {
        let picked = ring.pick(key(format!("user-{n}").as_bytes()), |_| true).unwrap();
        *counts.entry(picked).or_insert(0u32) += 1;
    }
    assert_eq!(counts.len(), 10);
    assert!(counts.values().all(|c| (500..1800).contains(c)), "{counts:?}");
}

#[test]
fn a_bound_is_the_mean_and_a_bit_more() {
    assert_eq!(bound(0, 4, 125), 1);
    assert_eq!(bound(99, 4, 125), 32);
    assert_eq!(bound(3, 0, 125), 5);
}

proptest! {
    #[test]
    fn only_keys_of_an_endpoint_that_goes_move(count in 2usize..12, gone in 0usize..12, keys in prop::collection::vec(any::<u64>(), 50)) {
        let all = names(count);
        let gone = gone % count;
        let left: Vec<String> = all.iter().enumerate().filter(|(i, _)| *i != gone).map(|(_, n)| n.clone()).collect();
        let (before, after) = (ring(&all), ring(&left));
        for key in keys {
            let was = &all[before.pick(key, |_| true).unwrap()];
            let is = &left[after.pick(key, |_| true).unwrap()];
            prop_assert!(was == &all[gone] || was == is, "{was} -> {is}");
        }
    }

    #[test]
    fn no_endpoint_gets_more_than_its_bound(count in 1usize..12, percent in 101u32..300, keys in prop::collection::vec(0u64..5, 1..200)) {
        let ring = ring(&names(count));
        let mut load = vec![0u64; count];
        for (sent, k) in keys.iter().enumerate() {
            let most = bound(sent as u64, count, percent);
            let picked = ring.pick(key(&k.to_le_bytes()), |i| load[i] < most).unwrap();
            load[picked] += 1;
            prop_assert!(load[picked] <= most, "there is always one below the bound");
        }
    }

    #[test]
    fn the_order_of_endpoints_does_not_matter(count in 1usize..12, k in any::<u64>()) {
        let all = names(count);
        let mut turned = all.clone();
        turned.reverse();
        prop_assert_eq!(&all[ring(&all).pick(k, |_| true).unwrap()], &turned[ring(&turned).pick(k, |_| true).unwrap()]);
    }
}
