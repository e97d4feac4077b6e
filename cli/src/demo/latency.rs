//! Latencies in logarithmic buckets: bounded memory, quantiles to within 1/16.

use std::time::Duration;

const SUB: u64 = 16;

/// Counts of latencies.
#[derive(Clone, Debug, Default)]
pub(super) struct Latencies {
    buckets: Vec<u64>,
    count: u64,
}

impl Latencies {
    /// Counts one.
    pub(super) fn add(&mut self, latency: Duration) {
        let index = index(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        if self.buckets.len() <= index {
            self.buckets.resize(index + 1, 0);
        }
        self.buckets[index] += 1;
        self.count += 1;
    }

    /// The latency that `quantile` (0 to 1) of all do not exceed; None where there are none.
    pub(super) fn quantile(&self, quantile: f64) -> Option<Duration> {
        let wanted = ((self.count as f64 * quantile).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Some(Duration::from_micros(upper(index)));
            }
        }
        None
    }
}

/// Bucket of `micros`: exact below 16, then 16 buckets for each power of two.
fn index(micros: u64) -> usize {
    let micros = micros.min(1 << 40); // twelve days: nothing waits longer
    if micros < SUB {
        return micros as usize;
    }
    let power = u64::from(micros.ilog2()) - 4;
    (SUB * (power + 1) + (micros >> power) - SUB) as usize
}

/// Largest value of bucket `index`.
fn upper(index: usize) -> u64 {
    let index = index as u64;
    if index < SUB {
        return index;
    }
    let power = index / SUB - 1;
    ((index % SUB + SUB + 1) << power) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_close_to_exact() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile(0.5), None);
        for micros in 1..=10_000 {
            latencies.add(Duration::from_micros(micros));
        }
        for (quantile, exact) in [(0.5, 5_000.0), (0.99, 9_900.0), (1.0, 10_000.0)] {
            let found = latencies.quantile(quantile).expect("some").as_micros() as f64;
            assert!((found / exact - 1.0).abs() < 1.0 / 16.0, "{quantile}: {found}");
        }
    }

    #[test]
    fn each_value_lies_in_its_bucket() {
        for micros in (0..5_000).chain([1 << 30, 1 << 40]) {
            let bucket = index(micros);
            assert!(micros <= upper(bucket) && (bucket == 0 || micros > upper(bucket - 1)), "{micros}");
        }
    }
}
