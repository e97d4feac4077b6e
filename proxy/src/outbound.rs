//! Everything that leaves the workload: finds the destination of a connection, finds out what it speaks, and hands it
//! to `http` or `tcp`.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use bytes::BytesMut;
use causeway_mesh::config::{Destination, Kind, Protocol};
use causeway_mesh::detect::Detected;
use causeway_mesh::name;
use causeway_mesh::redirect::SELF_TEST;
use causeway_mesh::reject::Reject;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::accept::Accepted;
use crate::access_log::AccessLog;
use crate::drain::Drain;
use crate::metrics::{Metrics, Series};
use crate::relay::Io;
use crate::reply::Refusal;
use crate::sniff::{self, Heard};
use crate::target::{Target, Targets};
use crate::tls::Tls;

mod actions;
mod again;
mod attempt;
pub mod by_name;
mod call;
pub mod dial;
mod form;
pub mod hash;
pub mod http;
mod mirror;
mod prepared;
mod series;
pub use form::to_origin_form;
pub use mirror::MOST as MOST_MIRRORED;
pub use prepared::{Prepared, routes as prepare_routes};
pub mod tcp;
mod tunnel;

/// What every outbound connection shares.
pub struct Outbound {
    /// Own certificate and roots.
    pub tls: Tls,
    /// Destinations.
    pub targets: Arc<Targets>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Access log.
    pub log: AccessLog,
    /// Orderly end.
    pub drain: Drain,
    /// Whether unknown destinations pass, own workload's labels, ...
    pub own: crate::run::Own,
    /// Our own listeners: never a destination.
    pub own_ports: Arc<[u16]>,
    /// Metric handles of requests to what nobody knows.
    pub refused: OnceLock<Arc<Series>>,
    /// Room for copies of requests.
    pub mirrors: Arc<Semaphore>,
}

/// How the destination of a connection is known.
#[derive(Clone)]
pub enum Named {
    /// By original destination or by the listener: whatever `Host` says.
    Fixed(Arc<str>, Option<SocketAddr>),
    /// By each request: absolute URI, CONNECT or `Host`.
    ByRequest,
}

impl Outbound {
    /// Serves one accepted connection of the outbound listener.
    pub async fn serve(self: Arc<Self>, accepted: Accepted) {
        let Accepted { stream, from, permit } = accepted;
        let _permit = permit;
        match crate::accept::original_dst(&stream) {
            Some(SELF_TEST) => crate::redirection::answer(stream).await,
            Some(original) => {
                let text: Arc<str> = name::subscription(&original.ip().to_string(), original.port()).into();
                self.serve_fixed(stream, text, Some(original)).await;
            }
            None if !from.ip().is_loopback() && self.own.redirected() => {
                // The listener is for the pod's own traffic: another host that found it gets nothing.
                tracing::debug!(%from, "outbound takes no connections from other hosts");
            }
            None => {
                let (mut stream, mut first) = (stream, BytesMut::new());
                if sniff::client(&mut stream, &mut first).await.is_some() {
                    // What is no HTTP at all is answered by the guard.
                    Box::pin(http::serve(self, stream, first, Named::ByRequest)).await;
                }
            }
        }
    }

    /// Serves a connection whose destination is known from outside of it.
    pub async fn serve_fixed<S: Io>(self: Arc<Self>, stream: S, text: Arc<str>, original: Option<SocketAddr>) {
        if let Some(original) = original
            && let Err(refusal) = self.permit_address(original)
        {
            self.metrics.refuse("outbound", refusal.reject.code());
            tracing::debug!(%original, reason = %refusal.header(), "refused");
            return;
        }
        let target = match Box::pin(self.targets.resolve(&text)).await {
            Ok(target) => target,
            Err(error) => {
                self.metrics.refuse("outbound", Reject::NotReady.code());
                tracing::warn!(destination = %text, %error, "refused: destination is not known");
                return;
            }
        };
        self.targets.touch(&text);
        let named = Named::Fixed(Arc::clone(&text), original);
        let destination = &target.destination;
        let by_name = !destination.tls_routes.is_empty();
        match (destination.kind, destination.protocol, destination.http_only) {
            (Kind::Unknown, ..) => Box::pin(by_name::serve(self, stream, target, named)).await,
            (_, Protocol::Tls, false) if by_name => {
                Box::pin(tcp::serve_tls(self, stream, BytesMut::new(), target)).await;
            }
            (_, Protocol::Tcp | Protocol::Tls, false) if !by_name => {
                Box::pin(tcp::serve(self, stream, BytesMut::new(), target)).await;
            }
            _ => {
                // The box of what listens is gone before the connection is served, which may be for days.
                let mut stream = stream;
                let found = Box::pin(self.detect(&mut stream, &target)).await;
                Box::pin(self.serve_found(stream, target, named, found)).await;
            }
        }
    }

