//! Applies events to the set of resources and hands out immutable snapshots of it; knows nothing of their meaning.

use crate::problem::Problem;
use crate::source::resource::{
    AuthorizationPolicy, DestinationRule, EndpointSlice, GRPCRoute, HTTPRoute, Named, PeerAuthentication, Pod,
    RateLimitPolicy, ReferenceGrant, Service, ServiceEntry, TCPRoute, TLSRoute, VirtualService,
};
use crate::source::{Event, Key, Resource};
use std::collections::BTreeMap;
use std::sync::Arc;

mod shelves;
mod table;

pub use shelves::Shelves;
pub use table::Table;

/// Every resource that is in force, by key, and what the source found wrong.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)] // the names are Kubernetes' own
pub struct Resources {
    pub namespaces: Table<Named>,
    pub service_accounts: Table<Named>,
    pub services: Shelves<Service>,
    pub endpoint_slices: Shelves<EndpointSlice>,
    pub pods: Shelves<Pod>,
    pub virtual_services: Shelves<VirtualService>,
    pub destination_rules: Shelves<DestinationRule>,
    pub authorization_policies: Table<AuthorizationPolicy>,
    pub peer_authentications: Table<PeerAuthentication>,
    pub service_entries: Table<ServiceEntry>,
    pub rate_limit_policies: Table<RateLimitPolicy>,
    pub http_routes: Shelves<HTTPRoute>,
    pub grpc_routes: Shelves<GRPCRoute>,
    pub tcp_routes: Shelves<TCPRoute>,
    pub tls_routes: Shelves<TLSRoute>,
    pub reference_grants: Table<ReferenceGrant>,
    /// Found while reading, by resource.
    pub found: BTreeMap<Key, Vec<Problem>>,
    /// Generation of the latest version of what cannot be used; the version in force, if any, is an older one.
    pub refused: BTreeMap<Key, i64>,
    /// Of the source as a whole.
    pub reported: Vec<Problem>,
}

/// The current set of resources.
#[derive(Debug, Default)]
pub struct Index {
    resources: Arc<Resources>,
    synced: bool,
}

impl Index {
    /// An index that holds nothing and is not synced.
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies `events` in order; true when a snapshot differs from the one before.
    pub fn apply(&mut self, events: impl IntoIterator<Item = Event>) -> bool {
        let mut changed = false;
        for event in events {
            match event {
                Event::Synced => self.synced = true,
                event => {
                    changed = true;
                    Arc::make_mut(&mut self.resources).apply(event);
                }
            }
        }
        changed
    }

    /// The resources as they are now.
    pub fn snapshot(&self) -> Arc<Resources> {
        Arc::clone(&self.resources)
    }

    /// Whether the source has sent everything that existed at its start.
    pub fn is_synced(&self) -> bool {
        self.synced
    }
}

