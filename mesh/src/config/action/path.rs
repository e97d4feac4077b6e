//! What a request's path becomes when it is rewritten or redirected.

use regex::Regex;

use crate::path::{self, PathError};
use crate::text::{self, TextMatch};

/// Longest path that a change may make, in bytes.
const MAX_PATH: usize = 16 * 1024;

/// A change of the path; the query stays unless the new path has one.
#[derive(Clone, Debug)]
pub enum PathChange {
    /// This one instead. Begins with `/`, may have a query.
    Full(Box<str>),
    /// Instead of what the match took of the path; empty or begins with `/`.
    Prefix(Box<str>),
    /// Each match of a pattern.
    Regex(RegexChange),
}

/// Replaces each match of a pattern in the path.
#[derive(Clone, Debug)]
pub struct RegexChange {
    pattern: Regex,
    /// In the words of the crate `regex`: `${1}`, `$$`.
    template: Box<str>,
}

impl RegexChange {
    /// `\0` to `\9` in `replacement` are the groups of `pattern`, `\\` is a backslash, anything else is itself.
    ///
    /// # Errors
    /// What is wrong with either, in one line.
    pub fn new(pattern: &str, replacement: &str) -> Result<Self, String> {
        let pattern = text::regex(pattern)?;
        let mut template = String::with_capacity(replacement.len());
        let mut chars = replacement.chars();
        while let Some(c) = chars.next() {
            match c {
                '$' => template.push_str("$$"),
                '\\' => match chars.next() {
                    Some('\\') => template.push('\\'),
                    Some(digit @ '0'..='9') if (digit as usize - '0' as usize) < pattern.captures_len() => {
                        template.push_str(&format!("${{{digit}}}"));
                    }
                    Some(digit @ '0'..='9') => {
                        return Err(format!("`\\{digit}`: the pattern has {} groups", pattern.captures_len() - 1));
                    }
                    _ => return Err("after `\\` must stand a digit or another `\\`".to_owned()),
                },
                c if c.is_ascii_graphic() && !matches!(c, '#' | '?') => template.push(c),
                c => return Err(format!("`{}` cannot stand in a path", c.escape_debug())),
            }
        }
        Ok(Self { pattern, template: template.into() })
    }
}

/// Why a path that was changed is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// The result is none.
    #[error("the rewritten path: {0}")]
    NoPath(#[from] PathError),
    /// The result climbs out of what was written instead (`/a../x` with the prefix `/a`).
    #[error("the rewritten path has dot segments")]
    Dots,
    /// The result is longer than 16 KiB.
    #[error("the rewritten path is too long")]
    Long,
}

impl PathChange {
    /// Path and query after the change. `path` is normalised, `query` without `?`; `by` is the pattern on the path by
    /// which the route was taken, none where it asks nothing of the path.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub fn apply(&self, path: &str, query: Option<&str>, by: Option<&TextMatch>) -> Result<String, ChangeError> {
        if path == "*" {
            return Ok(path.to_owned()); // of the server as a whole, and no path
        }
        let changed = match self {
            Self::Full(new) if new.contains('?') => return Ok(new.clone().into_string()),
            Self::Full(new) => new.clone().into_string(),
            Self::Prefix(new) => prefixed(path, new, by),
            Self::Regex(RegexChange { pattern, template }) => pattern.replace_all(path, &**template).into_owned(),
        };
        if changed.len() > MAX_PATH {
            return Err(ChangeError::Long);
        }
        if path::has_dots(&changed) {
            return Err(ChangeError::Dots);
        }
        let mut changed = path::normalise(&changed)?.into_owned();
        if let Some(query) = query {
            changed.push('?');
            changed.push_str(query);
        }
        Ok(changed)
    }
}

/// `path` with `new` instead of what `by` took of it.
fn prefixed(path: &str, new: &str, by: Option<&TextMatch>) -> String {
    match by {
        Some(TextMatch::Prefix(taken)) => format!("{new}{}", path.get(taken.len()..).unwrap_or_default()),
        Some(TextMatch::PathPrefix(taken)) => by_segments(path, new, taken.trim_end_matches('/').len()),
        None => by_segments(path, new, 0),
        Some(_) if new.is_empty() => "/".to_owned(),
        Some(_) => new.to_owned(),
    }
}

/// Exactly one slash at the seam, and never an empty path (Gateway API, `HTTPPathModifier.replacePrefixMatch`).
fn by_segments(path: &str, new: &str, taken: usize) -> String {
    let rest = path.get(taken..).unwrap_or_default();
    match (new.trim_end_matches('/'), rest) {
        ("", "") => "/".to_owned(),
        (_, "") => new.to_owned(),
        (new, rest) => format!("{new}{rest}"),
    }
}

/// Whether `text` may stand as [`PathChange::Prefix`], or with `?` as [`PathChange::Full`]: ASCII without control
/// characters, blanks and `#`.
pub fn is_text(text: &str) -> bool {
    text.len() <= 4096 && text.bytes().all(|b| b.is_ascii_graphic() && b != b'#')
}
