//! Keeps the status of every resource true while this replica leads: looks whenever something may have changed, writes what
//! differs, and never more than the API server should be asked for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use causeway_crds::Status;
use futures_util::StreamExt as _;
use kube::Client;
use kube::core::ApiResource;
use tokio::sync::watch;

use super::api::{OWN_GROUP, Outcome, Statuses, Written};
use super::event::{Notice, notices};
use super::gather::{Missing, sum};
use super::parents::{self, ParentStatus, differ_much};
use super::replicas::{Replicas, places};
use super::{Facts, PROGRAMMED, differs_much, found, generation, of};
use crate::ca::Authority;
use crate::clock;
use crate::compile::{Subject, is_route};
use crate::index::Resources;
use crate::publish::{Progress, Publisher, View};
use crate::source::Key;

/// Changes that come together are looked at together.
const QUIET: Duration = Duration::from_millis(100);
/// Looked at again at the latest after this, for what only time changes.
const TICK: Duration = Duration::from_secs(2);
/// Longest wait before what is written is read again after a failure.
const RETRY: Duration = Duration::from_secs(2);
/// Writes of one look, and how many of them at once: about 50 in a second.
const WRITES: usize = 50;
const AT_ONCE: usize = 8;
/// Between two looks that write as much as they may.
const PACE: Duration = Duration::from_secs(1);
/// Figures and words alone are written no more often than this for one resource: where nobody waits, and where somebody
/// may.
const FIGURES: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(1)];
/// How long proxies that come and go leave `Programmed` as it is.
const GRACE: Duration = Duration::from_secs(10);
/// Events: at most this many at once, and one more each second.
const EVENTS: u32 = 25;

/// See the module.
pub struct Keeper {
    /// The API server.
    pub client: Client,
    /// The configuration in force and its proxies.
    pub publisher: Arc<Publisher>,
    /// The resources in force, for where the other replicas are.
    pub resources: watch::Receiver<Option<Arc<Resources>>>,
    /// Proves to the other replicas who asks.
    pub authority: Arc<Authority>,
    /// Whether this replica writes.
    pub leader: watch::Receiver<bool>,
    /// Name of this replica.
    pub replica: String,
}

/// What is known of one resource.
#[derive(Debug, Default)]
struct Known {
    written: Written,
    /// When it was written last.
    at: Option<Instant>,
    /// Version that was in force everywhere; None where only what is written says that one was.
    programmed: Option<u64>,
    /// Since when some proxy is behind.
    behind_since: Option<Instant>,
    /// After a failure: not before.
    not_before: Option<Instant>,
}

/// One status to be written.
struct Write {
    key: Arc<Key>,
    resource: ApiResource,
    /// As it is to be.
    written: Written,
    notices: Vec<Notice>,
}

/// What one look is about.
struct Look {
    view: Arc<View>,
    own: Arc<Progress>,
    missing: Missing,
    others: Vec<super::Other>,
}

impl Keeper {
    /// Runs until it is dropped.
    pub async fn run(mut self) {
        loop {
            if self.leader.wait_for(|leads| *leads).await.is_err() {
                // Nobody elects any more: the process ends.
                return std::future::pending().await;
            }
            let mut leader = self.leader.clone();
            tokio::select! {
                () = self.lead() => {}
                // What is on its way may still arrive; nothing new is begun.
                _ = leader.wait_for(|leads| !*leads) => {}
            }
        }
    }

