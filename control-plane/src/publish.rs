//! Brings the configuration in force to every connected proxy and knows what each has acknowledged. Knows nothing of
//! gRPC: a stream is requests in and updates out.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use causeway_mesh::spiffe::SpiffeId;
use causeway_mesh::wire;
use tokio::sync::{Notify, watch};

use crate::compile::Client;
use crate::metrics::Metrics;

mod feature;
pub mod progress;
pub mod session;
mod stream;
pub mod view;

pub use progress::Progress;
pub use session::{Session, SessionError};
pub use stream::{Ending, drive};
pub use view::{Catalogue, View};

/// Remembered per ServiceAccount.
const MAX_REMEMBERED: usize = 128;
/// ServiceAccounts that are remembered.
const MAX_ACCOUNTS: usize = 10_000;

/// Why a proxy may not have a stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// The first message is no Hello, or its workload is not `namespace/pod`.
    #[error("hello_malformed: {0}")]
    Hello(&'static str),
    /// The proxy's certificate is of another namespace.
    #[error("workload_namespace_mismatch: {id} may not ask for workloads of namespace {namespace}")]
    Namespace {
        /// Of the certificate.
        id: SpiffeId,
        /// Asked for.
        namespace: String,
    },
    /// The pod runs as somebody else.
    #[error("workload_account_mismatch: {id} may not ask for pod {pod}, which has another ServiceAccount")]
    Account {
        /// Of the certificate.
        id: SpiffeId,
        /// `namespace/name`
        pod: String,
    },
    /// The stream broke the rules of the wire.
    #[error(transparent)]
    Session(#[from] SessionError),
}

impl WatchError {
    /// Stable, for metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Hello(_) => "hello_malformed",
            Self::Namespace { .. } => "workload_namespace_mismatch",
            Self::Account { .. } => "workload_account_mismatch",
            Self::Session(_) => "stream_protocol",
        }
    }
}

/// Who is at the other end of a stream, as TLS proved it.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Of its certificate.
    pub id: SpiffeId,
    /// Where it comes from.
    pub address: SocketAddr,
    /// When its certificate ends, seconds since the epoch.
    pub certificate_expires: i64,
}

/// One connected proxy.
#[derive(Debug)]
pub struct Proxy {
    /// Who it is.
    pub peer: Peer,
    /// Its software version, as it says.
    pub version: String,
    /// Seconds since the epoch.
    pub since: i64,
    state: Mutex<ProxyState>,
    /// That something is in force which its stream has to look at.
    news: Notify,
}

#[derive(Debug)]
struct ProxyState {
    session: Session,
    waiting_since: Option<Instant>,
}

impl Proxy {
    /// Looks at the state of its stream.
    pub fn inspect<T>(&self, look: impl FnOnce(&Session, Option<Instant>) -> T) -> T {
        let state = self.state();
        look(&state.session, state.waiting_since)
    }

    fn state(&self) -> MutexGuard<'_, ProxyState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module.
pub struct Publisher {
    view: RwLock<Option<Arc<View>>>,
    proxies: Mutex<BTreeMap<u64, Arc<Proxy>>>,
    used: Mutex<BTreeMap<(String, String), VecDeque<String>>>,
    next_id: AtomicU64,
    /// Counts whatever may change the progress.
    changes: watch::Sender<u64>,
    progress: Mutex<Option<(u64, Arc<Progress>)>>,
    metrics: Metrics,
}

/// A proxy's entry in the list of connected ones; leaves it when dropped.
pub struct Registration {
    publisher: Arc<Publisher>,
    id: u64,
    /// The proxy.
    pub proxy: Arc<Proxy>,
}

impl Publisher {
    /// One that has nothing in force yet.
    pub fn new(metrics: Metrics) -> Self {
        Self {
            view: RwLock::default(),
            proxies: Mutex::default(),
            used: Mutex::default(),
            next_id: AtomicU64::new(0),
            changes: watch::Sender::new(0),
            progress: Mutex::default(),
            metrics,
        }
    }

    /// Puts a new configuration in force. The proxies that it touches follow, each at its own pace.
    pub fn publish(&self, view: View) {
        self.replace(|_| Some(view));
    }

    /// Changes the trust bundle alone; nothing while no configuration is in force.
    pub fn publish_trust(&self, trust: wire::TrustBundle) {
        self.replace(|now| {
            let now = now.filter(|now| now.trust != trust)?;
            Some(View::new(Arc::clone(&now.model), trust))
        });
    }

    fn replace(&self, next: impl FnOnce(Option<&View>) -> Option<View>) {
        let view = {
            let mut now = self.view.write().unwrap_or_else(PoisonError::into_inner);
            let Some(next) = next(now.as_deref()) else { return };
            let serial = now.as_ref().map_or(1, |v| v.serial + 1);
            let view = Arc::new(next.after(now.as_deref(), serial));
            *now = Some(Arc::clone(&view));
            view
        };
        // Who is not in the list yet has not looked yet.
        for proxy in self.proxies() {
            if !proxy.state().session.passes(&*view) {
                proxy.news.notify_one();
            }
        }
        self.note_change();
    }

