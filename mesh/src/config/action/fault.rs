//! Faults on purpose. The caller draws, waits and answers.

use std::time::Duration;

use super::is_within;

/// What goes wrong, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Before anything else is done; zero: none.
    pub delay: Duration,
    /// Of each million requests.
    pub delay_ppm: u32,
    /// The answer instead of the application's.
    pub abort: Option<Abort>,
    /// Of each million requests.
    pub abort_ppm: u32,
}

/// An answer made here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abort {
    /// 200 to 599.
    Http(u16),
    /// 1 to 16.
    Grpc(u8),
}

impl Fault {
    /// What befalls the request that was drawn these two points (any numbers). A request may be both late and aborted.
    pub fn strikes(&self, delay_point: u64, abort_point: u64) -> (Option<Duration>, Option<Abort>) {
        let delay = Some(self.delay).filter(|d| !d.is_zero() && is_within(self.delay_ppm, delay_point));
        (delay, self.abort.filter(|_| is_within(self.abort_ppm, abort_point)))
    }
}
