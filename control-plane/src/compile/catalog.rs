//! The Services and Pods by every name and address that traffic may use for them, and the endpoints of each Service port.
//!
//! It is put together from one [`Space`] for each namespace, so that a Pod or an EndpointSlice costs what its namespace holds.

mod claims;
mod owners;
mod services;
mod space;

use super::external::{Entries, Listed};
use super::{Name, Settings};
use crate::index::Resources;
use crate::problem::Problem;
use crate::source::Key;
use crate::source::resource::{Pod, Service};
use causeway_mesh::wire;
use claims::Claims;
use owners::Owners;
use services::Services;
use space::Space;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// One possible endpoint of a Service port.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) address: IpAddr,
    pub(super) endpoint: wire::Endpoint,
    /// Labels of its pod; None where no pod is known.
    pub(super) pod: Option<Arc<Pod>>,
    /// Name of the pod within a headless Service.
    pub(super) hostname: String,
    pub(super) ready: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    /// Those of ServiceEntries included.
    pub(super) services: Services,
    owners: Owners,
    claims: Claims,
    /// By namespace.
    spaces: BTreeMap<Arc<str>, Arc<Space>>,
    /// Hosts of the outside, which stand among the Services too.
    pub(super) entries: Arc<Entries>,
    /// Endpoints of these.
    outside: Arc<Members<Name>>,
    trust_domain: String,
}

/// Endpoints by what they belong to and its port.
type Members<T> = BTreeMap<(T, u16), Vec<Member>>;

impl Catalog {
    pub(super) fn new(resources: &Resources, settings: &Settings) -> Self {
        let mut catalog = Self { trust_domain: settings.trust_domain.clone(), ..Self::default() };
        for pod in resources.pods.values() {
            catalog.claims.add(pod);
        }
        catalog.services = Services::new(resources);
        catalog.owners = Owners::new(resources);
        let namespaces = resources.pods.namespaces().chain(resources.endpoint_slices.namespaces());
        let namespaces: BTreeSet<Arc<str>> = namespaces.chain(resources.services.namespaces()).cloned().collect();
        namespaces.into_iter().for_each(|namespace| catalog.look_at(namespace, resources));
        catalog
    }

    /// As [`Catalog::new`], where the settings are those of `before`, which was made from `was`: only namespaces whose
    /// Services, Pods or EndpointSlices changed are looked at. Hosts of ServiceEntries are taken over where these are the
    /// same, without their endpoints.
    pub(super) fn after(before: &Self, was: &Resources, resources: &Resources) -> Self {
        let mut catalog = Self {
            services: before.services.clone(),
            owners: before.owners.clone(),
            claims: before.claims.clone(),
            spaces: before.spaces.clone(),
            entries: Arc::clone(&before.entries),
            outside: Arc::clone(&before.outside),
            trust_domain: before.trust_domain.clone(),
        };
        catalog.change_services(was, resources);
        let touched = resources.pods.touched(&was.pods).into_iter().chain(resources.services.touched(&was.services));
        let mut touched: BTreeSet<Arc<str>> =
            touched.chain(resources.endpoint_slices.touched(&was.endpoint_slices)).cloned().collect();
        let mut others = BTreeSet::new();
        for key in resources.pods.changed(&was.pods) {
            let (last, now) = (was.pods.get(key), resources.pods.get(key));
            last.into_iter().for_each(|pod| catalog.claims.remove(pod, &mut others));
            now.into_iter().for_each(|pod| others.extend(catalog.claims.add(pod)));
        }
        touched.extend(others.iter().map(|namespace| namespace.as_str().into()));
        touched.into_iter().for_each(|namespace| catalog.look_at(namespace, resources));
        catalog
    }

