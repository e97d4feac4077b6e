//! A mesh on one node: the directory of YAML, the control plane, Services with their names and addresses.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use crate::binaries::binary;
use crate::certs::Authority;
use crate::net::{NODE_IP, Node};
use crate::pod::{Pod, PodSpec};
use crate::poll::until;
use crate::process::{Output, Process, run};
use crate::yaml::{self, Port};

/// What a test may choose about its mesh.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Trust domain.
    pub trust_domain: String,
    /// More flags for the control plane.
    pub control_plane: Vec<String>,
    /// More flags for every proxy.
    pub proxy: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { trust_domain: "cluster.local".to_owned(), control_plane: Vec::new(), proxy: Vec::new() }
    }
}

impl Settings {
    /// Adds flags for the control plane.
    pub fn control_plane(mut self, flags: &[&str]) -> Self {
        self.control_plane.extend(flags.iter().map(|f| (*f).to_owned()));
        self
    }

    /// Adds flags for every proxy.
    pub fn proxy(mut self, flags: &[&str]) -> Self {
        self.proxy.extend(flags.iter().map(|f| (*f).to_owned()));
        self
    }
}

/// A running mesh. Dropping it ends every process and namespace of it.
#[derive(Debug)]
pub struct Mesh {
    control_plane: Option<Process>,
    node: Node,
    /// Root of the certificates in this mesh, so that tests can forge.
    pub authority: Authority,
    settings: Settings,
    names: Mutex<Vec<Name>>,
    directory: tempfile::TempDir,
}

/// A DNS name as pods see it.
#[derive(Clone, Debug)]
struct Name {
    service: String,
    namespace: String,
    address: Ipv4Addr,
}

impl Mesh {
    /// Starts a control plane on an empty directory and waits until it is ready.
    pub fn start(settings: Settings) -> Self {
        let mut mesh = Self::prepare(settings);
        mesh.start_control_plane();
        mesh
    }

    /// Everything but the control plane.
    pub fn prepare(settings: Settings) -> Self {
        let directory = tempfile::Builder::new().prefix("causeway-test-").tempdir().expect("temporary directory");
        let open = |p: &Path, mode| std::fs::set_permissions(p, std::fs::Permissions::from_mode(mode)).expect("mode");
        open(directory.path(), 0o755);
        for name in ["source", "state", "logs", "scratch"] {
            std::fs::create_dir(directory.path().join(name)).expect("subdirectory");
        }
        open(&directory.path().join("scratch"), 0o777);
        let authority = Authority::new(&settings.trust_domain);
        authority.write(directory.path());
        Self { control_plane: None, node: Node::new(), authority, settings, names: Mutex::default(), directory }
    }

    /// Starts the control plane (again) and waits until it is ready.
    pub fn start_control_plane(&mut self) {
        self.control_plane = None;
        let path = |name: &str| self.path(name).display().to_string();
        let mut command = self.node.namespace().command(binary("causeway-control-plane"));
        command
            .args(["--source", &format!("dir:{}", path("source")), "--state", &path("state")])
            .args(["--trust-domain", &self.settings.trust_domain, "--listen", &format!("{NODE_IP}:15010")])
            .args(["--admin", "127.0.0.1:15014", "--ca-cert", &path("ca.crt"), "--ca-key", &path("ca.key")])
            .args(&self.settings.control_plane);
        self.control_plane = Some(Process::start("control-plane", &mut command, &self.path("logs/control-plane.log")));
        until("control plane ready", Duration::from_secs(30), || {
            let answer = self.admin("/readyz");
            if answer.code == Some(0) { Ok(()) } else { Err(format!("{}{}", answer.stdout, answer.stderr)) }
        });
    }

    /// Kills the control plane.
    pub fn kill_control_plane(&mut self) {
        self.control_plane = None;
    }

    /// The control plane's process.
    pub fn control_plane(&self) -> &Process {
        self.control_plane.as_ref().expect("control plane runs")
    }

    /// GET of the control plane's admin side; fails (exit status) on an HTTP error.
    pub fn admin(&self, path: &str) -> Output {
        let url = format!("http://127.0.0.1:15014{path}");
        run(self.node.namespace().command("curl").args(["-sS", "--fail-with-body", "-m", "5", &url]))
    }

