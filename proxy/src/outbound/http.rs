//! HTTP requests that leave: route, split, endpoint, and the request upstream. One request is one call of [`handle`].

use std::sync::Arc;

use bytes::BytesMut;
use causeway_mesh::config::Kind;
use causeway_mesh::reject::Reject;
use causeway_mesh::route::Selected;
use causeway_mesh::split::{self, Picked, Split, SplitKey};
use causeway_mesh::{detect, name};
use http::header;
use http::uri::Scheme;
use http::{Method, Request, Response, Version, request::Parts};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::actions::{self, After, Going};
use super::call::Call;
use super::prepared::Prepared;
use super::series::refused_series;
use super::{Named, Outbound, by_name, dial, hash, mirror};
use crate::access_log::Line;
use crate::body::copied::Source;
use crate::body::{Body, Payload, Received};
use crate::clock;
use crate::endpoint::BackendState;
use crate::guarded::{STAND_IN_METHOD, Verdict};
use crate::headers::{self, View};
use crate::metrics::Exchange;
use crate::relay::{Io, Prefixed};
use crate::reply::{Refusal, body_refusal};
use crate::server;
use crate::streams;
use crate::target::Target;

/// Serves the HTTP connection of an application.
pub async fn serve<S: Io>(outbound: Arc<Outbound>, stream: S, first: BytesMut, named: Named) {
    let drain = outbound.drain.clone();
    if detect::classify(&first) == detect::Detected::Http2 {
        let stream = Prefixed::new(first, stream);
        // In a box, for which a connection of HTTP/1 has no room.
        Box::pin(streams::serve(stream, None, &drain, move |request| {
            let (outbound, named) = (Arc::clone(&outbound), named.clone());
            async move { handle(&outbound, &named, request, None).await }
        }))
        .await;
    } else {
        server::http1(stream, first, None, &drain, |request, verdict| {
            let (outbound, named) = (Arc::clone(&outbound), named.clone());
            async move { handle(&outbound, &named, request, Some(verdict)).await }
        })
        .await;
    }
}

/// Facts about a request that its account needs whatever becomes of it.
pub struct Account {
    /// When its head had come.
    pub started: std::time::Instant,
    /// Errors must be said the way of gRPC.
    pub grpc: bool,
    /// Where the access log wants one.
    pub line: Option<Box<Line>>,
    /// Known once the destination is.
    pub target: Option<Arc<Target>>,
    /// What befell it without an error, as metrics and log name it.
    pub flag: &'static str,
    /// What is still to be done to the response.
    pub after: After,
}

/// Serves one request. `verdict` is that of an HTTP/1 connection.
pub async fn handle(
    outbound: &Arc<Outbound>,
    named: &Named,
    request: Request<Received>,
    verdict: Option<Arc<Verdict>>,
) -> Response<Body> {
    let mut account = Account {
        started: clock::now(),
        grpc: headers::is_grpc(request.headers()),
        line: outbound.log.is_on().then(|| Box::new(line(&request))),
        target: None,
        flag: "-",
        after: After::default(),
    };
    let refusal = match &verdict {
        Some(verdict) if request.method().as_str() == STAND_IN_METHOD => Refusal::from_verdict(verdict),
        _ => match route_request(outbound, named, request, verdict.as_ref(), &mut account).await {
            Ok(mut response) => {
                account.after.apply(response.headers_mut());
                return response;
            }
            Err(refusal) => body_refusal(verdict.as_deref(), refusal),
        },
    };
    let after = std::mem::take(&mut account.after);
    let mut response = refuse(outbound, &refusal, account);
    after.apply(response.headers_mut());
    response
}

fn line(request: &Request<Received>) -> Line {
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
        Exchange::new(Some(series), protocol, account.started, refusal.status()).flagged(refusal.reject.flag());
    if let Some(mut line) = account.line {
        line.error = refusal.header();
        exchange = exchange.with_log(outbound.log.clone(), line);
    }
    response.map(|payload| Body::new(payload, Some(exchange)))
}

