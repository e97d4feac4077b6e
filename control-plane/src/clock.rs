//! The one place where this crate reads the clock and the random number generator; everything else takes them as
//! arguments.
#![allow(clippy::disallowed_methods)]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Seconds since the epoch.
pub fn unix_now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|d| i64::try_from(d.as_secs()).ok()).unwrap_or(0)
}

/// A point on the monotonic clock.
pub fn now() -> Instant {
    Instant::now()
}

/// Random bytes from the operating system's generator, reseeded in user space.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    rand::random()
}

/// A random number in `[0, 1)`.
pub fn unit() -> f64 {
    rand::random_range(0.0..1.0)
}

/// `base` plus or minus at most a tenth, so that what starts together does not end together.
pub fn jittered(base: Duration) -> Duration {
    base.mul_f64(rand::random_range(0.9..=1.1))
}

/// `seconds` since the epoch as RFC 3339 in UTC.
pub fn rfc3339(seconds: i64) -> String {
    time::OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|t| t.format(&time::format_description::well_known::Rfc3339).ok())
        .unwrap_or_default()
}

/// Microseconds since the epoch.
pub fn unix_micros() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|d| i64::try_from(d.as_micros()).ok()).unwrap_or(0)
}
