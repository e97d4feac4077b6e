//! The proxy's view of the configuration: subscribes to what traffic uses, applies what the control plane sends, and
//! publishes each state as one immutable `Snapshot`; using it is the data plane's job.
//!
//! Fails static: while the control plane is away the last snapshot stays, whatever its age. A resource that did not
//! change keeps its `Arc` from snapshot to snapshot, so that others may cache by pointer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use causeway_mesh::config::{Destination, Endpoint, Fault, TrustBundle, Workload};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::identity;
use crate::store::{Store, StoredConfig};
use crate::tls::Tls;
use crate::tls::dial::{ControlPlane, DialError, control_plane_id};

mod apply;
mod stream;
mod subscriptions;

use apply::Held;
use subscriptions::Subscriptions;

/// The configuration in force at one moment. Immutable; in-flight work keeps the one that it began with.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Absent until the control plane was heard once: nothing may be let in.
    pub workload: Option<Arc<Workload>>,
    /// Absent until the stream brought one.
    pub trust: Option<Arc<TrustBundle>>,
    /// By the text asked for.
    pub destinations: HashMap<Arc<str>, Arc<Destination>>,
    /// By the backend's name.
    pub endpoints: HashMap<Arc<str>, Arc<[Endpoint]>>,
    /// Grows by one with each change.
    pub generation: u64,
}

/// Why a destination is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    /// Not held, and nobody to ask.
    #[error("the control plane is away and the destination was not used before")]
    ControlPlaneAway,
    /// The control plane is there but did not answer in time.
    #[error("the control plane did not answer in time")]
    Deadline,
    /// No subscription is free: all of them are in use.
    #[error("too many destinations are in use at once")]
    TooMany,
    /// Not a text by which a destination can be asked for.
    #[error("not a `host:port` of at most 320 bytes")]
    NotADestination,
}

/// The stream as `/status`, metrics and logs show it.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// The stream stands.
    pub connected: bool,
    /// The last attempt to reach the control plane failed.
    pub away: bool,
    /// Seconds since the epoch, 0: never.
    pub last_contact: i64,
    /// Nonce of the last batch in force (of its stream).
    pub acked: u64,
    /// What was wrong with the last batch, while it was refused.
    pub nacked: Vec<Fault>,
    /// Streams opened so far.
    pub streams: u64,
    /// Times that the digest differed.
    pub drifts: u64,
    /// Why the last stream or attempt ended.
    pub last_error: Option<String>,
    /// Destinations subscribed to.
    pub subscriptions: usize,
    /// Resources held.
    pub resources: usize,
}

/// What the proxy needs to know to get its identity and its configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `https://HOST:PORT`
    pub control_plane: http::Uri,
    /// Token, bundle, workload.
    pub identity: identity::Settings,
    /// Told to the control plane for `causeway status`.
    pub version: String,
    /// Where to keep the last good state; `None`: nowhere.
    pub state: Option<std::path::PathBuf>,
    /// A destination that nothing used for this long is given up.
    pub idle_subscription: Duration,
}

