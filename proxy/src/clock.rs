//! The one place of the data plane that reads the clock and draws at random; decisions get both as arguments.

use std::time::Instant;

/// Now, monotonic.
#[allow(clippy::disallowed_methods)] // this is the place
pub fn now() -> Instant {
    Instant::now()
}

/// Now, seconds since the epoch.
#[allow(clippy::disallowed_methods)] // this is the place
pub fn unix() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}

/// 64 random bits.
#[allow(clippy::disallowed_methods)] // this is the place
pub fn draw() -> u64 {
    rand::random()
}

/// Uniform in `[0, 1)`.
pub fn unit() -> f64 {
    (draw() >> 11) as f64 / (1u64 << 53) as f64
}
