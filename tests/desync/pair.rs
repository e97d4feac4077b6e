//! A control plane and two proxies on loopback, with a client's proxy in `dev` and an application's in `prod`.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use causeway_tests::binaries::binary;
use causeway_tests::ports::free_port;
use causeway_tests::process::run;
use causeway_tests::{Process, until};

/// A running pair. Dropping it ends its processes.
pub struct Pair {
    _processes: Vec<Process>,
    directory: tempfile::TempDir,
    outbound: SocketAddr,
    inbound: SocketAddr,
}

impl Pair {
    /// Starts everything and waits until both proxies are ready.
    pub fn start(app: SocketAddr) -> Self {
        let directory = tempfile::Builder::new().prefix("causeway-desync-").tempdir().unwrap();
        let [control, admin, outbound, inbound] = free_ports();
        let source = directory.path().join("source");
        std::fs::create_dir(&source).unwrap();
        std::fs::write(source.join("mesh.yaml"), mesh(inbound.port())).unwrap();
        let mut pair = Self { _processes: Vec::new(), directory, outbound, inbound };
        let mut command = Command::new(binary("causeway-control-plane"));
        command.args(["--source", &format!("dir:{}", source.display()), "--state", &pair.path("state")]);
        command.args(["--listen", &control.to_string(), "--admin", &admin.to_string()]);
        pair.spawn("control-plane", &mut command);
        let url = format!("http://{admin}/readyz");
        until("control plane ready", Duration::from_secs(30), || ready(&url));
        let client = pair.proxy(control, "dev", "web", &["--outbound", &outbound.to_string()]);
        let explicit = format!("{inbound}={app}");
        let server = pair.proxy(
            control,
            "prod",
            "app",
            &["--inbound-explicit", &explicit, "--outbound", &free_ports::<1>()[0].to_string()],
        );
        for health in [client, server] {
            let url = format!("http://{health}/ready");
            until("proxy ready", Duration::from_secs(30), || ready(&url));
        }
        pair
    }

    /// Where the client's proxy takes requests.
    pub fn outbound(&self) -> SocketAddr {
        self.outbound
    }

    /// Where the application's proxy takes connections.
    pub fn inbound(&self) -> SocketAddr {
        self.inbound
    }

    /// Lets plain text in.
    pub fn permit_plaintext(&self) {
        let text = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default, namespace: prod}\n\
            spec: {mtls: {mode: PERMISSIVE}}\n";
        std::fs::write(self.directory.path().join("source/plaintext.yaml"), text).unwrap();
    }

    /// Starts the proxy of a pod; its health address.
    fn proxy(&mut self, control: SocketAddr, namespace: &str, pod: &str, flags: &[&str]) -> SocketAddr {
        let account = format!("{namespace}/{pod}");
        let token = run(Command::new(binary("causeway-control-plane")).args([
            "token",
            "--state",
            &self.path("state"),
            &account,
            "--pod",
            pod,
        ]))
        .ok();
        let file = self.path(&format!("{pod}.token"));
        std::fs::write(&file, token.trim()).unwrap();
        let [admin, health] = free_ports();
        let mut command = Command::new(binary("causeway-proxy"));
        command.args(["--control-plane", &format!("https://{control}")]);
        command.args(["--trust-bundle", &self.path("state/trust-bundle.pem"), "--token-file", &file]);
        command
            .args(["--workload", &account, "--admin", &admin.to_string(), "--health", &health.to_string()])
            .args(flags);
        self.spawn(pod, &mut command);
        health
    }

    fn spawn(&mut self, name: &str, command: &mut Command) {
        let log = self.directory.path().join(format!("{name}.log"));
        self._processes.push(Process::start(name, command, &log));
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }
}

fn ready(url: &str) -> Result<(), String> {
    let answer = run(Command::new("curl").args(["-sS", "--fail-with-body", "-m", "2", url]));
    if answer.code == Some(0) { Ok(()) } else { Err(answer.stdout + &answer.stderr) }
}

/// Addresses of loopback that are free, all different.
fn free_ports<const N: usize>() -> [SocketAddr; N] {
    std::array::from_fn(|_| SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())))
}

/// On one machine there is no network of pods: the endpoint is the inbound listener of the application's proxy.
fn mesh(inbound: u16) -> String {
    let pod = |namespace: &str, name: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{app: {name}, \
             causeway.dev/injected: \"true\"}}}}\nspec: {{serviceAccountName: {name}, containers: [{{name: app, image: \
             example/app}}]}}\nstatus: {{phase: Running, podIP: 127.0.0.1, conditions: [{{type: Ready, status: \
             \"True\"}}]}}\n---\n"
        )
    };
    let plain = |kind: &str, place: &str| format!("apiVersion: v1\nkind: {kind}\nmetadata: {{{place}}}\n---\n");
    [
        plain("Namespace", "name: dev"),
        plain("Namespace", "name: prod"),
        plain("ServiceAccount", "name: web, namespace: dev"),
        plain("ServiceAccount", "name: app, namespace: prod"),
        pod("dev", "web"),
        pod("prod", "app"),
        "apiVersion: v1\nkind: Service\nmetadata: {name: app, namespace: prod}\nspec: {selector: {app: app}, ports: \
         [{name: http, port: 80, targetPort: 8080}]}\n---\n"
            .to_owned(),
        format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: app-1, namespace: prod, labels: \
             {{kubernetes.io/service-name: app}}}}\naddressType: IPv4\nports: [{{name: http, port: {inbound}, protocol: \
             TCP}}]\nendpoints:\n- {{addresses: [\"127.0.0.1\"], conditions: {{ready: true}}, targetRef: {{kind: Pod, \
             namespace: prod, name: app}}}}\n---\n"
        ),
        // A policy that reads requests, so that nothing passes as mere bytes.
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: app, namespace: prod}\nspec: \
         {selector: {matchLabels: {app: app}}, action: ALLOW, rules: [{to: [{operation: {paths: [\"/*\"]}}]}]}\n"
            .to_owned(),
    ]
    .concat()
}
