//! When an endpoint is ejected, for how long, and how it comes back: on probation, in which it gets one request at a time
//! and one failure ejects it again.

use std::time::Duration;

use crate::config::backend::Outlier;

/// What one try at an endpoint came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// An answer with this status; of gRPC see [`status_of_grpc`].
    Answered(u16),
    /// No connection, no answer, or none in time.
    Failed,
}

/// Why an endpoint is ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Answers of 5xx in a row.
    ServerErrors,
    /// Answers of 502, 503 and 504 in a row.
    GatewayErrors,
    /// Failures to connect or to be answered, in a row.
    ConnectFailures,
    /// Much slower than the others.
    Latency,
}

impl Reason {
    /// For metrics and views.
    pub fn code(self) -> &'static str {
        match self {
            Self::ServerErrors => "consecutive_5xx",
            Self::GatewayErrors => "consecutive_gateway_errors",
            Self::ConnectFailures => "consecutive_connect_failures",
            Self::Latency => "latency",
        }
    }
}

/// Where an endpoint stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// As good as any.
    In,
    /// Gets nothing until then. Times are counted from any fixed point.
    Ejected {
        /// Then probation begins.
        until: Duration,
        /// Why.
        reason: Reason,
    },
    /// One request at a time, so many more answers are wanted.
    Probation {
        /// Good answers still to come.
        left: u32,
        /// Why it was ejected.
        reason: Reason,
    },
}

/// Good answers in a row that end a probation.
const PROBATION: u32 = 5;

/// Longest ejection, unless the first one is configured to be longer.
const MAX_EJECTION: Duration = Duration::from_secs(300);

/// The record of one endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it stands.
    pub standing: Standing,
    server_errors: u32,
    gateway_errors: u32,
    connect_failures: u32,
    /// Ejections that are not yet forgiven.
    times: u32,
    /// End of the last ejection.
    ended: Duration,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            standing: Standing::In,
            server_errors: 0,
            gateway_errors: 0,
            connect_failures: 0,
            times: 0,
            ended: Duration::ZERO,
        }
    }
}

impl Record {
    /// Nothing to remember: another good answer changes nothing.
    pub fn is_clean(&self) -> bool {
        self.standing == Standing::In && self.server_errors + self.gateway_errors + self.connect_failures == 0
    }

    /// Notes an ending. The reason to eject the endpoint now, where there is one; what comes back from an endpoint that is
    /// ejected already says nothing new.
    pub fn note(&mut self, ending: Ending, rules: &Outlier) -> Option<Reason> {
        let status = match ending {
            Ending::Answered(status) => status,
            Ending::Failed => 503,
        };
        let count = |counter: &mut u32, is_bad: bool| *counter = if is_bad { counter.saturating_add(1) } else { 0 };
        count(&mut self.server_errors, status >= 500);
        count(&mut self.gateway_errors, matches!(status, 502..=504));
        count(&mut self.connect_failures, ending == Ending::Failed);
        let first = |of: &dyn Fn(u32, Option<u32>) -> bool| {
            let all = [
                (Reason::ConnectFailures, self.connect_failures, rules.connect_failures),
                (Reason::GatewayErrors, self.gateway_errors, rules.gateway_errors),
                (Reason::ServerErrors, self.server_errors, rules.server_errors),
            ];
            all.into_iter().find(|(_, counter, limit)| *counter > 0 && of(*counter, *limit)).map(|(reason, ..)| reason)
        };
        match self.standing {
            Standing::Ejected { .. } => None,
            Standing::In => first(&|counter, limit| limit.is_some_and(|limit| counter >= limit)),
            Standing::Probation { left, reason } => {
                // One is enough, and it is the reason from now on, whatever the endpoint was ejected for before.
                let failed = first(&|_, limit| limit.is_some());
                if failed.is_none() {
                    self.standing = match left {
                        0 | 1 => Standing::In,
                        left => Standing::Probation { left: left - 1, reason },
                    };
                }
                failed
            }
        }
    }

    /// Ejects the endpoint: the longer, the more often that happened without a quiet time between.
    pub fn eject(&mut self, reason: Reason, now: Duration, rules: &Outlier) {
        let quiet = now.saturating_sub(self.ended).as_millis() / rules.interval.as_millis().max(1);
        let forgiven = u32::try_from(quiet).unwrap_or(u32::MAX);
        self.times = self.times.saturating_sub(forgiven).saturating_add(1);
        let until = now + length(rules.base_ejection, self.times);
        *self =
            Self { standing: Standing::Ejected { until, reason }, times: self.times, ended: until, ..Self::default() };
    }

    /// Begins the probation of an endpoint whose time is over; whether it did.
    pub fn settle(&mut self, now: Duration) -> bool {
        match self.standing {
            Standing::Ejected { until, reason } if until <= now => {
                self.standing = Standing::Probation { left: PROBATION, reason };
                true
            }
            _ => false,
        }
    }
}

/// The length of the `times`-th ejection.
pub fn length(base: Duration, times: u32) -> Duration {
    base.saturating_mul(times.max(1)).min(MAX_EJECTION.max(base))
}

/// Whether one more of `all` endpoints may be ejected while `ejected` are.
pub fn may_eject(all: usize, ejected: usize, max_percent: u32) -> bool {
    let share = all * max_percent.min(100) as usize / 100;
    let floor = usize::from(all >= 2 && max_percent > 0);
    ejected < share.max(floor)
}

/// Whether so few endpoints are left that all are used.
pub fn is_too_few(all: usize, ejected: usize, min_health_percent: u32) -> bool {
    all == ejected || (all - ejected) * 100 < all * min_health_percent as usize
}

/// Endpoints whose latency is above `percent` of the median of those measured, the slowest first. Two at least must have
/// been measured; an even number has the lower of its two middles for a median.
pub fn slow(latencies: &[f64], percent: u32) -> Vec<usize> {
    let is_measured = |latency: &f64| latency.is_finite() && *latency > 0.0;
    let mut measured: Vec<f64> = latencies.iter().copied().filter(is_measured).collect();
    if measured.len() < 2 {
        return Vec::new();
    }
    measured.sort_by(f64::total_cmp);
    let median = measured[(measured.len() - 1) / 2];
    let most = median * f64::from(percent) / 100.0;
    let mut slow: Vec<usize> =
        (0..latencies.len()).filter(|i| is_measured(&latencies[*i]) && latencies[*i] > most).collect();
    slow.sort_by(|a, b| latencies[*b].total_cmp(&latencies[*a]));
    slow
}

/// The HTTP status that a gRPC code stands for, as gRPC's own mapping has it.
pub fn status_of_grpc(code: u32) -> u16 {
    match code {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}

#[cfg(test)]
mod tests;
