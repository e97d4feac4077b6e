//! Puts the proxy together: a runtime for traffic, another for control and admin work, and the orderly end of both.

use std::collections::HashMap;
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use anyhow::Context;
use causeway_mesh::limit::Limit;
use causeway_mesh::policy;
use clap::Parser;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::accept;
use crate::access_log::AccessLog;
use crate::admin::{self, Admin};
use crate::args::{Cli, Command, ProxyArgs};
use crate::discovery::{self, Snapshot};
use crate::drain::{Drain, Phase};
use crate::inbound::Inbound;
use crate::limit::Limits;
use crate::metrics::{ListenerLabels, Metrics};
use crate::outbound::{self, Outbound};
use crate::target::Targets;
use crate::tls::Tls;

/// Runs the command line; the whole of the `causeway-proxy` binary.
pub fn main_from(args: Vec<OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    let result = match (cli.command, cli.proxy) {
        (Some(Command::Redirect(args)), _) => crate::redirect::run(&args),
        (None, Some(args)) => proxy(&args),
        (None, None) => Err(anyhow::anyhow!("nothing to do; see --help")),
    };
    result.unwrap_or_else(|error| {
        eprintln!("causeway-proxy: {error:#}");
        ExitCode::FAILURE
    })
}

fn proxy(args: &ProxyArgs) -> anyhow::Result<ExitCode> {
    let log = crate::log::start(args)?;
    let (namespace, pod) = args
        .workload
        .split_once('/')
        .filter(|(n, p)| !n.is_empty() && !p.is_empty())
        .with_context(|| format!("--workload: write NAMESPACE/POD, not `{}`", args.workload))?;
    let settings = discovery::Settings {
        control_plane: args.control_plane.parse().context("--control-plane: not a URL")?,
        identity: crate::identity::Settings {
            trust_bundle: args.trust_bundle.clone(),
            token_file: args.token_file.clone(),
            trust_domain: args.trust_domain.clone(),
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
        },
        version: env!("CARGO_PKG_VERSION").to_owned(),
        state: args.state.clone(),
        idle_subscription: args.idle_subscription,
    };
    let drain = Drain::default();
    let control =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("control").enable_all().build()?;
    let traffic = match args.workers {
        1 => tokio::runtime::Builder::new_current_thread().enable_all().build()?,
        n => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(usize::from(n))
            .thread_name("traffic")
            .enable_all()
            .build()?,
    };
    let (tls, discovery) = {
        let _inside = control.enter();
        discovery::start(&settings)?
    };
    let mut registry = Registry::default();
    let metrics = Arc::new(Metrics::new(&mut registry));
    let access_log = AccessLog::start(args.access_log)?;
    let own = Own::new(tls.clone(), discovery.snapshot(), format!("{namespace}/{pod}"), args.inbound.is_some());
    let targets = Targets::new(discovery, own.clone(), Arc::clone(&metrics));
    control.spawn(Arc::clone(&targets).follow());

    // Every address is taken before anything serves, so that a mistake ends the start and not the traffic.
    let admin_listener = control.block_on(async { accept::bind(args.admin) }).context("--admin")?;
    let health_listener = control.block_on(async { accept::bind(args.health) }).context("--health")?;
    let admin = Admin::new(tls.clone(), Arc::clone(&targets), drain.clone(), registry, Arc::clone(&metrics), log, args);
    control.spawn(admin::serve(Arc::clone(&admin), admin_listener, admin::Side::Operator));
    control.spawn(admin::serve(Arc::clone(&admin), health_listener, admin::Side::Health));
    control.spawn(Arc::clone(&admin).tell_readiness());
    control.spawn(signals(drain.clone()));

    let data = Data { args: args.clone(), tls, own, targets, metrics, log: access_log, drain: drain.clone() };
    let (quiet, deadline) = (args.drain_quiet, args.drain_deadline);
    let beside = control.handle().clone();
    let cut = traffic.block_on(async move {
        data.listen()?;
        admin.listening();
        beside.spawn(admin.follow_redirection());
        drain.reached(Phase::Draining).await;
        tracing::info!(open = drain.open(), "draining");
        let cut = drain.finished(quiet, deadline).await;
        let open = drain.open();
        drain.abort();
        tracing::info!(cut = if cut { open } else { 0 }, "ended");
        anyhow::Ok(cut)
    })?;
    traffic.shutdown_timeout(Duration::from_millis(200));
    control.shutdown_timeout(Duration::from_millis(200));
    Ok(if cut { ExitCode::from(3) } else { ExitCode::SUCCESS })
}

