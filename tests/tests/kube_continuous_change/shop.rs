//! A Service of four pods and its client, on real proxies with explicit listeners; and the objects that say how requests get
//! from one to the others in a numbered configuration.

use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use causeway_tests::binaries::binary;
use causeway_tests::capability::python;
use causeway_tests::ports::free_port;
use causeway_tests::process::{Process, run};
use causeway_tests::until;
use http::Request;
use kube::Client;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::objects::{self, patch};
use super::plan::{PODS, ROUTES, subset, weights};
use super::world::World;
use super::{OF_GATEWAY, is_ready, side};

/// The Service's ports by name: what a pod serves on each.
const PORTS: [(&str, u16); 3] = [("http", 80), ("http-ws", 8765), ("grpc", 50051)];
/// Pods belong to the subsets of so many configurations before and after the one in force.
const LABELLED: u64 = 10;
/// So many of them are after it. What names pods has to come later than they do, and by more than the kinds' watches may
/// differ: no order holds between two kinds. (On a busy machine 3 routes in 1,395 were told up to 66 ms before labels that
/// had been written before them; the one that leads nowhere else is answered 503 meanwhile.)
const AHEAD: u64 = 4;
/// The subsets of so many configurations stay defined.
const SUBSETS: u64 = 6;
const OWN: &str = "causeway.dev/v1alpha1";
const START: Duration = Duration::from_secs(60);

/// Everything that runs. Ends when dropped.
pub struct Shop {
    /// Port of the client's HTTP proxy.
    pub client: u16,
    processes: Vec<Process>,
}

impl Shop {
    /// Makes the objects of configuration 0, and starts the applications and proxies.
    pub fn open(world: &World, control_plane: u16, address: IpAddr, writer: &mut Writer) -> Self {
        let ports: Vec<[u16; 3]> = (0..PODS).map(|_| [(); 3].map(|()| free_port())).collect();
        writer.begin(address, &ports);
        let mut shop = Self { client: free_port(), processes: Vec::new() };
        for (pod, inbound) in (0..PODS).zip(&ports) {
            let name = format!("shop-{pod}");
            let apps = shop.applications(world, &name);
            let way = |(from, to): (&u16, u16)| format!("{address}:{from}=127.0.0.1:{to}");
            let ways: Vec<String> = inbound.iter().zip(apps).map(way).collect();
            shop.proxy(world, control_plane, "prod", &name, free_port(), &ways);
        }
        shop.proxy(world, control_plane, "dev", "client", shop.client, &[]);
        shop
    }

    /// Whether a request on a route is answered by a configuration.
    pub fn answers(&self, route: u64, config: u64) -> Result<(), String> {
        let url = format!("http://127.0.0.1:{}/r/{route}/x", self.client);
        let said = run(Command::new("curl").args(["-sSi", "-m", "5", "--noproxy", "*", "-H", "host: shop.prod", &url]));
        let is_it =
            said.stdout.starts_with("HTTP/1.1 200 ") && said.stdout.contains(&format!("x-config: {config}\r\n"));
        if is_it { Ok(()) } else { Err(format!("route {route}: {}{}", said.stdout, said.stderr)) }
    }

    /// Starts what a pod serves on each port; where.
    fn applications(&mut self, world: &World, name: &str) -> [u16; 3] {
        let ports = [(); 3].map(|()| free_port());
        let script = |file: &str| format!("{}/python/{file}", env!("CARGO_MANIFEST_DIR"));
        let mut http = Command::new(binary("causeway-test-app"));
        http.args(["http", "--name", name, "--listen", &format!("127.0.0.1:{}", ports[0])]);
        let mut websocket = Command::new(python());
        websocket.args([script("ws_h2_server.py"), ports[1].to_string()]);
        let mut grpc = Command::new(python());
        grpc.args([script("grpc_server.py"), format!("127.0.0.1:{}", ports[2])]);
        for (command, (what, _)) in [&mut http, &mut websocket, &mut grpc].into_iter().zip(PORTS) {
            let process = self.start(world, &format!("{name}.{what}"), command);
            process.wait_for_log("listening", START);
        }
        ports
    }

