//! Destinations as the data plane uses them: the configuration of one, with the live state of each of its backends.
//!
//! A target is rebuilt only when the configuration of its destination changed; a request in flight keeps the one it
//! began with.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};
use std::time::Duration;

use causeway_mesh::config::{Backend, Destination};
use tokio::sync::{Notify, watch};

use crate::clock;
use crate::discovery::{Discovery, Snapshot, Unresolved};
use crate::endpoint::BackendState;
use crate::metrics::{Metrics, Series};
use crate::outbound::{Prepared, prepare_routes};
use crate::resolve;
use crate::run::Own;
use crate::sniff::Habit;

/// How long the first use of a destination waits for the control plane's answer.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(5);

/// One destination in use.
pub struct Target {
    /// The text that it was asked for by.
    pub text: Box<str>,
    /// Its configuration.
    pub destination: Arc<Destination>,
    /// What its routes do to heads, by the place of the route.
    pub prepared: Box<[Option<Arc<Prepared>>]>,
    /// By the index that splits use.
    pub backends: Vec<Arc<BackendState>>,
    /// Metric handles of requests to it that no endpoint served.
    pub refused: OnceLock<Arc<Series>>,
    /// Whether its clients speak first, where nothing declares what it speaks.
    pub habit: Habit,
    /// When its subscription was last marked as used, seconds since the epoch.
    touched: AtomicI64,
}

impl Target {
    /// Calls `mark` at most once a minute: cheap enough for every request.
    pub fn touch(&self, mark: impl FnOnce()) {
        let now = clock::unix();
        if now - self.touched.load(Ordering::Relaxed) >= 60 {
            self.touched.store(now, Ordering::Relaxed);
            mark();
        }
    }
}

/// Every destination in use.
pub struct Targets {
    discovery: Discovery,
    own: Own,
    metrics: Arc<Metrics>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    targets: RwLock<HashMap<Box<str>, Arc<Target>>>,
    /// Shared by all targets that name the same backend, and dropped with the last of them.
    backends: Mutex<HashMap<Arc<str>, Weak<BackendState>>>,
    /// Told when a newer configuration is in use.
    changed: Notify,
}

