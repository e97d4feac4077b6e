//! Asks the other replicas how far their proxies are, each on its own connection under the mesh's rule, and keeps what they
//! said last. What that means is left to `gather`.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use causeway_mesh::svid::{self, ServerVerifier};
use causeway_mesh::wire;
use causeway_mesh::wire::replicas_client::ReplicasClient;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

use super::gather::Other;
use crate::ca::Authority;
use crate::clock;
use crate::index::Resources;
use crate::kubernetes::{NAME, NAMESPACE};
use crate::publish::Progress;
use crate::publish::progress::report;

/// Name of the Service's port.
const PORT: &str = "grpc";
/// For TCP and TLS together.
const CONNECT: Duration = Duration::from_secs(3);
/// How long a replica may hold an answer back while nothing changes.
const HOLD: Duration = Duration::from_secs(3);
/// Later than this is no answer.
const ANSWER: Duration = Duration::from_secs(6);
/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);
/// An endpoint that is not ready and does not answer for so long has no proxies any more: they notice it sooner.
const LOST: Duration = Duration::from_secs(60);
/// 10,000 proxies and 2,000 resources are less than a megabyte.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// Where a replica may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Name of its pod, where the slice says it.
    pub pod: Option<String>,
    /// Whether Kubernetes sends proxies there.
    pub ready: bool,
}

/// Where the replicas other than `own` are, as the EndpointSlices of the control plane's Service say.
pub fn places(resources: &Resources, own: &str) -> BTreeMap<SocketAddr, Place> {
    let slices = resources.endpoint_slices.values();
    let slices = slices.filter(|s| s.meta.key.namespace == NAMESPACE && s.service == NAME);
    let mut all = BTreeMap::new();
    for slice in slices {
        let named = slice.ports.iter().find(|(name, _)| name == PORT);
        let only = if slice.ports.len() == 1 { slice.ports.first() } else { None };
        let Some(port) = named.or(only).and_then(|(_, port)| *port) else { continue };
        for endpoint in slice.endpoints.iter().filter(|e| e.pod.as_deref() != Some(own)) {
            for address in &endpoint.addresses {
                let place = Place { pod: endpoint.pod.clone(), ready: endpoint.ready };
                all.insert(SocketAddr::new(*address, port), place);
            }
        }
    }
    all
}

/// What is known of one replica.
#[derive(Debug)]
struct Known {
    name: Option<String>,
    progress: Option<Arc<Progress>>,
    /// Since when it has not answered; None while it does.
    silent_since: Option<Instant>,
    /// Nobody listens there, so no proxy is connected there.
    is_gone: bool,
}

struct Asked {
    known: Arc<Mutex<Known>>,
    place: Place,
    task: JoinHandle<()>,
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The other replicas. Dropping it ends the asking.
pub struct Replicas {
    own: String,
    authority: Arc<Authority>,
    asked: BTreeMap<SocketAddr, Asked>,
    changes: watch::Sender<u64>,
}

impl Replicas {
    /// Asks nobody yet; `own` is the name of this replica.
    pub fn new(own: &str, authority: Arc<Authority>) -> Self {
        Self { own: own.to_owned(), authority, asked: BTreeMap::new(), changes: watch::Sender::new(0) }
    }

    /// Counts what was heard.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Asks those that are in `places`, and nobody else any more.
    pub fn follow(&mut self, places: BTreeMap<SocketAddr, Place>) {
        self.asked.retain(|address, _| places.contains_key(address));
        for (address, place) in places {
            if let Some(asked) = self.asked.get_mut(&address).filter(|a| a.place.pod == place.pod) {
                asked.place = place;
                continue;
            }
            let known =
                Known { name: place.pod.clone(), progress: None, silent_since: Some(clock::now()), is_gone: false };
            let known = Arc::new(Mutex::new(known));
            let asking = Asking {
                address,
                authority: Arc::clone(&self.authority),
                known: Arc::clone(&known),
                changes: self.changes.clone(),
            };
            let task = tokio::spawn(asking.run());
            self.asked.insert(address, Asked { known, place, task });
        }
    }

