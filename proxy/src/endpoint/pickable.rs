//! A snapshot of the endpoints that may be picked, made when something changes, so that a request only draws and compares.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use causeway_mesh::balance::outlier::{self, Standing};
use causeway_mesh::balance::zone::{self, Place};
use causeway_mesh::balance::{self, hash, turn};
use causeway_mesh::config::backend::{Algorithm, Backend, SlowStart};

use super::EndpointState;
use crate::clock;

/// An endpoint, and where it is.
pub(super) struct Listed<'l> {
    pub(super) state: &'l Arc<EndpointState>,
    pub(super) place: Place<'l>,
}

/// What may be picked now.
#[derive(Default)]
pub(super) struct Pickable {
    /// The nearest first.
    tiers: Vec<Tier>,
    /// Endpoints in all tiers.
    len: usize,
}

struct Tier {
    /// How near it is, 0 the nearest.
    level: u8,
    members: Vec<Member>,
    ring: Option<hash::Ring>,
    /// Up to which draw in `[0, 1)` a request goes here.
    until: f64,
    /// Some member is on probation.
    has_probation: bool,
}

struct Member {
    state: Arc<EndpointState>,
    on_probation: bool,
}

impl Member {
    /// On probation an endpoint has one request at a time.
    fn is_open(&self) -> bool {
        !self.on_probation || self.state.pending() == 0
    }
}

/// What is asked of a choice.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'w> {
    pub(super) backend: &'w Backend,
    pub(super) tried: &'w [Arc<EndpointState>],
    /// Of the request's key, for consistent hash.
    pub(super) hash: Option<u64>,
    pub(super) turns: &'w Turns,
}

/// Counts choices of each tier, for round robin: were they counted together, one tier's would take the turns of another's.
pub(super) type Turns = [AtomicU64; zone::TIERS];

impl Wanted<'_> {
    fn was_tried(&self, state: &Arc<EndpointState>) -> bool {
        self.tried.iter().any(|t| Arc::ptr_eq(t, state))
    }
}

/// When the snapshot must be made anew without any other change.
pub(super) fn due(backend: &Backend, all: &[Arc<EndpointState>], now: Instant, born: Instant) -> Option<Instant> {
    let rules = backend.outlier.as_ref()?;
    let ends = all.iter().filter_map(|state| match state.standing() {
        Standing::Ejected { until, .. } => born.checked_add(until),
        _ => None,
    });
    let judged = rules.latency_percent.and_then(|_| now.checked_add(rules.interval));
    ends.chain(judged).min()
}

impl Pickable {
    /// Of `all`, those that may be picked; `own` is where the proxy is.
    pub(super) fn new(backend: &Backend, all: &[Listed<'_>], own: Place<'_>) -> Self {
        // Without rules nobody is left out, whatever requests that began under older ones may still find.
        let ejects = backend.outlier.is_some();
        let standing = |l: &Listed<'_>| if ejects { l.state.standing() } else { Standing::In };
        let standings: Vec<Standing> = all.iter().map(standing).collect();
        let is_ejected = |s: &Standing| matches!(s, Standing::Ejected { .. });
        let ejected = standings.iter().filter(|s| is_ejected(s)).count();
        let least = backend.outlier.as_ref().map_or(0, |o| o.min_health_percent);
        // Whoever ejects everybody serves nobody.
        let uses_all = ejected > 0 && outlier::is_too_few(all.len(), ejected, least);
        let places: Vec<Place<'_>> = all.iter().map(|l| l.place).collect();
        let balancing = &backend.load_balancing;
        let distances = zone::tiers(own, balancing.zones, &balancing.failover, &places);
        let mut levels: Vec<u8> = distances.clone();
        levels.sort_unstable();
        levels.dedup();
        let of_level = |level: u8| -> (Vec<Member>, usize) {
            let indices: Vec<usize> = (0..all.len()).filter(|i| distances[*i] == level).collect();
            let used = indices.iter().filter(|i| uses_all || !is_ejected(&standings[**i]));
            let member = |i: &usize| Member {
                state: Arc::clone(all[*i].state),
                on_probation: matches!(standings[*i], Standing::Probation { .. }),
            };
            (used.map(member).collect(), indices.len())
        };
        let found: Vec<(Vec<Member>, usize)> = levels.iter().map(|level| of_level(*level)).collect();
        let counts: Vec<(usize, usize)> = found.iter().map(|(members, all)| (members.len(), *all)).collect();
        let len = counts.iter().map(|(used, _)| used).sum();
        let mut until = 0.0;
        let tiers = levels.into_iter().zip(found).zip(zone::parts(&counts)).map(|((level, (members, _)), part)| {
            until += part;
            Tier::new(backend, level, members, until)
        });
        Self { tiers: tiers.collect(), len }
    }

    /// Endpoints that may be picked.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether requests may go to an endpoint: it is in use, and where traffic goes.
    pub(super) fn may_serve(&self, state: &Arc<EndpointState>) -> bool {
        let is_its = |member: &Member| Arc::ptr_eq(&member.state, state) && member.is_open();
        let mut below = 0.0;
        self.tiers
            .iter()
            .any(|tier| tier.until > std::mem::replace(&mut below, tier.until) && tier.members.iter().any(is_its))
    }

    /// One of them, none of those that were tried.
    pub(super) fn choose(&self, wanted: Wanted<'_>) -> Option<Arc<EndpointState>> {
        let [only] = &*self.tiers else { return self.choose_near(wanted) };
        only.choose(wanted)
    }

    fn choose_near(&self, wanted: Wanted<'_>) -> Option<Arc<EndpointState>> {
        // A key always falls into the same tier.
        let draw = turn::unit(wanted.hash.unwrap_or_else(clock::draw));
        let first = self.tiers.iter().position(|tier| draw < tier.until).unwrap_or(0);
        let (before, from) = self.tiers.split_at(first);
        let mut tiers = from.iter().chain(before);
        let chosen = tiers.find_map(|tier| tier.choose(wanted))?;
        if wanted.hash.is_some() {
            return Some(chosen);
        }
        let mut other = None;
        let is_overloaded = zone::is_overloaded(chosen.pending(), || {
            other = tiers.next().and_then(|next| next.choose(wanted));
            other.as_ref().map_or(u32::MAX, |other| other.pending())
        });
        other.filter(|_| is_overloaded).or(Some(chosen))
    }
}

impl Tier {
    fn new(backend: &Backend, level: u8, members: Vec<Member>, until: f64) -> Self {
        let is_hashed = matches!(backend.load_balancing.algorithm, Algorithm::ConsistentHash { .. });
        let names: Vec<String> =
            if is_hashed { members.iter().map(|m| m.state.address().to_string()).collect() } else { Vec::new() };
        let ring = is_hashed.then(|| hash::Ring::new(names.iter().map(String::as_bytes)));
        let has_probation = members.iter().any(|m| m.on_probation);
        Self { level, members, ring, until, has_probation }
    }

