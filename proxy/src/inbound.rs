//! Everything that comes in for the workload: mutual TLS, the policy's verdict, and then the application.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::http::HeaderValue;
use bytes::BytesMut;
use causeway_mesh::detect::Detected;
use causeway_mesh::policy::{MtlsMode, Peer};
use causeway_mesh::reject::Reject;
use causeway_mesh::spiffe::SpiffeId;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::rustls::server::Acceptor;

use crate::accept::Accepted;
use crate::access_log::AccessLog;
use crate::bulk::{AHEAD, Bulk};
use crate::connect::{self, CONNECT_TIMEOUT, Upstream};
use crate::drain::Drain;
use crate::endpoint::EndpointState;
use crate::limit::Limits;
use crate::metrics::{DirectionLabels, Metrics, Peers, Series};
use crate::relay::{Io, Prefixed};
use crate::reply::Refusal;
use crate::run::Own;
use crate::sniff::{self, Habit, Heard};
use crate::tls::{Alpn, Tls, peer_identity, peer_until};

pub mod http;
mod replay;
pub mod tcp;

use replay::Replay;

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What every inbound connection shares.
pub struct Inbound {
    /// Own certificate and roots.
    pub tls: Tls,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Access log.
    pub log: AccessLog,
    /// Orderly end.
    pub drain: Drain,
    /// Policy and names of the own workload.
    pub own: Own,
    /// Our own listeners: never an application.
    pub own_ports: Arc<[u16]>,
    /// Kept connections to the application, by its address.
    pub apps: Mutex<HashMap<SocketAddr, Arc<EndpointState>>>,
    /// Who speaks first, by the application's port.
    pub habits: Mutex<HashMap<u16, Arc<Habit>>>,
    /// Metric handles by peer.
    pub series: Mutex<HashMap<Option<SpiffeId>, Arc<Series>>>,
    /// Counts of requests.
    pub limits: Limits,
}

/// One inbound connection, once its peer is known.
pub struct Conn {
    /// Shared state.
    pub inbound: Arc<Inbound>,
    /// Verified, or nobody.
    pub peer: Peer,
    /// The application, with its kept connections.
    pub app: Arc<EndpointState>,
    /// `x-forwarded-client-cert` for the application; made once, since neither end's identity changes.
    pub xfcc: Option<HeaderValue>,
    /// Metric handles.
    pub series: Arc<Series>,
}

impl Inbound {
    /// Serves one accepted connection; `app` is known where nothing redirects.
    pub async fn serve(self: Arc<Self>, accepted: Accepted, app: Option<SocketAddr>) {
        let Accepted { mut stream, from, permit } = accepted;
        let _permit = permit;
        let Some(app) = app.or_else(|| crate::accept::original_dst(&stream)) else {
            tracing::debug!(%from, "a connection to the inbound listener that nothing redirected");
            return;
        };
        if self.own_ports.contains(&app.port()) && (app.ip().is_loopback() || self.own.is_own_ip(app.ip())) {
            self.refuse(&Refusal::new(Reject::Loop, app.to_string()), from);
            return;
        }
        let mut first = BytesMut::new();
        // A strict port has nothing to hear from a silent client: mesh clients speak first.
        let found = if self.own.inbound().mode(app.port()) == MtlsMode::Strict {
            tokio::time::timeout(HANDSHAKE, sniff::client(&mut stream, &mut first)).await.unwrap_or_default()
        } else {
            let dial = async { Some((Upstream::Plain(connect::tcp(app, CONNECT_TIMEOUT).await.ok()?), ())) };
            match sniff::both(&mut stream, &mut first, &self.habit(app), dial).await {
                Heard::Client(found, _) => Some(found),
                Heard::Nobody => None,
                Heard::Server(upstream, said) => {
                    let conn = self.conn(Peer::Anonymous, app);
                    Box::pin(tcp::serve_started(conn, stream, first, upstream.0, said)).await;
                    return;
                }
            }
        };
        match found {
            Some(Detected::Tls) => Box::pin(self.accept_tls(stream, first, from, app)).await,
            Some(Detected::Http1) => {
                let conn = self.conn(Peer::Anonymous, app);
                Box::pin(http::serve_http1(conn, stream, first, None)).await;
            }
            Some(Detected::Http2) => {
                let conn = self.conn(Peer::Anonymous, app);
                Box::pin(http::serve_http2(conn, Prefixed::new(first, stream), None)).await;
            }
            Some(_) => Box::pin(tcp::serve(self.conn(Peer::Anonymous, app), stream, first)).await,
            None => {}
        }
    }

