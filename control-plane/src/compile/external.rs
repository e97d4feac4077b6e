//! ServiceEntries: hosts of the outside, which stand in the catalog beside the Services of their namespace.
//!
//! One holds for the clients of its own namespace, one of the root namespace for every client: nobody can redirect the
//! traffic of another namespace. See docs/decisions/0025.

use super::catalog::{Catalog, Member, is_usable};
use super::lowered::Subnet;
use super::scope::{age, is_exported};
use super::{Name, Settings};
use crate::index::Resources;
use crate::problem::{Problem, Severity};
use crate::source::Key;
use crate::source::resource::{Meta, Service, ServiceEntry, ServicePort, TargetPort};
use causeway_crds::service_entry::{EntryEndpoint, EntryPort, Location, Resolution, ServiceEntrySpec};
use causeway_mesh::name;
use causeway_mesh::wire;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// A host that a ServiceEntry names.
#[derive(Debug)]
pub(super) struct Entry {
    resource: Arc<ServiceEntry>,
    /// Lower case; `*.` in front stands for one or more labels.
    host: String,
    addresses: Vec<Subnet>,
    /// By port: `host:port` to be resolved by the proxy. None at all: the endpoints are known.
    dns: BTreeMap<u16, Vec<String>>,
}

impl Entry {
    /// The resource.
    pub(super) fn key(&self) -> &Key {
        &self.resource.meta.key
    }

    fn is_wildcard(&self) -> bool {
        self.host.starts_with("*.")
    }

    /// Whether it stands for a connection to `ip` (`resolution: NONE` goes where the client went).
    pub(super) fn goes_where_asked(&self) -> bool {
        is_by_name(&self.resource.spec) && matches!(self.resource.spec.resolution, None | Some(Resolution::None))
    }

    /// Completes a backend of one of its ports, asked for as `host`: where its endpoints come from, and the names that
    /// TLS to it asks for and takes.
    pub(super) fn complete(&self, backend: &mut wire::Backend, host: Option<&str>) {
        let port = u16::try_from(backend.port).unwrap_or_default();
        if let Some(dns) = self.dns.get(&port) {
            backend.dns.clone_from(dns);
        }
        let named = host.unwrap_or(&self.host);
        if self.is_wildcard() {
            for dns in &mut backend.dns {
                *dns = dns.replacen(&self.host, named, 1);
            }
            if let Some(rest) = backend.name.strip_prefix(&*self.host) {
                backend.name = format!("{named}{rest}");
            }
        }
        if let Some(tls) = &mut backend.tls {
            if tls.sni.is_empty() && !named.starts_with('*') {
                named.clone_into(&mut tls.sni);
            }
            if tls.subject_alt_names.is_empty() {
                tls.subject_alt_names.clone_from(&self.resource.spec.subject_alt_names);
            }
        }
    }
}

/// Every host of every ServiceEntry.
#[derive(Debug, Default)]
pub(super) struct Entries {
    all: BTreeMap<Name, Entry>,
    root: String,
}

/// What the catalog takes over of an entry.
pub(super) struct Listed {
    pub(super) name: Name,
    pub(super) service: Service,
    /// Endpoints by port, where they are known.
    pub(super) members: Vec<(u16, Vec<Member>)>,
}

impl Entries {
    /// Reads every entry; the older one has a host of its namespace.
    pub(super) fn new(
        resources: &Resources,
        catalog: &Catalog,
        settings: &Settings,
        problems: &mut Vec<Problem>,
    ) -> (Self, Vec<Listed>) {
        let mut entries = Self { all: BTreeMap::new(), root: settings.root_namespace.clone() };
        let mut listed = Vec::new();
        let mut sources: Vec<&Arc<ServiceEntry>> = resources.service_entries.values().collect();
        sources.sort_by(|a, b| age(&a.meta).cmp(&age(&b.meta)));
        for resource in sources {
            let mut examined = Examined { resource, settings, problems };
            examined.whole();
            let addresses = examined.addresses();
            for index in 0..resource.spec.hosts.len() {
                let Some(host) = examined.host(index) else { continue };
                let name = (resource.meta.key.namespace.clone(), host.clone());
                if let Some(first) = entries.all.get(&name) {
                    examined.taken(index, &first.key().clone());
                    continue;
                }
                let ports = examined.ports();
                listed.push(Listed {
                    service: service(&resource.meta, &host, &ports),
                    members: examined.members(catalog, &ports),
                    name: name.clone(),
                });
                let dns = dns(&resource.spec, &host, &ports);
                entries
                    .all
                    .insert(name, Entry { resource: Arc::clone(resource), host, addresses: addresses.clone(), dns });
            }
        }
        (entries, listed)
    }

