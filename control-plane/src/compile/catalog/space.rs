//! One namespace of the catalog: its pods, and the endpoints of its Services.

use super::claims::Claims;
use super::{Member, Members, differing, is_usable, selects, sorted};
use crate::index::Resources;
use crate::problem::{Problem, Severity};
use crate::source::resource::{EndpointSlice, Pod, Service, ServicePort, SliceEndpoint, TargetPort};
use causeway_mesh::spiffe::SpiffeId;
use causeway_mesh::wire;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

/// See the module. All names are those within the namespace.
#[derive(Debug, Default)]
pub(super) struct Space {
    pub(super) pods: BTreeMap<String, Arc<Pod>>,
    /// Made when it is first needed: where EndpointSlices say everything it is not.
    by_label: OnceLock<ByLabel>,
    pub(super) members: Members<String>,
    /// The headless Service and its port that an address belongs to.
    pub(super) headless: BTreeMap<(IpAddr, u16), (String, u16)>,
    /// Zones of pods as EndpointSlices tell them.
    zones: BTreeMap<String, String>,
    /// What is wrong with its Services.
    pub(super) problems: Vec<Problem>,
}

/// Pods by one of their labels.
type ByLabel = BTreeMap<(String, String), Vec<Arc<Pod>>>;

impl Space {
    pub(super) fn new(namespace: &str, resources: &Resources, claims: &Claims, trust_domain: &str) -> Self {
        let mut space = Self::default();
        let pods = resources.pods.of(namespace).into_iter().flatten();
        space.pods.extend(pods.map(|(key, pod)| (key.name.clone(), Arc::clone(pod))));
        let mut slices: BTreeMap<&str, Vec<&EndpointSlice>> = BTreeMap::new();
        for (_, slice) in resources.endpoint_slices.of(namespace).into_iter().flatten() {
            for endpoint in slice.endpoints.iter().filter(|e| !e.zone.is_empty()) {
                let Some(pod) = &endpoint.pod else { continue };
                space.zones.entry(pod.clone()).or_insert_with(|| endpoint.zone.clone());
            }
            if !slice.service.is_empty() {
                slices.entry(&slice.service).or_default().push(slice);
            }
        }
        for (key, service) in resources.services.of(namespace).into_iter().flatten() {
            let sight = Sight { space: &space, claims, trust_domain };
            let members = |port| match slices.get(&*key.name) {
                Some(slices) => sight.of_slices(service, port, slices),
                None => sight.of_pods(service, port),
            };
            let members: Vec<_> = service.ports.iter().map(|port| (port.port, sorted(members(port)))).collect();
            for (port, members) in members {
                if service.headless {
                    for member in &members {
                        let number = u16::try_from(member.endpoint.port).unwrap_or_default();
                        space.headless.entry((member.address, number)).or_insert_with(|| (key.name.clone(), port));
                    }
                }
                space.members.insert((key.name.clone(), port), members);
            }
            let problems = space.examined(&key.name, service);
            space.problems.extend(problems);
        }
        space
    }

    /// Reports ports whose target no pod has, and protocols that nobody knows.
    fn examined(&self, name: &str, service: &Service) -> Vec<Problem> {
        let mut problems = Vec::new();
        super::super::protocol::examine(service, &mut problems);
        super::super::split::examine(service, &mut problems);
        for port in &service.ports {
            let TargetPort::Name(target) = &port.target else { continue };
            if self.members.get(&(name.to_owned(), port.port)).is_some_and(|members| !members.is_empty()) {
                continue;
            }
            let pods: Vec<_> = self.selected(service).filter(|p| !p.finished).collect();
            if !pods.is_empty() && !pods.iter().any(|p| p.ports.contains_key(target)) {
                let message = format!(
                    "none of the {} pods that it selects has a port named `{}`",
                    pods.len(),
                    target.escape_debug()
                );
                let field = format!("spec.ports[{}].targetPort", port.index);
                let advice = "Name the container's port so, or write its number.";
                problems.push(service.meta.problem(Severity::Error, "unknown_target_port", &field, message, advice));
            }
        }
        problems
    }

    /// Services whose endpoints are not those of `before`.
    pub(super) fn differing<'a>(&'a self, before: Option<&'a Self>) -> impl Iterator<Item = &'a String> {
        static NONE: Members<String> = Members::new();
        differing(&self.members, before.map_or(&NONE, |before| &before.members))
    }

