//! One try of a request at one endpoint: a connection, the request upstream, and what came of it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use causeway_mesh::balance::outlier::status_of_grpc;
use causeway_mesh::config::Protocol;
use causeway_mesh::config::action::retry::{self, Cause};
use causeway_mesh::reject::Reject;
use causeway_mesh::spiffe::SpiffeId;
use http::header::{HeaderMap, HeaderValue};
use http::{Request, Response};
use http_body::Body as _;

use super::call::Call;
use super::form::{to_http2_of, to_origin_form};
use crate::body::{Payload, Received};
use crate::clock;
use crate::connect;
use crate::endpoint::{BackendState, EndpointState, Outcome};
use crate::headers::HOP_HTTP1;
use crate::link::Broken;
use crate::pool::Lease;
use crate::reply::{ERROR_HEADER, Refusal};

/// A response.
pub struct Got {
    /// As it came.
    pub response: Response<Received>,
    /// To be given back at its end.
    pub lease: Lease,
    /// Who answered.
    pub state: Arc<EndpointState>,
    /// The endpoint's proxy answered, for want of a response of its application.
    pub cause: Option<Cause>,
}

/// No response.
pub struct Failed {
    /// What the client is told if it stays so.
    pub refusal: Refusal,
    /// None: another try would come to the same.
    pub cause: Option<Cause>,
    /// Not a byte of the request was sent: it is where it was.
    pub is_unsent: bool,
    /// A kept connection was just closing, and the request not looked at. This says nothing of the endpoint.
    pub was_closing: bool,
}

impl Failed {
    fn never(refusal: Refusal) -> Self {
        Self { refusal, cause: None, is_unsent: false, was_closing: false }
    }

    /// No connection.
    fn unsent(refusal: Refusal) -> Self {
        let cause = (refusal.reject != Reject::CircuitOpen).then_some(Cause::Connect);
        Self { refusal, cause, is_unsent: true, was_closing: false }
    }

    fn broken(backend: &BackendState, broken: &Broken) -> Self {
        Self {
            refusal: Refusal::new(broken.reject(), format!("{} ({broken})", backend.backend.name)),
            cause: Some(if broken.is_unprocessed() { Cause::Refused } else { Cause::Reset }),
            is_unsent: broken.is_unsent,
            was_closing: broken.is_unsent || broken.is_closing(),
        }
    }
}

fn reset(backend: &BackendState, error: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(Reject::UpstreamReset, format!("{} ({error})", backend.backend.name))
}

impl Got {
    fn grpc(&self) -> Option<u32> {
        self.response.headers().get("grpc-status").and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok())
    }
}

/// As the rule for retries sees it.
pub fn outcome(tried: &Result<Got, Failed>) -> retry::Outcome {
    match tried {
        Ok(got) => retry::Outcome { cause: got.cause, status: got.response.status().as_u16(), grpc: got.grpc() },
        Err(failed) => retry::Outcome { cause: failed.cause, status: failed.refusal.status(), grpc: None },
    }
}