    /// Every name under which an entry stands in the catalog.
    pub(super) fn names(&self) -> impl Iterator<Item = &Name> {
        self.all.keys()
    }

    /// Names that are of another resource than in `before`, or of none.
    pub(super) fn differing<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = &'a Name> {
        let is_same = |name: &Name, entry: &Entry, other: &Self| {
            other.all.get(name).is_some_and(|e| Arc::ptr_eq(&e.resource, &entry.resource))
        };
        let new = self.all.iter().filter(move |(name, entry)| !is_same(name, entry, before));
        let gone = before.all.iter().filter(|(name, _)| !self.all.contains_key(*name));
        new.chain(gone).map(|(name, _)| name)
    }

    /// The entry that stands in the catalog under this name.
    pub(super) fn get(&self, name: &Name) -> Option<&Entry> {
        self.all.get(name)
    }

    /// The entry of `host` for clients of `namespace`: their own before the root namespace's, a full name before a
    /// wildcard, and of wildcards the longest.
    pub(super) fn of_host(&self, host: &str, namespace: &str) -> Option<(&Name, &Entry)> {
        let at = |owner: &str, host: String| {
            let found = self.all.get_key_value(&(owner.to_owned(), host));
            found.filter(|(_, e)| self.holds(e, namespace))
        };
        let owners = [namespace, &self.root];
        let exact = owners.iter().find_map(|owner| at(owner, host.to_owned()));
        exact.or_else(|| {
            let suffixes = host.match_indices('.').map(|(dot, _)| &host[dot..]);
            suffixes.into_iter().find_map(|suffix| owners.iter().find_map(|owner| at(owner, format!("*{suffix}"))))
        })
    }

    /// The entry, and its port, that an address belongs to for clients of `namespace`: by `addresses`, or as one of its
    /// endpoints.
    pub(super) fn at<'a>(
        &'a self,
        ip: IpAddr,
        port: u16,
        namespace: &'a str,
        catalog: &'a Catalog,
    ) -> Option<(&'a Name, &'a Entry, u16)> {
        self.seen_by(namespace).find_map(|(name, entry)| {
            let service = catalog.services.get(name)?;
            let is_listed = entry.addresses.iter().any(|subnet| subnet.holds(ip));
            let serves = |p: &&ServicePort| {
                is_listed && p.port == port
                    || catalog
                        .members(name, p.port)
                        .iter()
                        .any(|m| m.address == ip && m.endpoint.port == u32::from(port))
            };
            service.ports.iter().find(serves).map(|p| (name, entry, p.port))
        })
    }

    /// Whether a connection to `port` may be of an entry by the name that it carries.
    pub(super) fn may_be_named(&self, port: u16, namespace: &str, catalog: &Catalog) -> bool {
        self.seen_by(namespace).any(|(name, _)| {
            let ports = catalog.services.get(name).map(|s| s.ports.as_slice()).unwrap_or_default();
            ports.iter().any(|p| p.port == port && super::protocol::protocol(p) != wire::Protocol::Tcp)
        })
    }

    /// Entries that hold for clients of `namespace`, their own first.
    fn seen_by<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = (&'a Name, &'a Entry)> {
        let of = move |owner: &str| {
            let owner = owner.to_owned();
            let range = self.all.range((owner.clone(), String::new())..);
            range.take_while(move |((n, _), _)| *n == owner)
        };
        let root = of(&self.root).filter(move |_| self.root != namespace);
        of(namespace).chain(root).filter(move |(_, e)| self.holds(e, namespace))
    }

    fn holds(&self, entry: &Entry, namespace: &str) -> bool {
        let meta = &entry.resource.meta;
        let reaches = meta.key.namespace == namespace || meta.key.namespace == self.root;
        reaches && is_exported(&entry.resource.spec.export_to, meta, namespace)
    }
}

/// Whether the endpoints are found by the host's name, or by names of endpoints.
fn is_by_name(spec: &ServiceEntrySpec) -> bool {
    spec.resolution != Some(Resolution::Static)
}

