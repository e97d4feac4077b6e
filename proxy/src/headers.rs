//! What must not pass from one hop to the next, and the view of a request that routing and policy decide by.

use std::borrow::Cow;

use causeway_mesh::path;
use causeway_mesh::reject::Reject;
use causeway_mesh::route::RequestView;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Uri, Version};

use crate::reply::Refusal;

/// Caller's identity for the application, in Envoy's form. Always stripped from what comes in.
pub const XFCC: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// Between two proxies: the application's client spoke HTTP/1.x, so the application is spoken to alike.
pub const HOP_HTTP1: HeaderName = HeaderName::from_static("causeway-http1");

/// What is not for the next hop, whatever `Connection` names besides (RFC 9110 section 7.6.1).
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TRANSFER_ENCODING,
    header::TE,
];

/// Removes hop-by-hop fields, those that `Connection` names, and everything that only we may say. `upgrade` keeps
/// `Connection: upgrade` and `Upgrade` for a request or response that switches protocols.
pub fn strip(headers: &mut HeaderMap, upgrade: bool) {
    // Few messages carry many, and looking at each name once is cheaper than asking for each of these.
    let found = headers.keys().filter_map(hop_by_hop).fold(0u16, |found, index| found | 1 << index);
    if found == 0 {
        return;
    }
    for name in named(headers) {
        headers.remove(name);
    }
    let [mut protocol, mut te] = [None, None];
    for (_, name) in HOP_BY_HOP.iter().enumerate().filter(|(index, _)| found & 1 << index != 0) {
        let removed = headers.remove(name);
        if *name == header::UPGRADE {
            protocol = removed;
        } else if *name == header::TE {
            te = removed;
        }
    }
    if let (true, Some(protocol)) = (upgrade, protocol) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol);
    }
    if te.is_some_and(|te| te.to_str().is_ok_and(|te| te.split(',').any(|t| t.trim().eq_ignore_ascii_case("trailers"))))
    {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

/// The fields that `Connection` names, but those that are dealt with by themselves.
fn named(headers: &HeaderMap) -> Vec<HeaderName> {
    let options = headers.get_all(header::CONNECTION).iter().filter_map(|v| v.to_str().ok());
    options
        .flat_map(|v| v.split(',').map(str::trim))
        .filter(|option| {
            !["close", "keep-alive", "upgrade", "te", "host"].iter().any(|o| option.eq_ignore_ascii_case(o))
        })
        .filter_map(|name| name.parse().ok())
        .collect()
}

/// Whether a value that is a list, as that of `Connection`, names an option.
pub fn names(value: &HeaderValue, option: &str) -> bool {
    let mut options = value.as_bytes().split(|byte| *byte == b',');
    options.any(|named| named.trim_ascii().eq_ignore_ascii_case(option.as_bytes()))
}

/// The place of a field in [`HOP_BY_HOP`].
fn hop_by_hop(name: &HeaderName) -> Option<usize> {
    // Of most names the length says that they are none.
    matches!(name.as_str().len(), 2 | 7 | 10 | 14 | 16..=19).then(|| HOP_BY_HOP.iter().position(|hop| hop == name))?
}

/// Removes what an application might say to pass for us: identity and every `causeway-` field.
pub fn strip_ours(headers: &mut HeaderMap) {
    // The one that another proxy of ours sends with nearly every request; what is left is rare.
    headers.remove(HOP_HTTP1);
    if headers.keys().any(is_ours) {
        let ours: Vec<HeaderName> = headers.keys().filter(|name| is_ours(name)).cloned().collect();
        for name in ours {
            headers.remove(name);
        }
    }
}

fn is_ours(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with("causeway-") || name == XFCC.as_str()
}

/// The protocol that a request wants to switch to; `h2c` is never offered.
pub fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let protocol = headers.get(header::UPGRADE)?;
    let connection = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .any(|v| v.split(',').any(|t| t.trim().eq_ignore_ascii_case("upgrade")));
    let is_h2c = protocol.to_str().is_ok_and(|p| p.split(',').any(|t| t.trim().eq_ignore_ascii_case("h2c")));
    (connection && !is_h2c).then(|| protocol.clone())
}

