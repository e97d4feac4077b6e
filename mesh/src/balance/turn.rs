//! New endpoints get less for a while; and those that take turns.

use crate::config::backend::SlowStart;

/// The share, above 0 and at most 1, of an endpoint that has been there for `age_millis`.
pub fn share(slow_start: Option<&SlowStart>, age_millis: u64) -> f64 {
    let Some(slow_start) = slow_start else { return 1.0 };
    let window = slow_start.window.as_millis() as f64;
    if age_millis as f64 >= window {
        return 1.0;
    }
    let least = (f64::from(slow_start.min_percent) / 100.0).clamp(0.01, 1.0);
    (age_millis as f64 / window).powf(1.0 / slow_start.aggression).clamp(least, 1.0)
}

/// Whether an endpoint with this share takes part in a choice; `draw` is any random number.
pub fn takes_part(share: f64, draw: u64) -> bool {
    share >= 1.0 || unit(draw) < share
}

/// `draw` as a number in `[0, 1)`.
pub fn unit(draw: u64) -> f64 {
    (draw >> 11) as f64 / (1u64 << 53) as f64
}

/// The first of `len` from `start` on, wrapping around, that `is_fit`; where none is, `start` itself. None of none.
pub fn next(len: usize, start: u64, mut is_fit: impl FnMut(usize) -> bool) -> Option<usize> {
    let first = (start % u64::try_from(len).ok().filter(|len| *len > 0)?) as usize;
    let found = (first..len).chain(0..first).find(|i| is_fit(*i));
    Some(found.unwrap_or(first))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{SlowStart, next, share, takes_part, unit};

    fn slow(aggression: f64) -> SlowStart {
        SlowStart { window: Duration::from_secs(10), min_percent: 10, aggression }
    }

    #[test]
    fn without_slow_start_everybody_has_a_whole_share() {
        assert_eq!(share(None, 0), 1.0);
        assert!(takes_part(1.0, u64::MAX));
    }

    #[test]
    fn a_share_grows_from_the_least_to_the_whole() {
        assert_eq!(share(Some(&slow(1.0)), 0), 0.1);
        assert_eq!(share(Some(&slow(1.0)), 5000), 0.5);
        assert_eq!(share(Some(&slow(1.0)), 10_000), 1.0);
        assert!(share(Some(&slow(2.0)), 2500) > share(Some(&slow(1.0)), 2500));
    }

    #[test]
    fn turns_go_round_and_pass_over_what_is_not_fit() {
        assert_eq!(next(0, 5, |_| true), None);
        let turns: Vec<_> = (0..6).map(|n| next(3, n, |_| true).unwrap()).collect();
        assert_eq!(turns, [0, 1, 2, 0, 1, 2]);
        assert_eq!(next(3, 1, |i| i == 0), Some(0));
        assert_eq!(next(3, 1, |_| false), Some(1));
    }

    proptest! {
        #[test]
        fn a_share_never_falls_and_stays_within_bounds(a in 0u64..20_000, b in 0u64..20_000, aggression in 0.1..10.0) {
            let rules = slow(aggression);
            let (young, old) = (share(Some(&rules), a.min(b)), share(Some(&rules), a.max(b)));
            prop_assert!(young <= old && young >= 0.1 && old <= 1.0, "{young} {old}");
        }

        #[test]
        fn a_draw_is_a_number_from_zero_to_one(draw in any::<u64>()) {
            prop_assert!((0.0..1.0).contains(&unit(draw)));
        }
    }
}
