//! A pod: a network namespace, its applications, and beside them the proxy with real redirection.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::binaries::{binary, proxy_for_all};
use crate::mesh::Mesh;
use crate::net::{NODE_IP, Namespace};
use crate::poll::until;
use crate::process::{Output, Process, run};
use crate::yaml;

/// The uid of every proxy; it is never redirected.
pub const PROXY_UID: u32 = 2102;

/// What a test says of a pod.
#[derive(Clone, Debug)]
pub struct PodSpec {
    namespace: String,
    name: String,
    account: String,
    labels: Vec<(String, String)>,
    containers: String,
    is_meshed: bool,
    is_listed: bool,
    is_ready: bool,
    flags: Vec<String>,
    descriptors: Option<u32>,
    token_of: Option<String>,
    workload: Option<String>,
    control_plane: Option<(String, PathBuf)>,
}

impl PodSpec {
    /// A pod in the mesh whose ServiceAccount is called like the pod, and with label `app` of its name.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            account: name.to_owned(),
            labels: vec![("app".to_owned(), name.to_owned())],
            containers: String::new(),
            is_meshed: true,
            is_listed: true,
            is_ready: true,
            flags: Vec::new(),
            descriptors: None,
            token_of: None,
            workload: None,
            control_plane: None,
        }
    }

    /// Its ServiceAccount.
    pub fn account(mut self, account: &str) -> Self {
        account.clone_into(&mut self.account);
        self
    }

    /// Sets a label.
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.labels.retain(|(n, _)| n != name);
        self.labels.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Without a proxy.
    pub fn unmeshed(mut self) -> Self {
        self.is_meshed = false;
        self
    }

    /// Not written into the directory: the control plane knows nothing of it.
    pub fn unlisted(mut self) -> Self {
        self.is_listed = false;
        self
    }

    /// Listed as not ready until [`Mesh::mark_ready`].
    pub fn starting(mut self) -> Self {
        self.is_ready = false;
        self
    }

    /// `spec.containers` as YAML text, indented by two.
    pub fn containers(mut self, text: &str) -> Self {
        text.clone_into(&mut self.containers);
        self
    }

    /// More flags for its proxy.
    pub fn flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|f| (*f).to_owned()));
        self
    }

    /// The proxy's limit of open files.
    pub fn descriptors(mut self, limit: u32) -> Self {
        self.descriptors = Some(limit);
        self
    }

    /// The proxy presents the token of another ServiceAccount of the namespace, as a thief would.
    pub fn token_of(mut self, account: &str) -> Self {
        self.token_of = Some(account.to_owned());
        self
    }

    /// What the proxy says it is, `NAMESPACE/POD`, when that is not the pod.
    pub fn workload(mut self, workload: &str) -> Self {
        self.workload = Some(workload.to_owned());
        self
    }

    /// The proxy belongs to another control plane: its URL, and the directory with its token and trust bundle.
    pub fn control_plane(mut self, url: &str, directory: PathBuf) -> Self {
        self.control_plane = Some((url.to_owned(), directory));
        self
    }
}

/// A running pod.
#[derive(Debug)]
pub struct Pod {
    spec: PodSpec,
    proxy: Option<Process>,
    apps: Vec<Process>,
    directory: PathBuf,
    proxy_flags: Vec<String>,
    namespace: Namespace,
}

impl Pod {
    pub(crate) fn new(mesh: &Mesh, spec: PodSpec) -> Self {
        let namespace = mesh.node().pod();
        namespace.write_hosts(&mesh.hosts(&spec.namespace));
        let directory = mesh.path(&format!("{}.{}", spec.name, spec.namespace));
        std::fs::create_dir(&directory).expect("directory of the pod");
        Self { spec, proxy: None, apps: Vec::new(), directory, proxy_flags: mesh.proxy_flags().to_vec(), namespace }
    }

    /// Redirects and starts the proxy, if the pod is in the mesh.
    pub(crate) fn start(&mut self, mesh: &Mesh) {
        if self.spec.is_meshed {
            self.prepare_proxy(mesh);
            self.redirect(&[]);
            self.start_proxy();
        }
    }

    fn prepare_proxy(&self, mesh: &Mesh) {
        let Self { spec, directory, .. } = self;
        if let Some((_, given)) = &spec.control_plane {
            for name in ["token", "trust-bundle.pem"] {
                std::fs::copy(given.join(name), directory.join(name)).expect("copy");
            }
        } else {
            let account = spec.token_of.as_ref().unwrap_or(&spec.account);
            let token =
                mesh.token(&format!("{}/{account}", spec.namespace), &["--pod", &spec.name, "--ttl", "1h"]).ok();
            std::fs::write(directory.join("token"), token.trim()).expect("token");
            std::fs::copy(mesh.path("state/trust-bundle.pem"), directory.join("trust-bundle.pem")).expect("bundle");
        }
        std::fs::create_dir(directory.join("state")).expect("state");
        let owner = Some(PROXY_UID);
        for name in ["token", "trust-bundle.pem", "state"] {
            std::os::unix::fs::chown(directory.join(name), owner, owner).expect("chown");
        }
    }

