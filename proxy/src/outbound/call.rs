//! One request to one backend: an endpoint, a connection, the request upstream, and another endpoint where nothing was
//! sent yet.

use std::sync::Arc;

use causeway_mesh::reject::Reject;
use http::header::{self, HeaderMap, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri, Version, request::Parts};
use http_body::Body as _;
use hyper::body::Incoming;

use super::http::Account;
use super::series::series;
use super::{Outbound, dial};
use crate::body::{Body, Payload, kept};
use crate::clock;
use crate::connect;
use crate::endpoint::{BackendState, EndpointState, Pending};
use crate::guarded::Verdict;
use crate::headers::{self, HOP_HTTP1};
use crate::metrics::{Exchange, Series};
use crate::pool::{self, Lease};
use crate::reply::{DETAIL_HEADER, ERROR_HEADER, Refusal};
use crate::target::Target;
use crate::tls::Alpn;

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
}

impl Call<'_> {
    pub async fn send(self, parts: Parts, body: Incoming, account: &mut Account) -> Result<Response<Body>, Refusal> {
        let Some(backend) = self.backend.clone() else {
            return self.send_outside(parts, body, account).await;
        };
        let (mut request, again) = Again::prepare(parts, body, backend.reachable() > 1);
        let mut tried: Vec<Arc<EndpointState>> = Vec::new();
        let mut last = Refusal::new(Reject::NoEndpoints, &*backend.backend.name);
        let mut resends = 0;
        while tried.len() < dial::ATTEMPTS {
            let Some(state) = backend.choose(&tried) else { break };
            self.outbound.permit_address(state.address())?;
            let pending = state.begin();
            let is_last = again.is_none() || tried.len() + 1 >= dial::ATTEMPTS.min(backend.reachable());
            match self.attempt(&backend, &state, request, pending, is_last, account).await {
                Ok(response) => return Ok(response),
                Err(Failed::Sent(refusal)) => return Err(refusal),
                Err(Failed::Unseen(refusal)) => {
                    state.failed();
                    tried.push(state);
                    match again.as_ref().and_then(Again::request) {
                        Some(anew) => (request, last) = (anew, refusal),
                        None => return Err(refusal),
                    }
                }
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
        is_last: bool,
        account: &mut Account,
    ) -> Result<Response<Body>, Failed> {
        let meshed = connect::identity(backend, state).is_some();
        let began = clock::now();
        let mut spare = None;
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
            spare = if checkout.is_reused { pool::spare(&request) } else { None };
            (checkout.sender.try_send_request(request).await, Lease::Http1(checkout))
        };
        match result {
            Ok(response) => {
                if let (true, false, Some(refusal)) = (meshed, is_last, unseen(response.headers())) {
                    return Err(Failed::Unseen(refusal));
                }
                state.observe(clock::now().duration_since(began));
                drop(pending);
                if let Some(line) = &mut account.line {
                    line.upstream = format!("{} {}", backend.backend.name, state.address());
                }
                let series = series(self.outbound, self.target, backend, state);
                Ok(answer(self.outbound, response, Some(series), Some(lease), account))
            }
            Err(mut error) => {
                let message = error.take_message().or(spare);
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
    pub async fn switch(
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
        request.headers_mut().remove(header::TRANSFER_ENCODING); // of an attempt by HTTP/1 before this one
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

/// Makes `request` an HTTP/1.1 request in origin form with exactly one `Host` and its framing.
pub fn to_origin_form(request: &mut Request<Payload>, authority: &str) -> Result<(), Refusal> {
    let host = HeaderValue::from_str(authority).map_err(|_| Refusal::new(Reject::BadRequest, "host"))?;
    if request.uri().authority().is_some() {
        let path = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from(path);
    }
    *request.version_mut() = Version::HTTP_11;
    request.headers_mut().insert(header::HOST, host);
    // Unless told so hyper sends no body of unknown length with GET, HEAD and CONNECT.
    if !request.body().is_end_stream() && request.body().size_hint().exact().is_none() {
        request.headers_mut().remove(header::CONTENT_LENGTH);
        request.headers_mut().insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    Ok(())
}

/// What the proxy of an endpoint says where its application has not seen the request: the application does not listen,
/// as when its pod has just ended, or the proxy is not ready. Only a proxy can say so, since it strips what applications
/// say in its name.
fn unseen(headers: &HeaderMap) -> Option<Refusal> {
    let code = headers.get(ERROR_HEADER)?.as_bytes();
    let reject = [Reject::ConnectFailed, Reject::ConnectTimeout, Reject::NotReady]
        .into_iter()
        .find(|reject| reject.code().as_bytes() == code)?;
    let detail = headers.get(DETAIL_HEADER).and_then(|v| v.to_str().ok()).unwrap_or_default();
    Some(Refusal::new(reject, detail))
}

/// From which a request is made once more, for another endpoint.
struct Again {
    head: Request<()>,
    /// None: nothing in it.
    body: Option<kept::Original>,
}

impl Again {
    /// The request, and what it takes to make it again where there is anywhere else to send it.
    fn prepare(parts: Parts, body: Incoming, elsewhere: bool) -> (Request<Payload>, Option<Self>) {
        if !elsewhere {
            return (Request::from_parts(parts, Payload::from(body)), None);
        }
        let mut head = Request::new(());
        *head.method_mut() = parts.method.clone();
        *head.uri_mut() = parts.uri.clone();
        *head.version_mut() = parts.version;
        *head.headers_mut() = parts.headers.clone();
        match Payload::from(body) {
            Payload::Stream(body) => {
                let (body, original) = kept::keep(body);
                let again = Self { head, body: Some(original) };
                (Request::from_parts(parts, Payload::Kept(body)), Some(again))
            }
            payload => (Request::from_parts(parts, payload), Some(Self { head, body: None })),
        }
    }

    /// None: the body was too long to be kept.
    fn request(&self) -> Option<Request<Payload>> {
        let body = match &self.body {
            Some(original) => Payload::Kept(original.again()?),
            None => Payload::Empty,
        };
        let (parts, ()) = self.head.clone().into_parts();
        Some(Request::from_parts(parts, body))
    }
}

/// What an attempt came to when no response did.
pub enum Failed {
    /// The endpoint's proxy answered that the application has not seen it: try another endpoint.
    Unseen(Refusal),
    /// Not a byte was sent: try again, elsewhere or here.
    Unsent(Refusal, Box<Request<Payload>>),
    /// It may have been acted upon.
    Sent(Refusal),
}

impl Failed {
    fn refusal(self) -> Refusal {
        match self {
            Self::Unsent(refusal, _) | Self::Sent(refusal) | Self::Unseen(refusal) => refusal,
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
