//! What is wrong with a user's configuration: where it is, what it means and what to do about it.

use serde::Serialize;
use std::fmt;

/// How bad a [`Problem`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The resource, or the named part of it, is not in force.
    Error,
    /// In force, but probably not as meant.
    Warning,
    /// Nothing to do; said so that nothing is passed over in silence.
    Note,
}

/// One problem, with its place in the file where there is a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// Path of the file, empty for a source without files.
    pub file: String,
    /// 1-based, 0 where no line is known.
    pub line: u32,
    /// How bad it is.
    pub severity: Severity,
    /// Stable, e.g. `unknown_subset`; catalogued in `docs/problems.md`.
    pub code: &'static str,
    /// `VirtualService dev/prod-service-route`; empty for a whole file.
    pub resource: String,
    /// `spec.http[0].route[0].destination.subset`; empty for the whole resource.
    pub field: String,
    /// What is wrong, in one sentence.
    pub message: String,
    /// What to do next, in one sentence; may be empty.
    pub advice: String,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            write!(f, "{}:", self.file)?;
            if self.line > 0 {
                write!(f, "{}:", self.line)?;
            }
            f.write_str(" ")?;
        }
        write!(f, "{}[{}]", self.severity, self.code)?;
        for part in [&self.resource, &self.field].into_iter().filter(|p| !p.is_empty()) {
            write!(f, " {part}")?;
        }
        write!(f, ": {}", self.message)?;
        if !self.advice.is_empty() {
            write!(f, " {}", self.advice)?;
        }
        Ok(())
    }
}
