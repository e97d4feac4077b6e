//! The command line, each flag also an environment variable; parsed and checked once.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

use crate::token::AUDIENCE;

const EXAMPLE: &str = "\
Example:
  causeway-control-plane --source dir:./deploy/examples/laptop --state ./state
  causeway-control-plane token --state ./state dev/web --pod web > web.token
  causeway-proxy --control-plane https://127.0.0.1:15010 --trust-bundle ./state/trust-bundle.pem \\
      --token-file web.token --workload dev/web

The state directory holds ca.pem (the CA's key and certificate: back it up), token-key.pem (signs tokens) and
trust-bundle.pem (public; proxies begin with it). Roots in extra-roots.pem, if that file is there, are trusted too; it
is read again every 5 s, so that a root can be announced before it is used and dropped after.";

/// Causeway's control plane: reads Kubernetes YAML, issues one certificate per ServiceAccount, and tells each proxy
/// how to route.
#[derive(Clone, Debug, Parser)]
#[command(name = "causeway-control-plane", version, after_help = EXAMPLE, args_conflicts_with_subcommands = true)]
#[command(subcommand_negates_reqs = true)]
pub struct Cli {
    /// What to do; to serve, if nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to serve.
    #[command(flatten)]
    pub serve: Option<Args>,
}

/// Other things to do than to serve.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Prints a token that stands for Kubernetes' projected ServiceAccount token
    Token(TokenArgs),
}

/// How to serve.
#[derive(Clone, Debug, ClapArgs)]
// Named, because a struct with another one flattened into it has an empty group, and `Option<Args>` would never be there.
#[group(id = "serve", multiple = true, args = ["source", "state"])]
pub struct Args {
    /// Where the configuration comes from: `dir:PATH`, a directory of the YAML that `kubectl apply` takes, read
    /// again whenever it changes; or `kubernetes`, the API server of the cluster (in-cluster, or by KUBECONFIG)
    #[arg(long, env = "CAUSEWAY_SOURCE", value_name = "dir:PATH|kubernetes", value_parser = parse_source)]
    pub source: Source,
    /// Directory for the CA, the token key and the trust bundle; made with mode 0700 where it does not exist
    #[arg(long, env = "CAUSEWAY_STATE", value_name = "DIR")]
    pub state: PathBuf,
    /// Trust domain of every identity: spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT
    #[arg(long, env = "CAUSEWAY_TRUST_DOMAIN", default_value = "cluster.local", value_parser = parse_trust_domain)]
    pub trust_domain: String,
    /// Suffix of the full names of Services: SERVICE.NAMESPACE.svc.CLUSTER-DOMAIN
    #[arg(long, env = "CAUSEWAY_CLUSTER_DOMAIN", default_value = "cluster.local", value_parser = parse_domain)]
    pub cluster_domain: String,
    /// What only `--source kubernetes` uses.
    #[command(flatten)]
    pub kubernetes: KubernetesArgs,
    /// Where proxies connect (gRPC over TLS 1.3)
    #[arg(long, env = "CAUSEWAY_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:15010")]
    pub listen: SocketAddr,
    /// Health, metrics and JSON views, in the clear and without a password: keep it local
    #[arg(long, env = "CAUSEWAY_ADMIN", value_name = "ADDR", default_value = "127.0.0.1:15014")]
    pub admin: SocketAddr,
    /// A CA of your own instead of one in --state: PEM, the issuer first, then what signed it, the root last; read
    /// again every 5 s
    #[arg(long, env = "CAUSEWAY_CA_CERT", value_name = "FILE", requires = "ca_key")]
    pub ca_cert: Option<PathBuf>,
    /// The private key of the first certificate of --ca-cert, PEM
    #[arg(long, env = "CAUSEWAY_CA_KEY", value_name = "FILE", requires = "ca_cert")]
    pub ca_key: Option<PathBuf>,
    /// How long workloads' certificates live, e.g. 30s, 90m, 24h; they are renewed at 70 % of it
    #[arg(long, env = "CAUSEWAY_LEAF_TTL", value_name = "DURATION", default_value = "24h", value_parser = parse_ttl)]
    pub leaf_ttl: Duration,
    /// Verdict for requests to workloads that no ALLOW policy selects
    #[arg(long, env = "CAUSEWAY_DEFAULT_POLICY", value_enum, default_value = "allow")]
    pub default_policy: Verdict,
    /// Verdict for traffic to destinations that the mesh does not know
    #[arg(long, env = "CAUSEWAY_EGRESS", value_enum, default_value = "allow")]
    pub egress: Verdict,
    /// What to log: a level, or a filter such as `info,causeway_control_plane=debug`
    #[arg(long, env = "CAUSEWAY_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,
    /// How to log, always to stderr
    #[arg(long, env = "CAUSEWAY_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,
}

