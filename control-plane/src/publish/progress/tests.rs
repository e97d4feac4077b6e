#![allow(clippy::unwrap_used)]

use super::*;
use crate::publish::view::Came;
use crate::source::Kind;
use proptest::prelude::*;

fn key(number: usize) -> Arc<Key> {
    let name = format!("v{number}");
    Arc::new(Key { kind: Kind::VirtualService, namespace: "dev".into(), name, group: "causeway.dev".into() })
}

fn concerns(numbers: &[usize]) -> Arc<Concerns> {
    Arc::new(numbers.iter().map(|n| key(*n)).collect())
}

fn standing(name: &str, seen: u64, confirmed: u64, now: &Arc<Concerns>, before: &Arc<Concerns>) -> Standing {
    let (concerns, before) = (Arc::clone(now), Arc::clone(before));
    Standing { workload: format!("dev/{name}"), seen, confirmed, concerns, before, stuck: Vec::new() }
}

fn since(serials: &[u64]) -> Since {
    serials.iter().enumerate().map(|(n, s)| (key(n), Came { version: *s, serial: *s })).collect()
}

#[test]
fn proxies_that_are_behind_are_named_and_what_concerns_nobody_is_listed() {
    let one = concerns(&[0]);
    let standings = [standing("a", 3, 3, &one, &one), standing("b", 3, 1, &one, &one)];
    let found = progress(&standings, &since(&[2, 2]));
    let tally = &found.tallies[&key(0)];
    assert_eq!(
        (tally.acked, tally.total, tally.settled, tally.behind.as_slice()),
        (1, 2, true, &["dev/b".to_owned()][..])
    );
    assert_eq!((found.tallies[&key(1)].acked, found.tallies[&key(1)].total), (0, 0));
    assert_eq!(found.connected.len(), 2);
}

#[test]
fn a_stream_that_has_not_looked_leaves_the_count_open() {
    let none = concerns(&[]);
    let found = progress(&[standing("a", 1, 1, &none, &none)], &since(&[1, 2]));
    assert!(found.tallies[&key(0)].settled);
    assert!(!found.tallies[&key(1)].settled, "it may concern that proxy");
}

/// Counted one by one, as the definition has it.
fn by_hand(standings: &[Standing], since: &Since) -> BTreeMap<Arc<Key>, (u32, u32)> {
    let mut all = BTreeMap::new();
    for (key, came) in since {
        let (mut acked, mut total) = (0, 0);
        for one in standings {
            let has = one.confirmed >= came.serial;
            let is_stuck = one.stuck.iter().any(|s| s.good < came.serial && s.parts.iter().any(|p| p.contains(key)));
            if one.concerns.contains(key) || !has && one.before.contains(key) || has && is_stuck {
                total += 1;
                acked += u32::from(has && !is_stuck);
            }
        }
        all.insert(Arc::clone(key), (acked, total));
    }
    all
}

proptest! {
    #[test]
    fn the_count_is_that_of_the_definition(
        sets in prop::collection::vec(prop::collection::vec(0usize..5, 0..4), 1..4),
        proxies in prop::collection::vec((0usize..4, 0usize..4, 0u64..6, 0u64..6, prop::option::of((0usize..5, 0u64..6))), 0..12),
        serials in prop::collection::vec(1u64..6, 5),
    ) {
        let sets: Vec<_> = sets.iter().map(|s| concerns(s)).collect();
        let standings: Vec<_> = proxies.iter().enumerate().map(|(i, (now, before, seen, confirmed, stuck))| {
            let (now, before) = (&sets[now % sets.len()], &sets[before % sets.len()]);
            let mut one = standing(&i.to_string(), *seen, *confirmed, now, before);
            one.stuck.extend(stuck.map(|(part, good)| Stuck { good, parts: vec![[key(part)].into()], ..Stuck::default() }));
            one
        }).collect();
        let since = since(&serials);
        let found = progress(&standings, &since);
        for (key, (acked, total)) in by_hand(&standings, &since) {
            let tally = &found.tallies[&key];
            prop_assert_eq!((tally.acked, tally.total), (acked, total), "{}", key);
        }
    }
}

/// 10,000 proxies of 500 Deployments, 2,000 resources, 50 of them for each proxy.
#[test]
fn ten_thousand_proxies_are_counted_in_a_moment() {
    let all: Vec<_> = (0..2_000).map(key).collect();
    let sets: Vec<Arc<Concerns>> =
        (0..500).map(|d| Arc::new((0..50).map(|i| Arc::clone(&all[(d * 4 + i) % 2_000])).collect())).collect();
    let since: Since = all.iter().map(|k| (Arc::clone(k), Came { version: 1, serial: 7 })).collect();
    let standings: Vec<_> = (0..10_000)
        .map(|i| standing(&format!("web-{i}"), 9, if i % 3 == 0 { 6 } else { 8 }, &sets[i % 500], &sets[i % 500]))
        .collect();
    let began = crate::clock::now();
    let found = progress(&standings, &since);
    let took = began.elapsed();
    assert!(found.tallies.values().map(|t| u64::from(t.total)).sum::<u64>() == 500_000);
    // Debug builds on a busy machine: a bound on the order of growth, not a benchmark.
    assert!(took.as_secs() < 5, "{took:?}");
}