    /// Follows the Services from `was` to `resources`.
    fn change_services(&mut self, was: &Resources, resources: &Resources) {
        let is_by_entries = !resources.service_entries.is_same(&was.service_entries);
        let changed = resources.services.changed(&was.services);
        if is_by_entries {
            // A host may have stood in place of a Service, so all are put in anew.
            (self.entries, self.outside) = Default::default();
            self.services = Services::new(resources);
        }
        let mut addresses = BTreeSet::new();
        for key in changed {
            let (name, last, now) = (name_of(key), was.services.get(key), resources.services.get(key));
            let of = |service: Option<&Arc<Service>>| service.map(|s| s.cluster_ips.clone()).unwrap_or_default();
            let (of_last, of_now) = (of(last), of(now));
            if of_last != of_now {
                addresses.extend(of_last.into_iter().chain(of_now));
            }
            if !is_by_entries && self.entries.get(&name).is_none() {
                match now {
                    Some(service) => self.services.insert(name, Arc::clone(service)),
                    None => self.services.remove(&name),
                }
            }
        }
        self.owners.change(&addresses, resources);
    }

    fn look_at(&mut self, namespace: Arc<str>, resources: &Resources) {
        let space = Space::new(&namespace, resources, &self.claims, &self.trust_domain);
        self.spaces.insert(namespace, Arc::new(space));
    }

    /// Takes over the hosts of ServiceEntries, which may have the addresses of pods.
    pub(super) fn add_entries(&mut self, (entries, listed): (Entries, Vec<Listed>)) {
        let mut outside = Members::new();
        for Listed { name, service, members } in listed {
            for (port, members) in members {
                outside.insert((name.clone(), port), sorted(members));
            }
            let is_known = self.entries.get(&name).is_some();
            if !is_known {
                self.services.insert(name, Arc::new(service));
            }
        }
        (self.entries, self.outside) = (Arc::new(entries), Arc::new(outside));
    }

    /// The headless Service and its port that an address belongs to.
    pub(super) fn headless(&self, ip: IpAddr, port: u16) -> Option<(Name, u16)> {
        self.spaces.iter().find_map(|(namespace, space)| {
            let (service, port) = space.headless.get(&(ip, port))?;
            Some(((namespace.to_string(), service.clone()), *port))
        })
    }

    /// Reports ports whose target no pod has, and protocols that nobody knows.
    pub(super) fn examine(&self, problems: &mut Vec<Problem>) {
        problems.extend(self.spaces.values().flat_map(|space| space.problems.iter().cloned()));
        for service in self.entries.names().filter_map(|name| self.services.get(name)) {
            super::protocol::examine(service, problems);
            super::split::examine(service, problems);
        }
    }

    /// Services and hosts of ServiceEntries whose endpoints are not those of `before`. What is not in both is not looked for.
    pub(super) fn differing(&self, before: &Self) -> BTreeSet<Name> {
        let mut all = BTreeSet::new();
        for (namespace, space, last) in self.other_spaces(before) {
            let services = space.differing(last).map(|service| (namespace.to_owned(), service.clone()));
            all.extend(services);
        }
        if !Arc::ptr_eq(&self.outside, &before.outside) {
            all.extend(differing(&self.outside, &before.outside).cloned());
        }
        all
    }

    /// Pods of which something else is known than in `before`.
    pub(super) fn differing_pods(&self, before: &Self) -> BTreeSet<Name> {
        let mut all = BTreeSet::new();
        for (namespace, space, last) in self.other_spaces(before) {
            all.extend(space.differing_pods(last).map(|pod| (namespace.to_owned(), pod.clone())));
        }
        all
    }

    /// Addresses in namespaces that were looked at since `before` which may be of another pod, or of another headless Service.
    pub(super) fn differing_addresses(&self, before: &Self) -> BTreeSet<IpAddr> {
        self.other_spaces(before).flat_map(|(_, space, last)| space.differing_addresses(last)).collect()
    }

