//! One HTTP request to an admin port; what the answer means is left to the caller.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Answers larger than this are refused.
const LIMIT: usize = 16 << 20;

/// Asks `address` for `path` and waits at most `patience` for the whole answer.
///
/// # Errors
/// No connection, no answer in time, or an answer past the limit.
pub async fn get(address: SocketAddr, path: &str, patience: Duration) -> anyhow::Result<Response<Bytes>> {
    timeout(patience, ask(address, path))
        .await
        .map_err(|_| anyhow!("http://{address}{path} gave no answer within {} s", patience.as_secs_f32()))?
}

async fn ask(address: SocketAddr, path: &str) -> anyhow::Result<Response<Bytes>> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
    exchange(stream, &address.to_string(), path).await
}

/// One GET of `path` on `stream`, which is used up; there is no deadline here.
///
/// # Errors
/// The other side does not answer with HTTP, or answers with more than the limit.
pub async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    host: &str,
    path: &str,
) -> anyhow::Result<Response<Bytes>> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let request = Request::get(path).header("host", host).body(Empty::<Bytes>::new())?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, LIMIT).collect().await.map_err(|e| anyhow!("reading the answer: {e}"))?.to_bytes();
    driver.abort();
    Ok(Response::from_parts(head, body))
}

/// Asks for JSON.
///
/// # Errors
/// As [`get`], or a status other than success, or a body that is not JSON.
pub async fn get_json(address: SocketAddr, path: &str) -> anyhow::Result<Value> {
    json(&get(address, path, Duration::from_secs(5)).await?, &format!("http://{address}{path}"))
}

/// The JSON of an answer to what `asked` names.
///
/// # Errors
/// A status other than success, or a body that is not JSON.
pub fn json(answer: &Response<Bytes>, asked: &str) -> anyhow::Result<Value> {
    if !answer.status().is_success() {
        bail!("{asked} answered {}", answer.status());
    }
    serde_json::from_slice(answer.body()).with_context(|| format!("{asked} did not answer with JSON"))
}

/// Runs one asynchronous job on a small runtime of its own.
///
/// # Errors
/// What the job returns, or that no runtime could be made.
pub fn block_on<T>(job: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(job)
}