    async fn accept_tls(self: Arc<Self>, stream: TcpStream, first: BytesMut, from: SocketAddr, app: SocketAddr) {
        let Some(state) = self.tls.current() else {
            self.refuse(&Refusal::new(Reject::NotReady, "certificate"), from);
            return;
        };
        if !self.own.is_configured() {
            // Closed before the handshake, so that the caller knows that nothing was sent and tries another endpoint.
            self.refuse(&Refusal::new(Reject::NotReady, "configuration"), from);
            return;
        }
        let replay = Replay::new(Prefixed::new(first, Bulk::new(stream)));
        let start = tokio::time::timeout(HANDSHAKE, LazyConfigAcceptor::new(Acceptor::default(), replay)).await;
        let start = match start {
            Ok(Ok(start)) => start,
            Ok(Err(error)) => return self.handshake_failed(from, &error),
            Err(_) => return self.handshake_failed(from, &std::io::ErrorKind::TimedOut.into()),
        };
        let ours = start
            .client_hello()
            .alpn()
            .is_some_and(|mut names| names.any(|name| Alpn::ALL.iter().any(|a| a.name() == name)));
        if !ours {
            // TLS that the application itself speaks: bytes from nobody we know.
            let conn = self.conn(Peer::Anonymous, app);
            let (read, stream) = start.io.into_parts();
            return Box::pin(tcp::serve(conn, stream, read)).await;
        }
        let mut start = start;
        start.io.stop();
        let accepted = tokio::time::timeout(HANDSHAKE, start.into_stream(state.server_config())).await;
        let mut stream = match accepted {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return self.handshake_failed(from, &error),
            Err(_) => return self.handshake_failed(from, &std::io::ErrorKind::TimedOut.into()),
        };
        let session = stream.get_ref().1;
        let (Some(id), Some(alpn)) = (peer_identity(session), Alpn::agreed(session)) else { return };
        let until = peer_until(session);
        let conn = self.conn(Peer::Mesh(id), app);
        match alpn {
            Alpn::H2 => Box::pin(http::serve_http2(conn, stream, until)).await,
            Alpn::H1 => Box::pin(http::serve_http1(conn, stream, BytesMut::new(), until)).await,
            Alpn::Tcp => {
                stream.get_mut().1.set_buffer_limit(Some(AHEAD)); // what a tunnel reads at once it writes at once
                Box::pin(tcp::serve(conn, stream, BytesMut::new())).await;
            }
        }
    }

    fn handshake_failed(&self, from: SocketAddr, error: &std::io::Error) {
        self.metrics.handshake_failures.get_or_create(&DirectionLabels { direction: "inbound" }).inc();
        match error.get_ref().and_then(|e| causeway_mesh::svid::cause(e)) {
            Some(cause) => tracing::info!(%from, code = cause.code(), %cause, "peer refused"),
            None => tracing::debug!(%from, %error, "handshake failed"),
        }
    }

    fn refuse(&self, refusal: &Refusal, from: SocketAddr) {
        self.metrics.refuse("inbound", refusal.reject.code());
        tracing::debug!(%from, reason = %refusal.header(), "refused");
    }

    fn conn(self: &Arc<Self>, peer: Peer, app: SocketAddr) -> Arc<Conn> {
        let xfcc = peer.id().and_then(|id| HeaderValue::from_str(&format!("By={};URI={id}", self.own.id_text())).ok());
        let series = self.series(&peer);
        Arc::new(Conn { inbound: Arc::clone(self), app: self.app(app), xfcc, series, peer })
    }

    /// What is known of who speaks first on the application's port.
    fn habit(&self, app: SocketAddr) -> Arc<Habit> {
        let mut habits = self.habits.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(habits.entry(app.port()).or_default())
    }

    fn app(&self, address: SocketAddr) -> Arc<EndpointState> {
        let mut apps = self.apps.lock().unwrap_or_else(PoisonError::into_inner);
        if apps.len() >= 4096 && !apps.contains_key(&address) {
            // A pod has few ports; whoever scans must not make us remember each.
            apps.retain(|_, app| Arc::strong_count(app) > 1);
        }
        Arc::clone(apps.entry(address).or_insert_with(|| EndpointState::bare(address)))
    }

    fn series(&self, peer: &Peer) -> Arc<Series> {
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = series.get(&peer.id().cloned()) {
            return Arc::clone(series);
        }
        let own = self.own.names();
        let made = self.metrics.series(Peers {
            reporter: "destination".to_owned(),
            source_workload: "unknown".to_owned(),
            source_workload_namespace: peer.id().map_or("unknown", SpiffeId::namespace).to_owned(),
            source_principal: peer.id().map(ToString::to_string).unwrap_or_else(|| "unknown".to_owned()),
            destination_workload: own.workload.clone(),
            destination_workload_namespace: own.namespace.clone(),
            destination_principal: self.own.id_text(),
            destination_service: "unknown".to_owned(),
            destination_service_name: "unknown".to_owned(),
            destination_service_namespace: own.namespace,
            connection_security_policy: if peer.id().is_some() { "mutual_tls" } else { "none" }.to_owned(),
        });
        if self.own.is_configured() {
            series.insert(peer.id().cloned(), Arc::clone(&made));
        }
        made
    }
}

/// Answers in plain HTTP/1.1 and closes: for a client whose bytes will not be read.
pub async fn close_with<S: Io>(mut stream: S, refusal: &Refusal) {
    let _ = stream.write_all(&refusal.raw()).await;
    let _ = stream.shutdown().await;
}
