//! Who a VirtualService or DestinationRule holds for: in the Service's own namespace (producer) for every client, elsewhere
//! (consumer) for the clients of its own namespace only.

use super::catalog::Catalog;
use super::{Name, Settings};
use crate::source::resource::Custom;
use crate::source::{Key, Meta};
use causeway_mesh::name;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Something that a user wrote.
pub(super) trait Described {
    fn meta(&self) -> &Meta;
}

impl<S> Described for Custom<S> {
    fn meta(&self) -> &Meta {
        &self.meta
    }
}

/// A resource that names a Service, by one of its hosts.
#[derive(Debug)]
pub(super) struct Attached<R> {
    pub(super) resource: Arc<R>,
    /// The Service's port; None: all of them.
    pub(super) port: Option<u16>,
    /// Not by a wildcard.
    pub(super) is_exact: bool,
    /// Length of the host as written.
    pub(super) host_length: usize,
}

impl<R: Described> Attached<R> {
    pub(super) fn meta(&self) -> &Meta {
        self.resource.meta()
    }
}

/// The resources that name one Service, the oldest first.
#[derive(Debug)]
pub(super) struct Scoped<R> {
    pub(super) producer: Vec<Attached<R>>,
    pub(super) consumers: BTreeMap<String, Vec<Attached<R>>>,
}

impl<R> Clone for Attached<R> {
    fn clone(&self) -> Self {
        Self { resource: Arc::clone(&self.resource), ..*self }
    }
}

impl<R> Clone for Scoped<R> {
    fn clone(&self) -> Self {
        Self { producer: self.producer.clone(), consumers: self.consumers.clone() }
    }
}

impl<R> Default for Scoped<R> {
    fn default() -> Self {
        Self { producer: Vec::new(), consumers: BTreeMap::new() }
    }
}

impl<R: Described> Scoped<R> {
    pub(super) fn attach(&mut self, service: &Name, attached: Attached<R>) {
        let namespace = attached.meta().key.namespace.clone();
        let list =
            if namespace == service.0 { &mut self.producer } else { self.consumers.entry(namespace).or_default() };
        // The same resource may name a Service by two of its hosts.
        let same = |a: &&mut Attached<R>| Arc::ptr_eq(&a.resource, &attached.resource) && a.port == attached.port;
        if let Some(before) = list.iter_mut().find(same) {
            if (attached.is_exact, attached.host_length) > (before.is_exact, before.host_length) {
                *before = attached;
            }
            return;
        }
        list.push(attached);
        list.sort_by(|a, b| (age(a.meta()), a.port).cmp(&(age(b.meta()), b.port)));
    }

    /// Takes the resource of this key out.
    pub(super) fn detach(&mut self, key: &Key) {
        self.producer.retain(|attached| attached.meta().key != *key);
        self.consumers.values_mut().for_each(|list| list.retain(|attached| attached.meta().key != *key));
        self.consumers.retain(|_, list| !list.is_empty());
    }

    /// Every resource that names the Service, those of its own namespace first.
    pub(super) fn all(&self) -> impl Iterator<Item = &Attached<R>> {
        self.producer.iter().chain(self.consumers.values().flatten())
    }

    /// Which resources name the Service, and how, in order.
    pub(super) fn outline(&self) -> Vec<(&Key, Option<u16>, bool, usize)> {
        self.all().map(|a| (&a.meta().key, a.port, a.is_exact, a.host_length)).collect()
    }

    /// Those of the client's own namespace (they win), then those of the Service's.
    pub(super) fn seen_by(&self, client: &str) -> [&[Attached<R>]; 2] {
        [self.consumers.get(client).map_or(&[], Vec::as_slice), &self.producer]
    }
}

/// Older first, then by name, then our own group before others.
pub(super) fn age(meta: &Meta) -> (i64, &str, &str, &str) {
    // A source that does not know the creation (a directory) makes all equally old.
    (meta.created, &meta.key.namespace, &meta.key.name, &meta.key.group)
}

/// What a host of a resource means.
pub(super) enum Host {
    /// This Service.
    Service(Name),
    /// Every Service whose full name ends so (`.prod.svc.cluster.local`).
    Wildcard(Vec<Name>),
    /// Nothing that is known.
    Unknown,
}

/// Resolves `host` as it stands in a resource of `namespace`.
pub(super) fn resolve(host: &str, namespace: &str, catalog: &Catalog, settings: &Settings) -> Host {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    if let Some(suffix) = host.strip_prefix('*') {
        let names = catalog.services.iter().map(|(namespace, name, _)| (namespace.to_owned(), name.clone()));
        return Host::Wildcard(names.filter(|name| full(name, settings).ends_with(suffix)).collect());
    }
    let outside = || {
        let entry = catalog.entries.of_host(&host, namespace);
        entry.filter(|(name, _)| name.1 == host).map_or(Host::Unknown, |(name, _)| Host::Service(name.clone()))
    };
    match name::service(&host, namespace, &settings.cluster_domain) {
        Some(found) if found.pod.is_none() => {
            let name = (found.namespace, found.service);
            if catalog.services.contains_key(&name) { Host::Service(name) } else { outside() }
        }
        _ => outside(),
    }
}

/// Name in full: of a Service in the cluster, or a host of the outside.
pub(super) fn full((namespace, name): &Name, settings: &Settings) -> String {
    // No name of a Service has a dot, every host of a ServiceEntry has one.
    if name.contains('.') { name.clone() } else { format!("{name}.{namespace}.svc.{}", settings.cluster_domain) }
}

/// Whether a resource with this `exportTo` is seen by clients of namespace `client`.
pub(super) fn is_exported(export_to: &[String], meta: &Meta, client: &str) -> bool {
    export_to.is_empty()
        || export_to.iter().any(|to| match to.as_str() {
            "*" => true,
            "." => meta.key.namespace == client,
            namespace => namespace == client,
        })
}
