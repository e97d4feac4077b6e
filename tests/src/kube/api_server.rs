//! An API server with an etcd of its own, on free ports of loopback; nothing of a node, no root needed.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::cluster::Cluster;
use super::guard::Guard;
use super::pki::Pki;
use super::program;
use crate::poll::until;
use crate::ports::free_port;
use crate::process::Process;

/// Services' addresses in this cluster.
const SERVICES: &str = "10.96.0.0/16";

/// Longest wait for a component, on a machine that is busy with other tests.
const START: Duration = Duration::from_secs(120);

/// A running API server, used through [`Cluster`]'s methods. RBAC is on; its own kubeconfig is a cluster admin's.
///
/// There is no kubelet and, unless started by [`Self::start_controllers`], no controller: a Pod is an object only, a
/// Deployment makes none, and a deleted namespace stays in `Terminating`.
#[derive(Debug)]
pub struct ApiServer {
    cluster: Cluster,
    controllers: Option<Process>,
    server: Option<Process>,
    etcd: Option<Process>,
    ports: Ports,
    pki: Pki,
    // Last, so that it ends after the processes above: it removes their directory.
    guard: Guard,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    server: u16,
    etcd: u16,
    etcd_peer: u16,
}

impl ApiServer {
    /// Starts both and waits until the API server is ready.
    pub fn start() -> Self {
        let guard = Guard::new("causeway-kube-");
        let names = ["localhost", "kubernetes.default.svc", "127.0.0.1", "10.96.0.1"];
        let pki = Pki::new(guard.directory().join("pki"), &names, "none");
        let ports = Ports { server: free_port(), etcd: free_port(), etcd_peer: free_port() };
        let kubeconfig = guard.directory().join("kubeconfig");
        pki.kubeconfig("admin", &url(ports), &kubeconfig);
        let cluster = Cluster::new(kubeconfig);
        let mut this = Self { cluster, controllers: None, server: None, etcd: None, ports, pki, guard };
        this.start_etcd();
        this.start_server();
        this
    }

    /// The API server's address, `https://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        url(self.ports)
    }

    /// A directory that lives as long as the cluster, for files of the test.
    pub fn directory(&self) -> &Path {
        self.guard.directory()
    }

    /// Path of the certificate of the cluster's authority.
    pub fn ca(&self) -> PathBuf {
        PathBuf::from(self.pki.path("ca.crt"))
    }

    /// What the API server printed so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.guard.directory().join("kube-apiserver.log")).unwrap_or_default()
    }

    /// The cluster with the rights of a ServiceAccount, made where it does not exist.
    pub fn as_service_account(&self, namespace: &str, account: &str) -> Cluster {
        self.create_service_account(namespace, account);
        let token = self.token(namespace, account, None, None).expect("token of a ServiceAccount");
        let file = self.guard.directory().join(format!("{namespace}.{account}.kubeconfig"));
        self.pki.kubeconfig_of_token(&token, &self.url(), &file);
        Cluster::new(file)
    }

    /// Kills the API server; its data stays.
    pub fn stop_server(&mut self) {
        self.server = None;
    }

    /// Starts the API server (again), on the same port, and waits until it is ready.
    pub fn start_server(&mut self) {
        let mut command = Command::new(program("kube-apiserver"));
        let port = self.ports.server.to_string();
        command.args(server_flags(&self.pki, &format!("http://127.0.0.1:{}", self.ports.etcd), SERVICES));
        command.args(["--bind-address=127.0.0.1", "--secure-port", &port]);
        let server = self.spawn("kube-apiserver", &mut command);
        let server = self.server.insert(server);
        let cluster = &self.cluster;
        until("the API server is ready", START, || {
            assert!(server.is_alive(), "the API server ended: {}", server.log());
            cluster.kubectl(&["get", "--raw", "/readyz"])
        });
    }

    /// Starts the controller manager: garbage collection, namespaces, Deployments, Jobs, EndpointSlices.
    pub fn start_controllers(&mut self) {
        let name = "kube-controller-manager";
        let config = self.guard.directory().join("controllers.kubeconfig");
        self.pki.kubeconfig(name, &self.url(), &config);
        let mut command = Command::new(program(name));
        command.args(controller_flags(&self.pki, &config));
        // Port 0: it would serve on a fixed one, which two tests cannot share.
        command.args(["--secure-port=0"]);
        self.controllers = Some(self.spawn(name, &mut command));
        // Its first visible work; from then on every controller runs.
        until("controllers run", START, || self.kubectl(&["-n", "default", "get", "serviceaccount", "default"]));
    }

    fn start_etcd(&mut self) {
        let Ports { etcd, etcd_peer, .. } = self.ports;
        let mut command = Command::new(program("etcd"));
        let (client, peer) = (format!("http://127.0.0.1:{etcd}"), format!("http://127.0.0.1:{etcd_peer}"));
        command.args(etcd_flags(&self.guard.directory().join("etcd"), &client, &peer));
        self.etcd = Some(self.spawn("etcd", &mut command));
    }

    fn spawn(&self, name: &str, command: &mut Command) -> Process {
        let log = self.guard.directory().join(format!("{name}.log"));
        let process = Process::start(name, command, &log).untold();
        self.guard.watch(&process);
        process
    }
}