impl Call<'_> {
    /// One try, which ends at the latest `until`. The request is taken out of its place once it is sent.
    pub(super) async fn attempt(
        &self,
        backend: &Arc<BackendState>,
        state: &Arc<EndpointState>,
        request: &mut Request<Payload>,
        until: Option<tokio::time::Instant>,
    ) -> Result<Got, Failed> {
        let pending = state.begin();
        let began = clock::now();
        let sent = pin!(self.transmit(backend, state, request));
        let tried = match until {
            None => sent.await,
            Some(until) => tokio::time::timeout_at(until, sent).await.unwrap_or_else(|_| {
                let refusal = Refusal::new(Reject::UpstreamTimeout, &*backend.backend.name);
                Err(Failed { cause: Some(Cause::Timeout), ..Failed::never(refusal) })
            }),
        };
        drop(pending);
        if let Some(ending) = ending(&tried, began) {
            backend.ended(state, ending);
        }
        tried
    }

    async fn transmit(
        &self,
        backend: &Arc<BackendState>,
        state: &Arc<EndpointState>,
        request: &mut Request<Payload>,
    ) -> Result<Got, Failed> {
        let identity = connect::identity(backend, state);
        let is_http1 = !self.app_has_http2(backend) && (identity.is_none() || goes_alone(backend, state, request));
        if is_http1 && let Some(got) = self.over_http1(backend, state, request, identity).await? {
            return Ok(got);
        }
        self.over_http2(backend, state, request, identity.is_some()).await
    }

    async fn over_http2(
        &self,
        backend: &Arc<BackendState>,
        state: &Arc<EndpointState>,
        request: &mut Request<Payload>,
        meshed: bool,
    ) -> Result<Got, Failed> {
        let stream = connect::http2_stream(&self.outbound.tls, backend, state).await.map_err(Failed::unsent)?;
        let link = stream.link();
        let is_tls = !meshed && backend.backend.tls.is_some();
        to_http2_of(request, || link.authority(self.authority), is_tls).map_err(Failed::never)?;
        if meshed && !self.app_has_http2(backend) {
            request.headers_mut().insert(HOP_HTTP1, HeaderValue::from_static("1"));
        }
        let broken = |broken: Broken| Failed::broken(backend, &broken);
        let response = link.send(request).map_err(broken)?.await.map_err(broken)?;
        let cause = if meshed { told(response.headers()) } else { None };
        Ok(Got { response, lease: Lease::Http2(stream), state: Arc::clone(state), cause })
    }

    /// None: to an endpoint of the mesh, all connections that it may have beside the shared ones are in use.
    async fn over_http1(
        &self,
        backend: &Arc<BackendState>,
        state: &Arc<EndpointState>,
        request: &mut Request<Payload>,
        identity: Option<&SpiffeId>,
    ) -> Result<Option<Got>, Failed> {
        let mut checkout = match identity {
            None => connect::http1_checkout(backend, state).await.map_err(Failed::unsent)?,
            Some(identity) => {
                let beside = connect::http1_beside(&self.outbound.tls, backend, state, identity).await;
                let Some(checkout) = beside.map_err(Failed::unsent)? else { return Ok(None) };
                checkout
            }
        };
        to_origin_form(request, self.authority).map_err(Failed::never)?;
        match checkout.send(request).await {
            Ok(response) => {
                let cause = identity.and_then(|_| told(response.headers()));
                Ok(Some(Got { response, lease: Lease::Http1(checkout), state: Arc::clone(state), cause }))
            }
            Err(unanswered) => {
                let (refusal, is_unsent) = (reset(backend, &unanswered.error), unanswered.is_unsent);
                Err(Failed { refusal, cause: Some(Cause::Reset), is_unsent, was_closing: is_unsent })
            }
        }
    }

    /// Where its port declares HTTP/2 the application is spoken to so; else as the client speaks, also where HTTP/1.1 is
    /// declared: a client that knows better is right.
    fn app_has_http2(&self, backend: &BackendState) -> bool {
        self.is_http2 || backend.backend.protocol == Protocol::Http2
    }
}

/// Whether a request to an endpoint of the mesh may have an HTTP/1.1 connection to itself, which is cheaper and faster than a
/// shared one where little goes on. Only what may be sent twice: a proxy that closes such a connection cannot say what it
/// has not read, as it can in HTTP/2. Not what has more fields than the guard of the other side lets pass. Nor where
/// connections are limited: the one for all is not to wait for the few.
fn goes_alone(backend: &BackendState, state: &EndpointState, request: &Request<Payload>) -> bool {
    let may_be_sent_twice = request.method().is_safe() && request.body().is_end_stream();
    // One more may come: Host.
    let fits = || request.headers().len() < causeway_mesh::http1::Limits::default().headers;
    state.is_quiet() && may_be_sent_twice && !backend.is_watched() && fits()
}

/// As outlier detection sees it; None: it says nothing of the endpoint.
fn ending(tried: &Result<Got, Failed>, began: Instant) -> Option<Outcome> {
    let cause = match tried {
        Ok(got) => got.cause,
        Err(failed) if failed.was_closing => return None,
        Err(failed) => Some(failed.cause?),
    };
    Some(match (cause, tried) {
        (Some(Cause::Connect), _) => Outcome::ConnectFailed,
        (Some(Cause::Timeout), _) => Outcome::TimedOut,
        (Some(Cause::Refused | Cause::Reset), _) | (None, Err(_)) => Outcome::Reset,
        (None, Ok(got)) => {
            let status = got.grpc().map_or(got.response.status().as_u16(), status_of_grpc);
            Outcome::Answered { status, after: clock::now().duration_since(began) }
        }
    })
}

/// What the proxy of an endpoint says in place of its application: that it does not listen, as when its pod has just
/// ended; that the proxy is not ready; that it broke off; or that it did not look at the request. Only a proxy can say so, since it strips what applications
/// say in its name.
fn told(headers: &HeaderMap) -> Option<Cause> {
    let code = headers.get(ERROR_HEADER)?.as_bytes();
    let is = |reject: Reject| reject.code().as_bytes() == code;
    match () {
        () if is(Reject::ConnectFailed) || is(Reject::ConnectTimeout) || is(Reject::NotReady) => Some(Cause::Connect),
        () if is(Reject::UpstreamReset) => Some(Cause::Reset),
        () if is(Reject::UpstreamRefused) => Some(Cause::Refused),
        () => None,
    }
}
