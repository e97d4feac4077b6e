//! Waiting for a condition with a deadline, the only kind of waiting that the suites do.

use std::time::{Duration, Instant};

/// Calls `probe` until it yields a value; panics with `what` and the last refusal after `limit`.
pub fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        match probe() {
            Ok(value) => return value,
            Err(last) if Instant::now() >= deadline => panic!("after {limit:?} still not: {what}; last seen: {last}"),
            Err(_) => std::thread::sleep(Duration::from_millis(40)),
        }
    }
}

/// As [`until`], for a plain condition, within 30 s.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    until(what, Duration::from_secs(30), || if condition() { Ok(()) } else { Err("false".to_owned()) });
}