    /// Pods of which something else is known than in `before`, those that are gone included.
    pub(super) fn differing_pods<'a>(&'a self, before: Option<&'a Self>) -> impl Iterator<Item = &'a String> {
        let is_same = move |name: &String, pod: &Arc<Pod>| {
            let last = before.and_then(|before| Some((before, before.pods.get(name)?)));
            last.is_some_and(|(before, last)| Arc::ptr_eq(pod, last) && self.zone(pod) == before.zone(last))
        };
        let gone = before.into_iter().flat_map(|before| before.pods.keys());
        let gone = gone.filter(|name| !self.pods.contains_key(*name));
        self.pods.iter().filter(move |(name, pod)| !is_same(name, pod)).map(|(name, _)| name).chain(gone)
    }

    /// Addresses of pods of which something else is known than in `before`, and of other endpoints of headless Services.
    pub(super) fn differing_addresses(&self, before: Option<&Self>) -> BTreeSet<IpAddr> {
        let mut all = BTreeSet::new();
        for name in self.differing_pods(before) {
            let pods = [self.pods.get(name), before.and_then(|before| before.pods.get(name))];
            all.extend(pods.into_iter().flatten().flat_map(|pod| pod.ips.iter().copied()));
        }
        let none = BTreeMap::new();
        let last = before.map_or(&none, |before| &before.headless);
        let other = |one: &BTreeMap<_, _>, two: &BTreeMap<(IpAddr, u16), (String, u16)>| -> Vec<IpAddr> {
            one.iter().filter(|(at, of)| two.get(*at) != Some(*of)).map(|((ip, _), _)| *ip).collect()
        };
        all.extend(other(&self.headless, last));
        all.extend(other(last, &self.headless));
        all
    }

    /// As [`super::Catalog::zone`] has it.
    pub(super) fn zone<'a>(&'a self, pod: &'a Pod) -> &'a str {
        let told = || self.zones.get(&pod.meta.key.name);
        if pod.zone.is_empty() { told().map_or("", String::as_str) } else { &pod.zone }
    }

    fn endpoint(&self, pod: &Pod, trust_domain: &str, address: IpAddr, port: u16) -> wire::Endpoint {
        endpoint(pod, self.zone(pod), trust_domain, address, port)
    }

    /// Pods that the Service's selector selects: those of its rarest label, so that many Services in one namespace do not
    /// each look at every pod.
    fn selected<'a>(&'a self, service: &'a Service) -> impl Iterator<Item = &'a Arc<Pod>> {
        let by_label = self.by_label.get_or_init(|| by_label(&self.pods));
        let with = |(label, value): (&String, &String)| {
            by_label.get(&(label.clone(), value.clone())).map_or(&[][..], Vec::as_slice)
        };
        let rarest = service.selector.iter().map(with).min_by_key(|pods| pods.len()).unwrap_or_default();
        rarest.iter().filter(|pod| selects(&service.selector, &pod.meta.labels))
    }
}

fn by_label(pods: &BTreeMap<String, Arc<Pod>>) -> ByLabel {
    let mut all = ByLabel::new();
    for pod in pods.values() {
        for (label, value) in &pod.meta.labels {
            all.entry((label.clone(), value.clone())).or_default().push(Arc::clone(pod));
        }
    }
    all
}

/// An endpoint on a pod's address.
pub(super) fn endpoint(pod: &Pod, zone: &str, trust_domain: &str, address: IpAddr, port: u16) -> wire::Endpoint {
    wire::Endpoint {
        address: address.to_string(),
        port: port.into(),
        identity: identity(pod, trust_domain, port),
        workload_name: pod.workload_name.clone(),
        pod: pod.meta.key.name.clone(),
        namespace: pod.meta.key.namespace.clone(),
        zone: zone.to_owned(),
        region: pod.region.clone(),
        ..wire::Endpoint::default()
    }
}

/// SPIFFE ID of the pod's proxy; empty where it has none, and for a port that is reached past it.
fn identity(pod: &Pod, trust_domain: &str, port: u16) -> String {
    if !pod.meshed || pod.host_network || pod.excluded_inbound.contains(&port) {
        return String::new();
    }
    SpiffeId::new(trust_domain, &pod.meta.key.namespace, &pod.account).map_or(String::new(), |id| id.to_string())
}

/// What endpoints are made from.
struct Sight<'a> {
    space: &'a Space,
    claims: &'a Claims,
    trust_domain: &'a str,
}

