//! Who may lead and for how long, as a pure function of what was seen of the Lease and when. Asking the API server is
//! left to `lease`.
//!
//! Times are durations on this process's monotonic clock. Clocks of different replicas are never compared: a Lease is
//! over when this replica has watched it unchanged for as long as it lasts, and its holder, who began its last write
//! before anybody saw it, has stopped leading by then.

use std::time::Duration;

/// A Lease is free when it was not renewed for so long.
pub const LASTS: Duration = Duration::from_secs(15);
/// A holder that could not renew for so long leads no more. The rest of [`LASTS`] is for what it has begun.
pub const LEADS: Duration = Duration::from_secs(10);
/// How often a holder renews.
pub const RENEW: Duration = Duration::from_secs(5);
/// How often the others look.
pub const LOOK: Duration = Duration::from_secs(2);
/// Wait after a failure.
pub const RETRY: Duration = Duration::from_secs(1);

/// The Lease as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Empty: given back.
    pub holder: String,
    /// `metadata.resourceVersion`: another one with each write, and the condition of the next write.
    pub version: String,
    /// How often the holder changed.
    pub transitions: i32,
}

/// What to do with the Lease that was just read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is none: make it.
    Create,
    /// Write it with our name, provided that it is still this one.
    Write(Record),
    /// It is somebody else's.
    Leave,
}

/// One replica.
#[derive(Clone, Debug)]
pub struct Candidate {
    name: String,
    /// And since when it is unchanged.
    seen: Option<(Record, Duration)>,
    leads_until: Option<Duration>,
}

impl Candidate {
    /// One that has seen nothing. `name` is unique among all processes that ever ask.
    pub fn new(name: String) -> Self {
        Self { name, seen: None, leads_until: None }
    }

    /// Whether it leads at `now`.
    pub fn leads(&self, now: Duration) -> bool {
        self.leads_until.is_some_and(|until| now < until)
    }

    /// When it stops leading unless it renews; None when it does not lead.
    pub fn leads_until(&self) -> Option<Duration> {
        self.leads_until
    }

    /// The Lease was read (None: there is none), and the answer came at `now`.
    pub fn saw(&mut self, record: Option<Record>, now: Duration) -> Step {
        let since = match (&record, &self.seen) {
            (Some(record), Some((known, since))) if record == known => *since,
            _ => now,
        };
        self.seen = record.map(|record| (record, since));
        // Somebody took it, or took it away: not ours, whatever we believed.
        let Some((record, _)) = self.seen.as_ref().filter(|(record, _)| record.holder == self.name) else {
            self.leads_until = None;
            return self.claim(now);
        };
        Step::Write(record.clone())
    }

    fn claim(&self, now: Duration) -> Step {
        match &self.seen {
            None => Step::Create,
            Some((record, since)) if record.holder.is_empty() || now >= *since + LASTS => Step::Write(record.clone()),
            Some(_) => Step::Leave,
        }
    }

    /// Our write, which began at `began`, was accepted as `record` by `now`.
    pub fn wrote(&mut self, record: Record, began: Duration, now: Duration) {
        self.seen = Some((record, now));
        self.leads_until = Some(began + LEADS);
    }

    /// Gives up leading.
    pub fn resign(&mut self) {
        self.leads_until = None;
    }

    /// How long to wait at `now` before the Lease is read again; `failed`: the last reading or writing did.
    pub fn wait(&self, now: Duration, failed: bool) -> Duration {
        match &self.seen {
            _ if failed => RETRY,
            Some((record, _)) if record.holder == self.name => RENEW,
            Some((_, since)) => (*since + LASTS).saturating_sub(now).clamp(Duration::from_millis(100), LOOK),
            None => RETRY,
        }
    }
}

#[cfg(test)]
mod tests;