    /// Addresses that are never a destination, whoever asks: our own ports on this host.
    pub fn permit_address(&self, address: SocketAddr) -> Result<(), Refusal> {
        let ip = address.ip();
        let is_own = self.own_ports.contains(&address.port()) && (ip.is_loopback() || self.own.is_own_ip(ip));
        if is_own || ip.is_unspecified() || ip.is_multicast() {
            return Err(Refusal::new(Reject::Loop, address.to_string()));
        }
        Ok(())
    }

    /// Finds out what the client speaks. The server is dialled beside, and whoever speaks first decides.
    async fn detect<S: Io>(&self, stream: &mut S, target: &Target) -> (BytesMut, Heard<dial::Endpoint>) {
        let mut first = BytesMut::new();
        let heard = if is_http_only(&target.destination) {
            sniff::client(stream, &mut first).await.map_or(Heard::Nobody, |found| Heard::Client(found, None))
        } else {
            let dial = async { dial::tcp(self, target).await.ok() };
            sniff::both(stream, &mut first, &target.habit, dial).await
        };
        (first, heard)
    }

    /// Serves a connection that speaks what was found.
    pub(crate) async fn serve_found<S: Io>(
        self: Arc<Self>,
        stream: S,
        target: Arc<Target>,
        named: Named,
        (first, heard): (BytesMut, Heard<dial::Endpoint>),
    ) {
        let destination = &target.destination;
        let http_only = is_http_only(destination);
        let bytes_only = matches!(destination.protocol, Protocol::Tcp | Protocol::Tls) && !http_only;
        match heard {
            Heard::Nobody => {} // the client left without a word
            Heard::Server(upstream, said) => {
                Box::pin(tcp::relay_started(&self, stream, first, *upstream, said, &target)).await;
            }
            Heard::Client(Detected::Http1 | Detected::Http2, dialled) if !bytes_only => {
                drop((dialled, target));
                Box::pin(http::serve(self, stream, first, named)).await;
            }
            Heard::Client(..) if http_only => self.refuse_bytes(stream, &target).await,
            Heard::Client(Detected::Tls, _) if !destination.tls_routes.is_empty() => {
                Box::pin(tcp::serve_tls(self, stream, first, target)).await;
            }
            Heard::Client(_, Some(dialled)) => {
                Box::pin(tcp::relay_to(&self, stream, first, Ok(*dialled), &target, "")).await;
            }
            Heard::Client(_, None) => Box::pin(tcp::serve(self, stream, first, target)).await,
        }
    }

    /// HTTP routes or policy hold here: bytes would pass them by (never downgrade). The reason is said in HTTP/1.1 where
    /// that is what the port declares; a client of HTTP/2 could not read it (RFC 9113 section 3.4).
    async fn refuse_bytes<S: Io>(&self, mut stream: S, target: &Target) {
        self.metrics.refuse("outbound", Reject::BadRequest.code());
        let refusal = Refusal::new(Reject::BadRequest, format!("{} takes HTTP only", target.text));
        tracing::debug!(destination = %target.text, reason = %refusal.header(), "refused");
        if target.destination.protocol != Protocol::Http2 {
            let _ = stream.write_all(&refusal.raw()).await;
        }
        let _ = stream.shutdown().await;
    }
}

/// HTTP is declared, or routes of HTTP hold.
fn is_http_only(destination: &Destination) -> bool {
    destination.http_only || matches!(destination.protocol, Protocol::Http1 | Protocol::Http2)
}

/// Where an ExternalName leads: `host:port`.
pub fn external(destination: &Destination) -> Option<&str> {
    (destination.kind == Kind::External).then_some(destination.external.as_deref()).flatten()
}

/// Serves `--outbound-tcp`.
pub async fn serve_listener(outbound: Arc<Outbound>, accepted: Accepted, text: Arc<str>) {
    let Accepted { stream, permit, .. } = accepted;
    let _permit = permit;
    let stream: TcpStream = stream;
    outbound.serve_fixed(stream, text, None).await;
}