impl Sight<'_> {
    fn of_slices(&self, service: &Service, port: &ServicePort, slices: &[&EndpointSlice]) -> Vec<Member> {
        let mut found = Vec::new();
        for slice in slices {
            // Slices carry the name of the Service's port. Hand-made ones with a single port often leave it out.
            let is_single = service.ports.len() == 1 && slice.ports.len() == 1;
            let numbers = slice.ports.iter().filter(|(name, _)| *name == port.name || is_single);
            for number in numbers.filter_map(|(_, number)| *number) {
                for endpoint in &slice.endpoints {
                    let addresses = endpoint.addresses.iter().filter(|a| is_usable(**a));
                    found.extend(addresses.map(|address| self.member(service, slice, endpoint, *address, number)));
                }
            }
        }
        settled(found)
    }

    /// The endpoint, and whether it is used while none is ready.
    fn member(
        &self,
        service: &Service,
        slice: &EndpointSlice,
        from: &SliceEndpoint,
        address: IpAddr,
        port: u16,
    ) -> (Member, bool) {
        let namespace = &slice.meta.key.namespace;
        let named = from.pod.as_ref().and_then(|name| self.space.pods.get(name));
        // An address lends an identity only within its own namespace: a slice is written by whoever may write there.
        let by_address =
            || self.claims.only(address).filter(|p| !address.is_loopback() && p.meta.key.namespace == *namespace);
        // On a laptop pods share the loopback address, or have none.
        let is_its = |p: &&Arc<Pod>| address.is_loopback() || p.ips.is_empty() || p.ips.contains(&address);
        let pod = named.filter(is_its).or_else(by_address);
        let mut endpoint = match pod {
            Some(pod) => self.space.endpoint(pod, self.trust_domain, address, port),
            None => wire::Endpoint {
                address: address.to_string(),
                port: port.into(),
                pod: from.pod.clone().unwrap_or_default(),
                namespace: namespace.clone(),
                ..wire::Endpoint::default()
            },
        };
        if !from.zone.is_empty() {
            endpoint.zone.clone_from(&from.zone);
        }
        endpoint.for_zones.clone_from(&from.for_zones);
        let hostname = match (from.hostname.as_str(), pod) {
            ("", Some(pod)) => hostname(pod),
            (hostname, _) => hostname.to_owned(),
        };
        // Of a pod that is gone, while its slice still has it: what it proves is not known, and its address may be another's.
        let is_lost = from.pod.is_some() && pod.is_none();
        let ready = !is_lost && (service.publish_not_ready || from.ready && !from.terminating);
        let serves = !is_lost && (from.serving && from.terminating || pod.is_some_and(|pod| is_unheard(pod)));
        (Member { address, endpoint, pod: pod.map(Arc::clone), hostname, ready }, serves)
    }

    fn of_pods(&self, service: &Service, port: &ServicePort) -> Vec<Member> {
        if service.selector.is_empty() || service.external_name.is_some() {
            return Vec::new();
        }
        let wants_v6 = service.cluster_ips.first().is_some_and(IpAddr::is_ipv6);
        let found = self
            .space
            .selected(service)
            .filter(|pod| !pod.finished)
            .filter_map(|pod| {
                let address = *pod.ips.iter().find(|ip| ip.is_ipv6() == wants_v6).or(pod.ips.first())?;
                let number = match &port.target {
                    TargetPort::Number(number) => *number,
                    TargetPort::Name(name) => *pod.ports.get(name)?,
                };
                let mut endpoint = self.space.endpoint(pod, self.trust_domain, address, number);
                if service.prefers_near && !endpoint.zone.is_empty() {
                    // What the controller of EndpointSlices would hint at.
                    endpoint.for_zones = vec![endpoint.zone.clone()];
                }
                let member = Member {
                    address,
                    endpoint,
                    pod: Some(Arc::clone(pod)),
                    hostname: hostname(pod),
                    ready: pod.ready || service.publish_not_ready,
                };
                Some((member, is_unheard(pod)))
            })
            .filter(|(member, _)| is_usable(member.address));
        settled(found.collect())
    }
}

/// As kube-proxy has it: while no endpoint is ready, those that still serve as they terminate are used; and those that
/// only their node was not heard of, for which kube-proxy has no rule.
fn settled(mut found: Vec<(Member, bool)>) -> Vec<Member> {
    if !found.iter().any(|(member, _)| member.ready) {
        found.iter_mut().for_each(|(member, serves)| member.ready = *serves);
    }
    found.into_iter().map(|(member, _)| member).collect()
}

/// The node controller calls every pod of a node not ready that it does not hear of, while the applications go on.
fn is_unheard(pod: &Pod) -> bool {
    pod.unheard && !pod.finished
}

fn hostname(pod: &Pod) -> String {
    if pod.hostname.is_empty() { pod.meta.key.name.clone() } else { pod.hostname.clone() }
}
