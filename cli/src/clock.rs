//! The one place where the command line looks at a clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Monotonic time.
#[allow(clippy::disallowed_methods)] // the one place
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Seconds since the epoch.
#[allow(clippy::disallowed_methods)] // the one place
pub(crate) fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
