//! A child process with its output in a file, its life bounded by its owner's, and what `/proc` says of it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::poll::until;

/// A running program. It is killed when the value is dropped.
#[derive(Debug)]
pub struct Process {
    /// What it is called in messages.
    pub name: String,
    child: Child,
    log: PathBuf,
    is_told: bool,
}

/// What a finished program left.
#[derive(Clone, Debug)]
pub struct Output {
    /// Exit status; None when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Standard output of a program that succeeded.
    ///
    /// # Panics
    /// With all that it printed, when it failed.
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.stdout
    }

    /// Standard output as JSON.
    pub fn json(self) -> serde_json::Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("not JSON ({e}): {text}"))
    }
}

/// Runs a program to its end.
pub fn run(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
    Output {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Process {
    /// Starts a program, its standard output and error in `log`.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).expect("log file");
        let err = file.try_clone().expect("second handle of the log");
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(err)
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {name} ({command:?}): {e}"));
        Self { name: name.to_owned(), child, log: log.to_owned(), is_told: true }
    }

    /// Has a failed test not print the end of its log: it is no part of what is tested.
    pub fn untold(mut self) -> Self {
        self.is_told = false;
        self
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that it printed so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until its log contains `text`.
    pub fn wait_for_log(&self, text: &str, limit: Duration) {
        until(&format!("{} prints {text:?}", self.name), limit, || {
            let log = self.log();
            if log.contains(text) { Ok(()) } else { Err(tail(&log)) }
        });
    }

    /// Sends a signal by its name, e.g. `TERM`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status();
        assert!(sent.is_ok_and(|s| s.success()), "cannot send {name} to {}", self.name);
    }

    /// Whether it is still running.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let name = self.name.clone();
        until(&format!("{name} ends"), limit, || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err("running".to_owned()),
            Err(error) => Err(error.to_string()),
        })
    }

    /// Kills it with SIGKILL and waits.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Resident memory, KiB.
    pub fn rss_kib(&self) -> u64 {
        rss_kib(self.pid())
    }

    /// Processor time used so far.
    pub fn cpu(&self) -> Duration {
        cpu(self.pid())
    }

    /// Share of one core used over `span`.
    pub fn cpu_share(&self, span: Duration) -> f64 {
        let (begun, before) = (Instant::now(), self.cpu());
        std::thread::sleep(span);
        (self.cpu() - before).as_secs_f64() / begun.elapsed().as_secs_f64()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if self.is_told && std::thread::panicking() {
            println!("---- last lines of {}\n{}", self.name, tail(&self.log()));
        }
    }
}

/// The last lines, each cut: enough to see what went wrong, not all that went right.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(14)..];
    last.iter().map(|l| l.chars().take(400).collect::<String>()).collect::<Vec<_>>().join("\n")
}

/// Resident memory of a process, KiB; 0 when it is gone.
pub fn rss_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    line.and_then(|l| l.split_whitespace().next()).and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Processor time of a process, user and system.
pub fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit_once(')').map(|(_, f)| f.split_whitespace().collect()).unwrap_or_default();
    // Fields 14 and 15 of proc(5), in ticks of 10 ms; the two before the closing parenthesis are not counted here.
    let ticks: u64 = [11, 12].iter().filter_map(|i| fields.get(*i)).filter_map(|f| f.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}
