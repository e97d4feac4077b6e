//! Durations as Istio's files write them: `5s`, `250ms`, `1.5s`, `1h30m`.

use crate::problem::{Problem, Severity};
use crate::source::Meta;

/// Longest duration that proxies take: thirty days.
const MAX_MS: f64 = 30.0 * 86_400_000.0;

/// Milliseconds, rounded up, so that a duration that is not zero stays so. None where the text is no duration.
pub(super) fn millis(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    if rest == "0" {
        return Some(0);
    }
    let mut sum = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        sum += number
            * match &rest[..unit] {
                "ns" => 1e-6,
                "us" | "µs" => 1e-3,
                "ms" => 1.0,
                "s" => 1e3,
                "m" => 60e3,
                "h" => 3_600e3,
                _ => return None,
            };
        rest = &rest[unit..];
    }
    (!text.trim().is_empty() && sum <= MAX_MS).then(|| sum.ceil() as u64)
}

/// The problem of a text that is no duration.
pub(super) fn problem(meta: &Meta, field: &str, text: &str, instead: &str) -> Problem {
    let message = format!("`{}` is not a duration; {instead}", text.escape_debug());
    meta.problem(Severity::Error, "invalid_duration", field, message, "Write it like 5s, 250ms or 1m30s.")
}

#[cfg(test)]
mod tests {
    use super::millis;

    #[test]
    fn durations_are_read_as_istio_writes_them() {
        let cases =
            [("5s", 5000), ("250ms", 250), ("1.5s", 1500), ("1h30m", 5_400_000), ("0s", 0), ("0", 0), ("1us", 1)];
        cases.iter().for_each(|(text, want)| assert_eq!(millis(text), Some(*want), "{text}"));
        ["", "5", "s", "5 s", "-1s", "1.2.3s", "1x", "99999999h", "1e3s"]
            .iter()
            .for_each(|t| assert_eq!(millis(t), None, "{t}"));
    }
}
