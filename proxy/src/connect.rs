//! Connections to endpoints: TCP, then mutual TLS where the endpoint is in the mesh, then HTTP/2 or HTTP/1.1 on top.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use causeway_mesh::reject::Reject;
use causeway_mesh::spiffe::SpiffeId;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::body::Payload;
use crate::bulk::{AHEAD, Bulk};
use crate::clock;
use crate::endpoint::{BackendState, EndpointState, Slot};
use crate::link::Link;
use crate::pool::{Bounds, Checkout, InFlight, Place};
use crate::reply::Refusal;
use crate::tls::{Alpn, Tls, peer_until};

/// For TCP and TLS together, where nothing else is configured.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Either kind of upstream connection that bytes flow over.
pub enum Upstream {
    /// To an endpoint outside the mesh, or to the application.
    Plain(TcpStream),
    /// Mutual TLS.
    Tls(Box<TlsStream<Bulk<TcpStream>>>),
}

/// Opens a TCP connection.
///
/// # Errors
/// [`Reject::ConnectFailed`] or [`Reject::ConnectTimeout`], naming the address.
pub async fn tcp(address: SocketAddr, timeout: Duration) -> Result<TcpStream, Refusal> {
    match tokio::time::timeout(timeout, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => {
            crate::accept::tune(&stream);
            Ok(stream)
        }
        Ok(Err(error)) => Err(Refusal::new(Reject::ConnectFailed, format!("{address} ({})", error.kind()))),
        Err(_) => Err(Refusal::new(Reject::ConnectTimeout, address.to_string())),
    }
}

/// HTTP/1.1 connections to one endpoint of the mesh, beside those that are shared.
const BESIDE: usize = 2;

/// Opens a mutual TLS connection to exactly `identity`, and says until when both certificates are good.
///
/// # Errors
/// As [`tcp`]; [`Reject::IdentityMismatch`] when the peer proves anything else; [`Reject::NotReady`] before the first
/// certificate.
pub async fn tls(
    tls: &Tls,
    address: SocketAddr,
    identity: &SpiffeId,
    alpn: Alpn,
    timeout: Duration,
) -> Result<(TlsStream<Bulk<TcpStream>>, Option<Instant>), Refusal> {
    let state = tls.current().ok_or_else(|| Refusal::new(Reject::NotReady, "certificate"))?;
    let config = state.client_config(identity, alpn).map_err(|e| Refusal::new(Reject::NotReady, e.to_string()))?;
    let handshake = async {
        let stream = Bulk::new(tcp(address, timeout).await?);
        let name = ServerName::IpAddress(address.ip().into());
        TlsConnector::from(config).connect(name, stream).await.map_err(|error| refused(address, identity, &error))
    };
    let stream = tokio::time::timeout(timeout, handshake)
        .await
        .unwrap_or_else(|_| Err(Refusal::new(Reject::ConnectTimeout, address.to_string())))?;
    if Alpn::agreed(stream.get_ref().1) != Some(alpn) {
        return Err(Refusal::new(Reject::ConnectFailed, format!("{address} does not speak the mesh's protocol")));
    }
    let until = [peer_until(stream.get_ref().1), state.until()].into_iter().flatten().min();
    Ok((stream, until))
}

fn refused(address: SocketAddr, identity: &SpiffeId, error: &std::io::Error) -> Refusal {
    let ours = error.get_ref().and_then(|e| causeway_mesh::svid::cause(e));
    match ours {
        Some(cause) => {
            tracing::warn!(%address, expected = %identity, code = cause.code(), %cause, "endpoint refused");
            Refusal::new(Reject::IdentityMismatch, format!("{address} expected {identity} ({})", cause.code()))
        }
        None => Refusal::new(Reject::ConnectFailed, format!("{address} tls: {error}")),
    }
}

/// A stream on a shared HTTP/2 connection to a meshed endpoint, opening one when none has room.
///
/// # Errors
/// As [`tls`]; [`Reject::CircuitOpen`] where no connection became free in time.
pub async fn http2_stream(
    tls_source: &Tls,
    backend: &BackendState,
    state: &EndpointState,
) -> Result<InFlight, Refusal> {
    let bounds = backend.bounds();
    match state.http2.stream(bounds) {
        Some(stream) => Ok(stream),
        None => {
            let _waiting = backend.wait()?;
            let since = clock::now();
            Box::pin(state.http2.opened(bounds, || open_http2(tls_source, backend, state, since))).await
        }
    }
}

