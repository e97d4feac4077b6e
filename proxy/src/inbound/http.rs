//! HTTP requests that come in: the verdict, the headers that only we may set, and the request to the application.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use causeway_mesh::name;
use causeway_mesh::policy::{self, Decision, Denied, Permit, authorize};
use causeway_mesh::reject::Reject;
use h2::ext::Protocol;
use http::header;
use http::uri::{Authority, Scheme};
use http::{Method, Request, Response, Uri, Version, request::Parts};

use super::Conn;
use crate::access_log::Line;
use crate::body::{Body, Payload, Received};
use crate::clock;
use crate::connect::{self, CONNECT_TIMEOUT, Upstream};
use crate::guarded::{STAND_IN_METHOD, Verdict};
use crate::headers::{self, HOP_HTTP1, View, XFCC};
use crate::limit::Told;
use crate::link::Link;
use crate::metrics::Exchange;
use crate::pool::{Bounds, InFlight, Lease};
use crate::relay::Io;
use crate::reply::{Refusal, body_refusal};
use crate::server;
use crate::streams;
use crate::upgrade;

/// Times that a request is sent again because a kept connection was closing when it was picked.
const RESENDS: usize = 4;

/// Serves HTTP/1 of a peer, until its certificate ends.
pub async fn serve_http1<S: Io>(conn: Arc<Conn>, stream: S, first: BytesMut, until: Option<Instant>) {
    let drain = conn.inbound.drain.clone();
    server::http1(stream, first, until, &drain, |request, verdict| {
        let conn = Arc::clone(&conn);
        async move { handle(&conn, request, Some(verdict)).await }
    })
    .await;
}

/// Serves HTTP/2 of a peer, until its certificate ends.
pub async fn serve_http2<S: Io>(conn: Arc<Conn>, stream: S, until: Option<Instant>) {
    let drain = conn.inbound.drain.clone();
    streams::serve(stream, until, &drain, move |request| {
        let conn = Arc::clone(&conn);
        async move { handle(&conn, request, None).await }
    })
    .await;
}

struct Account {
    started: Instant,
    grpc: bool,
    line: Option<Box<Line>>,
    /// Kubelet's, which metrics of requests leave out: they say nothing of callers.
    is_probe: bool,
}

/// The refusal that tells of a denial: it names the policy, or those of which no rule matched.
pub fn denied(policy: &policy::Inbound, denied: &Denied) -> Refusal {
    match denied {
        Denied::Policy(name, rule) => Refusal::new(Reject::Denied, format!("policy {name} rule {rule}")),
        Denied::NoRule => {
            let names: Vec<&str> = policy.policies.iter().filter(|p| p.allow).map(|p| &*p.name).take(5).collect();
            Refusal::new(Reject::Denied, format!("no rule of policy {} allows it", names.join(", ")))
        }
        Denied::Default => Refusal::new(Reject::Denied, "no policy allows it and the default is to deny"),
        Denied::Plaintext => Refusal::new(Reject::PlaintextRefused, ""),
    }
}

async fn handle(conn: &Arc<Conn>, request: Request<Received>, verdict: Option<Arc<Verdict>>) -> Response<Body> {
    let mut account = Account {
        started: clock::now(),
        grpc: headers::is_grpc(request.headers()),
        line: conn.inbound.log.is_on().then(|| Box::new(line(conn, &request))),
        is_probe: false,
    };
    let refusal = match &verdict {
        Some(verdict) if request.method().as_str() == STAND_IN_METHOD => Refusal::from_verdict(verdict),
        _ => match judge_and_forward(conn, request, verdict.as_deref(), &mut account).await {
            Ok(response) => return response,
            Err(refusal) => body_refusal(verdict.as_deref(), refusal),
        },
    };
    conn.inbound.metrics.refuse("inbound", refusal.reject.code());
    let response = if account.grpc { refusal.grpc_response() } else { refusal.response() };
    let series = Some(Arc::clone(&conn.series));
    let protocol = if account.grpc { "grpc" } else { "http" };
    let mut exchange =
        Exchange::new(series, protocol, account.started, refusal.status()).flagged(refusal.reject.flag());
    if let Some(mut line) = account.line {
        line.error = refusal.header();
        exchange = exchange.with_log(conn.inbound.log.clone(), line);
    }
    response.map(|payload| Body::new(payload, Some(exchange)))
}

fn line(conn: &Conn, request: &Request<Received>) -> Line {
    let text = |name: header::HeaderName| {
        request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned()
    };
    Line {
        direction: "inbound",
        kind: "http",
        peer: conn.peer_text(),
        method: request.method().to_string(),
        authority: request.uri().authority().map_or_else(|| text(header::HOST), ToString::to_string),
        path: request.uri().path().to_owned(),
        upstream: conn.app.address().to_string(),
        traceparent: text(header::HeaderName::from_static("traceparent")),
        ..Line::default()
    }
}

