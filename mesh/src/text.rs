//! Matching of one text against one pattern, shared by routes and policies.

use regex::Regex;

/// A compiled pattern. Comparison is by bytes and case-sensitive unless the caller lower-cases both sides.
#[derive(Clone, Debug)]
pub enum TextMatch {
    /// Equal.
    Exact(Box<str>),
    /// Begins with.
    Prefix(Box<str>),
    /// Ends with.
    Suffix(Box<str>),
    /// The whole text matches (RE2 syntax, linear time, compiled size limited to 1 MiB).
    Regex(Regex),
    /// Present with any value.
    Present,
    /// Prefix by whole path segments: `/a` matches `/a` and `/a/b`, not `/ab` (Gateway API `PathPrefix`).
    PathPrefix(Box<str>),
}

impl TextMatch {
    /// Compiles an anchored regex with limits on its size.
    ///
    /// # Errors
    /// What is wrong with the pattern, in one line.
    pub fn regex(pattern: &str) -> Result<Self, String> {
        // First as it stands: `a)|(b` is no regex, yet between parentheses of ours it would be one without anchors.
        regex(pattern)?;
        build(&format!("\\A(?:{pattern})\\z")).map(Self::Regex)
    }

    /// Whether `text` matches.
    pub fn is_match(&self, text: &str) -> bool {
        match self {
            Self::Exact(want) => text == &**want,
            Self::Prefix(want) => text.starts_with(&**want),
            Self::Suffix(want) => text.ends_with(&**want),
            Self::Regex(want) => want.is_match(text),
            Self::Present => true,
            Self::PathPrefix(want) => {
                let want = want.trim_end_matches('/');
                text.strip_prefix(want).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
        }
    }
}

impl TextMatch {
    /// As [`Self::is_match`], without ASCII case. Only texts that are compared as they stand can be: a regex says so
    /// itself (`(?i)`).
    pub fn is_match_without_case(&self, text: &str) -> bool {
        let begins = |want: &str| {
            text.get(..want.len()).filter(|start| start.eq_ignore_ascii_case(want)).map(|_| &text[want.len()..])
        };
        match self {
            Self::Exact(want) => text.eq_ignore_ascii_case(want),
            Self::Prefix(want) => begins(want).is_some(),
            Self::PathPrefix(want) => {
                begins(want.trim_end_matches('/')).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            Self::Suffix(_) | Self::Regex(_) | Self::Present => self.is_match(text),
        }
    }
}

/// Compiles a regex that may match anywhere, with the same limits.
///
/// # Errors
/// What is wrong with the pattern, in one line.
pub fn regex(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > 1024 {
        return Err(format!("a regex has at most 1024 bytes, this one has {}", pattern.len()));
    }
    build(pattern)
}

fn build(pattern: &str) -> Result<Regex, String> {
    regex::RegexBuilder::new(pattern)
        .size_limit(1 << 20)
        .dfa_size_limit(1 << 20)
        .build()
        .map_err(|e| e.to_string().lines().last().unwrap_or("not a regex").to_owned())
}

#[cfg(test)]
mod tests;
