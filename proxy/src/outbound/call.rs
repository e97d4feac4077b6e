//! One request to one backend: a try at an endpoint, and others where the first came to nothing: elsewhere where no
//! application has seen it, and as often as its route says.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use causeway_mesh::config::action::Retry;
use causeway_mesh::config::action::retry::{Cause, Outcome};
use causeway_mesh::reject::Reject;
use http::{Request, Response, request::Parts};
use tokio::time::Instant;

use super::again::{self, Again};
use super::attempt::{Failed, Got, outcome};
use super::form::{to_http2, to_origin_form};
use super::http::Account;
use super::series::series;
use super::{Outbound, dial};
use crate::body::copied::Source;
use crate::body::{Body, Payload, Received};
use crate::clock;
use crate::connect;
use crate::endpoint::{BackendState, EndpointState, Entered, Retrying};
use crate::guarded::Verdict;
use crate::headers;
use crate::metrics::Exchange;
use crate::reply::Refusal;
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
    /// As the client named it, or as its route does.
    pub authority: &'c str,
    /// The host that it was routed by; None where its head is not as it came, so that it cannot be routed again.
    pub host: Option<&'c str>,
    /// The client speaks HTTP/2.
    pub is_http2: bool,
    /// When to try again.
    pub retry: Option<&'c Retry>,
    /// Of the request's key, for the choice of an endpoint.
    pub hash: Option<u64>,
    /// When all tries together end.
    pub until: Option<Instant>,
}

/// What comes after a try.
enum Next {
    /// Another one whatever the route says: no application has seen the request, and there is another endpoint, or a
    /// connection that was only closing.
    Elsewhere,
    /// The same, once an endpoint takes the place of the last one, which has served and is gone: its pod has just ended, and
    /// the configuration that names its successor, or leads elsewhere, is on its way.
    Awaited,
    /// What the route says.
    AsRuled,
}

/// What came while the successor of the last endpoint was awaited.
enum Came {
    /// An endpoint.
    Endpoint,
    /// Another backend, by a newer configuration, and the request's hash there.
    Backend(Arc<BackendState>, Option<u64>),
    Nothing,
}

/// Where a request goes in place of its first backend.
type Elsewhere = OnceLock<(Arc<BackendState>, Entered)>;

/// How long is waited for the successor of the last endpoint.
const REPLACED: Duration = Duration::from_secs(1);

/// The tries so far.
#[derive(Default)]
struct Tries {
    /// Endpoints that came to nothing.
    tried: Vec<Arc<EndpointState>>,
    /// Requests that a closing connection gave back.
    resent: usize,
    /// Tries by the route's rule.
    retries: u32,
    /// Held while such a try is under way.
    budget: Option<Retrying>,
    /// What the last one came to, where it was no response.
    last: Option<Refusal>,
}

/// The place of the request, and what it takes to put it there once more.
struct Anew<'r> {
    request: &'r mut Request<Payload>,
    again: &'r Again,
    is_unsent: bool,
}

impl<'r> Anew<'r> {
    /// None: the body was too long to be kept.
    fn make(self) -> Option<&'r mut Request<Payload>> {
        if !self.is_unsent {
            *self.request = self.again.request()?;
        }
        Some(self.request)
    }
}