async fn route_request(
    outbound: &Arc<Outbound>,
    named: &Named,
    request: Request<Received>,
    verdict: Option<&Arc<Verdict>>,
    account: &mut Account,
) -> Result<Response<Body>, Refusal> {
    let is_http2 = request.version() == Version::HTTP_2;
    let (mut parts, body) = request.into_parts();
    let extended = crate::upgrade::extended(&mut parts);
    if parts.method == Method::CONNECT {
        return tunnel(outbound, named, Request::from_parts(parts, body), verdict);
    }
    let authority = match (headers::authority(&parts)?, named) {
        (none, Named::Fixed(text, _)) if none.is_empty() => text.to_string(), // HTTP/1.0 may have no host
        (authority, _) => authority,
    };
    let parsed = name::host_port(&authority).map_err(|e| Refusal::new(Reject::BadRequest, format!("host: {e}")))?;
    let target = match named {
        Named::Fixed(text, _) => by_name::of_request(outbound, resolve(outbound, text).await?, &parsed.host).await,
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
    let chosen = {
        let view = View { parts: &parts, host: &parsed.host, path: parts.uri.path() };
        choose_route(&target, &view)?
    };
    if let (Some(line), Some(selected)) = (&mut account.line, chosen.selected) {
        selected.route.name.clone_into_string(&mut line.route);
    }
    let upgrade = (!is_http2).then(|| headers::upgrade(&parts.headers)).flatten();
    headers::strip(&mut parts.headers, upgrade.is_some());
    headers::strip_ours(&mut parts.headers);
    parts.headers.remove(header::EXPECT);
    account.after.prepared = chosen.prepared.map(Arc::clone);
    let going = chosen.selected.map(|selected| Going { selected, host: &parsed });
    let filters = chosen.selected.and_then(|selected| selected.route.filters.as_deref());
    if let Some(going) = &going {
        if let Some(filters) = filters
            && let Some(answer) = Box::pin(actions::before(outbound, filters, going, &parts, account)).await?
        {
            return Ok(answer);
        }
        if let Some(answer) = actions::answer(outbound, going, &parts, account)? {
            return Ok(answer);
        }
    }
    let until = chosen.selected.and_then(|s| s.route.timeout).and_then(|time| Instant::now().checked_add(time));
    let backend = match chosen.split {
        Some(split) => {
            let picked = pick(outbound, &target, split, chosen.prepared, &mut parts)?;
            account.after.place = Some(picked.place);
            Some(Arc::clone(dial::backend(&target, picked)?))
        }
        None => None,
    };
    let hashed = backend.as_ref().map(|b| hash::of(&outbound.own, &b.backend, &parts)).unwrap_or_default();
    account.after.cookie = hashed.set_cookie;
    let rewritten = match (filters, &going) {
        (Some(filters), Some(going)) => actions::rewrite(filters, going, &mut parts)?,
        _ => None,
    };
    let authority = rewritten.as_deref().unwrap_or(&authority);
    let body = match filters {
        Some(filters) if !filters.mirrors.is_empty() && upgrade.is_none() && extended.is_none() => {
            mirror::begin(outbound, &target, &filters.mirrors, (&parts, body), authority, is_http2)
        }
        _ => Source::from(body),
    };
    let retry = chosen.selected.and_then(|selected| selected.route.retry.as_deref());
    let host = chosen.leaves_heads().then_some(&*parsed.host);
    let call = Call { outbound, target: &target, backend, authority, host, is_http2, retry, hash: hashed.value, until };
    if upgrade.is_some() {
        let verdict = verdict.ok_or_else(|| Refusal::new(Reject::UpgradeRefused, "http/2"))?;
        return Box::pin(call.switch(parts, body, verdict, account)).await;
    }
    if let Some(protocol) = extended {
        return Box::pin(call.connect(parts, protocol, account)).await;
    }
    call.send(parts, body, account).await
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
    Box::pin(outbound.targets.resolve(text)).await.map_err(|e| Refusal::new(Reject::NotReady, format!("{text} ({e})")))
}

/// What the configuration has for a request.
#[derive(Default)]
struct Chosen<'t> {
    /// None: there are no routes.
    selected: Option<Selected<'t>>,
    /// None: the destination is outside of the mesh, or the route answers itself.
    split: Option<&'t Split>,
    /// None: heads stay as they are.
    prepared: Option<&'t Arc<Prepared>>,
}

impl Chosen<'_> {
    /// Whether a head goes on as it came, wherever it goes.
    fn leaves_heads(&self) -> bool {
        let has_filters = self.selected.is_some_and(|selected| selected.route.filters.is_some());
        !has_filters && self.prepared.is_none_or(|prepared| prepared.is_plain)
    }
}

/// The route that wins and its split.
fn choose_route<'t>(target: &'t Target, view: &View<'_>) -> Result<Chosen<'t>, Refusal> {
    let destination = &target.destination;
    if matches!(destination.kind, Kind::Unknown | Kind::External) {
        return Ok(Chosen::default());
    }
    let no_route = || Refusal::new(Reject::NoRoute, &*destination.canonical);
    if destination.routes.is_empty() {
        let split = Some(destination.split.as_ref().ok_or_else(no_route)?);
        return Ok(Chosen { split, ..Chosen::default() });
    }
    let selected = destination.routes.select(view).ok_or_else(no_route)?;
    let prepared = target.prepared.get(selected.index).and_then(Option::as_ref);
    Ok(Chosen { selected: Some(selected), split: selected.route.split(), prepared })
}

/// The backend for a request, whose head is changed as the route and the share say.
fn pick(
    outbound: &Outbound,
    target: &Target,
    split: &Split,
    prepared: Option<&Arc<Prepared>>,
    parts: &mut Parts,
) -> Result<Picked, Refusal> {
    let given = prepared.and_then(|p| p.version.as_ref()).and_then(|name| parts.headers.get(name));
    // A version that has no endpoint is no reason to fail: the request is as one without.
    let given = given
        .and_then(|version| split.of_version(version.to_str().ok()?))
        .filter(|picked| target.backends.get(picked.backend).is_some_and(|b| !b.endpoints().is_empty()));
    let picked = match given {
        Some(picked) => picked,
        None => dial::pick(target, split, key(outbound, split, parts).as_deref())?,
    };
    if let Some(prepared) = prepared {
        let share = prepared.shares.get(picked.place);
        prepared.request.apply(&mut parts.headers);
        if let Some(share) = share {
            share.request.apply(&mut parts.headers);
        }
        if let (Some(name), Some(version)) = (&prepared.version, share.and_then(|s| s.version.as_ref())) {
            parts.headers.insert(name, version.clone());
        }
    }
    Ok(picked)
}

/// Where a request goes by `target`, a newer configuration than it came by, with its hash there. None where that changes
/// heads or does anything else on the way, since its head has been made for another backend.
pub fn routed_again(
    outbound: &Outbound,
    target: &Target,
    host: &str,
    parts: &Parts,
) -> Option<(Arc<BackendState>, Option<u64>)> {
    let chosen = choose_route(target, &View { parts, host, path: parts.uri.path() }).ok()?;
    let split = chosen.split.filter(|_| chosen.leaves_heads())?;
    let picked = dial::pick(target, split, key(outbound, split, parts).as_deref()).ok()?;
    let backend = dial::backend(target, picked).ok()?;
    Some((Arc::clone(backend), hash::of(&outbound.own, &backend.backend, parts).value))
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
    request: Request<Received>,
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

#[cfg(test)]
mod tests;
