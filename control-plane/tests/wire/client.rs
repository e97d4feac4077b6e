//! A control plane on an example directory, and a client that speaks to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use causeway_control_plane::args::{Args, Cli};
use causeway_control_plane::run::Running;
use causeway_control_plane::state::StateDir;
use causeway_control_plane::token::{LocalTokens, TokenRequest};
use causeway_mesh::spiffe::SpiffeId;
use causeway_mesh::svid::{self, Roots, RootsSource, ServerVerifier};
use causeway_mesh::wire::config_client::ConfigClient;
use causeway_mesh::wire::identity_client::IdentityClient;
use causeway_mesh::wire::watch_request::Request;
use causeway_mesh::{directory, wire};
use clap::Parser as _;
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::collections::BTreeMap;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

pub const MESH: &str = "\
apiVersion: v1
kind: Pod
metadata: { name: web-1, namespace: dev, labels: { app: web, causeway.dev/injected: 'true' } }
spec: { serviceAccountName: web, containers: [ { name: app, ports: [ { containerPort: 8080 } ] } ] }
status: { podIP: 127.0.1.1 }
---
apiVersion: v1
kind: Pod
metadata: { name: shop-1, namespace: prod, labels: { app: shop, causeway.dev/injected: 'true' } }
spec: { serviceAccountName: shop, containers: [ { name: app, ports: [ { containerPort: 8080 } ] } ] }
status: { podIP: 127.0.1.2, phase: Running, conditions: [ { type: Ready, status: 'True' } ] }
---
apiVersion: v1
kind: Service
metadata: { name: shop, namespace: prod }
spec: { clusterIP: 10.96.0.10, selector: { app: shop }, ports: [ { name: http, port: 80, targetPort: 8080 } ] }
";

pub const SHOP: &str = "shop.prod.svc.cluster.local:80";

/// A control plane with its directories; all of it goes with this value.
pub struct Plane {
    pub dir: tempfile::TempDir,
    pub running: Running,
}

