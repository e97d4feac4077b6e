//! Puts the parts together, and takes them down in order.

use std::ffi::OsString;
use std::future::Future;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use causeway_mesh::svid::{self, ClientVerifier};
use clap::Parser as _;
use prometheus_client::registry::Registry;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::admin::{self, Admin};
use crate::args::{Args, Cli, Command, LogFormat, Source, TokenArgs, Verdict};
use crate::ca::{Authority, CaFiles};
use crate::clock;
use crate::compile::Settings;
use crate::identity::Certifier;
use crate::metrics::Metrics;
use crate::publish::Publisher;
use crate::server::{self, Services, accept};
use crate::source::directory;
use crate::state::{StateDir, StateLock};
use crate::token::{LocalTokens, TokenRequest, TokenReviewer};

mod configuration;

/// How often the CA's files are read again.
const RELOAD: Duration = Duration::from_secs(5);
const DAY: i64 = 24 * 3600;
/// How long calls may take to end after the streams were told to.
const DRAIN_DEADLINE: Duration = Duration::from_secs(10);

/// A control plane that serves.
pub struct Running {
    /// Where proxies connect.
    pub listen: SocketAddr,
    /// Where people look.
    pub admin: SocketAddr,
    draining: watch::Sender<bool>,
    server: tokio::task::JoinHandle<Result<(), tonic::transport::Error>>,
    background: JoinSet<()>,
    /// Given back last.
    _lock: StateLock,
}

impl Running {
    /// Starts to serve; on return both addresses are bound.
    ///
    /// # Errors
    /// What kept it from serving. Nothing is left running then.
    pub async fn start(args: &Args) -> anyhow::Result<Self> {
        let now = clock::unix_now();
        let state = StateDir::open(&args.state)?;
        let lock = state.lock()?;
        let tokens = LocalTokens::open(&state)?;
        let files = match (&args.ca_cert, &args.ca_key) {
            (Some(cert), Some(key)) => CaFiles::Given { cert: cert.clone(), key: key.clone() },
            _ => CaFiles::Own,
        };
        let authority = Arc::new(Authority::open(state, files, &args.trust_domain, args.leaf_ttl, now)?);
        let listener = bind(args.listen, "--listen")?;
        let admin_listener = bind(args.admin, "--admin")?;
        let (listen, admin) = (listener.local_addr()?, admin_listener.local_addr()?);

        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let publisher = Arc::new(Publisher::new(metrics.clone()));
        let (draining, is_draining) = watch::channel(false);
        let (renew_at, config) = server_config(&authority, &metrics, now)?;
        let tls = watch::Sender::new(config);
        let mut background = JoinSet::new();

        let services = Services {
            certifier: Arc::new(Certifier::new(
                Arc::clone(&authority),
                TokenReviewer::Local(tokens),
                Arc::clone(&publisher),
            )),
            publisher: Arc::clone(&publisher),
            metrics: metrics.clone(),
            draining: is_draining.clone(),
        };
        let (connections, accepted) = mpsc::channel(64);
        background.spawn(accept::accept(listener, tls.subscribe(), connections, metrics.clone(), is_draining.clone()));
        let server = tokio::spawn(server::serve(services, accepted));

        let Source::Directory(path) = &args.source else { anyhow::bail!("--source kubernetes is not wired yet") };
        let (events, received) = mpsc::channel(16);
        background.spawn(directory::watch(path.clone(), events));
        background.spawn(configuration::follow(
            received,
            settings(args),
            Arc::clone(&authority),
            Arc::clone(&publisher),
            metrics.clone(),
        ));
        background.spawn(renew(Arc::clone(&authority), Arc::clone(&publisher), tls, renew_at, metrics.clone()));
        let view = Admin { publisher, authority, registry: Arc::new(registry), metrics, draining: is_draining };
        background.spawn(admin::serve(view, admin_listener));
        tracing::info!(%listen, %admin, trust_domain = args.trust_domain, "control plane serves");
        Ok(Self { listen, admin, draining, server, background, _lock: lock })
    }

    /// Ends politely: no new connections, streams closed so that proxies resume elsewhere, then gone.
    ///
    /// # Errors
    /// When the server had failed.
    pub async fn shut_down(mut self) -> anyhow::Result<()> {
        self.draining.send_replace(true);
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
    }
}

