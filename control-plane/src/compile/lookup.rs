//! What one destination is for one client: finds the Service, alias or pod that a text names and puts its routes together.

use super::alias::{self, Target};
use super::asked::{Asked, Topic};
use super::catalog::{Catalog, Member};
use super::external::Entry;
use super::lowered::Weighted;
use super::matching::Viewer;
use super::protocol::protocol;
use super::routes::{Picked, PickedTls, Routes};
use super::rules::Consumer;
use super::split::Splits;
use super::{Client, Model, Name};
use crate::source::resource::{Service, ServicePort};
use crate::source::{Key, Meta};
use causeway_mesh::name;
use causeway_mesh::wire::{self, destination::Kind};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Of a pod that is not known.
static NO_LABELS: BTreeMap<String, String> = BTreeMap::new();

/// What is the same for the whole of one lookup.
pub(super) struct Lookup<'a> {
    pub(super) model: &'a Model,
    pub(super) client: &'a Client,
    /// As it was asked.
    pub(super) text: &'a str,
    /// Resources that took part so far.
    parts: RefCell<BTreeSet<Key>>,
    asked: Asked,
}

impl<'a> Lookup<'a> {
    pub(super) fn new(model: &'a Model, client: &'a Client, text: &'a str) -> Self {
        Self { model, client, text, parts: RefCell::default(), asked: Asked::default() }
    }

    /// Resources that took part in the last answer.
    pub(super) fn parts(&self) -> BTreeSet<Key> {
        self.parts.borrow().clone()
    }

    /// What the last answer was read from.
    pub(super) fn topics(&self) -> Vec<Topic> {
        self.asked.topics()
    }

    pub(super) fn run(&self) -> wire::Destination {
        let Ok(parsed) = name::host_port(self.text) else { return self.unknown() };
        // A proxy always names the port; a person who asks may not.
        let port = parsed.port.unwrap_or(80);
        match parsed.host.parse::<IpAddr>() {
            Ok(ip) => self.address(ip, port),
            Err(_) => self.host(&parsed.host, port),
        }
    }

