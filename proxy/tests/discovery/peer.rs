//! A control plane of the tests: speaks the wire over real TLS, but says only what a test has it say, so that wrong and
//! late answers can be tried. The true control plane is met in `identity.rs` and in the system suites.
#![allow(dead_code)] // each test target uses its part

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use causeway_mesh::svid::{self, ClientVerifier, Roots};
use causeway_mesh::wire::config_server::{Config, ConfigServer};
use causeway_mesh::wire::identity_server::{Identity, IdentityServer};
use causeway_mesh::wire::watch_request::Request as Said;
use causeway_mesh::wire::{CertifyRequest, CertifyResponse, Update, WatchRequest};
use causeway_mesh::{directory, wire};
use causeway_proxy::discovery::{self, Discovery};
use causeway_proxy::identity;
use causeway_proxy::tls::{Credential, Tls};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use rcgen::{CertificateParams, CertificateSigningRequestParams, Issuer};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tower::Service as _;

use crate::forms::{self, Ca, ID, TRUST_DOMAIN};

pub const CONTROL_PLANE: &str = "spiffe://cluster.local/ns/causeway-system/sa/causeway-control-plane";
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What the peer makes of a request for a certificate.
pub type Answer = dyn Fn(&CertifyRequest, &Ca) -> Result<CertifyResponse, Status> + Send + Sync;

/// One `Config.Watch` that a proxy opened.
pub struct Stream {
    pub hello: wire::Hello,
    said: UnboundedReceiver<WatchRequest>,
    tell: UnboundedSender<Result<Update, Status>>,
}

struct Shared {
    ca: Arc<Ca>,
    answer: Mutex<Arc<Answer>>,
    accepted: AtomicUsize,
    certified: AtomicUsize,
    streams: UnboundedSender<Stream>,
}

/// See the module. Dropping it, or `stop`, takes every connection down.
pub struct Peer {
    pub address: SocketAddr,
    pub ca: Arc<Ca>,
    shared: Arc<Shared>,
    config: Arc<ServerConfig>,
    streams: UnboundedReceiver<Stream>,
    tasks: JoinSet<()>,
}

/// The answer of a control plane that does its work, with `change` made to the leaf.
pub fn issue(
    request: &CertifyRequest,
    ca: &Ca,
    id: &str,
    change: impl FnOnce(&mut CertificateParams),
) -> Result<CertifyResponse, Status> {
    let csr = CertificateSigningRequestDer::from(request.csr_der.as_slice());
    let csr = CertificateSigningRequestParams::from_der(&csr).map_err(|e| Status::invalid_argument(e.to_string()))?;
    let mut params = forms::leaf_params(id);
    change(&mut params);
    let leaf = params.signed_by(&csr.public_key, &Issuer::from_params(&ca.params, &ca.key)).unwrap();
    Ok(CertifyResponse { chain_der: vec![leaf.der().to_vec()], roots_der: vec![ca.der.clone()], now_unix: unix() })
}

pub fn unix() -> i64 {
    time::OffsetDateTime::now_utc().unix_timestamp()
}

impl Peer {
    pub async fn start() -> Self {
        Self::start_as(CONTROL_PLANE, Arc::new(forms::ca("root", &rcgen::PKCS_ECDSA_P256_SHA256))).await
    }

    /// One that shows a certificate of `id`.
    pub async fn start_as(id: &str, ca: Arc<Ca>) -> Self {
        let (chain, key) = ca.leaf(id);
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key));
        let chain = chain.into_iter().map(CertificateDer::from).collect();
        let key = Arc::new(CertifiedKey::from_der(chain, key, &svid::provider()).unwrap());
        let roots = Arc::new(Roots::new(TRUST_DOMAIN, std::slice::from_ref(&ca.der)).unwrap());
        let clients = ClientVerifier::optional(Arc::new(move || Some(roots.clone())));
        let config = Arc::new(svid::server_config(key, clients, &[b"h2"]).unwrap());
        let (found, streams) = mpsc::unbounded_channel();
        let answer: Arc<Answer> = Arc::new(|request, ca| issue(request, ca, ID, |_| {}));
        let shared = Arc::new(Shared {
            ca: ca.clone(),
            answer: Mutex::new(answer),
            accepted: AtomicUsize::new(0),
            certified: AtomicUsize::new(0),
            streams: found,
        });
        let mut peer = Self { address: ([127, 0, 0, 1], 0).into(), ca, shared, config, streams, tasks: JoinSet::new() };
        peer.resume().await;
        peer
    }

    /// Listens (again), at the address that it had.
    pub async fn resume(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        self.tasks.spawn(accept(listener, self.config.clone(), self.shared.clone()));
    }

    /// Goes away, with every connection.
    pub async fn stop(&mut self) {
        self.tasks.shutdown().await;
        while self.streams.try_recv().is_ok() {}
    }

    pub fn answer(
        &self,
        answer: impl Fn(&CertifyRequest, &Ca) -> Result<CertifyResponse, Status> + Send + Sync + 'static,
    ) {
        *self.shared.answer.lock().unwrap() = Arc::new(answer);
    }

    /// TCP connections so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Requests for a certificate so far.
    pub fn certified(&self) -> usize {
        self.shared.certified.load(Ordering::SeqCst)
    }

    pub async fn certified_at_least(&self, n: usize) {
        eventually("requests for a certificate", || self.certified() >= n).await;
    }

    /// The next stream that a proxy opens.
    pub async fn stream(&mut self) -> Stream {
        timeout(PATIENCE, self.streams.recv()).await.expect("no stream was opened in time").unwrap()
    }

    /// No stream is opened for a while.
    pub async fn no_stream(&mut self, within: Duration) {
        assert!(timeout(within, self.streams.recv()).await.is_err(), "a stream was opened");
    }
}

