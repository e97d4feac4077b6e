//! Byte classes and small values of HTTP/1: tokens, field values, authorities. Lines and messages are left to others.

use std::net::Ipv6Addr;

use super::Violation;

const TOKEN: u8 = 1;
const VALUE: u8 = 2;
const TARGET: u8 = 4;
const NAME: u8 = 8;

static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let byte = index as u8;
        let mut class = 0;
        if byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
            )
        {
            class |= TOKEN;
        }
        if byte == b'\t' || byte == b' ' || (byte >= 0x21 && byte != 0x7f) {
            class |= VALUE;
        }
        if byte.is_ascii_graphic() && byte != b'#' {
            class |= TARGET;
        }
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            class |= NAME;
        }
        table[index] = class;
        index += 1;
    }
    table
}

fn all(bytes: &[u8], class: u8) -> bool {
    bytes.iter().all(|byte| CLASSES[usize::from(*byte)] & class != 0)
}

/// `1*tchar` (RFC 9110 section 5.6.2).
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && all(bytes, TOKEN)
}

/// Whether `byte` may stand in a token.
pub(super) fn is_token_byte(byte: u8) -> bool {
    CLASSES[usize::from(byte)] & TOKEN != 0
}

/// No control byte but the tab; bytes from 0x80 on are allowed (RFC 9110 section 5.5).
pub(super) fn is_value(bytes: &[u8]) -> bool {
    // Without an early end or a table the compiler makes this a loop over vectors; values are most of a head.
    !bytes.iter().fold(false, |odd, &byte| odd | ((byte < b' ') & (byte != b'\t')) | (byte == 0x7f))
}

/// Whether `byte` may stand in a field value.
pub(super) fn is_value_byte(byte: u8) -> bool {
    CLASSES[usize::from(byte)] & VALUE != 0
}

/// Visible ASCII without `#`: a fragment is never sent (RFC 9112 section 3.2).
pub(super) fn is_target(bytes: &[u8]) -> bool {
    !bytes.is_empty() && all(bytes, TARGET)
}

/// Without spaces and tabs at both ends (`OWS`; Unicode spaces and other control bytes stay).
pub(super) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// A host and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Authority<'a> {
    pub(super) host: &'a [u8],
    pub(super) port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Parses `host [":" port]`: the host is a DNS-like name, an IPv4 address or an IPv6 address in brackets. Narrower
    /// than RFC 3986: no user, no percent-encoding, no sub-delimiters, no empty host or port.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (host, port) = if bytes.first() == Some(&b'[') {
            let end = memchr::memchr(b']', bytes)?;
            let address = std::str::from_utf8(&bytes[1..end]).ok()?;
            address.parse::<Ipv6Addr>().ok()?;
            (&bytes[..=end], &bytes[end + 1..])
        } else {
            let end = memchr::memchr(b':', bytes).unwrap_or(bytes.len());
            let host = &bytes[..end];
            if host.is_empty() || host.len() > 255 || !all(host, NAME) {
                return None;
            }
            (host, &bytes[end..])
        };
        let port = match port {
            [] => None,
            [b':', digits @ ..] => Some(parse_port(digits)?),
            _ => return None,
        };
        Some(Self { host, port })
    }

    /// Whether both name the same place; a port that is left out is `default`.
    pub(super) fn is_same(&self, other: &Self, default: Option<u16>) -> bool {
        self.host.eq_ignore_ascii_case(other.host) && self.port.or(default) == other.port.or(default)
    }
}

fn parse_port(digits: &[u8]) -> Option<u16> {
    if digits.is_empty() || digits.len() > 5 {
        return None;
    }
    let port = decimal(digits)?;
    u16::try_from(port).ok().filter(|port| *port != 0)
}

/// A decimal number of at most 18 digits: no sign, no space, no leading zero (which some read as octal).
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 18 || (digits.len() > 1 && digits[0] == b'0') {
        return None;
    }
    digits.iter().try_fold(0_u64, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u64::from(byte - b'0')))
}

/// A line that is complete, without its CRLF, and the length with it.
pub(super) struct Line<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) length: usize,
}

/// The line that begins at `from`; `scanned` remembers up to where no line end was found. `None`: no line ends within
/// the first `limit` bytes.
///
/// # Errors
/// A CR, LF or NUL that is no part of a line end; told as soon as it has come.
pub(super) fn next_line<'a>(
    buffer: &'a [u8],
    from: usize,
    scanned: &mut usize,
    limit: usize,
) -> Result<Option<Line<'a>>, Violation> {
    let buffer = &buffer[..buffer.len().min(limit)];
    let start = (*scanned).max(from);
    let Some(found) = memchr::memchr3(b'\r', b'\n', 0, &buffer[start..]) else {
        *scanned = buffer.len();
        return Ok(None);
    };
    let end = start + found;
    match &buffer[end..] {
        [b'\r', b'\n', ..] => {
            *scanned = end + 2;
            Ok(Some(Line { bytes: &buffer[from..end], length: end + 2 - from }))
        }
        [b'\r'] => {
            *scanned = end;
            Ok(None)
        }
        [b'\r', ..] => Err(Violation::BareCarriageReturn),
        [0, ..] => Err(Violation::Nul),
        _ => Err(Violation::BareLineFeed),
    }
}