impl Call<'_> {
    /// Sends the request and gives the response as the client gets it.
    ///
    /// # Errors
    /// What the last try came to.
    pub async fn send(self, parts: Parts, body: Source, account: &mut Account) -> Result<Response<Body>, Refusal> {
        let request = Request::from_parts(parts, Payload::from(body));
        let Some(backend) = &self.backend else {
            let sent = Box::pin(self.send_outside(request));
            let response = match self.until {
                None => sent.await?,
                Some(until) => tokio::time::timeout_at(until, sent).await.unwrap_or_else(|_| Err(self.late()))?,
            };
            return Ok(answer(self.outbound, response, account, |exchange| exchange));
        };
        let entered = backend.enter()?;
        let elsewhere = Elsewhere::new();
        let got = self.exchange(backend, &elsewhere, request, &mut account.flag).await?;
        let elsewhere = elsewhere.into_inner();
        let (backend, entered) = elsewhere.map_or((Cow::Borrowed(backend), entered), |(b, e)| (Cow::Owned(b), e));
        if let Some(line) = &mut account.line {
            line.upstream = format!("{} {}", backend.backend.name, got.state.address());
        }
        let series = series(self.outbound, self.target, &backend, &got.state);
        Ok(answer(self.outbound, got.response, account, |exchange| {
            exchange.of(series).with_lease(got.lease).within(entered)
        }))
    }

    /// Sends a copy of a request, whose response is nobody's.
    ///
    /// # Errors
    /// What the last try came to.
    pub async fn send_copy(self, request: Request<Payload>) -> Result<Got, Refusal> {
        let backend = self.backend.as_ref().ok_or_else(|| Refusal::new(Reject::NoEndpoints, self.authority))?;
        let _entered = backend.enter()?;
        self.exchange(backend, &Elsewhere::new(), request, &mut "-").await
    }

    fn late(&self) -> Refusal {
        Refusal::new(Reject::UpstreamTimeout, &*self.target.destination.canonical)
    }

    /// Tries until there is a response, or no other try is allowed. `flag` is set where the route's tries are used up,
    /// `elsewhere` where its backend has nobody left and the configuration that has come by then leads to another.
    async fn exchange<'b>(
        &self,
        mut backend: &'b Arc<BackendState>,
        elsewhere: &'b Elsewhere,
        request: Request<Payload>,
        flag: &mut &'static str,
    ) -> Result<Got, Refusal> {
        let rule = self.retry.filter(|rule| rule.attempts > 0 && !again::is_retry(request.headers()));
        let (mut request, again) = Again::prepare(request);
        let (mut tries, mut hash) = (Tries::default(), self.hash);
        loop {
            let Some(state) = tries.next(backend, hash) else {
                let none = || Refusal::new(Reject::NoEndpoints, &*backend.backend.name);
                return Err(tries.last.take().unwrap_or_else(none));
            };
            self.outbound.permit_address(state.address())?;
            let tried = self.attempt(backend, &state, &mut request, self.try_until()).await;
            tries.budget = None;
            let outcome = outcome(&tried);
            let next = tries.note(backend, state, &tried, &outcome);
            let mut is_unsent = tried.as_ref().is_err_and(|failed| failed.is_unsent);
            let mut is_free = matches!(next, Next::Elsewhere);
            if matches!(next, Next::Awaited)
                && (Anew { request: &mut request, again: &again, is_unsent }).make().is_some()
            {
                is_unsent = true; // it is in its place again
                match Box::pin(self.awaited(backend, &tries.tried, &mut request)).await {
                    Came::Endpoint => is_free = true,
                    Came::Backend(other, of_other) if elsewhere.get().is_none() => {
                        let entered = other.enter()?;
                        backend = &elsewhere.get_or_init(|| (other, entered)).0;
                        (tries.tried, hash, is_free) = (Vec::new(), of_other, true);
                    }
                    Came::Backend(..) | Came::Nothing => {}
                }
            }
            let anew = Anew { request: &mut request, again: &again, is_unsent };
            let goes_on = if is_free {
                anew.make().is_some()
            } else if let Some(rule) = rule.filter(|rule| rule.covers(&outcome)) {
                Box::pin(self.once_more(rule, backend, &mut tries, anew, flag)).await
            } else {
                false
            };
            match (goes_on, tried) {
                (true, tried) => tries.last = tried.err().map(|failed| failed.refusal),
                (false, Ok(got)) => return Ok(got),
                (false, Err(failed)) => return Err(failed.refusal),
            }
        }
    }

    /// Waits for the successor of the last endpoint, or for a configuration that leads the request, which is in its place,
    /// elsewhere.
    async fn awaited(
        &self,
        backend: &Arc<BackendState>,
        tried: &[Arc<EndpointState>],
        request: &mut Request<Payload>,
    ) -> Came {
        let newer = async {
            let Some(host) = self.host else { return std::future::pending().await };
            let mut last = Cow::Borrowed(&self.target.destination);
            loop {
                let target = self.outbound.targets.newer(&self.target.text, &last).await;
                let (parts, body) = std::mem::replace(request, Request::new(Payload::Empty)).into_parts();
                let found = super::http::routed_again(self.outbound, &target, host, &parts);
                *request = Request::from_parts(parts, body);
                match found.filter(|(other, _)| !Arc::ptr_eq(other, backend)) {
                    Some((other, hash)) => return Came::Backend(other, hash),
                    None => last = Cow::Owned(Arc::clone(&target.destination)),
                }
            }
        };
        tokio::select! {
            biased;
            came = newer => came,
            is_replaced = backend.is_replaced(tried, self.patience()) => {
                if is_replaced { Came::Endpoint } else { Came::Nothing }
            }
        }
    }

    /// How long a request waits for an endpoint where the last one has just gone.
    fn patience(&self) -> Duration {
        self.until.map_or(REPLACED, |until| until.saturating_duration_since(Instant::now()).min(REPLACED))
    }

    /// When the next try ends.
    fn try_until(&self) -> Option<Instant> {
        let own = self.retry.and_then(|rule| rule.try_timeout).and_then(|time| Instant::now().checked_add(time));
        own.into_iter().chain(self.until).min()
    }

    /// Makes the request for another try by the route's rule, after the wait before it; false: the last try's outcome
    /// stands.
    async fn once_more(
        &self,
        rule: &Retry,
        backend: &BackendState,
        tries: &mut Tries,
        anew: Anew<'_>,
        flag: &mut &'static str,
    ) -> bool {
        let metrics = &self.outbound.metrics;
        let wait = rule.wait(tries.retries + 1, clock::unit());
        if self.until.is_some_and(|until| Instant::now() + wait >= until) {
            return false;
        }
        if tries.retries >= rule.attempts {
            metrics.retry("limit");
            *flag = "URX";
            return false;
        }
        let Some(budget) = backend.retry() else {
            metrics.retry("no_budget");
            return false;
        };
        let Some(request) = anew.make() else {
            metrics.retry("no_body");
            return false;
        };
        tries.retries += 1;
        metrics.retry("sent");
        tokio::time::sleep(wait).await;
        again::mark(request.headers_mut(), tries.retries + 1);
        tries.budget = Some(budget);
        true
    }

    /// A request with `Upgrade`, on a connection of its own.
    pub async fn switch(
        self,
        parts: Parts,
        body: Source,
        verdict: &Verdict,
        account: &mut Account,
    ) -> Result<Response<Body>, Refusal> {
        let mut request = Request::from_parts(parts, Payload::from(body));
        to_origin_form(&mut request, self.authority)?;
        let failed = |e: hyper::Error| Refusal::new(Reject::ConnectFailed, e.to_string());
        let (upstream, series, taken) = match &self.backend {
            Some(backend) => {
                let (upstream, state) = dial::connect(self.outbound, backend, Alpn::H1).await?;
                let series = series(self.outbound, self.target, backend, &state);
                (upstream, Some(series), Some(state))
            }
            None => {
                let text = super::external(&self.target.destination).unwrap_or(&self.target.text);
                (connect::Upstream::Plain(dial::unknown(self.outbound, text, None).await?), None, None)
            }
        };
        let sender = connect::http1(upstream).await.map_err(failed)?;
        let subject = &*self.target.destination.canonical;
        let (log, started, line) = (&self.outbound.log, account.started, account.line.take());
        let flag = account.flag;
        let exchange = |code| {
            let exchange = Exchange::new(series, "http", started, code).flagged(flag);
            Some(match line {
                Some(line) => exchange.with_log(log.clone(), line),
                None => exchange,
            })
        };
        // The endpoint has a connection more for as long as the tunnel lasts.
        let never = async move {
            let _taken = taken;
            std::future::pending::<()>().await;
        };
        crate::upgrade::switch(request, sender, verdict, &self.outbound.drain, subject, exchange, never).await
    }

    /// A destination outside of the mesh: plain HTTP/1.1 or HTTP/2, a connection each.
    async fn send_outside(&self, mut request: Request<Payload>) -> Result<Response<Received>, Refusal> {
        let text = super::external(&self.target.destination).unwrap_or(&self.target.text);
        let stream = connect::Upstream::Plain(dial::unknown(self.outbound, text, None).await?);
        let failed = |e: &dyn std::fmt::Display| Refusal::new(Reject::UpstreamReset, format!("{text} ({e})"));
        let response = if self.is_http2 {
            to_http2(&mut request, self.authority, false)?;
            connect::http2(stream).await.map_err(|e| failed(&e))?.send_request(request).await
        } else {
            to_origin_form(&mut request, self.authority)?;
            connect::http1(stream).await.map_err(|e| failed(&e))?.send_request(request).await
        };
        response.map(|r| r.map(Received::from)).map_err(|e| failed(&e))
    }
}