    /// A count that grows with whatever may change [`Publisher::progress`].
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn note_change(&self) {
        self.changes.send_modify(|n| *n += 1);
    }

    /// On how many of the connected proxies each resource of the user's API is in force; None before the first
    /// configuration. Takes some milliseconds for thousands of proxies: not for each request.
    pub fn progress(&self) -> Option<Arc<Progress>> {
        let count = *self.changes.borrow();
        let mut kept = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, progress)) = &*kept
            && *of == count
        {
            return Some(Arc::clone(progress));
        }
        // The view first: a stream that looks at a newer one meanwhile has the older one too.
        let view = self.view()?;
        let standings: Vec<_> = self.proxies().iter().map(|p| p.inspect(|s, _| s.standing())).collect();
        let progress = Arc::new(progress::progress(&standings, view.since()));
        *kept = Some((count, Arc::clone(&progress)));
        Some(progress)
    }

    /// What the ServiceAccount of `client` used through this replica.
    pub fn remembered(&self, client: &Client) -> Vec<String> {
        self.used().get(&account_key(client)).map(|list| list.iter().cloned().collect()).unwrap_or_default()
    }

    /// What is in force; None before the first configuration was read.
    pub fn view(&self) -> Option<Arc<View>> {
        self.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The connected proxies.
    pub fn proxies(&self) -> Vec<Arc<Proxy>> {
        self.proxies.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Admits a proxy by its Hello; `now` in seconds since the epoch.
    ///
    /// # Errors
    /// When the certificate does not allow what it asks for.
    pub fn connect(self: &Arc<Self>, hello: &wire::Hello, peer: Peer, now: i64) -> Result<Registration, WatchError> {
        let (namespace, pod) =
            hello.workload.split_once('/').ok_or(WatchError::Hello("workload is not `namespace/pod`"))?;
        if namespace != peer.id.namespace() {
            return Err(WatchError::Namespace { id: peer.id, namespace: namespace.escape_debug().to_string() });
        }
        if !causeway_mesh::spiffe::is_dns_subdomain(pod) {
            return Err(WatchError::Hello("workload does not name a pod"));
        }
        let client =
            Client { namespace: namespace.to_owned(), account: peer.id.account().to_owned(), pod: pod.to_owned() };
        self.check_account(&client, &peer.id)?;
        let remembered = self.remembered(&client);
        let session = Session::new(client, hello, remembered)?;
        self.remember(session.client(), &hello.destinations);
        let version: String = hello.proxy_version.chars().filter(|c| c.is_ascii_graphic()).take(64).collect();
        let state = Mutex::new(ProxyState { session, waiting_since: None });
        let proxy = Arc::new(Proxy { peer, version, since: now, state, news: Notify::new() });
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        self.proxies.lock().unwrap_or_else(PoisonError::into_inner).insert(id, Arc::clone(&proxy));
        self.metrics.connected_proxies.inc();
        self.note_change();
        Ok(Registration { publisher: Arc::clone(self), id, proxy })
    }

    /// A pod that is known must run as the ServiceAccount of the certificate.
    fn check_account(&self, client: &Client, id: &SpiffeId) -> Result<(), WatchError> {
        let Some(view) = self.view() else { return Ok(()) };
        match view.model.pod(&client.namespace, &client.pod) {
            Some(info) if info.account != client.account => {
                Err(WatchError::Account { id: id.clone(), pod: format!("{}/{}", client.namespace, client.pod) })
            }
            _ => Ok(()),
        }
    }

    /// Keeps what the ServiceAccount uses, the newest last, so that its next pod gets it unasked.
    fn remember(&self, client: &Client, texts: &[String]) {
        let mut used = self.used();
        let key = account_key(client);
        if !used.contains_key(&key) && used.len() >= MAX_ACCOUNTS {
            return;
        }
        let list = used.entry(key).or_default();
        for text in texts {
            if !list.contains(text) {
                list.push_back(text.clone());
            }
        }
        while list.len() > MAX_REMEMBERED {
            list.pop_front();
        }
    }

    fn forget(&self, client: &Client, texts: &[String]) {
        if let Some(list) = self.used().get_mut(&account_key(client)) {
            list.retain(|t| !texts.contains(t));
        }
    }

    fn used(&self) -> MutexGuard<'_, BTreeMap<(String, String), VecDeque<String>>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn account_key(client: &Client) -> (String, String) {
    (client.namespace.clone(), client.account.clone())
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.publisher.proxies.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
        self.publisher.metrics.connected_proxies.dec();
        self.publisher.note_change();
    }
}