fn dns(spec: &ServiceEntrySpec, host: &str, ports: &[(ServicePort, u16)]) -> BTreeMap<u16, Vec<String>> {
    if !is_by_name(spec) {
        return BTreeMap::new();
    }
    let of = |(port, target): &(ServicePort, u16)| {
        let named = spec.endpoints.iter().filter_map(|e| {
            let address = e.address.as_deref()?.trim_end_matches('.').to_ascii_lowercase();
            let text = name::subscription(&address, endpoint_port(e, port, *target)?);
            name::host_port(&text).is_ok().then_some(text)
        });
        let named: Vec<String> = named.collect();
        let all = if named.is_empty() { vec![format!("{host}:{target}")] } else { named };
        (port.port, all)
    };
    ports.iter().map(of).collect()
}

/// Where an endpoint listens for a port of the entry.
fn endpoint_port(endpoint: &EntryEndpoint, port: &ServicePort, target: u16) -> Option<u16> {
    match endpoint.ports.get(&port.name) {
        Some(own) => u16::try_from(*own).ok().filter(|p| *p > 0),
        None => Some(target),
    }
}

/// The entry as the catalog's Services are.
fn service(meta: &Meta, host: &str, ports: &[(ServicePort, u16)]) -> Service {
    let meta = Meta { key: Key { name: host.to_owned(), ..meta.key.clone() }, labels: BTreeMap::new(), ..meta.clone() };
    Service {
        meta,
        cluster_ips: Vec::new(),
        headless: false,
        external_name: None,
        selector: BTreeMap::new(),
        ports: ports.iter().map(|(port, _)| port.clone()).collect(),
        publish_not_ready: false,
        sticks_to_client: false,
        affinity_seconds: None,
        prefers_near: false,
    }
}

/// One resource while it is read.
struct Examined<'a> {
    resource: &'a ServiceEntry,
    settings: &'a Settings,
    problems: &'a mut Vec<Problem>,
}

