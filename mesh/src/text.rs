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
        if pattern.len() > 1024 {
            return Err(format!("a regex has at most 1024 bytes, this one has {}", pattern.len()));
        }
        let build =
            |pattern: &str| regex::RegexBuilder::new(pattern).size_limit(1 << 20).dfa_size_limit(1 << 20).build();
        // First as it stands: `a)|(b` is no regex, yet between parentheses of ours it would be one without anchors.
        build(pattern)
            .and_then(|_| build(&format!("\\A(?:{pattern})\\z")))
            .map(Self::Regex)
            .map_err(|e| e.to_string().lines().last().unwrap_or("not a regex").to_owned())
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

#[cfg(test)]
mod tests;
