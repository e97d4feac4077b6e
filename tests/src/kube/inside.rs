//! Programs inside a running container, entered from the host: they go on while the API server or the kubelet is away.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::pod::Reply;
use crate::process::run;

/// The namespaces of a container.
#[derive(Clone, Copy, Debug)]
pub struct Inside {
    pid: u32,
}

impl Inside {
    /// Those of a process, by the host's number of it.
    pub fn of(pid: u32) -> Self {
        Self { pid }
    }

    /// Process id, as the host sees it, of the container's first process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// A program of the container's image, as root.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid.to_string(), "-m", "-n", "-p", "-u", "-i", "--", program]);
        // What the container's own environment would say; the host's proxy settings have no place there.
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/bin");
        command
    }

    /// A program of the host in the pod's network.
    pub fn network(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid.to_string(), "-n", "--"]).arg(program);
        command
    }

    /// As [`Self::network`], with names resolved as in the pod, and nothing of the host's environment.
    pub fn with_names(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        // A mount namespace of its own, so that the host keeps its file. What is mounted is a copy, since the pod's own is
        // a mount of another namespace.
        let script = "copy=$(mktemp) && cat \"$0\" > \"$copy\" && mount --bind \"$copy\" /etc/resolv.conf && \
                      rm \"$copy\" && exec \"$@\"";
        let mut command = self.network("unshare");
        command.args(["--mount", "sh", "-c", script, &format!("/proc/{}/root/etc/resolv.conf", self.pid)]);
        command.arg(program).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    /// One request by the image's curl.
    pub fn curl(&self, arguments: &[&str]) -> Reply {
        Reply::of(&mut self.command("curl"), arguments)
    }

    /// `causeway-test-app talk` to its end; what it heard.
    pub fn talk(&self, arguments: &[&str]) -> Value {
        run(self.command("causeway-test-app").args(["talk", "--connect"]).args(arguments)).json()
    }

    /// The sum of the samples of a metric of the pod's proxy whose line contains all of `labels`.
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.curl(&["http://127.0.0.1:15020/metrics"]).body;
        text.lines()
            .filter(|l| l.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
            .filter(|l| labels.iter().all(|part| l.contains(part)))
            .filter_map(|l| l.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum()
    }

    /// `causeway-test-app load` to its end; its report.
    pub fn load(&self, arguments: &[&str]) -> Value {
        run(self.command("causeway-test-app").arg("load").args(arguments)).json()
    }

    /// Starts `causeway-test-app load`, which goes on until [`Load::stop`].
    pub fn start_load(&self, arguments: &[&str]) -> Load {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("/tmp/stop-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut command = self.command("causeway-test-app");
        command.arg("load").args(arguments).args(["--stop-file", &name]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("load");
        Load { child: Some(child), stop: Path::new(&format!("/proc/{}/root{name}", self.pid)).to_owned() }
    }
}

/// Load that is going on.
#[derive(Debug)]
pub struct Load {
    child: Option<Child>,
    stop: PathBuf,
}

impl Load {
    /// Ends it; the report of all that was sent since it began.
    pub fn stop(mut self) -> Value {
        std::fs::write(&self.stop, "").expect("the file that stops the load");
        let output = self.child.take().expect("not stopped before").wait_with_output().expect("its report");
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("no report of the load ({e}): {text:?}"))
    }

    /// Lets it go on for a while: load is a matter of time, not of a condition.
    pub fn goes_on(&self, span: Duration) {
        std::thread::sleep(span);
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = std::fs::write(&self.stop, "");
            let _ = child.wait();
        }
    }
}
