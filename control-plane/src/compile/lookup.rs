//! What one destination is for one client: finds the Service, alias or pod that a text names and puts its routes together.

use super::alias::{self, Target};
use super::catalog::{Catalog, protocol};
use super::matching::Viewer;
use super::routes::Routes;
use super::scope::Host;
use super::split::{Splits, key};
use super::{Client, Model, Name, duration};
use crate::source::Key;
use crate::source::resource::{Service, ServicePort};
use causeway_crds::virtual_service::RouteDestination;
use causeway_mesh::name;
use causeway_mesh::wire::{self, destination::Kind};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What is the same for the whole of one lookup.
pub(super) struct Lookup<'a> {
    pub(super) model: &'a Model,
    pub(super) client: &'a Client,
    /// As it was asked.
    pub(super) text: &'a str,
    /// Resources that took part so far.
    parts: RefCell<BTreeSet<Key>>,
}

impl<'a> Lookup<'a> {
    pub(super) fn new(model: &'a Model, client: &'a Client, text: &'a str) -> Self {
        Self { model, client, text, parts: RefCell::default() }
    }

    /// Resources that took part in the last answer.
    pub(super) fn parts(&self) -> BTreeSet<Key> {
        self.parts.borrow().clone()
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
        &self.model.catalog
    }

    fn unknown(&self) -> wire::Destination {
        wire::Destination {
            canonical: self.text.to_owned(),
            kind: Kind::Unknown.into(),
            ..wire::Destination::default()
        }
    }

    fn address(&self, ip: IpAddr, port: u16) -> wire::Destination {
        match self.catalog().cluster_ip(ip) {
            Some(service) => self.service(service, port),
            None => self.pod(ip, port),
        }
    }

    fn host(&self, host: &str, port: u16) -> wire::Destination {
        let settings = &self.model.settings;
        let Some(found) = name::service(host, &self.client.namespace, &settings.cluster_domain) else {
            return self.unknown();
        };
        let service = (found.namespace, found.service);
        if let Some(hostname) = found.pod {
            return self.member(&service, &hostname, port);
        }
        match alias::follow(&service, self.catalog(), settings) {
            Target::Service(service) => self.service(&service, port),
            Target::Outside(external) => wire::Destination {
                canonical: format!("{}.{}:{port}", service.1, service.0),
                kind: Kind::External.into(),
                external: name::subscription(&external, port),
                service_name: service.1,
                service_namespace: service.0,
                ..wire::Destination::default()
            },
            Target::Nowhere => self.unknown(),
        }
    }

    /// One pod of a headless Service, by its host name.
    fn member(&self, name: &Name, hostname: &str, port: u16) -> wire::Destination {
        let Some(service) = self.catalog().services.get(name).filter(|s| s.headless) else { return self.unknown() };
        let members = service.ports.iter().flat_map(|p| self.catalog().members(name, p.port));
        let found = members.into_iter().find(|m| m.hostname == hostname).map(|m| m.address);
        found.map_or_else(|| self.unknown(), |ip| self.pod(ip, port))
    }

