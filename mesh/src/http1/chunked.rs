//! A chunked body (RFC 9112 section 7.1): sizes, extensions, data and trailers, each strictly by the grammar.

use super::fields::check_trailer;
use super::syntax::{is_token_byte, is_value_byte, next_line};
use super::{Limits, Violation};

/// A body in flight. Lines are held back until they are complete, data passes as it comes, trailers pass whole.
#[derive(Debug, Default)]
pub(super) struct Chunked {
    part: Part,
    /// Up to here, from the part's first byte, no line end was found.
    scanned: usize,
    /// Extensions so far.
    extension_bytes: usize,
    /// What is wrong right behind the bytes that passed last.
    fault: Option<Violation>,
}

#[derive(Debug, Default)]
enum Part {
    #[default]
    Size,
    Data(u64),
    /// The CRLF after the data.
    End,
    Trailers {
        line_at: usize,
        fields: usize,
    },
}

impl Chunked {
    /// How many first bytes of `buffer` may pass, and whether the body ends there.
    ///
    /// A fault behind bytes that may pass is told by the next call, so that they pass first, however they came.
    pub(super) fn advance(&mut self, buffer: &[u8], limits: &Limits) -> Result<(usize, bool), Violation> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let mut passed = 0;
        loop {
            let was_trailers = matches!(self.part, Part::Trailers { .. });
            let length = match self.part(&buffer[passed..], limits) {
                Err(fault) if passed > 0 => {
                    self.fault = Some(fault);
                    return Ok((passed, false));
                }
                other => other?,
            };
            passed += length;
            if length == 0 || was_trailers {
                return Ok((passed, length > 0));
            }
        }
    }

    /// Goes on with the part that `buffer` begins with; 0: it needs more.
    fn part(&mut self, buffer: &[u8], limits: &Limits) -> Result<usize, Violation> {
        match &mut self.part {
            Part::Size => self.size(buffer, limits),
            Part::Data(left) => {
                let length = usize::try_from(*left).map_or(buffer.len(), |left| left.min(buffer.len()));
                *left -= length as u64;
                if *left == 0 {
                    self.part = Part::End;
                }
                Ok(length)
            }
            Part::End => match buffer {
                [b'\r', b'\n', ..] => {
                    self.part = Part::Size;
                    Ok(2)
                }
                [] | [b'\r'] => Ok(0),
                _ => Err(Violation::ChunkEnd),
            },
            Part::Trailers { .. } => self.trailers(buffer, limits),
        }
    }

    fn size(&mut self, buffer: &[u8], limits: &Limits) -> Result<usize, Violation> {
        let Some(line) = next_line(buffer, 0, &mut self.scanned, limits.chunk_line_bytes)? else {
            return if buffer.len() > limits.chunk_line_bytes { Err(Violation::ChunkExtensionTooLarge) } else { Ok(0) };
        };
        let digits = line.bytes.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let size = chunk_size(&line.bytes[..digits])?;
        let extensions = &line.bytes[digits..];
        if !extensions.is_empty() && extensions[0] != b';' {
            return Err(Violation::ChunkSize);
        }
        check_extensions(extensions)?;
        if self.extension_bytes + extensions.len() > limits.extension_bytes {
            return Err(Violation::ChunkExtensionTooLarge);
        }
        self.extension_bytes += extensions.len();
        self.scanned = 0;
        self.part = if size == 0 { Part::Trailers { line_at: 0, fields: 0 } } else { Part::Data(size) };
        Ok(line.length)
    }

    fn trailers(&mut self, buffer: &[u8], limits: &Limits) -> Result<usize, Violation> {
        let Part::Trailers { line_at, fields } = &mut self.part else {
            return Ok(0);
        };
        loop {
            let Some(line) = next_line(buffer, *line_at, &mut self.scanned, limits.trailer_bytes)? else {
                return if buffer.len() > limits.trailer_bytes { Err(Violation::TrailersTooLarge) } else { Ok(0) };
            };
            let end = *line_at + line.length;
            if line.bytes.is_empty() {
                return Ok(end);
            }
            *fields += 1;
            if *fields > limits.headers {
                return Err(Violation::TrailersTooLarge);
            }
            check_trailer(line.bytes)?;
            *line_at = end;
        }
    }
}

/// At most 16 digits and at most 2^63 - 1, so that no parser overflows.
fn chunk_size(digits: &[u8]) -> Result<u64, Violation> {
    if digits.is_empty() || digits.len() > 16 {
        return Err(Violation::ChunkSize);
    }
    let size = digits.iter().fold(0_u64, |sum, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            _ => (byte | 0x20) - b'a' + 10,
        };
        sum << 4 | u64::from(digit)
    });
    if size >> 63 == 0 { Ok(size) } else { Err(Violation::ChunkSize) }
}

/// `*( ";" token [ "=" ( token / quoted-string ) ] )`, without the white space that the grammar only tolerates.
fn check_extensions(mut rest: &[u8]) -> Result<(), Violation> {
    while let [b';', after @ ..] = rest {
        rest = skip_token(after)?;
        rest = match rest {
            [b'=', b'"', after @ ..] => skip_quoted(after)?,
            [b'=', after @ ..] => skip_token(after)?,
            _ => rest,
        };
    }
    if rest.is_empty() { Ok(()) } else { Err(Violation::ChunkExtension) }
}

fn skip_token(bytes: &[u8]) -> Result<&[u8], Violation> {
    match bytes.iter().take_while(|byte| is_token_byte(**byte)).count() {
        0 => Err(Violation::ChunkExtension),
        length => Ok(&bytes[length..]),
    }
}

/// Skips what follows an opening quote, up to and with the closing one.
fn skip_quoted(mut bytes: &[u8]) -> Result<&[u8], Violation> {
    loop {
        bytes = match bytes {
            [b'"', rest @ ..] => return Ok(rest),
            [b'\\', escaped, rest @ ..] if is_value_byte(*escaped) => rest,
            [b'\\', ..] => return Err(Violation::ChunkExtension),
            [byte, rest @ ..] if is_value_byte(*byte) => rest,
            _ => return Err(Violation::ChunkExtension),
        };
    }
}
