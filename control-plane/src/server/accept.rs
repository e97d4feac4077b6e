//! Accepts connections and speaks TLS, within limits: no peer can hold the loop up, end it, or use up descriptors.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use causeway_mesh::svid;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use crate::clock;
use crate::crowd::{Crowd, Place};
use crate::metrics::{Metrics, Reason};
use crate::publish::Peer;

/// Slower than this is an attack or a lost peer.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// A connection without a client certificate is for `Certify` alone, which takes moments.
const ANONYMOUS_LIFE: Duration = Duration::from_secs(60);
/// Connections at once, handshakes included.
const MAX_CONNECTIONS: usize = 16_384;
/// Of these, from one address without a client certificate: nobody alone keeps the others out.
const MAX_ANONYMOUS: usize = 512;
/// First and longest wait after accept failed, for want of descriptors or memory.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// What is known of a connection, found in the extensions of each request.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// The other end.
    pub address: SocketAddr,
    /// Who it is, when it showed a certificate; one that does not verify does not get this far.
    pub peer: Option<Peer>,
}

/// A TLS connection with the limits of its life.
pub struct Connection {
    io: TlsStream<TcpStream>,
    info: ConnectionInfo,
    /// When nothing more is read: soon without a certificate, at the certificate's end with one.
    end: Pin<Box<Sleep>>,
    _anonymous: Option<Place>,
    _permit: OwnedSemaphorePermit,
}

/// Hands TLS connections to `connections` until `draining`. `tls` is the configuration in force now.
pub async fn accept(
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerConfig>>,
    connections: mpsc::Sender<Connection>,
    metrics: Metrics,
    mut draining: watch::Receiver<bool>,
) {
    let limit = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let crowd = Crowd::new(MAX_ANONYMOUS);
    let mut failures = 0;
    loop {
        let next = async {
            // A place is taken before accepting, so that what cannot be served waits in the kernel's queue.
            let permit = Arc::clone(&limit).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            next = next => next,
            _ = draining.wait_for(|d| *d) => return,
        };
        let (Ok(permit), accepted) = (permit, accepted) else { return };
        let (stream, address) = match accepted {
            Ok(pair) => pair,
            Err(error) if is_of_one_connection(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                let wait = causeway_mesh::backoff::delay(failures, BACKOFF.0, BACKOFF.1, 0.5);
                failures = failures.saturating_add(1);
                tokio::time::sleep(wait).await;
                continue;
            }
        };
        failures = 0;
        let Some(place) = crowd.take(address.ip()) else {
            metrics.handshakes_failed.get_or_create(&Reason { reason: "too_many_anonymous" }).inc();
            tracing::debug!(%address, "too many connections without a certificate from one address");
            continue;
        };
        let (config, connections, metrics) = (tls.borrow().clone(), connections.clone(), metrics.clone());
        tokio::spawn(async move {
            match handshake(stream, address, config, (permit, place)).await {
                Ok(connection) => drop(connections.send(connection).await),
                Err(error) => {
                    let code = std::error::Error::source(&error)
                        .or_else(|| error.get_ref().map(|e| e as &(dyn std::error::Error + 'static)))
                        .and_then(svid::cause)
                        .map_or("tls_handshake", svid::SvidError::code);
                    metrics.handshakes_failed.get_or_create(&Reason { reason: code }).inc();
                    tracing::debug!(%address, code, %error, "a TLS handshake failed");
                }
            }
        });
    }
}

/// The connection was lost before it was accepted; the next one may be fine.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn handshake(
    stream: TcpStream,
    address: SocketAddr,
    config: Arc<ServerConfig>,
    (permit, place): (OwnedSemaphorePermit, Place),
) -> io::Result<Connection> {
    stream.set_nodelay(true)?;
    let io = tokio::time::timeout(HANDSHAKE_DEADLINE, TlsAcceptor::from(config).accept(stream)).await??;
    let leaf = io.get_ref().1.peer_certificates().and_then(|c| c.first());
    let peer = match leaf {
        // Verified by the handshake; read again for what it says.
        Some(leaf) => {
            let leaf = svid::leaf_info(leaf).map_err(io::Error::other)?;
            let certificate_expires = i64::try_from(leaf.not_after).unwrap_or(i64::MAX);
            Some(Peer { id: leaf.id, address, certificate_expires })
        }
        None => None,
    };
    let life = peer.as_ref().map_or(ANONYMOUS_LIFE, |peer| {
        Duration::from_secs(u64::try_from(peer.certificate_expires - clock::unix_now()).unwrap_or(0))
    });
    let end = Box::pin(tokio::time::sleep(life));
    let anonymous = peer.is_none().then_some(place);
    Ok(Connection { io, info: ConnectionInfo { address, peer }, end, _anonymous: anonymous, _permit: permit })
}

impl Connected for Connection {
    type ConnectInfo = ConnectionInfo;

    fn connect_info(&self) -> ConnectionInfo {
        self.info.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the connection's time is over")));
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
