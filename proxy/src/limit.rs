//! Counts requests against the limits of the own workload. What a bucket is stands in `causeway_mesh::limit`; here is one
//! for each limit and key, bounded in number, and what the client is told of it.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use causeway_mesh::limit::{Key, Limit, Rate, Taken};
use causeway_mesh::reject::Reject;
use causeway_mesh::route::RequestView;
use causeway_mesh::spiffe::SpiffeId;
use http::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};

use crate::clock;
use crate::reply::Refusal;

/// Keys of one limit with a bucket of their own. Those beyond share one, so that nobody gets past a limit, or at our
/// memory, by making up keys.
const MOST_KEYS: usize = 10_000;

/// Buckets that are full again are looked for at most so often.
const SWEEP: Duration = Duration::from_secs(1);

const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

/// The buckets of the own workload. One lock: a request is let in by all of its limits or counted by none.
pub struct Limits {
    counted: Mutex<Counted>,
    hasher: RandomState,
    born: Instant,
}

struct Counted {
    source: Arc<[Arc<Limit>]>,
    counters: Vec<Counter>,
}

struct Counter {
    limit: Arc<Limit>,
    /// Of requests without a key, and of all where there is none.
    one: u64,
    keyed: HashMap<u64, u64>,
    /// Of keys that found no room.
    rest: u64,
    swept: u64,
}

/// What a client may be told of the narrowest limit that it came through (draft-ietf-httpapi-ratelimit-headers-03).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    limit: u32,
    remaining: u32,
    reset: u64,
}

impl Default for Limits {
    fn default() -> Self {
        let none = Counted { source: Arc::new([]), counters: Vec::new() };
        Self { counted: Mutex::new(none), hasher: RandomState::new(), born: clock::now() }
    }
}

impl Limits {
    /// Counts a request of `peer` to the application's `port`. None: no limit counts it.
    ///
    /// # Errors
    /// [`Reject::RateLimited`], which names the limit and says when to come again. Nothing is counted then.
    pub fn admit(
        &self,
        limits: &Arc<[Arc<Limit>]>,
        peer: Option<&SpiffeId>,
        port: u16,
        request: &impl RequestView,
    ) -> Result<Option<Told>, Refusal> {
        if limits.is_empty() {
            return Ok(None);
        }
        // Never zero, which is what an unused bucket says.
        let now = u64::try_from(clock::now().duration_since(self.born).as_nanos()).unwrap_or(u64::MAX).max(1);
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        counted.follow(limits);
        let mut told: Option<Told> = None;
        let mut taken: Vec<(usize, Option<u64>, Taken)> = Vec::new();
        for (at, counter) in counted.counters.iter_mut().enumerate().filter(|(_, c)| c.limit.counts(port, request)) {
            let key = match &counter.limit.key {
                Key::All => None,
                Key::SourceIdentity => peer.map(|id| self.hasher.hash_one(id)),
                Key::Header(name) => request.header(name).next().map(|value| self.hasher.hash_one(value)),
            };
            let rate = counter.limit.rate;
            match rate.take(*counter.bucket(key, now), now) {
                Ok(one) => {
                    let new = Told::of(rate, one, now);
                    told = Some(told.filter(|t| t.remaining <= new.remaining).unwrap_or(new));
                    taken.push((at, key, one));
                }
                Err(wait) => return Err(refusal(&counter.limit, wait)),
            }
        }
        for (at, key, one) in taken {
            *counted.counters[at].bucket(key, now) = one.full_at;
        }
        Ok(told)
    }
}

impl Counted {
    /// Takes over a new configuration; limits that are as they were keep their counts.
    fn follow(&mut self, limits: &Arc<[Arc<Limit>]>) {
        if Arc::ptr_eq(&self.source, limits) {
            return;
        }
        let mut before = std::mem::take(&mut self.counters);
        let is_same = |a: &Limit, b: &Limit| (&a.name, a.rate, &a.key) == (&b.name, b.rate, &b.key);
        let counters = limits.iter().map(|limit| {
            let kept = before.iter().position(|c| is_same(&c.limit, limit)).map(|at| before.swap_remove(at));
            Counter { limit: Arc::clone(limit), ..kept.unwrap_or_else(|| Counter::new(limit)) }
        });
        self.counters = counters.collect();
        self.source = Arc::clone(limits);
    }
}

impl Counter {
    fn new(limit: &Arc<Limit>) -> Self {
        Self { limit: Arc::clone(limit), one: 0, keyed: HashMap::new(), rest: 0, swept: 0 }
    }

    fn bucket(&mut self, key: Option<u64>, now: u64) -> &mut u64 {
        let Some(key) = key else { return &mut self.one };
        if !self.keyed.contains_key(&key) && self.keyed.len() >= MOST_KEYS {
            if Duration::from_nanos(now.saturating_sub(self.swept)) >= SWEEP {
                self.swept = now;
                self.keyed.retain(|_, full_at| !Rate::is_spent(*full_at, now));
            }
            if self.keyed.len() >= MOST_KEYS {
                return &mut self.rest;
            }
        }
        self.keyed.entry(key).or_default()
    }
}

fn refusal(limit: &Limit, wait: Duration) -> Refusal {
    let seconds = seconds(wait).max(1);
    let told = Told { limit: limit.rate.requests(), remaining: 0, reset: seconds };
    let mut headers = told.headers().to_vec();
    headers.push((RETRY_AFTER, seconds.into()));
    Refusal::new(Reject::RateLimited, format!("limit {}", limit.name)).with_headers(headers)
}

/// Whole ones, never too few.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

impl Told {
    fn of(rate: Rate, taken: Taken, now: u64) -> Self {
        let reset = seconds(Duration::from_nanos(taken.full_at.saturating_sub(now)));
        Self { limit: rate.requests(), remaining: taken.remaining, reset }
    }

    fn headers(self) -> [(HeaderName, HeaderValue); 3] {
        [(LIMIT, self.limit.into()), (REMAINING, self.remaining.into()), (RESET, self.reset.into())]
    }

    /// Writes it into a response, unless the application says such things itself.
    pub fn write(self, headers: &mut HeaderMap) {
        if !headers.contains_key(LIMIT) {
            headers.extend(self.headers());
        }
    }
}

#[cfg(test)]
mod tests;