    /// What they said last.
    pub fn heard(&self) -> Vec<Other> {
        let other = |(address, asked): (&SocketAddr, &Asked)| {
            let known = lock(&asked.known);
            let is_lost = !asked.place.ready && known.silent_since.is_some_and(|since| since.elapsed() > LOST);
            // A slice may not name the pod; the replica itself does.
            if known.is_gone || is_lost || known.name.as_ref() == Some(&self.own) {
                return None;
            }
            let name = known.name.clone().unwrap_or_else(|| address.to_string());
            // One that has just appeared is not silent: it has not had the time to answer, and nothing is known of it.
            let is_new = || known.progress.is_none() && known.silent_since.is_some_and(|s| s.elapsed() < ANSWER);
            let progress = match known.silent_since {
                None => known.progress.clone(),
                Some(_) => is_new().then(Arc::default),
            };
            Some(Other { name, progress })
        };
        self.asked.iter().filter_map(other).collect()
    }
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks one replica until it is dropped.
struct Asking {
    address: SocketAddr,
    authority: Arc<Authority>,
    known: Arc<Mutex<Known>>,
    changes: watch::Sender<u64>,
}

impl Asking {
    async fn run(self) {
        loop {
            match self.connect().await {
                // A connection that broke may come back at once: only who cannot be reached again is silent.
                Ok(channel) => {
                    let (error, has_answered) = self.listen(channel).await;
                    tracing::debug!(address = %self.address, error, "the connection to another replica ended");
                    if has_answered {
                        continue;
                    }
                    self.note(|known| {
                        known.silent_since.get_or_insert_with(clock::now);
                    });
                }
                Err(error) => {
                    tracing::debug!(address = %self.address, %error, "another replica cannot be reached");
                    self.note(|known| {
                        known.silent_since.get_or_insert_with(clock::now);
                        known.is_gone = error.kind() == io::ErrorKind::ConnectionRefused;
                    });
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn note(&self, change: impl FnOnce(&mut Known)) {
        change(&mut lock(&self.known));
        self.changes.send_modify(|n| *n += 1);
    }

    async fn connect(&self) -> io::Result<Channel> {
        let own = self.authority.own_id().map_err(io::Error::other)?;
        let (key, _) = self.authority.server_key(clock::unix_now()).map_err(io::Error::other)?;
        let server = ServerVerifier::new(own, self.authority.roots_source());
        let config = svid::client_config(Some(key), server, &[b"h2"]).map_err(io::Error::other)?;
        let connector = TlsConnector::from(Arc::new(config));
        let dial = async {
            let tcp = TcpStream::connect(self.address).await?;
            tcp.set_nodelay(true)?;
            connector.connect(ServerName::from(self.address.ip()), tcp).await
        };
        let stream = timeout(CONNECT, dial).await??;
        let endpoint = Endpoint::from_shared(format!("https://{}", self.address)).map_err(io::Error::other)?;
        // Handed out once: a second connect means that the first is over.
        let mut once = Some(stream);
        let connector = tower::service_fn(move |_: Uri| {
            let stream = once.take().map(TokioIo::new);
            async move { stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)) }
        });
        timeout(CONNECT, endpoint.connect_with_connector(connector)).await?.map_err(io::Error::other)
    }

    /// Asks again and again; what ended it, and whether there was an answer before.
    async fn listen(&self, channel: Channel) -> (String, bool) {
        let mut client = ReplicasClient::new(channel).max_decoding_message_size(MAX_ANSWER);
        let mut digest = 0;
        loop {
            let wait_ms = u32::try_from(HOLD.as_millis()).unwrap_or(u32::MAX);
            let request = wire::ProgressRequest { known: digest, wait_ms };
            let reply = match timeout(ANSWER, client.progress(request)).await {
                Ok(Ok(reply)) => reply.into_inner(),
                Ok(Err(status)) => return (status.to_string(), digest != 0),
                Err(_) => return (format!("no answer within {ANSWER:?}"), digest != 0),
            };
            digest = reply.digest;
            let name = reply.replica.clone();
            let progress = if reply.unchanged { None } else { Some(Arc::new(report::from_wire(reply))) };
            self.note(|known| {
                known.name = Some(name);
                known.progress = progress.or(known.progress.take());
                known.silent_since = None;
                known.is_gone = false;
            });
        }
    }
}