/// SIGTERM and SIGINT: the first drains, the second aborts.
async fn signals(drain: Drain) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        tracing::warn!("no signal handlers: only kill -9 will end this process");
        return;
    };
    loop {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        drain.next();
    }
}

struct Data {
    args: ProxyArgs,
    tls: Tls,
    own: Own,
    targets: Arc<Targets>,
    metrics: Arc<Metrics>,
    log: AccessLog,
    drain: Drain,
}

impl Data {
    fn listen(self) -> anyhow::Result<()> {
        let args = &self.args;
        let own_ports: Arc<[u16]> = [args.outbound.port(), args.admin.port()]
            .into_iter()
            .chain(args.inbound.map(|a| a.port()))
            .chain(args.inbound_explicit.iter().map(|e| e.listen.port()))
            .collect();
        let outbound = Arc::new(Outbound {
            tls: self.tls.clone(),
            targets: Arc::clone(&self.targets),
            metrics: Arc::clone(&self.metrics),
            log: self.log.clone(),
            drain: self.drain.clone(),
            own: self.own.clone(),
            refused: OnceLock::new(),
            mirrors: Arc::new(tokio::sync::Semaphore::new(outbound::MOST_MIRRORED)),
            own_ports: [args.outbound.port(), args.admin.port()]
                .into_iter()
                .chain(args.inbound.map(|a| a.port()))
                .collect(),
        });
        let inbound = Arc::new(Inbound {
            tls: self.tls.clone(),
            metrics: Arc::clone(&self.metrics),
            log: self.log.clone(),
            drain: self.drain.clone(),
            own: self.own.clone(),
            own_ports,
            apps: Mutex::new(HashMap::new()),
            habits: Mutex::default(),
            series: Mutex::new(HashMap::new()),
            limits: Limits::default(),
        });
        let shared = Arc::clone(&outbound);
        self.spawn(accept::bind(args.outbound).context("--outbound")?, "outbound", move |accepted| {
            Box::pin(Arc::clone(&shared).serve(accepted))
        });
        for listener in &args.outbound_tcp {
            let (shared, text): (_, Arc<str>) = (Arc::clone(&outbound), listener.destination.as_str().into());
            self.spawn(accept::bind(listener.listen).context("--outbound-tcp")?, "outbound-tcp", move |accepted| {
                Box::pin(outbound::serve_listener(Arc::clone(&shared), accepted, Arc::clone(&text)))
            });
        }
        if let Some(address) = args.inbound {
            let shared = Arc::clone(&inbound);
            self.spawn(accept::bind(address).context("--inbound")?, "inbound", move |accepted| {
                Box::pin(Arc::clone(&shared).serve(accepted, None))
            });
        }
        for listener in &args.inbound_explicit {
            let (shared, app) = (Arc::clone(&inbound), listener.app);
            self.spawn(accept::bind(listener.listen).context("--inbound-explicit")?, "inbound-explicit", move |a| {
                Box::pin(Arc::clone(&shared).serve(a, Some(app)))
            });
        }
        Ok(())
    }

    fn spawn<F>(&self, listener: TcpListener, name: &'static str, serve: F)
    where
        F: Fn(accept::Accepted) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> + Send + 'static,
    {
        let open = self.metrics.connections.get_or_create_owned(&ListenerLabels { listener: name });
        let drain = self.drain.clone();
        let max = self.args.max_connections;
        tokio::spawn(accept::run(listener, name, max, drain.clone(), move |accepted| {
            let (busy, gauge) = (drain.busy(), open.clone());
            gauge.inc();
            let served = serve(accepted);
            let aborted = drain.clone();
            tokio::spawn(async move {
                let _busy = busy;
                tokio::select! {
                    biased;
                    () = served => {}
                    () = aborted.reached(Phase::Abort) => {}
                }
                gauge.dec();
            });
        }));
    }
}

/// The own workload as the data plane asks about it.
#[derive(Clone)]
pub struct Own {
    tls: Tls,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    workload: Arc<str>,
    ips: Arc<[IpAddr]>,
    is_redirected: bool,
    closed: Arc<OnceLock<Arc<policy::Inbound>>>,
}

/// Names for metrics.
pub struct Names {
    /// Deployment, or the pod before it is known.
    pub workload: String,
    /// Namespace.
    pub namespace: String,
    /// Usually `cluster.local`.
    pub cluster_domain: String,
}

impl Own {
    fn new(tls: Tls, snapshot: watch::Receiver<Arc<Snapshot>>, workload: String, is_redirected: bool) -> Self {
        Self { tls, snapshot, workload: workload.into(), ips: own_ips().into(), is_redirected, closed: Arc::default() }
    }

