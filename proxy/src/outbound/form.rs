//! The form in which a request leaves: HTTP/2 with an absolute target, or HTTP/1.1 in origin form with one `Host`.

use causeway_mesh::reject::Reject;
use http::header::{self, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Uri, Version};
use http_body::Body as _;

use crate::body::Payload;
use crate::reply::Refusal;

/// Makes `request` an HTTP/2 request to `authority`, unless its target has one; `is_tls`: within TLS that we originate.
///
/// # Errors
/// [`Reject::BadRequest`]: `authority` is none.
pub fn to_http2(request: &mut Request<Payload>, authority: &str, is_tls: bool) -> Result<(), Refusal> {
    to_http2_of(request, || authority.parse::<Authority>(), is_tls)
}

/// As [`to_http2`], to an authority that is only made where it is needed.
///
/// # Errors
/// As [`to_http2`].
pub fn to_http2_of<E>(
    request: &mut Request<Payload>,
    authority: impl FnOnce() -> Result<Authority, E>,
    is_tls: bool,
) -> Result<(), Refusal> {
    if request.uri().authority().is_none() || request.uri().scheme().is_none() {
        let authority = authority().map_err(|_| Refusal::new(Reject::BadRequest, "host"))?;
        let mut uri = std::mem::take(request.uri_mut()).into_parts();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(authority);
        uri.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from_parts(uri).map_err(|_| Refusal::new(Reject::BadRequest, "target"))?;
    }
    if is_tls && request.uri().scheme() != Some(&Scheme::HTTPS) {
        let mut uri = std::mem::take(request.uri_mut()).into_parts();
        uri.scheme = Some(Scheme::HTTPS);
        *request.uri_mut() = Uri::from_parts(uri).map_err(|_| Refusal::new(Reject::BadRequest, "target"))?;
    }
    *request.version_mut() = Version::HTTP_2;
    request.headers_mut().remove(header::HOST);
    request.headers_mut().remove(header::TRANSFER_ENCODING); // of an attempt by HTTP/1 before this one
    Ok(())
}

/// Makes `request` an HTTP/1.1 request in origin form with exactly one `Host` and its framing.
///
/// # Errors
/// [`Reject::BadRequest`]: `authority` cannot stand in a header.
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