    /// Namespaces that were looked at since `before`, as they are and as they were.
    fn other_spaces<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = (&'a str, &'a Space, Option<&'a Space>)> {
        let with_last = |(namespace, space): (&'a Arc<str>, &'a Arc<Space>)| {
            let last = before.spaces.get(namespace);
            let is_same = last.is_some_and(|last| Arc::ptr_eq(space, last));
            (!is_same).then(|| (&**namespace, &**space, last.map(|last| &**last)))
        };
        self.spaces.iter().filter_map(with_last)
    }

    /// Every endpoint of a Service port, ready or not.
    pub(super) fn members(&self, service: &Name, port: u16) -> &[Member] {
        let outside = if self.outside.is_empty() { None } else { self.outside.get(&(service.clone(), port)) };
        let inside = || self.spaces.get(&*service.0)?.members.get(&(service.1.clone(), port));
        outside.or_else(inside).map_or(&[], Vec::as_slice)
    }

    pub(super) fn cluster_ip(&self, ip: IpAddr) -> Option<&Name> {
        self.owners.of(ip)
    }

    /// A pod by its namespace and name.
    pub(super) fn pod(&self, namespace: &str, name: &str) -> Option<&Arc<Pod>> {
        self.spaces.get(namespace)?.pods.get(name)
    }

    /// Every pod.
    pub(super) fn pods(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.spaces.values().flat_map(|space| space.pods.values())
    }

    /// The one running pod that has this address for itself.
    pub(super) fn pod_at(&self, ip: IpAddr) -> Option<&Arc<Pod>> {
        self.claims.only(ip)
    }

    /// An endpoint on a pod's address.
    pub(super) fn endpoint(&self, pod: &Pod, address: IpAddr, port: u16) -> wire::Endpoint {
        space::endpoint(pod, self.zone(pod), &self.trust_domain, address, port)
    }

    /// Zone of the pod's node, empty where unknown: its own label says it, else an EndpointSlice that holds it.
    pub(super) fn zone<'a>(&'a self, pod: &'a Pod) -> &'a str {
        self.spaces.get(&*pod.meta.key.namespace).map_or(&pod.zone, |space| space.zone(pod))
    }
}

pub(super) fn name_of(key: &Key) -> Name {
    (key.namespace.clone(), key.name.clone())
}

/// What differs in its endpoints.
fn differing<'a, T: Ord>(now: &'a Members<T>, before: &Members<T>) -> impl Iterator<Item = &'a T> {
    let is_same = |a: &Member, b: &Member| {
        let is_same_pod = match (&a.pod, &b.pod) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a.meta.labels == b.meta.labels,
            (a, b) => a.is_none() && b.is_none(),
        };
        (a.address, a.ready, &a.hostname) == (b.address, b.ready, &b.hostname)
            && is_same_pod
            && a.endpoint == b.endpoint
    };
    let differs = move |(at, now): &(&(T, u16), &Vec<Member>)| {
        let then = before.get(*at).map_or(&[][..], Vec::as_slice);
        now.len() != then.len() || now.iter().zip(then).any(|(a, b)| !is_same(a, b))
    };
    now.iter().filter(differs).map(|((of, _), _)| of)
}

/// Addresses that can be no endpoint. Link-local ones are the node's metadata service; loopback is a laptop's.
pub(super) fn is_usable(address: IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !is_link_local && !address.is_unspecified() && !address.is_multicast()
}

/// Whether every label that `selector` asks for is there.
pub(super) fn selects(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(k, v)| labels.get(k) == Some(v))
}

fn sorted(mut members: Vec<Member>) -> Vec<Member> {
    members.sort_by(|a, b| {
        (a.address, a.endpoint.port, &a.endpoint.pod, !a.ready).cmp(&(
            b.address,
            b.endpoint.port,
            &b.endpoint.pod,
            !b.ready,
        ))
    });
    members.dedup_by(|a, b| a.address == b.address && a.endpoint.port == b.endpoint.port);
    members
}
