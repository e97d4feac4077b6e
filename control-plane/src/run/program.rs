//! The program around the parts: command line, runtime, signals, log.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;
use tokio::sync::mpsc;

use super::run;
use crate::args::{Args, Cli, Command, LogFormat, TokenArgs};
use crate::clock;
use crate::state::StateDir;
use crate::token::{LocalTokens, TokenRequest};

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
    use tracing::level_filters::STATIC_MAX_LEVEL;
    use tracing_subscriber::filter::Targets;
    use tracing_subscriber::fmt;
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::util::SubscriberInitExt;
    let (filter, bad) = match args.log.parse::<Targets>() {
        Ok(filter) => (filter, None),
        Err(error) => (Targets::new().with_default(tracing::Level::INFO), Some(error)),
    };
    let asked = filter.iter().map(|(_, level)| level).chain(filter.default_level()).max();
    let registry = tracing_subscriber::registry().with(filter);
    // Whoever embeds this may have a subscriber already; theirs stays.
    let _ = match args.log_format {
        LogFormat::Text => registry.with(fmt::layer().with_ansi(false).with_writer(std::io::stderr)).try_init(),
        LogFormat::Json => {
            registry.with(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr)).try_init()
        }
    };
    if let Some(error) = bad {
        tracing::warn!(%error, "--log is not a filter; logging at info");
    }
    if asked > Some(STATIC_MAX_LEVEL) {
        tracing::warn!("--log asks for lines that this build does not have; logging up to {STATIC_MAX_LEVEL}");
    }
}
