//! HTTP requests that leave: route, split, endpoint, and the request upstream. One request is one call of [`handle`].

use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use causeway_mesh::config::{Destination, Kind};
use causeway_mesh::reject::Reject;
use causeway_mesh::route::{self, Route};
use causeway_mesh::split::{self, Split, SplitKey};
use causeway_mesh::{detect, name};
use http::header;
use http::uri::Scheme;
use http::{Method, Request, Response, Version, request::Parts};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;

use super::call::Call;
use super::series::refused_series;
use super::{Named, Outbound, dial};
use crate::access_log::Line;
use crate::body::{Body, Payload};
use crate::clock;
use crate::guarded::{STAND_IN_METHOD, Verdict};
use crate::headers::{self, View};
use crate::metrics::Exchange;
use crate::relay::{Io, Prefixed};
use crate::reply::{Refusal, body_refusal};
use crate::server;
use crate::target::Target;

/// Serves the HTTP connection of an application.
pub async fn serve<S: Io>(outbound: Arc<Outbound>, stream: S, first: BytesMut, named: Named) {
    let drain = outbound.drain.clone();
    if detect::classify(&first) == detect::Detected::Http2 {
        let stream = Prefixed::new(first, stream);
        server::http2(stream, None, &drain, |request| {
            let (outbound, named) = (Arc::clone(&outbound), named.clone());
            async move { handle(&outbound, &named, request, None).await }
        })
        .await;
    } else {
        server::http1(stream, first, &drain, |request, verdict| {
            let (outbound, named) = (Arc::clone(&outbound), named.clone());
            async move { handle(&outbound, &named, request, Some(verdict)).await }
        })
        .await;
    }
}

/// Facts about a request that its account needs whatever becomes of it.
pub struct Account {
    /// When its head had come.
    pub started: Instant,
    /// Errors must be said the way of gRPC.
    pub grpc: bool,
    /// Where the access log wants one.
    pub line: Option<Line>,
    /// Known once the destination is.
    pub target: Option<Arc<Target>>,
}

/// Serves one request. `verdict` is that of an HTTP/1 connection.
pub async fn handle(
    outbound: &Arc<Outbound>,
    named: &Named,
    request: Request<Incoming>,
    verdict: Option<Arc<Verdict>>,
) -> Response<Body> {
    let mut account = Account {
        started: clock::now(),
        grpc: headers::is_grpc(request.headers()),
        line: outbound.log.is_on().then(|| line(&request)),
        target: None,
    };
    let refusal = match &verdict {
        Some(verdict) if request.method().as_str() == STAND_IN_METHOD => Refusal::from_verdict(verdict),
        _ => match route_request(outbound, named, request, verdict.as_ref(), &mut account).await {
            Ok(response) => return response,
            Err(refusal) => body_refusal(verdict.as_deref(), refusal),
        },
    };
    refuse(outbound, &refusal, account)
}

fn line(request: &Request<Incoming>) -> Line {
    let text = |name: header::HeaderName| {
        request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned()
    };
    Line {
        direction: "outbound",
        kind: "http",
        method: request.method().to_string(),
        authority: request.uri().authority().map_or_else(|| text(header::HOST), ToString::to_string),
        path: request.uri().path().to_owned(),
        traceparent: text(header::HeaderName::from_static("traceparent")),
        ..Line::default()
    }
}

fn refuse(outbound: &Outbound, refusal: &Refusal, account: Account) -> Response<Body> {
    outbound.metrics.refuse("outbound", refusal.reject.code());
    let response = if account.grpc { refusal.grpc_response() } else { refusal.response() };
    let protocol = if account.grpc { "grpc" } else { "http" };
    let series = refused_series(outbound, account.target.as_deref());
    let mut exchange =
        Exchange::new(Some(series), protocol, account.started, refusal.reject.status()).flagged(refusal.reject.flag());
    if let Some(mut line) = account.line {
        line.error = refusal.header();
        exchange = exchange.with_log(outbound.log.clone(), line);
    }
    response.map(|payload| Body::new(payload, Some(exchange)))
}

