//! The configuration in force as the streams see it. What one client was answered is kept for all that get the same answer,
//! so that a change is compiled once, not once for each stream.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use causeway_mesh::{directory, wire};
use prost::Message as _;

use crate::compile::{Client, Model, Parts, Touched};
use crate::source::Key;

/// Keys of all resources that concern a proxy.
pub type Concerns = BTreeSet<Arc<Key>>;

/// One resource of the wire, ready to be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    /// With the hash of its content as version.
    pub resource: wire::Resource,
    /// Resources of the user's API that took part in it.
    pub parts: Parts,
    /// The Services that it depends on, `(namespace, name)`; None where it may depend on anything.
    pub uses: Option<Vec<(String, String)>>,
}

impl Prepared {
    /// Names it and gives it its version.
    pub fn new(name: String, body: wire::resource::Body, parts: Parts) -> Self {
        let requires = super::feature::required(&body);
        let mut resource = wire::Resource { name: String::new(), version: 0, requires, body: Some(body) };
        resource.version = directory::version(&resource.encode_to_vec());
        resource.name = name;
        Self { resource, parts, uses: None }
    }

    /// It depends on these Services alone.
    fn using(self, uses: Option<Vec<(String, String)>>) -> Self {
        Self { uses, ..self }
    }

    /// Whether nothing that it depends on was touched.
    fn is_untouched(&self, touched: &Touched) -> bool {
        self.uses.as_ref().is_some_and(|uses| !uses.iter().any(|service| touched.services.contains(service)))
    }

    /// Backends that it names, if it is a destination.
    pub fn backends(&self) -> &[wire::Backend] {
        match &self.resource.body {
            Some(wire::resource::Body::Destination(destination)) => &destination.backends,
            _ => &[],
        }
    }
}

/// Where a session looks up what its proxy shall hold.
pub trait Catalogue {
    /// Grows with each configuration that is put in force.
    fn serial(&self) -> u64;
    /// What traffic of `client` to `text` becomes.
    fn destination(&self, client: &Client, text: &str) -> Arc<Prepared>;
    /// Endpoints of a backend that a destination names.
    fn endpoints(&self, backend: &str) -> Arc<Prepared>;
    /// What concerns the client's own workload.
    fn workload(&self, client: &Client) -> Arc<Prepared>;
    /// The trust bundle.
    fn trust(&self) -> Arc<Prepared>;
    /// What the client will most likely use.
    fn prefetch(&self, client: &Client) -> Arc<[String]>;
    /// The same set, shared with all who have an equal one.
    fn shared(&self, concerns: Concerns) -> Arc<Concerns>;
    /// Whether a client that has `looked` would find the same again. May say no without need.
    fn is_untouched(&self, _client: &Client, _looked: &Looked) -> bool {
        false
    }
}

/// What a client found when it looked at a configuration.
#[derive(Clone, Debug)]
pub struct Looked {
    /// [`Catalogue::serial`] of that configuration.
    pub serial: u64,
    /// [`Catalogue::workload`]
    pub workload: Arc<Prepared>,
    /// [`Catalogue::trust`]
    pub trust: Arc<Prepared>,
    /// [`Catalogue::prefetch`]
    pub prefetch: Arc<[String]>,
    /// Destinations and endpoints.
    pub rest: Vec<Arc<Prepared>>,
}

/// What is in force of a resource, and since which [`Catalogue::serial`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Came {
    /// [`crate::compile::Subject::version`]
    pub version: u64,
    /// Serial of the first configuration that has it.
    pub serial: u64,
}

/// By resource.
pub type Since = BTreeMap<Arc<Key>, Came>;

/// The configuration in force, immutable but for what it remembers.
#[derive(Debug)]
pub struct View {
    /// What the resources say.
    pub model: Arc<Model>,
    /// The roots in force.
    pub trust: wire::TrustBundle,
    pub(super) serial: u64,
    pub(super) since: Arc<Since>,
    /// By text, and what of the client matters.
    destinations: RwLock<HashMap<String, Arc<Prepared>>>,
    endpoints: RwLock<HashMap<String, Arc<Prepared>>>,
    prefetched: RwLock<HashMap<String, Arc<[String]>>>,
    shared: RwLock<HashSet<Arc<Concerns>>>,
    prepared_trust: Arc<Prepared>,
    /// Serial of the configuration before, and what differs from it; None: anything may.
    change: Option<(u64, Touched)>,
}

impl View {
    /// A configuration, not yet in force.
    pub fn new(model: Arc<Model>, trust: wire::TrustBundle) -> Self {
        let body = wire::resource::Body::Trust(trust.clone());
        Self {
            model,
            trust,
            serial: 0,
            since: Arc::default(),
            destinations: RwLock::default(),
            endpoints: RwLock::default(),
            prefetched: RwLock::default(),
            shared: RwLock::default(),
            prepared_trust: Arc::new(Prepared::new("trust".to_owned(), body, Parts::default())),
            change: None,
        }
    }

    /// Comes after `before`, in force from `serial` on.
    pub(super) fn after(mut self, before: Option<&Self>, serial: u64) -> Self {
        self.serial = serial;
        self.since = match before {
            Some(before) if Arc::ptr_eq(&before.model, &self.model) => Arc::clone(&before.since),
            _ => {
                let known = before.map(|b| &*b.since);
                Arc::new(since(self.model.subjects().iter().map(|(k, s)| (k, s.version)), known, serial))
            }
        };
        if let Some(before) = before {
            let touched = match Arc::ptr_eq(&before.model, &self.model) {
                true => Some(Touched::default()),
                false => self.model.touched(&before.model).cloned(),
            };
            if let Some(touched) = touched {
                self.take_over(before, &touched);
                self.change = Some((before.serial, touched));
            }
        }
        self
    }

