//! What a person or a pod spec says to the proxy, parsed once. Every flag is also an environment variable.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Causeway's sidecar proxy.
#[derive(Parser, Debug)]
#[command(
    name = "causeway-proxy",
    version,
    about = "Causeway's sidecar proxy: mutual TLS and weighted routes for one workload",
    long_about = "Causeway's sidecar proxy: mutual TLS and weighted routes for one workload.\n\n\
        Try it with no root and no redirect, against a control plane on this machine:\n\n  \
        causeway-proxy --control-plane https://127.0.0.1:15010 --trust-bundle STATE/trust-bundle.pem \\\n    \
        --token-file TOKEN --workload dev/web --outbound 127.0.0.1:15001\n  \
        curl -x http://127.0.0.1:15001 http://prodsvc.prod.svc.cluster.local/",
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub struct Cli {
    /// Other jobs than proxying.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Proxying.
    #[command(flatten)]
    pub proxy: Option<ProxyArgs>,
}

/// Other jobs than proxying.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Print or apply the nftables rules that send this network namespace's traffic to the proxy
    Redirect(crate::redirect::Args),
}

/// Flags of the proxy itself.
#[derive(Args, Debug, Clone)]
pub struct ProxyArgs {
    /// Where the control plane listens, `https://HOST:PORT`
    #[arg(long, env = "CAUSEWAY_CONTROL_PLANE", value_name = "URL")]
    pub control_plane: String,
    /// PEM file with the roots that the control plane's certificate chains to
    #[arg(long, env = "CAUSEWAY_TRUST_BUNDLE", value_name = "FILE")]
    pub trust_bundle: PathBuf,
    /// The ServiceAccount token, audience `causeway`; read again at each renewal
    #[arg(long, env = "CAUSEWAY_TOKEN_FILE", value_name = "FILE")]
    pub token_file: PathBuf,
    /// This workload
    #[arg(long, env = "CAUSEWAY_WORKLOAD", value_name = "NAMESPACE/POD")]
    pub workload: String,
    /// Trust domain of the mesh
    #[arg(long, env = "CAUSEWAY_TRUST_DOMAIN", default_value = "cluster.local", value_name = "NAME")]
    pub trust_domain: String,
    /// Listener for everything that leaves: redirected traffic, or an HTTP proxy where nothing redirects
    #[arg(long, env = "CAUSEWAY_OUTBOUND", default_value = "[::]:15001", value_name = "ADDR")]
    pub outbound: SocketAddr,
    /// A TCP listener for one destination, e.g. `127.0.0.1:5432=postgres.database:5432` (repeatable)
    #[arg(long, env = "CAUSEWAY_OUTBOUND_TCP", value_delimiter = ',', value_name = "ADDR=HOST:PORT")]
    pub outbound_tcp: Vec<OutboundTcp>,
    /// Listener for redirected traffic that comes in; also used when no --inbound-explicit is given
    #[arg(long, env = "CAUSEWAY_INBOUND", value_name = "ADDR")]
    pub inbound: Option<SocketAddr>,
    /// Where nothing redirects: take mesh traffic at ADDR for the application at APPADDR (repeatable)
    #[arg(long, env = "CAUSEWAY_INBOUND_EXPLICIT", value_delimiter = ',', value_name = "ADDR=APPADDR")]
    pub inbound_explicit: Vec<InboundExplicit>,
    /// Operator's view: configuration in force, certificates, log level, drain. Loopback only
    #[arg(long, env = "CAUSEWAY_ADMIN", default_value = "127.0.0.1:15000", value_name = "ADDR")]
    pub admin: SocketAddr,
    /// /live, /ready and /metrics
    #[arg(long, env = "CAUSEWAY_HEALTH", default_value = "[::]:15020", value_name = "ADDR")]
    pub health: SocketAddr,
    /// Keep the last good configuration and certificate here (a memory-backed volume; files 0600)
    #[arg(long, env = "CAUSEWAY_STATE", value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Which requests and connections to log, as JSON on standard output
    #[arg(long, env = "CAUSEWAY_ACCESS_LOG", value_enum, default_value_t = AccessLogMode::Off)]
    pub access_log: AccessLogMode,
    /// Log filter, e.g. `info`, `causeway_proxy=debug`
    #[arg(long, env = "CAUSEWAY_LOG", default_value = "info")]
    pub log: String,
    /// Log as text or JSON, on standard error
    #[arg(long, env = "CAUSEWAY_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// After SIGTERM: how long open requests and connections may take before they are cut
    #[arg(long, env = "CAUSEWAY_DRAIN_DEADLINE", default_value = "30s", value_parser = duration, value_name = "TIME")]
    pub drain_deadline: Duration,
    /// After SIGTERM: exit once nothing has been open for this long
    #[arg(long, env = "CAUSEWAY_DRAIN_QUIET", default_value = "500ms", value_parser = duration, value_name = "TIME")]
    pub drain_quiet: Duration,
    /// A destination that nothing has used for this long is given up
    #[arg(long, env = "CAUSEWAY_IDLE_SUBSCRIPTION", default_value = "10m", value_parser = duration, value_name = "TIME")]
    pub idle_subscription: Duration,
    /// Threads of the data plane
    #[arg(long, env = "CAUSEWAY_WORKERS", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub workers: u16,
    /// Connections accepted at once by each listener; more wait in the kernel's queue
    #[arg(long, env = "CAUSEWAY_MAX_CONNECTIONS", default_value_t = 20_000)]
    pub max_connections: usize,
}

/// `--outbound-tcp`
#[derive(Clone, Debug)]
pub struct OutboundTcp {
    /// Where to listen.
    pub listen: SocketAddr,
    /// `host:port` as the control plane knows it.
    pub destination: String,
}

/// `--inbound-explicit`
#[derive(Clone, Debug)]
pub struct InboundExplicit {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The application.
    pub app: SocketAddr,
}

impl std::str::FromStr for OutboundTcp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (listen, destination) = text.split_once('=').ok_or("write ADDR=HOST:PORT")?;
        let listen = listen.parse().map_err(|_| format!("`{listen}` is not IP:PORT"))?;
        let parsed = causeway_mesh::name::host_port(destination).map_err(|e| e.to_string())?;
        let port = parsed.port.ok_or_else(|| format!("`{destination}` needs a port"))?;
        Ok(Self { listen, destination: causeway_mesh::name::subscription(&parsed.host, port) })
    }
}

impl std::str::FromStr for InboundExplicit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (listen, app) = text.split_once('=').ok_or("write ADDR=APPADDR")?;
        Ok(Self {
            listen: listen.parse().map_err(|_| format!("`{listen}` is not IP:PORT"))?,
            app: app.parse().map_err(|_| format!("`{app}` is not IP:PORT"))?,
        })
    }
}

/// `--access-log`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AccessLogMode {
    /// Nothing.
    Off,
    /// What was refused or failed.
    Errors,
    /// Everything.
    All,
}

/// `--log-format`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// Parses `250ms`, `30s`, `5m`, `24h`; a bare number is seconds.
///
/// # Errors
/// What to write instead.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 =
        digits.parse().map_err(|_| format!("`{text}` is not a time; write for example 500ms, 30s, 5m"))?;
    match &text[digits.len()..] {
        "ms" => Ok(Duration::from_millis(number)),
        "" | "s" => Ok(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs).ok_or_else(|| format!("`{text}` is too long")),
        "h" => number.checked_mul(3600).map(Duration::from_secs).ok_or_else(|| format!("`{text}` is too long")),
        unit => Err(format!("`{unit}` is not a unit of time; use ms, s, m or h")),
    }
}