    fn proxy(&mut self, world: &World, control_plane: u16, namespace: &str, pod: &str, outbound: u16, ways: &[String]) {
        let file = |name: &str| world.kube.directory().join(format!("{pod}.{name}"));
        std::fs::write(file("token"), world.kube.token(namespace, "default", Some(pod), Some("causeway")).unwrap())
            .unwrap();
        let template = r#"go-template={{index .data "ca.crt" | base64decode}}"#;
        let root =
            world.kube.kubectl(&["-n", "causeway-system", "get", "secret", "causeway-ca", "-o", template]).unwrap();
        std::fs::write(file("pem"), root).unwrap();
        let local = |port: u16| format!("127.0.0.1:{port}");
        let health = free_port();
        let mut command = Command::new(binary("causeway-proxy"));
        command
            .args(["--control-plane", &format!("https://{}", local(control_plane))])
            .args(["--workload", &format!("{namespace}/{pod}")])
            .arg("--trust-bundle")
            .arg(file("pem"))
            .arg("--token-file")
            .arg(file("token"))
            .args(["--outbound", &local(outbound), "--health", &local(health), "--admin", &local(free_port())]);
        ways.iter().for_each(|way| _ = command.args(["--inbound-explicit", way]));
        self.start(world, &format!("proxy of {pod}"), &mut command);
        until(&format!("the proxy of {pod} is ready"), START, || {
            let url = format!("http://{}/ready", local(health));
            let said = run(Command::new("curl").args(["-sSf", "-m", "5", "--noproxy", "*", &url]));
            if said.code == Some(0) { Ok(()) } else { Err(said.stderr) }
        });
    }

    fn start(&mut self, world: &World, name: &str, command: &mut Command) -> &Process {
        let log = world.kube.directory().join(format!("{name}.log"));
        self.processes.push(Process::start(name, command, &log));
        self.processes.last().unwrap()
    }
}

/// Writes the objects.
pub struct Writer {
    runtime: Handle,
    client: Client,
    /// How many there were.
    pub writes: u64,
}

impl Writer {
    pub fn new(runtime: &tokio::runtime::Runtime, kubeconfig: &Path) -> Self {
        let client = runtime.block_on(objects::client(kubeconfig, None));
        Self { runtime: runtime.handle().clone(), client, writes: 0 }
    }

    /// Everything of configuration 0.
    fn begin(&self, address: IpAddr, ports: &[[u16; 3]]) {
        let make = async |object: Value| drop(objects::create(&self.client, &object).await);
        self.runtime.block_on(async {
            make(pod_object("dev", "client", address)).await;
            make(service("shop", &PORTS)).await;
            for side in 0..2 {
                make(service(&format!("side-{side}"), &PORTS[..1])).await;
            }
            for (pod, ports) in (0..PODS).zip(ports) {
                make(pod_object("prod", &format!("shop-{pod}"), address)).await;
                for (service, count) in [("shop".to_owned(), 3), (format!("side-{}", pod / 2), 1)] {
                    make(slice(&service, pod, address, &ports[..count])).await;
                }
                for config in 0..=AHEAD {
                    self.label(config, pod).await;
                }
                self.ready(0, pod).await;
            }
            for object in [rule(0), virtual_service(0), http_route(0)] {
                self.apply(&object).await;
            }
        });
    }

    /// The next configuration: labels of pods for one that is to come, then in any order what is of this one. Nothing waits
    /// until anything was seen.
    pub fn change(&mut self, config: u64) {
        let writer = &*self;
        let (rule, one, other) = (rule(config), virtual_service(config), http_route(config));
        let written = self.runtime.block_on(async {
            let label = |pod| writer.label(config + AHEAD, pod);
            tokio::join!(label(0), label(1), label(2), label(3));
            // Who comes is there before somebody goes: both may be all that a subset has, and a subset that a proxy hears
            // of while it has nobody answers 503.
            let moved = |pod: &u64| is_ready(config, *pod) != is_ready(config - 1, *pod);
            let (come, go): (Vec<u64>, Vec<u64>) = (0..PODS).filter(moved).partition(|pod| is_ready(config, *pod));
            for pod in come.iter().chain(&go) {
                writer.ready(config, *pod).await;
            }
            tokio::join!(writer.apply(&one), writer.apply(&other), writer.apply(&rule));
            PODS + 2 * (come.len() + go.len()) as u64 + 3
        });
        self.writes += written;
    }

    /// Says which side of the VirtualService's subsets a pod is in.
    async fn label(&self, config: u64, pod: u64) {
        let (name, value) = label(config, side(0, config, pod));
        let object = meta("v1", "Pod", "prod", &format!("shop-{pod}"));
        patch(&self.client, &object, &json!({"metadata": {"labels": {name: value}}})).await;
    }

    /// Says in both slices of a pod whether it is ready.
    async fn ready(&self, config: u64, pod: u64) {
        let ready = json!([{"op": "replace", "path": "/endpoints/0/conditions/ready", "value": is_ready(config, pod)}]);
        for service in ["shop".to_owned(), format!("side-{}", pod / 2)] {
            let path = format!("/apis/discovery.k8s.io/v1/namespaces/prod/endpointslices/{service}-{pod}");
            self.send(&path, "application/json-patch+json", &ready).await;
        }
    }