async fn judge_and_forward(
    conn: &Arc<Conn>,
    request: Request<Received>,
    verdict: Option<&Verdict>,
    account: &mut Account,
) -> Result<Response<Body>, Refusal> {
    let (mut parts, body) = request.into_parts();
    let extended = upgrade::extended(&mut parts);
    if parts.method == Method::CONNECT {
        return Err(Refusal::new(Reject::BadRequest, "CONNECT"));
    }
    let authority = headers::authority(&parts)?;
    let parsed = match &*authority {
        "" => name::HostPort { host: Cow::Borrowed(""), port: None }, // HTTP/1.0 may have none
        text => name::host_port(text).map_err(|e| Refusal::new(Reject::BadRequest, format!("host: {e}")))?,
    };
    headers::normalise(&mut parts)?;
    let (permit, told) = {
        let policy = conn.inbound.own.inbound();
        let view = View { parts: &parts, host: &parsed.host, path: parts.uri.path() };
        match authorize(&policy, &conn.peer, conn.app.address().port(), &view) {
            Decision::Allow(permit) => {
                account.is_probe = policy::is_probe(&policy, &conn.peer, conn.app.address().port(), &view);
                // Nor do they count against limits: a busy pod is not a dead one.
                (permit, if account.is_probe { None } else { count(conn, &view)? })
            }
            Decision::Deny(why) => return Err(denied(&policy, &why)),
        }
    };
    if let (Some(line), Some(by)) = (&mut account.line, permit.by()) {
        line.route = format!("policy {by}");
    }
    let mut response = forward(conn, permit, parts, body, &authority, Switch { verdict, extended }, account).await?;
    if let Some(told) = told {
        told.write(response.headers_mut());
    }
    Ok(response)
}

/// Counts the request against the limits of the workload.
fn count(conn: &Conn, view: &View<'_>) -> Result<Option<Told>, Refusal> {
    let Some(limits) = conn.inbound.own.limits() else { return Ok(None) };
    conn.inbound.limits.admit(&limits, conn.peer.id(), conn.app.address().port(), view)
}

/// How the request may switch protocols: on an HTTP/1 connection, or by extended CONNECT.
struct Switch<'v> {
    verdict: Option<&'v Verdict>,
    extended: Option<Protocol>,
}

/// Sends the request to the application. Only who holds a permit can call this.
async fn forward(
    conn: &Arc<Conn>,
    _permit: Permit,
    mut parts: Parts,
    body: Received,
    authority: &str,
    switch: Switch<'_>,
    account: &mut Account,
) -> Result<Response<Body>, Refusal> {
    let Switch { verdict, extended } = switch;
    let is_http2 = parts.version == Version::HTTP_2 && !parts.headers.contains_key(HOP_HTTP1);
    let asked = verdict.and_then(|_| headers::upgrade(&parts.headers));
    headers::strip(&mut parts.headers, asked.is_some());
    headers::strip_ours(&mut parts.headers);
    parts.headers.remove(header::EXPECT);
    if let Some(xfcc) = &conn.xfcc {
        parts.headers.insert(XFCC, xfcc.clone());
    }
    let mut request = Request::from_parts(parts, Payload::from(body));
    if is_http2 {
        let mut uri = std::mem::take(request.uri_mut()).into_parts();
        uri.scheme = Some(Scheme::HTTP);
        *request.uri_mut() = Uri::from_parts(uri).map_err(|_| Refusal::new(Reject::BadRequest, "target"))?;
        request.headers_mut().remove(header::HOST);
    } else {
        join_cookies(request.headers_mut());
        crate::outbound::to_origin_form(&mut request, authority)?;
    }
    if let (Some(_), Some(verdict)) = (&asked, verdict) {
        return Box::pin(self::switch(conn, request, verdict, account)).await;
    }
    if let Some(protocol) = extended {
        return Box::pin(connect_extended(conn, request, protocol, account)).await;
    }
    let _pending = conn.app.begin();
    let (response, lease) = send(conn, request, is_http2).await?;
    let mut exchange = Exchange::new(
        (!account.is_probe).then(|| Arc::clone(&conn.series)),
        if account.grpc { "grpc" } else { "http" },
        account.started,
        response.status().as_u16(),
    )
    .with_lease(lease);
    if let Some(line) = account.line.take() {
        exchange = exchange.with_log(conn.inbound.log.clone(), line);
    }
    let mut response = response;
    headers::strip(response.headers_mut(), false);
    headers::strip_ours(response.headers_mut());
    Ok(response.map(|body| Body::new(Payload::from(body), Some(exchange))))
}

/// HTTP/2 may carry cookies in pieces; HTTP/1.1 has one field (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut http::HeaderMap) {
    let mut pieces = headers.get_all(header::COOKIE).iter();
    if pieces.next().is_some() && pieces.next().is_some() {
        let joined: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(header::HeaderValue::as_bytes).collect();
        if let Ok(joined) = header::HeaderValue::from_bytes(&joined.join(&b"; "[..])) {
            headers.insert(header::COOKIE, joined);
        }
    }
}

