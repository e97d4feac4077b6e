//! Whose each ClusterIP is. Two Services with one address cannot be in a cluster; in a directory the first by name has it.

use crate::compile::Name;
use crate::index::Resources;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// See the module. In shelves: a copy shares those in which nothing changes.
#[derive(Clone, Debug)]
pub(super) struct Owners(Vec<Arc<BTreeMap<IpAddr, Name>>>);

impl Owners {
    pub(super) fn new(resources: &Resources) -> Self {
        let mut owners = Self(vec![Arc::default(); super::claims::SHELVES]);
        owners.give(resources, |_| true);
        owners
    }

    pub(super) fn of(&self, ip: IpAddr) -> Option<&Name> {
        self.0.get(super::claims::shelf(ip))?.get(&ip)
    }

    /// Gives these addresses to those that have them now.
    pub(super) fn change(&mut self, addresses: &BTreeSet<IpAddr>, resources: &Resources) {
        for ip in addresses {
            Arc::make_mut(&mut self.0[super::claims::shelf(*ip)]).remove(ip);
        }
        if !addresses.is_empty() {
            self.give(resources, |ip| addresses.contains(ip));
        }
    }

    fn give(&mut self, resources: &Resources, is_meant: impl Fn(&IpAddr) -> bool) {
        for (key, service) in resources.services.iter() {
            for ip in service.cluster_ips.iter().filter(|ip| is_meant(ip)) {
                let shelf = Arc::make_mut(&mut self.0[super::claims::shelf(*ip)]);
                shelf.entry(*ip).or_insert_with(|| super::name_of(key));
            }
        }
    }
}

impl Default for Owners {
    fn default() -> Self {
        Self::new(&Resources::default())
    }
}
