//! A mesh on loopback with explicit listeners and no redirection: no root, no namespaces, any Unix.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::binaries::binary;
use crate::poll::until;
use crate::ports::free_port;
use crate::process::{Output, Process, run};

/// A control plane on a directory, and proxies with explicit listeners, all on 127.0.0.1.
#[derive(Debug)]
pub struct Laptop {
    processes: Vec<Process>,
    control_plane: u16,
    admin: u16,
    directory: tempfile::TempDir,
}

/// A proxy of one workload.
#[derive(Clone, Copy, Debug)]
pub struct Side {
    /// The explicit HTTP proxy.
    pub outbound: u16,
    /// Where mesh traffic for the application comes in.
    pub inbound: u16,
    /// `/ready`, `/metrics`.
    pub health: u16,
    /// `/certs` and more.
    pub admin: u16,
}

impl Laptop {
    /// Starts a control plane on this YAML, with more flags.
    pub fn start(yaml: &str, flags: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        std::fs::create_dir(directory.path().join("source")).expect("source");
        let mut this = Self { processes: Vec::new(), control_plane: 0, admin: 0, directory };
        (this.control_plane, this.admin) = (free_port(), free_port());
        this.write("mesh.yaml", yaml);
        let mut command = Command::new(binary("causeway-control-plane"));
        command
            .args(["--source", &format!("dir:{}", this.path("source").display())])
            .args(["--state", &this.path("state").display().to_string()])
            .args(["--listen", &format!("127.0.0.1:{}", this.control_plane)])
            .args(["--admin", &format!("127.0.0.1:{}", this.admin)])
            .args(flags);
        this.keep("control-plane", &mut command);
        this.wait_for(this.admin, "/readyz");
        this
    }

    /// Writes a file of the source, all at once.
    pub fn write(&self, name: &str, text: &str) {
        let partial = self.path(&format!("{name}.part"));
        std::fs::write(&partial, text).expect("part of a source file");
        std::fs::rename(partial, self.path("source").join(name)).expect("source file");
    }

    /// A path in the temporary directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts a program and keeps it.
    pub fn keep(&mut self, name: &str, command: &mut Command) -> &Process {
        let log = self.path(&format!("{name}.log"));
        self.processes.push(Process::start(name, command, &log));
        self.processes.last().expect("just pushed")
    }

    /// Starts a program of the harness and waits until it listens.
    pub fn app(&mut self, name: &str, arguments: &[&str]) {
        let mut command = Command::new(binary("causeway-test-app"));
        self.keep(name, command.args(arguments)).wait_for_log("listening", Duration::from_secs(10));
    }

    /// Reserves the ports of a proxy, so that YAML can name them before it runs.
    pub fn side(&self) -> Side {
        Side { outbound: free_port(), inbound: free_port(), health: free_port(), admin: free_port() }
    }

    /// Starts the proxy of `namespace/pod` and waits until it is ready; `app` is where its application listens.
    pub fn proxy(&mut self, workload: &str, account: &str, side: Side, app: u16, flags: &[&str]) {
        let flags = [&["--access-log", "all"], flags].concat();
        self.proxy_by(Command::new(binary("causeway-proxy")), workload, account, side, app, &flags);
    }

    /// The same by a program that takes the proxy's flags.
    pub fn proxy_by(
        &mut self,
        mut command: Command,
        workload: &str,
        account: &str,
        side: Side,
        app: u16,
        flags: &[&str],
    ) {
        let state = self.path("state").display().to_string();
        let (namespace, pod) = workload.split_once('/').expect("NAMESPACE/POD");
        let account = format!("{namespace}/{account}");
        let token =
            run(Command::new(binary("causeway-control-plane"))
                .args(["token", "--state", &state, &account, "--pod", pod]))
            .ok();
        let file = self.path(&format!("{pod}.{namespace}.token"));
        std::fs::write(&file, token).expect("token");
        let local = |port: u16| format!("127.0.0.1:{port}");
        command
            .args(["--control-plane", &format!("https://{}", local(self.control_plane))])
            .args(["--trust-bundle", &format!("{state}/trust-bundle.pem"), "--token-file"])
            .arg(&file)
            .args(["--workload", workload, "--outbound", &local(side.outbound)])
            .args(["--inbound-explicit", &format!("{}={}", local(side.inbound), local(app))])
            .args(["--admin", &local(side.admin), "--health", &local(side.health)])
            .args(flags);
        self.keep(&format!("proxy-{namespace}-{pod}"), &mut command);
        self.wait_for(side.health, "/ready");
    }

    /// GET of the control plane's admin side.
    pub fn control(&self, path: &str) -> Output {
        get(self.admin, path)
    }

    fn wait_for(&self, port: u16, path: &str) {
        until(&format!("{path} on port {port}"), Duration::from_secs(30), || {
            let answer = get(port, path);
            if answer.code == Some(0) { Ok(()) } else { Err(format!("{}{}", answer.stdout, answer.stderr)) }
        });
    }
}

fn get(port: u16, path: &str) -> Output {
    let url = format!("http://127.0.0.1:{port}{path}");
    run(Command::new("curl").args(["-sS", "--noproxy", "*", "--fail-with-body", "-m", "5", &url]))
}
