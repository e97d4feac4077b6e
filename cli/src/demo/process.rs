//! Real processes of this same binary: started, watched, and always ended.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use tokio::process::{Child, Command};
use tokio::time::{interval, timeout};

use crate::hosted;

/// How many lines of a log an error quotes.
const QUOTED: usize = 12;

/// The processes of one demo. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Processes {
    running: Arc<Mutex<Vec<Running>>>,
}

#[derive(Debug)]
struct Running {
    name: String,
    log: PathBuf,
    child: Child,
}

/// A process of the demo ended although nobody asked it to.
#[derive(Debug, thiserror::Error)]
#[error("{name} ended unexpectedly ({how}).\nThe last lines of its log:\n{tail}")]
pub(super) struct Died {
    name: String,
    how: String,
    tail: String,
}

impl Died {
    /// Whether it ended because another program took its port first.
    pub(super) fn is_port_taken(&self) -> bool {
        self.tail.to_lowercase().contains("address already in use")
    }
}

impl Processes {
    /// Starts the hosted program `kind` with `arguments`; both its outputs go to `log`.
    ///
    /// It leads a process group of its own, so that Ctrl-C reaches the demo alone and the demo decides the order of
    /// the end; it is tied to its standard input, so that it ends even when the demo is killed.
    ///
    /// # Errors
    /// The log or the process could not be made.
    pub(super) fn start(&self, name: &str, kind: &str, arguments: &[OsString], log: &Path) -> anyhow::Result<()> {
        let file = std::fs::File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = ourselves(kind)?;
        command.args([hosted::TIED]).args(arguments).stdin(Stdio::piped()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        self.lock().push(Running { name: name.to_owned(), log: log.to_owned(), child });
        Ok(())
    }

    /// Waits until one of the processes has ended by itself; never returns while all run.
    pub(super) async fn first_death(&self) -> Died {
        let mut ticks = interval(Duration::from_millis(100));
        loop {
            ticks.tick().await;
            for running in self.lock().iter_mut() {
                let how = match running.child.try_wait() {
                    Ok(None) => continue,
                    Ok(Some(status)) => status.to_string(),
                    Err(error) => error.to_string(),
                };
                return Died { name: running.name.clone(), how, tail: tail(&running.log) };
            }
        }
    }

    /// Ends every process and waits for it.
    pub(super) async fn end(&self) {
        let mut all = std::mem::take(&mut *self.lock());
        for running in &mut all {
            drop(running.child.stdin.take());
        }
        for mut running in all {
            if timeout(Duration::from_secs(3), running.child.wait()).await.is_err() {
                // It is gone already when this fails.
                let _ = running.child.kill().await;
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs the hosted program `kind` to its end and returns what it printed.
///
/// # Errors
/// It could not be started, failed, took too long, or printed what is not text.
pub(super) async fn output(kind: &str, arguments: &[OsString]) -> anyhow::Result<String> {
    let mut command = ourselves(kind)?;
    let running = command.args(arguments).stdin(Stdio::null()).output();
    let output = timeout(Duration::from_secs(30), running).await.map_err(|_| anyhow!("{kind} did not end"))??;
    if !output.status.success() {
        bail!("{kind} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// A command that runs this binary as `kind`, whatever `CAUSEWAY_*` settings the person has in the environment.
fn ourselves(kind: &str) -> anyhow::Result<Command> {
    let program = std::env::current_exe().context("cannot find the program that runs")?;
    let mut command = Command::new(program);
    command.arg(kind).env("NO_COLOR", "1").kill_on_drop(true);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CAUSEWAY_") {
            command.env_remove(name);
        }
    }
    #[cfg(unix)]
    command.process_group(0);
    Ok(command)
}

/// The last lines of `log`, indented.
pub(super) fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    if lines.is_empty() {
        return "  (it wrote nothing)".to_owned();
    }
    lines[lines.len().saturating_sub(QUOTED)..].iter().map(|l| format!("  {l}")).collect::<Vec<_>>().join("\n")
}
