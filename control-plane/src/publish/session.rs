//! One proxy's stream as a state machine: what it uses, what it holds, and what to send it next. Pure: no clock, no
//! channel, no gRPC.
//!
//! At most one batch is on its way. What a proxy refused is not sent again until it has changed; the rest goes on.

use std::collections::{BTreeMap, BTreeSet};

use std::sync::Arc;

use causeway_mesh::{directory, wire};

use super::progress::{Standing, Stuck};
use super::view::{Catalogue, Concerns, Looked, Prepared, Uses};
use crate::compile::{Client, Parts};

/// Destinations that one proxy may use at once.
pub const MAX_DESTINATIONS: usize = 10_000;
/// Longest `host:port`: 253 for a DNS name, and room for the port.
pub const MAX_TEXT: usize = 300;
/// Destinations that are sent unasked.
const MAX_PREFETCH: usize = 256;

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
    upserts: Vec<(String, Held)>,
    removed: Vec<String>,
    /// Of all that the proxy holds once it has this.
    digest: u64,
    /// Serial of the configuration that it brings, and what concerns the proxy in it.
    serial: u64,
    concerns: Arc<Concerns>,
}

/// A version of a resource, and what took part in it.
#[derive(Clone, Debug, Default)]
struct Held {
    version: u64,
    parts: Parts,
}

impl Held {
    fn of(prepared: &Prepared) -> Self {
        Self { version: prepared.resource.version, parts: Arc::clone(&prepared.parts) }
    }
}