impl Deref for ApiServer {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

/// Flags of an etcd of one member that need not survive a power cut.
pub(super) fn etcd_flags(data: &Path, client: &str, peer: &str) -> Vec<String> {
    [
        "--name=default",
        &format!("--data-dir={}", data.display()),
        &format!("--listen-client-urls={client}"),
        &format!("--advertise-client-urls={client}"),
        &format!("--listen-peer-urls={peer}"),
        &format!("--initial-advertise-peer-urls={peer}"),
        &format!("--initial-cluster=default={peer}"),
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Flags of an API server that authenticates and authorises as a real one does.
pub(super) fn server_flags(pki: &Pki, etcd: &str, services: &str) -> Vec<String> {
    let path = |file: &str| pki.path(file);
    [
        &format!("--etcd-servers={etcd}"),
        &format!("--service-cluster-ip-range={services}"),
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        "--endpoint-reconciler-type=lease",
        "--profiling=false",
        &format!("--client-ca-file={}", path("ca.crt")),
        &format!("--tls-cert-file={}", path("server.crt")),
        &format!("--tls-private-key-file={}", path("server.key")),
        &format!("--kubelet-certificate-authority={}", path("ca.crt")),
        &format!("--kubelet-client-certificate={}", path("apiserver-kubelet.crt")),
        &format!("--kubelet-client-key={}", path("apiserver-kubelet.key")),
        "--kubelet-preferred-address-types=InternalIP",
        &format!("--requestheader-client-ca-file={}", path("ca.crt")),
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        &format!("--proxy-client-cert-file={}", path("front-proxy.crt")),
        &format!("--proxy-client-key-file={}", path("front-proxy.key")),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        &format!("--service-account-key-file={}", path("sa.pub")),
        &format!("--service-account-signing-key-file={}", path("sa.key")),
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Flags of the controller manager.
pub(super) fn controller_flags(pki: &Pki, kubeconfig: &Path) -> Vec<String> {
    [
        &format!("--kubeconfig={}", kubeconfig.display()),
        &format!("--service-account-private-key-file={}", pki.path("sa.key")),
        &format!("--root-ca-file={}", pki.path("ca.crt")),
        &format!("--cluster-signing-cert-file={}", pki.path("ca.crt")),
        &format!("--cluster-signing-key-file={}", pki.path("ca.key")),
        "--use-service-account-credentials",
        "--leader-elect=false",
        "--kube-api-qps=300",
        "--kube-api-burst=600",
        "--profiling=false",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn url(ports: Ports) -> String {
    format!("https://127.0.0.1:{}", ports.server)
}
