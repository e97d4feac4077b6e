//! A simulated proxy: its own address, its own mutual TLS connection and certificate, one stream that it applies and
//! acknowledges as the real one does. What it sees is told to whoever measures.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use causeway_mesh::spiffe::SpiffeId;
use causeway_mesh::svid::{self, Roots, RootsSource, ServerVerifier};
use causeway_mesh::wire::config_client::ConfigClient;
use causeway_mesh::wire::identity_client::IdentityClient;
use causeway_mesh::wire::watch_request::Request;
use causeway_mesh::{config, directory, wire};
use hyper_util::rt::TokioIo;
use prost::Message as _;
use rcgen::{CertificateParams, KeyPair};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpSocket;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

use crate::clock;
use crate::world::{HOT, Workload};

const TRUST_DOMAIN: &str = "cluster.local";

/// Where the control plane is, and what a pod is given to know it by.
#[derive(Clone)]
pub struct Target {
    /// Its gRPC port.
    pub address: SocketAddr,
    /// The roots in DER.
    pub roots: Arc<Vec<Vec<u8>>>,
}

/// A batch in force on one proxy.
#[derive(Clone, Debug)]
pub struct Applied {
    /// Which proxy.
    pub proxy: usize,
    /// When it was in force.
    pub at: Instant,
    /// Weight of the hot Service's v2, where the batch brought the route.
    pub weight: Option<u32>,
    /// Seconds for which the Service that some call remembers a client, where the batch brought it.
    pub remembers: Option<u64>,
    /// Addresses of the hot Service, where the batch brought its endpoints.
    pub endpoints: Vec<String>,
    /// Resources in the batch.
    pub resources: usize,
    /// Bytes of the message.
    pub bytes: usize,
}

/// A key that is not certified yet.
pub struct Unsigned {
    /// The proxy's number, which gives it its address.
    pub number: usize,
    /// Of its ServiceAccount.
    pub token: String,
    pair: KeyPair,
    csr: Vec<u8>,
}

impl Unsigned {
    /// Makes key and CSR.
    ///
    /// # Errors
    /// When the key cannot be made.
    pub fn new(number: usize, token: String) -> anyhow::Result<Self> {
        let pair = KeyPair::generate()?;
        let csr = CertificateParams::default().serialize_request(&pair)?.der().to_vec();
        Ok(Self { number, token, pair, csr })
    }
}

/// Every pod has its own address, as in a cluster.
fn address(number: usize) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 1)) + u32::try_from(number).unwrap_or_default())
}

impl Target {
    async fn channel(&self, number: usize, key: Option<Arc<CertifiedKey>>) -> anyhow::Result<Channel> {
        let own = SpiffeId::new(TRUST_DOMAIN, "causeway-system", "causeway-control-plane")?;
        let roots = Arc::new(Roots::new(TRUST_DOMAIN, &self.roots)?);
        let source: RootsSource = Arc::new(move || Some(Arc::clone(&roots)));
        let config = Arc::new(svid::client_config(key, ServerVerifier::new(own, source), &[b"h2"])?);
        let to = self.address;
        let connect = tower::service_fn(move |_: http::Uri| {
            let config = Arc::clone(&config);
            async move {
                let socket = TcpSocket::new_v4()?;
                socket.bind(SocketAddr::new(address(number).into(), 0))?;
                let stream = socket.connect(to).await?;
                stream.set_nodelay(true)?;
                let name = ServerName::try_from("control-plane").map_err(std::io::Error::other)?;
                let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await?;
                Ok::<_, std::io::Error>(TokioIo::new(stream))
            }
        });
        Endpoint::from_static("http://control-plane").connect_with_connector(connect).await.context("no connection")
    }