impl Targets {
    /// Targets fed by `discovery`. [`Targets::follow`] must run beside.
    pub fn new(discovery: Discovery, own: Own, metrics: Arc<Metrics>) -> Arc<Self> {
        let snapshot = discovery.snapshot();
        Arc::new(Self {
            own,
            metrics,
            discovery,
            snapshot,
            targets: RwLock::default(),
            backends: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// Where the configuration comes from.
    pub fn discovery(&self) -> &Discovery {
        &self.discovery
    }

    /// Every backend in use, by name.
    pub fn backends(&self) -> Vec<Arc<BackendState>> {
        let known = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
        let mut backends: Vec<_> = known.values().filter_map(Weak::upgrade).collect();
        backends.sort_by(|a, b| a.backend.name.cmp(&b.backend.name));
        backends
    }

    /// The target that traffic names by `text`; asks the control plane on first use.
    ///
    /// # Errors
    /// The control plane did not answer in time, or is away and the destination was never seen.
    pub async fn resolve(&self, text: &str) -> Result<Arc<Target>, Unresolved> {
        if let Some(target) = self.held(text) {
            return Ok(target);
        }
        let destination = self.discovery.resolve(text, tokio::time::Instant::now() + RESOLVE_DEADLINE).await?;
        let target = self.build(text, destination);
        for asked in target.backends.iter().filter_map(|b| b.asked.get()) {
            resolve::first(asked.clone()).await;
        }
        Ok(target)
    }

    /// The target if it is held already.
    pub fn held(&self, text: &str) -> Option<Arc<Target>> {
        let held = self.targets.read().unwrap_or_else(PoisonError::into_inner).get(text).map(Arc::clone);
        // While names are asked for the first time, whoever comes waits in `resolve`.
        held.filter(|target| target.backends.iter().all(|b| b.asked.get().is_none_or(|asked| *asked.borrow())))
    }

    /// Waits for a target of `text` with another configuration than `last`.
    pub async fn newer(&self, text: &str, last: &Arc<Destination>) -> Arc<Target> {
        loop {
            let mut changed = pin!(self.changed.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            if let Some(held) = self.held(text)
                && !Arc::ptr_eq(&held.destination, last)
            {
                return held;
            }
            changed.await;
        }
    }

    /// Marks `text` as used, so that its subscription does not expire.
    pub fn touch(&self, text: &str) {
        self.discovery.touch(text);
    }

    /// Makes the target of `text` from the newest configuration. Both maps are locked before the snapshot is looked at,
    /// so that [`Targets::apply`], which locks after a snapshot is published, never misses what is being built.
    fn build(&self, text: &str, destination: Arc<Destination>) -> Arc<Target> {
        let mut targets = self.targets.write().unwrap_or_else(PoisonError::into_inner);
        let destination = self.snapshot.borrow().destinations.get(text).map_or(destination, Arc::clone);
        if let Some(held) = targets.get(text).filter(|t| Arc::ptr_eq(&t.destination, &destination)) {
            return Arc::clone(held);
        }
        let backends = destination.backends.iter().map(|backend| self.backend(backend)).collect();
        let target = Arc::new(Target {
            text: text.into(),
            prepared: prepare_routes(&destination),
            destination,
            backends,
            refused: OnceLock::new(),
            habit: Habit::default(),
            touched: AtomicI64::new(0),
        });
        targets.insert(text.into(), Arc::clone(&target));
        target
    }

    fn backend(&self, backend: &Arc<Backend>) -> Arc<BackendState> {
        let mut known = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
        let held = known.get(&backend.name).and_then(Weak::upgrade);
        let state = match held {
            Some(state) if state.backend == *backend => state,
            before => {
                let metrics = Arc::clone(&self.metrics);
                let state = Arc::new(BackendState::counted(Arc::clone(backend), metrics, before.as_deref()));
                known.insert(Arc::clone(&backend.name), Arc::downgrade(&state));
                state
            }
        };
        self.stand(&state);
        if !backend.dns.is_empty() {
            if state.asked.get().is_none()
                && let Some(asked) = resolve::follow(&state)
            {
                let _ = state.asked.set(asked);
            }
            return state;
        }
        if let Some(endpoints) = self.snapshot.borrow().endpoints.get(&backend.name) {
            state.update(endpoints, |ip| self.own.is_self(ip));
        }
        state
    }

    /// Tells a backend where the proxy is.
    fn stand(&self, state: &BackendState) {
        if let Some(workload) = &self.snapshot.borrow().workload {
            state.stand_at(&workload.zone, &workload.region);
        }
    }

    /// Follows the configuration: endpoints first, so that no route points at a backend that is not filled yet.
    /// Returns when the snapshot's sender is gone, which leaves everything as it was.
    pub async fn follow(self: Arc<Self>) {
        let mut changes = self.snapshot.clone();
        loop {
            let snapshot = Arc::clone(&changes.borrow_and_update());
            self.apply(&snapshot);
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    fn apply(&self, snapshot: &Snapshot) {
        {
            let mut known = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
            known.retain(|_, state| state.strong_count() > 0);
            for (name, endpoints) in &snapshot.endpoints {
                if let Some(state) = known.get(name).and_then(Weak::upgrade).filter(|s| s.backend.dns.is_empty()) {
                    self.stand(&state);
                    state.update(endpoints, |ip| self.own.is_self(ip));
                }
            }
        }
        let held: Vec<Arc<Target>> =
            self.targets.read().unwrap_or_else(PoisonError::into_inner).values().map(Arc::clone).collect();
        for target in held {
            match snapshot.destinations.get(&*target.text) {
                Some(destination) if Arc::ptr_eq(destination, &target.destination) => {}
                Some(destination) => {
                    self.build(&target.text, Arc::clone(destination));
                }
                None => {
                    self.targets.write().unwrap_or_else(PoisonError::into_inner).remove(&target.text);
                }
            }
        }
        self.changed.notify_waiters();
    }
}
