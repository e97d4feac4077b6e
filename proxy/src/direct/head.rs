//! The heads of both messages: a request's is written, a response's is read, and says how its body is cut (RFC 9112
//! section 6.3).

use std::mem::MaybeUninit;

use bytes::{BufMut, Bytes};
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::response::Parts;
use http::{Method, Request, Response, StatusCode, Version};
use httparse::{ParserConfig, Status};
use hyper::ext::ReasonPhrase;

use super::reading::Framing;
use crate::body::Payload;
use crate::headers::names;

/// Fields of any response at most.
pub const FIELDS: usize = 128;

const TOO_MANY: &str = "the response has too many fields";

/// A head, how its body is cut, and whether the connection goes on behind it.
pub type Whole = (Parts, Framing, bool);

/// What the bytes that came begin with.
pub enum Parsed {
    /// The head of a response, taken out of them.
    Whole(Whole),
    /// One that another one follows (1xx), taken out of them too.
    Interim,
    /// Not all of a head.
    Begun,
}

/// Appends the head of a request in origin form, which has no body.
pub fn write(request: &Request<Payload>, head: &mut Vec<u8>) {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let root = if target.starts_with('?') { "/" } else { "" }; // `http` shows it, but does not hold it
    let fields = || request.headers().iter().filter(|(name, _)| *name != TRANSFER_ENCODING);
    let length: usize = fields().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    head.reserve(request.method().as_str().len() + target.len() + length + 16);
    head.put_slice(request.method().as_str().as_bytes());
    head.put_slice(b" ");
    head.put_slice(root.as_bytes());
    head.put_slice(target.as_bytes());
    head.put_slice(b" HTTP/1.1\r\n");
    for (name, value) in fields() {
        head.put_slice(name.as_str().as_bytes());
        head.put_slice(b": ");
        head.put_slice(value.as_bytes());
        head.put_slice(b"\r\n");
    }
    head.put_slice(b"\r\n");
}

/// Reads what `held` begins with, as an answer to a request of `method`, with at most so `many` fields.
///
/// # Errors
/// What is wrong with it.
pub fn parse(held: &mut Bytes, method: &Method, many: usize) -> Result<Parsed, &'static str> {
    let bytes = held.clone();
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS];
    let mut read = httparse::Response::new(&mut []);
    let parsed = ParserConfig::default().parse_response_with_uninit_headers(&mut read, &bytes, &mut fields);
    let length = match parsed {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Ok(Parsed::Begun),
        Err(httparse::Error::TooManyHeaders) => return Err(TOO_MANY),
        Err(_) => return Err("what came is not HTTP/1"),
    };
    if read.headers.len() > many {
        return Err(TOO_MANY);
    }
    super::used(held, length);
    let status = StatusCode::from_u16(read.code.unwrap_or_default()).map_err(|_| "the status is none")?;
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err("it switches protocols, which nobody asked for");
    }
    if status.is_informational() {
        return Ok(Parsed::Interim);
    }
    let is_old = read.version == Some(0);
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.version_mut() = if is_old { Version::HTTP_10 } else { Version::HTTP_11 };
    if let Some(reason) = read.reason.filter(|reason| status.canonical_reason() != Some(reason))
        && let Ok(reason) = ReasonPhrase::try_from(bytes.slice_ref(reason.as_bytes()))
    {
        response.extensions_mut().insert(reason);
    }
    *response.headers_mut() = self::fields(&bytes, read.headers)?;
    let (head, ()) = response.into_parts();
    let (framing, keeps) = framing(&head, method, is_old)?;
    Ok(Parsed::Whole((head, framing, keeps)))
}

/// The fields; values stay where they are and are not copied.
///
/// # Errors
/// One is none.
pub fn fields(bytes: &Bytes, read: &[httparse::Header<'_>]) -> Result<HeaderMap, &'static str> {
    let mut fields = HeaderMap::with_capacity(read.len());
    for field in read {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| "the name of a field is none")?;
        let value =
            HeaderValue::from_maybe_shared(bytes.slice_ref(field.value)).map_err(|_| "a field's value is none")?;
        fields.append(name, value);
    }
    Ok(fields)
}

fn framing(head: &Parts, method: &Method, is_old: bool) -> Result<(Framing, bool), &'static str> {
    let says = |option| head.headers.get_all(CONNECTION).iter().any(|value| names(value, option));
    let keeps = if is_old { says("keep-alive") } else { !says("close") };
    if *method == Method::HEAD || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return Ok((Framing::Done, keeps));
    }
    let length = length(&head.headers)?;
    let mut codings = head.headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next(), length) {
        (None, _, Some(0)) => Ok((Framing::Done, keeps)),
        (None, _, Some(length)) => Ok((Framing::Counted(length), keeps)),
        (None, _, None) => Ok((Framing::Closed, false)),
        (Some(_), _, Some(_)) => Err("the response has both Content-Length and Transfer-Encoding"),
        (Some(coding), None, None) if !is_old && coding.as_bytes().eq_ignore_ascii_case(b"chunked") => {
            Ok((Framing::chunked(), keeps))
        }
        (Some(_), _, None) => Err("the response has a Transfer-Encoding that is not `chunked`"),
    }
}

/// `Content-Length`, of which all that are there must say the same.
fn length(fields: &HeaderMap) -> Result<Option<u64>, &'static str> {
    let mut found = None;
    for value in fields.get_all(CONTENT_LENGTH) {
        for text in value.as_bytes().split(|byte| *byte == b',') {
            let text = text.trim_ascii();
            let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
            let length = std::str::from_utf8(text).ok().filter(|_| is_number).and_then(|text| text.parse::<u64>().ok());
            let length = length.ok_or("Content-Length is no number")?;
            if found.is_some_and(|found| found != length) {
                return Err("two Content-Length differ");
            }
            found = Some(length);
        }
    }
    Ok(found)
}
