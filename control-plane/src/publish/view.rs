//! The configuration in force as the streams see it. What one client was answered is kept for all that get the same answer,
//! so that a change is compiled once, not once for each stream.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use causeway_mesh::{directory, wire};
use prost::Message as _;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::compile::{Answer, Client, Model, Parts, Topic, Touched};
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
    /// What it depends on; None where that may be anything.
    pub uses: Option<Box<[Mark]>>,
}

/// Stands for a topic, in less room. Two may have the same: then too much is taken for touched.
pub type Mark = u64;

fn mark(topic: &Topic) -> Mark {
    match topic {
        Topic::Service((namespace, name)) => xxh3_64_with_seed(name.as_bytes(), xxh3_64(namespace.as_bytes())),
        Topic::Address(IpAddr::V4(ip)) => xxh3_64_with_seed(&ip.octets(), 1),
        Topic::Address(IpAddr::V6(ip)) => xxh3_64_with_seed(&ip.octets(), 1),
        Topic::Entries(namespace) => xxh3_64_with_seed(namespace.as_bytes(), 2),
    }
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

    /// It depends on these alone.
    fn using(self, topics: &[Topic]) -> Self {
        Self { uses: Some(topics.iter().map(mark).collect()), ..self }
    }

    /// Whether nothing that it depends on was touched.
    fn is_untouched(&self, touched: &HashSet<Mark>) -> bool {
        self.uses.as_ref().is_some_and(|uses| !uses.iter().any(|topic| touched.contains(topic)))
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
    /// Which of the destinations and endpoints that a client found as it `looked` it may find otherwise now, as places in
    /// [`Looked::rest`]; None: anything may be otherwise. May say too much.
    fn touched(&self, _client: &Client, _looked: &Looked) -> Option<Vec<usize>> {
        None
    }
    /// Whether a client that `looked` before this configuration would find the same now, and is who it was. Cheap; may say no
    /// too often.
    fn passes(&self, _client: &Client, _looked: &Looked) -> bool {
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
    /// What each of these depends on.
    pub uses: Uses,
}

/// Which of several answers depend on what.
#[derive(Clone, Debug, Default)]
pub struct Uses {
    /// A topic, and the place of an answer that depends on it; sorted.
    by_topic: Vec<(Mark, u32)>,
    /// Places of answers that may depend on anything.
    on_anything: Vec<u32>,
}

impl Uses {
    /// Of these answers.
    pub fn of(answers: &[Arc<Prepared>]) -> Self {
        let mut all = Self::default();
        for (place, answer) in (0..).zip(answers) {
            match &answer.uses {
                Some(topics) => all.by_topic.extend(topics.iter().map(|topic| (*topic, place))),
                None => all.on_anything.push(place),
            }
        }
        all.by_topic.sort_unstable();
        all.by_topic.shrink_to_fit();
        all
    }

    /// Places of the answers that depend on any of `topics`, sorted.
    fn touched(&self, topics: &HashSet<Mark>) -> Vec<usize> {
        let of = |topic: Mark| {
            let first = self.by_topic.partition_point(|(t, _)| *t < topic);
            self.by_topic[first..].iter().take_while(move |(t, _)| *t == topic).map(|(_, place)| *place)
        };
        let mut places: BTreeSet<u32> = self.on_anything.iter().copied().collect();
        if topics.len() < self.by_topic.len() {
            places.extend(topics.iter().copied().flat_map(of));
        } else {
            places.extend(self.by_topic.iter().filter(|(topic, _)| topics.contains(topic)).map(|(_, place)| *place));
        }
        places.into_iter().map(|place| place as usize).collect()
    }
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
    /// What differs from the configuration before; None: anything may.
    change: Option<Change>,
}

/// What differs between one configuration and the one before.
#[derive(Debug)]
struct Change {
    /// Serial of the one before.
    from: u64,
    topics: HashSet<Mark>,
    touched: Touched,
}

impl Change {
    /// Whether the client's own workload is as before, and its pod too.
    fn leaves_workload_of(&self, client: &Client) -> bool {
        let is_own_touched = || self.touched.pods.contains(&(client.namespace.clone(), client.pod.clone()));
        !self.touched.workloads && (self.touched.pods.is_empty() || !is_own_touched())
    }
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
            Some(before) if self.model.has_subjects_of(&before.model) => Arc::clone(&before.since),
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
                let change = Change { from: before.serial, topics: touched.topics.iter().map(mark).collect(), touched };
                self.take_over(before, &change);
                self.change = Some(change);
            }
        }
        self
    }

    /// Takes the answers that were not touched and that somebody still uses. They are taken away from `before`: who still looks
    /// at that finds the same there by asking its model again.
    fn take_over(&mut self, before: &Self, change: &Change) {
        // One count is that of the map itself.
        let is_kept = |p: &Arc<Prepared>| Arc::strong_count(p) > 1 && p.is_untouched(&change.topics);
        for (own, last) in [(&mut self.destinations, &before.destinations), (&mut self.endpoints, &before.endpoints)] {
            let mut all = taken(last);
            all.retain(|_, p| is_kept(p));
            *own = RwLock::new(all);
        }
        let mut all = taken(&before.prefetched);
        all.retain(|namespace, _| !change.touched.namespaces.contains(namespace));
        self.prefetched = RwLock::new(all);
        let mut all = taken(&before.shared);
        all.retain(|c| Arc::strong_count(c) > 1);
        self.shared = RwLock::new(all);
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

    fn has_roots_and_prefetch_of(&self, client: &Client, looked: &Looked, change: &Change) -> bool {
        let is_prefetch_same =
            || !change.touched.namespaces.contains(&client.namespace) || self.prefetch(client) == looked.prefetch;
        *self.prepared_trust == *looked.trust && is_prefetch_same()
    }

    fn scope(&self, client: &Client, text: &str) -> String {
        format!("{text}\0{}", self.model.distinction(client))
    }
}

