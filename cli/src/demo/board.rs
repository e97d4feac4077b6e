//! What is known of a running demo: counts, identities, refusals, notes. Written by the traffic and the story, read by
//! the picture and the claims.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::directory::Weights;
use super::latency::Latencies;
use crate::clock;

/// One version of the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// `v1-stable`
    Stable,
    /// `v1-canary`
    Canary,
}

/// Requests that each version answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    /// By `v1-stable`.
    pub stable: u64,
    /// By `v1-canary`.
    pub canary: u64,
}

impl Share {
    /// Both.
    pub(super) fn total(self) -> u64 {
        self.stable + self.canary
    }

    /// Share of the canary, 0 to 1; 0 when there are no requests.
    pub(super) fn of_canary(self) -> f64 {
        self.canary as f64 / self.total().max(1) as f64
    }

    fn add(&mut self, version: Version) {
        match version {
            Version::Stable => self.stable += 1,
            Version::Canary => self.canary += 1,
        }
    }
}

/// A stretch of time with one pair of weights.
#[derive(Clone, Debug)]
pub(super) struct Epoch {
    /// As the file says.
    pub weights: Weights,
    /// Whether they were known to be in force when its requests began; only then does the share count.
    pub is_in_force: bool,
    /// Who answered the requests that began in it.
    pub share: Share,
}

/// A refusal that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Whether it was refused as it must be.
    pub holds: bool,
    /// What happened, for a person.
    pub what: String,
}

/// SPIFFE IDs as the proxies proved them to each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Identities {
    /// Of the client, as the application was told.
    pub caller: Option<String>,
    /// Of the stable version's proxy.
    pub stable: Option<String>,
    /// Of the canary version's proxy.
    pub canary: Option<String>,
}

/// What a person should know about one moment.
#[derive(Clone, Debug)]
pub(super) struct Note {
    /// Since the demo began.
    pub at: Duration,
    /// One line.
    pub text: String,
}

/// All of it.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// When the demo began.
    pub began: Instant,
    /// When the traffic began.
    pub traffic_began: Option<Instant>,
    /// Number of pairs of weights that will be shown.
    pub phases: usize,
    /// See [`Epoch`]; empty before the traffic.
    pub epochs: Vec<Epoch>,
    /// Canary and stable answers by second of the traffic.
    pub seconds: Vec<Share>,
    /// Requests that did not get a good answer.
    pub failed: u64,
    /// The first of them, in words.
    pub failures: Vec<String>,
    /// Of good answers.
    pub latencies: Latencies,
    /// See [`Identities`].
    pub identities: Identities,
    /// The client that no policy names.
    pub intruder: Option<Refusal>,
    /// The client without a certificate.
    pub plaintext: Option<Refusal>,
    /// In order of time.
    pub notes: Vec<Note>,
}

/// [`Facts`] that several tasks share.
#[derive(Debug)]
pub(super) struct Board {
    facts: Mutex<Facts>,
}

/// How many failures are kept in words.
const KEPT_FAILURES: usize = 5;

impl Facts {
    /// Nothing has happened yet.
    pub(super) fn new(began: Instant, phases: usize) -> Self {
        Self {
            began,
            traffic_began: None,
            phases,
            epochs: Vec::new(),
            seconds: Vec::new(),
            failed: 0,
            failures: Vec::new(),
            latencies: Latencies::default(),
            identities: Identities::default(),
            intruder: None,
            plaintext: None,
            notes: Vec::new(),
        }
    }

    /// Requests that got a good answer.
    pub(super) fn answered(&self) -> u64 {
        self.epochs.iter().map(|e| e.share.total()).sum()
    }

    /// Number of the pair of weights that is shown now, from 1.
    pub(super) fn phase(&self) -> usize {
        self.epochs.iter().filter(|e| e.is_in_force).count().max(1)
    }

    /// Requests per second since the traffic began.
    pub(super) fn rate(&self) -> f64 {
        let seconds = self.traffic_began.map_or(0.0, |t| clock::now().duration_since(t).as_secs_f64());
        if seconds > 0.2 { (self.answered() + self.failed) as f64 / seconds } else { 0.0 }
    }
}

impl Board {
    /// A board for a demo that begins now.
    pub(super) fn new(phases: usize) -> Self {
        Self { facts: Mutex::new(Facts::new(clock::now(), phases)) }
    }

    /// A copy of what is known now.
    pub(super) fn facts(&self) -> Facts {
        self.lock().clone()
    }

    /// Writes down one line.
    pub(super) fn note(&self, text: String) {
        let mut facts = self.lock();
        let at = clock::now().duration_since(facts.began);
        facts.notes.push(Note { at, text });
    }

    /// Requests that begin from now on belong to a new epoch.
    pub(super) fn begin_epoch(&self, weights: Weights, is_in_force: bool) {
        self.lock().epochs.push(Epoch { weights, is_in_force, share: Share::default() });
    }

    /// The epoch of a request that begins now.
    pub(super) fn epoch(&self) -> usize {
        self.lock().epochs.len().saturating_sub(1)
    }

    /// Marks the beginning of the traffic.
    pub(super) fn begin_traffic(&self) {
        self.lock().traffic_began = Some(clock::now());
    }

    /// Counts a good answer to a request that began in `epoch`.
    pub(super) fn answered(&self, epoch: usize, version: Version, latency: Duration) {
        let mut facts = self.lock();
        if let Some(epoch) = facts.epochs.get_mut(epoch) {
            epoch.share.add(version);
        }
        let second = facts.traffic_began.map_or(0, |t| clock::now().duration_since(t).as_secs() as usize);
        if facts.seconds.len() <= second {
            facts.seconds.resize(second + 1, Share::default());
        }
        facts.seconds[second].add(version);
        facts.latencies.add(latency);
    }

    /// Counts a request that failed.
    pub(super) fn failed(&self, why: String) {
        let mut facts = self.lock();
        facts.failed += 1;
        if facts.failures.len() < KEPT_FAILURES {
            facts.failures.push(why);
        }
    }

    /// Notes the identities that an answer proves.
    pub(super) fn saw(&self, version: Version, caller: &str, own: &str) {
        let mut facts = self.lock();
        let identities = &mut facts.identities;
        identities.caller.get_or_insert_with(|| caller.to_owned());
        let side = match version {
            Version::Stable => &mut identities.stable,
            Version::Canary => &mut identities.canary,
        };
        side.get_or_insert_with(|| own.to_owned());
    }

    /// What became of the intruder.
    pub(super) fn intruder(&self, refusal: Refusal) {
        self.lock().intruder = Some(refusal);
    }

    /// What became of the plaintext client.
    pub(super) fn plaintext(&self, refusal: Refusal) {
        self.lock().plaintext = Some(refusal);
    }

    fn lock(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