    /// `kubectl apply --server-side`
    async fn apply(&self, object: &Value) {
        let (api, kind) = (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap().to_lowercase());
        let path = format!("/apis/{api}/namespaces/prod/{kind}s/shop?fieldManager=test&force=true");
        self.send(&path, "application/apply-patch+yaml", object).await;
    }

    async fn send(&self, path: &str, kind: &str, body: &Value) {
        let request = Request::builder().method("PATCH").uri(path).header("content-type", kind);
        let answer = self.client.request::<Value>(request.body(body.to_string().into_bytes()).unwrap()).await;
        answer.unwrap_or_else(|e| panic!("{path}: {e}"));
    }
}

fn meta(api: &str, kind: &str, namespace: &str, name: &str) -> Value {
    json!({"apiVersion": api, "kind": kind, "metadata": {"namespace": namespace, "name": name}})
}

/// What a pod has while it is in a subset of a configuration, under a name that comes again once that is over.
fn label(config: u64, side: u64) -> (String, String) {
    (format!("g{}", config % LABELLED), subset(config, side))
}

fn pod_object(namespace: &str, name: &str, address: IpAddr) -> Value {
    let mut object = meta("v1", "Pod", namespace, name);
    object["metadata"]["labels"] = json!({"causeway.dev/injected": "true"});
    object["spec"] = json!({"containers": [{"name": "app", "image": "app"}]});
    object["status"] = json!({"phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
        "conditions": [{"type": "Ready", "status": "True"}]});
    object
}

fn service(name: &str, ports: &[(&str, u16)]) -> Value {
    let mut object = meta("v1", "Service", "prod", name);
    let port = |(name, port): &(&str, u16)| json!({"name": name, "port": port});
    object["spec"]["ports"] = ports.iter().map(port).collect();
    object
}

/// Of one pod, as its ports are its own.
fn slice(service: &str, pod: u64, address: IpAddr, ports: &[u16]) -> Value {
    let mut object = meta("discovery.k8s.io/v1", "EndpointSlice", "prod", &format!("{service}-{pod}"));
    object["metadata"]["labels"] = json!({"kubernetes.io/service-name": service});
    object["addressType"] = json!("IPv4");
    object["ports"] = ports.iter().zip(PORTS).map(|(port, (name, _))| json!({"name": name, "port": port})).collect();
    object["endpoints"] = json!([{"addresses": [address], "conditions": {"ready": true},
        "targetRef": {"kind": "Pod", "namespace": "prod", "name": format!("shop-{pod}")}}]);
    object
}

/// The subsets of a configuration and of some before it.
fn rule(config: u64) -> Value {
    let mut object = meta(OWN, "DestinationRule", "prod", "shop");
    let one = |config: u64, side: u64| {
        let (name, value) = label(config, side);
        json!({"name": subset(config, side), "labels": {name: value}})
    };
    let known = (config + 1).saturating_sub(SUBSETS)..=config;
    let subsets: Vec<Value> = known.flat_map(|c| [one(c, 0), one(c, 1)]).collect();
    object["spec"] = json!({"host": "shop", "subsets": subsets});
    object
}

fn virtual_service(config: u64) -> Value {
    let mut object = meta(OWN, "VirtualService", "prod", "shop");
    let route = |route: u64, prefix: String| {
        let to = |side: u64| {
            let name = subset(config, side);
            json!({"destination": {"host": "shop", "subset": name}, "weight": weights(config, route)[side as usize],
                "headers": {"response": {"set": {"x-subset": name}}}})
        };
        json!({"match": [{"uri": {"prefix": prefix}}], "route": [to(0), to(1)],
            "headers": {"response": {"set": {"x-config": config.to_string()}}}})
    };
    let mut all: Vec<Value> = (0..OF_GATEWAY).map(|r| route(r, format!("/r/{r}/"))).collect();
    all.push(route(ROUTES, "/".to_owned()));
    object["spec"] = json!({"hosts": ["shop"], "http": all});
    object
}

fn http_route(config: u64) -> Value {
    let mut object = meta("gateway.networking.k8s.io/v1", "HTTPRoute", "prod", "shop");
    let set = |name: &str, value: String| json!([{"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": [{"name": name, "value": value}]}}]);
    let rule = |route: u64| {
        let to = |side: u64| {
            json!({"name": format!("side-{side}"), "port": 80, "weight": weights(config, route)[side as usize],
                "filters": set("x-subset", subset(config, side))})
        };
        json!({"matches": [{"path": {"type": "PathPrefix", "value": format!("/r/{route}")}}], "backendRefs": [to(0), to(1)],
            "filters": set("x-config", config.to_string())})
    };
    let rules: Vec<Value> = (OF_GATEWAY..ROUTES).map(rule).collect();
    object["spec"] =
        json!({"parentRefs": [{"group": "", "kind": "Service", "name": "shop", "port": 80}], "rules": rules});
    object
}
