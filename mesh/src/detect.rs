//! What a connection speaks, from the first bytes its client sends. Strictness is left to the parsers that follow.
//!
//! The rule errs towards HTTP: what a lenient server could read as HTTP is called HTTP, so that it is refused or judged as
//! such, and never carried past an HTTP policy as mere bytes.

/// What the first bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Detected {
    /// Undecided: ask again with more bytes.
    NeedMore,
    /// An HTTP/1 request line, well-formed or not.
    Http1,
    /// The HTTP/2 connection preface (RFC 9113 section 3.4).
    Http2,
    /// A TLS record that carries a handshake.
    Tls,
    /// Anything else.
    Opaque,
}

/// After this many undecided bytes the answer is [`Detected::Opaque`].
pub const LIMIT: usize = 8 * 1024;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const METHOD_LIMIT: usize = 32;

/// Methods whose name followed by a path is proof enough. Any other token must show its whole request line.
const METHODS: [&[u8]; 9] = [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"];

/// Classifies the bytes seen so far.
///
/// Once the answer is not [`Detected::NeedMore`] more bytes never change it, and however the bytes arrive in pieces the
/// answer is that of the whole.
pub fn classify(bytes: &[u8]) -> Detected {
    let seen = &bytes[..bytes.len().min(LIMIT)];
    let found = match seen {
        [] => Detected::NeedMore,
        [0x16, rest @ ..] => tls(rest),
        _ if PREFACE.starts_with(seen) => full(seen.len() == PREFACE.len(), Detected::Http2),
        _ if seen.starts_with(PREFACE) => Detected::Http2,
        _ => http1(seen),
    };
    full(found != Detected::NeedMore || bytes.len() < LIMIT, found)
}

/// `found` where it is sure, else what holds without it.
fn full(sure: bool, found: Detected) -> Detected {
    match (sure, found) {
        (true, found) => found,
        (false, Detected::NeedMore) => Detected::Opaque,
        (false, _) => Detected::NeedMore,
    }
}

/// Major and minor version of the record, SSL 3.0 to TLS 1.3 (RFC 8446 section 5.1).
fn tls(rest: &[u8]) -> Detected {
    match rest {
        [] | [0x03] => Detected::NeedMore,
        [0x03, 0x00..=0x04, ..] => Detected::Tls,
        _ => Detected::Opaque,
    }
}

/// A request line, after any empty lines (RFC 9112 section 2.2 lets a server skip them).
fn http1(seen: &[u8]) -> Detected {
    let start = seen.iter().position(|b| !matches!(b, b'\r' | b'\n')).unwrap_or(seen.len());
    let line = &seen[start..];
    let Some(end) = line.iter().position(|b| !is_token(*b)) else {
        return if line.len() > METHOD_LIMIT { Detected::Opaque } else { Detected::NeedMore };
    };
    if end == 0 || end > METHOD_LIMIT || line[end] != b' ' {
        return Detected::Opaque;
    }
    let target = &line[end + 1..];
    if METHODS.contains(&&line[..end]) && (target.starts_with(b"/") || has_scheme(target)) {
        return Detected::Http1;
    }
    whole_line(target)
}

/// What follows the method and its space, up to the end of the line: HTTP when the last word is a version of it.
fn whole_line(rest: &[u8]) -> Detected {
    match rest.iter().position(|b| matches!(b, 0..=8 | 10..=31 | 127)) {
        None => Detected::NeedMore,
        Some(at) if rest[at] == b'\r' && at + 1 == rest.len() => Detected::NeedMore,
        Some(at) if rest[at] == b'\n' || rest[at..].starts_with(b"\r\n") => {
            let line = rest[..at].trim_ascii_end();
            let version = line.rsplit(|b| b.is_ascii_whitespace()).next().unwrap_or_default();
            if version.len() >= 5 && version[..5].eq_ignore_ascii_case(b"HTTP/") {
                Detected::Http1
            } else {
                Detected::Opaque
            }
        }
        Some(_) => Detected::Opaque,
    }
}

fn has_scheme(target: &[u8]) -> bool {
    [&b"http://"[..], b"https://"].iter().any(|s| target.len() >= s.len() && target[..s.len()].eq_ignore_ascii_case(s))
}

/// `tchar` of RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests;