/// Whether the request is gRPC, so that an error must be said its way.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    // `application/grpc`, `application/grpc+proto`, never `application/grpc-web` (gRPC over HTTP/2, "Content-Type").
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.as_bytes().strip_prefix(b"application/grpc"))
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
}

/// Exactly one authority, that of the target or of `Host`; where there are both they agree. Empty only in HTTP/1.0.
///
/// # Errors
/// [`Reject::AmbiguousRequest`] where two readers could differ, [`Reject::BadRequest`] where there is none.
pub fn authority(parts: &Parts) -> Result<String, Refusal> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let text = |v: &HeaderValue| {
        v.to_str().map(str::to_owned).map_err(|_| Refusal::new(Reject::AmbiguousRequest, "host is not text"))
    };
    let host = hosts.next().map(text).transpose()?;
    if hosts.next().is_some() {
        return Err(Refusal::new(Reject::AmbiguousRequest, "two hosts"));
    }
    match (parts.uri.authority(), host) {
        (Some(authority), Some(host)) if !is_same(authority, &host, parts.uri.scheme()) => {
            Err(Refusal::new(Reject::AmbiguousRequest, "host differs from the authority"))
        }
        (Some(authority), _) => Ok(authority.as_str().to_owned()),
        (None, Some(host)) => Ok(host),
        (None, None) if parts.version == Version::HTTP_10 => Ok(String::new()),
        (None, None) => Err(Refusal::new(Reject::BadRequest, "no host")),
    }
}

/// Whether both name one place; a port left out is the scheme's (RFC 9110 section 4.2.3).
fn is_same(authority: &Authority, host: &str, scheme: Option<&Scheme>) -> bool {
    let default = match scheme {
        Some(scheme) if *scheme == Scheme::HTTPS => Some(443),
        Some(_) => Some(80),
        None => authority.port_u16(),
    };
    host.parse::<Authority>().is_ok_and(|host| {
        host.host().eq_ignore_ascii_case(authority.host())
            && host.port_u16().or(default) == authority.port_u16().or(default)
            // A user or an odd port stands in neither part.
            && [&host, authority].iter().all(|a| !a.as_str().contains('@') && !a.as_str().ends_with(':'))
    })
}

/// Normalises the path in place: the path that is matched and judged is the path that is forwarded.
///
/// # Errors
/// [`Reject::BadRequest`] where it has no normal form.
pub fn normalise(parts: &mut Parts) -> Result<(), Refusal> {
    let bad = || Refusal::new(Reject::BadRequest, "path");
    if let Cow::Owned(normal) = path::normalise(parts.uri.path()).map_err(|_| bad())? {
        let text = match parts.uri.query() {
            Some(query) => format!("{normal}?{query}"),
            None => normal,
        };
        let mut uri = std::mem::take(&mut parts.uri).into_parts();
        uri.path_and_query = Some(PathAndQuery::from_maybe_shared(text).map_err(|_| bad())?);
        parts.uri = Uri::from_parts(uri).map_err(|_| bad())?;
    }
    Ok(())
}

/// A request as the decisions see it.
pub struct View<'a> {
    /// Head of the request.
    pub parts: &'a http::request::Parts,
    /// Host, lower case, without port.
    pub host: &'a str,
    /// Normalised path.
    pub path: &'a str,
}

impl RequestView for View<'_> {
    fn path(&self) -> &str {
        self.path
    }

    fn query(&self) -> &str {
        self.parts.uri.query().unwrap_or_default()
    }

    fn method(&self) -> &str {
        self.parts.method.as_str()
    }

    fn host(&self) -> &str {
        self.host
    }

    fn scheme(&self) -> &str {
        self.parts.uri.scheme_str().unwrap_or("http")
    }

    fn header<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.parts.headers.get_all(name).iter().filter_map(|v| v.to_str().ok())
    }
}

#[cfg(test)]
mod tests;
