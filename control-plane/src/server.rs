//! The gRPC face: TLS with the mesh's rule, `Identity`, `Config` and `Replicas`. Decides nothing; `identity` and `publish`
//! do.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use causeway_mesh::spiffe::SpiffeId;
use causeway_mesh::wire;
use causeway_mesh::wire::config_server::{Config, ConfigServer};
use causeway_mesh::wire::identity_server::{Identity, IdentityServer};
use causeway_mesh::wire::replicas_server::ReplicasServer;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::server::NamedService;
use tonic::{Request, Response, Status, Streaming};
use tower::Service;

use crate::clock;
use crate::identity::{Certifier, CertifyError};
use crate::metrics::{Metrics, Reason};
use crate::publish::{Ending, Peer, Publisher, WatchError, drive};
use crate::token::TokenError;

pub mod accept;
mod replicas;

use accept::{Connection, ConnectionInfo};

/// A Hello comes at once.
const HELLO_DEADLINE: Duration = Duration::from_secs(10);
/// A stream is ended politely at about this age, so that proxies spread over replicas and find drift.
const STREAM_AGE: Duration = Duration::from_secs(30 * 60);
/// A token and a CSR, each at most 16 KiB, and room.
const MAX_CERTIFY: usize = 64 * 1024;
/// 10,000 destinations with what is held of them.
const MAX_WATCH: usize = 4 * 1024 * 1024;

/// What the services need.
#[derive(Clone)]
pub struct Services {
    /// Issues certificates.
    pub certifier: Arc<Certifier>,
    /// Brings configuration to proxies.
    pub publisher: Arc<Publisher>,
    /// Counts.
    pub metrics: Metrics,
    /// The control plane's own identity: who bears it may ask as a replica.
    pub own: SpiffeId,
    /// Name of this replica.
    pub replica: String,
    /// True once the process is to end: streams are then closed politely.
    pub draining: watch::Receiver<bool>,
}

/// Serves `connections` until `draining`, then until the last call has ended.
///
/// # Errors
/// When the transport cannot be set up.
pub async fn serve(services: Services, connections: mpsc::Receiver<Connection>) -> Result<(), tonic::transport::Error> {
    let mut draining = services.draining.clone();
    let identity = IdentityServer::new(services.clone()).max_decoding_message_size(MAX_CERTIFY);
    let config = ConfigServer::new(services.clone()).max_decoding_message_size(MAX_WATCH);
    let replicas = ReplicasServer::new(services).max_decoding_message_size(1024);
    tonic::transport::Server::builder()
        .http2_max_header_list_size(16 * 1024)
        .max_concurrent_streams(16)
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(512 * 1024)
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .serve_with_incoming_shutdown(
            tower::service_fn(move |request| dispatch(identity.clone(), config.clone(), replicas.clone(), request)),
            ReceiverStream::new(connections).map(Ok::<_, std::io::Error>),
            async move {
                let _ = draining.wait_for(|d| *d).await;
            },
        )
        .await
}

/// Three services need no router.
async fn dispatch(
    mut identity: IdentityServer<Services>,
    mut config: ConfigServer<Services>,
    mut replicas: ReplicasServer<Services>,
    request: http::Request<tonic::body::Body>,
) -> Result<http::Response<tonic::body::Body>, Infallible> {
    let service = request.uri().path().split('/').nth(1).unwrap_or_default();
    match service {
        IdentityServer::<Services>::NAME => identity.call(request).await,
        ConfigServer::<Services>::NAME => config.call(request).await,
        ReplicasServer::<Services>::NAME => replicas.call(request).await,
        _ => Ok(Status::unimplemented("no such service").into_http()),
    }
}

#[tonic::async_trait]
impl Identity for Services {
    async fn certify(&self, request: Request<wire::CertifyRequest>) -> Result<Response<wire::CertifyResponse>, Status> {
        let from = request.extensions().get::<ConnectionInfo>().map(|c| c.address);
        let now = clock::unix_now();
        match self.certifier.certify(request.get_ref(), now).await {
            Ok((id, issued, trust)) => {
                self.metrics.certificates_issued.inc();
                tracing::info!(%id, serial = issued.serial, not_after = clock::rfc3339(issued.not_after), ?from,
                    "issued a certificate");
                let reply =
                    wire::CertifyResponse { chain_der: issued.chain, roots_der: trust.roots_der, now_unix: now };
                Ok(Response::new(reply))
            }
            Err(error) => {
                self.metrics.certificates_refused.get_or_create(&Reason { reason: error.code() }).inc();
                tracing::debug!(code = error.code(), %error, ?from, "refused a certificate");
                Err(certify_status(&error))
            }
        }
    }
}

