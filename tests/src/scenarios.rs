//! Scenarios of a suite that share one stage and take turns on it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

/// A name and what is done.
pub type Scenario<S> = (&'static str, fn(&S));

/// Plays the scenarios in turn. `CAUSEWAY_SCENARIO=cors,slow` plays those whose names hold one of these words.
///
/// # Panics
/// At the end, with the names of those that failed: none needs what another did, so one does not hide the others.
pub fn play<S>(stage: &S, scenarios: &[Scenario<S>]) {
    let wanted = std::env::var("CAUSEWAY_SCENARIO").unwrap_or_default();
    let wanted = |name: &str| wanted.split(',').any(|word| name.contains(word));
    let mut failed = Vec::new();
    for (name, scenario) in scenarios.iter().filter(|(name, _)| wanted(name)) {
        let begun = Instant::now();
        println!("== {name}");
        if catch_unwind(AssertUnwindSafe(|| scenario(stage))).is_err() {
            failed.push(name);
        }
        println!("   done in {:.1} s", begun.elapsed().as_secs_f64());
    }
    assert!(failed.is_empty(), "failed: {failed:?}; what each said stands above");
}