    async fn lead(&self) {
        let mut statuses = Statuses::new(self.client.clone(), &self.replica);
        let mut known = self.begin(&mut statuses).await;
        let mut replicas = Replicas::new(&self.replica, Arc::clone(&self.authority));
        let (mut changes, mut heard) = (self.publisher.changes(), replicas.changes());
        let mut purse = Purse { left: EVENTS, since: clock::now() };
        loop {
            changes.mark_unchanged();
            heard.mark_unchanged();
            let began = clock::now();
            if let Some(resources) = &*self.resources.borrow() {
                replicas.follow(places(resources, &self.replica));
            }
            let mut is_full = false;
            let looked = self.look(replicas.heard()).await;
            // However long a look takes, it leaves most of the time to others. Writes are mostly waiting.
            let rest = (began.elapsed() * 4).min(TICK);
            if let Some(look) = looked {
                let writes = due(&mut statuses, &look, &mut known).await;
                is_full = writes.len() >= WRITES;
                write(&statuses, writes, &mut known, &mut purse).await;
            }
            let pause = rest.max(if is_full { PACE } else { QUIET });
            tokio::time::sleep(pause).await;
            if !is_full {
                tokio::select! {
                    _ = changes.changed() => {}
                    _ = heard.changed() => {}
                    () = tokio::time::sleep(TICK) => {}
                }
            }
        }
    }

