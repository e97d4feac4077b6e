//! Requests that switch (WebSocket): by `Upgrade`, where only 101 switches and only to what was asked for, on an HTTP/1.1
//! connection; or by extended CONNECT (RFC 8441), where 2xx does, on an HTTP/2 connection. Either is a connection of its own.

use std::time::Duration;

use causeway_mesh::reject::Reject;
use h2::ext::Protocol;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version, header};
use hyper::client::conn::{http1, http2};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::oneshot;

use crate::body::{Body, Payload, Received};
use crate::connect;
use crate::drain::{Drain, Phase};
use crate::guarded::Verdict;
use crate::headers;
use crate::metrics::Exchange;
use crate::relay::{self, Count, Io};
use crate::reply::Refusal;
use crate::streams::Turn;

/// Sends `request` (origin form, `Upgrade` kept) on a connection of its own, and after 101 carries bytes until both
/// ends are done, the proxy aborts, or `cut` resolves. What `subject` names stands in errors.
///
/// # Errors
/// [`Reject::UpstreamReset`], or [`Reject::UpgradeRefused`] when the server switches to something else.
pub async fn switch(
    mut request: Request<Payload>,
    mut sender: http1::SendRequest<Payload>,
    verdict: &Verdict,
    drain: &Drain,
    subject: &str,
    exchange: impl FnOnce(u16) -> Option<Exchange>,
    cut: impl Future<Output = ()> + Send + 'static,
) -> Result<Response<Body>, Refusal> {
    let from_client = hyper::upgrade::on(&mut request);
    let asked = request.headers().get(header::UPGRADE).cloned();
    let mut response = sender
        .send_request(request)
        .await
        .map_err(|e| Refusal::new(Reject::UpstreamReset, format!("{subject} ({e})")))?;
    let exchange = exchange(response.status().as_u16());
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        headers::strip(response.headers_mut(), false);
        return Ok(response.map(|body| Body::new(Payload::from(Received::from(body)), exchange)));
    }
    let agreed = response.headers().get(header::UPGRADE);
    let same = matches!((&asked, agreed), (Some(a), Some(b)) if a.as_bytes().eq_ignore_ascii_case(b.as_bytes()));
    if !same {
        return Err(Refusal::new(Reject::UpgradeRefused, subject));
    }
    let from_server = hyper::upgrade::on(&mut response);
    verdict.tunnel();
    let from_client = async { from_client.await.ok().map(TokioIo::new) };
    tokio::spawn(carry(from_client, from_server, drain.clone(), cut, ()));
    headers::strip(response.headers_mut(), true);
    Ok(response.map(|_| Body::new(Payload::Empty, exchange)))
}

/// How long a server may take to say that it knows extended CONNECT: its SETTINGS are its first frame.
const SETTINGS: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(1);

/// The protocol that an extended CONNECT asks for. The request becomes a GET, as it would be with `Upgrade`, so that routes
/// and policies hold for both forms alike.
pub fn extended(parts: &mut Parts) -> Option<Protocol> {
    if parts.method != Method::CONNECT || parts.version != Version::HTTP_2 {
        return None;
    }
    let protocol = parts.extensions.remove::<Protocol>()?;
    parts.method = Method::GET;
    Some(protocol)
}

/// Sends `request` (absolute form, without body) as an extended CONNECT for `protocol` on a connection of its own, and
/// after 2xx carries bytes as [`switch`] does.
///
/// # Errors
/// [`Reject::UpgradeRefused`] when the server does not know extended CONNECT, [`Reject::UpstreamReset`].
pub async fn connect<S: Io>(
    request: Request<Payload>,
    protocol: Protocol,
    upstream: S,
    drain: &Drain,
    subject: &str,
    exchange: impl FnOnce(u16) -> Option<Exchange>,
    cut: impl Future<Output = ()> + Send + 'static,
) -> Result<Response<Body>, Refusal> {
    let reset = |e: hyper::Error| Refusal::new(Reject::UpstreamReset, format!("{subject} ({e})"));
    let (mut sender, connection) = connect::http2_client().handshake(TokioIo::new(upstream)).await.map_err(reset)?;
    let (tell, told) = oneshot::channel();
    tokio::spawn(drive(connection, tell));
    if !matches!(tokio::time::timeout(SETTINGS, told).await, Ok(Ok(()))) {
        return Err(Refusal::new(Reject::UpgradeRefused, format!("{subject} (no extended CONNECT)")));
    }
    let (mut parts, _) = request.into_parts();
    let from_client = parts.extensions.remove::<Turn>();
    let from_client = from_client.ok_or_else(|| Refusal::new(Reject::UpgradeRefused, subject))?;
    parts.method = Method::CONNECT;
    parts.version = Version::HTTP_2;
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.extensions.insert(protocol);
    let mut response = sender.send_request(Request::from_parts(parts, Payload::Empty)).await.map_err(reset)?;
    let exchange = exchange(response.status().as_u16());
    headers::strip(response.headers_mut(), false);
    if !response.status().is_success() {
        return Ok(response.map(|body| Body::new(Payload::from(Received::from(body)), exchange)));
    }
    let from_server = hyper::upgrade::on(&mut response);
    response.headers_mut().remove(header::CONTENT_LENGTH);
    tokio::spawn(carry(from_client.tunnel(), from_server, drain.clone(), cut, sender));
    Ok(response.map(|_| Body::new(Payload::Empty, exchange)))
}

/// Runs a client's connection to its end; `tell` hears when the server's SETTINGS allow extended CONNECT, which a client
/// must wait for (RFC 8441 section 3). hyper reads them in a task of its own and wakes nobody: hence the ticks, until then.
async fn drive<S: Io>(connection: http2::Connection<TokioIo<S>, Payload, TokioExecutor>, tell: oneshot::Sender<()>) {
    let mut connection = std::pin::pin!(connection);
    let mut tell = Some(tell);
    let mut ticks = tokio::time::interval(TICK);
    let ended = std::future::poll_fn(|cx| {
        let polled = connection.as_mut().poll(cx);
        while tell.is_some() {
            if connection.is_extended_connect_protocol_enabled() {
                tell.take().map(|tell| tell.send(()));
            } else if tell.as_ref().is_some_and(oneshot::Sender::is_closed) {
                tell = None; // nobody waits any longer
            } else if ticks.poll_tick(cx).is_pending() {
                break;
            }
        }
        polled
    });
    if let Err(error) = ended.await {
        tracing::debug!(%error, "an upgraded connection ended");
    }
}

/// Bytes both ways until both ends are done, the proxy aborts, or `cut` resolves; `held` is let go then.
async fn carry<C: Io, T: Send>(
    from_client: impl Future<Output = Option<C>> + Send,
    from_server: OnUpgrade,
    drain: Drain,
    cut: impl Future<Output = ()> + Send,
    held: T,
) {
    let _busy = drain.busy();
    let _held = held;
    let (Some(client), Ok(server)) = tokio::join!(from_client, from_server) else { return };
    let count = Count::default();
    tokio::select! {
        r = relay::run(client, TokioIo::new(server), &count) => {
            if let Err(error) = r {
                tracing::debug!(%error, "an upgraded connection ended");
            }
        }
        () = drain.reached(Phase::Abort) => {}
        () = cut => {}
    }
}