async fn accept(listener: TcpListener, config: Arc<ServerConfig>, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((tcp, _)) = listener.accept().await else { return };
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        let (acceptor, shared) = (TlsAcceptor::from(config.clone()), shared.clone());
        connections.spawn(async move {
            let Ok(tls) = acceptor.accept(tcp).await else { return };
            let services = (IdentityServer::from_arc(shared.clone()), ConfigServer::from_arc(shared));
            let service = tower::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let (mut identity, mut config) = services.clone();
                async move {
                    match request.uri().path().starts_with("/causeway.v1.Identity/") {
                        true => identity.call(request).await,
                        false => config.call(request).await,
                    }
                }
            });
            let service = TowerToHyperService::new(service);
            let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            http.serve_connection(TokioIo::new(tls), service).await.ok();
        });
    }
}

#[tonic::async_trait]
impl Identity for Shared {
    async fn certify(&self, request: Request<CertifyRequest>) -> Result<Response<CertifyResponse>, Status> {
        self.certified.fetch_add(1, Ordering::SeqCst);
        let answer = self.answer.lock().unwrap().clone();
        answer(request.get_ref(), &self.ca).map(Response::new)
    }
}

#[tonic::async_trait]
impl Config for Shared {
    type WatchStream = UnboundedReceiverStream<Result<Update, Status>>;

    async fn watch(&self, request: Request<Streaming<WatchRequest>>) -> Result<Response<Self::WatchStream>, Status> {
        let mut requests = request.into_inner();
        let Some(Ok(WatchRequest { request: Some(Said::Hello(hello)) })) = requests.next().await else {
            return Err(Status::invalid_argument("no Hello"));
        };
        let ((heard, said), (tell, told)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        tokio::spawn(async move {
            while let Some(Ok(request)) = requests.next().await {
                heard.send(request).ok();
            }
        });
        self.streams.send(Stream { hello, said, tell }).ok();
        Ok(Response::new(UnboundedReceiverStream::new(told)))
    }
}

impl Stream {
    /// The next thing that the proxy says.
    pub async fn said(&mut self) -> Said {
        let said = timeout(PATIENCE, self.said.recv()).await.expect("the proxy said nothing in time");
        said.expect("the proxy ended the stream").request.unwrap()
    }

    pub async fn acked(&mut self) -> u64 {
        match self.said().await {
            Said::Ack(ack) => ack.nonce,
            other => panic!("not an ack: {other:?}"),
        }
    }

    pub async fn subscribed(&mut self) -> wire::Subscribe {
        match self.said().await {
            Said::Subscribe(subscribe) => subscribe,
            other => panic!("not a subscription: {other:?}"),
        }
    }

    /// The proxy says nothing for a while.
    pub async fn silence(&mut self, within: Duration) {
        if let Ok(said) = timeout(within, self.said.recv()).await {
            panic!("said {said:?}");
        }
    }

    /// Waits until the proxy let go of the stream.
    pub async fn abandoned(&mut self) {
        let gone = async { while self.said.recv().await.is_some() {} };
        timeout(PATIENCE, gone).await.expect("the stream stays");
    }

    /// A batch after which the proxy must hold `all`.
    pub fn tell(&self, nonce: u64, resources: &[wire::Resource], removed: &[&str], all: &[wire::Resource]) {
        let digest = directory::digest(all.iter().map(|r| (r.name.as_str(), r.version)));
        let removed = removed.iter().map(|n| (*n).to_owned()).collect();
        self.tell.send(Ok(Update { nonce, resources: resources.to_vec(), removed, digest })).ok();
    }

