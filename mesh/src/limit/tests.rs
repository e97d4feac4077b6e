use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;

fn rate(requests: u32, seconds: u64, burst: u32) -> Rate {
    Rate::new(requests, Duration::from_secs(seconds), burst).unwrap()
}

#[test]
fn a_new_bucket_takes_its_burst_at_once_and_then_one_for_each_interval() {
    let rate = rate(10, 1, 3);
    let mut full_at = 0;
    for left in [2, 1, 0] {
        let taken = rate.take(full_at, 5 * SECOND).unwrap();
        assert_eq!(taken.remaining, left);
        full_at = taken.full_at;
    }
    assert_eq!(rate.take(full_at, 5 * SECOND), Err(Duration::from_millis(100)));
    assert_eq!(rate.take(full_at, 5 * SECOND + 60_000_000), Err(Duration::from_millis(40)));
    assert_eq!(rate.take(full_at, 5 * SECOND + 100_000_000).unwrap().remaining, 0);
}

#[test]
fn what_is_no_rate_is_none() {
    assert_eq!(Rate::new(0, Duration::from_secs(1), 1), None);
    assert_eq!(Rate::new(1, Duration::ZERO, 1), None);
    assert_eq!(Rate::new(1, Duration::from_secs(1), 0), None);
    assert_eq!(Rate::new(2, Duration::from_nanos(1), 1), None);
    assert_eq!(Rate::new(1, Duration::from_secs(u64::MAX), 1), None);
}

/// The bucket as a person would write it: tokens that come with time.
struct Model {
    tokens: f64,
    at: u64,
}

proptest! {
    #[test]
    fn never_more_than_the_burst_and_what_came_meanwhile_is_let_in(
        requests in 1u32..1000, seconds in 1u64..100, burst in 1u32..100,
        steps in prop::collection::vec(0u64..2 * SECOND, 1..300),
    ) {
        let rate = rate(requests, seconds, burst);
        let (mut now, mut full_at) = (7 * SECOND, 0);
        let mut let_in = Vec::new();
        for step in steps {
            now += step;
            if let Ok(taken) = rate.take(full_at, now) {
                full_at = taken.full_at;
                let_in.push(now);
            }
        }
        // In every stretch between two that were let in.
        let interval = seconds * SECOND / u64::from(requests);
        for (first, from) in let_in.iter().enumerate() {
            for (last, to) in let_in.iter().enumerate().skip(first) {
                let came = u128::from((to - from) / interval);
                prop_assert!((last - first + 1) as u128 <= u128::from(burst) + came);
            }
        }
    }

    #[test]
    fn it_agrees_with_counting_tokens(
        requests in 1u32..50, burst in 1u32..20, steps in prop::collection::vec(0u64..3 * SECOND, 1..100),
    ) {
        let rate = rate(requests, 10, burst);
        let (mut now, mut full_at) = (SECOND, 0);
        let mut model = Model { tokens: f64::from(burst), at: now };
        for step in steps {
            now += step;
            let came = (now - model.at) as f64 / rate.interval as f64;
            model = Model { tokens: (model.tokens + came).min(f64::from(burst)), at: now };
            // Where floating point cannot say, the bucket may.
            let is_close = (model.tokens - 1.0).abs() < 1e-6;
            match rate.take(full_at, now) {
                Ok(taken) => {
                    prop_assert!(model.tokens >= 1.0 || is_close);
                    full_at = taken.full_at;
                    model.tokens -= 1.0;
                    prop_assert!((f64::from(taken.remaining) - model.tokens.floor()).abs() <= 1.0);
                }
                Err(wait) => {
                    prop_assert!(model.tokens < 1.0 || is_close);
                    let wait = u64::try_from(wait.as_nanos()).unwrap();
                    prop_assert!(wait > 0 && rate.take(full_at, now + wait).is_ok());
                    prop_assert!(wait == 1 || rate.take(full_at, now + wait - 1).is_err());
                }
            }
        }
    }

    #[test]
    fn who_keeps_to_the_rate_is_never_refused(requests in 1u32..1000, burst in 1u32..5, late in prop::collection::vec(0u64..SECOND, 1..100)) {
        let rate = rate(requests, 1, burst);
        let (mut now, mut full_at) = (0, 0);
        for late in late {
            now += SECOND.div_ceil(u64::from(requests)) + late;
            full_at = rate.take(full_at, now).unwrap().full_at;
        }
    }

    #[test]
    fn no_time_makes_it_panic_and_a_spent_bucket_is_a_new_one(full_at: u64, now: u64) {
        let rate = rate(7, 3, 5);
        let _ = rate.take(full_at, now);
        if Rate::is_spent(full_at, now) {
            prop_assert_eq!(rate.take(full_at, now), rate.take(0, now));
        }
    }
}
