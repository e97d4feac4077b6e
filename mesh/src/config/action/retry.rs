//! Whether a request is tried again after it failed, and how long to wait before. The caller counts, draws and waits.

use std::time::Duration;

/// When to try again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Besides the first try; at most [`MAX_ATTEMPTS`].
    pub attempts: u32,
    /// See [`Conditions`].
    pub on: Conditions,
    /// Of responses.
    pub statuses: Box<[u16]>,
    /// Of responses.
    pub grpc_codes: Box<[u32]>,
    /// Of one try, from its request to the end of its response's head. Holds also without attempts.
    pub try_timeout: Option<Duration>,
    /// Bound of the first wait.
    pub backoff: Duration,
    /// Bound of every wait.
    pub backoff_max: Duration,
    /// No wait is shorter.
    pub backoff_min: Duration,
}

/// Most tries besides the first one.
pub const MAX_ATTEMPTS: u32 = 10;

/// Bound of the first wait where none is given.
pub const BACKOFF: Duration = Duration::from_millis(25);

/// Bound of every wait where none is given.
pub const BACKOFF_MAX: Duration = Duration::from_millis(250);

/// Kinds of failure after which a request is tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// No connection came about, so that nobody has seen the request.
    pub connect_failure: bool,
    /// The endpoint refused the stream unseen (RFC 9113 section 8.7).
    pub refused_stream: bool,
    /// No byte of a response came, whatever the reason, a timeout aside.
    pub reset: bool,
    /// 5xx, and no response at all.
    pub server_error: bool,
    /// 502, 503, 504, whoever says so.
    pub gateway_error: bool,
    /// 409
    pub conflict: bool,
    /// [`Retry::try_timeout`] passed.
    pub try_timeout: bool,
}

/// What one try came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// None: there was a response.
    pub cause: Option<Cause>,
    /// Of the response, or what the client would be told without one.
    pub status: u16,
    /// `grpc-status` of a response that is nothing but its head.
    pub grpc: Option<u32>,
}

/// Why there was no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// No connection.
    Connect,
    /// The stream was refused unseen.
    Refused,
    /// The connection ended after the request was sent.
    Reset,
    /// The time for one try passed.
    Timeout,
}

impl Retry {
    /// Whether an outcome is one of those after which the request is tried again, as far as the rule goes.
    pub fn covers(&self, outcome: &Outcome) -> bool {
        let on = &self.on;
        let by_cause = match outcome.cause {
            Some(Cause::Connect) => on.connect_failure || on.reset || on.server_error,
            Some(Cause::Refused) => on.refused_stream || on.reset || on.server_error,
            Some(Cause::Reset) => on.reset || on.server_error,
            Some(Cause::Timeout) => on.try_timeout || on.server_error,
            None => {
                self.statuses.contains(&outcome.status) || outcome.grpc.is_some_and(|c| self.grpc_codes.contains(&c))
            }
        };
        by_cause
            || (on.server_error && outcome.status >= 500)
            || (on.gateway_error && matches!(outcome.status, 502..=504))
            || (on.conflict && outcome.status == 409)
    }

    /// The wait before retry `number` (from 1): of `[min, bound)` the part that `unit`, drawn from `[0, 1)`, says, where
    /// the bound doubles each time up to [`Retry::backoff_max`].
    pub fn wait(&self, number: u32, unit: f64) -> Duration {
        let doubled = 2u32.checked_pow(number.saturating_sub(1)).and_then(|factor| self.backoff.checked_mul(factor));
        let bound = doubled.unwrap_or(Duration::MAX).min(self.backoff_max);
        let unit = if unit.is_nan() { 0.0 } else { unit.clamp(0.0, 1.0) };
        let spread = bound.saturating_sub(self.backoff_min);
        self.backoff_min + spread.mul_f64(unit).min(spread)
    }
}
