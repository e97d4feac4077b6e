//! Responses made here: `causeway-error: <stable code>` and a body that says what to do next.

use bytes::Bytes;
use causeway_mesh::reject::Reject;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use crate::body::Payload;
use crate::guarded::Verdict;

/// Stable code of a response made by a proxy.
pub const ERROR_HEADER: HeaderName = HeaderName::from_static("causeway-error");

/// What the error concerns: route, policy, backend, rule.
pub const DETAIL_HEADER: HeaderName = HeaderName::from_static("causeway-detail");

/// Why a request was not served: the cause, and what it concerns (route, policy or backend).
#[derive(Debug, Clone)]
pub struct Refusal {
    /// The cause.
    pub reject: Reject,
    /// `policy prod/allow-web`, `backend prodsvc.prod:80/v1`, ...
    pub subject: String,
    /// Where the answer is not that of the table; most have none.
    other: Option<Box<Other>>,
}

/// How an answer differs from the table's.
#[derive(Debug, Clone, Default)]
struct Other {
    status: Option<u16>,
    grpc: Option<u8>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Refusal {
    /// A refusal that concerns `subject`.
    pub fn new(reject: Reject, subject: impl Into<String>) -> Self {
        Self { reject, subject: subject.into(), other: None }
    }

    /// The same with another status; clients of gRPC are told `grpc` where it is given.
    #[must_use]
    pub fn with_status(mut self, status: u16, grpc: Option<u8>) -> Self {
        let other = self.other.get_or_insert_default();
        (other.status, other.grpc) = (Some(status), grpc);
        self
    }

    /// The same with more headers.
    #[must_use]
    pub fn with_headers(mut self, headers: Vec<(HeaderName, HeaderValue)>) -> Self {
        self.other.get_or_insert_default().headers = headers;
        self
    }

    /// Status of the response over plain HTTP.
    pub fn status(&self) -> u16 {
        self.other.as_ref().and_then(|other| other.status).unwrap_or_else(|| self.reject.status())
    }

    /// What the guard refused, as the answer to the stand-in; nothing refused: somebody sends our stand-in's method.
    pub fn from_verdict(verdict: &Verdict) -> Self {
        match verdict.refused() {
            Some((reject, rule)) => Self::new(*reject, rule.clone()),
            None => Self::new(Reject::BadRequest, "method"),
        }
    }

    /// What the guard refused while a request's body was read.
    pub fn of_body(verdict: &Verdict) -> Option<Self> {
        verdict.refused().map(|(reject, rule)| Self::new(*reject, rule.clone()))
    }

    /// `code subject`, as it stands in logs and bodies.
    pub fn header(&self) -> String {
        if self.subject.is_empty() {
            self.reject.code().to_owned()
        } else {
            format!("{} {}", self.reject.code(), self.subject)
        }
    }

    fn name_cause(&self, headers: &mut HeaderMap) {
        headers.insert(ERROR_HEADER, HeaderValue::from_static(self.reject.code()));
        if let (false, Ok(value)) = (self.subject.is_empty(), HeaderValue::from_str(&self.subject)) {
            headers.insert(DETAIL_HEADER, value);
        }
        for (name, value) in self.other.iter().flat_map(|other| &other.headers) {
            headers.insert(name, value.clone());
        }
    }

    /// The response to a request.
    pub fn response(&self) -> Response<Payload> {
        let text = format!("{}: {}\n", self.header(), self.reject.advice());
        let mut response = Response::new(Payload::Full(Bytes::from(text)));
        *response.status_mut() = StatusCode::from_u16(self.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        self.name_cause(headers);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        if self.reject.status() == 400 {
            // What could not be read may go on with what is no request.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// The gRPC form: `200`, `grpc-status`, `grpc-message` (gRPC over HTTP/2, "Responses").
    pub fn grpc_response(&self) -> Response<Payload> {
        let mut response = Response::new(Payload::Empty);
        let mapped = match self.status() {
            400 => 13,
            401 => 16,
            403 => 7,
            404 => 12,
            408 | 504 => 4,
            // Not 14, which clients send again at once.
            429 => 8,
            502 | 503 => 14,
            // As the Gateway API asks for a backend that is not valid.
            500 if self.reject == Reject::BrokenBackend => 14,
            _ => 2,
        };
        let status = self.other.as_ref().and_then(|other| other.grpc).unwrap_or(mapped);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from(u16::from(status)));
        if let Ok(value) = HeaderValue::from_str(&self.header()) {
            headers.insert("grpc-message", value);
        }
        self.name_cause(headers);
        response
    }

    /// The whole response as bytes, for a connection whose bytes could not be read as HTTP.
    pub fn raw(&self) -> Vec<u8> {
        let text = format!("{}: {}\n", self.header(), self.reject.advice());
        let status = StatusCode::from_u16(self.reject.status()).unwrap_or(StatusCode::BAD_REQUEST);
        format!(
            "HTTP/1.1 {} {}\r\ncauseway-error: {}\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{}",
            status.as_u16(),
            status.canonical_reason().unwrap_or("Error"),
            self.reject.code(),
            text.len(),
            text
        )
        .into_bytes()
    }
}

/// A request that broke off because the guard refused its body is the client's fault, not the upstream's.
pub fn body_refusal(verdict: Option<&Verdict>, refusal: Refusal) -> Refusal {
    match verdict.and_then(Refusal::of_body) {
        Some(of_body) if refusal.reject == Reject::UpstreamReset => of_body,
        _ => refusal,
    }
}
