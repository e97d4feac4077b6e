//! The process that cleans up after a cluster, however the test ends; see `tests/kube/guard`.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::process::Process;

/// A directory whose processes end, and that is removed, when this is dropped or this process dies.
#[derive(Debug)]
pub(super) struct Guard {
    directory: PathBuf,
    watcher: Child,
}

impl Guard {
    /// Makes a directory and watches over it.
    pub(super) fn new(prefix: &str) -> Self {
        let directory = tempfile::Builder::new().prefix(prefix).tempdir().expect("temporary directory").keep();
        let watcher = Command::new(super::scripts().join("guard"))
            .arg(&directory)
            .stdin(Stdio::piped())
            // A group of its own, so that an interrupt from the keyboard does not end it first.
            .process_group(0)
            .spawn()
            .expect("tests/kube/guard starts");
        Self { directory, watcher }
    }

    /// The directory.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Has a process killed at the end.
    pub(super) fn watch(&self, process: &Process) {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pid())).unwrap_or_default();
        // The start time is field 22; 2 fields stand before the closing parenthesis.
        let begun = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(19).map(str::to_owned));
        if let Some(begun) = begun {
            let file = self.directory.join(format!("{}.pid", process.name));
            std::fs::write(file, format!("{} {begun}\n", process.pid())).expect("pid file");
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.watcher.stdin.take());
        let _ = self.watcher.wait();
    }
}