/// Serves until `shutdown`, then ends politely.
///
/// # Errors
/// What kept it from serving.
pub async fn run(args: Args, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    let mut running = Running::start(&args).await?;
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

/// The whole program. `args` begins with the program's name; builds its own runtime.
pub fn main_from(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let done = match (cli.command, cli.serve) {
        (Some(Command::Token(args)), _) => print_token(&args),
        (None, Some(args)) => {
            init_log(&args);
            serve_until_signal(args)
        }
        (None, None) => Err(anyhow::anyhow!("--source and --state are needed; --help explains them")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[allow(clippy::print_stderr)] // the one line for whoever started it
            {
                eprintln!("causeway-control-plane: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

fn serve_until_signal(args: Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let (told, mut heard) = mpsc::channel::<()>(1);
        tokio::spawn(async move {
            for attempt in 0.. {
                tokio::select! { _ = term.recv() => {} _ = int.recv() => {} }
                if attempt > 0 {
                    tracing::warn!("a second signal: ending at once");
                    std::process::exit(1);
                }
                let _ = told.send(()).await;
            }
        });
        run(args, async move {
            let _ = heard.recv().await;
        })
        .await
    })
}

fn print_token(args: &TokenArgs) -> anyhow::Result<()> {
    let state = StateDir::open(&args.state)?;
    let request = TokenRequest {
        namespace: args.account.0.clone(),
        account: args.account.1.clone(),
        pod: args.pod.clone(),
        ttl: i64::try_from(args.ttl.as_secs()).unwrap_or(i64::MAX),
        audience: args.audience.clone(),
    };
    let token = LocalTokens::open(&state)?.issue(&request, clock::unix_now())?;
    #[allow(clippy::print_stdout)] // the token is what was asked for
    {
        println!("{token}");
    }
    Ok(())
}

fn init_log(args: &Args) {
    let (filter, bad) = match args.log.parse::<tracing_subscriber::EnvFilter>() {
        Ok(filter) => (filter, None),
        Err(error) => (tracing_subscriber::EnvFilter::new("info"), Some(error)),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Whoever embeds this may have a subscriber already; theirs stays.
    let _ = match args.log_format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    if let Some(error) = bad {
        tracing::warn!(%error, "--log is not a filter; logging at info");
    }
}

fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        // All proxies of a mesh may come back at once.
        socket.listen(4096)
    };
    listen().with_context(|| format!("{flag} {address} cannot be bound"))
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

/// The listener's TLS with a fresh certificate, and when to renew it (seconds since the epoch).
fn server_config(authority: &Arc<Authority>, metrics: &Metrics, now: i64) -> anyhow::Result<(i64, Arc<ServerConfig>)> {
    let (key, issued) = authority.server_key(now)?;
    metrics.server_certificate_expiry.set(issued.not_after);
    let clients = ClientVerifier::optional(authority.roots_source());
    let config = svid::server_config(key, clients, &[b"h2"])?;
    // Life counts from now: the back-dated part was never used.
    Ok((causeway_mesh::lifetime::renew_at(now, issued.not_after, 0.5), Arc::new(config)))
}

/// Reads the CA's files again, and keeps the listener's certificate and the proxies' trust bundle up to date.
async fn renew(
    authority: Arc<Authority>,
    publisher: Arc<Publisher>,
    tls: watch::Sender<Arc<ServerConfig>>,
    mut renew_at: i64,
    metrics: Metrics,
) {
    let (mut warn_at, mut last_error) = (0, String::new());
    loop {
        let left = u64::try_from(renew_at - clock::unix_now()).unwrap_or(0).max(1);
        tokio::time::sleep(RELOAD.min(Duration::from_secs(left))).await;
        let now = clock::unix_now();
        let changed = match authority.reload(now) {
            Ok(changed) => {
                metrics.reload_failed.set(0);
                last_error.clear();
                changed
            }
            Err(error) => {
                metrics.reload_failed.set(1);
                // Once, not every few seconds until somebody comes.
                if last_error != error.to_string() {
                    last_error = error.to_string();
                    tracing::warn!(%error, "the CA's files changed and cannot be used; what was in force stays");
                }
                false
            }
        };
        publisher.publish_trust(authority.bundle(now));
        let days = (authority.expires() - now) / DAY;
        if days < 60 && now >= warn_at {
            warn_at = now + DAY;
            tracing::warn!(days, "the CA's certificate ends soon; announce its successor in extra-roots.pem");
        }
        if changed {
            tracing::info!("the CA or the trust bundle changed");
        }
        if changed || now >= renew_at {
            match server_config(&authority, &metrics, now) {
                Ok((at, config)) => {
                    renew_at = at;
                    tls.send_replace(config);
                }
                Err(error) => {
                    tracing::error!(%error, "the listener's certificate cannot be renewed");
                    renew_at = now + 5;
                }
            }
        }
    }
}
