use proptest::prelude::*;

use super::renew_at;

#[test]
fn a_certificate_is_renewed_at_about_seventy_percent_of_its_life() {
    assert_eq!(renew_at(1000, 2000, 0.0), 1650);
    assert_eq!(renew_at(1000, 2000, 0.5), 1700);
    assert!(renew_at(1000, 2000, 0.999_999) <= 1750);
}

#[test]
fn a_certificate_without_life_is_renewed_at_its_end() {
    assert_eq!(renew_at(1000, 1000, 0.5), 1000);
    assert_eq!(renew_at(2000, 1000, 0.5), 1000);
}

#[test]
fn the_longest_life_does_not_overflow() {
    let at = renew_at(i64::MIN, i64::MAX, 1.0);
    assert!(at > 0 && at < i64::MAX);
}

proptest! {
    #[test]
    fn renewal_is_within_the_life(a in any::<i64>(), b in any::<i64>(), unit in any::<f64>()) {
        let (from, to) = (a.min(b), a.max(b));
        let at = renew_at(from, to, unit);
        prop_assert!(at >= from && at <= to);
    }

    #[test]
    fn renewal_is_within_five_percent_of_seventy(from in 0i64..4_000_000_000, life in 1i64..400_000_000, unit in 0.0..1.0) {
        let used = (renew_at(from, from + life, unit) - from) as f64;
        prop_assert!(used <= life as f64 * 0.75 && used >= life as f64 * 0.65 - 1.0, "{used} of {life}");
    }

    #[test]
    fn a_longer_life_or_more_jitter_is_never_renewed_sooner(from in 0i64..4_000_000_000, l in 1i64..400_000_000, m in 1i64..400_000_000, u in 0.0..1.0, v in 0.0..1.0) {
        prop_assert!(renew_at(from, from + l.min(m), u) <= renew_at(from, from + l.max(m), u));
        let (low, high) = if u < v { (u, v) } else { (v, u) };
        prop_assert!(renew_at(from, from + l, low) <= renew_at(from, from + l, high));
    }
}
