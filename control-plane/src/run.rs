//! Puts the parts together, and takes them down in order.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::admin::{self, Admin, Face, Replica};
use crate::args::{Args, Source, Verdict};
use crate::ca::{Authority, CaFiles};
use crate::clock;
use crate::compile::Settings;
use crate::identity::Certifier;
use crate::index::Resources;
use crate::metrics::{Metrics, SharedRegistry};
use crate::publish::Publisher;
use crate::readiness::Readiness;
use crate::server::{self, Services, accept};
use crate::source::{Event, directory};
use crate::state::{StateDir, StateLock};
use crate::token::{LocalTokens, TokenReviewer};

mod configuration;
mod kubernetes;
mod program;
mod renewal;

pub use kubernetes::Parts;
pub use program::main_from;

/// How long calls may take to end after the streams were told to.
const DRAIN_DEADLINE: Duration = Duration::from_secs(10);
/// How long the Lease may take to be given back; its end frees it anyway.
const LEAVE_DEADLINE: Duration = Duration::from_secs(3);

/// A control plane that serves.
pub struct Running {
    /// Where proxies connect.
    pub listen: SocketAddr,
    /// Where people look.
    pub admin: SocketAddr,
    draining: watch::Sender<bool>,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    background: JoinSet<()>,
    /// Ends by itself once it has given back the Lease.
    leaving: Option<JoinHandle<()>>,
    /// Given back last.
    _lock: StateLock,
}

/// What exists before there is a CA: something to ask, and nothing to serve.
struct Foundation {
    registry: SharedRegistry,
    metrics: Metrics,
    publisher: Arc<Publisher>,
    readiness: Readiness,
    draining: watch::Receiver<bool>,
}

impl Foundation {
    fn new(draining: watch::Receiver<bool>) -> Self {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let publisher = Arc::new(Publisher::new(metrics.clone()));
        Self { registry: Arc::new(registry), metrics, publisher, readiness: Readiness::default(), draining }
    }

    fn pages(&self, face: Face) -> Admin {
        Admin {
            face,
            publisher: Arc::clone(&self.publisher),
            readiness: self.readiness.clone(),
            registry: Arc::clone(&self.registry),
            metrics: self.metrics.clone(),
            draining: self.draining.clone(),
        }
    }
}

/// What differs between the sources: who signs, who knows tokens, what else runs.
struct Grounds {
    authority: Arc<Authority>,
    tokens: TokenReviewer,
    /// Gives the source its task.
    events: mpsc::Receiver<Vec<Event>>,
    /// Whether this replica writes, and the task that gives the Lease back; None where nothing is written.
    election: Option<(watch::Receiver<bool>, JoinHandle<()>)>,
    resources: watch::Sender<Option<Arc<Resources>>>,
}

impl Running {
    /// Starts to serve; on return every address is bound.
    ///
    /// # Errors
    /// What kept it from serving. Nothing is left running then.
    pub async fn start(args: &Args) -> anyhow::Result<Self> {
        let state = StateDir::open(&args.state)?;
        let lock = state.lock()?;
        let listener = bind(args.listen, "--listen")?;
        let admin_listener = bind(args.admin, "--admin")?;
        let (listen, admin) = (listener.local_addr()?, admin_listener.local_addr()?);
        let (draining, is_draining) = watch::channel(false);
        let foundation = Foundation::new(is_draining.clone());
        let mut background = JoinSet::new();
        if let Some(address) = args.kubernetes.health {
            // Before all else: kubelet shall hear what is awaited, not that nobody answers.
            background.spawn(admin::serve(foundation.pages(Face::Health), bind(address, "--health")?));
        }

        let gate = foundation.readiness.gate("the CA (see the log)");
        let grounds = match &args.source {
            Source::Directory(path) => directory(args, path.clone(), state, &mut background)?,
            Source::Kubernetes => kubernetes::grounds(args, state, &foundation, &mut background).await?,
        };
        let Grounds { authority, tokens, events, election, resources } = grounds;
        let (metrics, publisher) = (foundation.metrics.clone(), Arc::clone(&foundation.publisher));
        let (renew_at, config) = renewal::server_config(&authority, &metrics, clock::unix_now())?;
        let tls = watch::Sender::new(config);
        let services = Services {
            certifier: Arc::new(Certifier::new(Arc::clone(&authority), tokens, Arc::clone(&publisher))),
            publisher: Arc::clone(&publisher),
            metrics: metrics.clone(),
            own: authority.own_id()?,
            replica: args.kubernetes.pod_name.clone(),
            draining: is_draining.clone(),
        };
        let (connections, accepted) = mpsc::channel(64);
        background.spawn(accept::accept(listener, tls.subscribe(), connections, metrics.clone(), is_draining));
        let server = tokio::spawn(server::serve(services, accepted));
        background.spawn(configuration::follow(
            events,
            settings(args),
            Arc::clone(&authority),
            Arc::clone(&publisher),
            metrics.clone(),
            resources,
        ));
        background.spawn(renewal::renew(Arc::clone(&authority), publisher, tls, renew_at, metrics));
        let (leader, leaving) = election.unzip();
        let pod = args.kubernetes.pod_name.clone();
        let source = if leader.is_some() { "kubernetes" } else { "directory" };
        let face = Face::Admin(Arc::new(Replica { authority, pod, source, leader }));
        background.spawn(admin::serve(foundation.pages(face), admin_listener));
        gate.open();
        tracing::info!(%listen, %admin, trust_domain = args.trust_domain, "control plane serves");
        Ok(Self { listen, admin, draining, server, background, leaving, _lock: lock })
    }