async fn open_http2(
    tls_source: &Tls,
    backend: &BackendState,
    state: &EndpointState,
    since: Instant,
) -> Result<InFlight, Refusal> {
    let bounds = backend.bounds();
    let stream = || state.http2.stream(bounds);
    let slot = || backend.connection(state.http2.is_empty());
    let slot = match backend.when_free(since, || stream().map(Room::Kept).or_else(|| slot().map(Room::New))).await? {
        Room::Kept(stream) => return Ok(stream),
        Room::New(slot) => slot,
    };
    let timeout = backend.backend.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
    let (stream, until) = match identity(backend, state) {
        Some(identity) => {
            let (stream, until) = tls(tls_source, state.address(), identity, Alpn::H2, timeout).await?;
            keep_alive(backend, stream.get_ref().0.get_ref());
            (Upstream::Tls(Box::new(stream)), until)
        }
        None => (outside(backend, state, b"h2", timeout).await?, None),
    };
    let link = Link::open(stream)
        .await
        .map_err(|e| Refusal::new(Reject::ConnectFailed, format!("{} http/2: {e}", state.address())))?;
    let told = backend.is_watched().then(|| Arc::clone(backend.in_use()));
    Ok(state.http2.add(link, until, Some(slot), told))
}

/// Where a request goes: on a connection that is there, or on one that may be opened.
enum Room<T> {
    Kept(T),
    New(Slot),
}

/// A connection to an endpoint outside of the mesh: as it is, or with TLS where the proxy is to begin it; `alpn` is then
/// what is agreed on.
async fn outside(
    backend: &BackendState,
    state: &EndpointState,
    alpn: &[u8],
    timeout: Duration,
) -> Result<Upstream, Refusal> {
    let connect = async {
        let stream = tcp(state.address(), timeout).await?;
        keep_alive(backend, &stream);
        Ok(match &backend.backend.tls {
            Some(tls) => Upstream::Tls(Box::new(backend.origination.begin(&backend.backend, tls, stream, alpn).await?)),
            None => Upstream::Plain(stream),
        })
    };
    let late = || Refusal::new(Reject::ConnectTimeout, state.address().to_string());
    tokio::time::timeout(timeout, connect).await.unwrap_or_else(|_| Err(late()))
}

/// Sets what the backend says of idle connections.
fn keep_alive(backend: &BackendState, stream: &TcpStream) {
    if let Some(keepalive) = &backend.backend.limits.keepalive {
        crate::accept::keep_alive(stream, keepalive);
    }
}

/// Whom the endpoint must prove to be; None: plain text.
pub fn identity<'e>(backend: &BackendState, state: &'e EndpointState) -> Option<&'e SpiffeId> {
    if backend.backend.plaintext { None } else { state.endpoint.identity.as_ref() }
}

/// The HTTP/2 handshake of a client, for a connection that one request has to itself; its task ends with it.
///
/// # Errors
/// The peer does not speak HTTP/2.
pub async fn http2(stream: Upstream) -> hyper::Result<http2::SendRequest<Payload>> {
    let (sender, connection) = http2_client().handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "an upstream connection ended");
        }
    });
    Ok(sender)
}

/// How our side of such a connection is set: as those of [`Link`] are.
pub fn http2_client() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(crate::server::STREAM_WINDOW)
        .initial_connection_window_size(crate::server::CONNECTION_WINDOW)
        .max_frame_size(crate::server::FRAME)
        .max_header_list_size(crate::server::HEADER_LIST)
        .max_send_buf_size(crate::server::SEND_BUFFER)
        .keep_alive_interval(crate::server::ASKED_EVERY)
        .keep_alive_timeout(crate::server::ANSWERED_WITHIN)
        .keep_alive_while_idle(true);
    builder
}

/// The HTTP/1.1 handshake of a client.
///
/// # Errors
/// Hyper's own; none is known.
pub async fn http1(stream: Upstream) -> hyper::Result<http1::SendRequest<Payload>> {
    let (sender, connection) = http1::Builder::new().max_headers(100).handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "an upstream connection ended");
        }
    });
    Ok(sender)
}

/// A kept or new HTTP/1.1 connection to a plain endpoint.
///
/// # Errors
/// As [`tcp`]; [`Reject::CircuitOpen`] where no connection became free in time.
pub async fn http1_checkout(backend: &BackendState, state: &EndpointState) -> Result<Checkout, Refusal> {
    match state.http1.checkout(backend.bounds()) {
        Some(checkout) => Ok(checkout),
        None => Box::pin(open_http1(backend, state)).await,
    }
}

