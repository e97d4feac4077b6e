//! A batch of the stream against what is held: all of it or nothing. No I/O, no clock.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use causeway_mesh::config::{self, Fault, Resource};
use causeway_mesh::directory;
use causeway_mesh::svid::Roots;
use causeway_mesh::wire;

use super::Snapshot;

const DESTINATION: &str = "destination/";
const ENDPOINTS: &str = "endpoints/";

/// Whose configuration this must be.
#[derive(Clone, Debug)]
pub(super) struct Own {
    pub(super) namespace: String,
    pub(super) pod: String,
    pub(super) trust_domain: String,
}

impl Own {
    pub(super) fn workload(&self) -> String {
        format!("{}/{}", self.namespace, self.pod)
    }
}

#[derive(Clone, Debug)]
struct Entry {
    version: u64,
    raw: Arc<wire::Resource>,
    decoded: Resource,
}

/// All resources in force, by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Held(BTreeMap<Arc<str>, Entry>);

/// A batch in which every resource was understood.
#[derive(Debug, Default)]
pub(super) struct Batch {
    upserts: BTreeMap<Arc<str>, Entry>,
    removed: HashSet<String>,
}

impl Batch {
    /// Understands a batch, or says everything that is wrong with it.
    pub(super) fn decode<R: AsRef<wire::Resource>>(
        resources: &[R],
        removed: &[String],
        held: &Held,
        own: &Own,
    ) -> Result<Self, Vec<Fault>> {
        let mut batch = Self { upserts: BTreeMap::new(), removed: removed.iter().cloned().collect() };
        let mut faults = Vec::new();
        for resource in resources.iter().map(AsRef::as_ref) {
            match decode(resource, held, own) {
                Ok((name, entry)) => {
                    if batch.upserts.insert(name, entry).is_some() {
                        faults.push(fault(&resource.name, "name", "is twice in one batch"));
                    }
                }
                Err(more) => faults.extend(more),
            }
        }
        if faults.is_empty() { Ok(batch) } else { Err(faults) }
    }

    fn touches(&self, name: &str) -> bool {
        self.upserts.contains_key(name) || self.removed.contains(name)
    }
}

fn fault(resource: &str, field: &str, message: &str) -> Fault {
    Fault { resource: resource.to_owned(), field: field.to_owned(), message: message.to_owned() }
}

fn decode(resource: &wire::Resource, held: &Held, own: &Own) -> Result<(Arc<str>, Entry), Vec<Fault>> {
    if let Some((name, entry)) = held.0.get_key_value(resource.name.as_str())
        && entry.version == resource.version
    {
        return Ok((name.clone(), entry.clone()));
    }
    let mut decoded = config::decode(resource)?;
    check(resource, &decoded, own).map_err(|fault| vec![fault])?;
    let name = match held.0.get_key_value(resource.name.as_str()) {
        Some((name, entry)) => {
            if let (Resource::Endpoints(was), Resource::Endpoints(now)) = (&entry.decoded, &mut decoded)
                && was == now
            {
                *now = was.clone();
            }
            name.clone()
        }
        None => resource.name.as_str().into(),
    };
    Ok((name, Entry { version: resource.version, raw: Arc::new(resource.clone()), decoded }))
}

/// What decoding alone cannot know: that the body is what the name says, and that it is ours.
fn check(resource: &wire::Resource, decoded: &Resource, own: &Own) -> Result<(), Fault> {
    let name = resource.name.as_str();
    let fits = match decoded {
        Resource::Workload(_) => name == "workload",
        Resource::Trust(_) => name == "trust",
        Resource::Destination(_) => name.strip_prefix(DESTINATION).is_some_and(|n| !n.is_empty()),
        Resource::Endpoints(_) => name.strip_prefix(ENDPOINTS).is_some_and(|n| !n.is_empty()),
    };
    if !fits {
        return Err(fault(name, "body", "is not what the name says"));
    }
    match decoded {
        Resource::Workload(w) if w.namespace != own.namespace || w.pod != own.pod => {
            let message = format!("is {}/{}, this proxy is of {}", w.namespace, w.pod, own.workload());
            Err(fault(name, "pod", &message))
        }
        Resource::Trust(t) if t.trust_domain != own.trust_domain => {
            let message = format!("is `{}`, ours is `{}`", t.trust_domain, own.trust_domain);
            Err(fault(name, "trust_domain", &message))
        }
        Resource::Trust(t) => {
            Roots::new(&own.trust_domain, &t.roots).map(drop).map_err(|e| fault(name, "roots_der", &e.to_string()))
        }
        _ => Ok(()),
    }
}

impl Held {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// `(name, version)` of everything held.
    pub(super) fn versions(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, entry)| (&**name, entry.version))
    }

    /// Texts of the destinations held.
    pub(super) fn destinations(&self) -> impl Iterator<Item = &str> {
        self.0.keys().filter_map(|name| name.strip_prefix(DESTINATION))
    }

    /// Everything as it came over the wire.
    pub(super) fn raw(&self) -> Vec<Arc<wire::Resource>> {
        self.0.values().map(|entry| entry.raw.clone()).collect()
    }

    /// The digest that would result from applying `batch`.
    pub(super) fn digest_after(&self, batch: &Batch) -> u64 {
        let kept = self.versions().filter(|(name, _)| !batch.touches(name));
        directory::digest(kept.chain(batch.upserts.iter().map(|(name, entry)| (&**name, entry.version))))
    }

    /// Brings `batch` in force.
    pub(super) fn apply(&mut self, batch: Batch) {
        self.0.retain(|name, _| !batch.removed.contains(&**name));
        self.0.extend(batch.upserts);
    }

    /// What the data plane sees, one generation after `last`.
    pub(super) fn snapshot(&self, last: &Snapshot) -> Snapshot {
        let mut snapshot = Snapshot { generation: last.generation + 1, ..Snapshot::default() };
        for (name, entry) in &self.0 {
            match &entry.decoded {
                Resource::Workload(workload) => snapshot.workload = Some(workload.clone()),
                Resource::Trust(trust) => snapshot.trust = Some(trust.clone()),
                Resource::Destination(destination) => {
                    let text = short(name, DESTINATION, last.destinations.get_key_value(&name[DESTINATION.len()..]));
                    snapshot.destinations.insert(text, destination.clone());
                }
                Resource::Endpoints(endpoints) => {
                    let backend = short(name, ENDPOINTS, last.endpoints.get_key_value(&name[ENDPOINTS.len()..]));
                    snapshot.endpoints.insert(backend, endpoints.clone());
                }
            }
        }
        snapshot
    }
}

/// The name without its prefix, the same `Arc` as before where there is one.
fn short<V>(name: &Arc<str>, prefix: &str, before: Option<(&Arc<str>, V)>) -> Arc<str> {
    before.map_or_else(|| name[prefix.len()..].into(), |(text, _)| text.clone())
}

#[cfg(test)]
mod tests;