impl Examined<'_> {
    fn tell(&mut self, severity: Severity, code: &'static str, field: &str, message: &str, advice: &str) {
        let problem = self.resource.meta.problem(severity, code, field, message, advice);
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    fn whole(&mut self) {
        let spec = &self.resource.spec;
        let own = &self.resource.meta.key.namespace;
        if spec.location == Some(Location::MeshInternal) {
            let message = "it says nothing here: an endpoint is of the mesh where it is a meshed pod of this namespace";
            self.tell(
                Severity::Warning,
                "no_effect",
                "spec.location",
                message,
                "Use a Service for what is in the cluster.",
            );
        }
        let is_beyond = |to: &String| to != "." && to != own;
        if *own != self.settings.root_namespace && spec.export_to.iter().any(is_beyond) {
            let message = format!(
                "only the root namespace {} may export a ServiceEntry; this one holds for its own namespace",
                self.settings.root_namespace
            );
            self.tell(Severity::Warning, "no_effect", "spec.exportTo", &message, "Write it in the root namespace.");
        }
        if spec.resolution == Some(Resolution::Static) && spec.endpoints.is_empty() {
            let message = "resolution STATIC without endpoints leads nowhere";
            self.tell(Severity::Error, "missing_field", "spec.endpoints", message, "List them, or use DNS.");
        }
    }

    fn host(&mut self, index: usize) -> Option<String> {
        let written = &self.resource.spec.hosts[index];
        let host = written.trim_end_matches('.').to_ascii_lowercase();
        let field = format!("spec.hosts[{index}]");
        let shown = written.escape_debug();
        let bare = host.strip_prefix("*.").unwrap_or(&host);
        let is_name = name::host_port(bare).is_ok_and(|h| h.port.is_none() && h.host.parse::<IpAddr>().is_err());
        let is_inside = bare == self.settings.cluster_domain
            || bare.strip_suffix(&*self.settings.cluster_domain).is_some_and(|rest| rest.ends_with('.'));
        let wrong = match () {
            () if !is_name || !bare.contains('.') => Some(format!("`{shown}` is not the full name of a host")),
            () if is_inside || bare.ends_with(".svc") || bare == "localhost" || bare.ends_with(".localhost") => {
                Some(format!("`{shown}` is a name of the cluster or of the client's own machine"))
            }
            () => None,
        };
        if let Some(message) = wrong {
            let advice = "Name a host of the outside in full, or with `*.` in front.";
            self.tell(Severity::Error, "invalid_host", &field, &message, advice);
            return None;
        }
        if host.starts_with('*') && self.resource.spec.resolution == Some(Resolution::Static) {
            let message = format!("`{shown}` stands for many hosts, whose endpoints cannot be the same");
            self.tell(Severity::Warning, "wildcard_with_endpoints", &field, &message, "Name each host.");
        }
        Some(host)
    }

    fn taken(&mut self, index: usize, by: &Key) {
        let field = format!("spec.hosts[{index}]");
        let message = format!("{by} names the host too and is older or comes first by name; it wins");
        self.tell(Severity::Warning, "conflicting_entry", &field, &message, "Merge the two.");
    }

    fn addresses(&mut self) -> Vec<Subnet> {
        let mut all = Vec::new();
        for (index, text) in self.resource.spec.addresses.iter().enumerate() {
            match Subnet::parse(text) {
                Some(subnet) => all.push(subnet),
                None => {
                    let message = format!("`{}` is neither an IP address nor a CIDR block", text.escape_debug());
                    let field = format!("spec.addresses[{index}]");
                    self.tell(Severity::Error, "invalid_address", &field, &message, "Correct it.");
                }
            }
        }
        all
    }

    /// Each port with where the servers listen.
    fn ports(&mut self) -> Vec<(ServicePort, u16)> {
        let mut all: Vec<(ServicePort, u16)> = Vec::new();
        for (index, port) in self.resource.spec.ports.iter().enumerate() {
            let Some(number) = u16::try_from(port.number).ok().filter(|p| *p > 0) else { continue };
            if all.iter().any(|(p, _)| p.port == number) {
                let field = format!("spec.ports[{index}].number");
                let message = format!("port {number} is there already; the first is used");
                self.tell(Severity::Error, "duplicate_port", &field, &message, "Remove one.");
                continue;
            }
            let target = port.target_port.and_then(|p| u16::try_from(p).ok()).unwrap_or(number);
            all.push((service_port(port, number, target, index), target));
        }
        all
    }

    fn members(&mut self, catalog: &Catalog, ports: &[(ServicePort, u16)]) -> Vec<(u16, Vec<Member>)> {
        let spec = &self.resource.spec;
        let is_static = !is_by_name(spec);
        let mut addresses: Vec<(&EntryEndpoint, IpAddr)> = Vec::new();
        for (index, endpoint) in spec.endpoints.iter().enumerate() {
            let text = endpoint.address.as_deref().unwrap_or_default();
            let address = text.parse::<IpAddr>().map(|a| a.to_canonical());
            let is_fine = match address {
                Ok(ip) => is_usable(ip) && !ip.is_loopback(),
                Err(_) => !is_static && name::host_port(text).is_ok_and(|h| h.port.is_none()),
            };
            if !is_fine {
                let what = if is_static { "an IP address" } else { "an IP address or a name" };
                let message = format!("`{}` is not {what} that may be an endpoint", text.escape_debug());
                let field = format!("spec.endpoints[{index}].address");
                self.tell(Severity::Error, "invalid_address", &field, &message, "Correct it.");
            } else if let (true, Ok(ip)) = (is_static, address) {
                addresses.push((endpoint, ip));
            }
        }
        let of = |(port, target): &(ServicePort, u16)| {
            let all = addresses
                .iter()
                .filter_map(|(e, ip)| Some(member(self.resource, catalog, e, *ip, endpoint_port(e, port, *target)?)));
            (port.port, all.collect())
        };
        ports.iter().map(of).collect()
    }
}

fn service_port(port: &EntryPort, number: u16, target: u16, index: usize) -> ServicePort {
    ServicePort {
        name: port.name.clone().unwrap_or_default(),
        port: number,
        target: TargetPort::Number(target),
        app_protocol: port.protocol.as_ref().map(|p| p.to_ascii_lowercase()),
        index,
    }
}

/// An endpoint that the user wrote. As in a slice, an address lends an identity only within its own namespace.
fn member(entry: &ServiceEntry, catalog: &Catalog, from: &EntryEndpoint, address: IpAddr, port: u16) -> Member {
    let namespace = &entry.meta.key.namespace;
    let pod = catalog.pod_at(address).filter(|p| p.meta.key.namespace == *namespace);
    let mut endpoint = match pod {
        Some(pod) => catalog.endpoint(pod, address, port),
        None => wire::Endpoint {
            address: address.to_string(),
            port: port.into(),
            namespace: namespace.clone(),
            ..wire::Endpoint::default()
        },
    };
    if let Some(locality) = &from.locality {
        let mut parts = locality.split('/');
        endpoint.region = parts.next().unwrap_or_default().to_owned();
        endpoint.zone = parts.next().unwrap_or_default().to_owned();
    }
    Member { address, endpoint, pod: pod.map(Arc::clone), hostname: String::new(), ready: true }
}