    /// Ends the stream with an error.
    pub fn fail(self, status: Status) {
        self.tell.send(Err(status)).ok();
    }
}

/// Polls until `is_so`; panics with `what` when it takes too long.
pub async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let poll = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, poll).await.unwrap_or_else(|_| panic!("{what}: not in time"));
}

/// The files and settings of one proxy, `prod/web-0`, of [`ID`].
pub struct Place {
    pub dir: tempfile::TempDir,
    pub settings: discovery::Settings,
}

pub fn pem(der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|l| std::str::from_utf8(l).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// A token as Kubernetes shapes it; the signature is nobody's.
pub fn token(namespace: &str, account: &str) -> String {
    let encode = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    let claims = format!(r#"{{"sub":"system:serviceaccount:{namespace}:{account}"}}"#);
    format!("{}.{}.{}", encode(r#"{"alg":"none"}"#), encode(&claims), encode("x"))
}

impl Place {
    pub fn new(address: SocketAddr, root: &[u8]) -> Self {
        let dir = tempfile::TempDir::new().unwrap();
        let (bundle, token_file) = (dir.path().join("bundle.pem"), dir.path().join("token"));
        std::fs::write(&bundle, pem(root)).unwrap();
        std::fs::write(&token_file, token("prod", "web")).unwrap();
        let identity = identity::Settings {
            trust_bundle: bundle,
            token_file,
            trust_domain: TRUST_DOMAIN.to_owned(),
            namespace: "prod".to_owned(),
            pod: "web-0".to_owned(),
        };
        let settings = discovery::Settings {
            control_plane: format!("https://{address}").parse().unwrap(),
            identity,
            version: "test".to_owned(),
            state: None,
            idle_subscription: Duration::from_secs(600),
        };
        Self { dir, settings }
    }

    pub fn of(peer: &Peer) -> Self {
        Self::new(peer.address, &peer.ca.der)
    }

    pub fn with_state(mut self) -> Self {
        self.settings.state = Some(self.dir.path().join("state"));
        self
    }

    pub fn state(&self) -> PathBuf {
        self.settings.state.clone().unwrap()
    }

    pub fn start(&self) -> (Tls, Discovery) {
        // Shown where a test fails.
        tracing_subscriber::fmt().with_test_writer().with_max_level(tracing::Level::INFO).try_init().ok();
        discovery::start(&self.settings).unwrap()
    }
}

/// Replaces a file at once, as kubelet does.
pub fn replace(path: &Path, content: &str) {
    let fresh = path.with_extension("fresh");
    std::fs::write(&fresh, content).unwrap();
    std::fs::rename(fresh, path).unwrap();
}

pub fn resource(name: &str, version: u64, body: wire::resource::Body) -> wire::Resource {
    wire::Resource { name: name.to_owned(), version, body: Some(body), ..Default::default() }
}

pub fn workload(version: u64) -> wire::Resource {
    let inbound = wire::Inbound {
        mode: wire::MtlsMode::MtlsStrict.into(),
        default_verdict: wire::Verdict::Deny.into(),
        ..Default::default()
    };
    let body = wire::Workload {
        namespace: "prod".to_owned(),
        pod: "web-0".to_owned(),
        service_account: "web".to_owned(),
        workload_name: "web".to_owned(),
        cluster_domain: "cluster.local".to_owned(),
        inbound: Some(inbound),
        egress: wire::Egress::Allow.into(),
        ..Default::default()
    };
    resource("workload", version, wire::resource::Body::Workload(body))
}

pub fn trust(version: u64, roots: &[&Ca]) -> wire::Resource {
    let roots_der = roots.iter().map(|ca| ca.der.clone()).collect();
    let body = wire::TrustBundle { trust_domain: TRUST_DOMAIN.to_owned(), roots_der };
    resource("trust", version, wire::resource::Body::Trust(body))
}

pub fn destination(text: &str, version: u64) -> wire::Resource {
    let kind = wire::destination::Kind::Unknown.into();
    let body = wire::Destination { canonical: text.to_owned(), kind, ..Default::default() };
    resource(&format!("destination/{text}"), version, wire::resource::Body::Destination(body))
}

pub fn endpoints(backend: &str, version: u64, ports: &[u32]) -> wire::Resource {
    let endpoint = |port: &u32| wire::Endpoint { address: "10.0.0.1".to_owned(), port: *port, ..Default::default() };
    let body = wire::Endpoints { endpoints: ports.iter().map(endpoint).collect() };
    resource(&format!("endpoints/{backend}"), version, wire::resource::Body::Endpoints(body))
}

/// Whether two credentials are of the same key, without printing either.
pub fn same_key(a: &Credential, b: &Credential) -> bool {
    a.key == b.key
}