/// When each version came: as before where it is the same, else now.
fn since<'a>(
    versions: impl Iterator<Item = (&'a Arc<Key>, u64)> + Clone,
    before: Option<&Since>,
    serial: u64,
) -> Since {
    // A version in place of another leaves the keys where they are.
    if let Some(before) = before.filter(|b| b.keys().map(Arc::as_ptr).eq(versions.clone().map(|(k, _)| Arc::as_ptr(k))))
    {
        let mut all = before.clone();
        let other = versions.zip(before.values()).filter(|((_, version), came)| came.version != *version);
        all.extend(other.map(|((key, version), _)| (Arc::clone(key), Came { version, serial })));
        return all;
    }
    let came = |key: &Arc<Key>, version| {
        let known = before.and_then(|b| b.get(key)).filter(|c| c.version == version);
        known.copied().unwrap_or(Came { version, serial })
    };
    versions.map(|(key, version)| (Arc::clone(key), came(key, version))).collect()
}

fn taken<T: Default>(from: &RwLock<T>) -> T {
    std::mem::take(&mut *from.write().unwrap_or_else(PoisonError::into_inner))
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
            let Answer { destination, parts, topics } = self.model.answer(client, text);
            let body = wire::resource::Body::Destination(destination);
            Arc::new(Prepared::new(format!("destination/{text}"), body, parts).using(&topics))
        })
    }

    fn endpoints(&self, backend: &str) -> Arc<Prepared> {
        kept(&self.endpoints, backend, || {
            let found = self.model.endpoints(backend).unwrap_or_default();
            let body = wire::resource::Body::Endpoints(found);
            let made = Prepared::new(format!("endpoints/{backend}"), body, Parts::default());
            Arc::new(made.using(&self.model.used_by_backend(backend)))
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

    fn touched(&self, client: &Client, looked: &Looked) -> Option<Vec<usize>> {
        let change = self.change.as_ref().filter(|change| change.from == looked.serial)?;
        let is_workload_same = || {
            change.leaves_workload_of(client)
                || !self.model.looks_at_pods() && *self.workload(client) == *looked.workload
        };
        let is_rest_all = self.has_roots_and_prefetch_of(client, looked, change) && is_workload_same();
        is_rest_all.then(|| looked.uses.touched(&change.topics))
    }

    fn passes(&self, client: &Client, looked: &Looked) -> bool {
        self.change.as_ref().filter(|change| change.from == looked.serial).is_some_and(|change| {
            change.leaves_workload_of(client)
                && looked.uses.touched(&change.topics).is_empty()
                && self.has_roots_and_prefetch_of(client, looked, change)
        })
    }
}

#[cfg(test)]
mod tests;