impl Resources {
    /// Applies one event; [`Event::Synced`] changes nothing.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Upsert { resource, problems } => {
                self.refused.remove(&resource.meta().key);
                self.note(resource.meta().key.clone(), problems);
                self.insert(resource);
            }
            Event::Refused { key, generation, problems } => {
                self.refused.insert(key.clone(), generation);
                self.note(key, problems);
            }
            Event::Delete(key) => {
                self.found.remove(&key);
                self.refused.remove(&key);
                self.remove(&key);
            }
            Event::Report(problems) => self.reported = problems,
            Event::Synced => {}
        }
    }

    /// Number of resources in force.
    pub fn len(&self) -> usize {
        self.namespaces.len()
            + self.service_accounts.len()
            + self.services.len()
            + self.endpoint_slices.len()
            + self.pods.len()
            + self.virtual_services.len()
            + self.destination_rules.len()
            + self.authorization_policies.len()
            + self.peer_authentications.len()
            + self.service_entries.len()
            + self.rate_limit_policies.len()
            + self.http_routes.len()
            + self.grpc_routes.len()
            + self.tcp_routes.len()
            + self.tls_routes.len()
            + self.reference_grants.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A copy that shares no table with this one.
    #[cfg(test)]
    pub(crate) fn apart(&self) -> Self {
        Self {
            namespaces: self.namespaces.apart(),
            service_accounts: self.service_accounts.apart(),
            services: self.services.apart(),
            endpoint_slices: self.endpoint_slices.apart(),
            pods: self.pods.apart(),
            virtual_services: self.virtual_services.apart(),
            destination_rules: self.destination_rules.apart(),
            authorization_policies: self.authorization_policies.apart(),
            peer_authentications: self.peer_authentications.apart(),
            service_entries: self.service_entries.apart(),
            rate_limit_policies: self.rate_limit_policies.apart(),
            http_routes: self.http_routes.apart(),
            grpc_routes: self.grpc_routes.apart(),
            tcp_routes: self.tcp_routes.apart(),
            tls_routes: self.tls_routes.apart(),
            reference_grants: self.reference_grants.apart(),
            found: self.found.clone(),
            refused: self.refused.clone(),
            reported: self.reported.clone(),
        }
    }

    fn note(&mut self, key: Key, problems: Vec<Problem>) {
        if problems.is_empty() {
            self.found.remove(&key);
        } else {
            self.found.insert(key, problems);
        }
    }

    fn insert(&mut self, resource: Resource) {
        let key = resource.meta().key.clone();
        match resource {
            Resource::Namespace(r) => self.namespaces.insert(key, r),
            Resource::ServiceAccount(r) => self.service_accounts.insert(key, r),
            Resource::Service(r) => self.services.insert(key, r),
            Resource::EndpointSlice(r) => self.endpoint_slices.insert(key, r),
            Resource::Pod(r) => self.pods.insert(key, r),
            Resource::VirtualService(r) => self.virtual_services.insert(key, r),
            Resource::DestinationRule(r) => self.destination_rules.insert(key, r),
            Resource::AuthorizationPolicy(r) => self.authorization_policies.insert(key, r),
            Resource::PeerAuthentication(r) => self.peer_authentications.insert(key, r),
            Resource::ServiceEntry(r) => self.service_entries.insert(key, r),
            Resource::RateLimitPolicy(r) => self.rate_limit_policies.insert(key, r),
            Resource::HTTPRoute(r) => self.http_routes.insert(key, r),
            Resource::GRPCRoute(r) => self.grpc_routes.insert(key, r),
            Resource::TCPRoute(r) => self.tcp_routes.insert(key, r),
            Resource::TLSRoute(r) => self.tls_routes.insert(key, r),
            Resource::ReferenceGrant(r) => self.reference_grants.insert(key, r),
        }
    }

    fn remove(&mut self, key: &Key) {
        use crate::source::Kind;
        match key.kind {
            Kind::Namespace => self.namespaces.remove(key),
            Kind::ServiceAccount => self.service_accounts.remove(key),
            Kind::Service => self.services.remove(key),
            Kind::EndpointSlice => self.endpoint_slices.remove(key),
            Kind::Pod => self.pods.remove(key),
            Kind::VirtualService => self.virtual_services.remove(key),
            Kind::DestinationRule => self.destination_rules.remove(key),
            Kind::AuthorizationPolicy => self.authorization_policies.remove(key),
            Kind::PeerAuthentication => self.peer_authentications.remove(key),
            Kind::ServiceEntry => self.service_entries.remove(key),
            Kind::RateLimitPolicy => self.rate_limit_policies.remove(key),
            Kind::HTTPRoute => self.http_routes.remove(key),
            Kind::GRPCRoute => self.grpc_routes.remove(key),
            Kind::TCPRoute => self.tcp_routes.remove(key),
            Kind::TLSRoute => self.tls_routes.remove(key),
            Kind::ReferenceGrant => self.reference_grants.remove(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::resource::{Kind, Meta, Origin};

    fn named(name: &str) -> Resource {
        let key = Key { kind: Kind::Namespace, namespace: String::new(), name: name.into(), group: String::new() };
        let meta = Meta {
            key,
            labels: BTreeMap::new(),
            created: 0,
            generation: 0,
            uid: String::new(),
            origin: Arc::new(Origin::default()),
            unsupported: Vec::new(),
        };
        Resource::Namespace(Arc::new(Named { meta }))
    }

    #[test]
    fn a_snapshot_does_not_change_with_later_events() {
        let mut index = Index::new();
        assert!(index.apply([Event::Upsert { resource: named("a"), problems: Vec::new() }]));
        let before = index.snapshot();
        let key = named("a").meta().key.clone();
        index.apply([Event::Delete(key), Event::Upsert { resource: named("b"), problems: Vec::new() }]);
        assert_eq!((before.len(), index.snapshot().len()), (1, 1));
        assert!(before.namespaces.keys().all(|k| k.name == "a"));
    }

    #[test]
    fn a_refused_version_leaves_the_one_before_and_its_problems_go_when_it_is_mended() {
        let mut index = Index::new();
        let key = named("a").meta().key.clone();
        let problem = named("a").meta().problem(crate::problem::Severity::Error, "x", "", String::new(), "");
        index.apply([Event::Upsert { resource: named("a"), problems: Vec::new() }]);
        index.apply([Event::Refused { key, generation: 2, problems: vec![problem] }]);
        assert_eq!((index.snapshot().len(), index.snapshot().found.len()), (1, 1));
        assert_eq!(index.snapshot().refused.values().copied().collect::<Vec<_>>(), [2]);
        index.apply([Event::Upsert { resource: named("a"), problems: Vec::new() }]);
        assert!(index.snapshot().found.is_empty() && index.snapshot().refused.is_empty());
    }

    #[test]
    fn synced_is_no_change_of_the_resources() {
        let mut index = Index::new();
        assert!(!index.apply([Event::Synced]));
        assert!(index.is_synced());
    }
}
