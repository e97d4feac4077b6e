//! Which endpoint of a backend takes the next request, which may not, and how much may be in flight. The caller measures,
//! draws and keeps the time.

pub mod affinity;
pub mod budget;
pub mod hash;
pub mod outlier;
pub mod turn;
pub mod zone;

/// What is known of one endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Moving average of the time to the response's head, see [`peak_ewma`]; 0: never measured.
    pub latency_micros: f64,
    /// Requests sent and not yet answered.
    pub pending: u32,
}

/// Taken for an endpoint that has work but has answered nothing yet: one second.
const UNMEASURED_MICROS: f64 = 1_000_000.0;

/// What one more request costs there: latency times the queue that it would stand in.
///
/// An endpoint that was never measured and is idle costs nothing, so that it is tried; while it owes its first answer
/// it counts as slow, so that it is not flooded.
pub fn cost(load: Load) -> f64 {
    let queue = f64::from(load.pending) + 1.0;
    let is_measured = load.latency_micros.is_finite() && load.latency_micros > 0.0;
    match (is_measured, load.pending) {
        (true, _) => load.latency_micros * queue,
        (false, 0) => 0.0,
        (false, _) => UNMEASURED_MICROS * queue,
    }
}

/// Power of two choices among `len` endpoints: two different ones are drawn by `draw_a` and `draw_b` (any random
/// numbers), the cheaper wins, the first drawn on a tie. None when there is no endpoint.
pub fn choose(len: usize, draw_a: u64, draw_b: u64, cost: impl Fn(usize) -> f64) -> Option<usize> {
    let first = (draw_a % u64::try_from(len).ok().filter(|len| *len > 0)?) as usize;
    if len == 1 {
        return Some(first);
    }
    let other = (draw_b % (len as u64 - 1)) as usize;
    let second = if other >= first { other + 1 } else { other };
    Some(if cost(second) < cost(first) { second } else { first })
}

/// The moving average after a new sample: a slower answer counts at once and in full, faster ones win back slowly.
///
/// After `tau_micros` without a slow answer about 63 % of a peak is forgotten. Read it with a sample of 0 to let an
/// endpoint that gets no traffic recover. All are microseconds; what is not a number or negative counts as 0.
pub fn peak_ewma(previous_micros: f64, sample_micros: f64, elapsed_micros: f64, tau_micros: f64) -> f64 {
    let sane = |x: f64| if x.is_finite() && x > 0.0 { x } else { 0.0 };
    let (previous, sample) = (sane(previous_micros), sane(sample_micros));
    let tau = sane(tau_micros);
    if sample >= previous || tau == 0.0 {
        return sample;
    }
    let kept = (-sane(elapsed_micros) / tau).exp();
    sample + (previous - sample) * kept
}

/// What [`company`] gives where each new request finds one other in flight.
const ONE: u32 = 4096;

/// Moving average, in 4096ths, of the requests in flight to one endpoint that each new request finds there: `pending` of
/// them now, which is a 32nd of the average.
pub fn company(previous: u32, pending: u32) -> u32 {
    let newest = pending.min(u32::MAX / ONE) * ONE;
    previous - previous / 32 + newest / 32
}

/// Whether requests to an endpoint come one at a time, more or less. Each may have a connection to itself then, over which
/// it costs less; where several come at once they cost less together, over one connection that they share.
pub fn is_quiet(company: u32) -> bool {
    company < ONE / 2
}

#[cfg(test)]
mod tests;