    /// Gets a certificate over a connection of its own, as a proxy does when it starts.
    ///
    /// # Errors
    /// The control plane's refusal, or that there was no connection.
    pub async fn certify(&self, request: Unsigned) -> anyhow::Result<Arc<CertifiedKey>> {
        let channel = self.channel(request.number, None).await?;
        let asked = wire::CertifyRequest { token: request.token, csr_der: request.csr };
        let reply = IdentityClient::new(channel).certify(asked).await?.into_inner();
        let key = PrivateKeyDer::Pkcs8(request.pair.serialize_der().into());
        let key = svid::provider().key_provider.load_private_key(key)?;
        Ok(Arc::new(CertifiedKey::new(reply.chain_der.into_iter().map(CertificateDer::from).collect(), key)))
    }

    /// Holds a stream until it ends, which is an error here.
    ///
    /// # Errors
    /// Why it ended: refused, cut, or a batch that a proxy would not accept.
    pub async fn follow(
        &self,
        number: usize,
        workload: &Workload,
        key: Arc<CertifiedKey>,
        applied: mpsc::UnboundedSender<Applied>,
    ) -> anyhow::Result<()> {
        let (requests, receiver) = mpsc::channel(16);
        let hello = wire::Hello {
            workload: format!("{}/{}", workload.namespace, workload.pod),
            proxy_version: "simulated".to_owned(),
            destinations: workload.destinations.clone(),
            held: Vec::new(),
        };
        requests.send(wire::WatchRequest { request: Some(Request::Hello(hello)) }).await?;
        let mut client = ConfigClient::new(self.channel(number, Some(key)).await?);
        let mut updates = client.watch(ReceiverStream::new(receiver)).await?.into_inner();
        let mut held: BTreeMap<String, u64> = BTreeMap::new();
        while let Some(update) = updates.message().await? {
            let seen = apply(number, &update, &mut held)?;
            let ack = Request::Ack(wire::Ack { nonce: update.nonce });
            requests.send(wire::WatchRequest { request: Some(ack) }).await?;
            if applied.send(seen).is_err() {
                return Ok(());
            }
        }
        anyhow::bail!("the control plane closed the stream")
    }
}

/// Understands the batch with the proxy's own decoder, checks the digest and says what is of interest.
fn apply(proxy: usize, update: &wire::Update, held: &mut BTreeMap<String, u64>) -> anyhow::Result<Applied> {
    use wire::resource::Body;
    let mut seen = Applied {
        proxy,
        at: clock::now(),
        weight: None,
        remembers: None,
        endpoints: Vec::new(),
        resources: update.resources.len(),
        bytes: update.encoded_len(),
    };
    for name in &update.removed {
        held.remove(name);
    }
    let hot = format!("endpoints/{}.{}:80/v2", HOT.1, HOT.0);
    for resource in &update.resources {
        config::decode(resource).map_err(|faults| anyhow::anyhow!("{}: {faults:?}", resource.name))?;
        held.insert(resource.name.clone(), resource.version);
        match &resource.body {
            Some(Body::Destination(to)) if to.service_name == HOT.1 && to.service_namespace == HOT.0 => {
                seen.weight = weight(to);
            }
            Some(Body::Destination(to)) => seen.remembers = seen.remembers.or(remembers(to)),
            Some(Body::Endpoints(list)) if resource.name == hot => {
                seen.endpoints = list.endpoints.iter().map(|e| e.address.clone()).collect();
            }
            _ => {}
        }
    }
    let own = directory::digest(held.iter().map(|(n, v)| (n.as_str(), *v)));
    ensure!(own == update.digest, "the digest of proxy {proxy} differs");
    seen.at = clock::now();
    Ok(seen)
}

/// How long the first backend remembers a client, seconds: only the Service that some call does.
fn remembers(destination: &wire::Destination) -> Option<u64> {
    let balancing = destination.backends.first()?.load_balancing.as_ref()?;
    Some(balancing.affinity_ms / 1000).filter(|seconds| *seconds > 0)
}

/// Weight of the backend `v2` in the only route.
fn weight(destination: &wire::Destination) -> Option<u32> {
    let route = destination.routes.first()?;
    let Some(wire::route::Action::Split(split)) = &route.action else { return None };
    split.backends.iter().find(|b| b.backend.ends_with("/v2")).map(|b| b.weight)
}
