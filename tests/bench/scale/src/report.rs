//! What was measured, as a table for people and as JSON for programs. Pure.

use std::time::Duration;

use serde_json::{Value, json};

/// One measured figure.
#[derive(Clone, Debug)]
pub struct Figure {
    /// What it is, with its unit.
    pub what: String,
    /// The value.
    pub value: f64,
    /// What it should be at most.
    pub target: Option<f64>,
}

/// Everything that was measured, in order.
#[derive(Clone, Debug, Default)]
pub struct Report(pub Vec<Figure>);

impl Report {
    /// Adds a figure without a target.
    pub fn add(&mut self, what: &str, value: f64) {
        self.0.push(Figure { what: what.to_owned(), value, target: None });
    }

    /// Adds a figure that should be at most `target`.
    pub fn at_most(&mut self, what: &str, value: f64, target: f64) {
        self.0.push(Figure { what: what.to_owned(), value, target: Some(target) });
    }

    /// Adds the middle, the 99th percentile and the largest of `times`, in ms.
    pub fn spread(&mut self, what: &str, times: &mut [Duration], p99: Option<f64>) {
        times.sort_unstable();
        let ms = |share: f64| quantile(times, share).as_secs_f64() * 1e3;
        self.add(&format!("{what}, p50 ms"), ms(0.5));
        let tail = Figure { what: format!("{what}, p99 ms"), value: ms(0.99), target: p99 };
        self.0.push(tail);
        self.add(&format!("{what}, max ms"), ms(1.0));
    }

    /// The rows of a table in Markdown.
    pub fn table(&self) -> String {
        let mut text = "| figure | value | target |\n|---|--:|--:|\n".to_owned();
        for Figure { what, value, target } in &self.0 {
            let target = target.map_or_else(String::new, |t| format!("{t}"));
            text.push_str(&format!("| {what} | {value:.2} | {target} |\n"));
        }
        text
    }

    /// The figures by name.
    pub fn json(&self) -> Value {
        self.0.iter().map(|f| json!({ "figure": f.what, "value": f.value, "target": f.target })).collect()
    }
}

/// The smallest of the sorted `times` that at least `share` of them do not pass.
fn quantile(times: &[Duration], share: f64) -> Duration {
    let last = times.len().saturating_sub(1);
    let at = ((times.len() as f64 * share).ceil() as usize).saturating_sub(1).min(last);
    times.get(at).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let times: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        let at = |share| quantile(&times, share).as_millis();
        assert_eq!([at(0.5), at(0.99), at(1.0)], [50, 99, 100]);
        assert_eq!(quantile(&[], 0.5), Duration::ZERO);
    }
}
