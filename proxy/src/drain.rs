//! Orderly end: the first signal drains, the second aborts. Every connection holds a [`Busy`] while it lives.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;

/// How far the proxy is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub enum Phase {
    /// Serving.
    Serving,
    /// Not ready any more; new connections are served, but none is kept alive.
    Draining,
    /// Everything still open is cut.
    Abort,
}

/// Shared by everything that drains.
#[derive(Clone)]
pub struct Drain {
    phase: Arc<watch::Sender<Phase>>,
    busy: Arc<watch::Sender<usize>>,
    total: Arc<AtomicUsize>,
}

/// Counts one connection or tunnel while it lives.
pub struct Busy(Arc<watch::Sender<usize>>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.send_modify(|n| *n -= 1);
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            phase: Arc::new(watch::channel(Phase::Serving).0),
            busy: Arc::new(watch::channel(0).0),
            total: Arc::default(),
        }
    }
}

impl Drain {
    /// Counts one connection.
    pub fn busy(&self) -> Busy {
        self.busy.send_modify(|n| *n += 1);
        self.total.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(&self.busy))
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        *self.busy.borrow()
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Begins to drain; a second call aborts.
    pub fn next(&self) {
        self.phase.send_modify(|p| *p = if *p == Phase::Serving { Phase::Draining } else { Phase::Abort });
    }

    /// Cuts everything.
    pub fn abort(&self) {
        self.phase.send_replace(Phase::Abort);
    }

    /// Returns once the phase is at least `phase`.
    pub async fn reached(&self, phase: Phase) {
        // The sender lives as long as self, so that waiting cannot fail.
        let _ = self.phase.subscribe().wait_for(|p| *p >= phase).await;
    }

    /// Waits until nothing has been open for `quiet`, `deadline` has passed, or the drain is aborted; says whether
    /// anything had to be cut.
    pub async fn finished(&self, quiet: Duration, deadline: Duration) -> bool {
        let idle = async {
            let mut busy = self.busy.subscribe();
            loop {
                let _ = busy.wait_for(|n| *n == 0).await;
                if tokio::time::timeout(quiet, busy.wait_for(|n| *n != 0)).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = idle => false,
            () = tokio::time::sleep(deadline) => self.open() > 0,
            () = self.reached(Phase::Abort) => self.open() > 0,
        }
    }
}

#[cfg(test)]
mod tests;
