//! Patterns and names of HTTP, as routes and policies share them.

use super::{At, Faults, shown};
use crate::route::NamedMatch;
use crate::text::TextMatch;
use crate::wire;
use crate::wire::string_match::Kind;

/// Longest text of a pattern, in bytes.
const MAX_TEXT: usize = 4096;

/// What a pattern is matched with, which decides what may stand in it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    Path,
    /// Lower-cased, since hosts are compared without case.
    Host,
    /// A header's or query parameter's value.
    Value,
}

pub(super) fn pattern(
    wire: &wire::StringMatch,
    subject: Subject,
    at: &At<'_>,
    faults: &mut Faults<'_>,
) -> Option<TextMatch> {
    let Some(kind) = &wire.kind else {
        faults.add(at, "has no kind of match, or one that this proxy does not know");
        return None;
    };
    if let Kind::Exact(t) | Kind::Prefix(t) | Kind::Suffix(t) | Kind::Regex(t) | Kind::PathPrefix(t) = kind
        && t.len() > MAX_TEXT
    {
        faults.add(at, format!("has {} bytes, at most {MAX_TEXT} are taken", t.len()));
        return None;
    }
    let text = |t: &str| match subject {
        Subject::Host => t.to_ascii_lowercase().into_boxed_str(),
        Subject::Path | Subject::Value => t.into(),
    };
    match kind {
        Kind::Exact(t) => Some(TextMatch::Exact(text(t))),
        Kind::Prefix(t) => Some(TextMatch::Prefix(text(t))),
        Kind::Suffix(t) => Some(TextMatch::Suffix(text(t))),
        Kind::Present(true) => Some(TextMatch::Present),
        Kind::Present(false) => {
            faults.add(at, "`present` must be true; use `invert` for absence");
            None
        }
        Kind::PathPrefix(t) if subject == Subject::Path && t.starts_with('/') => Some(TextMatch::PathPrefix(text(t))),
        Kind::PathPrefix(_) => {
            faults.add(at, "a prefix by path segments begins with `/` and is matched with a path only");
            None
        }
        Kind::Regex(t) => match TextMatch::regex(t) {
            Ok(regex) => Some(regex),
            Err(why) => {
                faults.add(at, why);
                None
            }
        },
    }
}

pub(super) fn header(wire: &wire::NamedMatch, at: &At<'_>, faults: &mut Faults<'_>) -> Option<NamedMatch> {
    let name = header_name(&wire.name, &at.field("name"), faults);
    named(name, wire, at, faults)
}

pub(super) fn query(wire: &wire::NamedMatch, at: &At<'_>, faults: &mut Faults<'_>) -> Option<NamedMatch> {
    let is_name = |n: &str| !n.is_empty() && n.len() <= MAX_TEXT;
    let name = faults.text(&at.field("name"), &wire.name, "the name of a query parameter", is_name);
    named(name, wire, at, faults)
}

fn named(name: Option<String>, wire: &wire::NamedMatch, at: &At<'_>, faults: &mut Faults<'_>) -> Option<NamedMatch> {
    let at = at.field("value");
    let Some(value) = &wire.value else { return faults.none(at, "is missing") };
    let value = pattern(value, Subject::Value, &at, faults);
    Some(NamedMatch { name: name?.into(), value: value?, invert: wire.invert })
}

/// A header's name in lower case.
pub(super) fn header_name(name: &str, at: &At<'_>, faults: &mut Faults<'_>) -> Option<String> {
    faults.text(at, name, "the name of a header", |n| n.len() <= 256 && is_token(n)).map(|n| n.to_ascii_lowercase())
}

/// A method, compared byte by byte. A `*` is refused: it would match no request, and so a denial would deny nothing.
pub(super) fn method(name: &str, at: &At<'_>, faults: &mut Faults<'_>) -> Option<String> {
    if is_token(name) && name.len() <= 64 && !name.contains('*') {
        return Some(name.to_owned());
    }
    faults.add(at, format!("`{}` is not an HTTP method", shown(name)));
    None
}

/// `token` of RFC 9110 section 5.6.2.
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}