    fn choose(&self, wanted: Wanted<'_>) -> Option<Arc<EndpointState>> {
        if let (Some(ring), Some(key), Algorithm::ConsistentHash { balance_percent, .. }) =
            (&self.ring, wanted.hash, &wanted.backend.load_balancing.algorithm)
            && let Some(found) = self.by_key(ring, key, *balance_percent, wanted)
        {
            return Some(found);
        }
        if wanted.tried.is_empty() && !self.has_probation {
            let index = self.among(self.members.len(), |i| &self.members[i].state, wanted)?;
            return Some(Arc::clone(&self.members[index].state));
        }
        self.choose_among_left(wanted)
    }

    /// An endpoint on probation is given its share, whatever it would cost by what is known of it, but one request at a
    /// time.
    fn choose_among_left(&self, wanted: Wanted<'_>) -> Option<Arc<EndpointState>> {
        let left: Vec<&Member> = self.members.iter().filter(|m| !wanted.was_tried(&m.state)).collect();
        let (probed, sound): (Vec<&Member>, Vec<&Member>) = left.iter().partition(|m| m.on_probation);
        let idle: Vec<&Member> = probed.into_iter().filter(|m| m.is_open()).collect();
        let draw = turn::unit(clock::draw()) * left.len() as f64;
        if let Some(member) = idle.get(draw as usize) {
            return Some(Arc::clone(&member.state));
        }
        // Where all that are left are on probation and busy, they are better than nothing.
        let of = if sound.is_empty() { left } else { sound };
        let index = self.among(of.len(), |i| &of[i].state, wanted)?;
        Some(Arc::clone(&of[index].state))
    }

    fn by_key(
        &self,
        ring: &hash::Ring,
        key: u64,
        balance_percent: u32,
        wanted: Wanted<'_>,
    ) -> Option<Arc<EndpointState>> {
        let in_flight: u64 = self.members.iter().map(|m| u64::from(m.state.pending())).sum();
        let most = hash::bound(in_flight, self.members.len(), balance_percent);
        let is_fit = |i: usize| {
            let member = &self.members[i];
            u64::from(member.state.pending()) < most && member.is_open() && !wanted.was_tried(&member.state)
        };
        let found = &self.members[ring.pick(key, is_fit)?].state;
        (!wanted.was_tried(found)).then(|| Arc::clone(found))
    }

    /// One of `len` endpoints by the backend's algorithm.
    fn among<'s>(&self, len: usize, at: impl Fn(usize) -> &'s Arc<EndpointState>, wanted: Wanted<'_>) -> Option<usize> {
        let rules = &wanted.backend.load_balancing;
        let slow_start = rules.slow_start.as_ref();
        let takes_part = |i: usize| slow_start.is_none() || turn::takes_part(share(slow_start, at(i)), clock::draw());
        let by_cost = |cost: &dyn Fn(&EndpointState) -> f64| {
            let cost = |i: usize| if takes_part(i) { cost(at(i)) } else { f64::INFINITY };
            balance::choose(len, clock::draw(), clock::draw(), cost)
        };
        match rules.algorithm {
            Algorithm::PeakEwma => by_cost(&|state| balance::cost(state.load())),
            Algorithm::LeastRequest => by_cost(&|state| f64::from(state.pending())),
            Algorithm::RoundRobin => {
                let turns = &wanted.turns[usize::from(self.level)];
                turn::next(len, turns.fetch_add(1, Ordering::Relaxed), takes_part)
            }
            Algorithm::Random | Algorithm::ConsistentHash { .. } => by_cost(&|_| 0.0),
        }
    }
}

/// The share of a new endpoint.
fn share(slow_start: Option<&SlowStart>, state: &EndpointState) -> f64 {
    match slow_start {
        None => 1.0,
        Some(_) => turn::share(slow_start, state.micros() / 1000),
    }
}

/// Endpoints to be ejected for their latency, the slowest first.
pub(super) fn slow(backend: &Backend, all: &[Arc<EndpointState>]) -> Vec<usize> {
    let Some(percent) = backend.outlier.as_ref().and_then(|o| o.latency_percent) else { return Vec::new() };
    let latencies: Vec<f64> = all.iter().map(|s| if is_in(s) { s.latency_micros() } else { 0.0 }).collect();
    outlier::slow(&latencies, percent)
}

fn is_in(state: &EndpointState) -> bool {
    !matches!(state.standing(), Standing::Ejected { .. })
}

/// Since `born`, for [`Standing`].
pub(super) fn since(born: Instant, now: Instant) -> Duration {
    now.saturating_duration_since(born)
}
