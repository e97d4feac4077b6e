//! An HTTP/1.1 and HTTP/2 server that says what it received, so that a test can compare it with what was sent.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_stream::wrappers::ReceiverStream;

use super::Options;
use super::tally::{self, Tally};

pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Serves on every `--listen` until SIGTERM, then ends as a well-behaved application does: it accepts no more and
/// finishes what it has begun. `--name` is what it calls itself in `x-app` and bodies; a path given as `--broken` is
/// answered with 500.
pub(super) async fn serve(options: &Options) -> anyhow::Result<()> {
    let app = Arc::new(App {
        name: options.text("name")?.to_owned(),
        broken: options.all("broken").to_vec(),
        tally: Tally::default(),
        delay: Duration::from_millis(options.number("delay-ms", 0)?),
    });
    let open = Arc::new(GracefulShutdown::new());
    let mut servers = tokio::task::JoinSet::new();
    for address in options.all("listen") {
        let listener = listen(address.parse()?)?;
        servers.spawn(accept(listener, Arc::clone(&app), Arc::clone(&open)));
    }
    println!("listening");
    super::terminated().await;
    servers.shutdown().await;
    if let Some(open) = Arc::into_inner(open) {
        open.shutdown().await;
    }
    Ok(())
}

/// What one server is.
struct App {
    name: String,
    broken: Vec<String>,
    tally: Tally,
    /// Before each answer.
    delay: Duration,
}

fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let socket = if address.is_ipv4() { tokio::net::TcpSocket::new_v4()? } else { tokio::net::TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket.listen(4096)?)
}

async fn accept(listener: TcpListener, app: Arc<App>, open: Arc<GracefulShutdown>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let app = Arc::clone(&app);
        let service = service_fn(move |request| answer(request, Arc::clone(&app)));
        let builder = auto::Builder::new(TokioExecutor::new());
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
        tokio::spawn(open.watch(connection));
    }
}

async fn answer(mut request: Request<Incoming>, app: Arc<App>) -> std::io::Result<Response<Body>> {
    let before = app.tally.note(&mut request).await;
    tokio::time::sleep(app.delay).await;
    let name = app.name.as_str();
    let path = request.uri().path().to_owned();
    let target = HeaderValue::from_str(&request.uri().to_string());
    let (_, route) = path.split_once('/').unwrap_or_default();
    let (route, rest) = route.split_once('/').unwrap_or((route, ""));
    let number = rest.parse::<u64>().unwrap_or(0);
    let mut response = match route {
        "headers" => describe(request, name).await,
        "echo" => Response::new(echo(request)),
        "flaky" if before < tally::times(rest) => tally::fail(rest).await?,
        "tally" => Response::new(text(app.tally.of(rest).to_string())),
        "sum" => sum(request).await,
        "bytes" => sized(number),
        "chunked" => Response::new(chunks(number)),
        "trailers" => trailers(),
        "grpc.health.v1.Health" => healthy(),
        "drip" => Response::new(drip(number)),
        "slow" => {
            tokio::time::sleep(Duration::from_millis(number)).await;
            Response::new(text(format!("{name}\n")))
        }
        "status" => {
            let mut response = Response::new(text(format!("{name}\n")));
            *response.status_mut() =
                u16::try_from(number).ok().and_then(|n| StatusCode::from_u16(n).ok()).unwrap_or_default();
            response
        }
        _ => Response::new(text(format!("{name}\n"))),
    };
    if app.broken.contains(&path) {
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    }
    if let Ok(value) = target {
        response.headers_mut().insert("x-target", value);
    }
    if let Ok(value) = HeaderValue::from_str(name) {
        response.headers_mut().insert("x-app", value);
    }
    Ok(response)
}

fn text(content: impl Into<Bytes>) -> Body {
    Full::new(content.into()).boxed_unsync()
}

