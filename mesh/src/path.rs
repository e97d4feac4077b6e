//! One form for each path, so that what is matched is what is forwarded, and the other forms that a server might see in
//! it, so that no policy is evaded by spelling.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Why a path is refused (with status 400).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Neither `*` nor beginning with `/`.
    #[error("the path must begin with `/`")]
    NotAbsolute,
    /// A control byte, a space, `#` or `?`.
    #[error("the path has a control byte, a space, `#` or `?`")]
    Character,
    /// `%` without two hexadecimal digits.
    #[error("the path has a `%` without two hexadecimal digits")]
    Escape,
    /// `%00`
    #[error("the path has an escaped NUL")]
    Nul,
}

/// Normalises a path without its query.
///
/// Escapes of unreserved characters are decoded, others written in upper case; what is not ASCII is escaped; `\` is `/`;
/// dot segments are removed (RFC 3986 sections 2.3, 6.2.2 and 5.2.4). Slashes are neither merged nor decoded. Doing it
/// twice changes nothing. The empty path is `/`, and `*` (of OPTIONS) stays.
///
/// # Errors
/// See [`PathError`].
pub fn normalise(path: &str) -> Result<Cow<'_, str>, PathError> {
    if path.is_empty() {
        return Ok(Cow::Borrowed("/"));
    }
    if path == "*" {
        return Ok(Cow::Borrowed(path));
    }
    if !path.starts_with('/') {
        return Err(PathError::NotAbsolute);
    }
    let unescaped = unescape(path)?;
    Ok(if has_dots(&unescaped) { Cow::Owned(remove_dots(&unescaped)) } else { unescaped })
}

fn unescape(path: &str) -> Result<Cow<'_, str>, PathError> {
    let is_plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'%' | b'\\' | b'#' | b'?');
    let Some(start) = path.bytes().position(|b| !is_plain(b)) else {
        return Ok(Cow::Borrowed(path));
    };
    let mut out = String::with_capacity(path.len() + 16);
    out.push_str(&path[..start]);
    let mut bytes = path[start..].bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => match (hex(bytes.next())? << 4) | hex(bytes.next())? {
                0 => return Err(PathError::Nul),
                b if is_unreserved(b) => out.push(char::from(b)),
                b => escape(&mut out, b),
            },
            b'\\' => out.push('/'),
            b if is_plain(b) => out.push(char::from(b)),
            b if b >= 0x80 => escape(&mut out, b),
            _ => return Err(PathError::Character),
        }
    }
    Ok(if out == path { Cow::Borrowed(path) } else { Cow::Owned(out) })
}

fn escape(out: &mut String, byte: u8) {
    // Writing to a String cannot fail.
    let _ = write!(out, "%{byte:02X}");
}

fn hex(digit: Option<u8>) -> Result<u8, PathError> {
    match digit {
        Some(d @ b'0'..=b'9') => Ok(d - b'0'),
        Some(d @ b'a'..=b'f') => Ok(d - b'a' + 10),
        Some(d @ b'A'..=b'F') => Ok(d - b'A' + 10),
        _ => Err(PathError::Escape),
    }
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Whether a segment of the path is `.` or `..`.
pub(crate) fn has_dots(path: &str) -> bool {
    path.split('/').any(|s| s == "." || s == "..")
}

/// RFC 3986 section 5.2.4 on a path that begins with `/`.
fn remove_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            ".." => {
                kept.pop();
            }
            "." => {}
            other => kept.push(other),
        }
        // A dot segment at the end leaves the slash before it.
        if is_last && matches!(segment, "." | "..") {
            kept.push("");
        }
    }
    let mut out = String::with_capacity(path.len());
    for segment in kept {
        out.push('/');
        out.push_str(segment);
    }
    if out.is_empty() { "/".to_owned() } else { out }
}

/// The path (normalised) and every other path that a server behind could take it for, without repetition: slashes
/// merged, `%2F` and `%5C` decoded, dot segments with parameters (`..;`) taken as dot segments.
///
/// A DENY must hold if any of them matches, an ALLOW only if all do.
pub fn variants(path: &str) -> impl Iterator<Item = Cow<'_, str>> {
    let others = if is_plain(path) { Vec::new() } else { readings(path) };
    std::iter::once(Cow::Borrowed(path)).chain(others.into_iter().map(Cow::Owned))
}

/// Whether there is only one way to read the path.
fn is_plain(path: &str) -> bool {
    !path.as_bytes().windows(2).any(|w| w == b"//" || w == b".;") && !path.contains('%')
}

fn readings(path: &str) -> Vec<String> {
    let slash = path.replace("%2F", "/");
    let backslash = path.replace("%5C", "/");
    let both = slash.replace("%5C", "/");
    let bare = without_dot_parameters(&both);
    let mut found: Vec<String> = Vec::new();
    for decoded in [path.to_owned(), slash, backslash, both, bare] {
        let resolved = remove_dots(&decoded);
        for reading in [merge(&resolved), remove_dots(&merge(&decoded)), resolved, merge(&decoded), decoded] {
            if reading != path && !found.contains(&reading) {
                found.push(reading);
            }
        }
    }
    found
}

/// Each run of slashes as one.
fn merge(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for c in path.chars() {
        if c != '/' || !out.ends_with('/') {
            out.push(c);
        }
    }
    out
}

/// `/..;x/` as `/../`: some servers cut parameters off before they resolve dots.
fn without_dot_parameters(path: &str) -> String {
    let cut = |segment| match str::split_once(segment, ';') {
        Some((dots @ ("." | ".."), _)) => dots,
        _ => segment,
    };
    path.split('/').map(cut).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests;
