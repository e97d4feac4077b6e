//! Field lines: their syntax, and the few fields by which a message is cut, routed or switched.

use std::ops::Range;

use super::Violation;
use super::syntax::{decimal, is_token, is_token_byte, is_value, trim};

/// A field line, cut.
pub(super) struct Field<'a> {
    pub(super) name: &'a [u8],
    /// Without white space at both ends.
    pub(super) value: &'a [u8],
    /// Where the value begins within the line.
    pub(super) value_at: usize,
}

impl<'a> Field<'a> {
    /// Cuts a line without its CRLF; not an empty one.
    pub(super) fn parse(line: &'a [u8]) -> Result<Self, Violation> {
        let colon = line.iter().position(|byte| !is_token_byte(*byte)).ok_or(Violation::FieldName)?;
        match (colon, line[colon]) {
            (0, b' ' | b'\t') => return Err(Violation::LineFolding),
            (0, _) => return Err(Violation::FieldName),
            (_, b':') => {}
            (_, b' ' | b'\t') if trim(&line[colon..]).first() == Some(&b':') => {
                return Err(Violation::SpaceBeforeColon);
            }
            _ => return Err(Violation::FieldName),
        }
        let raw = &line[colon + 1..];
        if !is_value(raw) {
            return Err(Violation::FieldValue);
        }
        let value = trim(raw);
        let leading = raw.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        Ok(Self { name: &line[..colon], value, value_at: colon + 1 + leading })
    }

    fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// The fields of a head that matter here, gathered line by line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Gathered {
    /// Where the value of `Host` stands within the head.
    pub(super) host: Option<Range<usize>>,
    pub(super) content_length: Option<u64>,
    pub(super) is_chunked: bool,
    pub(super) expects_continue: bool,
    pub(super) connection_upgrades: bool,
    pub(super) upgrade: bool,
    pub(super) upgrade_h2c: bool,
}

impl Gathered {
    /// Takes one field in; `line_at` is where its line begins within the head.
    pub(super) fn take(&mut self, field: &Field<'_>, line_at: usize) -> Result<(), Violation> {
        // By length first: nearly all fields fall through with one comparison.
        match field.name.len() {
            4 if field.is("host") => {
                let start = line_at + field.value_at;
                if self.host.replace(start..start + field.value.len()).is_some() {
                    return Err(Violation::HostRepeated);
                }
            }
            6 if field.is("expect") => {
                if self.expects_continue || !field.value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Violation::Expectation);
                }
                self.expects_continue = true;
            }
            7 if field.is("upgrade") => self.take_upgrade(field.value)?,
            10 if field.is("connection") => self.take_connection(field.value)?,
            14 if field.is("content-length") => {
                let length = decimal(field.value).ok_or(Violation::LengthInvalid)?;
                if self.content_length.replace(length).is_some() {
                    return Err(Violation::LengthRepeated);
                }
            }
            17 if field.is("transfer-encoding") => {
                if self.is_chunked {
                    return Err(Violation::EncodingRepeated);
                }
                if !field.value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Violation::EncodingUnknown);
                }
                self.is_chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn take_connection(&mut self, value: &[u8]) -> Result<(), Violation> {
        for option in value.split(|byte| *byte == b',').map(trim).filter(|option| !option.is_empty()) {
            if !is_token(option) {
                return Err(Violation::ConnectionInvalid);
            }
            if ["host", "content-length", "transfer-encoding"].iter().any(|name| same(option, name)) {
                return Err(Violation::ConnectionNamesFraming);
            }
            self.connection_upgrades |= same(option, "upgrade");
        }
        Ok(())
    }

    fn take_upgrade(&mut self, value: &[u8]) -> Result<(), Violation> {
        for protocol in value.split(|byte| *byte == b',').map(trim).filter(|protocol| !protocol.is_empty()) {
            let mut parts = protocol.splitn(2, |byte| *byte == b'/');
            if !parts.all(is_token) {
                return Err(Violation::UpgradeInvalid);
            }
            self.upgrade = true;
            self.upgrade_h2c |= same(protocol, "h2c");
        }
        Ok(())
    }
}

fn same(bytes: &[u8], name: &str) -> bool {
    bytes.eq_ignore_ascii_case(name.as_bytes())
}

/// Fields that must not come after the body: they frame, route, authenticate, control or describe the message
/// (RFC 9110 section 6.5.1), or carry the caller's identity.
const NEVER_TRAILERS: [&str; 32] = [
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "max-forwards",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-client-cert",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
];

/// Judges one line of a trailer section; not an empty one.
pub(super) fn check_trailer(line: &[u8]) -> Result<(), Violation> {
    let field = Field::parse(line)?;
    if NEVER_TRAILERS.iter().any(|name| field.is(name)) {
        return Err(Violation::TrailerForbidden);
    }
    Ok(())
}