async fn send(
    conn: &Conn,
    mut request: Request<Payload>,
    is_http2: bool,
) -> Result<(Response<Received>, Lease), Refusal> {
    let app = conn.app.address();
    for resent in 0..RESENDS {
        if is_http2 {
            let stream = app_stream(conn).await?;
            let sent = match stream.link().send(&mut request) {
                Ok(sending) => sending.await,
                Err(broken) => Err(broken),
            };
            match sent {
                Ok(response) => return Ok((response, Lease::Http2(stream))),
                Err(broken) if broken.is_unsent => continue,
                Err(broken) => return Err(Refusal::new(broken.reject(), format!("{app} ({broken})"))),
            }
        }
        let mut checkout = connect::http1_to_app(&conn.app, CONNECT_TIMEOUT).await?;
        if resent > 0 {
            checkout.stand_in();
        }
        match checkout.send(&mut request).await {
            Ok(response) => return Ok((response, Lease::Http1(checkout))),
            Err(unanswered) if unanswered.is_unsent => {}
            Err(unanswered) => {
                return Err(Refusal::new(Reject::UpstreamReset, format!("{app} ({})", unanswered.error)));
            }
        }
    }
    Err(Refusal::new(Reject::UpstreamReset, app.to_string()))
}

async fn app_stream(conn: &Conn) -> Result<InFlight, Refusal> {
    match conn.app.http2.stream(Bounds::default()) {
        Some(stream) => Ok(stream),
        None => Box::pin(conn.app.http2.opened(Bounds::default(), || open_app_stream(conn))).await,
    }
}

async fn open_app_stream(conn: &Conn) -> Result<InFlight, Refusal> {
    let stream = connect::tcp(conn.app.address(), CONNECT_TIMEOUT).await?;
    let link = Link::open(Upstream::Plain(stream))
        .await
        .map_err(|e| Refusal::new(Reject::ConnectFailed, format!("{} http/2: {e}", conn.app.address())))?;
    Ok(conn.app.http2.add(link, None, None, None))
}

async fn switch(
    conn: &Arc<Conn>,
    request: Request<Payload>,
    verdict: &Verdict,
    account: &mut Account,
) -> Result<Response<Body>, Refusal> {
    let app = conn.app.address();
    let failed = |e: hyper::Error| Refusal::new(Reject::ConnectFailed, format!("{app} ({e})"));
    let sender = connect::http1(Upstream::Plain(connect::tcp(app, CONNECT_TIMEOUT).await?)).await.map_err(failed)?;
    let exchange = exchange_of(conn, account);
    let cut = rejudged(conn, &request);
    let subject = app.to_string();
    let mut response = upgrade::switch(request, sender, verdict, &conn.inbound.drain, &subject, exchange, cut).await?;
    headers::strip_ours(response.headers_mut());
    Ok(response)
}

/// As [`switch`], for an extended CONNECT.
async fn connect_extended(
    conn: &Arc<Conn>,
    request: Request<Payload>,
    protocol: Protocol,
    account: &mut Account,
) -> Result<Response<Body>, Refusal> {
    let upstream = connect::tcp(conn.app.address(), CONNECT_TIMEOUT).await?;
    let exchange = exchange_of(conn, account);
    let cut = rejudged(conn, &request);
    let subject = conn.app.address().to_string();
    let mut response =
        upgrade::connect(request, protocol, upstream, &conn.inbound.drain, &subject, exchange, cut).await?;
    headers::strip_ours(response.headers_mut());
    Ok(response)
}

/// The account of a request that switches, once its status is known.
fn exchange_of(conn: &Conn, account: &mut Account) -> impl FnOnce(u16) -> Option<Exchange> + use<> {
    let (series, log, started) = (Arc::clone(&conn.series), conn.inbound.log.clone(), account.started);
    let line = account.line.take();
    move |code| {
        let exchange = Exchange::new(Some(series), "http", started, code);
        Some(match line {
            Some(line) => exchange.with_log(log, line),
            None => exchange,
        })
    }
}

/// Returns when a change of policy denies the request that an upgraded connection began with.
fn rejudged(conn: &Arc<Conn>, request: &Request<Payload>) -> impl Future<Output = ()> + Send + use<> {
    let conn = Arc::clone(conn);
    let mut parts = Request::new(()).into_parts().0;
    parts.method = request.method().clone();
    parts.uri = request.uri().clone();
    parts.headers = request.headers().clone();
    let mut changes = conn.inbound.own.changes();
    async move {
        loop {
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            let host = parts.headers.get(header::HOST).and_then(|v| v.to_str().ok());
            let host = host.or(parts.uri.authority().map(Authority::as_str)).unwrap_or_default();
            let host = name::host_port(host).map(|h| h.host.into_owned()).unwrap_or_default();
            let view = View { parts: &parts, host: &host, path: parts.uri.path() };
            let policy = conn.inbound.own.inbound();
            let verdict = authorize(&policy, &conn.peer, conn.app.address().port(), &view);
            if let Decision::Deny(why) = verdict {
                let reason = denied(&policy, &why).header();
                tracing::info!(peer = %conn.peer_text(), %reason, "upgraded connection cut: policy changed");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
