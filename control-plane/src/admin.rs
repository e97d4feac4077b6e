//! The local HTTP face for people and tools: health, metrics, and JSON views of what is in force. Read-only.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::ca::Authority;
use crate::clock;
use crate::metrics::{Metrics, SharedRegistry};
use crate::publish::Publisher;
use crate::readiness::Readiness;

mod views;

/// How many connections at once, how long a request's head may take, and how long a connection lives.
struct Limits {
    connections: usize,
    head: Duration,
    life: Duration,
}

/// People and tools of this machine.
const LOCAL: Limits = Limits { connections: 128, head: Duration::from_secs(10), life: Duration::from_secs(300) };
/// Kubelet and Prometheus ask once in a while; nobody else shall keep them out for long.
const REMOTE: Limits = Limits { connections: 1024, head: Duration::from_secs(2), life: Duration::from_secs(20) };
const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const CATALOGUE: &str = "\
Causeway control plane

/healthz      200 while the process serves
/readyz       200 once the configuration is read and the listener is up; else 503 and what is awaited
/metrics      OpenMetrics
/status       this process: version, pod, source, whether it leads and is ready, and what it waits for
/resources    what is in force, by kind
/problems     what is wrong with the configuration: file, line, field, and what to do
/proxies      connected proxies, and which of their resources each has put in force
/trust        the trust bundle and when the CA ends
/destination?client=NAMESPACE/ACCOUNT[/POD]&name=HOST:PORT
              what becomes of that client's traffic to that destination
";

/// How much is shown.
#[derive(Clone)]
pub enum Face {
    /// Everything; for a loopback address.
    Admin(Arc<Replica>),
    /// `/healthz`, `/readyz` and `/metrics` alone; for kubelet and Prometheus, where others can come too.
    Health,
}

/// What is shown of this process alone.
pub struct Replica {
    /// The CA.
    pub authority: Arc<Authority>,
    /// Name of its pod.
    pub pod: String,
    /// Where its configuration comes from: `directory` or `kubernetes`.
    pub source: &'static str,
    /// Whether it is the one that writes; None where there is nothing to write.
    pub leader: Option<watch::Receiver<bool>>,
}

/// What the views show.
#[derive(Clone)]
pub struct Admin {
    /// Which of them.
    pub face: Face,
    /// The proxies and the configuration in force.
    pub publisher: Arc<Publisher>,
    /// What is awaited besides the configuration.
    pub readiness: Readiness,
    /// What `/metrics` encodes.
    pub registry: SharedRegistry,
    /// Some are set when they are asked for.
    pub metrics: Metrics,
    /// True once the process is to end.
    pub draining: watch::Receiver<bool>,
}

/// Answers on `listener` until the task is dropped.
pub async fn serve(admin: Admin, listener: TcpListener) {
    let limits = match admin.face {
        Face::Admin(_) => &LOCAL,
        Face::Health => &REMOTE,
    };
    let limit = Arc::new(Semaphore::new(limits.connections));
    loop {
        let Ok(permit) = Arc::clone(&limit).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let admin = admin.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let response = admin.answer(&request);
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limits.head)
                .max_buf_size(16 * 1024)
                .serve_connection(TokioIo::new(stream), service);
            let _ = tokio::time::timeout(limits.life, connection).await;
            drop(permit);
        });
    }
}

impl Admin {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET is answered here\n");
        }
        match (request.uri().path(), &self.face) {
            ("/healthz", _) => reply(StatusCode::OK, TEXT, "ok\n"),
            ("/readyz", _) => match self.awaited() {
                None => reply(StatusCode::OK, TEXT, "ready\n"),
                Some(what) => reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("waiting for {what}\n")),
            },
            ("/metrics", _) => self.metrics(),
            (path, Face::Admin(replica)) => self.view(path, request.uri().query().unwrap_or_default(), replica),
            (_, Face::Health) => reply(StatusCode::NOT_FOUND, TEXT, "not found\n"),
        }
    }

    fn view(&self, path: &str, query: &str, replica: &Replica) -> Response<Full<Bytes>> {
        let json = |text: String| reply(StatusCode::OK, JSON, text + "\n");
        match path {
            "/" => reply(StatusCode::OK, TEXT, CATALOGUE),
            "/status" => json(views::status(replica, self.awaited())),
            "/resources" => json(views::resources(&self.publisher)),
            "/problems" => json(views::problems(&self.publisher)),
            "/proxies" => json(views::proxies(&self.publisher)),
            "/trust" => json(views::trust(&replica.authority, clock::unix_now())),
            "/destination" => match views::destination(&self.publisher, query) {
                Ok(text) => json(text),
                Err(what) => reply(StatusCode::BAD_REQUEST, TEXT, what + "\n"),
            },
            _ => reply(StatusCode::NOT_FOUND, TEXT, "there is no such view; / lists them\n"),
        }
    }

    /// What readiness waits for; None when ready.
    fn awaited(&self) -> Option<&'static str> {
        if *self.draining.borrow() {
            return Some("its end: it is shutting down");
        }
        if let Some(what) = self.readiness.awaited() {
            return Some(what);
        }
        self.publisher.view().is_none().then_some("the configuration to be read (see the log)")
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let now = clock::now();
        let proxies = self.publisher.proxies();
        let waits = proxies.iter().filter_map(|p| p.inspect(|_, since| since));
        let oldest = waits.map(|since| now.duration_since(since).as_secs_f64()).fold(0.0, f64::max);
        self.metrics.oldest_unacked.set(oldest);
        let faults: usize = proxies.iter().map(|p| p.inspect(|session, _| session.faults().count())).sum();
        self.metrics.faults.set(i64::try_from(faults).unwrap_or(i64::MAX));
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            Ok(()) => reply(StatusCode::OK, METRICS, text),
            Err(_) => reply(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "the metrics cannot be encoded\n"),
        }
    }
}

fn reply(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}
