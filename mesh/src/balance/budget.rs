//! How much may be in flight: requests, and retries as a share of them.

/// Whether one more fits below a limit; None: no limit.
pub fn fits(used: u32, limit: Option<u32>) -> bool {
    limit.is_none_or(|limit| used < limit)
}

/// Whether one more retry may begin while `in_flight` requests (retries included) and `retrying` retries are under way:
/// `percent` of the requests may be retries, and `min` in any case.
pub fn has_room(in_flight: u32, retrying: u32, percent: u32, min: u32) -> bool {
    let share = u64::from(in_flight) * u64::from(percent) / 100;
    u64::from(retrying) < share.max(u64::from(min))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{fits, has_room};

    #[test]
    fn without_a_limit_everything_fits_and_with_one_no_more_than_it() {
        assert!(fits(u32::MAX, None));
        assert!(fits(1, Some(2)) && !fits(2, Some(2)) && !fits(0, Some(0)));
    }

    #[test]
    fn a_few_retries_are_allowed_in_any_case() {
        assert!(has_room(0, 2, 20, 3) && !has_room(0, 3, 20, 3));
        assert!(has_room(100, 19, 20, 3) && !has_room(100, 20, 20, 3));
        assert!(!has_room(1000, 0, 0, 0));
    }

    proptest! {
        #[test]
        fn retries_never_exceed_their_share(in_flight in 0u32..10_000, percent in 0u32..=100, min in 0u32..20) {
            let mut retrying = 0;
            while has_room(in_flight, retrying, percent, min) {
                retrying += 1;
                prop_assert!(retrying <= min.max(in_flight * percent / 100));
            }
            prop_assert_eq!(retrying, min.max(in_flight * percent / 100));
        }
    }
}
