//! Which running pods say that an address is theirs.

use super::is_usable;
use crate::source::resource::Pod;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// Shelves: a copy shares those in which nothing changes.
pub(super) const SHELVES: usize = 256;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Claims(Vec<Arc<BTreeMap<IpAddr, Vec<Arc<Pod>>>>>);

impl Claims {
    /// Notes the addresses of `pod`; returns the namespaces of others that claim one of them.
    pub(super) fn add(&mut self, pod: &Arc<Pod>) -> BTreeSet<String> {
        let mut others = BTreeSet::new();
        for ip in addresses(pod) {
            let claimants = Arc::make_mut(&mut self.0[shelf(ip)]).entry(ip).or_default();
            others.extend(claimants.iter().map(|p| p.meta.key.namespace.clone()));
            claimants.push(Arc::clone(pod));
        }
        others
    }

    /// Takes the addresses of `pod` away; adds the namespaces of others that claim one of them to `others`.
    pub(super) fn remove(&mut self, pod: &Arc<Pod>, others: &mut BTreeSet<String>) {
        for ip in addresses(pod) {
            let all = Arc::make_mut(&mut self.0[shelf(ip)]);
            let Some(claimants) = all.get_mut(&ip) else { continue };
            claimants.retain(|p| !Arc::ptr_eq(p, pod));
            others.extend(claimants.iter().map(|p| p.meta.key.namespace.clone()));
            if claimants.is_empty() {
                all.remove(&ip);
            }
        }
    }

    /// The pod that alone claims this address. Where several do, it names none of them.
    pub(super) fn only(&self, ip: IpAddr) -> Option<&Arc<Pod>> {
        match self.0[shelf(ip)].get(&ip).map(Vec::as_slice) {
            Some([pod]) => Some(pod),
            _ => None,
        }
    }
}

impl Default for Claims {
    fn default() -> Self {
        Self(vec![Arc::default(); SHELVES])
    }
}

fn addresses(pod: &Pod) -> impl Iterator<Item = IpAddr> {
    let is_running = !pod.finished && !pod.host_network;
    pod.ips.iter().copied().filter(move |ip| is_running && is_usable(*ip))
}

pub(super) fn shelf(ip: IpAddr) -> usize {
    let last = match ip {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(ip) => ip.octets()[15],
    };
    usize::from(last) % SHELVES
}
