//! A request of a head that the guard has passed: its grammar is known to hold, so lines and fields are cut at the first
//! byte that can end them.

use std::ops::Range;

use bytes::Bytes;
use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Uri};

use crate::body::Received;
use crate::headers::names;

/// A request without body, and whether the connection ends with it; None: the target is none that `http` reads.
pub fn parse(head: &Bytes) -> Option<(Request<Received>, bool)> {
    let mut lines = Lines { head, at: if head.starts_with(b"\r\n") { 2 } else { 0 } };
    let line = lines.next()?;
    let mut words = head.get(line.clone())?.split(|byte| *byte == b' ');
    let method = words.next()?;
    let target = line.start + method.len() + 1;
    let target = target..target + words.next()?.len();
    let mut request = Request::new(Received::Empty);
    *request.method_mut() = Method::from_bytes(method).ok()?;
    *request.uri_mut() = Uri::from_maybe_shared(head.slice(target)).ok()?;
    let most = memchr::memchr_iter(b'\n', head).count().saturating_sub(2);
    let mut fields = HeaderMap::with_capacity(most);
    let mut closes = false;
    for line in lines {
        let (name, value) = field(head, line)?;
        closes |= name == CONNECTION && names(&value, "close");
        fields.append(name, value);
    }
    *request.headers_mut() = fields;
    Some((request, closes))
}

/// The field of a line; a value stays where it is and is not copied.
fn field(head: &Bytes, line: Range<usize>) -> Option<(HeaderName, HeaderValue)> {
    let bytes = head.get(line.clone())?;
    let colon = memchr::memchr(b':', bytes)?;
    let name = HeaderName::from_bytes(&bytes[..colon]).ok()?;
    let raw = &bytes[colon + 1..];
    let is_space = |byte: &&u8| matches!(byte, b' ' | b'\t');
    let before = raw.iter().take_while(is_space).count();
    let after = raw[before..].iter().rev().take_while(is_space).count();
    let value = line.start + colon + 1 + before..line.end - after;
    Some((name, HeaderValue::from_maybe_shared(head.slice(value)).ok()?))
}

/// The lines of a head, without their ends, up to the empty one.
struct Lines<'h> {
    head: &'h Bytes,
    at: usize,
}

impl Iterator for Lines<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let length = memchr::memchr(b'\r', self.head.get(self.at..)?)?;
        let line = self.at..self.at + length;
        self.at = line.end + 2;
        (length > 0).then_some(line)
    }
}
