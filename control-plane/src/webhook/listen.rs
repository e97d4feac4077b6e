//! The HTTPS listener of the webhooks, within limits: strangers can reach it, so no peer can hold it up, fill the
//! memory, or learn anything from it.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::{Webhook, review};
use crate::clock;
use crate::crowd::Crowd;
use crate::metrics::Admission;

/// The API server's own limit on what it takes from a client.
const MAX_BODY: usize = 3 << 20;
/// Of a body that is too long, read at most so much.
const MAX_DISCARDED: usize = 16 << 20;
/// Bytes of bodies that are held at once; who is slow holds what has come.
const BODIES: usize = 32 << 20;
/// KiB of reviews that are worked on at once, and for how much each counts at least: a body grows while it is parsed.
const WORK: u32 = 4 << 10;
const WORK_LEAST: u32 = 512;
const MAX_CONNECTIONS: usize = 1024;
/// Of these, from one address: nobody alone keeps the API server out.
const MAX_OF_ONE: usize = 128;
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// The first request comes at once.
const FIRST_DEADLINE: Duration = Duration::from_secs(10);
/// The API server drops what was idle for 90 s; were we the first, a request could be on its way.
const IDLE_DEADLINE: Duration = Duration::from_secs(120);
/// After this age the next answer is a connection's last, so that replicas share the load.
const CONNECTION_AGE: Duration = Duration::from_secs(15 * 60);
/// The API server waits 5 s.
const ANSWER_DEADLINE: Duration = Duration::from_millis(4500);
const ACCEPT_WAIT: Duration = Duration::from_millis(100);

/// Answers until the task is dropped. While the process drains it goes on, since the API server still calls; each
/// connection ends with its next answer.
pub(super) async fn serve(listener: TcpListener, tls: watch::Receiver<Arc<ServerConfig>>, webhook: Arc<Webhook>) {
    let face = Arc::new(Face { webhook, bodies: Semaphore::new(BODIES), work: Semaphore::new(WORK as usize) });
    let limit = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let crowd = Crowd::new(MAX_OF_ONE);
    loop {
        let Ok(permit) = Arc::clone(&limit).acquire_owned().await else { return };
        let (stream, address) = match listener.accept().await {
            Ok(pair) => pair,
            Err(error) => {
                tracing::debug!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_WAIT).await;
                continue;
            }
        };
        let Some(place) = crowd.take(address.ip()) else { continue };
        let (face, config) = (Arc::clone(&face), tls.borrow().clone());
        tokio::spawn(async move {
            if let Err(error) = face.connection(stream, config).await {
                tracing::debug!(%address, %error, "a connection to the webhooks ended");
            }
            drop((permit, place));
        });
    }
}

struct Face {
    webhook: Arc<Webhook>,
    bodies: Semaphore,
    work: Semaphore,
}

