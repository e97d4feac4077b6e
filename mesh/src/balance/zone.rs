//! Which endpoints are near, and how much of the traffic stays there.

use crate::config::backend::{Failover, Zones};

/// Where a proxy or an endpoint is; empty where unknown.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place<'p> {
    /// Topology zone.
    pub zone: &'p str,
    /// Topology region.
    pub region: &'p str,
    /// Zones that should use the endpoint; none: all.
    pub for_zones: &'p [String],
}

/// How many tiers there can be.
pub const TIERS: usize = 4;

/// How near each endpoint is, 0 the nearest; below [`TIERS`].
///
/// Hints are followed where every endpoint has some and one names the own zone: what is hinted for other zones is then
/// one tier further. By preference: own zone, own region, the region that `failover` names for it, anywhere. Where nothing is
/// known all are equally near.
pub fn tiers(own: Place<'_>, zones: Zones, failover: &[Failover], endpoints: &[Place<'_>]) -> Vec<u8> {
    let is_ours = |e: &Place<'_>| e.for_zones.iter().any(|z| z == own.zone);
    match zones {
        Zones::AsHinted if !own.zone.is_empty() => {
            let is_hinted = endpoints.iter().all(|e| !e.for_zones.is_empty()) && endpoints.iter().any(is_ours);
            endpoints.iter().map(|e| u8::from(is_hinted && !is_ours(e))).collect()
        }
        Zones::Prefer if !(own.zone.is_empty() && own.region.is_empty()) => {
            let next = failover.iter().find(|f| f.from == own.region).map_or("", |f| &*f.to);
            endpoints.iter().map(|e| distance(own, next, *e)).collect()
        }
        _ => vec![0; endpoints.len()],
    }
}

/// `next` is the region that takes over for the own one, or empty.
fn distance(own: Place<'_>, next: &str, other: Place<'_>) -> u8 {
    let is_same = |a: &str, b: &str| !a.is_empty() && a == b;
    // Zones of two regions may have one name; a region that is not known stands in nobody's way.
    let is_elsewhere = !own.region.is_empty() && !other.region.is_empty() && own.region != other.region;
    match (is_same(own.zone, other.zone) && !is_elsewhere, is_same(own.region, other.region)) {
        (true, _) => 0,
        (false, true) => 1,
        (false, false) if is_same(next, other.region) => 2,
        (false, false) => 3,
    }
}

/// A tier keeps its traffic until fewer than 1 / 1.4 of its endpoints, about 71 %, are in use.
const MARGIN: f64 = 1.4;

/// Which part of the traffic goes to each tier, given how many of its endpoints are in use and how many there are: as the
/// nearest lose endpoints, what they cannot carry spills over to the next. The parts sum up to 1 where anything is in use.
pub fn parts(tiers: &[(usize, usize)]) -> Vec<f64> {
    let mut left = 1.0;
    let mut parts: Vec<f64> = Vec::with_capacity(tiers.len());
    for (used, all) in tiers {
        let able = if *all == 0 { 0.0 } else { (*used as f64 / *all as f64 * MARGIN).min(1.0) };
        let part = f64::min(able, left);
        left -= part;
        parts.push(part);
    }
    let sum: f64 = parts.iter().sum();
    if sum > 0.0 {
        parts.iter_mut().for_each(|part| *part /= sum);
    }
    parts
}

/// Queue of an endpoint below which its tier is never called overloaded.
const CALM: u32 = 8;