    /// Keeps the answers that were not touched and that somebody still uses.
    fn take_over(&mut self, before: &Self, touched: &Touched) {
        // One count is that of `before` itself.
        let is_kept = |(_, p): &(&String, &Arc<Prepared>)| p.is_untouched(touched) && Arc::strong_count(p) > 1;
        let kept = |all: &RwLock<HashMap<String, Arc<Prepared>>>| {
            let all = all.read().unwrap_or_else(PoisonError::into_inner);
            RwLock::new(all.iter().filter(is_kept).map(|(k, p)| (k.clone(), Arc::clone(p))).collect())
        };
        (self.destinations, self.endpoints) = (kept(&before.destinations), kept(&before.endpoints));
        let all = before.prefetched.read().unwrap_or_else(PoisonError::into_inner);
        let is_same = |(namespace, _): &(&String, &Arc<[String]>)| !touched.namespaces.contains(*namespace);
        self.prefetched = RwLock::new(all.iter().filter(is_same).map(|(k, p)| (k.clone(), Arc::clone(p))).collect());
        let all = before.shared.read().unwrap_or_else(PoisonError::into_inner);
        self.shared = RwLock::new(all.iter().filter(|c| Arc::strong_count(c) > 1).cloned().collect());
    }

    /// What is in force of each resource of the user's API, and since when.
    pub fn since(&self) -> &Since {
        &self.since
    }

    /// The resources that would concern a proxy of `client` that uses `texts`.
    pub fn concerns<'a>(&self, client: &Client, texts: impl IntoIterator<Item = &'a String>) -> Arc<Concerns> {
        let mut concerns: Concerns = self.model.workload_parts(client).iter().cloned().collect();
        let mut add = |text: &str| concerns.extend(self.destination(client, text).parts.iter().cloned());
        self.prefetch(client).iter().for_each(|text| add(text));
        texts.into_iter().for_each(|text| add(text));
        self.shared(concerns)
    }

    fn scope(&self, client: &Client, text: &str) -> String {
        format!("{text}\0{}", self.model.distinction(client))
    }
}

/// When each version came: as before where it is the same, else now.
fn since<'a>(versions: impl Iterator<Item = (&'a Arc<Key>, u64)>, before: Option<&Since>, serial: u64) -> Since {
    let came = |key: &Arc<Key>, version| {
        let known = before.and_then(|b| b.get(key)).filter(|c| c.version == version);
        known.copied().unwrap_or(Came { version, serial })
    };
    versions.map(|(key, version)| (Arc::clone(key), came(key, version))).collect()
}

/// What is kept under `key`, made and kept where it is not there.
fn kept<V: ?Sized>(all: &RwLock<HashMap<String, Arc<V>>>, key: &str, make: impl FnOnce() -> Arc<V>) -> Arc<V> {
    if let Some(found) = all.read().unwrap_or_else(PoisonError::into_inner).get(key) {
        return Arc::clone(found);
    }
    // Made outside the lock: another stream may make it too, and the first one is kept.
    let made = make();
    Arc::clone(all.write().unwrap_or_else(PoisonError::into_inner).entry(key.to_owned()).or_insert(made))
}

impl Catalogue for View {
    fn serial(&self) -> u64 {
        self.serial
    }

    fn destination(&self, client: &Client, text: &str) -> Arc<Prepared> {
        kept(&self.destinations, &self.scope(client, text), || {
            let (found, parts) = self.model.destination_and_parts(client, text);
            let uses = self.model.used_by(&found);
            let body = wire::resource::Body::Destination(found);
            Arc::new(Prepared::new(format!("destination/{text}"), body, parts).using(uses))
        })
    }

    fn endpoints(&self, backend: &str) -> Arc<Prepared> {
        kept(&self.endpoints, backend, || {
            let found = self.model.endpoints(backend).unwrap_or_default();
            let body = wire::resource::Body::Endpoints(found);
            let made = Prepared::new(format!("endpoints/{backend}"), body, Parts::default());
            Arc::new(made.using(self.model.used_by_backend(backend)))
        })
    }

    fn workload(&self, client: &Client) -> Arc<Prepared> {
        let body = wire::resource::Body::Workload(self.model.workload(client));
        Arc::new(Prepared::new("workload".to_owned(), body, self.model.workload_parts(client)))
    }

    fn trust(&self) -> Arc<Prepared> {
        Arc::clone(&self.prepared_trust)
    }

    fn prefetch(&self, client: &Client) -> Arc<[String]> {
        kept(&self.prefetched, &client.namespace, || self.model.prefetch(client).into())
    }

    fn shared(&self, concerns: Concerns) -> Arc<Concerns> {
        if let Some(found) = self.shared.read().unwrap_or_else(PoisonError::into_inner).get(&concerns) {
            return Arc::clone(found);
        }
        let made = Arc::new(concerns);
        let mut all = self.shared.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = all.get(&made) {
            return Arc::clone(found);
        }
        all.insert(Arc::clone(&made));
        made
    }

    fn is_untouched(&self, client: &Client, looked: &Looked) -> bool {
        let Some((_, touched)) = self.change.as_ref().filter(|(before, _)| *before == looked.serial) else {
            return false;
        };
        let is_workload_same =
            || !touched.workloads || !self.model.looks_at_pods() && *self.workload(client) == *looked.workload;
        let is_prefetch_same =
            || !touched.namespaces.contains(&client.namespace) || self.prefetch(client) == looked.prefetch;
        looked.rest.iter().all(|p| p.is_untouched(touched))
            && *self.prepared_trust == *looked.trust
            && is_prefetch_same()
            && is_workload_same()
    }
}

#[cfg(test)]
mod tests;
