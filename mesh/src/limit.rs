//! Whether a request has room in a limit: a token bucket, kept as the one moment at which it is full again. Who counts,
//! and for whom, is left to the proxy.

use std::sync::Arc;
use std::time::Duration;

use crate::route::{Match, RequestView};

/// One limit of the requests that a workload takes.
#[derive(Clone, Debug)]
pub struct Limit {
    /// `namespace/name#rule`.
    pub name: Arc<str>,
    /// Requests that are counted: those that any of these matches; none at all means every request.
    pub matches: Vec<Match>,
    /// The application's ports; none: all.
    pub ports: Vec<u16>,
    /// How many.
    pub rate: Rate,
    /// What has a bucket of its own.
    pub key: Key,
}

/// What has a bucket of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// Nothing: all requests share one.
    All,
    /// Each verified identity; what comes without one shares a bucket.
    SourceIdentity,
    /// Each value of this header (lower case); what comes without it shares a bucket.
    Header(Box<str>),
}

impl Limit {
    /// Whether a request to the application's `port` is counted.
    pub fn counts(&self, port: u16, request: &impl RequestView) -> bool {
        (self.ports.is_empty() || self.ports.contains(&port))
            && (self.matches.is_empty() || self.matches.iter().any(|m| m.applies(request)))
    }
}

/// So many requests in each window, and so many at once. Times are nanoseconds of any clock that does not go back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    requests: u32,
    window: u64,
    /// Time in which one token comes.
    interval: u64,
    /// Time in which an empty bucket fills.
    depth: u64,
}

/// What is left after a request was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// When the bucket is full again: its whole new state.
    pub full_at: u64,
    /// Requests that would be let in now.
    pub remaining: u32,
}

impl Rate {
    /// `requests` per `window`, at most `burst` at once. None where one of them is zero or the window does not fit:
    /// no rate is meant then.
    pub fn new(requests: u32, window: Duration, burst: u32) -> Option<Self> {
        let window = u64::try_from(window.as_nanos()).ok()?;
        let interval = window.checked_div(u64::from(requests))?;
        let depth = interval.checked_mul(u64::from(burst))?;
        (depth > 0).then_some(Self { requests, window, interval, depth })
    }

    /// Requests in a window.
    pub fn requests(&self) -> u32 {
        self.requests
    }

    /// Length of the window.
    pub fn window(&self) -> Duration {
        Duration::from_nanos(self.window)
    }

    /// Takes one token at `now` from the bucket that is full at `full_at` (a new one: at 0).
    ///
    /// # Errors
    /// The bucket is empty, and holds a token again after this time. Nothing is taken then.
    pub fn take(&self, full_at: u64, now: u64) -> Result<Taken, Duration> {
        let full_at = full_at.max(now).saturating_add(self.interval);
        let latest = now.saturating_add(self.depth);
        if full_at > latest {
            return Err(Duration::from_nanos(full_at - latest));
        }
        Ok(Taken { full_at, remaining: u32::try_from((latest - full_at) / self.interval).unwrap_or(u32::MAX) })
    }

    /// Whether a bucket that is full at `full_at` says nothing any more: it is as a new one.
    pub fn is_spent(full_at: u64, now: u64) -> bool {
        full_at <= now
    }
}

#[cfg(test)]
mod tests;