/// Backends of a destination whose endpoints its user holds too: what DNS says of one the proxy finds out itself.
fn listed(destination: &Prepared) -> impl Iterator<Item = &String> {
    destination.backends().iter().filter(|b| b.dns.is_empty()).map(|b| &b.name)
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Session {
    client: Client,
    asked: BTreeSet<String>,
    /// What the ServiceAccount used before; sent unasked until the proxy says that it does not need it.
    remembered: BTreeSet<String>,
    held: BTreeMap<String, Held>,
    /// Of what is held.
    digest: u64,
    wanted: BTreeMap<String, Held>,
    in_flight: Option<Batch>,
    refused: BTreeMap<String, (u64, wire::Fault)>,
    /// What was refused and not put right since, with the serial up to which the proxy has it.
    stuck: BTreeMap<String, u64>,
    nonce: u64,
    /// As [`Standing`] has them.
    seen: u64,
    confirmed: u64,
    concerns: Arc<Concerns>,
    before: Arc<Concerns>,
    /// What the last look found; None where that was not all sent, or the proxy uses other destinations since.
    looked: Option<Looked>,
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
            held: hello.held.iter().map(|h| (h.name.clone(), Held { version: h.version, ..Held::default() })).collect(),
            digest: 0,
            wanted: BTreeMap::new(),
            in_flight: None,
            refused: BTreeMap::new(),
            stuck: BTreeMap::new(),
            nonce: 0,
            seen: 0,
            confirmed: 0,
            concerns: Arc::default(),
            before: Arc::default(),
            looked: None,
        };
        session.digest = directory::digest(session.held.iter().map(|(n, h)| (n.as_str(), h.version)));
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
        self.wanted.iter().map(|(name, wanted)| (name.as_str(), wanted.version, self.holds(name, wanted.version)))
    }

    /// How far the proxy is, for [`super::progress`].
    pub fn standing(&self) -> Standing {
        let stuck = self.stuck.iter().map(|(name, good)| {
            let parts = [self.wanted.get(name), self.held.get(name)].into_iter().flatten();
            let fault = self.refused.get(name).map(|(_, f)| f.clone()).unwrap_or_default();
            Stuck {
                good: *good,
                parts: parts.map(|h| Arc::clone(&h.parts)).collect(),
                fault: (name.clone(), fault.field, fault.message),
            }
        });
        Standing {
            workload: format!("{}/{}", self.client.namespace, self.client.pod),
            seen: self.seen,
            confirmed: self.confirmed,
            concerns: Arc::clone(&self.concerns),
            before: Arc::clone(&self.before),
            stuck: stuck.collect(),
        }
    }

    fn holds(&self, name: &str, version: u64) -> bool {
        self.held.get(name).is_some_and(|h| h.version == version)
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
        self.looked = None;
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
        for (name, held) in batch.upserts {
            self.stuck.remove(&name);
            self.held.insert(name, held);
        }
        (self.confirmed, self.before, self.digest) = (batch.serial, batch.concerns, batch.digest);
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
        for (name, Held { version, .. }) in batch.upserts {
            let fault = match fault_of(&name) {
                Some(fault) => fault.clone(),
                // Some other resource of the batch was at fault: this one goes into the next batch.
                None if named => continue,
                None => nack.faults.first().cloned().unwrap_or_default(),
            };
            let good = if self.held.contains_key(&name) { self.confirmed } else { 0 };
            self.stuck.entry(name.clone()).or_insert(good);
            self.refused.insert(name, (version, fault));
        }
        Ok(())
    }

    /// The next batch, None while one is on its way or where the proxy holds what it shall. The first batch of a
    /// stream is sent even if it is empty, so that the proxy knows that it is up to date.
    pub fn next(&mut self, catalogue: &impl Catalogue) -> Option<wire::Update> {
        if let Some(few) = self.few(catalogue) {
            return self.next_of(&few, catalogue.serial());
        }
        let wanted = self.wanted(catalogue);
        self.look(catalogue, &wanted);
        if self.in_flight.is_some() {
            // The batch on its way lacks what was found now.
            self.looked = None;
            return None;
        }
        let is_due = |p: &Prepared| {
            let r = &p.resource;
            !self.holds(&r.name, r.version) && !self.refused.contains_key(&r.name)
        };
        let due: Vec<_> = wanted.into_values().filter(|p| is_due(p)).collect();
        // While the proxy keeps an old destination because it refused the new one, it may still need the endpoints
        // of the old one.
        let keeps_old = !self.refused.is_empty();
        let may_go = |name: &str| !(keeps_old && name.starts_with("endpoints/"));
        let is_over = |name: &str| may_go(name) && !self.wanted.contains_key(name);
        let removed: Vec<_> = self.held.keys().filter(|name| is_over(name)).cloned().collect();
        if due.is_empty() && removed.is_empty() && self.nonce > 0 {
            (self.confirmed, self.before) = (self.seen, Arc::clone(&self.concerns));
            return None;
        }
        Some(self.batch(&due, removed))
    }

    /// Puts a batch on its way.
    fn batch(&mut self, due: &[Arc<Prepared>], removed: Vec<String>) -> wire::Update {
        self.nonce += 1;
        let upserts: Vec<_> = due.iter().map(|p| (p.resource.name.clone(), Held::of(p))).collect();
        let digest = self.digest_after(&upserts, &removed);
        self.in_flight = Some(Batch {
            nonce: self.nonce,
            upserts,
            removed: removed.clone(),
            digest,
            serial: self.seen,
            concerns: Arc::clone(&self.concerns),
        });
        let resources = due.iter().map(|p| p.resource.clone()).collect();
        wire::Update { nonce: self.nonce, resources, removed, digest }
    }

    /// Notes that a configuration is in force that touches nothing of what the proxy holds, which it holds in full. False
    /// where that is not so: then there may be something to send.
    pub fn passes(&mut self, catalogue: &impl Catalogue) -> bool {
        let is_same = self.settled().is_some_and(|looked| catalogue.passes(&self.client, looked));
        if is_same {
            self.next_of(&[], catalogue.serial());
        }
        is_same
    }

    /// What the last look found, where the proxy has all of it.
    fn settled(&self) -> Option<&Looked> {
        let has_all = self.nonce > 0
            && self.in_flight.is_none()
            && self.refused.is_empty()
            && self.stuck.is_empty()
            && self.confirmed == self.seen;
        self.looked.as_ref().filter(|_| has_all)
    }

    /// Where the proxy has everything and this configuration touches only answers that stay what they are about: these answers
    /// as they are now, with their places. None where everything has to be looked at.
    fn few(&self, catalogue: &impl Catalogue) -> Option<Vec<(usize, Arc<Prepared>)>> {
        let looked = self.settled()?;
        let again = |place: usize| {
            let last = looked.rest.get(place)?;
            let now = match last.resource.name.split_once('/')? {
                ("destination", text) => catalogue.destination(&self.client, text),
                (_, backend) => catalogue.endpoints(backend),
            };
            // Other backends are other endpoints to hold; other parts are other concerns.
            let is_alike = last.parts == now.parts && listed(last).eq(listed(&now));
            is_alike.then_some((place, now))
        };
        catalogue.touched(&self.client, looked)?.into_iter().map(again).collect()
    }

    /// As [`Session::next`] where all but `few` is as it was; without a batch where the proxy holds these too.
    fn next_of(&mut self, few: &[(usize, Arc<Prepared>)], serial: u64) -> Option<wire::Update> {
        let looked = self.looked.as_mut()?;
        looked.serial = serial;
        self.seen = serial;
        let (mut due, mut uses_others) = (Vec::new(), false);
        for (place, now) in few {
            let is_other = |held: &&mut Held| held.version != now.resource.version;
            let name = &now.resource.name;
            match self.held.get_mut(name).filter(|held| !is_other(held)) {
                Some(held) => held.parts = Arc::clone(&now.parts),
                None => due.push(Arc::clone(now)),
            }
            if let Some(wanted) = self.wanted.get_mut(name) {
                *wanted = Held::of(now);
            }
            uses_others |= looked.rest[*place].uses != now.uses;
            looked.rest[*place] = Arc::clone(now);
        }
        if uses_others {
            looked.uses = Uses::of(&looked.rest);
        }
        if due.is_empty() {
            (self.confirmed, self.before) = (self.seen, Arc::clone(&self.concerns));
            return None;
        }
        Some(self.batch(&due, Vec::new()))
    }

    /// Notes what the proxy shall hold from now on.
    fn look(&mut self, catalogue: &impl Catalogue, wanted: &BTreeMap<String, Arc<Prepared>>) {
        self.seen = catalogue.serial();
        let concerns: Concerns = wanted.values().flat_map(|p| p.parts.iter().cloned()).collect();
        self.concerns = catalogue.shared(concerns);
        self.wanted = wanted.iter().map(|(name, p)| (name.clone(), Held::of(p))).collect();
        for (name, wanted) in &self.wanted {
            // The same content may have come about in another way.
            if let Some(held) = self.held.get_mut(name).filter(|h| h.version == wanted.version) {
                held.parts = Arc::clone(&wanted.parts);
            }
        }
        let (wanted, held) = (&self.wanted, &self.held);
        let version = |all: &BTreeMap<String, Held>, name: &str| all.get(name).map(|h| h.version);
        self.refused.retain(|name, (refused, _)| version(wanted, name) == Some(*refused));
        self.stuck.retain(|name, _| wanted.contains_key(name) && version(wanted, name) != version(held, name));
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

    fn digest_after(&self, upserts: &[(String, Held)], removed: &[String]) -> u64 {
        // A sum, so that what goes is subtracted.
        let of = |name: &str, version: u64| directory::digest(std::iter::once((name, version)));
        let mut digest = self.digest;
        for name in removed.iter().chain(upserts.iter().map(|(name, _)| name)) {
            if let Some(held) = self.held.get(name) {
                digest = digest.wrapping_sub(of(name, held.version));
            }
        }
        upserts.iter().fold(digest, |digest, (name, held)| digest.wrapping_add(of(name, held.version)))
    }

    /// Everything that the proxy shall hold.
    fn wanted(&mut self, catalogue: &impl Catalogue) -> BTreeMap<String, Arc<Prepared>> {
        let (workload, trust) = (catalogue.workload(&self.client), catalogue.trust());
        let prefetch = catalogue.prefetch(&self.client);
        let mut rest = Vec::new();
        let mut put = |prepared: Arc<Prepared>| rest.push(prepared);
        let prefetched = prefetch.iter().take(MAX_PREFETCH);
        let texts: BTreeSet<&String> = self.asked.iter().chain(&self.remembered).chain(prefetched).collect();
        let mut backends = BTreeSet::new();
        for text in texts {
            let destination = catalogue.destination(&self.client, text);
            backends.extend(listed(&destination).cloned());
            put(destination);
        }
        for backend in backends {
            put(catalogue.endpoints(&backend));
        }
        let uses = Uses::of(&rest);
        let looked = Looked { serial: catalogue.serial(), workload, trust, prefetch, rest, uses };
        let all = [&looked.workload, &looked.trust].into_iter().chain(&looked.rest);
        let all = all.map(|p| (p.resource.name.clone(), Arc::clone(p))).collect();
        self.looked = Some(looked);
        all
    }
}

#[cfg(test)]
mod tests;
