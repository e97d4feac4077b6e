//! The connection to the control plane: its name resolved anew each time, TCP, TLS to its exact SPIFFE ID, HTTP/2 with
//! keepalive; what is said over it is the callers' matter.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use causeway_mesh::spiffe::{SpiffeError, SpiffeId};
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::clock;

/// For one address, TCP and TLS together.
const CONNECT: Duration = Duration::from_secs(5);
/// An address that has not answered by then gets company.
const STAGGER: Duration = Duration::from_millis(300);
/// A peer that vanished is noticed within the sum of these two.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEPALIVE_WAIT: Duration = Duration::from_secs(10);

/// ALPN of gRPC (RFC 9113 section 3.2).
pub const GRPC: &[u8] = b"h2";

/// Why the control plane could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The URI given is not one of a control plane.
    #[error("`{0}` is not `https://HOST:PORT`")]
    Uri(Uri),
    /// DNS has no address and none is known from before.
    #[error("{host}: {error}")]
    Resolve {
        /// The name asked for.
        host: String,
        /// What the resolver says.
        error: std::io::Error,
    },
    /// TCP or TLS failed for the last address tried.
    #[error("{address}: {error}")]
    Connect {
        /// The last address tried.
        address: SocketAddr,
        /// The cause; a refused certificate shows through `causeway_mesh::svid::cause`.
        #[source]
        error: std::io::Error,
    },
    /// HTTP/2 did not start.
    #[error("HTTP/2: {0}")]
    Http2(#[from] tonic::transport::Error),
}

/// Where the control plane is and who it must be.
#[derive(Debug)]
pub struct ControlPlane {
    uri: Uri,
    host: String,
    port: u16,
    id: SpiffeId,
    /// What DNS said last, for when it says nothing.
    last_good: Mutex<Vec<SocketAddr>>,
}

impl ControlPlane {
    /// `uri` is `https://HOST:PORT` (port 15010 when left out).
    ///
    /// # Errors
    /// [`DialError::Uri`].
    pub fn new(uri: Uri, id: SpiffeId) -> Result<Self, DialError> {
        let host = uri.host().map(|h| h.trim_start_matches('[').trim_end_matches(']').to_owned());
        match (uri.scheme_str(), host) {
            (Some("https"), Some(host))
                if !host.is_empty() && matches!(uri.path(), "" | "/") && uri.query().is_none() =>
            {
                Ok(Self { port: uri.port_u16().unwrap_or(15010), uri, host, id, last_good: Mutex::default() })
            }
            _ => Err(DialError::Uri(uri)),
        }
    }

    /// Who the control plane must prove to be.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// Connects now, with `config` (which pins the identity). The channel does not reconnect by itself.
    ///
    /// # Errors
    /// [`DialError`], of the last address tried.
    pub async fn channel(&self, config: Arc<ClientConfig>) -> Result<Channel, DialError> {
        let stream = self.connect(config).await?;
        let endpoint = Endpoint::from(self.uri.clone())
            .http2_keep_alive_interval(KEEPALIVE_EVERY)
            .keep_alive_timeout(KEEPALIVE_WAIT)
            .keep_alive_while_idle(true);
        // Handed out once: a second connect means that the first is over, and the caller makes a new channel then.
        let mut once = Some(stream);
        let connector = service_fn(move |_: Uri| {
            let stream = once.take().map(TokioIo::new);
            async move { stream.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected)) }
        });
        Ok(endpoint.connect_with_connector(connector).await?)
    }

    async fn connect(&self, config: Arc<ClientConfig>) -> Result<TlsStream<TcpStream>, DialError> {
        // In an order of its own, so that proxies spread over the replicas.
        let mut addresses = self.resolve().await?;
        shuffle(&mut addresses);
        let connected = first(addresses, |address| {
            let connector = TlsConnector::from(Arc::clone(&config));
            async move { handshake(&connector, address).await }
        });
        connected.await.map_err(|failed| {
            let nowhere = || std::io::Error::from(std::io::ErrorKind::NotFound);
            failed.unwrap_or_else(|| DialError::Resolve { host: self.host.clone(), error: nowhere() })
        })
    }

    async fn resolve(&self) -> Result<Vec<SocketAddr>, DialError> {
        match timeout(CONNECT, tokio::net::lookup_host((self.host.as_str(), self.port))).await {
            Ok(Ok(found)) => {
                let found: Vec<_> = found.take(8).collect();
                *self.last_good.lock().unwrap_or_else(PoisonError::into_inner) = found.clone();
                Ok(found)
            }
            failed => {
                let known = self.last_good.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if !known.is_empty() {
                    return Ok(known);
                }
                let error = match failed {
                    Ok(Err(error)) => error,
                    _ => std::io::Error::from(std::io::ErrorKind::TimedOut),
                };
                Err(DialError::Resolve { host: self.host.clone(), error })
            }
        }
    }
}

