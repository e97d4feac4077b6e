//! `causeway check`: what is wrong with a cluster, before and after Causeway is installed, each with its cure. Facts are
//! gathered at the edge (`gather`) and judged by pure functions (`judge`).

mod facts;
mod finding;
mod gather;
mod judge;
mod network;
mod report;

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use causeway_control_plane::inject::{INJECT_LABEL, INJECTED_LABEL};
use causeway_control_plane::kubernetes::INJECTOR;
use clap::Args;
use serde_json::json;

use crate::cluster::{Cluster, Target};
use crate::terminal::{self, Style};
use crate::validate::Output;
use crate::{address, admin};

/// Name of the ValidatingWebhookConfiguration.
const VALIDATOR: &str = "causeway-validator";
/// A webhook has 5 s; then the API server says so itself.
const PATIENCE: Duration = Duration::from_secs(10);

const EXAMPLES: &str = "\
Examples:
  causeway check                      the cluster of the current context
  causeway check --context staging    another one
  causeway check -o json | jq '.findings[] | select(.mark == \"problem\")'

Before Causeway is installed it says whether it could be; afterwards whether all of it works. It changes nothing: the \
objects that it creates are server-side dry runs.

Exit codes: 0 all is well, or only warnings; 1 something is wrong; 2 nothing is known to be wrong, but something could \
not be told (or the command line is wrong).";

/// Arguments of `causeway check`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Settings {
    /// Admin address of a control plane, asked instead of every replica by a port-forward.
    #[arg(long, value_name = "URL", value_parser = address::admin_address)]
    control_plane: Option<SocketAddr>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    cluster: Target,
}

/// Checks and prints; returns the exit code.
///
/// # Errors
/// No cluster is configured, or the output cannot be written. A cluster that does not answer is a finding.
pub fn run(settings: &Settings, style: Style, out: &mut dyn Write) -> anyhow::Result<u8> {
    let facts = admin::block_on(async {
        let cluster = Cluster::find(&settings.cluster).await?;
        Ok(gather::facts(&cluster, settings.control_plane).await)
    })?;
    let findings = judge::judge(&facts);
    match settings.output {
        Output::Json => {
            writeln!(out, "{:#}", json!({"installed": judge::is_installed(&facts), "findings": findings}))?;
        }
        Output::Text => out.write_all(report::text(&findings, style, terminal::columns()).as_bytes())?,
    }
    Ok(finding::exit_code(&findings))
}
