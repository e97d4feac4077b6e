//! The Services and Pods by every name and address that traffic may use for them, and the endpoints of each Service port.

use super::external::{Entries, Listed};
use super::{Name, Settings};
use crate::index::Resources;
use crate::problem::{Problem, Severity};
use crate::source::resource::{EndpointSlice, Pod, Service, ServicePort, SliceEndpoint, TargetPort};
use causeway_mesh::spiffe::SpiffeId;
use causeway_mesh::wire;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

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

#[derive(Debug, Default)]
pub(super) struct Catalog {
    pub(super) services: BTreeMap<Name, Arc<Service>>,
    pub(super) pods: BTreeMap<Name, Arc<Pod>>,
    by_cluster_ip: BTreeMap<IpAddr, Name>,
    /// Made when it is first needed: where EndpointSlices say everything it is not.
    by_label: OnceLock<ByLabel>,
    /// None: several pods claim the address, so it names none of them.
    by_pod_ip: BTreeMap<IpAddr, Option<Arc<Pod>>>,
    members: BTreeMap<(Name, u16), Vec<Member>>,
    /// The headless Service and its port that an address belongs to.
    headless: BTreeMap<(IpAddr, u16), (Name, u16)>,
    /// Zones of pods as EndpointSlices tell them.
    zones: BTreeMap<Name, String>,
    /// Hosts of the outside, which stand among the Services too.
    pub(super) entries: Entries,
    trust_domain: String,
}

impl Catalog {
    pub(super) fn new(resources: &Resources, settings: &Settings) -> Self {
        let mut catalog = Self { trust_domain: settings.trust_domain.clone(), ..Self::default() };
        for (key, pod) in &resources.pods {
            catalog.pods.insert((key.namespace.clone(), key.name.clone()), Arc::clone(pod));
            if pod.finished || pod.host_network {
                continue;
            }
            for ip in pod.ips.iter().filter(|ip| is_usable(**ip)) {
                catalog.by_pod_ip.entry(*ip).and_modify(|p| *p = None).or_insert_with(|| Some(Arc::clone(pod)));
            }
        }
        for slice in resources.endpoint_slices.values() {
            for endpoint in slice.endpoints.iter().filter(|e| !e.zone.is_empty()) {
                let Some(pod) = &endpoint.pod else { continue };
                let pod = (slice.meta.key.namespace.clone(), pod.clone());
                catalog.zones.entry(pod).or_insert_with(|| endpoint.zone.clone());
            }
        }
        let mut slices: BTreeMap<Name, Vec<&EndpointSlice>> = BTreeMap::new();
        for slice in resources.endpoint_slices.values().filter(|s| !s.service.is_empty()) {
            slices.entry((slice.meta.key.namespace.clone(), slice.service.clone())).or_default().push(slice);
        }
        for (key, service) in &resources.services {
            let name = (key.namespace.clone(), key.name.clone());
            for ip in &service.cluster_ips {
                // Two Services with one address cannot be in a cluster; in a directory the first by name has it.
                catalog.by_cluster_ip.entry(*ip).or_insert_with(|| name.clone());
            }
            for port in &service.ports {
                let members = match slices.get(&name) {
                    Some(slices) => catalog.of_slices(service, port, slices),
                    None => catalog.of_pods(service, port),
                };
                catalog.members.insert((name.clone(), port.port), sorted(members));
            }
            catalog.services.insert(name, Arc::clone(service));
        }
        catalog
    }

    /// Takes over the hosts of ServiceEntries, which may have the addresses of pods.
    pub(super) fn add_entries(&mut self, (entries, listed): (Entries, Vec<Listed>)) {
        for Listed { name, service, members } in listed {
            for (port, members) in members {
                self.members.insert((name.clone(), port), sorted(members));
            }
            self.services.insert(name, Arc::new(service));
        }
        self.entries = entries;
        for (name, service) in self.services.iter().filter(|(_, s)| s.headless) {
            for port in &service.ports {
                for member in self.members.get(&(name.clone(), port.port)).into_iter().flatten() {
                    let number = u16::try_from(member.endpoint.port).unwrap_or_default();
                    self.headless.entry((member.address, number)).or_insert_with(|| (name.clone(), port.port));
                }
            }
        }
    }

    /// The headless Service and its port that an address belongs to.
    pub(super) fn headless(&self, ip: IpAddr, port: u16) -> Option<&(Name, u16)> {
        self.headless.get(&(ip, port))
    }

    /// Reports ports whose target no pod has, and protocols that nobody knows.
    pub(super) fn examine(&self, problems: &mut Vec<Problem>) {
        for (name, service) in &self.services {
            super::protocol::examine(service, problems);
            super::split::examine(service, problems);
            for port in &service.ports {
                let TargetPort::Name(target) = &port.target else { continue };
                if !self.members(name, port.port).is_empty() {
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
                    problems.push(service.meta.problem(
                        Severity::Error,
                        "unknown_target_port",
                        &field,
                        message,
                        advice,
                    ));
                }
            }
        }
    }

    /// Services whose endpoints are not those of `before`, which has the same Services.
    pub(super) fn differing<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = Name> + 'a {
        let is_same = |a: &Member, b: &Member| {
            let is_same_pod = match (&a.pod, &b.pod) {
                (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a.meta.labels == b.meta.labels,
                (a, b) => a.is_none() && b.is_none(),
            };
            (a.address, a.ready, &a.hostname) == (b.address, b.ready, &b.hostname)
                && is_same_pod
                && a.endpoint == b.endpoint
        };
        let differs = move |(at, now): &(&(Name, u16), &Vec<Member>)| {
            let then = before.members.get(*at).map_or(&[][..], Vec::as_slice);
            now.len() != then.len() || now.iter().zip(then).any(|(a, b)| !is_same(a, b))
        };
        self.members.iter().filter(differs).map(|((name, _), _)| name.clone())
    }

