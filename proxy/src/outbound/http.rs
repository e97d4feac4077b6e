//! HTTP requests that leave: route, split, endpoint, and the request upstream. One request is one call of [`handle`].

use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use causeway_mesh::config::{Destination, Kind};
use causeway_mesh::reject::Reject;
use causeway_mesh::route::{self, Route};
use causeway_mesh::split::{self, Split, SplitKey};
use causeway_mesh::{detect, name};
use http::header::{self, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Response, Uri, Version, request::Parts};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;

use super::{Named, Outbound, dial};
use crate::access_log::Line;
use crate::body::{Body, Payload};
use crate::clock;
use crate::connect;
use crate::endpoint::{BackendState, EndpointState, Pending};
use crate::guarded::{STAND_IN_METHOD, Verdict};
use crate::headers::{self, HOP_HTTP1, View};
use crate::metrics::{Exchange, Peers, Series};
use crate::pool::Lease;
use crate::relay::{Io, Prefixed};
use crate::reply::{Refusal, body_refusal};
use crate::server;
use crate::target::Target;
use crate::tls::Alpn;

/// Serves the HTTP connection of an application.
pub async fn serve<S: Io>(outbound: Arc<Outbound>, stream: S, first: BytesMut, named: Named) {
    let drain = outbound.drain.clone();
    if detect::classify(&first) == detect::Detected::Http2 {
        let stream = Prefixed::new(first, stream);
        server::http2(stream, &drain, |request| {
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
struct Account {
    started: Instant,
    grpc: bool,
    line: Option<Line>,
    /// Known once the destination is.
    target: Option<Arc<Target>>,
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

/// Metric handles of requests that no endpoint served.
fn refused_series(outbound: &Outbound, target: Option<&Target>) -> Arc<Series> {
    let make = |service: &str, namespace: &str| {
        let own = outbound.own.names();
        outbound.metrics.series(Peers {
            reporter: "source".to_owned(),
            source_workload: own.workload,
            source_workload_namespace: own.namespace,
            source_principal: outbound.own.id_text(),
            destination_workload: "unknown".to_owned(),
            destination_workload_namespace: "unknown".to_owned(),
            destination_principal: "unknown".to_owned(),
            destination_service: match service {
                "unknown" => service.to_owned(),
                _ => format!("{service}.{namespace}.svc.{}", own.cluster_domain),
            },
            destination_service_name: service.to_owned(),
            destination_service_namespace: namespace.to_owned(),
            connection_security_policy: "unknown".to_owned(),
        })
    };
    match target {
        // What clients make up is counted under one name, or the metrics would grow with it.
        Some(target) if !target.destination.service_name.is_empty() => {
            let d = &target.destination;
            Arc::clone(target.refused.get_or_init(|| make(&d.service_name, &d.service_namespace)))
        }
        _ => Arc::clone(outbound.refused.get_or_init(|| make("unknown", "unknown"))),
    }
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
    let call = Call { outbound, target: &target, backend, authority: &authority, is_http2, route };
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

/// One request on its way to one backend.
pub struct Call<'c> {
    /// Shared state.
    pub outbound: &'c Arc<Outbound>,
    /// Where it goes.
    pub target: &'c Target,
    /// None: outside of the mesh.
    pub backend: Option<Arc<BackendState>>,
    /// As the client named it.
    pub authority: &'c str,
    /// The client speaks HTTP/2.
    pub is_http2: bool,
    /// The route that won.
    pub route: Option<&'c Route>,
}

impl Call<'_> {
    async fn send(self, parts: Parts, body: Incoming, account: &mut Account) -> Result<Response<Body>, Refusal> {
        let Some(backend) = self.backend.clone() else {
            return self.send_outside(parts, body, account).await;
        };
        let mut request = Request::from_parts(parts, Payload::from(body));
        let mut tried: Vec<Arc<EndpointState>> = Vec::new();
        let mut last = Refusal::new(Reject::NoEndpoints, &*backend.backend.name);
        let mut resends = 0;
        while tried.len() < dial::ATTEMPTS {
            let Some(state) = backend.choose(&tried) else { break };
            self.outbound.permit_address(state.address())?;
            let pending = state.begin();
            match self.attempt(&backend, &state, request, pending, account).await {
                Ok(response) => return Ok(response),
                Err(Failed::Sent(refusal)) => return Err(refusal),
                Err(Failed::Unsent(refusal, unsent)) => {
                    last = refusal;
                    request = *unsent;
                    // A kept connection that was just closing says nothing of the endpoint: try it again, with a bound.
                    resends += 1;
                    if last.reject != Reject::UpstreamReset || resends > dial::ATTEMPTS {
                        state.failed();
                        tried.push(state);
                    }
                }
            }
        }
        Err(last)
    }

    async fn attempt(
        &self,
        backend: &Arc<BackendState>,
        state: &Arc<EndpointState>,
        mut request: Request<Payload>,
        pending: Pending,
        account: &mut Account,
    ) -> Result<Response<Body>, Failed> {
        let meshed = connect::identity(backend, state).is_some();
        let began = clock::now();
        let (result, lease) = if meshed || self.is_http2 {
            let mut stream = match connect::http2_stream(&self.outbound.tls, backend, state).await {
                Ok(stream) => stream,
                Err(refusal) => return Err(Failed::Unsent(refusal, Box::new(request))),
            };
            self.for_http2(&mut request, meshed)?;
            (stream.sender.try_send_request(request).await, Lease::Http2(stream.in_flight))
        } else {
            let timeout = backend.backend.connect_timeout.unwrap_or(connect::CONNECT_TIMEOUT);
            let mut checkout = match connect::http1_checkout(state, timeout).await {
                Ok(checkout) => checkout,
                Err(refusal) => return Err(Failed::Unsent(refusal, Box::new(request))),
            };
            self.for_http1(&mut request)?;
            (checkout.sender.try_send_request(request).await, Lease::Http1(checkout))
        };
        match result {
            Ok(response) => {
                state.observe(clock::now().duration_since(began));
                drop(pending);
                if let Some(line) = &mut account.line {
                    line.upstream = format!("{} {}", backend.backend.name, state.address());
                }
                let series = series(self.outbound, self.target, backend, state);
                Ok(answer(self.outbound, response, Some(series), Some(lease), account))
            }
            Err(mut error) => {
                let message = error.take_message();
                let error = error.into_error();
                let refusal = Refusal::new(Reject::UpstreamReset, format!("{} ({error})", backend.backend.name));
                Err(match message {
                    Some(request) => Failed::Unsent(refusal, Box::new(request)),
                    None => Failed::Sent(refusal),
                })
            }
        }
    }

    /// A request with `Upgrade`, on a connection of its own.
    async fn switch(
        self,
        parts: Parts,
        body: Incoming,
        verdict: &Verdict,
        account: &mut Account,
    ) -> Result<Response<Body>, Refusal> {
        let mut request = Request::from_parts(parts, Payload::from(body));
        to_origin_form(&mut request, self.authority)?;
        let failed = |e: hyper::Error| Refusal::new(Reject::ConnectFailed, e.to_string());
        let (upstream, series) = match &self.backend {
            Some(backend) => {
                let (upstream, state) = dial::connect(self.outbound, backend, Alpn::H1).await?;
                (upstream, Some(series(self.outbound, self.target, backend, &state)))
            }
            None => {
                let text = super::external(&self.target.destination).unwrap_or(&self.target.text);
                (connect::Upstream::Plain(dial::unknown(self.outbound, text, None).await?), None)
            }
        };
        let sender = connect::http1(upstream).await.map_err(failed)?;
        let subject = &*self.target.destination.canonical;
        let (log, started, line) = (&self.outbound.log, account.started, account.line.take());
        let exchange = |code| {
            let exchange = Exchange::new(series, "http", started, code);
            Some(match line {
                Some(line) => exchange.with_log(log.clone(), line),
                None => exchange,
            })
        };
        let never = std::future::pending();
        crate::upgrade::switch(request, sender, verdict, &self.outbound.drain, subject, exchange, never).await
    }

    /// A destination outside of the mesh: plain HTTP/1.1 or HTTP/2, a connection each.
    async fn send_outside(
        self,
        parts: Parts,
        body: Incoming,
        account: &mut Account,
    ) -> Result<Response<Body>, Refusal> {
        let text = super::external(&self.target.destination).unwrap_or(&self.target.text);
        let stream = dial::unknown(self.outbound, text, None).await?;
        let failed = |e: &dyn std::fmt::Display| Refusal::new(Reject::UpstreamReset, format!("{text} ({e})"));
        let mut request = Request::from_parts(parts, Payload::from(body));
        let response = if self.is_http2 {
            self.for_http2(&mut request, false).map_err(Failed::refusal)?;
            connect::http2(stream).await.map_err(|e| failed(&e))?.send_request(request).await
        } else {
            self.for_http1(&mut request).map_err(Failed::refusal)?;
            connect::http1(stream).await.map_err(|e| failed(&e))?.send_request(request).await
        };
        let response = response.map_err(|e| failed(&e))?;
        Ok(answer(self.outbound, response, None, None, account))
    }

    fn for_http2(&self, request: &mut Request<Payload>, meshed: bool) -> Result<(), Failed> {
        let refused = |_| Failed::Sent(Refusal::new(Reject::BadRequest, "target"));
        if request.uri().authority().is_none() || request.uri().scheme().is_none() {
            let authority: Authority =
                self.authority.parse().map_err(|_| Failed::Sent(Refusal::new(Reject::BadRequest, "host")))?;
            let mut uri = std::mem::take(request.uri_mut()).into_parts();
            uri.scheme = Some(Scheme::HTTP);
            uri.authority = Some(authority);
            uri.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
            *request.uri_mut() = Uri::from_parts(uri).map_err(refused)?;
        }
        *request.version_mut() = Version::HTTP_2;
        request.headers_mut().remove(header::HOST);
        if meshed && !self.is_http2 {
            request.headers_mut().insert(HOP_HTTP1, HeaderValue::from_static("1"));
        }
        Ok(())
    }

    /// Origin form with one `Host`.
    pub fn for_http1(&self, request: &mut Request<Payload>) -> Result<(), Failed> {
        to_origin_form(request, self.authority).map_err(Failed::Sent)
    }
}

/// Makes `request` an HTTP/1.1 request in origin form with exactly one `Host`.
pub fn to_origin_form(request: &mut Request<Payload>, authority: &str) -> Result<(), Refusal> {
    let host = HeaderValue::from_str(authority).map_err(|_| Refusal::new(Reject::BadRequest, "host"))?;
    if request.uri().authority().is_some() {
        let path = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from(path);
    }
    *request.version_mut() = Version::HTTP_11;
    request.headers_mut().insert(header::HOST, host);
    Ok(())
}

/// What an attempt came to when no response did.
pub enum Failed {
    /// Not a byte was sent: try again, elsewhere or here.
    Unsent(Refusal, Box<Request<Payload>>),
    /// It may have been acted upon.
    Sent(Refusal),
}

impl Failed {
    fn refusal(self) -> Refusal {
        match self {
            Self::Unsent(refusal, _) | Self::Sent(refusal) => refusal,
        }
    }
}

/// The response as the client gets it.
fn answer(
    outbound: &Outbound,
    mut response: Response<Incoming>,
    series: Option<Arc<Series>>,
    lease: Option<Lease>,
    account: &mut Account,
) -> Response<Body> {
    headers::strip(response.headers_mut(), false);
    let protocol = if account.grpc { "grpc" } else { "http" };
    let mut exchange = Exchange::new(series, protocol, account.started, response.status().as_u16());
    if let Some(lease) = lease {
        exchange = exchange.with_lease(lease);
    }
    if let Some(line) = account.line.take() {
        exchange = exchange.with_log(outbound.log.clone(), line);
    }
    response.map(|body| Body::new(Payload::from(body), Some(exchange)))
}

/// The metric handles of an endpoint, made on its first use.
pub fn series(outbound: &Outbound, target: &Target, backend: &BackendState, state: &EndpointState) -> Arc<Series> {
    let series = state.series.get_or_init(|| {
        let identity = connect::identity(backend, state);
        let service = &backend.backend;
        let own = outbound.own.names();
        outbound.metrics.series(Peers {
            reporter: "source".to_owned(),
            source_workload: own.workload,
            source_workload_namespace: own.namespace,
            source_principal: outbound.own.id_text(),
            destination_workload: state.endpoint.workload_name.clone(),
            destination_workload_namespace: state.endpoint.namespace.clone(),
            destination_principal: identity.map(ToString::to_string).unwrap_or_default(),
            destination_service: if service.service.is_empty() {
                target.destination.canonical.to_string()
            } else {
                format!("{}.{}.svc.{}", service.service, service.namespace, own.cluster_domain)
            },
            destination_service_name: service.service.clone(),
            destination_service_namespace: service.namespace.clone(),
            connection_security_policy: if identity.is_some() { "mutual_tls" } else { "none" }.to_owned(),
        })
    });
    Arc::clone(series)
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
