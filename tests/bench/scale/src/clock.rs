//! The one place where this program reads the clock.
#![allow(clippy::disallowed_methods, reason = "this is the place")]

use std::time::Instant;

/// Now, monotonic.
pub fn now() -> Instant {
    Instant::now()
}
