//! From the source's events to the configuration in force: collects what belongs together, compiles it off the
//! runtime's threads, publishes it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use crate::ca::Authority;
use crate::clock;
use crate::compile::{Model, Settings, compile_after};
use crate::index::{Index, Resources};
use crate::metrics::{self, Metrics, SeverityLabel};
use crate::problem::Severity;
use crate::publish::{Publisher, View};
use crate::source::Event;

/// Quiet for so long: what belongs together has come.
const QUIET: Duration = Duration::from_millis(20);
/// Waited at most, however much still comes.
const AT_MOST: Duration = Duration::from_millis(200);

/// Runs until the source ends; what was in force then stays. `resources` gets each whole state before it is compiled.
pub async fn follow(
    mut events: mpsc::Receiver<Vec<Event>>,
    settings: Settings,
    authority: Arc<Authority>,
    publisher: Arc<Publisher>,
    metrics: Metrics,
    resources: watch::Sender<Option<Arc<Resources>>>,
) {
    let mut index = Index::new();
    let mut published = false;
    let mut before: Option<Arc<Model>> = None;
    while let Some(first) = events.recv().await {
        let mut changed = index.apply(first);
        let last = Instant::now() + AT_MOST;
        while let Ok(Some(more)) = timeout_at(last.min(Instant::now() + QUIET), events.recv()).await {
            changed |= index.apply(more);
        }
        // Before the first whole reading nothing is in force: half a configuration is a wrong one.
        if !index.is_synced() || (published && !changed) {
            continue;
        }
        let (snapshot, settings) = (index.snapshot(), settings.clone());
        resources.send_replace(Some(Arc::clone(&snapshot)));
        let began = clock::now();
        let count = snapshot.len();
        let last = before.clone();
        let compiled = tokio::task::spawn_blocking(move || compile_after(last.as_deref(), &snapshot, &settings)).await;
        let Ok(model) = compiled else {
            tracing::error!("compiling the configuration failed; what was in force stays");
            continue;
        };
        metrics.compile_seconds.observe(began.elapsed().as_secs_f64());
        report(&model, count, &metrics, published);
        let model = Arc::new(model);
        before = Some(Arc::clone(&model));
        publisher.publish(View::new(model, authority.bundle(clock::unix_now())));
        published = true;
    }
}

fn report(model: &Model, resources: usize, metrics: &Metrics, again: bool) {
    let count = |wanted| model.problems().iter().filter(|p| p.severity == wanted).count();
    let (errors, warnings, notes) = (count(Severity::Error), count(Severity::Warning), count(Severity::Note));
    for (severity, number) in
        [(SeverityLabel::error, errors), (SeverityLabel::warning, warnings), (SeverityLabel::note, notes)]
    {
        let gauge = metrics.problems.get_or_create(&metrics::Severity { severity });
        gauge.set(i64::try_from(number).unwrap_or(i64::MAX));
    }
    metrics.resources.set(i64::try_from(resources).unwrap_or(i64::MAX));
    let what = if again { "configuration changed" } else { "configuration read" };
    tracing::info!(resources, errors, warnings, notes, "{what}");
    for problem in model.problems().iter().filter(|p| p.severity == Severity::Error).take(20) {
        tracing::warn!("{problem}");
    }
}
