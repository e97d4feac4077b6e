//! One backend with its endpoints: takes over what the configuration lists, gives one endpoint after another to a request,
//! and ejects those that fail.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use causeway_mesh::balance::affinity::{Affinity, Coming};
use causeway_mesh::balance::outlier::{self, Reason, Standing};
use causeway_mesh::balance::zone::Place;
use causeway_mesh::config::{Backend, Endpoint};
use tokio::sync::Notify;

use super::breaker::Use;
use super::pickable::{Listed, Pickable, Turns, Wanted, due, since, slow};
use super::{EndpointState, Outcome};
use crate::clock;
use crate::metrics::Metrics;
use crate::originate::Origination;
use crate::resolve::Asked;

/// How long the last endpoints are still used when all of them are gone within this time.
pub(super) const LAST_RESORT: Duration = Duration::from_secs(10);

/// Endpoints that are remembered for a last resort.
const MAX_GONE: usize = 64;

/// One backend with its endpoints now.
pub struct BackendState {
    /// As configured.
    pub backend: Arc<Backend>,
    pub(super) held: RwLock<Held>,
    /// What `held` was made from, to see cheaply that nothing changed.
    source: Mutex<Option<Arc<[Endpoint]>>>,
    pub(super) used: Arc<Use>,
    /// Told when the configuration lists other endpoints.
    changed: Notify,
    turns: Turns,
    /// The endpoint that our one client, the application of this pod, was given.
    given: Mutex<Affinity<Arc<EndpointState>>>,
    born: Instant,
    metrics: Option<Arc<Metrics>>,
    /// TLS to endpoints outside of the mesh.
    pub origination: Origination,
    /// Where the endpoints are known by name: whether they are, by now.
    pub asked: OnceLock<Asked>,
}

/// Endpoints in use.
pub(super) struct Held {
    list: Arc<[Arc<EndpointState>]>,
    /// As listed, with today's zones; empty for a last resort.
    listed: Arc<[Endpoint]>,
    /// They are a last resort until then: the configuration names none any more.
    pub(super) until: Option<Instant>,
    /// Meshed ones that the configuration named until lately, and when it ceased to; those of a last resort are among them.
    pub(super) gone: Vec<(Arc<EndpointState>, Instant)>,
    pick: Arc<Pickable>,
    /// When `pick` is to be made anew.
    due: Option<Instant>,
    /// Somebody does so already.
    is_refreshed: AtomicBool,
    /// Where the proxy is: zone and region.
    place: (String, String),
}

impl Held {
    fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// The meshed endpoints that have gone lately, once `new` are those in use, the latest first.
    fn gone_after(&self, new: &[Arc<EndpointState>]) -> Vec<(Arc<EndpointState>, Instant)> {
        let now = clock::now();
        let stays: HashSet<Endpoint> = new.iter().map(|e| key(&e.endpoint)).collect();
        // Those of a last resort are among those that went before.
        let listed = self.list.iter().filter(|_| self.until.is_none()).map(|e| (Arc::clone(e), now));
        let before = self.gone.iter().filter(|(_, at)| now.duration_since(*at) < LAST_RESORT).cloned();
        let is_meshed = |e: &EndpointState| e.endpoint.identity.is_some();
        let gone = listed.chain(before).filter(|(e, _)| is_meshed(e) && !stays.contains(&key(&e.endpoint)));
        gone.take(MAX_GONE).collect()
    }

    /// Makes the snapshot anew.
    fn arrange(&mut self, backend: &Backend, now: Instant, born: Instant) {
        let place = |i: usize, state: &'_ Arc<EndpointState>| -> (String, String, Vec<String>) {
            let e = self.listed.get(i).unwrap_or(&state.endpoint);
            (e.zone.clone(), e.region.clone(), e.for_zones.clone())
        };
        let places: Vec<_> = self.list.iter().enumerate().map(|(i, state)| place(i, state)).collect();
        let all: Vec<Listed<'_>> = self
            .list
            .iter()
            .zip(&places)
            .map(|(state, (zone, region, for_zones))| Listed { state, place: Place { zone, region, for_zones } })
            .collect();
        let own = Place { zone: &self.place.0, region: &self.place.1, for_zones: &[] };
        self.pick = Arc::new(Pickable::new(backend, &all, own));
        self.due = due(backend, &self.list, now, born);
        self.is_refreshed = AtomicBool::new(false);
    }
}

