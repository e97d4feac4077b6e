//! The two small HTTP/1 servers beside traffic: the operator's view on loopback, and health and metrics for the pod.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use crate::accept::{self, Accepted};
use crate::args::ProxyArgs;
use crate::discovery::Discovery;
use crate::drain::{Drain, Phase};
use crate::log::LogHandle;
use crate::metrics::Metrics;
use crate::redirection::Redirection;
use crate::target::Targets;
use crate::tls::Tls;

mod backends;
mod view;
mod words;

/// Connections of each side at once.
const CONNECTIONS: usize = 64;

/// Which of the two servers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// `--admin`
    Operator,
    /// `--health`
    Health,
}

/// What both servers show.
pub struct Admin {
    tls: Tls,
    discovery: Discovery,
    targets: Arc<Targets>,
    drain: Drain,
    registry: Registry,
    metrics: Arc<Metrics>,
    log: LogHandle,
    workload: String,
    is_listening: AtomicBool,
    /// None: nothing is to be redirected.
    redirection: Option<Redirection>,
}

impl Admin {
    /// Everything there is to show.
    pub fn new(
        tls: Tls,
        targets: Arc<Targets>,
        drain: Drain,
        registry: Registry,
        metrics: Arc<Metrics>,
        log: LogHandle,
        args: &ProxyArgs,
    ) -> Arc<Self> {
        Arc::new(Self {
            tls,
            discovery: targets.discovery().clone(),
            targets,
            drain,
            registry,
            metrics,
            log,
            workload: args.workload.clone(),
            is_listening: AtomicBool::new(false),
            redirection: args.inbound.map(|_| Redirection::default()),
        })
    }

    /// The listeners of traffic are up.
    pub fn listening(&self) {
        self.is_listening.store(true, Ordering::Release);
    }

    /// Keeps knowing whether traffic is redirected, where it should be. To be called once the listeners are up.
    pub async fn follow_redirection(self: Arc<Self>) {
        if let Some(redirection) = &self.redirection {
            redirection.follow(self.drain.clone()).await;
        }
    }

    /// What readiness still waits for; empty: ready.
    fn awaited(&self) -> Vec<&'static str> {
        let is_configured = self.discovery.snapshot().borrow().workload.is_some();
        [
            (self.tls.current().is_none(), "certificate"),
            (!is_configured, "configuration"),
            (!self.is_listening.load(Ordering::Acquire), "listeners"),
            (self.redirection.as_ref().is_some_and(|r| !r.is_in_force()), "redirection"),
            (self.drain.phase() != Phase::Serving, "nothing: draining"),
        ]
        .into_iter()
        .filter_map(|(waiting, what)| waiting.then_some(what))
        .collect()
    }

    /// Says in the log what is still awaited, and once when nothing is.
    pub async fn tell_readiness(self: Arc<Self>) {
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        let mut told = Vec::new();
        let mut ticks = 0u32;
        loop {
            tick.tick().await;
            let awaited = self.awaited();
            if awaited.is_empty() {
                tracing::info!(workload = %self.workload, "ready");
                return;
            }
            if awaited != told || ticks.is_multiple_of(50) {
                tracing::info!(awaited = %awaited.join(", "), last_error = ?self.discovery.status().last_error, "not ready");
                told = awaited;
            }
            ticks = ticks.wrapping_add(1);
        }
    }

    fn answer(&self, side: Side, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let query = request.uri().query().unwrap_or_default();
        match (side, request.method(), request.uri().path()) {
            (Side::Health, &Method::GET | &Method::HEAD, "/live") => text(StatusCode::OK, "live\n"),
            (_, &Method::GET | &Method::HEAD, "/ready") => {
                let awaited = self.awaited();
                if awaited.is_empty() {
                    text(StatusCode::OK, "ready\n")
                } else {
                    text(StatusCode::SERVICE_UNAVAILABLE, format!("awaited: {}\n", awaited.join(", ")))
                }
            }
            (_, &Method::GET, "/metrics") => self.metrics(),
            (Side::Operator, &Method::GET, "/") => text(StatusCode::OK, CATALOGUE),
            (Side::Operator, &Method::GET, "/certs") => json(&view::certs(&self.tls)),
            (Side::Operator, &Method::GET, "/backends") => json(&backends::view(&self.targets)),
            (Side::Operator, &Method::GET, "/config") => json(&view::config(&self.discovery)),
            (Side::Operator, &Method::GET, "/status") => {
                json(&view::status(&self.discovery, &self.workload, &self.awaited(), self.drain.open()))
            }
            (Side::Operator, &Method::POST, "/log") => self.set_log(query),
            (Side::Operator, &Method::POST, "/drain") => {
                self.drain.next();
                text(StatusCode::ACCEPTED, "draining\n")
            }
            (Side::Operator, _, "/log" | "/drain") => text(StatusCode::METHOD_NOT_ALLOWED, "use POST\n"),
            _ => text(StatusCode::NOT_FOUND, "not found\n"),
        }
    }

    fn set_log(&self, query: &str) -> Response<Full<Bytes>> {
        let Some(level) = causeway_mesh::route::query_value(query, "level") else {
            return text(StatusCode::BAD_REQUEST, "use /log?level=debug\n");
        };
        match (self.log)(level) {
            Ok(()) => {
                tracing::info!(level, "log level set");
                text(StatusCode::OK, format!("log level is {level}\n"))
            }
            Err(error) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        if let Some(tls) = self.tls.current() {
            self.metrics.certificate_expiry.set(i64::try_from(tls.leaf().not_after).unwrap_or(i64::MAX));
        }
        self.metrics.control_plane_connected.set(i64::from(self.discovery.status().connected));
        let mut out = String::new();
        match prometheus_client::encoding::text::encode(&mut out, &self.registry) {
            Ok(()) => {
                let mut response = text(StatusCode::OK, out);
                response.headers_mut().insert(
                    header::CONTENT_TYPE,
                    header::HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8"),
                );
                response
            }
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }
}

const CATALOGUE: &str = "causeway-proxy\n\n\
    GET  /certs            certificate in use, roots\n\
    GET  /backends         endpoints in use, ejected ones and why, what is in flight\n\
    GET  /config           configuration in force\n\
    GET  /status           stream to the control plane, what is awaited\n\
    GET  /ready            200 when traffic is served\n\
    GET  /metrics          Prometheus\n\
    POST /log?level=debug  sets the log level\n\
    POST /drain            begins to drain; a second call aborts\n";

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn json(value: &serde_json::Value) -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::OK, format!("{value:#}\n"));
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

/// Serves one side until the proxy aborts.
pub async fn serve(admin: Arc<Admin>, listener: TcpListener, side: Side) {
    let drain = admin.drain.clone();
    accept::run(listener, "admin", CONNECTIONS, drain, move |Accepted { stream, permit, .. }| {
        let admin = Arc::clone(&admin);
        tokio::spawn(async move {
            let _permit = permit;
            let service = service_fn(move |request| {
                let response = admin.answer(side, &request);
                async move { Ok::<_, Infallible>(response) }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(10))
                .max_buf_size(16 * 1024)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "admin connection ended");
            }
        });
    })
    .await;
}
