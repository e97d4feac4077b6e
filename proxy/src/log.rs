//! The proxy's own log: its first filter, and another one while it runs.

use anyhow::anyhow;
use tracing::level_filters::{LevelFilter, STATIC_MAX_LEVEL};
use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{fmt, reload};

use crate::args::{LogFormat, ProxyArgs};

/// How the log level is changed at run time.
pub type LogHandle = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// Logs to standard error from now on.
///
/// # Errors
/// What is wrong with `--log`.
pub fn start(args: &ProxyArgs) -> anyhow::Result<LogHandle> {
    let first = filter(&args.log, STATIC_MAX_LEVEL).map_err(|e| anyhow!("--log `{}`: {e}", args.log))?;
    let (first, handle) = reload::Layer::new(first);
    let registry = tracing_subscriber::registry().with(first);
    match args.log_format {
        LogFormat::Text => registry.with(fmt::layer().with_ansi(false).with_writer(std::io::stderr)).init(),
        LogFormat::Json => registry.with(fmt::layer().json().with_writer(std::io::stderr)).init(),
    }
    Ok(Box::new(move |text| handle.reload(filter(text, STATIC_MAX_LEVEL)?).map_err(|e| e.to_string())))
}

/// Which lines are logged, by level and module: `info,causeway_proxy=debug`. `most` is what was compiled in; what asks for
/// more is refused, as nothing would come of it.
fn filter(text: &str, most: LevelFilter) -> Result<Targets, String> {
    let filter: Targets = text.parse().map_err(|e: ParseError| format!("{e}; use a level, or module=level"))?;
    match filter.iter().map(|(_, level)| level).chain(filter.default_level()).max() {
        Some(level) if level > most => Err(format!("this build has no lines of level {level}, only up to {most}")),
        _ => Ok(filter),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_filter_has_levels_by_module() {
        let filter = filter("info,causeway_proxy=debug", LevelFilter::TRACE).unwrap();
        assert!(filter.would_enable("h2", &tracing::Level::INFO) && !filter.would_enable("h2", &tracing::Level::DEBUG));
        assert!(filter.would_enable("causeway_proxy::link", &tracing::Level::DEBUG));
    }

    #[test]
    fn what_is_no_level_is_refused() {
        let error = filter("causeway_proxy=loud", LevelFilter::TRACE).unwrap_err();
        assert!(error.contains("module=level"), "{error}");
    }

    #[test]
    fn levels_that_were_not_compiled_in_are_refused() {
        for text in ["trace", "info,h2=trace", "h2"] {
            let error = filter(text, LevelFilter::DEBUG).unwrap_err();
            assert!(error.contains("only up to debug"), "{error}");
        }
        assert!(filter("debug,h2=off", LevelFilter::DEBUG).is_ok());
    }
}