/// Everything of the request's head, and the body and trailers it carried.
async fn describe(request: Request<Incoming>, name: &str) -> Response<Body> {
    let (head, body) = request.into_parts();
    let collected = body.collect().await;
    let (trailers, body) = match collected {
        Ok(collected) => (collected.trailers().cloned().unwrap_or_default(), collected.to_bytes()),
        Err(_) => (HeaderMap::new(), Bytes::new()),
    };
    let document = json!({
        "app": name, "method": head.method.as_str(), "target": head.uri.to_string(),
        "version": format!("{:?}", head.version), "headers": pairs(&head.headers), "trailers": pairs(&trailers),
        "body": String::from_utf8_lossy(&body),
    });
    Response::new(text(document.to_string()))
}

fn pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    headers.iter().map(|(n, v)| (n.as_str().to_owned(), String::from_utf8_lossy(v.as_bytes()).into_owned())).collect()
}

fn echo(request: Request<Incoming>) -> Body {
    // A broken request body ends the echo early; the client notices by the length or the missing last chunk.
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        let mut body = request.into_body();
        while let Some(Ok(frame)) = body.frame().await {
            if sender.send(Ok(frame)).await.is_err() {
                break;
            }
        }
    });
    StreamBody::new(ReceiverStream::new(receiver)).boxed_unsync()
}

async fn sum(request: Request<Incoming>) -> Response<Body> {
    let mut body = request.into_body();
    let (mut length, mut digest) = (0u64, Fnv::default());
    let mut complete = true;
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => {
                length += data.len() as u64;
                digest.add(&data);
            }
            Ok(Err(_)) => {}
            Err(_) => complete = false,
        }
    }
    Response::new(text(json!({"length": length, "sum": digest.0, "complete": complete}).to_string()))
}

/// FNV-1a, 64 bits: enough to see that bytes arrived unchanged and in order.
pub(super) struct Fnv(pub(super) u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    pub(super) fn add(&mut self, data: &[u8]) {
        for byte in data {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// The `index`th 16 KiB of the deterministic content that `/bytes` and `/chunked` send.
pub(super) fn block(index: u64) -> Bytes {
    let mut state = index.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..16 * 1024)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect::<Vec<u8>>()
        .into()
}

fn blocks(length: u64) -> impl Iterator<Item = Bytes> {
    (0..length.div_ceil(16 * 1024)).map(move |i| {
        let left = usize::try_from(length - i * 16 * 1024).unwrap_or(usize::MAX);
        let block = block(i);
        block.slice(..left.min(block.len()))
    })
}

fn sized(length: u64) -> Response<Body> {
    let mut response = Response::new(chunks(length));
    response.headers_mut().insert("content-length", HeaderValue::from(length));
    response
}

fn chunks(length: u64) -> Body {
    let stream = tokio_stream::iter(blocks(length).map(|b| Ok(Frame::data(b))));
    StreamBody::new(stream).boxed_unsync()
}

fn trailers() -> Response<Body> {
    let mut fields = HeaderMap::new();
    fields.insert("x-trailer", HeaderValue::from_static("at the end"));
    let frames = [Ok(Frame::data(Bytes::from_static(b"body\n"))), Ok(Frame::trailers(fields))];
    let mut response = Response::new(StreamBody::new(tokio_stream::iter(frames)).boxed_unsync());
    response.headers_mut().insert("trailer", HeaderValue::from_static("x-trailer"));
    response
}

/// What a gRPC health check asks: one message, `status: SERVING`, and the status of the call in trailers.
fn healthy() -> Response<Body> {
    let mut fields = HeaderMap::new();
    fields.insert("grpc-status", HeaderValue::from_static("0"));
    let frames = [Ok(Frame::data(Bytes::from_static(&[0, 0, 0, 0, 2, 0x08, 0x01]))), Ok(Frame::trailers(fields))];
    let mut response = Response::new(StreamBody::new(tokio_stream::iter(frames)).boxed_unsync());
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

/// A line each 50 ms, `lines` of them.
fn drip(lines: u64) -> Body {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        for line in 0..lines {
            if sender.send(Ok(Frame::data(Bytes::from(format!("{line}\n"))))).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    StreamBody::new(ReceiverStream::new(receiver)).boxed_unsync()
}