impl Tries {
    /// An endpoint that was not tried; where all were, another try by the route's rule may begin again with any.
    fn next(&mut self, backend: &BackendState, hash: Option<u64>) -> Option<Arc<EndpointState>> {
        let next = backend.choose(&self.tried, hash);
        if next.is_none() && self.retries > 0 {
            self.tried.clear();
            return backend.choose(&[], hash);
        }
        next
    }

    /// Notes a try, and says what comes after it.
    fn note(
        &mut self,
        backend: &BackendState,
        state: Arc<EndpointState>,
        tried: &Result<Got, Failed>,
        outcome: &Outcome,
    ) -> Next {
        if tried.as_ref().is_err_and(|failed| failed.was_closing) && self.resent < dial::ATTEMPTS {
            self.resent += 1;
            return Next::Elsewhere;
        }
        let is_unsent = tried.as_ref().is_err_and(|failed| failed.is_unsent);
        let is_unseen = is_unsent || matches!(outcome.cause, Some(Cause::Connect | Cause::Refused));
        let has_answered = state.has_answered();
        self.tried.push(state);
        if !is_unseen || outcome.cause.is_none() || self.tried.len() >= dial::ATTEMPTS {
            Next::AsRuled
        } else if self.tried.len() < backend.reachable() {
            Next::Elsewhere
        } else if has_answered {
            Next::Awaited
        } else {
            Next::AsRuled
        }
    }
}

/// The response as the client gets it; `with` completes its account.
fn answer(
    outbound: &Outbound,
    mut response: Response<Received>,
    account: &mut Account,
    with: impl FnOnce(Exchange) -> Exchange,
) -> Response<Body> {
    headers::strip(response.headers_mut(), false);
    let protocol = if account.grpc { "grpc" } else { "http" };
    let exchange = Exchange::new(None, protocol, account.started, response.status().as_u16()).flagged(account.flag);
    let mut exchange = with(exchange);
    if let Some(line) = account.line.take() {
        exchange = exchange.with_log(outbound.log.clone(), line);
    }
    response.map(|body| Body::new(Payload::from(body), Some(exchange)))
}