    /// Applies the redirection of `causeway-proxy redirect`, with more flags.
    pub fn redirect(&self, flags: &[&str]) {
        run(self.namespace.command(binary("causeway-proxy")).args(["redirect", "--apply"]).args(flags)).ok();
    }

    /// Starts the proxy, as uid 2102.
    pub fn start_proxy(&mut self) {
        let mut program = vec![proxy_for_all().display().to_string()];
        if let Some(limit) = self.spec.descriptors {
            program.splice(..0, ["prlimit".to_owned(), format!("--nofile={limit}:{limit}"), "--".to_owned()]);
        }
        let file = |name: &str| self.directory.join(name).display().to_string();
        let own = format!("https://{NODE_IP}:15010");
        let workload = format!("{}/{}", self.spec.namespace, self.spec.name);
        let url = self.spec.control_plane.as_ref().map_or(&own, |(url, _)| url);
        let mut command = self.namespace.command_as(PROXY_UID, &program[0]);
        command
            .args(&program[1..])
            .args(["--control-plane", url, "--trust-bundle", &file("trust-bundle.pem")])
            .args(["--token-file", &file("token"), "--workload", self.spec.workload.as_ref().unwrap_or(&workload)])
            .args(["--state", &file("state"), "--access-log", "all"])
            .args(["--outbound", "[::]:15001", "--inbound", "[::]:15006"])
            .args(&self.proxy_flags)
            .args(&self.spec.flags);
        let name = format!("proxy of {}/{}", self.spec.namespace, self.spec.name);
        self.proxy = Some(Process::start(&name, &mut command, &self.directory.join("proxy.log")));
    }

    /// Waits until the proxy says that it is ready, and the applications listen.
    pub fn ready(self) -> Self {
        self.wait_ready();
        self
    }

    /// As [`Self::ready`], without moving.
    pub fn wait_ready(&self) {
        if self.proxy.is_none() {
            return;
        }
        until(&format!("the proxy of {} is ready", self.spec.name), Duration::from_secs(30), || {
            let answer = self.health("/ready");
            if answer.code == Some(0) { Ok(()) } else { Err(format!("{}{}", answer.stdout, answer.stderr)) }
        });
    }

    /// GET of the health listener.
    pub fn health(&self, path: &str) -> Output {
        let url = format!("http://127.0.0.1:15020{path}");
        run(self.namespace.command_as(PROXY_UID, "curl").args(["-sS", "--fail-with-body", "-m", "10", &url]))
    }

    /// A request to the admin listener, as the proxy's own user.
    pub fn proxy_admin(&self, arguments: &[&str], path: &str) -> Output {
        let url = format!("http://127.0.0.1:15000{path}");
        let mut command = self.namespace.command_as(PROXY_UID, "curl");
        run(command.args(["-sS", "--fail-with-body", "-m", "10"]).args(arguments).arg(url))
    }

