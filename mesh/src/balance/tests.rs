use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Load, choose, company, cost, is_quiet, peak_ewma};

fn load(latency_micros: f64, pending: u32) -> Load {
    Load { latency_micros, pending }
}

#[test]
fn cost_is_latency_times_the_queue() {
    assert_eq!(cost(load(250.0, 0)), 250.0);
    assert_eq!(cost(load(250.0, 3)), 1000.0);
    assert!(cost(load(f64::MAX, u32::MAX)) > cost(load(1.0, u32::MAX)));
}

#[test]
fn an_endpoint_never_measured_is_tried_once_and_not_flooded() {
    assert_eq!(cost(load(0.0, 0)), 0.0);
    assert!(cost(load(0.0, 1)) > cost(load(50_000.0, 10)));
}

#[test]
fn a_latency_that_is_no_number_counts_as_never_measured() {
    for latency in [f64::NAN, f64::INFINITY, -1.0] {
        assert_eq!(cost(load(latency, 0)), 0.0);
        assert!(cost(load(latency, 1)).is_finite());
    }
}

#[test]
fn nothing_is_chosen_from_nothing_and_the_only_one_always() {
    assert_eq!(choose(0, 7, 9, |_| 1.0), None);
    assert_eq!(choose(1, u64::MAX, u64::MAX, |_| 1.0), Some(0));
}

#[test]
fn every_pair_is_drawn_equally_often() {
    let len = 5;
    let mut seen = BTreeMap::new();
    for a in 0..5 {
        for b in 0..4 {
            let pair = std::cell::RefCell::new(Vec::new());
            choose(len, a, b, |i| {
                pair.borrow_mut().push(i);
                1.0
            });
            let mut pair = pair.into_inner();
            pair.sort_unstable();
            *seen.entry(pair).or_insert(0) += 1;
        }
    }
    assert_eq!(seen.len(), 10);
    assert!(seen.values().all(|times| *times == 2), "{seen:?}");
}

#[test]
fn equal_endpoints_are_chosen_equally_often() {
    let mut counts = [0; 4];
    for a in 0..4 {
        for b in 0..3 {
            counts[choose(4, a, b, |_| 10.0).unwrap()] += 1;
        }
    }
    assert_eq!(counts, [3; 4]);
}

#[test]
fn a_slow_answer_counts_at_once_and_is_forgotten_by_tau() {
    assert_eq!(peak_ewma(100.0, 900.0, 1.0, 10.0), 900.0);
    assert_eq!(peak_ewma(100.0, 101.0, 1.0, 10.0), 101.0);
    let after_tau = peak_ewma(900.0, 100.0, 10.0, 10.0);
    assert!((after_tau - (100.0 + 800.0 / std::f64::consts::E)).abs() < 1e-9, "{after_tau}");
    assert!(peak_ewma(900.0, 100.0, 1000.0, 10.0) < 100.1);
    assert_eq!(peak_ewma(900.0, 100.0, 0.0, 10.0), 900.0);
}

proptest! {
    #[test]
    fn the_cheaper_of_the_two_drawn_wins(loads in prop::collection::vec((0.0..1e6, 0u32..50), 2..20), a in any::<u64>(), b in any::<u64>()) {
        let seen = std::cell::RefCell::new(Vec::new());
        let won = choose(loads.len(), a, b, |i| {
            seen.borrow_mut().push(i);
            cost(load(loads[i].0, loads[i].1))
        });
        let won = won.unwrap();
        let mut seen = seen.into_inner();
        seen.sort_unstable();
        seen.dedup();
        prop_assert_eq!(seen.len(), 2, "two different ones are drawn");
        prop_assert!(seen.contains(&won));
        let least = seen.iter().map(|i| cost(load(loads[*i].0, loads[*i].1))).fold(f64::INFINITY, f64::min);
        prop_assert_eq!(cost(load(loads[won].0, loads[won].1)), least);
    }

    #[test]
    fn the_average_stays_between_its_two_numbers(previous in 0.0..1e9, sample in 0.0..1e9, elapsed in 0.0..1e9, tau in 0.0..1e9) {
        let now = peak_ewma(previous, sample, elapsed, tau);
        prop_assert!(now >= sample.min(previous) && now <= sample.max(previous), "{now}");
        prop_assert!(now >= sample, "a peak is never hidden");
    }

    #[test]
    fn the_average_is_a_number_whatever_comes_in(p in any::<f64>(), s in any::<f64>(), e in any::<f64>(), t in any::<f64>()) {
        let now = peak_ewma(p, s, e, t);
        prop_assert!(now.is_finite() && now >= 0.0, "{now}");
    }
}

#[test]
fn a_burst_is_no_quiet_and_is_forgotten_after_some_requests_that_came_alone() {
    assert!(is_quiet(0));
    let burst = (0..16).fold(0, company);
    assert!(!is_quiet(burst));
    let alone = |requests| (0..requests).fold(burst, |average, _| company(average, 0));
    assert!(!is_quiet(alone(8)) && is_quiet(alone(64)));
}

#[test]
fn one_in_flight_now_and_then_is_quiet_and_one_always_is_not() {
    let after =
        |pending: &[u32]| pending.iter().cycle().take(1000).fold(0, |average, &pending| company(average, pending));
    assert!(is_quiet(after(&[0, 0, 1])) && is_quiet(after(&[0, 0, 0, 0, 2])));
    assert!(!is_quiet(after(&[0, 1, 1])) && !is_quiet(after(&[1])));
}

proptest! {
    #[test]
    fn an_average_is_never_above_the_most_that_was_found(found in proptest::collection::vec(any::<u32>(), 1..50)) {
        let average = found.iter().fold(0, |average, &pending| company(average, pending));
        let most = found.iter().copied().max().unwrap_or_default();
        prop_assert!(u64::from(average) <= u64::from(most) * 4096 + 31);
    }
}
