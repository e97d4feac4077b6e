//! One request head, line by line as it comes: valid and complete, or refused.

use super::fields::{Field, Gathered};
use super::request_line::RequestLine;
use super::syntax::{Authority, next_line};
use super::{Limits, Progress, Violation};

/// Facts about a head that was passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the body that follow; 0 when chunked.
    pub content_length: u64,
    /// Whether chunks follow.
    pub is_chunked: bool,
    /// CONNECT.
    pub is_connect: bool,
    /// `Upgrade` to something, with `Connection: upgrade`, in HTTP/1.1.
    pub is_upgrade: bool,
    /// `h2c` is among the protocols of `Upgrade`; strip it, it must not be forwarded (RFC 9113 section 3.1).
    pub names_h2c: bool,
    /// HTTP/1.0.
    pub is_http_1_0: bool,
    /// The client waits for `100 Continue`.
    pub expects_continue: bool,
}

impl Head {
    /// Whether bytes that are not HTTP/1 may follow, once the answer says so.
    pub fn asks_for_tunnel(&self) -> bool {
        self.is_connect || self.is_upgrade
    }
}

/// A head in flight. All positions count from the buffer's first byte, which stays until the head is passed whole.
#[derive(Debug, Default)]
pub(super) struct HeadParser {
    /// Where the line that is not complete yet begins.
    line_at: usize,
    /// Up to here no line end was found.
    scanned: usize,
    /// Whether anything but a tolerated empty line has come.
    begun: bool,
    /// The request line, and where it begins.
    request: Option<(RequestLine, usize)>,
    fields: usize,
    gathered: Gathered,
}

impl HeadParser {
    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Goes on with `buffer`. Done: the head's length, with the tolerated empty line before it, and its facts.
    pub(super) fn advance(&mut self, buffer: &[u8], limits: &Limits) -> Result<Progress<(usize, Head)>, Violation> {
        loop {
            let line_at = self.line_at;
            let Some(line) = next_line(buffer, line_at, &mut self.scanned, limits.head_bytes)? else {
                self.begun |= buffer.len() > line_at && (line_at > 0 || buffer[0] != b'\r');
                self.begun |= buffer.len() > line_at + 1;
                return if buffer.len() > limits.head_bytes {
                    Err(Violation::HeadTooLarge)
                } else {
                    Ok(Progress::NeedMore)
                };
            };
            self.line_at = line_at + line.length;
            match (&self.request, line.bytes) {
                // A client may end the body before with one CRLF too many.
                (None, []) if line_at == 0 => {}
                (None, []) => return Err(Violation::LeadingEmptyLines),
                (None, bytes) => {
                    self.begun = true;
                    self.request = Some((RequestLine::parse(bytes)?, line_at));
                }
                (Some((request, request_at)), []) => {
                    let head = judge(buffer, request, *request_at, &self.gathered)?;
                    return Ok(Progress::Done((self.line_at, head)));
                }
                (Some(_), bytes) => {
                    self.fields += 1;
                    if self.fields > limits.headers {
                        return Err(Violation::TooManyFields);
                    }
                    self.gathered.take(&Field::parse(bytes)?, line_at)?;
                }
            }
        }
    }
}

/// The rules that need the whole head.
fn judge(buffer: &[u8], request: &RequestLine, request_at: usize, fields: &Gathered) -> Result<Head, Violation> {
    if fields.is_chunked && request.is_old {
        return Err(Violation::EncodingInOldVersion);
    }
    if fields.is_chunked && fields.content_length.is_some() {
        return Err(Violation::LengthWithEncoding);
    }
    if request.is_connect && (fields.is_chunked || fields.content_length.is_some()) {
        return Err(Violation::ConnectWithBody);
    }
    match &fields.host {
        None if request.is_old => {}
        None => return Err(Violation::HostMissing),
        Some(range) => {
            let host = Authority::parse(&buffer[range.clone()]).ok_or(Violation::HostInvalid)?;
            if let Some(range) = &request.authority {
                let target = &buffer[request_at + range.start..request_at + range.end];
                let target = Authority::parse(target).ok_or(Violation::Target)?;
                if !target.is_same(&host, request.default_port) {
                    return Err(Violation::HostDiffers);
                }
            }
        }
    }
    Ok(Head {
        content_length: fields.content_length.unwrap_or(0),
        is_chunked: fields.is_chunked,
        is_connect: request.is_connect,
        is_upgrade: fields.upgrade && fields.connection_upgrades && !request.is_old,
        names_h2c: fields.upgrade_h2c,
        is_http_1_0: request.is_old,
        expects_continue: fields.expects_continue,
    })
}