/// The first of `addresses` to which `attempt` succeeds, tried from the last one on. One that keeps silent, as a dead
/// replica's does, holds up the others only for a moment.
async fn first<T, F>(mut addresses: Vec<SocketAddr>, attempt: impl Fn(SocketAddr) -> F) -> Result<T, Option<DialError>>
where
    T: Send + 'static,
    F: Future<Output = std::io::Result<T>> + Send + 'static,
{
    let mut attempts = JoinSet::new();
    let mut failed = None;
    while let Some(address) = addresses.pop() {
        let attempt = timeout(CONNECT, attempt(address));
        attempts.spawn(async move { (address, attempt.await.unwrap_or_else(|late| Err(late.into()))) });
        loop {
            let ended = tokio::select! {
                ended = attempts.join_next() => ended,
                () = tokio::time::sleep(STAGGER), if !addresses.is_empty() => break,
            };
            match ended {
                Some(Ok((_, Ok(connected)))) => return Ok(connected),
                Some(Ok((address, Err(error)))) => failed = Some(DialError::Connect { address, error }),
                Some(Err(_)) => {} // an attempt that panicked has said so
                None => break,
            }
            if !addresses.is_empty() {
                break;
            }
        }
    }
    Err(failed)
}

fn shuffle(addresses: &mut [SocketAddr]) {
    for last in (1..addresses.len()).rev() {
        // A bias of 2^-60 favours nobody.
        let other = usize::try_from(clock::draw() % (last as u64 + 1)).unwrap_or(0);
        addresses.swap(last, other);
    }
}

async fn handshake(connector: &TlsConnector, address: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    connector.connect(ServerName::from(address.ip()), tcp).await
}

/// The identity that every control plane of the trust domain has.
///
/// # Errors
/// [`SpiffeError`] where `trust_domain` cannot be one.
pub fn control_plane_id(trust_domain: &str) -> Result<SpiffeId, SpiffeError> {
    SpiffeId::new(trust_domain, "causeway-system", "causeway-control-plane")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn plane(uri: &str) -> Result<ControlPlane, DialError> {
        ControlPlane::new(uri.parse().unwrap(), control_plane_id("cluster.local").unwrap())
    }

    #[test]
    fn the_address_is_a_host_and_a_port_and_nothing_else() {
        let found = |uri| plane(uri).map(|p| (p.host, p.port)).unwrap();
        assert_eq!(found("https://127.0.0.1:15011"), ("127.0.0.1".to_owned(), 15011));
        assert_eq!(found("https://[::1]:15011/"), ("::1".to_owned(), 15011));
        assert_eq!(found("https://causeway.causeway-system.svc"), ("causeway.causeway-system.svc".to_owned(), 15010));
        for wrong in ["http://a:1", "a:1", "/a", "https://a:1/b", "https://a/?b"] {
            assert!(plane(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn what_dns_said_last_is_used_when_it_says_nothing() {
        let mut plane = plane("https://localhost:15010").unwrap();
        let found = plane.resolve().await.unwrap();
        assert!(!found.is_empty());
        plane.host = "a..b".to_owned();
        assert_eq!(plane.resolve().await.unwrap(), found);
        plane.last_good = Mutex::default();
        assert!(matches!(plane.resolve().await, Err(DialError::Resolve { .. })));
    }

    fn addresses() -> (SocketAddr, SocketAddr) {
        ("192.0.2.1:15010".parse().unwrap(), "192.0.2.2:15010".parse().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_keeps_silent_holds_up_the_next_one_for_a_moment_only() {
        let (live, silent) = addresses();
        let begun = tokio::time::Instant::now();
        let found = first(vec![live, silent], move |address| async move {
            if address == silent {
                std::future::pending::<()>().await;
            }
            Ok(address)
        });
        assert_eq!(found.await.unwrap(), live);
        assert!(begun.elapsed() <= STAGGER * 2, "{:?}", begun.elapsed());
        let found = first(vec![silent], |_| std::future::pending::<std::io::Result<()>>()).await;
        assert!(matches!(found, Err(Some(DialError::Connect { address, .. })) if address == silent));
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_refuses_leads_to_the_next_one_at_once() {
        let (live, refusing) = addresses();
        let begun = tokio::time::Instant::now();
        let refused = || std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let found = first(vec![live, refusing], move |address| async move {
            if address == refusing { Err(refused()) } else { Ok(address) }
        });
        assert_eq!(found.await.unwrap(), live);
        assert!(begun.elapsed() < STAGGER, "{:?}", begun.elapsed());
        let found =
            first(vec![live, refusing], |_| async { std::io::Result::<()>::Err(std::io::ErrorKind::Other.into()) });
        assert!(matches!(found.await, Err(Some(_))));
        let found = first(Vec::new(), |_| async { std::io::Result::Ok(()) });
        assert!(matches!(found.await, Err(None)));
    }
}
