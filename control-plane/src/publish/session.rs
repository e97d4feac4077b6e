//! One proxy's stream as a state machine: what it uses, what it holds, and what to send it next. Pure: no clock, no
//! channel, no gRPC.
//!
//! At most one batch is on its way. What a proxy refused is not sent again until it has changed; the rest goes on.

use std::collections::{BTreeMap, BTreeSet};

use causeway_mesh::{directory, wire};
use prost::Message as _;

use crate::compile::Client;

/// Destinations that one proxy may use at once.
pub const MAX_DESTINATIONS: usize = 10_000;
/// Longest `host:port`: 253 for a DNS name, and room for the port.
pub const MAX_TEXT: usize = 300;
/// Destinations that are sent unasked.
const MAX_PREFETCH: usize = 256;

/// Where a session looks up what its proxy shall hold.
pub trait Catalogue {
    /// What traffic of `client` to `text` becomes.
    fn destination(&self, client: &Client, text: &str) -> wire::Destination;
    /// Endpoints of a backend that a destination names.
    fn endpoints(&self, backend: &str) -> Option<wire::Endpoints>;
    /// What concerns the client's own workload.
    fn workload(&self, client: &Client) -> wire::Workload;
    /// The trust bundle.
    fn trust(&self) -> wire::TrustBundle;
    /// What the client will most likely use.
    fn prefetch(&self, client: &Client) -> Vec<String>;
}

/// Why a stream is ended: the proxy broke the rules of the wire.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// An ack or nack of something that is not on its way.
    #[error("unknown_nonce: batch {0} is not the one on its way")]
    Nonce(u64),
    /// Too many subscriptions.
    #[error("too_many_destinations: a proxy uses at most {MAX_DESTINATIONS} destinations at once")]
    TooMany,
    /// A destination that no name can be.
    #[error("destination_too_long: a destination has 1 to {MAX_TEXT} characters")]
    Text,
    /// A second Hello, or an empty request.
    #[error("unexpected_request: {0}")]
    Unexpected(&'static str),
    /// The removal of resources was refused, which leaves nothing to send.
    #[error("removal_refused: a batch that only removes cannot be refused")]
    Removal,
}

/// What a batch changes.
#[derive(Clone, Debug)]
struct Batch {
    nonce: u64,
    upserts: Vec<(String, u64)>,
    removed: Vec<String>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Session {
    client: Client,
    asked: BTreeSet<String>,
    /// What the ServiceAccount used before; sent unasked until the proxy says that it does not need it.
    remembered: BTreeSet<String>,
    held: BTreeMap<String, u64>,
    wanted: BTreeMap<String, u64>,
    in_flight: Option<Batch>,
    refused: BTreeMap<String, (u64, wire::Fault)>,
    nonce: u64,
}

impl Session {
    /// A stream that has just begun. `held` is what the proxy says that it holds; `remembered` what its
    /// ServiceAccount used before.
    ///
    /// # Errors
    /// When it uses more than it may.
    pub fn new(
        client: Client,
        hello: &wire::Hello,
        remembered: impl IntoIterator<Item = String>,
    ) -> Result<Self, SessionError> {
        if hello.held.len() > 4 * MAX_DESTINATIONS {
            return Err(SessionError::TooMany);
        }
        let mut session = Self {
            client,
            asked: BTreeSet::new(),
            remembered: remembered.into_iter().take(MAX_PREFETCH).collect(),
            held: hello.held.iter().map(|h| (h.name.clone(), h.version)).collect(),
            wanted: BTreeMap::new(),
            in_flight: None,
            refused: BTreeMap::new(),
            nonce: 0,
        };
        session.on_subscribe(&wire::Subscribe { add: hello.destinations.clone(), remove: Vec::new() })?;
        Ok(session)
    }

    /// Whose stream it is.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Destinations that the proxy asked for.
    pub fn destinations(&self) -> &BTreeSet<String> {
        &self.asked
    }

    /// What the proxy shall hold, as of the last [`Session::next`]: name, version, whether it is in force there.
    pub fn resources(&self) -> impl Iterator<Item = (&str, u64, bool)> {
        self.wanted.iter().map(|(name, version)| (name.as_str(), *version, self.held.get(name) == Some(version)))
    }

    /// What the proxy refused and what was not changed since.
    pub fn faults(&self) -> impl Iterator<Item = &wire::Fault> {
        self.refused.values().map(|(_, fault)| fault)
    }

    /// Whether a batch is on its way.
    pub fn is_waiting(&self) -> bool {
        self.in_flight.is_some()
    }

    /// The proxy uses other destinations now.
    ///
    /// # Errors
    /// When it uses more than it may; the stream is then over.
    pub fn on_subscribe(&mut self, subscribe: &wire::Subscribe) -> Result<(), SessionError> {
        if subscribe.add.iter().any(|t| t.is_empty() || t.len() > MAX_TEXT) {
            return Err(SessionError::Text);
        }
        for text in &subscribe.remove {
            self.asked.remove(text);
            self.remembered.remove(text);
        }
        self.asked.extend(subscribe.add.iter().cloned());
        if self.asked.len() > MAX_DESTINATIONS { Err(SessionError::TooMany) } else { Ok(()) }
    }

