//! Which destinations the proxy uses: wanted on first use, given up when idle, bounded in number; telling the control
//! plane is the stream's job.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Unresolved;

/// More destinations in use at once are not a workload but a scan.
pub(super) const MAX: usize = 10_000;
/// A name of 253 bytes, and room for the port and brackets.
const MAX_TEXT: usize = 320;
/// What was used within this time is never evicted to make room.
const BUSY: Duration = Duration::from_secs(10);

/// Changes that the stream has not told yet. Order within does not matter: what is wanted at the end decides.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) add: Vec<String>,
    pub(super) remove: Vec<String>,
}

#[derive(Debug)]
pub(super) struct Subscriptions {
    /// Value: seconds since `start` of the last use.
    wanted: RwLock<HashMap<Arc<str>, AtomicU64>>,
    untold: Mutex<HashSet<Arc<str>>>,
    /// Wakes the stream.
    changed: Notify,
    start: Instant,
    idle: Duration,
}

impl Subscriptions {
    pub(super) fn new(idle: Duration) -> Self {
        Self {
            wanted: RwLock::default(),
            untold: Mutex::default(),
            changed: Notify::new(),
            start: Instant::now(),
            idle,
        }
    }

    /// After how long without use one is given up.
    pub(super) fn idle(&self) -> Duration {
        self.idle
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_secs()
    }

    pub(super) fn len(&self) -> usize {
        self.wanted.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Marks as used; false where it is not subscribed to.
    pub(super) fn touch(&self, text: &str) -> bool {
        let wanted = self.wanted.read().unwrap_or_else(PoisonError::into_inner);
        let now = self.now();
        match wanted.get(text) {
            Some(used) => {
                // Not stored again within a second: the cache line stays shared among the workers.
                if used.load(Ordering::Relaxed) != now {
                    used.store(now, Ordering::Relaxed);
                }
                true
            }
            None => false,
        }
    }

    /// Subscribes where that is not done yet, and marks as used.
    pub(super) fn want(&self, text: &str) -> Result<(), Unresolved> {
        if self.touch(text) {
            return Ok(());
        }
        if !is_destination(text) {
            return Err(Unresolved::NotADestination);
        }
        let name: Arc<str> = text.into();
        let mut wanted = self.wanted.write().unwrap_or_else(PoisonError::into_inner);
        if wanted.len() >= MAX && !wanted.contains_key(text) {
            self.evict(&mut wanted);
            if wanted.len() >= MAX {
                return Err(Unresolved::TooMany);
            }
        }
        wanted.entry(name.clone()).or_default().store(self.now(), Ordering::Relaxed);
        self.tell([name]);
        Ok(())
    }

    /// Gives up the least recently used tenth, but nothing that is busy.
    fn evict(&self, wanted: &mut HashMap<Arc<str>, AtomicU64>) {
        let limit = self.now().saturating_sub(BUSY.as_secs());
        let mut idle: Vec<(u64, Arc<str>)> = wanted
            .iter()
            .map(|(name, used)| (used.load(Ordering::Relaxed), name.clone()))
            .filter(|(used, _)| *used < limit)
            .collect();
        idle.sort_unstable();
        idle.truncate(MAX / 10);
        for (_, name) in &idle {
            wanted.remove(name);
        }
        self.tell(idle.into_iter().map(|(_, name)| name));
    }

    /// Gives up what was idle for too long. Not called while the control plane is away: then nothing could come back.
    pub(super) fn expire(&self) {
        let mut wanted = self.wanted.write().unwrap_or_else(PoisonError::into_inner);
        let now = self.now();
        let idle = self.idle.as_secs();
        let is_idle = |used: &AtomicU64| now.saturating_sub(used.load(Ordering::Relaxed)) > idle;
        let gone: Vec<Arc<str>> = wanted.iter().filter(|(_, used)| is_idle(used)).map(|(n, _)| n.clone()).collect();
        for name in &gone {
            wanted.remove(name);
        }
        self.tell(gone);
    }

    fn tell(&self, names: impl IntoIterator<Item = Arc<str>>) {
        let mut untold = self.untold.lock().unwrap_or_else(PoisonError::into_inner);
        untold.extend(names);
        self.changed.notify_one();
    }

    /// Completes when there may be changes to tell.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Everything wanted, for a stream that begins; nothing is untold then.
    pub(super) fn all(&self) -> Vec<String> {
        let wanted = self.wanted.read().unwrap_or_else(PoisonError::into_inner);
        self.untold.lock().unwrap_or_else(PoisonError::into_inner).clear();
        wanted.keys().map(|n| n.to_string()).collect()
    }

    /// What changed since the last call or [`Self::all`].
    pub(super) fn changes(&self) -> Changes {
        let wanted = self.wanted.read().unwrap_or_else(PoisonError::into_inner);
        let untold = std::mem::take(&mut *self.untold.lock().unwrap_or_else(PoisonError::into_inner));
        let (add, remove): (Vec<_>, Vec<_>) = untold.into_iter().partition(|n| wanted.contains_key(n));
        let owned = |names: Vec<Arc<str>>| names.iter().map(|n| n.to_string()).collect();
        Changes { add: owned(add), remove: owned(remove) }
    }
}

/// Cheap shape check, so that no junk travels: `host:port`, printable, lower case.
fn is_destination(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    text.len() <= MAX_TEXT
        && !host.is_empty()
        && host
            .bytes()
            .all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase() && !matches!(b, b'/' | b'@' | b'?' | b'#'))
        && port.parse::<u16>().is_ok_and(|p| p > 0)
}

#[cfg(test)]
mod tests;