/// Why the control side cannot even start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The control plane's address.
    #[error("--control-plane: {0}")]
    ControlPlane(#[from] DialError),
    /// The trust domain.
    #[error("--trust-domain: {0}")]
    TrustDomain(#[from] causeway_mesh::spiffe::SpiffeError),
    /// The state directory.
    #[error("--state {path}: {error}")]
    State {
        /// As configured.
        path: std::path::PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
}

/// Starts identity, discovery and store on the current runtime. What is not there yet is waited for, not an error.
///
/// # Errors
/// [`StartError`], for settings that can never work.
pub fn start(settings: &Settings) -> Result<(Tls, Discovery), StartError> {
    let id = control_plane_id(&settings.identity.trust_domain)?;
    let control_plane = Arc::new(ControlPlane::new(settings.control_plane.clone(), id)?);
    let (store, loaded) = match &settings.state {
        Some(path) => match Store::open(path) {
            Ok((store, loaded)) => (Some(store), loaded),
            Err(error) => return Err(StartError::State { path: path.clone(), error }),
        },
        None => (None, crate::store::Loaded::default()),
    };
    let (trust, trusted) = watch::channel(None);
    let tls =
        identity::spawn(settings.identity.clone(), control_plane.clone(), trusted, store.clone(), loaded.identity);
    let discovery = Discovery::spawn(settings, control_plane, tls.clone(), trust, store, loaded.config);
    Ok((tls, discovery))
}

/// The handle that the data plane holds. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Discovery {
    snapshot: watch::Receiver<Arc<Snapshot>>,
    status: Arc<watch::Sender<Status>>,
    subscriptions: Arc<Subscriptions>,
}

/// What the stream's task and the handles share, and the task's own.
struct Core {
    own: apply::Own,
    version: String,
    control_plane: Arc<ControlPlane>,
    tls: Tls,
    held: Held,
    publish: watch::Sender<Arc<Snapshot>>,
    trust: watch::Sender<Option<Arc<TrustBundle>>>,
    status: Arc<watch::Sender<Status>>,
    subscriptions: Arc<Subscriptions>,
    store: Option<Store>,
}

impl Discovery {
    fn spawn(
        settings: &Settings,
        control_plane: Arc<ControlPlane>,
        tls: Tls,
        trust: watch::Sender<Option<Arc<TrustBundle>>>,
        store: Option<Store>,
        stored: Option<StoredConfig>,
    ) -> Self {
        let (publish, snapshot) = watch::channel(Arc::new(Snapshot::default()));
        let status = Arc::new(watch::Sender::new(Status::default()));
        let subscriptions = Arc::new(Subscriptions::new(settings.idle_subscription));
        let identity = &settings.identity;
        let mut core = Core {
            own: apply::Own {
                namespace: identity.namespace.clone(),
                pod: identity.pod.clone(),
                trust_domain: identity.trust_domain.clone(),
            },
            version: settings.version.clone(),
            control_plane,
            tls,
            held: Held::default(),
            publish,
            trust,
            status: status.clone(),
            subscriptions: subscriptions.clone(),
            store,
        };
        if let Some(stored) = stored {
            core.restore(&stored, &identity.workload());
        }
        tokio::spawn(core.run());
        Self { snapshot, status, subscriptions }
    }

    /// Follows the configuration. A closed sender means: keep the last value.
    pub fn snapshot(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.clone()
    }

    /// What becomes of traffic to `text` (`host:port` lower case, or `ip:port`): at once when it is held, otherwise when
    /// the control plane answered. Any number of waiters share one subscription.
    ///
    /// # Errors
    /// [`Unresolved`], at `deadline` at the latest, and at once while the control plane is known to be away.
    pub async fn resolve(&self, text: &str, deadline: Instant) -> Result<Arc<Destination>, Unresolved> {
        let mut snapshot = self.snapshot.clone();
        let held = snapshot.borrow_and_update().destinations.get(text).cloned();
        if let Some(held) = held {
            self.touch(text);
            return Ok(held);
        }
        self.subscriptions.want(text)?;
        let mut status = self.status.subscribe();
        loop {
            if let Some(found) = snapshot.borrow_and_update().destinations.get(text) {
                return Ok(found.clone());
            }
            if status.borrow_and_update().away {
                return Err(Unresolved::ControlPlaneAway);
            }
            tokio::select! {
                changed = snapshot.changed() => if changed.is_err() { return Err(Unresolved::ControlPlaneAway) },
                _ = status.changed() => {}
                () = sleep_until(deadline) => {
                    let connected = status.borrow().connected;
                    return Err(if connected { Unresolved::Deadline } else { Unresolved::ControlPlaneAway });
                }
            }
        }
    }

    /// Marks a destination as used now, so that its subscription stays. Cheap: a shared lock and one store.
    pub fn touch(&self, text: &str) {
        if !self.subscriptions.touch(text) && self.snapshot.borrow().destinations.contains_key(text) {
            // Sent unasked (prefetch) and used now: ask for it, so that it stays. A full table costs only that.
            self.subscriptions.want(text).ok();
        }
    }

    /// The state of the stream.
    pub fn status(&self) -> Status {
        let mut status = self.status.borrow().clone();
        status.subscriptions = self.subscriptions.len();
        status
    }

    /// Follows the state of the stream.
    pub fn watch_status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }
}

impl Core {
    fn restore(&mut self, stored: &StoredConfig, workload: &str) {
        if stored.workload != workload {
            tracing::warn!(stored = stored.workload, workload, "stored configuration is of another workload, not used");
            return;
        }
        let batch = apply::Batch::decode(&stored.resources, &[], &self.held, &self.own);
        match batch {
            Ok(batch) => {
                self.held.apply(batch);
                for text in self.held.destinations() {
                    self.subscriptions.want(text).ok();
                }
                tracing::info!(resources = self.held.len(), "stored configuration in force");
                self.publish_held();
            }
            Err(faults) => {
                let fault = faults.first().map(ToString::to_string);
                tracing::warn!(fault, "stored configuration cannot be understood, not used");
            }
        }
    }

    fn publish_held(&self) {
        let snapshot = self.held.snapshot(&self.publish.borrow());
        self.status.send_if_modified(|s| std::mem::replace(&mut s.resources, self.held.len()) != self.held.len());
        self.trust.send_if_modified(|trust| {
            let same = match (&*trust, &snapshot.trust) {
                (Some(a), Some(b)) => Arc::ptr_eq(a, b),
                (None, None) => true,
                _ => false,
            };
            if !same && snapshot.trust.is_some() {
                trust.clone_from(&snapshot.trust);
            }
            !same && snapshot.trust.is_some()
        });
        self.publish.send_replace(Arc::new(snapshot));
    }

    fn save(&self) {
        if let Some(store) = &self.store {
            store.save_config(StoredConfig { workload: self.own.workload(), resources: self.held.raw() });
        }
    }
}