    /// The batch on its way is in force.
    ///
    /// # Errors
    /// When another batch is meant.
    pub fn on_ack(&mut self, nonce: u64) -> Result<(), SessionError> {
        let batch = self.take(nonce)?;
        for name in &batch.removed {
            self.held.remove(name);
        }
        self.held.extend(batch.upserts);
        Ok(())
    }

    /// The batch on its way was refused; the proxy holds what it held before.
    ///
    /// # Errors
    /// When another batch is meant, or one that only removes.
    pub fn on_nack(&mut self, nack: &wire::Nack) -> Result<(), SessionError> {
        let batch = self.take(nack.nonce)?;
        if batch.upserts.is_empty() {
            return Err(SessionError::Removal);
        }
        let fault_of = |name: &str| nack.faults.iter().find(|f| f.resource == name);
        let named = batch.upserts.iter().any(|(name, _)| fault_of(name).is_some());
        for (name, version) in batch.upserts {
            let fault = match fault_of(&name) {
                Some(fault) => fault.clone(),
                // Some other resource of the batch was at fault: this one goes into the next batch.
                None if named => continue,
                None => nack.faults.first().cloned().unwrap_or_default(),
            };
            self.refused.insert(name, (version, fault));
        }
        Ok(())
    }

    /// The next batch, None while one is on its way or where the proxy holds what it shall. The first batch of a
    /// stream is sent even if it is empty, so that the proxy knows that it is up to date.
    pub fn next(&mut self, catalogue: &impl Catalogue) -> Option<wire::Update> {
        let wanted = self.wanted(catalogue);
        self.wanted = wanted.iter().map(|(name, r)| (name.clone(), r.version)).collect();
        self.refused.retain(|name, (version, _)| self.wanted.get(name) == Some(version));
        if self.in_flight.is_some() {
            return None;
        }
        let is_due =
            |name: &String, version: u64| self.held.get(name) != Some(&version) && !self.refused.contains_key(name);
        let resources: Vec<_> =
            wanted.into_iter().filter(|(name, r)| is_due(name, r.version)).map(|(_, r)| r).collect();
        // While the proxy keeps an old destination because it refused the new one, it may still need the endpoints
        // of the old one.
        let keeps_old = !self.refused.is_empty();
        let may_go = |name: &str| !(keeps_old && name.starts_with("endpoints/"));
        let is_over = |name: &str| may_go(name) && !self.wanted.contains_key(name);
        let removed: Vec<_> = self.held.keys().filter(|name| is_over(name)).cloned().collect();
        if resources.is_empty() && removed.is_empty() && self.nonce > 0 {
            return None;
        }
        self.nonce += 1;
        let upserts: Vec<_> = resources.iter().map(|r| (r.name.clone(), r.version)).collect();
        let digest = self.digest_after(&upserts, &removed);
        self.in_flight = Some(Batch { nonce: self.nonce, upserts, removed: removed.clone() });
        Some(wire::Update { nonce: self.nonce, resources, removed, digest })
    }

    fn take(&mut self, nonce: u64) -> Result<Batch, SessionError> {
        match self.in_flight.take() {
            Some(batch) if batch.nonce == nonce => Ok(batch),
            other => {
                self.in_flight = other;
                Err(SessionError::Nonce(nonce))
            }
        }
    }

    fn digest_after(&self, upserts: &[(String, u64)], removed: &[String]) -> u64 {
        let mut after: BTreeMap<&str, u64> = self.held.iter().map(|(n, v)| (n.as_str(), *v)).collect();
        for name in removed {
            after.remove(name.as_str());
        }
        after.extend(upserts.iter().map(|(n, v)| (n.as_str(), *v)));
        directory::digest(after.into_iter())
    }

    /// Everything that the proxy shall hold.
    fn wanted(&self, catalogue: &impl Catalogue) -> BTreeMap<String, wire::Resource> {
        use wire::resource::Body;
        let mut all = BTreeMap::new();
        let mut put = |name: String, body: Body| {
            let resource = resource(name.clone(), body);
            all.insert(name, resource);
        };
        put("workload".to_owned(), Body::Workload(catalogue.workload(&self.client)));
        put("trust".to_owned(), Body::Trust(catalogue.trust()));
        let prefetched: Vec<_> = catalogue.prefetch(&self.client).into_iter().take(MAX_PREFETCH).collect();
        let texts: BTreeSet<&String> = self.asked.iter().chain(&self.remembered).chain(&prefetched).collect();
        let mut backends = BTreeSet::new();
        for text in texts {
            let destination = catalogue.destination(&self.client, text);
            backends.extend(destination.backends.iter().map(|b| b.name.clone()));
            put(format!("destination/{text}"), Body::Destination(destination));
        }
        for backend in backends {
            let endpoints = catalogue.endpoints(&backend).unwrap_or_default();
            put(format!("endpoints/{backend}"), Body::Endpoints(endpoints));
        }
        all
    }
}

/// A resource with the hash of its content as version.
fn resource(name: String, body: wire::resource::Body) -> wire::Resource {
    let mut resource = wire::Resource { name: String::new(), version: 0, requires: Vec::new(), body: Some(body) };
    resource.version = directory::version(&resource.encode_to_vec());
    resource.name = name;
    resource
}

#[cfg(test)]
mod tests;