    /// What is written on the resources as this replica begins to lead.
    async fn begin(&self, statuses: &mut Statuses) -> HashMap<Key, Known> {
        let mut last = String::new();
        loop {
            match statuses.read().await {
                Ok(all) => {
                    let known = |written| Known { written, ..Known::default() };
                    return all.into_iter().map(|(key, written)| (key, known(written))).collect();
                }
                Err(error) => {
                    if last != error {
                        tracing::warn!(error, "the status of the resources cannot be read; trying again");
                        last = error;
                    }
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn look(&self, others: Vec<super::Other>) -> Option<Look> {
        let view = self.publisher.view()?;
        let (publisher, seen) = (Arc::clone(&self.publisher), Arc::clone(&view));
        let looked = tokio::task::spawn_blocking(move || {
            let own = publisher.progress()?;
            let connected: Vec<_> =
                others.iter().filter_map(|o| o.progress.as_ref()).chain([&own]).map(|p| &p.connected).collect();
            let missing = Missing::new(seen.model.running(), &connected, |client| {
                seen.concerns(client, &publisher.remembered(client))
            });
            Some((own, missing, others))
        });
        let (own, missing, others) = looked.await.ok().flatten()?;
        Some(Look { view, own, missing, others })
    }
}

/// The most urgent statuses that differ from what is written.
async fn due(statuses: &mut Statuses, look: &Look, known: &mut HashMap<Key, Known>) -> Vec<Write> {
    let now = clock::now();
    let subjects = look.view.model.subjects();
    known.retain(|key, _| subjects.contains_key(key));
    let (mut much, mut little) = (Vec::new(), Vec::new());
    for (key, subject) in subjects {
        let entry = known.entry((**key).clone()).or_default();
        if !subject.uid.is_empty() && entry.written.uid != subject.uid {
            // Another object of the same name.
            *entry = Known { written: Written { uid: subject.uid.clone(), ..Written::default() }, ..Known::default() };
        }
        let sum = sum(key, subject.version, &look.own, &look.others, &look.missing);
        let previous = &entry.written.status;
        let facts = Facts { subject, sum: &sum, previous, holds: holds(entry, subject, now), now: clock::unix_now() };
        let to_be = fitting(key, &facts, &entry.written.parents);
        // Whether it would be without the grace.
        let is_in_force = found(&of(&Facts { holds: false, ..facts }), PROGRAMMED).is_some_and(|(s, _)| s == "True");
        entry.behind_since = if is_in_force { None } else { entry.behind_since.or(Some(now)) };
        if is_in_force {
            entry.programmed = Some(subject.version);
        }
        let before = &entry.written;
        let is_same = to_be.status == before.status && to_be.parents == before.parents;
        if is_same || entry.not_before.is_some_and(|at| at > now) {
            continue;
        }
        let is_much = differs_much(&to_be.status, &before.status) || differ_much(&to_be.parents, &before.parents);
        let [quiet, awaited] = FIGURES;
        let pause = if is_in_force { quiet } else { awaited };
        if !is_much && entry.at.is_some_and(|at| now.duration_since(at) < pause) {
            continue;
        }
        if is_much { much.push((key, to_be)) } else { little.push((key, to_be)) }
    }
    let mut writes = Vec::new();
    for (key, to_be) in much.into_iter().chain(little).take(WRITES) {
        let resource = match statuses.resource(&key.group, key.kind).await {
            Ok(Some(resource)) => resource,
            Ok(None) => continue,
            Err(error) => {
                tracing::debug!(%key, error, "the kind cannot be reached");
                continue;
            }
        };
        let before = known.get(&**key).map(|k| k.written.status.clone()).unwrap_or_default();
        let notices = notices(&before, &to_be.status);
        writes.push(Write { key: Arc::clone(key), resource, written: to_be, notices });
    }
    writes
}

/// What is to be written, as far as the kind has room for it: a foreign one, for the conditions alone; a route of the
/// Gateway API, for conditions of each of its parents. `before` is what is written of these.
fn fitting(key: &Key, facts: &Facts<'_>, before: &[ParentStatus]) -> Written {
    let uid = facts.subject.uid.clone();
    if is_route(key.kind) {
        let parents = parents::of(facts, before);
        let conditions = parents.first().map(|p| p.conditions.clone()).unwrap_or_default();
        return Written { uid, status: Status { conditions, ..Status::default() }, parents };
    }
    let status = of(facts);
    let is_own = key.group == OWN_GROUP;
    let status = if is_own { status } else { Status { conditions: status.conditions, ..Status::default() } };
    Written { uid, status, parents: Vec::new() }
}

/// Whether it was in force everywhere a moment ago and nothing of it has changed since.
fn holds(known: &Known, subject: &Subject, now: Instant) -> bool {
    let before = &known.written.status;
    let was_true = found(before, PROGRAMMED).is_some_and(|(status, _)| status == "True")
        && generation(before) == Some(subject.generation);
    let is_same = known.programmed.is_none_or(|version| version == subject.version);
    was_true && is_same && known.behind_since.is_none_or(|since| now.duration_since(since) < GRACE)
}

async fn write(statuses: &Statuses, writes: Vec<Write>, known: &mut HashMap<Key, Known>, purse: &mut Purse) {
    let attempts = writes.into_iter().map(|write| async move {
        let outcome = statuses.write(&write.key, &write.resource, &write.written).await;
        (write, outcome)
    });
    let done: Vec<_> = futures_util::stream::iter(attempts).buffer_unordered(AT_ONCE).collect().await;
    for (write, outcome) in done {
        let Some(entry) = known.get_mut(&*write.key) else { continue };
        match outcome {
            Outcome::Done => {
                let uid = write.written.uid.clone();
                entry.written = write.written;
                (entry.at, entry.not_before) = (Some(clock::now()), None);
                let generation = generation(&entry.written.status).unwrap_or_default();
                for notice in &write.notices {
                    if purse.takes() {
                        statuses.tell(&write.key, &write.resource, &uid, generation, notice).await;
                    }
                }
            }
            // The source will say so too.
            Outcome::Gone => entry.not_before = Some(clock::now() + RETRY),
            Outcome::Failed(error) => {
                tracing::warn!(resource = %write.key, error, "a status was not written; trying again");
                entry.not_before = Some(clock::now() + RETRY);
            }
        }
    }
}

/// Events that may still be written.
struct Purse {
    left: u32,
    since: Instant,
}

impl Purse {
    fn takes(&mut self) -> bool {
        let earned = u32::try_from(self.since.elapsed().as_secs()).unwrap_or(EVENTS);
        if earned > 0 {
            self.left = self.left.saturating_add(earned).min(EVENTS);
            self.since = clock::now();
        }
        let has = self.left > 0;
        self.left = self.left.saturating_sub(1);
        has
    }
}
