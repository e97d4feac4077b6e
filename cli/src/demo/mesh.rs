//! Starts the control plane, the applications and their proxies, and knows where each of them listens.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::time::{Instant, interval};

use super::backend::Backend;
use super::directory::{CANARY, INTRUDER, Pod, STABLE, WEB, Workspace};
use super::ports;
use super::process::{Processes, output, tail};
use crate::{admin, clock, hosted};

/// How long the control plane or a proxy may take to be ready.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the processes of a demo listen, all on the loopback address.
#[derive(Clone, Debug)]
pub(super) struct Ports {
    /// gRPC of the control plane.
    pub control_plane: u16,
    /// Admin of the control plane.
    pub control_plane_admin: u16,
    /// The client's proxy.
    pub web: ProxyPorts,
    /// The intruder's proxy.
    pub intruder: ProxyPorts,
    /// The stable version's proxy.
    pub stable: ProxyPorts,
    /// The canary version's proxy.
    pub canary: ProxyPorts,
}

/// Where one proxy listens.
#[derive(Clone, Debug)]
pub(super) struct ProxyPorts {
    /// For what leaves.
    pub outbound: u16,
    /// For what comes in; unused by pods that only call.
    pub inbound: u16,
    /// For an operator.
    pub admin: u16,
    /// For a kubelet.
    pub health: u16,
}

/// What runs besides the processes themselves.
#[derive(Debug)]
pub(super) struct Mesh {
    /// Where everything listens.
    pub ports: Ports,
    /// The application behind the stable proxy.
    pub stable: Backend,
    /// The application behind the canary proxy.
    pub canary: Backend,
}

impl Ports {
    fn pick() -> std::io::Result<Self> {
        let mut free = ports::free(18)?.into_iter();
        let mut next = || free.next().ok_or_else(|| std::io::Error::other("too few ports"));
        let mut proxy = || {
            Ok::<_, std::io::Error>(ProxyPorts { outbound: next()?, inbound: next()?, admin: next()?, health: next()? })
        };
        let (web, intruder, stable, canary) = (proxy()?, proxy()?, proxy()?, proxy()?);
        Ok(Self { control_plane: next()?, control_plane_admin: next()?, web, intruder, stable, canary })
    }
}

/// `127.0.0.1:port`
pub(super) fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

impl Mesh {
    /// Writes the example and starts everything; returns when every proxy is ready. `note` is told of each step.
    ///
    /// # Errors
    /// What did not start, or was not ready in time. A process that ends is reported by [`Processes::first_death`].
    pub(super) async fn start(
        workspace: &Workspace,
        processes: &Processes,
        note: &impl Fn(String),
    ) -> anyhow::Result<Self> {
        let ports = Ports::pick().context("no free port")?;
        let mesh =
            Self { stable: Backend::start("v1-stable").await?, canary: Backend::start("v1-canary").await?, ports };
        workspace.write_example(mesh.ports.stable.inbound, mesh.ports.canary.inbound)?;
        note(format!("example written to {}", workspace.config().display()));

        processes.start(
            "control plane",
            hosted::CONTROL_PLANE,
            &control_plane_arguments(workspace, &mesh.ports),
            &workspace.log("control-plane"),
        )?;
        let log = workspace.log("control-plane");
        until_ok("the control plane", local(mesh.ports.control_plane_admin), "/readyz", &log).await?;
        note("control plane ready: it reads the example and issues certificates".to_owned());

        for pod in [STABLE, CANARY, WEB, INTRUDER] {
            mesh.start_proxy(workspace, processes, &pod).await?;
        }
        for pod in [STABLE, CANARY, WEB, INTRUDER] {
            let name = format!("the proxy of {}", pod.workload());
            until_ok(&name, local(mesh.proxy(&pod).health), "/ready", &workspace.log(pod.name)).await?;
        }
        note("four proxies ready: certificate held, configuration in force".to_owned());
        Ok(mesh)
    }

    fn proxy(&self, pod: &Pod) -> &ProxyPorts {
        match pod.name {
            "web" => &self.ports.web,
            "intruder" => &self.ports.intruder,
            "prodsvc-canary" => &self.ports.canary,
            _ => &self.ports.stable,
        }
    }

    async fn start_proxy(&self, workspace: &Workspace, processes: &Processes, pod: &Pod) -> anyhow::Result<()> {
        let token = mint(workspace, pod).await?;
        workspace.write_token(pod, token.trim())?;
        let ports = self.proxy(pod);
        let inbound = match pod.version {
            Some("v1-stable") => Some(explicit(ports.inbound, self.stable.address)),
            Some(_) => Some(explicit(ports.inbound, self.canary.address)),
            None => None,
        };
        let mut arguments = flags([
            ("--control-plane", format!("https://{}", local(self.ports.control_plane)).into()),
            ("--trust-bundle", workspace.state().join("trust-bundle.pem").into()),
            ("--token-file", workspace.token(pod).into()),
            ("--workload", pod.workload().into()),
            ("--outbound", local(ports.outbound).to_string().into()),
            ("--admin", local(ports.admin).to_string().into()),
            ("--health", local(ports.health).to_string().into()),
            ("--access-log", "errors".into()),
        ]);
        arguments.extend(inbound.into_iter().flatten());
        processes.start(&format!("proxy of {}", pod.workload()), hosted::PROXY, &arguments, &workspace.log(pod.name))
    }
}

fn explicit(inbound: u16, app: SocketAddr) -> [OsString; 2] {
    ["--inbound-explicit".into(), format!("{}={app}", local(inbound)).into()]
}

fn control_plane_arguments(workspace: &Workspace, ports: &Ports) -> Vec<OsString> {
    let mut source = OsString::from("dir:");
    source.push(workspace.config());
    flags([
        ("--source", source),
        ("--state", workspace.state().into()),
        ("--trust-domain", "cluster.local".into()),
        ("--listen", local(ports.control_plane).to_string().into()),
        ("--admin", local(ports.control_plane_admin).to_string().into()),
    ])
}

fn flags<const N: usize>(pairs: [(&str, OsString); N]) -> Vec<OsString> {
    pairs.into_iter().flat_map(|(flag, value)| [flag.into(), value]).collect()
}

/// The token that stands for Kubernetes' projected ServiceAccount token.
async fn mint(workspace: &Workspace, pod: &Pod) -> anyhow::Result<String> {
    let account = format!("{}/{}", pod.namespace, pod.account);
    let arguments = ["token".into(), "--state".into(), workspace.state().into(), account.into()];
    let bound = ["--pod".into(), pod.name.into(), "--ttl".into(), "24h".into()];
    let arguments: Vec<OsString> = arguments.into_iter().chain(bound).collect();
    output(hosted::CONTROL_PLANE, &arguments).await.with_context(|| format!("minting the token of {}", pod.workload()))
}

/// Asks until the answer is a success.
async fn until_ok(who: &str, address: SocketAddr, path: &str, log: &Path) -> anyhow::Result<()> {
    let deadline = Instant::from_std(clock::now()) + PATIENCE;
    let mut ticks = interval(Duration::from_millis(40));
    let mut last = "nobody listens".to_owned();
    while Instant::from_std(clock::now()) < deadline {
        ticks.tick().await;
        match admin::get(address, path, Duration::from_secs(1)).await {
            Ok(answer) if answer.status().is_success() => return Ok(()),
            Ok(answer) => last = String::from_utf8_lossy(answer.body()).trim().to_owned(),
            Err(error) => last = format!("{error:#}"),
        }
    }
    bail!("{who} was not ready within {} s: {last}\nThe last lines of its log:\n{}", PATIENCE.as_secs(), tail(log))
}
