//! The request line (RFC 9112 section 3): method, target and version, and what they imply for the fields.

use std::ops::Range;

use super::Violation;
use super::syntax::{Authority, is_target, is_token};

const METHOD_BYTES: usize = 64;

/// What the request line says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RequestLine {
    pub(super) is_connect: bool,
    pub(super) is_old: bool,
    /// Where the authority stands within the line, for the absolute form and the authority form.
    pub(super) authority: Option<Range<usize>>,
    /// The port that is meant when the target names none.
    pub(super) default_port: Option<u16>,
}

impl RequestLine {
    /// Parses a line without its CRLF.
    pub(super) fn parse(line: &[u8]) -> Result<Self, Violation> {
        let method_end = memchr::memchr(b' ', line).ok_or(Violation::RequestLine)?;
        let target_start = method_end + 1;
        let target_length = memchr::memchr(b' ', &line[target_start..]).ok_or(Violation::RequestLine)?;
        let target_end = target_start + target_length;
        let method = &line[..method_end];
        let target = &line[target_start..target_end];
        let version = &line[target_end + 1..];
        if method.is_empty() || target.is_empty() || memchr::memchr2(b' ', b'\t', version).is_some() {
            return Err(Violation::RequestLine);
        }
        if method.len() > METHOD_BYTES || !is_token(method) {
            return Err(Violation::Method);
        }
        if !is_target(target) {
            return Err(Violation::Target);
        }
        let is_old = match version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            _ => return Err(Violation::Version),
        };
        let is_connect = method == b"CONNECT";
        let (authority, default_port) = target_form(method, target)?;
        let authority = authority.map(|range| range.start + target_start..range.end + target_start);
        Ok(Self { is_connect, is_old, authority, default_port })
    }
}

/// Where the authority of `target` stands, and its default port. The method decides which forms there are.
fn target_form(method: &[u8], target: &[u8]) -> Result<(Option<Range<usize>>, Option<u16>), Violation> {
    if method == b"CONNECT" {
        let authority = Authority::parse(target).ok_or(Violation::Target)?;
        authority.port.ok_or(Violation::Target)?;
        return Ok((Some(0..target.len()), authority.port));
    }
    match target {
        [b'/', ..] => Ok((None, None)),
        b"*" if method == b"OPTIONS" => Ok((None, None)),
        _ => absolute_form(target),
    }
}

fn absolute_form(target: &[u8]) -> Result<(Option<Range<usize>>, Option<u16>), Violation> {
    let begins = |scheme: &[u8]| target.len() > scheme.len() && target[..scheme.len()].eq_ignore_ascii_case(scheme);
    let (start, port) = if begins(b"http://") {
        (b"http://".len(), 80)
    } else if begins(b"https://") {
        (b"https://".len(), 443)
    } else {
        return Err(Violation::Target);
    };
    let length = memchr::memchr2(b'/', b'?', &target[start..]).unwrap_or(target.len() - start);
    Authority::parse(&target[start..start + length]).ok_or(Violation::Target)?;
    Ok((Some(start..start + length), Some(port)))
}
