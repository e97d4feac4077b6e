//! What an answer was read from, noted while it is read: while none of that changes, the answer need not be worked out again.
//!
//! Also what is not there is noted, so that who asked for it hears when it comes.

use super::catalog::Catalog;
use super::lowered::{Reference, RouteResource};
use super::scope::{Host, resolve};
use super::{Name, Settings, alias};
use causeway_mesh::name;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Something that an answer may depend on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// What has this name, `(namespace, name)`: a Service or a host of a ServiceEntry with its routes, rules and endpoints,
    /// or nothing.
    Service(Name),
    /// Whose this address is: a Service's, a pod's, nobody's.
    Address(IpAddr),
    /// The ServiceEntries of this namespace, as far as addresses and ports lead to them. Which pods have an address that one
    /// lists is not meant.
    Entries(String),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Asked(RefCell<BTreeSet<Topic>>);

impl Asked {
    pub(super) fn service(&self, name: &Name) {
        self.note(Topic::Service(name.clone()));
    }

    pub(super) fn address(&self, ip: IpAddr) {
        self.note(Topic::Address(ip));
    }

    /// What [`super::external::Entries::at`] looks at.
    pub(super) fn entries(&self, namespace: &str, settings: &Settings) {
        self.note(Topic::Entries(namespace.to_owned()));
        self.note(Topic::Entries(settings.root_namespace.clone()));
    }

    /// What [`super::external::Entries::of_host`] looks at.
    pub(super) fn outside(&self, host: &str, namespace: &str, settings: &Settings) {
        let wildcards = host.match_indices('.').map(|(dot, _)| format!("*{}", &host[dot..]));
        for host in std::iter::once(host.to_owned()).chain(wildcards) {
            for owner in [namespace, &settings.root_namespace] {
                self.note(Topic::Service((owner.to_owned(), host.clone())));
            }
        }
    }

    /// What [`alias::follow`] looks at.
    pub(super) fn alias(&self, start: &Name, catalog: &Catalog, settings: &Settings) {
        alias::followed(start, catalog, settings, |name| self.service(name));
    }

    /// What a resource of `namespace` leads to by `host`.
    pub(super) fn named(&self, host: &str, namespace: &str, catalog: &Catalog, settings: &Settings) {
        let written = host.trim_end_matches('.').to_ascii_lowercase();
        let inside = name::service(&written, namespace, &settings.cluster_domain).filter(|found| found.pod.is_none());
        let inside = inside.map(|found| (found.namespace, found.service));
        inside.iter().for_each(|name| self.service(name));
        if !inside.is_some_and(|name| catalog.services.contains_key(&name)) {
            self.outside(&written, namespace, settings);
        }
        if let Host::Service(name) = resolve(host, namespace, catalog, settings) {
            self.alias(&name, catalog, settings);
        }
    }

    /// What the destinations and mirrors of a route lead to, whether they are there or not.
    pub(super) fn references(&self, resource: &RouteResource, catalog: &Catalog, settings: &Settings) {
        for reference in resource.references() {
            match reference {
                Reference::Named(to) => self.named(&to.host, &resource.meta.key.namespace, catalog, settings),
                Reference::Service { service, .. } => self.service(service),
                Reference::Broken(_) => {}
            }
        }
    }

    /// All that was noted, each once.
    pub(super) fn topics(&self) -> Vec<Topic> {
        self.0.borrow().iter().cloned().collect()
    }

    fn note(&self, topic: Topic) {
        self.0.borrow_mut().insert(topic);
    }
}
