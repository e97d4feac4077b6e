//! Applies events to the set of resources and hands out immutable snapshots of it; knows nothing of their meaning.

use crate::problem::Problem;
use crate::source::resource::{
    AuthorizationPolicy, DestinationRule, EndpointSlice, GRPCRoute, HTTPRoute, Named, PeerAuthentication, Pod,
    RateLimitPolicy, ReferenceGrant, Service, ServiceEntry, TCPRoute, TLSRoute, VirtualService,
};
use crate::source::{Event, Key, Resource};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Every resource that is in force, by key, and what the source found wrong.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)] // the names are Kubernetes' own
pub struct Resources {
    pub namespaces: BTreeMap<Key, Arc<Named>>,
    pub service_accounts: BTreeMap<Key, Arc<Named>>,
    pub services: BTreeMap<Key, Arc<Service>>,
    pub endpoint_slices: BTreeMap<Key, Arc<EndpointSlice>>,
    pub pods: BTreeMap<Key, Arc<Pod>>,
    pub virtual_services: BTreeMap<Key, Arc<VirtualService>>,
    pub destination_rules: BTreeMap<Key, Arc<DestinationRule>>,
    pub authorization_policies: BTreeMap<Key, Arc<AuthorizationPolicy>>,
    pub peer_authentications: BTreeMap<Key, Arc<PeerAuthentication>>,
    pub service_entries: BTreeMap<Key, Arc<ServiceEntry>>,
    pub rate_limit_policies: BTreeMap<Key, Arc<RateLimitPolicy>>,
    pub http_routes: BTreeMap<Key, Arc<HTTPRoute>>,
    pub grpc_routes: BTreeMap<Key, Arc<GRPCRoute>>,
    pub tcp_routes: BTreeMap<Key, Arc<TCPRoute>>,
    pub tls_routes: BTreeMap<Key, Arc<TLSRoute>>,
    pub reference_grants: BTreeMap<Key, Arc<ReferenceGrant>>,
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
            Resource::Namespace(r) => drop(self.namespaces.insert(key, r)),
            Resource::ServiceAccount(r) => drop(self.service_accounts.insert(key, r)),
            Resource::Service(r) => drop(self.services.insert(key, r)),
            Resource::EndpointSlice(r) => drop(self.endpoint_slices.insert(key, r)),
            Resource::Pod(r) => drop(self.pods.insert(key, r)),
            Resource::VirtualService(r) => drop(self.virtual_services.insert(key, r)),
            Resource::DestinationRule(r) => drop(self.destination_rules.insert(key, r)),
            Resource::AuthorizationPolicy(r) => drop(self.authorization_policies.insert(key, r)),
            Resource::PeerAuthentication(r) => drop(self.peer_authentications.insert(key, r)),
            Resource::ServiceEntry(r) => drop(self.service_entries.insert(key, r)),
            Resource::RateLimitPolicy(r) => drop(self.rate_limit_policies.insert(key, r)),
            Resource::HTTPRoute(r) => drop(self.http_routes.insert(key, r)),
            Resource::GRPCRoute(r) => drop(self.grpc_routes.insert(key, r)),
            Resource::TCPRoute(r) => drop(self.tcp_routes.insert(key, r)),
            Resource::TLSRoute(r) => drop(self.tls_routes.insert(key, r)),
            Resource::ReferenceGrant(r) => drop(self.reference_grants.insert(key, r)),
        }
    }

    fn remove(&mut self, key: &Key) {
        use crate::source::Kind;
        match key.kind {
            Kind::Namespace => drop(self.namespaces.remove(key)),
            Kind::ServiceAccount => drop(self.service_accounts.remove(key)),
            Kind::Service => drop(self.services.remove(key)),
            Kind::EndpointSlice => drop(self.endpoint_slices.remove(key)),
            Kind::Pod => drop(self.pods.remove(key)),
            Kind::VirtualService => drop(self.virtual_services.remove(key)),
            Kind::DestinationRule => drop(self.destination_rules.remove(key)),
            Kind::AuthorizationPolicy => drop(self.authorization_policies.remove(key)),
            Kind::PeerAuthentication => drop(self.peer_authentications.remove(key)),
            Kind::ServiceEntry => drop(self.service_entries.remove(key)),
            Kind::RateLimitPolicy => drop(self.rate_limit_policies.remove(key)),
            Kind::HTTPRoute => drop(self.http_routes.remove(key)),
            Kind::GRPCRoute => drop(self.grpc_routes.remove(key)),
            Kind::TCPRoute => drop(self.tcp_routes.remove(key)),
            Kind::TLSRoute => drop(self.tls_routes.remove(key)),
            Kind::ReferenceGrant => drop(self.reference_grants.remove(key)),
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
