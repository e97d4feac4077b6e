//! One try of a request at one endpoint: a connection, the request upstream, and what came of it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use causeway_mesh::balance::outlier::status_of_grpc;
use causeway_mesh::config::Protocol;
use causeway_mesh::config::action::retry::{self, Cause};
use causeway_mesh::reject::Reject;
use http::header::{HeaderMap, HeaderValue};
use http::{Request, Response};

use super::call::Call;
use super::form::{to_http2, to_origin_form};
use crate::body::{Payload, Received};
use crate::clock;
use crate::connect;
use crate::endpoint::{BackendState, EndpointState, Outcome};
use crate::headers::HOP_HTTP1;
use crate::pool::{self, Lease};
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
}

impl Failed {
    fn never(refusal: Refusal) -> Self {
        Self { refusal, cause: None, is_unsent: false }
    }

    /// A kept connection that was just closing says nothing of its endpoint.
    pub fn was_closing(&self) -> bool {
        self.is_unsent && self.refusal.reject == Reject::UpstreamReset
    }
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
                Err(Failed { refusal, cause: Some(Cause::Timeout), is_unsent: false })
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
        let meshed = connect::identity(backend, state).is_some();
        let app_has_http2 = self.app_has_http2(backend);
        let mut spare = None;
        let unsent = |refusal: Refusal| {
            let cause = (refusal.reject != Reject::CircuitOpen).then_some(Cause::Connect);
            Err(Failed { refusal, cause, is_unsent: true })
        };
        let take = |request: &mut Request<Payload>| std::mem::replace(request, Request::new(Payload::Empty));
        let (result, lease) = if meshed || app_has_http2 {
            let mut stream = match connect::http2_stream(&self.outbound.tls, backend, state).await {
                Ok(stream) => stream,
                Err(refusal) => return unsent(refusal),
            };
            to_http2(request, self.authority, !meshed && backend.backend.tls.is_some()).map_err(Failed::never)?;
            if meshed && !app_has_http2 {
                request.headers_mut().insert(HOP_HTTP1, HeaderValue::from_static("1"));
            }
            (stream.sender.try_send_request(take(request)).await, Lease::Http2(stream.in_flight))
        } else {
            let mut checkout = match connect::http1_checkout(backend, state).await {
                Ok(checkout) => checkout,
                Err(refusal) => return unsent(refusal),
            };
            to_origin_form(request, self.authority).map_err(Failed::never)?;
            spare = if checkout.is_reused { pool::spare(request) } else { None };
            (checkout.sender.try_send_request(take(request)).await, Lease::Http1(checkout))
        };
        match result {
            Ok(response) => {
                let cause = if meshed { told(response.headers()) } else { None };
                Ok(Got { response: response.map(Received::from), lease, state: Arc::clone(state), cause })
            }
            Err(mut error) => {
                let unsent = error.take_message().or(spare);
                let is_unsent = unsent.is_some();
                if let Some(unsent) = unsent {
                    *request = unsent;
                }
                let error = error.into_error();
                let cause = Some(if is_unprocessed(&error) { Cause::Refused } else { Cause::Reset });
                let refusal = Refusal::new(Reject::UpstreamReset, format!("{} ({error})", backend.backend.name));
                Err(Failed { refusal, cause, is_unsent })
            }
        }
    }

    /// Where its port declares HTTP/2 the application is spoken to so; else as the client speaks, also where HTTP/1.1 is
    /// declared: a client that knows better is right.
    fn app_has_http2(&self, backend: &BackendState) -> bool {
        self.is_http2 || backend.backend.protocol == Protocol::Http2
    }
}

/// As outlier detection sees it; None: it says nothing of the endpoint.
fn ending(tried: &Result<Got, Failed>, began: Instant) -> Option<Outcome> {
    let cause = match tried {
        Ok(got) => got.cause,
        Err(failed) if failed.was_closing() => return None,
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
/// ended; that the proxy is not ready; or that it broke off. Only a proxy can say so, since it strips what applications
/// say in its name.
fn told(headers: &HeaderMap) -> Option<Cause> {
    let code = headers.get(ERROR_HEADER)?.as_bytes();
    let is = |reject: Reject| reject.code().as_bytes() == code;
    match () {
        () if is(Reject::ConnectFailed) || is(Reject::ConnectTimeout) || is(Reject::NotReady) => Some(Cause::Connect),
        () if is(Reject::UpstreamReset) => Some(Cause::Reset),
        () => None,
    }
}

/// Whether the server says that it has not looked at the request (RFC 9113 section 8.7): the stream was refused, or it is
/// after the last one that a connection's orderly end names.
fn is_unprocessed(error: &hyper::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            let is_end = error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR);
            return is_end || (error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM));
        }
        source = error.source();
    }
    false
}