impl Face {
    async fn connection(
        self: &Arc<Self>,
        stream: TcpStream,
        config: Arc<ServerConfig>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        stream.set_nodelay(true)?;
        let stream = timeout(HANDSHAKE_DEADLINE, TlsAcceptor::from(config).accept(stream)).await??;
        let begun = clock::now();
        let has_asked = Arc::new(AtomicBool::new(false));
        let service = service_fn(|request| {
            has_asked.store(true, Ordering::Relaxed);
            let face = Arc::clone(self);
            async move { Ok::<_, Infallible>(face.answer(request, begun).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE_DEADLINE)
            .max_buf_size(64 * 1024)
            .serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        tokio::select! {
            ended = &mut connection => return Ok(ended?),
            () = tokio::time::sleep(FIRST_DEADLINE) => {}
        }
        if !has_asked.load(Ordering::Relaxed) {
            return Err("nothing was asked".into());
        }
        Ok(connection.await?)
    }

    async fn answer(&self, request: Request<Incoming>, connected: Instant) -> Response<Full<Bytes>> {
        let begun = clock::now();
        let path = match request.uri().path() {
            "/inject" => "inject",
            "/validate" => "validate",
            _ => return last(plain(StatusCode::NOT_FOUND, "")),
        };
        let answered = match timeout(ANSWER_DEADLINE, self.reviewed(path, request)).await {
            Ok(answered) => answered,
            Err(_) => Err((StatusCode::SERVICE_UNAVAILABLE, "late", "the control plane is too busy".to_owned())),
        };
        let metrics = &self.webhook.metrics;
        metrics.admission_seconds.observe(begun.elapsed().as_secs_f64());
        let (result, response) = match answered {
            Ok((result, body)) => {
                let mut response = Response::new(Full::new(Bytes::from(body)));
                response
                    .headers_mut()
                    .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
                (result, response)
            }
            // What is left of the body is not waited for.
            Err((status, result, text)) => (result, last(plain(status, &text))),
        };
        metrics.admission.get_or_create(&Admission { path, result }).inc();
        let is_old = connected.elapsed() > CONNECTION_AGE || *self.webhook.draining.borrow();
        if is_old { last(response) } else { response }
    }

    async fn reviewed(
        &self,
        path: &'static str,
        request: Request<Incoming>,
    ) -> Result<(&'static str, Vec<u8>), (StatusCode, &'static str, String)> {
        let refused = |status, text: &str| (status, "malformed", text.to_owned());
        if request.method() != Method::POST {
            return Err(refused(StatusCode::METHOD_NOT_ALLOWED, "reviews are POSTed"));
        }
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        if kind.split(';').next().map(str::trim) != Some("application/json") {
            return Err(refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "a review is application/json"));
        }
        let busy = || (StatusCode::SERVICE_UNAVAILABLE, "late", "the control plane is too busy".to_owned());
        let (mut bytes, mut held, mut length) = (Vec::new(), Vec::new(), 0);
        let mut body = request.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| refused(StatusCode::BAD_REQUEST, "the body broke off"))?;
            let Ok(data) = frame.into_data() else { continue };
            length += data.len();
            if length > MAX_BODY {
                // Dropped as it comes, so that who sends it gets to read the answer; but not for ever.
                (bytes, held) = (Vec::new(), Vec::new());
                if length > MAX_DISCARDED {
                    break;
                }
                continue;
            }
            let part = u32::try_from(data.len()).unwrap_or(u32::MAX);
            held.push(self.bodies.try_acquire_many(part).map_err(|_| busy())?);
            bytes.extend_from_slice(&data);
        }
        if length > MAX_BODY {
            return Err(refused(StatusCode::PAYLOAD_TOO_LARGE, "a review has at most 3 MiB"));
        }
        let size = u32::try_from(bytes.len() / 1024).unwrap_or(WORK).clamp(WORK_LEAST, WORK);
        let _turn = self.work.acquire_many(size).await.map_err(|_| busy())?;
        let body = bytes;
        let webhook = Arc::clone(&self.webhook);
        // Compiling takes a while where there is much, and must not hold up the proxies' streams.
        let done = tokio::task::spawn_blocking(move || webhook.judge(path, &body)).await;
        match done {
            Ok(Ok(answered)) => Ok(answered),
            Ok(Err(text)) => Err(refused(StatusCode::BAD_REQUEST, &text)),
            Err(_) => Err((StatusCode::INTERNAL_SERVER_ERROR, "failed", "the review failed".to_owned())),
        }
    }
}

impl Webhook {
    /// The answer to one review: its result for the metrics, and its text.
    fn judge(&self, path: &str, body: &[u8]) -> Result<(&'static str, Vec<u8>), String> {
        let request = review::read(body)?;
        let answer = match path {
            "inject" => review::inject(&request, &self.injection),
            _ => {
                let resources = self.resources.borrow().clone();
                review::validate(&request, resources.as_deref(), &self.compile)
            }
        };
        let result = match (&answer.refused, answer.patch.is_empty()) {
            (Some(_), _) => "refused",
            (None, false) => "patched",
            (None, true) => "allowed",
        };
        let why = answer.refused.as_ref().map(|r| r.message.as_str()).unwrap_or_default();
        tracing::debug!(about = request.about(), result, why, "answered an admission review");
        Ok((result, review::written(request.uid(), &answer)))
    }
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text.to_owned())));
    *response.status_mut() = status;
    response
}

/// Closes the connection after this answer.
fn last(mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    response
}