/// What makes an endpoint the same one: not the zones, which may be hinted otherwise while it stays.
fn key(endpoint: &Endpoint) -> Endpoint {
    Endpoint { zone: String::new(), region: String::new(), for_zones: Vec::new(), ..endpoint.clone() }
}

impl BackendState {
    /// A backend without endpoints yet.
    pub fn new(backend: Arc<Backend>) -> Self {
        Self::with(backend, Arc::default(), None)
    }

    fn with(backend: Arc<Backend>, used: Arc<Use>, metrics: Option<Arc<Metrics>>) -> Self {
        let held = Held {
            list: Arc::new([]),
            listed: Arc::new([]),
            until: None,
            gone: Vec::new(),
            pick: Arc::default(),
            due: None,
            is_refreshed: AtomicBool::new(false),
            place: Default::default(),
        };
        Self {
            backend,
            held: RwLock::new(held),
            source: Mutex::default(),
            used,
            changed: Notify::new(),
            // Were all to begin with the first, many proxies that each ask once would all ask that one.
            turns: std::array::from_fn(|_| AtomicU64::new(clock::draw() >> 1)),
            given: Mutex::default(),
            born: clock::now(),
            metrics,
            origination: Origination::default(),
            asked: OnceLock::new(),
        }
    }

    /// A backend whose ejections and refusals are counted. What is in use of `before`, an older configuration of the same
    /// backend, goes on; so do its endpoints with their connections and records, where those are made in the same way. Who
    /// ejects nobody any more has nobody ejected.
    pub fn counted(backend: Arc<Backend>, metrics: Arc<Metrics>, before: Option<&Self>) -> Self {
        let Some(before) = before else { return Self::with(backend, Arc::default(), Some(metrics)) };
        let mut state = Self::with(backend, Arc::clone(&before.used), Some(metrics));
        state.turns = before.turns.each_ref().map(|turn| AtomicU64::new(turn.load(Ordering::Relaxed)));
        let (old, new) = (&before.backend, &state.backend);
        if old.plaintext == new.plaintext && old.tls == new.tls && old.protocol == new.protocol {
            // Times of ejections are counted from here, and those of affinity.
            state.born = before.born;
            state.given = Mutex::new(before.given().clone());
            let held = before.read();
            let (list, listed) = (Arc::clone(&held.list), Arc::clone(&held.listed));
            let (until, gone, place) = (held.until, held.gone.clone(), held.place.clone());
            drop(held);
            if new.outlier.is_none() {
                list.iter().for_each(|endpoint| endpoint.forgive());
            }
            let mut mine = state.write();
            (mine.list, mine.listed, mine.until, mine.gone, mine.place) = (list, listed, until, gone, place);
            mine.arrange(&state.backend, clock::now(), state.born);
            drop(mine);
        }
        state
    }

