//! `causeway-proxy redirect`: prints, applies, checks or removes the rules that send this network namespace's TCP to
//! the proxy. What the rules say is decided in `causeway_mesh::redirect`.

mod nft;

use std::io::Write;
use std::process::ExitCode;

use causeway_mesh::redirect::{self as rules, Network, Settings};

/// The kernel or nft refused; nothing was changed.
const REFUSED: u8 = 1;
/// nft could not be started.
const NO_NFT: u8 = 3;
/// The rules in the kernel are missing or others than asked for.
const NOT_IN_FORCE: u8 = 4;

/// Flags of `redirect`.
#[derive(clap::Args, Debug, Clone)]
#[command(
    about = "Print or apply the nftables rules that send this network namespace's traffic to the proxy",
    long_about = "Print or apply the nftables rules that send this network namespace's TCP traffic, IPv4 and IPv6 \
        alike, to the proxy. Without --apply, --check or --remove the rules are printed.\n\n\
        The rules hold for new connections: apply them before the application starts. They are one transaction: all \
        of them hold, or nothing was changed.\n\n\
        Exit status: 0 done; 1 refused by nft or the kernel, nothing changed; 2 wrong flags; 3 nft cannot be \
        started; 4 the rules in the kernel are missing or differ from these flags."
)]
pub struct Args {
    /// User that the proxy runs as; its connections are not captured
    #[arg(long, env = "CAUSEWAY_PROXY_UID", default_value_t = 2102, value_name = "UID")]
    pub proxy_uid: u32,
    /// Where the proxy listens for what leaves
    #[arg(long, env = "CAUSEWAY_OUTBOUND_PORT", default_value_t = 15001, value_name = "PORT",
        value_parser = clap::value_parser!(u16).range(1..))]
    pub outbound_port: u16,
    /// Where the proxy listens for what comes in
    #[arg(long, env = "CAUSEWAY_INBOUND_PORT", default_value_t = 15006, value_name = "PORT",
        value_parser = clap::value_parser!(u16).range(1..))]
    pub inbound_port: u16,
    /// Destination ports that leave directly, e.g. `22,5432`
    #[arg(long, env = "CAUSEWAY_EXCLUDE_OUTBOUND_PORTS", value_delimiter = ',', value_name = "PORTS")]
    pub exclude_outbound_ports: Vec<u16>,
    /// Ports of this pod that are reached directly, without mutual TLS
    #[arg(long, env = "CAUSEWAY_EXCLUDE_INBOUND_PORTS", value_delimiter = ',', value_name = "PORTS")]
    pub exclude_inbound_ports: Vec<u16>,
    /// Capture only these ports on the way in
    #[arg(long, env = "CAUSEWAY_INCLUDE_INBOUND_PORTS", value_delimiter = ',', value_name = "PORTS")]
    pub include_inbound_ports: Option<Vec<u16>>,
    /// Destinations that are reached directly, e.g. `10.96.0.0/16,fd00::/8`
    #[arg(long, env = "CAUSEWAY_EXCLUDE_OUTBOUND_CIDRS", value_delimiter = ',', value_name = "NETWORKS")]
    pub exclude_outbound_cidrs: Vec<Network>,
    /// Further users whose connections leave directly
    #[arg(long, env = "CAUSEWAY_EXCLUDE_UIDS", value_delimiter = ',', value_name = "UIDS")]
    pub exclude_uids: Vec<u32>,
    /// Refuse TCP over IPv6 instead of capturing it
    #[arg(long, env = "CAUSEWAY_NO_IPV6")]
    pub no_ipv6: bool,
    /// Put the rules in force, replacing earlier ones, and verify them
    #[arg(long, group = "action")]
    pub apply: bool,
    /// Take the rules out of force
    #[arg(long, group = "action")]
    pub remove: bool,
    /// Verify that the kernel has exactly these rules
    #[arg(long, group = "action")]
    pub check: bool,
}

impl Args {
    /// What the flags ask for.
    pub fn settings(&self) -> Settings {
        Settings {
            outbound_port: self.outbound_port,
            inbound_port: self.inbound_port,
            proxy_uid: self.proxy_uid,
            exclude_outbound_ports: self.exclude_outbound_ports.clone(),
            exclude_inbound_ports: self.exclude_inbound_ports.clone(),
            exclude_outbound_cidrs: self.exclude_outbound_cidrs.clone(),
            exclude_uids: self.exclude_uids.clone(),
            include_inbound_ports: self.include_inbound_ports.clone(),
            ipv6: !self.no_ipv6,
        }
    }
}

/// Does what the flags say. Says on standard error what went wrong and what to do.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let settings = args.settings();
    let (outcome, done) = if args.apply {
        let applied = nft::load(&rules::rules(&settings)).and_then(|()| nft::verify(&settings));
        (applied, "redirection is in force")
    } else if args.remove {
        (nft::load(&rules::removal()), "redirection is removed")
    } else if args.check {
        (nft::verify(&settings), "redirection is in force as asked for")
    } else {
        std::io::stdout().write_all(rules::rules(&settings).as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    };
    let mut stderr = std::io::stderr();
    match outcome {
        Ok(()) => {
            writeln!(stderr, "{done}")?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            writeln!(stderr, "error: {error}")?;
            Ok(ExitCode::from(match error {
                nft::Error::NotStarted(_) => NO_NFT,
                nft::Error::Refused(_) => REFUSED,
                nft::Error::Absent | nft::Error::Differs => NOT_IN_FORCE,
            }))
        }
    }
}
