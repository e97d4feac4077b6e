//! What a route does to a request before it leaves and to its response: decided in `causeway_mesh::config::action`, done
//! here. A route that does none of it costs a look at an `Option`.

use std::sync::Arc;

use bytes::Bytes;
use causeway_mesh::balance::outlier::status_of_grpc;
use causeway_mesh::config::action::cors::{self, Decision};
use causeway_mesh::config::action::fault::Abort;
use causeway_mesh::config::action::redirect::Asked;
use causeway_mesh::config::action::{Action, Filters};
use causeway_mesh::name::HostPort;
use causeway_mesh::reject::Reject;
use causeway_mesh::route::Selected;
use causeway_mesh::text::TextMatch;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Response, StatusCode, Uri};

use super::Outbound;
use super::http::Account;
use super::prepared::Prepared;
use super::series::refused_series;
use crate::body::{Body, Payload};
use crate::clock;
use crate::metrics::Exchange;
use crate::reply::Refusal;

/// What is still to be done to the response, whoever makes it.
#[derive(Default)]
pub struct After {
    /// The route's changes.
    pub prepared: Option<Arc<Prepared>>,
    /// Place of the share that the request went to.
    pub place: Option<usize>,
    /// Marks of CORS.
    marks: Vec<(HeaderName, HeaderValue)>,
    /// Set by the proxy for the sticky choice of an endpoint.
    pub cookie: Option<HeaderValue>,
}

impl After {
    /// First the changes of the share, then those of the route, then CORS.
    pub fn apply(&self, headers: &mut HeaderMap) {
        if let Some(prepared) = &self.prepared {
            if let Some(share) = self.place.and_then(|place| prepared.shares.get(place)) {
                share.response.apply(headers);
            }
            prepared.response.apply(headers);
        }
        for (name, value) in &self.marks {
            if *name == header::VARY {
                headers.append(name, value.clone());
            } else {
                headers.insert(name, value.clone());
            }
        }
        if let Some(cookie) = &self.cookie {
            headers.append(header::SET_COOKIE, cookie.clone());
        }
    }
}

/// Where a request was going before a route changed it.
pub struct Going<'r> {
    /// Its route.
    pub selected: Selected<'r>,
    /// Its authority.
    pub host: &'r HostPort<'r>,
}

impl Going<'_> {
    fn by(&self) -> Option<&TextMatch> {
        self.selected.by.and_then(|by| by.path.as_ref())
    }

    fn refused(&self, why: &impl std::fmt::Display) -> Refusal {
        Refusal::new(Reject::BadRequest, format!("route {}: {why}", self.selected.route.name))
    }
}

/// CORS, then the fault: an answer made here, or None where the request goes on.
///
/// # Errors
/// The fault, as the refusal that it is to look like.
pub async fn before(
    outbound: &Outbound,
    filters: &Filters,
    going: &Going<'_>,
    parts: &Parts,
    account: &mut Account,
) -> Result<Option<Response<Body>>, Refusal> {
    if let Some(cors) = &filters.cors {
        let text = |name: HeaderName| parts.headers.get(name).and_then(|v| v.to_str().ok());
        let asked = cors::Asked {
            method: parts.method.as_str(),
            origin: text(header::ORIGIN),
            wanted_method: text(header::ACCESS_CONTROL_REQUEST_METHOD),
            wanted_headers: text(header::ACCESS_CONTROL_REQUEST_HEADERS),
        };
        match cors.decide(&asked) {
            Decision::Pass => {}
            Decision::Mark(marks) => account.after.marks = in_types(&marks),
            Decision::Answer(headers) => {
                account.after.marks = in_types(&headers);
                return Ok(Some(local(outbound, Response::new(Payload::Empty), account)));
            }
        }
    }
    let Some(fault) = &filters.fault else { return Ok(None) };
    let (delay, abort) = fault.strikes(clock::draw(), clock::draw());
    if let Some(delay) = delay {
        outbound.metrics.fault("delay");
        account.flag = "DI";
        tokio::time::sleep(delay).await;
    }
    let Some(abort) = abort else { return Ok(None) };
    outbound.metrics.fault("abort");
    let refusal = Refusal::new(Reject::FaultInjected, format!("route {}", going.selected.route.name));
    Err(match abort {
        Abort::Http(status) => refusal.with_status(status, None),
        Abort::Grpc(code) => refusal.with_status(status_of_grpc(u32::from(code)), Some(code)),
    })
}

