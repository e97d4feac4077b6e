//! The control plane under measurement: the real program, started and ended by this one, watched from outside.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::clock;
use crate::source::Source;
use crate::world::Workload;

/// Clock ticks of /proc in a second: USER_HZ, which is 100 on every Linux that this runs on.
const TICKS: f64 = 100.0;

/// See the module; killed when dropped.
pub struct Plane {
    child: Child,
    program: PathBuf,
    /// Where proxies connect.
    pub listen: SocketAddr,
    admin: SocketAddr,
}

/// Memory of the process, MiB.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Now.
    pub resident: f64,
    /// The most that it ever was.
    pub peak: f64,
}

impl Plane {
    /// Starts `program` on `source` with its state in `state`, and waits until it is ready.
    ///
    /// # Errors
    /// When it does not start, or is not ready by `deadline`.
    pub async fn start(program: &Path, source: &Source, state: &Path, deadline: Duration) -> anyhow::Result<Self> {
        let mut child = Command::new(program)
            .arg("--source")
            .arg(source.flag())
            .envs(source.kubeconfig().map(|file| ("KUBECONFIG", file)))
            .args([
                "--listen",
                "127.0.0.1:0",
                "--admin",
                "127.0.0.1:0",
                "--log",
                "warn,causeway_control_plane::run=info",
            ])
            .args(["--log-format", "json", "--state"])
            .arg(state)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} cannot be started; build it with --release first", program.display()))?;
        let mut log = BufReader::new(child.stderr.take().context("no stderr")?).lines();
        let (mut listen, mut admin) = (None, None);
        while let Some(line) = log.next_line().await? {
            let event: Value = serde_json::from_str(&line).unwrap_or_default();
            if event["message"] == "control plane serves" {
                listen = event["listen"].as_str().and_then(|a| a.parse().ok());
                admin = event["admin"].as_str().and_then(|a| a.parse().ok());
                break;
            }
            eprint_line(&line);
        }
        tokio::spawn(async move {
            while let Ok(Some(line)) = log.next_line().await {
                // What it says besides is of interest only where something is wrong.
                if line.contains("\"ERROR\"") || line.contains("\"WARN\"") {
                    eprint_line(&line);
                }
            }
        });
        let (Some(listen), Some(admin)) = (listen, admin) else { bail!("the control plane ended before it served") };
        let plane = Self { child, program: program.to_owned(), listen, admin };
        let end = clock::now() + deadline;
        while !plane.get("/readyz").await.is_ok_and(|(status, _)| status == 200) {
            if clock::now() > end {
                bail!("the control plane was not ready within {deadline:?}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(plane)
    }

    /// A token for a workload, as its pod would be given.
    ///
    /// # Errors
    /// When the program does not give one.
    pub async fn token(&self, state: &Path, workload: &Workload) -> anyhow::Result<String> {
        let account = format!("{}/{}", workload.namespace, workload.account);
        let mut command = Command::new(&self.program);
        command.args(["token", &account, "--pod", &workload.pod, "--state"]).arg(state).stdin(Stdio::null());
        let output = command.output().await?;
        if !output.status.success() {
            bail!("no token for {account}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// An admin page.
    async fn get(&self, path: &str) -> anyhow::Result<(u16, String)> {
        let mut stream = TcpStream::connect(self.admin).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).context("no HTTP answer")?;
        Ok((status, answer))
    }

    /// Value of the metric whose line begins with `name`; 0 where there is none.
    ///
    /// # Errors
    /// When the admin port does not answer.
    pub async fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let (_, text) = self.get("/metrics").await?;
        let line = text.lines().find(|l| l.starts_with(name));
        Ok(line.and_then(|l| l.rsplit(' ').next()).and_then(|v| v.parse().ok()).unwrap_or_default())
    }

    /// Times that it compiled, and seconds that took.
    ///
    /// # Errors
    /// When the admin port does not answer.
    pub async fn compiled(&self) -> anyhow::Result<(f64, f64)> {
        let of = |what: &str| format!("causeway_control_plane_compile_seconds_{what}");
        Ok((self.metric(&of("count")).await?, self.metric(&of("sum")).await?))
    }

    fn proc(&self, file: &str) -> anyhow::Result<String> {
        let id = self.child.id().context("the control plane has ended")?;
        std::fs::read_to_string(format!("/proc/{id}/{file}")).context("the control plane has ended")
    }

    /// Processor time used so far, seconds.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn cpu(&self) -> anyhow::Result<f64> {
        let stat = self.proc("stat")?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<f64>().ok()).unwrap_or_default();
        Ok((ticks(11) + ticks(12)) / TICKS)
    }

    /// Its memory.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn memory(&self) -> anyhow::Result<Memory> {
        let status = self.proc("status")?;
        let of = |name: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default();
            line.split_whitespace().next().and_then(|v| v.parse::<f64>().ok()).unwrap_or_default() / 1024.0
        };
        Ok(Memory { resident: of("VmRSS:"), peak: of("VmHWM:") })
    }

    /// Ends it.
    pub async fn stop(mut self) {
        let _ = self.child.kill().await;
    }
}

#[allow(clippy::print_stderr, reason = "the control plane's own log, passed on")]
fn eprint_line(line: &str) {
    eprintln!("control plane: {line}");
}
