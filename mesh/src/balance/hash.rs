//! Consistent hash with bounded loads: equal keys go to the same endpoint, unless that has more than its bound.
//!
//! Each endpoint has a fixed number of points on a ring. When endpoints come or go, only keys of theirs move; when one is
//! full, its surplus goes to the next ones on the ring (Mirrokni, Thorup, Zadimoghaddam 2016).

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Points of one endpoint: a difference of about 9 % between endpoints before the bound.
const POINTS: u64 = 128;

/// Where keys fall.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ring {
    /// Point and index of the endpoint, in order.
    points: Vec<(u64, u32)>,
}

/// The place of a key on a ring.
pub fn key(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

impl Ring {
    /// A ring of the endpoints with these names, which are unique; their order does not matter to where a key falls.
    pub fn new<'n>(names: impl Iterator<Item = &'n [u8]>) -> Self {
        let mut points: Vec<(u64, u32)> = Vec::new();
        for (index, name) in names.enumerate() {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            points.extend((0..POINTS).map(|seed| (xxh3_64_with_seed(name, seed), index)));
        }
        points.sort_unstable();
        Self { points }
    }

    /// The first endpoint from `key` on that `is_fit`; where none is, the key's own. None on an empty ring.
    pub fn pick(&self, key: u64, mut is_fit: impl FnMut(usize) -> bool) -> Option<usize> {
        let start = self.points.partition_point(|(point, _)| *point < key);
        let (before, after) = self.points.split_at(start);
        let mut round = after.iter().chain(before).map(|(_, index)| *index as usize);
        let own = round.next()?;
        if is_fit(own) {
            return Some(own);
        }
        let mut last = own;
        let other = round.find(|index| {
            let is_new = *index != last;
            last = *index;
            is_new && is_fit(*index)
        });
        Some(other.unwrap_or(own))
    }
}

/// Most requests that one of `endpoints` may have while `in_flight` are under way on all of them and one more comes.
pub fn bound(in_flight: u64, endpoints: usize, balance_percent: u32) -> u64 {
    let endpoints = u64::try_from(endpoints).unwrap_or(u64::MAX).max(1);
    ((in_flight + 1) * u64::from(balance_percent)).div_ceil(100 * endpoints).max(1)
}

#[cfg(test)]
mod tests;