    fn catalog(&self) -> &'a Catalog {
        self.model.catalog()
    }

    fn consumer(&self) -> Consumer<'a> {
        Consumer {
            namespace: &self.client.namespace,
            labels: Some(self.model.labels(self.client).unwrap_or(&NO_LABELS)),
        }
    }

    fn unknown(&self) -> wire::Destination {
        self.not_known(false)
    }

    fn not_known(&self, by_name: bool) -> wire::Destination {
        wire::Destination {
            canonical: self.text.to_owned(),
            kind: Kind::Unknown.into(),
            by_name,
            ..wire::Destination::default()
        }
    }

    fn address(&self, ip: IpAddr, port: u16) -> wire::Destination {
        self.asked.address(ip);
        match self.catalog().cluster_ip(ip) {
            Some(service) => self.service(service, port),
            None if self.catalog().pod_at(ip).is_some() => self.pod(ip, port),
            None => self.outside_at(ip, port),
        }
    }

    /// An address outside of the mesh. Where it is of no ServiceEntry, the name that a connection carries may be.
    fn outside_at(&self, ip: IpAddr, port: u16) -> wire::Destination {
        let (entries, namespace) = (&self.catalog().entries, &self.client.namespace);
        self.asked.entries(namespace, &self.model.settings);
        let Some((name, entry, at)) = entries.at(ip, port, namespace, self.catalog()) else {
            return self.not_known(entries.may_be_named(port, namespace, self.catalog()));
        };
        let text = name::subscription(&ip.to_string(), port);
        let asked = entry.goes_where_asked().then_some((text.as_str(), &*text));
        self.entry(name, entry, at, asked, None)
    }

    /// A host of the outside by its name.
    fn outside(&self, host: &str, port: u16) -> Option<wire::Destination> {
        self.asked.outside(host, &self.client.namespace, &self.model.settings);
        let (name, entry) = self.catalog().entries.of_host(host, &self.client.namespace)?;
        let is_port = self.catalog().services.get(name)?.ports.iter().any(|p| p.port == port);
        is_port.then(|| self.entry(name, entry, port, None, Some(host)))
    }

    /// A port of a ServiceEntry; `whole` is the name of a backend that is one address, and that address.
    fn entry(
        &self,
        name: &Name,
        entry: &Entry,
        port: u16,
        whole: Option<(&str, &str)>,
        host: Option<&str>,
    ) -> wire::Destination {
        self.asked.service(name);
        let found = self.catalog().services.get(name).and_then(|s| Some((s, s.ports.iter().find(|p| p.port == port)?)));
        let Some((service, at)) = found else { return self.unknown() };
        let mut backend = self.model.world().backend(name, port, "", self.consumer());
        entry.complete(&mut backend, host);
        if let Some((name, address)) = whole {
            name.clone_into(&mut backend.name);
            backend.dns = vec![address.to_owned()];
        }
        self.takes_part([entry.key()]);
        let host = host.unwrap_or(&name.1);
        wire::Destination {
            canonical: name::subscription(host, port),
            kind: Kind::Entry.into(),
            service_name: name.1.clone(),
            ..self.routed(service, at, name, &backend, false)
        }
    }

    fn host(&self, host: &str, port: u16) -> wire::Destination {
        let settings = &self.model.settings;
        let Some(found) = name::service(host, &self.client.namespace, &settings.cluster_domain) else {
            return self.outside(host, port).unwrap_or_else(|| self.unknown());
        };
        let service = (found.namespace, found.service);
        self.asked.alias(&service, self.catalog(), settings);
        if !self.catalog().services.contains_key(&service)
            && let Some(outside) = self.outside(host, port)
        {
            return outside;
        }
        if let Some(hostname) = found.pod {
            return self.member(&service, &hostname, port);
        }
        match alias::follow(&service, self.catalog(), settings) {
            Target::Service(service) => self.service(&service, port),
            Target::Outside(external) => self.outside(&external, port).unwrap_or_else(|| wire::Destination {
                canonical: format!("{}.{}:{port}", service.1, service.0),
                kind: Kind::External.into(),
                external: name::subscription(&external, port),
                service_name: service.1,
                service_namespace: service.0,
                ..wire::Destination::default()
            }),
            Target::Nowhere => self.unknown(),
        }
    }

    /// One pod of a headless Service, by its host name.
    fn member(&self, name: &Name, hostname: &str, port: u16) -> wire::Destination {
        let Some(service) = self.catalog().services.get(name).filter(|s| s.headless) else { return self.unknown() };
        let members = service.ports.iter().flat_map(|p| self.catalog().members(name, p.port));
        // A pod without a host name of its own is its address with dashes, as SRV records name it.
        let is_meant =
            |m: &&Member| m.hostname == hostname || m.address.to_string().replace(['.', ':'], "-") == hostname;
        let found = members.into_iter().find(is_meant).map(|m| m.address);
        found.map_or_else(|| self.unknown(), |ip| self.pod(ip, port))
    }

    /// A pod's own address. Routes of a Service with a ClusterIP do not hold for it; of a headless Service they do.
    fn pod(&self, ip: IpAddr, port: u16) -> wire::Destination {
        self.asked.address(ip);
        let Some(pod) = self.catalog().pod_at(ip) else { return self.unknown() };
        let name = name::subscription(&ip.to_string(), port);
        let backend = wire::Backend {
            name: name.clone(),
            namespace: pod.meta.key.namespace.clone(),
            port: port.into(),
            ..wire::Backend::default()
        };
        if let Some((of, at)) = self.catalog().headless(ip, port).as_ref()
            && let Some(found) = self.catalog().services.get(of)
            && let Some(at) = found.ports.iter().find(|p| p.port == *at)
        {
            let own = self.model.world().backend(of, at.port, "", self.consumer());
            // As its Service is reached and counted, but at one address.
            let own = wire::Backend { name: name.clone(), ..own };
            return wire::Destination {
                canonical: name,
                kind: Kind::Pod.into(),
                ..self.routed(found, at, of, &own, true)
            };
        }
        let mut splits = self.splits(port, &|_| true);
        let split = splits.whole(backend);
        wire::Destination {
            canonical: name,
            kind: Kind::Pod.into(),
            split: Some(split),
            backends: splits.backends,
            ..wire::Destination::default()
        }
    }

    fn service(&self, name: &Name, port: u16) -> wire::Destination {
        self.asked.service(name);
        let Some(service) = self.catalog().services.get(name) else { return self.unknown() };
        let by_number = service.ports.iter().find(|p| p.port == port);
        // A headless name leads to pods, so clients know the pods' port.
        let listens =
            |p: &&ServicePort| self.catalog().members(name, p.port).iter().any(|m| m.endpoint.port == u32::from(port));
        let by_target = || service.ports.iter().filter(|_| service.headless).find(listens);
        let Some(at) = by_number.or_else(by_target) else { return self.unknown() };
        let backend = self.model.world().backend(name, at.port, "", self.consumer());
        self.routed(service, at, name, &backend, false)
    }

    fn splits<'s>(&self, asked: u16, is_ready: &'s dyn Fn(&str) -> bool) -> Splits<'s>
    where
        'a: 's,
    {
        Splits { world: self.model.world(), client: self.consumer(), asked, pod: None, is_ready, backends: Vec::new() }
    }

    /// A Service port with its routes; `default` is where traffic goes that no route takes: the Service, or one pod of it.
    fn routed(
        &self,
        service: &Service,
        at: &ServicePort,
        name: &Name,
        default: &wire::Backend,
        is_pod: bool,
    ) -> wire::Destination {
        self.reads(name);
        let declared = protocol(at);
        let is_bytes = matches!(declared, wire::Protocol::Tcp | wire::Protocol::Tls);
        let is_http = matches!(declared, wire::Protocol::Http1 | wire::Protocol::Http2);
        let pod = self.catalog().pod(&self.client.namespace, &self.client.pod);
        let viewer = Viewer {
            namespace: &self.client.namespace,
            account: &self.client.account,
            labels: self.model.labels(self.client).unwrap_or(&NO_LABELS),
            addresses: pod.map(|p| p.ips.as_slice()).unwrap_or_default(),
            destinations: &service.cluster_ips,
        };
        let routes: &Routes = &self.model.directions.routes;
        let is_ready = |backend: &str| is_pod && backend == default.name || self.model.is_ready(backend);
        let mut splits = self.splits(at.port, &is_ready);
        splits.pod = is_pod.then_some((name, default));
        let takes_effect = |route: &[Weighted], meta: &Meta| {
            self.model.world().takes_effect(route, &meta.key.namespace, at.port, self.consumer())
        };
        let picked = if is_bytes { Vec::new() } else { routes.http(name, viewer, at.port) };
        let is_of_alias = picked.iter().all(|p| p.from.host_length == alias::OF_ALIAS);
        let mut http: Vec<wire::Route> = picked
            .into_iter()
            .filter(|p| p.rule.forward.as_ref().is_none_or(|f| takes_effect(&f.destinations, p.from.meta())))
            .map(|p| self.http(&mut splits, p))
            .collect();
        if is_of_alias && !http.is_empty() {
            // Routes of aliases say nothing of requests to other names.
            let action = Some(wire::route::Action::Split(splits.whole(default.clone())));
            http.push(wire::Route { name: default_route(name), action, ..wire::Route::default() });
        }
        let tcp = if is_http {
            None
        } else {
            routes.tcp(name, viewer, at.port, |rule, from| takes_effect(&rule.destinations, from.meta()))
        };
        let tls = if is_http { Vec::new() } else { routes.tls(name, viewer, at.port) };
        let tls_routes: Vec<wire::TlsRoute> = tls
            .into_iter()
            .filter(|p| takes_effect(&p.rule.destinations, p.from.meta()))
            .map(|p| self.tls(&mut splits, p))
            .collect();
        let split = match &tcp {
            Some(tcp) => {
                let meta = tcp.from.meta();
                self.takes_part([&meta.key]);
                let origin = format!("{}#tcp{}", meta.key.path(), tcp.rule.index);
                splits.connections(&tcp.rule.destinations, &meta.key.namespace, origin)
            }
            None => splits.whole(default.clone()),
        };
        let services = splits.backends.iter().map(|b| (b.namespace.clone(), b.service.clone()));
        for service in services.chain([name.clone()]).collect::<BTreeSet<_>>() {
            self.asked.service(&service);
            self.takes_part(self.model.directions.rules.seen_by(&service, self.consumer()).map(|m| &m.key));
        }
        wire::Destination {
            canonical: format!("{}.{}:{}", name.1, name.0, at.port),
            protocol: declared.into(),
            http_only: !http.is_empty() && tcp.is_none() && tls_routes.is_empty(),
            routes: http,
            split: Some(split),
            backends: splits.backends,
            kind: Kind::Service.into(),
            external: String::new(),
            service_name: service.meta.key.name.clone(),
            service_namespace: service.meta.key.namespace.clone(),
            tls_routes,
            by_name: false,
        }
    }

    fn takes_part<'k>(&self, keys: impl IntoIterator<Item = &'k Key>) {
        self.parts.borrow_mut().extend(keys.into_iter().cloned());
    }

    /// Notes what every route of a Service names, whether it is there and whether this client gets it or not.
    fn reads(&self, service: &Name) {
        self.asked.service(service);
        for attached in self.model.directions.routes.of(service) {
            self.asked.references(&attached.resource, self.catalog(), &self.model.settings);
        }
    }

    /// One HTTP route with its destinations resolved.
    fn http(&self, splits: &mut Splits<'_>, picked: Picked<'_>) -> wire::Route {
        let meta = picked.from.meta();
        let (rule, namespace) = (picked.rule, &meta.key.namespace);
        self.takes_part([&meta.key]);
        self.takes_part(rule.written_in.iter().map(|m| &m.key));
        let mut route = rule.template.clone();
        if let Some(forward) = &rule.forward {
            route.action = Some(wire::route::Action::Split(splits.routed(forward, namespace, meta.key.path())));
        }
        for mirror in rule.mirrors.iter().filter(|m| m.share_ppm > 0) {
            let share_ppm = mirror.share_ppm;
            route
                .mirrors
                .extend(splits.mirror(&mirror.to, namespace).map(|backend| wire::Mirror { backend, share_ppm }));
        }
        // What a new prefix takes the place of must stay to be seen.
        let is_plain = picked.is_catch_all() && !changes_prefix(&route);
        route.matches = if is_plain { Vec::new() } else { picked.matches };
        route
    }

    /// One TLS route with its destinations resolved.
    fn tls(&self, splits: &mut Splits<'_>, picked: PickedTls<'_>) -> wire::TlsRoute {
        let meta = picked.from.meta();
        self.takes_part([&meta.key]);
        let name = format!("{}#tls{}", meta.key.path(), picked.rule.index);
        let split = splits.connections(&picked.rule.destinations, &meta.key.namespace, name.clone());
        wire::TlsRoute { name, sni_hosts: picked.hosts, split: Some(split) }
    }
}

/// Name of the route that takes what no route of an alias does.
fn default_route(service: &Name) -> String {
    format!("{}/{}#default", service.0, service.1)
}

fn changes_prefix(route: &wire::Route) -> bool {
    let of_redirect = match &route.action {
        Some(wire::route::Action::Redirect(redirect)) => redirect.path.as_ref(),
        _ => None,
    };
    let of_rewrite = route.rewrite.as_ref().and_then(|r| r.path.as_ref());
    let is_prefix = |c: &wire::PathChange| matches!(c.kind, Some(wire::path_change::Kind::Prefix(_)));
    of_redirect.into_iter().chain(of_rewrite).any(is_prefix)
}