    fn read(&self) -> RwLockReadGuard<'_, Held> {
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Held> {
        self.held.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn given(&self) -> MutexGuard<'_, Affinity<Arc<EndpointState>>> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The endpoints now, ejected ones included.
    ///
    /// When the last of them is gone, the meshed ones that went within `LAST_RESORT` stay for as long again: a node whose
    /// kubelet restarts, or that cannot reach the API server, has its pods reported as not ready, one after another, and
    /// they serve. Whoever has an address by then must still prove the identity.
    pub fn endpoints(&self) -> Arc<[Arc<EndpointState>]> {
        let held = self.read();
        if held.is_over(clock::now()) { Arc::new([]) } else { Arc::clone(&held.list) }
    }

    /// For how long it has been in use: what times of [`Standing`] are counted by.
    pub fn age(&self) -> Duration {
        since(self.born, clock::now())
    }

    /// Says where the proxy is.
    pub fn stand_at(&self, zone: &str, region: &str) {
        let is_new = {
            let held = self.read();
            (held.place.0.as_str(), held.place.1.as_str()) != (zone, region)
        };
        if is_new {
            let mut held = self.write();
            held.place = (zone.to_owned(), region.to_owned());
            held.arrange(&self.backend, clock::now(), self.born);
        }
    }

    /// Takes over `endpoints`; those that stay keep their load and connections, and so do those that come back in time,
    /// where they need not start slowly. An endpoint that `is_self` is our own application: nothing redirects what we send
    /// there, so it is spoken to as it is.
    pub fn update(&self, endpoints: &Arc<[Endpoint]>, is_self: impl Fn(IpAddr) -> bool) {
        let mut source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        if source.as_ref().is_some_and(|s| Arc::ptr_eq(s, endpoints)) {
            return;
        }
        let starts_slowly = self.backend.load_balancing.slow_start.is_some();
        let known = if starts_slowly { self.endpoints().to_vec() } else { self.rest() };
        let old: HashMap<Endpoint, Arc<EndpointState>> = known.into_iter().map(|e| (key(&e.endpoint), e)).collect();
        let new: Arc<[Arc<EndpointState>]> = endpoints
            .iter()
            .map(|e| {
                let mut e = e.clone();
                if is_self(e.address) {
                    e.identity = None;
                }
                old.get(&key(&e)).map_or_else(|| EndpointState::new(e.clone()), Arc::clone)
            })
            .collect();
        let now = clock::now();
        let mut held = self.write();
        let gone = held.gone_after(&new);
        match (new.is_empty(), held.until) {
            (true, None) => {
                held.list = gone.iter().map(|(e, _)| Arc::clone(e)).collect();
                held.until = now.checked_add(LAST_RESORT);
                held.listed = Arc::new([]);
            }
            // Being gone again does not begin the time anew.
            (true, _) => {}
            (false, _) => {
                (held.list, held.until) = (new, None);
                held.listed = Arc::clone(endpoints);
            }
        }
        held.gone = gone;
        held.arrange(&self.backend, now, self.born);
        drop(held);
        *source = Some(Arc::clone(endpoints));
        self.changed.notify_waiters();
    }

    /// Waits until there is an endpoint that was not `tried`, at most for `limit`; whether there is one.
    pub async fn is_replaced(&self, tried: &[Arc<EndpointState>], limit: Duration) -> bool {
        let replaced = async {
            loop {
                let mut changed = pin!(self.changed.notified());
                // From here on no change is missed.
                changed.as_mut().enable();
                if self.endpoints().iter().any(|e| !tried.iter().any(|t| Arc::ptr_eq(t, e))) {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(limit, replaced).await.is_ok()
    }

    /// An endpoint for the next try, none of `tried`; `hash` is of the request's key, for consistent hash. When all were
    /// tried, those that went lately: if all that is listed fails, the list may be what is wrong. Each must still prove its
    /// identity.
    pub fn choose(&self, tried: &[Arc<EndpointState>], hash: Option<u64>) -> Option<Arc<EndpointState>> {
        let pick = self.pick();
        let wanted = Wanted { backend: &self.backend, tried, hash, turns: &self.turns };
        // What is tried again elsewhere moves nobody.
        if let Some(timeout) = self.backend.load_balancing.affinity
            && tried.is_empty()
        {
            return self.choose_again(&pick, wanted, timeout);
        }
        match pick.choose(wanted) {
            None if !tried.is_empty() => self.rest().into_iter().find(|e| !tried.iter().any(|t| Arc::ptr_eq(t, e))),
            chosen => chosen,
        }
    }

    /// The endpoint that the client was given, or another for it.
    fn choose_again(&self, pick: &Pickable, wanted: Wanted<'_>, timeout: Duration) -> Option<Arc<EndpointState>> {
        let now = since(self.born, clock::now());
        // Held throughout, so that requests that come at once get one endpoint.
        let mut given = self.given();
        let chosen = match given.come(now, timeout, |state| pick.may_serve(state)) {
            Coming::Stays(state) => state,
            Coming::Anew => pick.choose(wanted)?,
            Coming::Forgotten => pick.choose(Wanted { hash: Some(clock::draw()), ..wanted })?,
        };
        given.give(Arc::clone(&chosen), now);
        Some(chosen)
    }

    fn pick(&self) -> Arc<Pickable> {
        let now = clock::now();
        let held = self.read();
        if held.is_over(now) {
            return Arc::default();
        }
        let is_due = held.due.is_some_and(|due| due <= now) && !held.is_refreshed.swap(true, Ordering::Relaxed);
        let pick = Arc::clone(&held.pick);
        drop(held);
        if !is_due {
            return pick;
        }
        self.refresh(now);
        Arc::clone(&self.read().pick)
    }

    /// How many endpoints [`Self::choose`] can give one after another.
    pub fn reachable(&self) -> usize {
        let now = clock::now();
        let held = self.read();
        if held.until.is_some() {
            return if held.is_over(now) { 0 } else { held.list.len() };
        }
        let listed = held.pick.len().max(held.list.len());
        listed + held.gone.iter().filter(|(_, at)| now.duration_since(*at) < LAST_RESORT).count()
    }

    /// What is tried when all that may be picked was: ejected ones, then those of the mesh that ceased to be listed within
    /// `LAST_RESORT`, the latest first.
    fn rest(&self) -> Vec<Arc<EndpointState>> {
        let now = clock::now();
        let held = self.read();
        let listed = held.list.iter().filter(|_| !held.is_over(now)).map(Arc::clone);
        let gone = held.gone.iter().filter(|(_, at)| now.duration_since(*at) < LAST_RESORT);
        listed.chain(gone.map(|(state, _)| Arc::clone(state))).collect()
    }

    /// Notes what a try at an endpoint came to: its latency, and whether it is ejected.
    pub fn ended(&self, state: &Arc<EndpointState>, outcome: Outcome) {
        if matches!(outcome, Outcome::Answered { .. }) && !state.has_answered() {
            state.has_answered.store(true, Ordering::Relaxed);
        }
        match outcome {
            // Whoever fails fast is not to be preferred for it.
            Outcome::Answered { status: 500.., after } => {
                state.observe(after.max(Duration::from_micros(state.latency_micros() as u64)));
            }
            Outcome::Answered { after, .. } => state.observe(after),
            Outcome::ConnectFailed | Outcome::TimedOut => state.failed(),
            Outcome::Reset | Outcome::Connected => {}
        }
        let Some(rules) = &self.backend.outlier else { return };
        let is_good = matches!(outcome, Outcome::Answered { status: ..500, .. } | Outcome::Connected);
        if is_good && !state.is_marked.load(Ordering::Relaxed) {
            return;
        }
        let (reason, has_come_back) = {
            let mut record = state.record();
            let before = record.standing;
            let reason = record.note(outcome.ending(), rules);
            state.is_marked.store(!record.is_clean(), Ordering::Relaxed);
            (reason, before != Standing::In && record.standing == Standing::In)
        };
        if let Some(reason) = reason {
            self.eject(state, reason);
        } else if has_come_back {
            tracing::info!(backend = %self.backend.name, address = %state.address(), "endpoint is in use again");
            self.write().arrange(&self.backend, clock::now(), self.born);
        }
    }

    /// Ejects where so many may be ejected.
    fn eject(&self, state: &Arc<EndpointState>, reason: Reason) {
        let Some(rules) = &self.backend.outlier else { return };
        let now = clock::now();
        // Held throughout, so that two do not both take the last place.
        let mut held = self.write();
        let is_ejected = |s: &Arc<EndpointState>| matches!(s.standing(), Standing::Ejected { .. });
        let ejected = held.list.iter().filter(|s| is_ejected(s)).count();
        let is_listed = held.list.iter().any(|s| Arc::ptr_eq(s, state));
        if !is_listed || is_ejected(state) || !outlier::may_eject(held.list.len(), ejected, rules.max_ejection_percent)
        {
            return;
        }
        let until = {
            let mut record = state.record();
            record.eject(reason, since(self.born, now), rules);
            state.is_marked.store(true, Ordering::Relaxed);
            record.standing
        };
        held.arrange(&self.backend, now, self.born);
        drop(held);
        if let Standing::Ejected { until, .. } = until {
            let seconds = until.saturating_sub(since(self.born, now)).as_secs_f64();
            let (backend, address) = (&self.backend.name, state.address());
            tracing::info!(%backend, %address, reason = reason.code(), seconds, "endpoint ejected");
        }
        if let Some(metrics) = &self.metrics {
            metrics.ejected(&self.backend.name, reason.code());
        }
    }

    /// Ends ejections whose time is over, and judges latency.
    fn refresh(&self, now: Instant) {
        let list = Arc::clone(&self.read().list);
        for state in list.iter() {
            state.record().settle(since(self.born, now));
        }
        for index in slow(&self.backend, &list) {
            self.eject(&list[index], Reason::Latency);
        }
        self.write().arrange(&self.backend, now, self.born);
    }

    pub(super) fn count_open(&self, limit: &'static str) {
        if let Some(metrics) = &self.metrics {
            metrics.circuit_open(&self.backend.name, limit);
        }
    }
}