async fn open_http1(backend: &BackendState, state: &EndpointState) -> Result<Checkout, Refusal> {
    let bounds = backend.bounds();
    let checkout = || state.http1.checkout(bounds);
    let slot = || backend.connection(state.http1.is_empty());
    let slot = match slot() {
        Some(slot) => slot,
        None => {
            let _waiting = backend.wait()?;
            backend.drop_idle(state);
            match backend
                .when_free(clock::now(), || checkout().map(Room::Kept).or_else(|| slot().map(Room::New)))
                .await?
            {
                Room::Kept(checkout) => return Ok(checkout),
                Room::New(slot) => slot,
            }
        }
    };
    let timeout = backend.backend.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
    let stream = outside(backend, state, b"http/1.1", timeout).await?;
    Ok(state.http1.place().lend(stream, bounds, Some(slot), None))
}

/// A kept or new HTTP/1.1 connection to the proxy of a meshed endpoint, of which there are few; None: all of them are in
/// use.
///
/// # Errors
/// As [`tls`]; [`Reject::CircuitOpen`] where no more requests may wait for a connection.
pub async fn http1_beside(
    tls_source: &Tls,
    backend: &BackendState,
    state: &EndpointState,
    identity: &SpiffeId,
) -> Result<Option<Checkout>, Refusal> {
    match state.http1.checkout(backend.bounds_between_proxies()) {
        Some(checkout) => Ok(Some(checkout)),
        None => match state.http1.place_below(BESIDE) {
            Some(place) => Box::pin(open_http1_beside(tls_source, backend, state, identity, place)).await,
            None => Ok(None),
        },
    }
}

async fn open_http1_beside(
    tls_source: &Tls,
    backend: &BackendState,
    state: &EndpointState,
    identity: &SpiffeId,
    place: Place,
) -> Result<Option<Checkout>, Refusal> {
    let Some(slot) = backend.connection(false) else { return Ok(None) };
    let _waiting = backend.wait()?;
    let timeout = backend.backend.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
    let (stream, until) = tls(tls_source, state.address(), identity, Alpn::H1, timeout).await?;
    keep_alive(backend, stream.get_ref().0.get_ref());
    crate::accept::give_up(stream.get_ref().0.get_ref()); // nobody asks the peer over it whether it is still there
    let upstream = Upstream::Tls(Box::new(stream));
    let mut checkout = place.lend(upstream, backend.bounds_between_proxies(), Some(slot), until);
    // A proxy that ends may have accepted it and read nothing: it has no other way to say that.
    checkout.stand_in();
    Ok(Some(checkout))
}

/// A kept or new HTTP/1.1 connection to the own application, without any limit.
///
/// # Errors
/// As [`tcp`].
pub async fn http1_to_app(app: &EndpointState, timeout: Duration) -> Result<Checkout, Refusal> {
    let bounds = Bounds::default();
    match app.http1.checkout(bounds) {
        Some(checkout) => Ok(checkout),
        None => Box::pin(open_http1_to_app(app, bounds, timeout)).await,
    }
}

async fn open_http1_to_app(app: &EndpointState, bounds: Bounds, timeout: Duration) -> Result<Checkout, Refusal> {
    let stream = tcp(app.address(), timeout).await?;
    Ok(app.http1.place().lend(Upstream::Plain(stream), bounds, None, None))
}

/// A connection for bytes, or for one request that switches, as `alpn` says.
///
/// # Errors
/// As [`tls`].
pub async fn bytes(
    tls_source: &Tls,
    backend: &BackendState,
    state: &Arc<EndpointState>,
    alpn: Alpn,
) -> Result<Upstream, Refusal> {
    let timeout = backend.backend.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
    match identity(backend, state) {
        Some(identity) => {
            let (mut stream, _) = tls(tls_source, state.address(), identity, alpn, timeout).await?;
            keep_alive(backend, stream.get_ref().0.get_ref());
            stream.get_mut().1.set_buffer_limit(Some(AHEAD)); // what a tunnel reads at once it writes at once
            Ok(Upstream::Tls(Box::new(stream)))
        }
        None => {
            let alpn: &[u8] = match alpn {
                Alpn::H2 => b"h2",
                Alpn::H1 => b"http/1.1",
                Alpn::Tcp => b"",
            };
            outside(backend, state, alpn, timeout).await
        }
    }
}
