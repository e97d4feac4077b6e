//! The applications and clients of the system suites: a recording HTTP server, TCP servers and clients, a load
//! generator. It knows nothing of the mesh; curl, nginx, PostgreSQL and others are used where they fit.
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "the suites read its output, and it measures by the real clock"
)]

use std::collections::HashMap;

mod http;
mod load;
mod tally;
mod tcp;

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut args = std::env::args().skip(1);
    let command = args.next().unwrap_or_default();
    let options = Options::parse(args)?;
    runtime.block_on(async {
        // These two have something to do before they end.
        match command.as_str() {
            "http" => return http::serve(&options).await,
            "load" => return load::run(&options).await,
            _ => {}
        }
        tokio::select! {
            result = other(&command, &options) => result,
            () = terminated() => Ok(()),
        }
    })
}

async fn other(command: &str, options: &Options) -> anyhow::Result<()> {
    match command {
        "tcp-echo" => tcp::serve(options, tcp::Behaviour::Echo).await,
        "tcp-greet" => tcp::serve(options, tcp::Behaviour::Greet).await,
        "tcp-push" => tcp::serve(options, tcp::Behaviour::Push).await,
        "talk" => tcp::talk(options).await,
        "hold" => tcp::hold(options).await,
        other => anyhow::bail!("unknown command {other:?}; see tests/src/bin/causeway-test-app"),
    }
}

/// Ends when SIGTERM comes. The first process of a container is spared by the kernel unless it asks for the signal.
async fn terminated() {
    match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(mut signal) => _ = signal.recv().await,
        Err(_) => std::future::pending().await,
    }
}

/// `--name value` pairs; a name may be given several times.
struct Options(HashMap<String, Vec<String>>);

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut map: HashMap<String, Vec<String>> = HashMap::new();
        while let Some(arg) = args.next() {
            let name = arg.strip_prefix("--").ok_or_else(|| anyhow::anyhow!("expected --name, got {arg:?}"))?;
            let value = args.next().ok_or_else(|| anyhow::anyhow!("--{name} needs a value"))?;
            map.entry(name.to_owned()).or_default().push(value);
        }
        Ok(Self(map))
    }

    fn all(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    fn text(&self, name: &str) -> anyhow::Result<&str> {
        self.optional(name).ok_or_else(|| anyhow::anyhow!("--{name} is missing"))
    }

    fn optional(&self, name: &str) -> Option<&str> {
        self.all(name).first().map(String::as_str)
    }

    fn number(&self, name: &str, default: u64) -> anyhow::Result<u64> {
        match self.optional(name) {
            Some(text) => text.parse().map_err(|_| anyhow::anyhow!("--{name} {text:?} is not a number")),
            None => Ok(default),
        }
    }
}