/// What only `--source kubernetes` uses.
#[derive(Clone, Debug, PartialEq, Eq, ClapArgs)]
#[command(next_help_heading = "Kubernetes")]
pub struct KubernetesArgs {
    /// Name of this replica, unique among them: holder of the Lease that elects the one that writes status
    #[arg(long, env = "CAUSEWAY_POD_NAME", value_name = "NAME", default_value = "causeway-control-plane")]
    pub pod_name: String,
    /// Health and metrics for kubelet and Prometheus: /healthz, /readyz and /metrics, nothing else
    #[arg(long, env = "CAUSEWAY_HEALTH", value_name = "ADDR")]
    pub health: Option<SocketAddr>,
    /// Where the API server sends admission reviews (HTTPS): injection and validation
    #[arg(long, env = "CAUSEWAY_WEBHOOK", value_name = "ADDR")]
    pub webhook: Option<SocketAddr>,
    /// Image of the proxy that injection puts beside workloads
    #[arg(long, env = "CAUSEWAY_PROXY_IMAGE", value_name = "IMAGE", default_value = "causeway/proxy:latest")]
    pub proxy_image: String,
    /// Where injected proxies find the control plane
    #[arg(
        long,
        env = "CAUSEWAY_ADVERTISE",
        value_name = "URL",
        default_value = "https://causeway-control-plane.causeway-system.svc:15010"
    )]
    pub advertise: String,
    /// Secret of namespace causeway-system that holds the CA: tls.crt (issuer, then what signed it), tls.key and ca.crt
    /// (the root), as cert-manager writes it; made with a new CA where it does not exist
    #[arg(long, env = "CAUSEWAY_CA_SECRET", value_name = "NAME", default_value = "causeway-ca")]
    pub ca_secret: String,
}

/// What the token shall say.
#[derive(Clone, Debug, ClapArgs)]
pub struct TokenArgs {
    /// Whose token: NAMESPACE/SERVICEACCOUNT
    #[arg(value_name = "NAMESPACE/SERVICEACCOUNT", value_parser = parse_account)]
    pub account: (String, String),
    /// The state directory of the control plane; its token key is made there if there is none yet
    #[arg(long, env = "CAUSEWAY_STATE", value_name = "DIR")]
    pub state: PathBuf,
    /// Binds the token to one pod, which must then exist and run as this ServiceAccount
    #[arg(long, value_name = "NAME")]
    pub pod: Option<String>,
    /// How long the token is good for, e.g. 10m, 24h
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = parse_duration)]
    pub ttl: Duration,
    /// Whom the token is meant for; the control plane accepts its own name only
    #[arg(long, default_value = AUDIENCE)]
    pub audience: String,
}

/// Where configuration comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A directory (or one file) of YAML.
    Directory(PathBuf),
    /// The API server of a cluster.
    Kubernetes,
}

/// Whether something passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Verdict {
    /// It passes.
    Allow,
    /// It does not.
    Deny,
}

/// Shape of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One readable line each.
    Text,
    /// One JSON object per line.
    Json,
}

fn parse_source(text: &str) -> Result<Source, String> {
    match text.split_once(':') {
        Some(("dir", path)) if !path.is_empty() => Ok(Source::Directory(PathBuf::from(path))),
        None if text == "kubernetes" => Ok(Source::Kubernetes),
        _ => Err("the source is `kubernetes`, or `dir:` and a path, e.g. dir:./mesh".to_owned()),
    }
}

fn parse_trust_domain(text: &str) -> Result<String, String> {
    if causeway_mesh::spiffe::is_trust_domain(text) {
        return Ok(text.to_owned());
    }
    Err("a trust domain has 1 to 255 of a-z, 0-9, `.`, `-`, `_`".to_owned())
}

fn parse_domain(text: &str) -> Result<String, String> {
    if causeway_mesh::spiffe::is_dns_subdomain(text) {
        return Ok(text.to_owned());
    }
    Err("a cluster domain is a DNS name in lower case, e.g. cluster.local".to_owned())
}

fn parse_account(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((ns, sa)) if causeway_mesh::spiffe::is_dns_label(ns) && causeway_mesh::spiffe::is_dns_subdomain(sa) => {
            Ok((ns.to_owned(), sa.to_owned()))
        }
        _ => Err("give NAMESPACE/SERVICEACCOUNT, e.g. dev/default".to_owned()),
    }
}

fn parse_ttl(text: &str) -> Result<Duration, String> {
    let ttl = parse_duration(text)?;
    let range = Duration::from_secs(5)..=Duration::from_secs(90 * 24 * 3600);
    if range.contains(&ttl) { Ok(ttl) } else { Err("a certificate lives 5s to 90d".to_owned()) }
}

/// A whole number and a unit: s, m, h or d.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || "a duration is a whole number and a unit, s, m, h or d, e.g. 30s or 24h".to_owned();
    let unit = text.chars().last().ok_or_else(bad)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(bad()),
    };
    let number: u64 = text[..text.len() - unit.len_utf8()].parse().map_err(|_| bad())?;
    number.checked_mul(seconds).filter(|s| *s > 0).map(Duration::from_secs).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn served(line: &[&str]) -> Option<Args> {
        let line = ["causeway-control-plane"].iter().chain(line);
        Cli::try_parse_from(line).ok().and_then(|cli| cli.serve)
    }

    #[test]
    fn to_serve_needs_a_source_and_a_state_and_no_more() {
        assert!(served(&["--source", "dir:a"]).is_none());
        let args = served(&["--source", "dir:a", "--state", "b"]).unwrap();
        assert_eq!(args.source, Source::Directory("a".into()));
        let args = served(&["--source", "kubernetes", "--state", "b", "--pod-name", "cp-1"]).unwrap();
        assert_eq!((args.source, args.kubernetes.pod_name.as_str()), (Source::Kubernetes, "cp-1"));
    }

    #[test]
    fn a_subcommand_needs_no_flags_of_serving() {
        let cli = Cli::try_parse_from(["x", "token", "--state", "s", "dev/web"]).unwrap();
        assert!(matches!(cli.command, Some(Command::Token(_))));
    }
}
