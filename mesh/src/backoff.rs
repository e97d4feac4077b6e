//! How long to wait before the next attempt. The caller draws the jitter and does the waiting.

use std::time::Duration;

/// The wait before attempt number `attempt` (0 is the first retry): `base` doubled each time, at most `max`, of which
/// the second half is jitter.
///
/// `unit` is a random number in `[0, 1)`; anything else is taken to the nearer bound. The result is within
/// `[min(base, max) / 2, max]`, and for an equal `unit` never shrinks as `attempt` grows.
pub fn delay(attempt: u32, base: Duration, max: Duration, unit: f64) -> Duration {
    let half = doubled(base, attempt).min(max) / 2;
    let unit = if unit.is_nan() { 0.0 } else { unit.clamp(0.0, 1.0) };
    half.saturating_add(half.mul_f64(unit)).min(max)
}

/// `base` times two to the power of `attempt`, as long as that is a duration at all.
fn doubled(base: Duration, attempt: u32) -> Duration {
    let nanos = base.as_nanos();
    if nanos == 0 || attempt == 0 {
        return base;
    }
    if attempt >= nanos.leading_zeros() {
        return Duration::MAX;
    }
    let nanos = nanos << attempt;
    let second = 1_000_000_000;
    u64::try_from(nanos / second).map_or(Duration::MAX, |whole| Duration::new(whole, (nanos % second) as u32))
}

#[cfg(test)]
mod tests;