fn certify_status(error: &CertifyError) -> Status {
    let text = error.to_string();
    match error {
        CertifyError::Token(TokenError::Unavailable(_)) | CertifyError::NotSynced => Status::unavailable(text),
        CertifyError::Token(error) if error.is_about_pod() => Status::permission_denied(text),
        CertifyError::Token(_) => Status::unauthenticated(text),
        CertifyError::Csr(_) => Status::invalid_argument(text),
        CertifyError::PodUnknown(..)
        | CertifyError::AccountMismatch { .. }
        | CertifyError::Reserved(_)
        | CertifyError::Name(_) => Status::permission_denied(text),
        CertifyError::Ca(error) => {
            tracing::error!(%error, "the CA cannot sign");
            Status::unavailable(text)
        }
    }
}

/// What a proxy reads. Dropping it ends the stream's task.
pub type UpdateStream = Pin<Box<dyn Stream<Item = Result<wire::Update, Status>> + Send>>;

#[tonic::async_trait]
impl Config for Services {
    type WatchStream = UpdateStream;

    async fn watch(&self, request: Request<Streaming<wire::WatchRequest>>) -> Result<Response<UpdateStream>, Status> {
        let refused = |code: &'static str, status: Status| {
            self.metrics.watches_refused.get_or_create(&Reason { reason: code }).inc();
            status
        };
        let info = request.extensions().get::<ConnectionInfo>().cloned();
        let peer = info.and_then(|c| c.peer).ok_or_else(|| {
            let text = "no_client_certificate: a configuration stream needs a client certificate of this mesh";
            refused("no_client_certificate", Status::unauthenticated(text))
        })?;
        let mut requests = request.into_inner();
        let hello = tokio::time::timeout(HELLO_DEADLINE, requests.next())
            .await
            .map_err(|_| refused("hello_late", Status::deadline_exceeded("hello_late: no Hello within 10 s")))?;
        let hello = match hello {
            Some(Ok(wire::WatchRequest { request: Some(wire::watch_request::Request::Hello(hello)) })) => hello,
            Some(Err(status)) => return Err(status),
            _ => {
                let error = WatchError::Hello("the first message is not a Hello");
                return Err(refused(error.code(), watch_status(&error)));
            }
        };
        let until = self.stream_end(&peer);
        let registration = self.publisher.connect(&hello, peer, clock::unix_now()).map_err(|error| {
            tracing::debug!(code = error.code(), %error, "refused a configuration stream");
            refused(error.code(), watch_status(&error))
        })?;
        let (updates, receiver) = mpsc::channel(1);
        let (failure, failed) = mpsc::channel(1);
        let metrics = self.metrics.clone();
        tokio::spawn(async move {
            let (id, address) = (registration.proxy.peer.id.clone(), registration.proxy.peer.address);
            tracing::debug!(%id, %address, "a proxy connected");
            let ending = drive(&registration, requests, updates, until).await;
            tracing::debug!(%id, %address, ?ending, "a proxy's stream ended");
            let status = match ending {
                Ok(Ending::Gone | Ending::Polite) => return,
                Ok(Ending::Unanswered) => Status::aborted("batch_unanswered: no answer to a batch within 60 s"),
                Err(error) => {
                    metrics.watches_refused.get_or_create(&Reason { reason: error.code() }).inc();
                    watch_status(&error)
                }
            };
            let _ = failure.send(status).await;
        });
        // The updates first; then, once their sender is gone, why it went.
        let updates = ReceiverStream::new(receiver).map(Ok);
        Ok(Response::new(Box::pin(updates.chain(ReceiverStream::new(failed).map(Err)))))
    }
}

impl Services {
    /// When a stream of `peer` ends politely: at its age, with its certificate, or when this process drains.
    fn stream_end(&self, peer: &Peer) -> impl Future<Output = ()> + Send + use<> {
        let left = u64::try_from(peer.certificate_expires - clock::unix_now()).unwrap_or(0);
        // A little before the certificate ends, and with it the connection.
        let age = clock::jittered(STREAM_AGE).min(Duration::from_secs(left.saturating_sub(left / 20 + 1)));
        let mut draining = self.draining.clone();
        async move {
            tokio::select! {
                () = tokio::time::sleep(age) => {}
                _ = draining.wait_for(|d| *d) => {}
            }
        }
    }
}

fn watch_status(error: &WatchError) -> Status {
    let text = error.to_string();
    match error {
        WatchError::Namespace { .. } | WatchError::Account { .. } => Status::permission_denied(text),
        WatchError::Hello(_) | WatchError::Session(_) => Status::invalid_argument(text),
    }
}