    /// The sum of the samples of a metric whose line contains all of `labels`.
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.health("/metrics").ok();
        text.lines()
            .filter(|l| l.starts_with(name) && l[name.len()..].starts_with(['{', ' ']))
            .filter(|l| labels.iter().all(|p| l.contains(p)))
            .filter_map(|l| l.rsplit(' ').next().and_then(|v| v.parse::<f64>().ok()))
            .sum()
    }

    /// Starts an application and waits until it prints `listening`.
    pub fn app(&mut self, arguments: &[&str]) -> &mut Self {
        let mut command = self.namespace.command(binary("causeway-test-app"));
        self.spawn(command.args(arguments)).wait_for_log("listening", Duration::from_secs(20));
        self
    }

    /// Starts any program in the pod and keeps it until the pod is dropped.
    pub fn spawn(&mut self, command: &mut Command) -> &mut Process {
        let log = self.directory.join(format!("app{}.log", self.apps.len()));
        self.apps.push(Process::start(&format!("app of {}", self.spec.name), command, &log));
        self.apps.last_mut().expect("just pushed")
    }

    /// The recording HTTP server on a port, IPv4 and IPv6.
    pub fn serve_http(&mut self, name: &str, port: u16) -> &mut Self {
        self.app(&["http", "--name", name, "--listen", &format!("[::]:{port}")])
    }

    /// Ends all applications.
    pub fn stop_apps(&mut self) {
        self.apps.clear();
    }

    /// A command in the pod's namespace, as root.
    pub fn command(&self, program: &str) -> Command {
        self.namespace.command(program)
    }

    /// Runs a client program of the harness (`load`, `talk`, ...) to its end; its JSON.
    pub fn client(&self, arguments: &[&str]) -> serde_json::Value {
        run(self.namespace.command(binary("causeway-test-app")).args(arguments)).json()
    }

    /// Starts a client program of the harness in the background.
    pub fn background(&self, name: &str, arguments: &[&str]) -> Process {
        let mut command = self.namespace.command("sh");
        command.args(["-c", "ulimit -n $(ulimit -Hn); exec \"$0\" \"$@\""]);
        command.arg(binary("causeway-test-app")).args(arguments);
        let log = self.directory.join(format!("{name}.log"));
        let _ = std::fs::remove_file(&log);
        Process::start(name, &mut command, &log)
    }

    /// Runs curl with these arguments and `-i`.
    pub fn curl(&self, arguments: &[&str]) -> Reply {
        Reply::of(&mut self.namespace.command("curl"), arguments)
    }

    /// The proxy's process.
    ///
    /// # Panics
    /// When it has none.
    pub fn proxy(&self) -> &Process {
        self.proxy.as_ref().expect("this pod has a proxy")
    }

    /// The proxy's process, to end it.
    pub fn proxy_mut(&mut self) -> &mut Process {
        self.proxy.as_mut().expect("this pod has a proxy")
    }

    /// Its network namespace and addresses.
    pub fn net(&self) -> &Namespace {
        &self.namespace
    }

    /// A file of this pod.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Name of its file in the directory source.
    pub fn file(&self) -> String {
        format!("pod-{}-{}.yaml", self.spec.namespace, self.spec.name)
    }

    pub(crate) fn set_ready(&mut self) {
        self.spec.is_ready = true;
    }

    /// Its YAML, if the control plane may know of it.
    pub(crate) fn yaml(&self) -> Option<String> {
        let Self { spec, namespace, .. } = self;
        let mut labels = spec.labels.clone();
        if spec.is_meshed {
            labels.push(("causeway.dev/injected".to_owned(), "true".to_owned()));
        }
        let addresses = (namespace.ip, namespace.ip6);
        spec.is_listed.then(|| {
            yaml::pod(&spec.namespace, &spec.name, &spec.account, &labels, addresses, &spec.containers, spec.is_ready)
        })
    }
}

/// What curl got.
#[derive(Clone, Debug)]
pub struct Reply {
    /// 0 when there was no answer.
    pub status: u16,
    /// Of the last answer, names in lower case, repeated values joined by `, `.
    pub headers: BTreeMap<String, String>,
    /// Body, as text.
    pub body: String,
    /// curl's exit status and error text.
    pub error: String,
}

impl Reply {
    /// Runs `curl` (a command that may run it elsewhere) with these arguments and `-i`.
    pub fn of(curl: &mut Command, arguments: &[&str]) -> Self {
        Self::parse(&run(curl.args(["-sS", "-i", "-m", "20"]).args(arguments)))
    }

    fn parse(output: &Output) -> Self {
        let mut reply = Self { status: 0, headers: BTreeMap::new(), body: String::new(), error: output.stderr.clone() };
        if output.code != Some(0) {
            reply.error = format!("curl {:?}: {}", output.code, output.stderr);
        }
        let mut rest = output.stdout.as_str();
        while rest.starts_with("HTTP/") {
            let (head, body) = rest.split_once("\r\n\r\n").unwrap_or((rest, ""));
            let mut lines = head.lines();
            let status = lines.next().and_then(|l| l.split(' ').nth(1));
            reply.status = status.and_then(|s| s.parse().ok()).unwrap_or(0);
            reply.headers.clear();
            for (name, value) in lines.filter_map(|l| l.split_once(':')) {
                let entry = reply.headers.entry(name.to_ascii_lowercase()).or_default();
                let separator = if entry.is_empty() { "" } else { ", " };
                *entry = format!("{entry}{separator}{}", value.trim());
            }
            rest = body;
            if !(100..200).contains(&reply.status) {
                break;
            }
        }
        rest.clone_into(&mut reply.body);
        reply
    }

    /// A header's value, or the empty text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The stable code with which a proxy says that it answered itself, or the empty text.
    pub fn code(&self) -> &str {
        self.header("causeway-error")
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("not JSON ({e}): {self:?}"))
    }
}