    /// The policy in force; before the first configuration nothing passes.
    pub fn inbound(&self) -> Arc<policy::Inbound> {
        match &self.snapshot.borrow().workload {
            Some(workload) => Arc::clone(&workload.inbound),
            None => Arc::clone(self.closed.get_or_init(|| Arc::new(policy::Inbound::closed()))),
        }
    }

    /// Limits of the requests that the workload takes.
    pub fn limits(&self) -> Option<Arc<[Arc<Limit>]>> {
        let snapshot = self.snapshot.borrow();
        let limits = snapshot.workload.as_ref().map(|w| &w.limits).filter(|l| !l.is_empty());
        limits.map(Arc::clone)
    }

    /// Whether a configuration is in force.
    pub fn is_configured(&self) -> bool {
        self.snapshot.borrow().workload.is_some()
    }

    /// Follows the configuration, from now on.
    pub fn changes(&self) -> watch::Receiver<Arc<Snapshot>> {
        let mut changes = self.snapshot.clone();
        changes.mark_unchanged();
        changes
    }

    /// Whether destinations that the mesh does not know may be connected to.
    pub fn egress_allowed(&self) -> bool {
        self.snapshot.borrow().workload.as_ref().is_some_and(|w| w.egress_allowed)
    }

    /// Whether traffic is redirected to us, so that other hosts have no business with our outbound listener.
    pub fn redirected(&self) -> bool {
        self.is_redirected
    }

    /// Whether `ip` is one of this host's.
    pub fn is_own_ip(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.ips.contains(&ip)
    }

    /// Whether `ip` is the pod's own address, as other pods know it. Where nothing redirects, pods may share one.
    pub fn is_self(&self, ip: IpAddr) -> bool {
        self.is_redirected && !ip.is_loopback() && self.ips.contains(&ip)
    }

    /// `namespace/pod`
    pub fn workload(&self) -> &str {
        &self.workload
    }

    /// Names for metrics.
    pub fn names(&self) -> Names {
        match &self.snapshot.borrow().workload {
            Some(w) => Names {
                workload: w.workload_name.clone(),
                namespace: w.namespace.clone(),
                cluster_domain: w.cluster_domain.clone(),
            },
            None => {
                let (namespace, pod) = self.workload.split_once('/').unwrap_or_default();
                Names { workload: pod.to_owned(), namespace: namespace.to_owned(), cluster_domain: String::new() }
            }
        }
    }

    /// The own SPIFFE ID, empty before the first certificate.
    pub fn id_text(&self) -> String {
        self.tls.current().map(|t| t.own_id().to_string()).unwrap_or_default()
    }

    /// The own SPIFFE ID as the key of a sticky split.
    pub fn id_bytes(&self) -> Vec<u8> {
        self.id_text().into_bytes()
    }
}

/// The addresses by which this host would reach others. Connecting a UDP socket sends nothing; it asks the routing
/// table. The targets are documentation addresses (RFC 5737, RFC 3849).
fn own_ips() -> Vec<IpAddr> {
    let ask = |bind: &str, to: SocketAddr| -> Option<IpAddr> {
        let socket = UdpSocket::bind(bind).ok()?;
        socket.connect(to).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    let v4 = ask("0.0.0.0:0", SocketAddr::from(([192, 0, 2, 1], 9)));
    let v6 = ask("[::]:0", SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 9)));
    v4.into_iter().chain(v6).collect()
}