fn in_types(headers: &[(&'static str, String)]) -> Vec<(HeaderName, HeaderValue)> {
    let typed = |(name, value): &(&'static str, String)| {
        Some((HeaderName::from_static(name), HeaderValue::from_str(value).ok()?))
    };
    headers.iter().filter_map(typed).collect()
}

/// The answer of a route that has no backend; None where it has.
///
/// # Errors
/// The redirect comes to no path.
pub fn answer(
    outbound: &Outbound,
    going: &Going<'_>,
    parts: &Parts,
    account: &mut Account,
) -> Result<Option<Response<Body>>, Refusal> {
    let mut response = Response::new(Payload::Empty);
    let status = match &going.selected.route.action {
        Action::Split(_) => return Ok(None),
        Action::Redirect(redirect) => {
            let asked = Asked {
                scheme: parts.uri.scheme_str().unwrap_or("http"),
                host: &bracketed(&going.host.host),
                port: going.host.port,
                path: parts.uri.path(),
                query: parts.uri.query(),
            };
            let location = redirect.location(&asked, going.by()).map_err(|why| going.refused(&why))?;
            let location = HeaderValue::from_str(&location).map_err(|why| going.refused(&why))?;
            response.headers_mut().insert(header::LOCATION, location);
            redirect.status
        }
        Action::Direct(direct) => {
            // These have no body, whatever the route says (RFC 9110 section 15).
            if !matches!(direct.status, 204 | 205 | 304) {
                response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(direct.body.len()));
                if parts.method != Method::HEAD {
                    *response.body_mut() = Payload::Full(Bytes::from_owner(Arc::clone(&direct.body)));
                }
                if let Some(Ok(kind)) = direct.content_type.as_deref().map(HeaderValue::from_str) {
                    response.headers_mut().insert(header::CONTENT_TYPE, kind);
                }
            }
            direct.status
        }
    };
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Ok(Some(local(outbound, response, account)))
}

fn bracketed(host: &str) -> std::borrow::Cow<'_, str> {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]").into() } else { host.into() }
}

/// A response that was made here and is no error.
fn local(outbound: &Outbound, response: Response<Payload>, account: &mut Account) -> Response<Body> {
    let protocol = if account.grpc { "grpc" } else { "http" };
    let series = refused_series(outbound, account.target.as_deref());
    let mut exchange =
        Exchange::new(Some(series), protocol, account.started, response.status().as_u16()).flagged(account.flag);
    if let Some(line) = account.line.take() {
        exchange = exchange.with_log(outbound.log.clone(), line);
    }
    response.map(|payload| Body::new(payload, Some(exchange)))
}

/// Rewrites path and authority; the latter is returned where it is another one now.
///
/// # Errors
/// What comes out is no path.
pub fn rewrite(filters: &Filters, going: &Going<'_>, parts: &mut Parts) -> Result<Option<String>, Refusal> {
    if filters.path.is_none() && filters.authority.is_none() {
        return Ok(None);
    }
    let path = match &filters.path {
        Some(change) => {
            let changed = change.apply(parts.uri.path(), parts.uri.query(), going.by());
            let changed = changed.map_err(|why| going.refused(&why))?;
            Some(PathAndQuery::from_maybe_shared(changed).map_err(|why| going.refused(&why))?)
        }
        None => None,
    };
    let mut uri = std::mem::take(&mut parts.uri).into_parts();
    if path.is_some() {
        uri.path_and_query = path;
    }
    if filters.authority.is_some() {
        // Written anew from the authority by whoever sends the request.
        (uri.scheme, uri.authority) = (None, None);
        uri.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
    }
    parts.uri = Uri::from_parts(uri).map_err(|why| going.refused(&why))?;
    Ok(filters.authority.as_ref().map(|authority| authority.clone().into_string()))
}
