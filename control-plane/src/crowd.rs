//! Counts the connections of each address, so that nobody alone keeps the others out.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// The connections of each address, at most so many of one.
#[derive(Clone)]
pub struct Crowd {
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
    most_of_one: usize,
}

/// One of the connections that an address may have; given back when dropped.
pub struct Place {
    crowd: Crowd,
    address: IpAddr,
}

impl Crowd {
    /// Nobody is there yet.
    pub fn new(most_of_one: usize) -> Self {
        Self { counts: Arc::default(), most_of_one }
    }

    /// A place for one more connection of `address`; None where it has as many as it may.
    pub fn take(&self, address: IpAddr) -> Option<Place> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= self.most_of_one {
            return None;
        }
        *count += 1;
        Some(Place { crowd: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.crowd.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = counts.entry(self.address) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_gets_no_more_than_its_share_and_what_it_gives_back_is_there_again() {
        let crowd = Crowd::new(2);
        let [one, other] = [[192, 0, 2, 1], [192, 0, 2, 2]].map(IpAddr::from);
        let first = crowd.take(one);
        let _second = crowd.take(one);
        assert!(first.is_some() && crowd.take(one).is_none(), "two are the share");
        assert!(crowd.take(other).is_some(), "another address has its own");
        drop(first);
        assert!(crowd.take(one).is_some(), "what was given back");
    }
}
