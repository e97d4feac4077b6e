use std::time::Duration;

use proptest::prelude::*;

use super::delay;

const MS: Duration = Duration::from_millis(1);

fn any_duration() -> impl Strategy<Value = Duration> {
    prop_oneof![
        Just(Duration::ZERO),
        Just(Duration::MAX),
        (0u64..10_000).prop_map(Duration::from_millis),
        (any::<u64>(), 0u32..1_000_000_000).prop_map(|(s, n)| Duration::new(s, n)),
    ]
}

#[test]
fn the_wait_doubles_until_the_maximum() {
    let waits: Vec<_> = (0..6).map(|attempt| delay(attempt, 100 * MS, 1000 * MS, 0.0)).collect();
    assert_eq!(waits, [50 * MS, 100 * MS, 200 * MS, 400 * MS, 500 * MS, 500 * MS]);
}

#[test]
fn the_upper_half_is_jitter() {
    assert_eq!(delay(1, 100 * MS, 1000 * MS, 0.5), 150 * MS);
    assert!(delay(1, 100 * MS, 1000 * MS, 0.999) < 200 * MS);
}

#[test]
fn a_jitter_that_is_no_number_counts_as_none() {
    assert_eq!(delay(0, 100 * MS, 1000 * MS, f64::NAN), 50 * MS);
    assert_eq!(delay(0, 100 * MS, 1000 * MS, -3.0), 50 * MS);
    assert_eq!(delay(0, 100 * MS, 1000 * MS, f64::INFINITY), 100 * MS);
}

#[test]
fn the_greatest_attempt_of_the_smallest_base_is_the_maximum() {
    let hour = Duration::from_secs(3600);
    assert_eq!(delay(u32::MAX, Duration::from_nanos(1), hour, 0.0), hour / 2);
    assert_eq!(delay(u32::MAX, Duration::ZERO, hour, 0.5), Duration::ZERO);
}

proptest! {
    #[test]
    fn the_wait_keeps_to_its_bounds(attempt in any::<u32>(), base in any_duration(), max in any_duration(), unit in 0.0..1.0) {
        let wait = delay(attempt, base, max, unit);
        prop_assert!(wait >= base.min(max) / 2, "{wait:?}");
        prop_assert!(wait <= max, "{wait:?}");
    }

    #[test]
    fn a_later_attempt_never_waits_less(a in 0u32..200, b in 0u32..200, base in any_duration(), max in any_duration(), unit in 0.0..1.0) {
        prop_assert!(delay(a.min(b), base, max, unit) <= delay(a.max(b), base, max, unit));
    }

    #[test]
    fn more_jitter_never_waits_less(attempt in 0u32..80, base in any_duration(), max in any_duration(), u in 0.0..1.0, v in 0.0..1.0) {
        let (low, high) = if u < v { (u, v) } else { (v, u) };
        prop_assert!(delay(attempt, base, max, low) <= delay(attempt, base, max, high));
    }
}