    /// Waits until the control plane reports a problem whose text contains all of `parts`.
    pub fn wait_for_problem(&self, parts: &[&str]) -> String {
        until(&format!("a problem with {parts:?}"), Duration::from_secs(20), || {
            let text = self.admin("/problems").stdout;
            let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            let found = value["problems"].as_array().and_then(|all| {
                all.iter().map(ToString::to_string).find(|p| parts.iter().all(|part| p.contains(part)))
            });
            found.ok_or(text)
        })
    }

    /// A path in the mesh's temporary directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The node.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Writes a file of the directory source, all at once.
    pub fn write(&self, name: &str, text: &str) {
        let partial = self.path("scratch").join(format!("{name}.part"));
        std::fs::write(&partial, text).expect("part of a source file");
        std::fs::rename(partial, self.path("source").join(name)).expect("source file");
    }

    /// Deletes a file of the directory source.
    pub fn remove(&self, name: &str) {
        std::fs::remove_file(self.path("source").join(name)).expect("source file");
    }

    /// Adds a Service and gives it the next cluster addresses and its names in every pod's hosts file.
    pub fn service(&self, namespace: &str, name: &str, ports: &[Port<'_>], selector: &[(&str, &str)]) -> Cluster {
        let cluster = self.cluster_address(namespace, name);
        let selector: Vec<_> = selector.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let text = yaml::service(namespace, name, (cluster.ip, cluster.ip6), ports, &selector);
        self.write(&format!("service-{namespace}-{name}.yaml"), &text);
        cluster
    }

    /// The cluster addresses for a Service that the test writes itself.
    pub fn cluster_address(&self, namespace: &str, name: &str) -> Cluster {
        let mut names = self.names.lock().expect("names");
        let number = u8::try_from(names.len() + 10).expect("at most 240 services");
        let address = Ipv4Addr::new(10, 96, 0, number);
        names.push(Name { service: name.to_owned(), namespace: namespace.to_owned(), address });
        Cluster { ip: address, ip6: Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, u16::from(number)) }
    }

    /// Adds another DNS name for a cluster address, as an ExternalName Service gives one.
    pub fn alias(&self, namespace: &str, name: &str, cluster: Cluster) {
        let entry = Name { service: name.to_owned(), namespace: namespace.to_owned(), address: cluster.ip };
        self.names.lock().expect("names").push(entry);
    }

    /// Adds a pod, and starts its proxy when it is in the mesh (without waiting for it to be ready).
    pub fn pod(&self, spec: PodSpec) -> Pod {
        let mut pod = Pod::new(self, spec);
        // First the record: a token bound to a pod is good only once the pod is known.
        if let Some(text) = pod.yaml() {
            self.write(&pod.file(), &text);
        }
        pod.start(self);
        pod
    }

    /// Says that a pod which was `starting` is ready, as kubelet does after its probes.
    pub fn mark_ready(&self, pod: &mut Pod) {
        pod.set_ready();
        self.write(&pod.file(), &pod.yaml().expect("a listed pod"));
    }

    /// Takes a pod out of the directory, as when it is deleted; its processes stay until the value is dropped.
    pub fn forget(&self, pod: &Pod) {
        self.remove(&pod.file());
    }

    /// Flags of every proxy.
    pub(crate) fn proxy_flags(&self) -> &[String] {
        &self.settings.proxy
    }

    /// A token for a ServiceAccount, as the control plane's `token` command makes it.
    pub fn token(&self, account: &str, flags: &[&str]) -> Output {
        let state = self.path("state");
        run(std::process::Command::new(binary("causeway-control-plane"))
            .arg("token")
            .arg("--state")
            .arg(state)
            .arg(account)
            .args(flags))
    }

    /// The hosts file of a pod of `namespace`: all four forms of each name.
    pub(crate) fn hosts(&self, namespace: &str) -> String {
        let mut text = String::new();
        for Name { service, namespace: home, address } in self.names.lock().expect("names").iter() {
            let short = if home == namespace { service.as_str() } else { "" };
            let full = format!("{service}.{home}.svc.cluster.local {service}.{home}.svc {service}.{home}");
            let _ = writeln!(text, "{address} {full} {short}");
        }
        text
    }
}

/// The addresses of a Service.
#[derive(Clone, Copy, Debug)]
pub struct Cluster {
    /// `clusterIP`.
    pub ip: Ipv4Addr,
    /// The second of `clusterIPs`.
    pub ip6: Ipv6Addr,
}
