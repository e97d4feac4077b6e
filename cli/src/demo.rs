//! `causeway demo`: the whole mesh on one machine, as real processes, with a picture of what it does.
//!
//! The story is told in `story`; the processes, files, traffic and picture each have their own module.

mod backend;
mod board;
mod claims;
mod directory;
mod hands_on;
mod latency;
mod mesh;
mod painter;
mod picture;
mod ports;
mod probes;
mod process;
mod story;
mod traffic;

use std::io::Write;
use std::time::Duration;

use clap::Args;

use crate::terminal::Style;

const EXAMPLES: &str = "\
Examples:
  causeway demo                              about 30 seconds, then a summary
  causeway demo --keep                       leave it running; prints commands to try, Ctrl-C ends it
  causeway demo --plain | tee demo.log       lines instead of a picture
  causeway demo --duration 60 --requests-per-second 500

It starts one control plane, four proxies (stable, canary, client, intruder) and two small backends on free ports of
127.0.0.1, in a temporary directory that is removed at the end. Nothing needs root, a cluster or Linux.

Exit codes: 0 everything that it claims was true; 1 something was not, and it says what and where the logs are;
130 stopped by Ctrl-C before the end.";

/// Arguments of `causeway demo`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Settings {
    /// Leave everything running after the summary, with commands to try by hand.
    #[arg(long)]
    keep: bool,
    /// Seconds of traffic, shared by the three weights that are shown.
    #[arg(long, value_name = "SECONDS", default_value_t = 24, value_parser = clap::value_parser!(u64).range(6..=86_400))]
    duration: u64,
    /// Requests per second that the client sends.
    #[arg(long, value_name = "N", default_value_t = 250, value_parser = clap::value_parser!(u32).range(20..=20_000))]
    requests_per_second: u32,
    /// Print lines instead of drawing a picture.
    #[arg(long)]
    plain: bool,
}

impl Settings {
    fn traffic_time(&self) -> Duration {
        Duration::from_secs(self.duration)
    }
}

/// Runs the demo; returns the exit code.
///
/// # Errors
/// What kept it from running, with the last lines of the process that failed.
pub fn run(settings: &Settings, style: Style, out: &mut dyn Write) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(story::tell(settings, style, out))
}
