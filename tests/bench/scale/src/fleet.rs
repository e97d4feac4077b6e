//! All simulated proxies: collects what each has brought in force.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::proxy::Applied;

/// Longer than this no change may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// See the module; dropping it ends every stream.
pub struct Fleet {
    count: usize,
    seen: mpsc::UnboundedReceiver<Applied>,
    running: JoinSet<anyhow::Result<()>>,
}

/// One change, in force on all.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// How long it took on each proxy.
    pub times: Vec<Duration>,
    /// Bytes of all messages meanwhile.
    pub bytes: usize,
    /// Resources of all messages meanwhile.
    pub resources: usize,
}

impl Fleet {
    /// Of `count` proxies that run as `running` and tell through `seen`.
    pub fn new(count: usize, seen: mpsc::UnboundedReceiver<Applied>, running: JoinSet<anyhow::Result<()>>) -> Self {
        Self { count, seen, running }
    }

    /// Proxies.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Streams that are over.
    pub fn ended(&self) -> usize {
        self.count - self.running.len()
    }

    /// Waits until `is_meant` was true of a batch on each proxy; times count from `begun`.
    ///
    /// # Errors
    /// When a stream ended, or not all had it within 30 s.
    pub async fn until(&mut self, is_meant: impl Fn(&Applied) -> bool, begun: Instant) -> anyhow::Result<Change> {
        let all: Vec<usize> = (0..self.count).collect();
        self.until_on(&all, is_meant, begun).await
    }

    /// As [`Fleet::until`], on some proxies.
    ///
    /// # Errors
    /// When a stream ended, or not all of these had it within 30 s.
    pub async fn until_on(
        &mut self,
        some: &[usize],
        is_meant: impl Fn(&Applied) -> bool,
        begun: Instant,
    ) -> anyhow::Result<Change> {
        let (mut change, mut missing) = (Change::default(), vec![false; self.count]);
        some.iter().for_each(|number| missing[*number] = true);
        while change.times.len() < some.len() {
            let next = tokio::time::timeout(DEADLINE, async {
                tokio::select! {
                    seen = self.seen.recv() => seen.context("every stream ended"),
                    Some(ended) = self.running.join_next() => {
                        ended??;
                        anyhow::bail!("a stream ended")
                    }
                }
            });
            let told = || format!("in force on {} of {} proxies within {DEADLINE:?}", change.times.len(), some.len());
            let applied = next.await.with_context(told)??;
            change.bytes += applied.bytes;
            change.resources += applied.resources;
            if is_meant(&applied) && std::mem::take(&mut missing[applied.proxy]) {
                change.times.push(applied.at.saturating_duration_since(begun));
            }
        }
        Ok(change)
    }
}