async fn route_request(
    outbound: &Arc<Outbound>,
    named: &Named,
    request: Request<Incoming>,
    verdict: Option<&Arc<Verdict>>,
    account: &mut Account,
) -> Result<Response<Body>, Refusal> {
    let is_http2 = request.version() == Version::HTTP_2;
    let (mut parts, body) = request.into_parts();
    if parts.method == Method::CONNECT {
        return tunnel(outbound, named, Request::from_parts(parts, body), verdict);
    }
    let authority = match (headers::authority(&parts)?, named) {
        (none, Named::Fixed(text, _)) if none.is_empty() => text.to_string(), // HTTP/1.0 may have no host
        (authority, _) => authority,
    };
    let parsed = name::host_port(&authority).map_err(|e| Refusal::new(Reject::BadRequest, format!("host: {e}")))?;
    let target = match named {
        Named::Fixed(text, _) => resolve(outbound, text).await?,
        Named::ByRequest => {
            if parts.uri.scheme().is_some_and(|s| *s != Scheme::HTTP) {
                return Err(Refusal::new(Reject::BadRequest, "use CONNECT for https"));
            }
            let port = parsed.port.unwrap_or(80);
            resolve(outbound, &name::subscription(&parsed.host, port)).await?
        }
    };
    account.target = Some(Arc::clone(&target));
    headers::normalise(&mut parts)?;
    if target.destination.kind == Kind::Unknown && !outbound.own.egress_allowed() {
        return Err(Refusal::new(Reject::EgressDenied, &*target.text));
    }
    let (route, split) = {
        let view = View { parts: &parts, host: &parsed.host, path: parts.uri.path() };
        choose_route(&target.destination, &view)?
    };
    if let (Some(line), Some(route)) = (&mut account.line, route) {
        route.name.clone_into_string(&mut line.route);
    }
    let upgrade = (!is_http2).then(|| headers::upgrade(&parts.headers)).flatten();
    headers::strip(&mut parts.headers, upgrade.is_some());
    headers::strip_ours(&mut parts.headers);
    parts.headers.remove(header::EXPECT);
    let backend = match split {
        Some(split) => {
            let key = key(outbound, split, &parts);
            Some(Arc::clone(dial::pick(&target, split, key.as_deref())?))
        }
        None => None,
    };
    let call = Call { outbound, target: &target, backend, authority: &authority, is_http2 };
    if upgrade.is_some() {
        let verdict = verdict.ok_or_else(|| Refusal::new(Reject::UpgradeRefused, "http/2"))?;
        return call.switch(parts, body, verdict, account).await;
    }
    let sent = call.send(parts, body, account);
    match route.and_then(|r| r.timeout) {
        Some(timeout) => tokio::time::timeout(timeout, sent)
            .await
            .unwrap_or_else(|_| Err(Refusal::new(Reject::UpstreamTimeout, &*target.destination.canonical))),
        None => sent.await,
    }
}

trait CloneInto {
    fn clone_into_string(&self, into: &mut String);
}

impl CloneInto for Arc<str> {
    fn clone_into_string(&self, into: &mut String) {
        into.clear();
        into.push_str(self);
    }
}

async fn resolve(outbound: &Outbound, text: &str) -> Result<Arc<Target>, Refusal> {
    if let Some(target) = outbound.targets.held(text) {
        target.touch(|| outbound.targets.touch(text));
        return Ok(target);
    }
    outbound.targets.resolve(text).await.map_err(|e| Refusal::new(Reject::NotReady, format!("{text} ({e})")))
}

/// The route that wins and its split; no split at all where the destination is outside of the mesh.
fn choose_route<'d>(
    destination: &'d Destination,
    view: &View<'_>,
) -> Result<(Option<&'d Route>, Option<&'d Split>), Refusal> {
    if matches!(destination.kind, Kind::Unknown | Kind::External) {
        return Ok((None, None));
    }
    if destination.routes.is_empty() {
        return match &destination.split {
            Some(split) => Ok((None, Some(split))),
            None => Err(Refusal::new(Reject::NoRoute, &*destination.canonical)),
        };
    }
    let route = route::select(&destination.routes, view)
        .ok_or_else(|| Refusal::new(Reject::NoRoute, &*destination.canonical))?;
    Ok((Some(route), Some(&route.split)))
}

/// The value of a sticky split's key; None: not sticky, or the request has no such value and is drawn at random.
fn key(outbound: &Outbound, split: &Split, parts: &Parts) -> Option<Vec<u8>> {
    match split.key.as_ref()? {
        SplitKey::Header(name) => parts.headers.get(name).map(|v| v.as_bytes().to_vec()),
        SplitKey::Cookie(name) => {
            let cookies = parts.headers.get_all(header::COOKIE).iter().filter_map(|v| v.to_str().ok());
            split::cookie(cookies, name).map(|v| v.as_bytes().to_vec())
        }
        SplitKey::SourceIdentity => Some(outbound.own.id_bytes()),
    }
}

/// CONNECT: the tunnel is a connection to the named destination like any other, found by what it speaks.
fn tunnel(
    outbound: &Arc<Outbound>,
    named: &Named,
    request: Request<Incoming>,
    verdict: Option<&Arc<Verdict>>,
) -> Result<Response<Body>, Refusal> {
    let (Named::ByRequest, Some(verdict)) = (named, verdict) else {
        return Err(Refusal::new(Reject::BadRequest, "CONNECT is for the explicit proxy"));
    };
    let text = request
        .uri()
        .authority()
        .and_then(|authority| name::host_port(authority.as_str()).ok())
        .and_then(|parsed| Some(name::subscription(&parsed.host, parsed.port?)))
        .ok_or_else(|| Refusal::new(Reject::BadRequest, "CONNECT needs host:port"))?;
    verdict.tunnel();
    let outbound = Arc::clone(outbound);
    let busy = outbound.drain.busy();
    tokio::spawn(async move {
        let _busy = busy;
        match hyper::upgrade::on(request).await {
            Ok(upgraded) => Box::pin(outbound.serve_fixed(TokioIo::new(upgraded), text.into(), None)).await,
            Err(error) => tracing::debug!(%error, "a tunnel did not come about"),
        }
    });
    Ok(Response::new(Body::new(Payload::Empty, None)))
}