/// Waits until `check` gives a value; fails after 10 s.
pub async fn until<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    for _ in 0..500 {
        if let Some(value) = check() {
            return value;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("within 10 s there was not: {what}");
}

pub fn args(dir: &Path, more: &[&str]) -> Args {
    let (source, state) = (format!("dir:{}", dir.join("source").display()), dir.join("state"));
    let mut all = vec!["causeway-control-plane", "--source", &source, "--state", state.to_str().unwrap()];
    all.extend(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    all.extend(more);
    Cli::try_parse_from(all).unwrap().serve.unwrap()
}

impl Plane {
    pub async fn start(more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("source")).unwrap();
        std::fs::write(dir.path().join("source/mesh.yaml"), MESH).unwrap();
        Self::start_in(dir, more).await
    }

    pub async fn start_in(dir: tempfile::TempDir, more: &[&str]) -> Self {
        let running = Running::start(&args(dir.path(), more)).await.unwrap();
        let plane = Self { dir, running };
        for _ in 0..500 {
            if plane.get("/readyz").await.0 == 200 {
                return plane;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the control plane was not ready within 10 s");
    }

    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// Replaces a file of the source as an editor does.
    pub fn write(&self, name: &str, text: &str) {
        let file = self.dir.path().join("source").join(name);
        std::fs::write(file.with_extension("new"), text).unwrap();
        std::fs::rename(file.with_extension("new"), file).unwrap();
    }

    pub fn token(&self, namespace: &str, account: &str, pod: Option<&str>) -> String {
        self.token_with(|r| {
            (r.namespace, r.account, r.pod) = (namespace.into(), account.into(), pod.map(str::to_owned));
        })
    }

    pub fn token_with(&self, change: impl FnOnce(&mut TokenRequest)) -> String {
        let mut request = TokenRequest {
            namespace: "dev".into(),
            account: "web".into(),
            pod: None,
            ttl: 600,
            audience: "causeway".into(),
        };
        change(&mut request);
        LocalTokens::open(&StateDir::open(&self.state()).unwrap()).unwrap().issue(&request, now()).unwrap()
    }

    pub fn roots(&self) -> Vec<Vec<u8>> {
        let pem = std::fs::read(self.state().join("trust-bundle.pem")).unwrap();
        CertificateDer::pem_slice_iter(&pem).map(|c| c.unwrap().to_vec()).collect()
    }

    pub async fn channel(&self, key: Option<Arc<CertifiedKey>>) -> Channel {
        self.try_channel(key).await.unwrap()
    }

    pub async fn try_channel(&self, key: Option<Arc<CertifiedKey>>) -> Result<Channel, tonic::transport::Error> {
        let own = SpiffeId::new("cluster.local", "causeway-system", "causeway-control-plane").unwrap();
        let roots = Arc::new(Roots::new("cluster.local", &self.roots()).unwrap());
        let source: RootsSource = Arc::new(move || Some(Arc::clone(&roots)));
        let config = Arc::new(svid::client_config(key, ServerVerifier::new(own, source), &[b"h2"]).unwrap());
        let address = self.running.listen;
        let connect = tower::service_fn(move |_: http::Uri| {
            let config = Arc::clone(&config);
            async move {
                let stream = TcpStream::connect(address).await?;
                let name = ServerName::try_from("control-plane").unwrap();
                let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await?;
                Ok::<_, std::io::Error>(TokioIo::new(stream))
            }
        });
        Endpoint::from_static("http://control-plane").connect_with_connector(connect).await
    }

    pub async fn certify(&self, token: String, csr_der: Vec<u8>) -> Result<wire::CertifyResponse, Status> {
        let request = wire::CertifyRequest { token, csr_der };
        IdentityClient::new(self.channel(None).await).certify(request).await.map(tonic::Response::into_inner)
    }

    /// A certificate as a proxy gets it.
    pub async fn key(&self, namespace: &str, account: &str) -> Arc<CertifiedKey> {
        let pair = KeyPair::generate().unwrap();
        let reply = self.certify(self.token(namespace, account, None), csr(&pair)).await.unwrap();
        certified(reply.chain_der, &pair)
    }

    /// A stream for `workload` with the certificate of `account`.
    pub async fn watch(&self, account: &str, hello: wire::Hello) -> Result<Stream, Status> {
        let namespace = account.split('/').next().unwrap();
        let key = self.key(namespace, account.split('/').nth(1).unwrap()).await;
        self.watch_with(Some(key), hello).await
    }

    pub async fn watch_with(&self, key: Option<Arc<CertifiedKey>>, hello: wire::Hello) -> Result<Stream, Status> {
        let (requests, receiver) = mpsc::channel(16);
        requests.send(message(Request::Hello(hello))).await.unwrap();
        let mut client = ConfigClient::new(self.channel(key).await);
        let updates = client.watch(ReceiverStream::new(receiver)).await?.into_inner();
        Ok(Stream { requests, updates, holds: BTreeMap::new() })
    }

    /// Status and body of an admin page.
    pub async fn get(&self, path: &str) -> (u16, String) {
        let stream = TcpStream::connect(self.running.admin).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::get(path).header("host", "admin").body(String::new()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        let status = response.status().as_u16();
        let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    pub async fn json(&self, path: &str) -> serde_json::Value {
        let (status, body) = self.get(path).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Value of a metric's line that begins with `name`.
    pub async fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.get("/metrics").await;
        let line = text.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {text}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }
}

/// The proxy's side of a configuration stream.
pub struct Stream {
    requests: mpsc::Sender<wire::WatchRequest>,
    updates: Streaming<wire::Update>,
    pub holds: BTreeMap<String, wire::Resource>,
}

impl Stream {
    /// The next batch, None at a polite end.
    pub async fn next(&mut self) -> Result<Option<wire::Update>, Status> {
        tokio::time::timeout(Duration::from_secs(10), self.updates.message()).await.expect("nothing came within 10 s")
    }

    pub async fn send(&self, request: Request) {
        self.requests.send(message(request)).await.unwrap();
    }

    /// Applies the next batch, checks its digest, and acknowledges it.
    pub async fn apply(&mut self) -> wire::Update {
        let update = self.next().await.unwrap().expect("the stream ended");
        for name in &update.removed {
            self.holds.remove(name);
        }
        for resource in &update.resources {
            self.holds.insert(resource.name.clone(), resource.clone());
        }
        let own = directory::digest(self.holds.iter().map(|(n, r)| (n.as_str(), r.version)));
        assert_eq!(own, update.digest);
        self.send(Request::Ack(wire::Ack { nonce: update.nonce })).await;
        update
    }

    pub async fn subscribe(&self, add: &[&str], remove: &[&str]) {
        let texts = |all: &[&str]| all.iter().map(|t| (*t).to_owned()).collect();
        self.send(Request::Subscribe(wire::Subscribe { add: texts(add), remove: texts(remove) })).await;
    }
}

pub fn message(request: Request) -> wire::WatchRequest {
    wire::WatchRequest { request: Some(request) }
}

pub fn hello(workload: &str) -> wire::Hello {
    wire::Hello { workload: workload.into(), proxy_version: "test".into(), ..Default::default() }
}

pub fn csr(key: &KeyPair) -> Vec<u8> {
    CertificateParams::default().serialize_request(key).unwrap().der().to_vec()
}

pub fn certified(chain: Vec<Vec<u8>>, pair: &KeyPair) -> Arc<CertifiedKey> {
    let key = PrivateKeyDer::Pkcs8(pair.serialize_der().into());
    let key = svid::provider().key_provider.load_private_key(key).unwrap();
    Arc::new(CertifiedKey::new(chain.into_iter().map(CertificateDer::from).collect(), key))
}

#[allow(clippy::disallowed_methods)] // the test's own clock
pub fn now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64
}

/// The refusal begins with the stable code.
pub fn assert_refused<T>(result: Result<T, Status>, code: Code, stable: &str) {
    let status = result.err().unwrap_or_else(|| panic!("not refused: {stable}"));
    assert_eq!((status.code(), status.message().split(':').next()), (code, Some(stable)), "{status}");
}