/// Whether a request goes to the next tier although it was meant for a near endpoint: the queue there is long, and that
/// of the other is less than half.
pub fn is_overloaded(near_pending: u32, other_pending: impl FnOnce() -> u32) -> bool {
    near_pending > CALM && u64::from(near_pending) > 2 * u64::from(other_pending())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Failover, Place, Zones, is_overloaded, parts, tiers};

    fn at<'p>(zone: &'p str, region: &'p str, for_zones: &'p [String]) -> Place<'p> {
        Place { zone, region, for_zones }
    }

    #[test]
    fn own_zone_then_own_region_then_anywhere() {
        let own = at("a", "eu", &[]);
        let all = [at("a", "eu", &[]), at("b", "eu", &[]), at("a", "us", &[]), at("", "", &[]), at("a", "", &[])];
        assert_eq!(tiers(own, Zones::Prefer, &[], &all), [0, 1, 3, 3, 0]);
        assert_eq!(tiers(at("", "", &[]), Zones::Prefer, &[], &all), [0; 5]);
        assert_eq!(tiers(own, Zones::Off, &[], &all), [0; 5]);
    }

    #[test]
    fn the_region_that_takes_over_comes_before_all_others() {
        let rule = |from: &str, to: &str| Failover { from: from.to_owned(), to: to.to_owned() };
        let rules = [rule("us", "eu"), rule("eu", "ap")];
        let all = [at("a", "us", &[]), at("b", "ap", &[]), at("b", "eu", &[]), at("a", "ap", &[]), at("", "", &[])];
        assert_eq!(tiers(at("a", "eu", &[]), Zones::Prefer, &rules, &all), [3, 2, 1, 2, 3]);
        assert_eq!(tiers(at("x", "us", &[]), Zones::Prefer, &rules, &all), [1, 3, 2, 3, 3]);
        assert_eq!(tiers(at("x", "sa", &[]), Zones::Prefer, &rules, &all), [3; 5]);
    }

    #[test]
    fn hints_hold_where_every_endpoint_has_them_and_one_is_ours() {
        let (a, b) = (["a".to_owned()], ["b".to_owned()]);
        let own = at("a", "", &[]);
        assert_eq!(tiers(own, Zones::AsHinted, &[], &[at("", "", &a), at("", "", &b)]), [0, 1]);
        assert_eq!(tiers(own, Zones::AsHinted, &[], &[at("", "", &a), at("", "", &[])]), [0, 0]);
        assert_eq!(tiers(own, Zones::AsHinted, &[], &[at("", "", &b), at("", "", &b)]), [0, 0]);
        assert_eq!(tiers(at("", "", &[]), Zones::AsHinted, &[], &[at("", "", &a), at("", "", &b)]), [0, 0]);
    }

    #[test]
    fn what_a_tier_cannot_carry_spills_over() {
        assert_eq!(parts(&[(3, 3), (5, 5)]), [1.0, 0.0]);
        let half = parts(&[(1, 2), (5, 5)]);
        assert!((half[0] - 0.7).abs() < 1e-9 && (half[1] - 0.3).abs() < 1e-9, "{half:?}");
        assert_eq!(parts(&[(0, 2), (5, 5)]), [0.0, 1.0]);
        assert_eq!(parts(&[(0, 2), (0, 5)]), [0.0, 0.0]);
    }

    #[test]
    fn a_long_queue_spills_over_to_a_short_one() {
        assert!(!is_overloaded(8, || 0));
        assert!(is_overloaded(9, || 4));
        assert!(!is_overloaded(9, || 5));
    }

    proptest! {
        #[test]
        fn the_parts_sum_up_to_one(tiers in prop::collection::vec((0usize..10, 0usize..10), 1..4)) {
            let tiers: Vec<_> = tiers.into_iter().map(|(a, b)| (a.min(b), a.max(b))).collect();
            let parts = parts(&tiers);
            let sum: f64 = parts.iter().sum();
            let is_any_used = tiers.iter().any(|(used, _)| *used > 0);
            prop_assert!((sum - if is_any_used { 1.0 } else { 0.0 }).abs() < 1e-9, "{parts:?}");
            for ((used, _), part) in tiers.iter().zip(&parts) {
                prop_assert!(*used > 0 || *part == 0.0, "nothing goes where nobody is");
            }
        }
    }
}
