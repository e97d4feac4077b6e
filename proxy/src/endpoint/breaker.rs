//! What is in use of a backend at once, and its limits: requests, retries, requests that wait, connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use causeway_mesh::balance::budget;
use causeway_mesh::reject::Reject;
use tokio::sync::Notify;

use super::{BackendState, EndpointState};
use crate::connect::CONNECT_TIMEOUT;
use crate::pool::Bounds;
use crate::reply::Refusal;

/// Idle HTTP/1.1 connections between proxies are dropped after this, where nothing else is configured.
const BETWEEN_PROXIES: Duration = Duration::from_secs(300);

/// What is in use of one backend now.
#[derive(Default)]
pub struct Use {
    requests: AtomicU32,
    retries: AtomicU32,
    waiting: AtomicU32,
    connections: AtomicU32,
    /// A connection, or room on one, has become free.
    freed: Notify,
}

impl Use {
    /// Requests, retries, waiting requests and connections.
    pub fn counts(&self) -> [u32; 4] {
        [&self.requests, &self.retries, &self.waiting, &self.connections].map(|c| c.load(Ordering::Relaxed))
    }

    /// Tells one who waits for a connection that it may look again.
    pub fn freed(&self) {
        self.freed.notify_one();
    }
}

/// Takes one more where `fits` says so; a race never takes more than the limit.
fn take(counter: &AtomicU32, fits: impl Fn(u32) -> bool) -> bool {
    counter.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |used| fits(used).then(|| used.saturating_add(1))).is_ok()
}

/// Declares guards that give back what they count.
macro_rules! guards {
    ($($(#[$about:meta])* $name:ident => $counter:ident),* $(,)?) => {$(
        $(#[$about])*
        pub struct $name(Arc<Use>);

        impl Drop for $name {
            fn drop(&mut self) {
                self.0.$counter.fetch_sub(1, Ordering::AcqRel);
            }
        }
    )*};
}

guards! {
    /// A request, to the end of its response's body.
    Entered => requests,
    /// A retry, until it is answered.
    Retrying => retries,
    /// A request that waits for a connection.
    Waiting => waiting,
}

/// A connection to an endpoint of the backend.
pub struct Slot(Arc<Use>);

impl Slot {
    /// Of which backend.
    pub fn of(&self) -> Arc<Use> {
        Arc::clone(&self.0)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::AcqRel);
        self.0.freed();
    }
}

impl BackendState {
    /// What is in use now.
    pub fn in_use(&self) -> &Arc<Use> {
        &self.used
    }

    /// Counts a request, to be held to the end of its response's body.
    ///
    /// # Errors
    /// [`Reject::CircuitOpen`] where no more requests are allowed at once.
    pub fn enter(&self) -> Result<Entered, Refusal> {
        let limit = self.backend.limits.requests;
        if take(&self.used.requests, |used| budget::fits(used, limit)) {
            Ok(Entered(Arc::clone(&self.used)))
        } else {
            Err(self.is_full("requests"))
        }
    }

    /// Counts a retry, to be held until it is answered; None where the retry budget or the limit is used up.
    pub fn retry(&self) -> Option<Retrying> {
        let (rules, limit) = (self.backend.retry_budget, self.backend.limits.retries);
        let in_flight = self.used.requests.load(Ordering::Relaxed);
        let fits =
            |used| budget::fits(used, limit) && budget::has_room(in_flight, used, rules.percent, rules.min_concurrency);
        if take(&self.used.retries, fits) {
            return Some(Retrying(Arc::clone(&self.used)));
        }
        self.count_open("retries");
        None
    }

    /// Counts a request that waits for a connection.
    ///
    /// # Errors
    /// [`Reject::CircuitOpen`] where no more may wait.
    pub fn wait(&self) -> Result<Waiting, Refusal> {
        let limit = self.backend.limits.pending;
        if take(&self.used.waiting, |used| budget::fits(used, limit)) {
            Ok(Waiting(Arc::clone(&self.used)))
        } else {
            Err(self.is_full("pending"))
        }
    }

    /// What the backend says of each of its connections.
    pub fn bounds(&self) -> Bounds {
        Bounds::new(&self.backend.limits, self.backend.idle_timeout)
    }

    /// As [`Self::bounds`], of HTTP/1.1 connections to a proxy of ours, which closes none for being idle.
    pub fn bounds_between_proxies(&self) -> Bounds {
        Bounds::new(&self.backend.limits, Some(self.backend.idle_timeout.unwrap_or(BETWEEN_PROXIES)))
    }

    /// Counts a new connection where one more is allowed; in any case where `is_first`: the first one to an endpoint.
    pub fn connection(&self, is_first: bool) -> Option<Slot> {
        let limit = self.backend.limits.connections;
        take(&self.used.connections, |used| is_first || budget::fits(used, limit)).then(|| Slot(Arc::clone(&self.used)))
    }

    /// As [`Self::connection`] for a connection that shares nothing.
    ///
    /// # Errors
    /// [`Reject::CircuitOpen`] where no more connections are allowed.
    pub fn own_connection(&self) -> Result<Slot, Refusal> {
        self.connection(false).ok_or_else(|| self.is_full("connections"))
    }

    /// Waits for what `look` finds, as connections become free; at most as long as connecting may take, from `since` on.
    ///
    /// # Errors
    /// [`Reject::CircuitOpen`] where nothing became free in time.
    pub async fn when_free<T>(&self, since: Instant, mut look: impl FnMut() -> Option<T>) -> Result<T, Refusal> {
        let limit = self.backend.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
        let end = since.checked_add(limit).map(tokio::time::Instant::from_std);
        loop {
            if let Some(found) = look() {
                return Ok(found);
            }
            let freed = self.used.freed.notified();
            let is_late = match end {
                // Not all that ends tells so: a connection that the other side closed is seen by looking again.
                Some(end) => {
                    let soon = tokio::time::Instant::now() + Duration::from_millis(50);
                    tokio::time::timeout_at(end.min(soon), freed).await.is_err() && tokio::time::Instant::now() >= end
                }
                None => false,
            };
            if is_late {
                return Err(self.is_full("connections"));
            }
        }
    }

    fn is_full(&self, what: &'static str) -> Refusal {
        self.count_open(what);
        Refusal::new(Reject::CircuitOpen, format!("{} {what}", self.backend.name))
    }

    /// Whether something must be told when it becomes free.
    pub fn is_watched(&self) -> bool {
        self.backend.limits.connections.is_some()
    }

    /// Drops idle connections to other endpoints, which count against the limit.
    pub fn drop_idle(&self, but: &EndpointState) {
        for state in self.endpoints().iter().filter(|s| !std::ptr::eq(&***s, but)) {
            state.http1.drop_idle();
        }
    }
}