    /// Ends politely: no new connections, streams closed so that proxies resume elsewhere, then gone.
    ///
    /// # Errors
    /// When the server had failed.
    pub async fn shut_down(mut self) -> anyhow::Result<()> {
        self.draining.send_replace(true);
        if let Some(leaving) = self.leaving.take() {
            let _ = tokio::time::timeout(LEAVE_DEADLINE, leaving).await;
        }
        let ended = tokio::time::timeout(DRAIN_DEADLINE, &mut self.server).await;
        self.background.shutdown().await;
        match ended {
            Ok(joined) => joined.context("the server's task failed")?.context("the server failed"),
            Err(_) => {
                tracing::info!("some connections did not end in time; they are cut");
                Ok(())
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.server.abort();
        if let Some(leaving) = &self.leaving {
            leaving.abort();
        }
    }
}

/// Serves until `shutdown`, then ends politely.
///
/// # Errors
/// What kept it from serving.
pub async fn run(args: Args, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    let mut shutdown = std::pin::pin!(shutdown);
    let mut running = tokio::select! {
        started = Running::start(&args) => started?,
        // The start may wait for the API server.
        () = &mut shutdown => return Ok(()),
    };
    tokio::select! {
        () = shutdown => {
            tracing::info!("shutting down");
            running.shut_down().await
        }
        ended = &mut running.server => {
            ended.context("the server's task failed")?.context("the server failed")?;
            anyhow::bail!("the server ended by itself")
        }
        // Better gone and started again than deaf: the proxies keep what they have meanwhile.
        Some(ended) = running.background.join_next() => {
            ended.context("a part of the control plane failed")?;
            anyhow::bail!("a part of the control plane ended by itself")
        }
    }
}

fn directory(
    args: &Args,
    path: std::path::PathBuf,
    state: StateDir,
    background: &mut JoinSet<()>,
) -> anyhow::Result<Grounds> {
    let tokens = LocalTokens::open(&state)?;
    let files = match (&args.ca_cert, &args.ca_key) {
        (Some(cert), Some(key)) => CaFiles::Given { cert: cert.clone(), key: key.clone() },
        _ => CaFiles::Own,
    };
    let now = clock::unix_now();
    let authority = Arc::new(Authority::open(state, files, &args.trust_domain, args.leaf_ttl, now)?);
    let (sender, events) = mpsc::channel(16);
    background.spawn(directory::watch(path, sender));
    let tokens = TokenReviewer::Local(tokens);
    Ok(Grounds { authority, tokens, events, election: None, resources: watch::Sender::default() })
}

fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    let listen = |address: SocketAddr| {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        // All proxies of a mesh may come back at once.
        socket.listen(4096)
    };
    let bound = match listen(address) {
        // Every address, on a machine without IPv6: those of IPv4 then.
        Err(_) if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) => {
            listen(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()))
        }
        bound => bound,
    };
    bound.with_context(|| format!("{flag} {address} cannot be bound"))
}

fn settings(args: &Args) -> Settings {
    Settings {
        trust_domain: args.trust_domain.clone(),
        cluster_domain: args.cluster_domain.clone(),
        default_allow: args.default_policy == Verdict::Allow,
        egress_allow: args.egress == Verdict::Allow,
        ..Settings::default()
    }
}