    /// A pod's own address. Routes of a Service with a ClusterIP do not hold for it; of a headless Service they do.
    fn pod(&self, ip: IpAddr, port: u16) -> wire::Destination {
        let Some(pod) = self.catalog().pod_at(ip) else { return self.unknown() };
        let name = name::subscription(&ip.to_string(), port);
        let backend = wire::Backend {
            name: name.clone(),
            namespace: pod.meta.key.namespace.clone(),
            port: port.into(),
            ..wire::Backend::default()
        };
        if let Some((service, at)) = self.model.headless.get(&(ip, port))
            && let Some(found) = self.catalog().services.get(service)
            && let Some(at) = found.ports.iter().find(|p| p.port == *at)
        {
            let own = self.model.world().backend(service, at.port, "", &self.client.namespace);
            let backend =
                wire::Backend { plaintext: own.plaintext, connect_timeout_ms: own.connect_timeout_ms, ..backend };
            return wire::Destination {
                canonical: name,
                kind: Kind::Pod.into(),
                ..self.routed(found, at, service, &backend)
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
        let Some(service) = self.catalog().services.get(name) else { return self.unknown() };
        let by_number = service.ports.iter().find(|p| p.port == port);
        // A headless name leads to pods, so clients know the pods' port.
        let listens =
            |p: &&ServicePort| self.catalog().members(name, p.port).iter().any(|m| m.endpoint.port == u32::from(port));
        let by_target = || service.ports.iter().filter(|_| service.headless).find(listens);
        let Some(at) = by_number.or_else(by_target) else { return self.unknown() };
        let backend = self.model.world().backend(name, at.port, "", &self.client.namespace);
        self.routed(service, at, name, &backend)
    }

    fn splits<'s>(&self, asked: u16, is_ready: &'s dyn Fn(&str) -> bool) -> Splits<'s>
    where
        'a: 's,
    {
        Splits { world: self.model.world(), client: &self.client.namespace, asked, is_ready, backends: Vec::new() }
    }

    /// A Service port with its routes; `default` is where traffic goes that no route takes.
    fn routed(&self, service: &Service, at: &ServicePort, name: &Name, default: &wire::Backend) -> wire::Destination {
        let declared = protocol(at);
        let is_bytes = matches!(declared, wire::Protocol::Tcp | wire::Protocol::Tls);
        let is_http = matches!(declared, wire::Protocol::Http1 | wire::Protocol::Http2);
        let none = BTreeMap::new();
        let labels = self.model.labels(self.client).unwrap_or(&none);
        let viewer = Viewer { namespace: &self.client.namespace, labels };
        let routes: &Routes = &self.model.routes;
        let is_ready =
            |backend: &str| backend == default.name && default.service.is_empty() || self.model.is_ready(backend);
        let mut splits = self.splits(at.port, &is_ready);
        let picked = if is_bytes { Vec::new() } else { routes.http(name, viewer, at.port) };
        let takes_effect = |route: &[RouteDestination], namespace: &str| {
            self.model.world().takes_effect(route, namespace, at.port, &self.client.namespace)
        };
        let mut parts = BTreeSet::new();
        let http: Vec<wire::Route> = picked
            .into_iter()
            .filter(|p| takes_effect(&p.route.route, &p.from.meta().key.namespace))
            .inspect(|p| parts.extend([p.from.meta().key.clone()]))
            .map(|p| {
                let meta = p.from.meta();
                let key = p.route.split.as_ref().and_then(|s| s.key.as_ref()).and_then(key);
                wire::Route {
                    name: format!("{}#{}", meta.key.path(), p.index),
                    timeout_ms: p.route.timeout.as_deref().and_then(duration::millis).unwrap_or_default(),
                    action: Some(wire::route::Action::Split(splits.routed(
                        &p.route.route,
                        &meta.key.namespace,
                        key,
                        meta.key.path(),
                    ))),
                    matches: if p.is_catch_all() { Vec::new() } else { p.matches },
                    ..wire::Route::default()
                }
            })
            .collect();
        let tcp = if is_http { None } else { routes.tcp(name, viewer, at.port, takes_effect) };
        let split = match &tcp {
            Some(tcp) => {
                let meta = tcp.from.meta();
                splits.routed(tcp.route, &meta.key.namespace, None, format!("{}#tcp{}", meta.key.path(), tcp.index))
            }
            None => splits.whole(default.clone()),
        };
        if let Some(tcp) = &tcp {
            parts.insert(tcp.from.meta().key.clone());
        }
        let services = splits.backends.iter().map(|b| (b.namespace.clone(), b.service.clone()));
        for service in services.chain([name.clone()]).collect::<BTreeSet<_>>() {
            parts.extend(self.model.rules.seen_by(&service, &self.client.namespace).map(|m| m.key.clone()));
        }
        self.parts.borrow_mut().extend(parts);
        wire::Destination {
            canonical: format!("{}.{}:{}", name.1, name.0, at.port),
            protocol: declared.into(),
            http_only: !http.is_empty() && tcp.is_none(),
            routes: http,
            split: Some(split),
            backends: splits.backends,
            kind: Kind::Service.into(),
            external: String::new(),
            service_name: service.meta.key.name.clone(),
            service_namespace: service.meta.key.namespace.clone(),
            ..wire::Destination::default()
        }
    }
}

/// Destinations that a client will most likely use: what its own namespace offers, and what its own routes are about.
pub(super) fn prefetch(model: &Model, client: &Client) -> Vec<String> {
    const MOST: usize = 64;
    let namespace = &client.namespace;
    let own =
        model.catalog.services.range((namespace.clone(), String::new())..).take_while(|((n, _), _)| n == namespace);
    let own = own.map(|(name, _)| name.clone());
    let routed = model.resources.virtual_services.values().filter(|v| v.meta.key.namespace == *namespace);
    let routed = routed.flat_map(|v| &v.spec.hosts).filter_map(|host| {
        match super::scope::resolve(host, namespace, &model.catalog, &model.settings) {
            Host::Service(name) => Some(name),
            _ => None,
        }
    });
    let mut all: Vec<String> = Vec::new();
    for (ns, name) in routed.chain(own) {
        let Some(service) = model.catalog.services.get(&(ns.clone(), name.clone())) else { continue };
        let host = match service.cluster_ips.first() {
            Some(ip) => ip.to_string(),
            None => format!("{name}.{ns}.svc.{}", model.settings.cluster_domain),
        };
        all.extend(service.ports.iter().map(|p| causeway_mesh::name::subscription(&host, p.port)));
    }
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|text| seen.insert(text.clone()));
    all.truncate(MOST);
    all
}