    /// Every endpoint of a Service port, ready or not.
    pub(super) fn members(&self, service: &Name, port: u16) -> &[Member] {
        self.members.get(&(service.clone(), port)).map_or(&[], Vec::as_slice)
    }

    pub(super) fn cluster_ip(&self, ip: IpAddr) -> Option<&Name> {
        self.by_cluster_ip.get(&ip)
    }

    /// The one running pod that has this address for itself.
    pub(super) fn pod_at(&self, ip: IpAddr) -> Option<&Arc<Pod>> {
        self.by_pod_ip.get(&ip).and_then(Option::as_ref)
    }

    /// An endpoint on a pod's address.
    pub(super) fn endpoint(&self, pod: &Pod, address: IpAddr, port: u16) -> wire::Endpoint {
        wire::Endpoint {
            address: address.to_string(),
            port: port.into(),
            identity: self.identity(pod, port),
            workload_name: pod.workload_name.clone(),
            pod: pod.meta.key.name.clone(),
            namespace: pod.meta.key.namespace.clone(),
            zone: self.zone(pod).to_owned(),
            region: pod.region.clone(),
            ..wire::Endpoint::default()
        }
    }

    /// Zone of the pod's node, empty where unknown: its own label says it, else an EndpointSlice that holds it.
    pub(super) fn zone<'a>(&'a self, pod: &'a Pod) -> &'a str {
        let told = || self.zones.get(&(pod.meta.key.namespace.clone(), pod.meta.key.name.clone()));
        if pod.zone.is_empty() { told().map_or("", String::as_str) } else { &pod.zone }
    }

    /// SPIFFE ID of the pod's proxy; empty where it has none, and for a port that is reached past it.
    fn identity(&self, pod: &Pod, port: u16) -> String {
        if !pod.meshed || pod.host_network || pod.excluded_inbound.contains(&port) {
            return String::new();
        }
        SpiffeId::new(&self.trust_domain, &pod.meta.key.namespace, &pod.account)
            .map_or(String::new(), |id| id.to_string())
    }

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
        let named = from.pod.as_ref().and_then(|name| self.pods.get(&(namespace.clone(), name.clone())));
        // An address lends an identity only within its own namespace: a slice is written by whoever may write there.
        let by_address =
            || self.pod_at(address).filter(|p| !address.is_loopback() && p.meta.key.namespace == *namespace);
        // On a laptop pods share the loopback address, or have none.
        let is_its = |p: &&Arc<Pod>| address.is_loopback() || p.ips.is_empty() || p.ips.contains(&address);
        let pod = named.filter(is_its).or_else(by_address);
        let mut endpoint = match pod {
            Some(pod) => self.endpoint(pod, address, port),
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
        let ready = service.publish_not_ready || from.ready && !from.terminating;
        let serves = from.serving && from.terminating || pod.is_some_and(|pod| is_unheard(pod));
        (Member { address, endpoint, pod: pod.map(Arc::clone), hostname, ready }, serves)
    }

    /// Pods that the Service's selector selects: those of its rarest label, so that many Services in one namespace do not
    /// each look at every pod.
    fn selected<'a>(&'a self, service: &'a Service) -> impl Iterator<Item = &'a Arc<Pod>> {
        let namespace = &service.meta.key.namespace;
        let by_label = self.by_label.get_or_init(|| by_label(&self.pods));
        let with = |(label, value): (&String, &String)| {
            by_label.get(&(namespace.clone(), label.clone(), value.clone())).map_or(&[][..], Vec::as_slice)
        };
        let rarest = service.selector.iter().map(with).min_by_key(|pods| pods.len()).unwrap_or_default();
        rarest.iter().filter(|pod| selects(&service.selector, &pod.meta.labels))
    }

    fn of_pods(&self, service: &Service, port: &ServicePort) -> Vec<Member> {
        if service.selector.is_empty() || service.external_name.is_some() {
            return Vec::new();
        }
        let wants_v6 = service.cluster_ips.first().is_some_and(IpAddr::is_ipv6);
        let found = self
            .selected(service)
            .filter(|pod| !pod.finished)
            .filter_map(|pod| {
                let address = *pod.ips.iter().find(|ip| ip.is_ipv6() == wants_v6).or(pod.ips.first())?;
                let number = match &port.target {
                    TargetPort::Number(number) => *number,
                    TargetPort::Name(name) => *pod.ports.get(name)?,
                };
                let mut endpoint = self.endpoint(pod, address, number);
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

/// Pods by namespace and one of their labels.
type ByLabel = BTreeMap<(String, String, String), Vec<Arc<Pod>>>;

fn by_label(pods: &BTreeMap<Name, Arc<Pod>>) -> ByLabel {
    let mut all = ByLabel::new();
    for ((namespace, _), pod) in pods {
        for (label, value) in &pod.meta.labels {
            all.entry((namespace.clone(), label.clone(), value.clone())).or_default().push(Arc::clone(pod));
        }
    }
    all
}

fn hostname(pod: &Pod) -> String {
    if pod.hostname.is_empty() { pod.meta.key.name.clone() } else { pod.hostname.clone() }
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
