//! What it takes to send a request once more.

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Request, request::Parts};

use crate::body::{Payload, kept};

/// Which try a request is, from 2 on; who gets such a request does not try it again itself, or tries would multiply along
/// a chain of calls. Envoy's name, so that both understand each other.
const ATTEMPT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");

/// From which a request is made once more.
pub struct Again {
    head: Parts,
    body: Remade,
}

enum Remade {
    Empty,
    Full(Bytes),
    Kept(kept::Original),
}

impl Again {
    /// The request, and what it takes to make it again.
    pub fn prepare(request: Request<Payload>) -> (Request<Payload>, Self) {
        let (parts, body) = request.into_parts();
        let mut head = Request::new(()).into_parts().0;
        (head.method, head.uri) = (parts.method.clone(), parts.uri.clone());
        (head.version, head.headers) = (parts.version, parts.headers.clone());
        let (body, remade) = match body {
            Payload::Stream(body) => {
                let (body, original) = kept::keep(body);
                (Payload::Kept(body), Remade::Kept(original))
            }
            Payload::Full(bytes) => (Payload::Full(bytes.clone()), Remade::Full(bytes)),
            // A body that is kept already belongs to somebody else's tries.
            other => (other, Remade::Empty),
        };
        (Request::from_parts(parts, body), Self { head, body: remade })
    }

    /// None: the body was too long to be kept.
    pub fn request(&self) -> Option<Request<Payload>> {
        let body = match &self.body {
            Remade::Empty => Payload::Empty,
            Remade::Full(bytes) => Payload::Full(bytes.clone()),
            Remade::Kept(original) => Payload::Kept(original.again()?),
        };
        Some(Request::from_parts(self.head.clone(), body))
    }
}

/// Whether somebody before us is trying again already.
pub fn is_retry(headers: &HeaderMap) -> bool {
    let count = headers.get(ATTEMPT).and_then(|v| v.to_str().ok()).and_then(|v| v.trim().parse::<u32>().ok());
    count.is_some_and(|count| count > 1)
}

/// Says which try it is.
pub fn mark(headers: &mut HeaderMap, attempt: u32) {
    headers.insert(ATTEMPT, HeaderValue::from(attempt));
}
