//! Chooses an endpoint for a TCP connection and connects, trying others when one does not answer.

use std::net::SocketAddr;
use std::sync::Arc;

use causeway_mesh::name;
use causeway_mesh::reject::Reject;
use causeway_mesh::split::{Picked, Split, SplitKey};
use tokio::net::TcpStream;

use super::{Outbound, hash};
use crate::clock;
use crate::connect::{self, CONNECT_TIMEOUT, Upstream};
use crate::endpoint::{BackendState, EndpointState, Outcome, Slot};
use crate::reply::Refusal;
use crate::resolve::is_local;
use crate::target::Target;
use crate::tls::Alpn;

/// Endpoints tried for one connection or request, the first included.
pub const ATTEMPTS: usize = 3;

/// The endpoint that took a connection.
pub struct Endpoint {
    /// Its backend.
    pub backend: Arc<BackendState>,
    /// Its state.
    pub state: Taken,
}

/// An endpoint with a connection of its own, counted as long as this is held.
pub struct Taken {
    state: Arc<EndpointState>,
    _slot: Option<Slot>,
}

impl std::ops::Deref for Taken {
    type Target = Arc<EndpointState>;

    fn deref(&self) -> &Arc<EndpointState> {
        &self.state
    }
}

/// The backend that `split` picks; `key` is the value of the split's key, where it has one.
///
/// # Errors
/// [`Reject::NoWeight`] where all weights are zero, [`Reject::NoEndpoints`] where there is nothing to pick.
pub fn pick(target: &Target, split: &Split, key: Option<&[u8]>) -> Result<Picked, Refusal> {
    if split.is_zero {
        return Err(Refusal::new(Reject::NoWeight, &*split.origin));
    }
    let picked = match (split.only(), key) {
        (Some(only), _) => Some(only),
        (None, Some(key)) => split.pick_by_key(key),
        (None, None) => split.pick(draw(split.total())),
    };
    picked.ok_or_else(|| Refusal::new(Reject::NoEndpoints, &*target.destination.canonical))
}

/// The backend that was picked.
///
/// # Errors
/// [`Reject::NoEndpoints`] where there is none, [`Reject::BrokenBackend`] where the reference to it is not valid.
pub fn backend(target: &Target, picked: Picked) -> Result<&Arc<BackendState>, Refusal> {
    let backend = target.backends.get(picked.backend);
    let backend = backend.ok_or_else(|| Refusal::new(Reject::NoEndpoints, &*target.destination.canonical))?;
    match &backend.backend.broken {
        Some(why) => Err(Refusal::new(Reject::BrokenBackend, why)),
        None => Ok(backend),
    }
}

/// Uniform in `0..total`; the error of the multiplication is below 2^-31 for any sum of u32 weights in use.
fn draw(total: u64) -> u64 {
    ((u128::from(clock::draw()) * u128::from(total)) >> 64) as u64
}

/// Connects for bytes to one endpoint of the destination's split.
///
/// # Errors
/// What the last attempt came to.
pub async fn tcp(outbound: &Outbound, target: &Target) -> Result<(Upstream, Endpoint), Refusal> {
    if let Some(external) = super::external(&target.destination) {
        let upstream = Upstream::Plain(unknown(outbound, external, None).await?);
        let backend = BackendState::new(Arc::new(causeway_mesh::config::Backend {
            plaintext: true,
            ..causeway_mesh::config::Backend::new(
                external,
                &target.destination.service_name,
                &target.destination.service_namespace,
                0,
            )
        }));
        let state = Taken { state: EndpointState::bare(SocketAddr::from(([0, 0, 0, 0], 0))), _slot: None };
        return Ok((upstream, Endpoint { backend: Arc::new(backend), state }));
    }
    let split = target
        .destination
        .split
        .as_ref()
        .ok_or_else(|| Refusal::new(Reject::NoRoute, &*target.destination.canonical))?;
    tcp_by(outbound, target, split).await
}

/// Connects for bytes to one endpoint of `split`, which is one of the destination's.
///
/// # Errors
/// As [`tcp`].
pub async fn tcp_by(outbound: &Outbound, target: &Target, split: &Split) -> Result<(Upstream, Endpoint), Refusal> {
    let own = matches!(split.key, Some(SplitKey::SourceIdentity)).then(|| outbound.own.id_bytes());
    let backend = backend(target, pick(target, split, own.as_deref())?)?;
    let (upstream, state) = connect(outbound, backend, Alpn::Tcp).await?;
    Ok((upstream, Endpoint { backend: Arc::clone(backend), state }))
}

/// Connects for bytes to one endpoint of `backend`, trying others when one does not answer.
///
/// # Errors
/// What the last attempt came to; [`Reject::CircuitOpen`] where no more connections are allowed.
pub async fn connect(outbound: &Outbound, backend: &BackendState, alpn: Alpn) -> Result<(Upstream, Taken), Refusal> {
    let slot = backend.own_connection()?;
    let hash = hash::of_connection(&outbound.own, &backend.backend);
    let mut tried = Vec::new();
    let mut last = Refusal::new(Reject::NoEndpoints, &*backend.backend.name);
    while tried.len() < ATTEMPTS {
        let Some(state) = backend.choose(&tried, hash) else { break };
        outbound.permit_address(state.address())?;
        match connect::bytes(&outbound.tls, backend, &state, alpn).await {
            Ok(upstream) => {
                backend.ended(&state, Outcome::Connected);
                return Ok((upstream, Taken { state, _slot: Some(slot) }));
            }
            Err(refusal) => {
                backend.ended(&state, Outcome::ConnectFailed);
                last = refusal;
                tried.push(state);
            }
        }
    }
    Err(last)
}

/// Connects to `original`, or by DNS to `text` (`host:port`), which is outside the mesh. Never to ourselves, and by
/// name never to loopback or link-local addresses.
///
/// # Errors
/// [`Reject::UnknownHost`], [`Reject::Loop`], or why no connection came about.
pub async fn unknown(outbound: &Outbound, text: &str, original: Option<SocketAddr>) -> Result<TcpStream, Refusal> {
    if let Some(original) = original {
        outbound.permit_address(original)?;
        return connect::tcp(original, CONNECT_TIMEOUT).await;
    }
    let unknown = || Refusal::new(Reject::UnknownHost, text);
    let parsed = name::host_port(text).map_err(|_| unknown())?;
    let port = parsed.port.ok_or_else(unknown)?;
    let addresses: Vec<SocketAddr> =
        tokio::time::timeout(CONNECT_TIMEOUT, tokio::net::lookup_host((&*parsed.host, port)))
            .await
            .map_err(|_| unknown())?
            .map_err(|_| unknown())?
            .collect();
    let mut last = unknown();
    for address in addresses {
        outbound.permit_address(address)?;
        if is_local(address.ip()) {
            return Err(Refusal::new(Reject::Loop, address.to_string()));
        }
        match connect::tcp(address, CONNECT_TIMEOUT).await {
            Ok(stream) => return Ok(stream),
            Err(refusal) => last = refusal,
        }
    }
    Err(last)
}
