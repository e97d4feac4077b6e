//! A directory of YAML as the source: the very same files that `kubectl apply` takes, polled by content.
//!
//! A file that breaks keeps its last good resources; a directory that vanishes keeps everything. Only a file that is
//! really gone, or no longer holds a resource, removes it.

mod files;

use super::read::{Outcome, items, object};
use super::resource::{Key, Origin, Resource};
use super::{Event, yaml};
use crate::problem::{Problem, Severity};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;
use xxhash_rust::xxh3::xxh3_64;

/// How often a directory is looked at in which nothing happens.
const PERIOD: Duration = Duration::from_secs(1);
/// When a change was seen: how soon to look again whether it is complete. A file is taken when two looks agree, since
/// half a file may be valid YAML.
const SETTLE: Duration = Duration::from_millis(50);
/// Whoever changes something mostly changes more: so many looks after a change are as soon as that.
const LIVELY: u32 = 60;

/// So many of the quick looks are for one that reads every file: the others pass over those that look as when they were
/// read.
const QUICK: u32 = 20;

/// What one reading of files yields.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// Every usable resource, in order of path and position.
    pub resources: Vec<Resource>,
    /// What is wrong with the files and the resources in them.
    pub problems: Vec<Problem>,
    /// Number of files read.
    pub files: usize,
}

/// Reads every `*.yaml`, `*.yml` and `*.json` under `path` (or the one file that it is) once.
pub fn read(path: &Path) -> Reading {
    let mut directory = Directory::new(path.to_owned());
    let mut reading = Reading::default();
    for event in directory.look(Settled::AtOnce, true) {
        match event {
            Event::Upsert { resource, problems } => {
                reading.resources.push(resource);
                reading.problems.extend(problems);
            }
            Event::Refused { problems, .. } | Event::Report(problems) => reading.problems.extend(problems),
            Event::Delete(_) | Event::Synced => {}
        }
    }
    reading.files = directory.files.len();
    reading
}

/// Sends what the directory holds, then what changes in it, until `events` is closed.
pub async fn watch(root: PathBuf, events: mpsc::Sender<Vec<Event>>) {
    let mut directory = Directory::new(root);
    let mut first = true;
    let mut synced = false;
    let mut told = Vec::new();
    let (mut lively, mut quick) = (0, 0);
    loop {
        let settled = if first { Settled::AtOnce } else { Settled::Twice };
        let looked = tokio::task::spawn_blocking(move || {
            let events = directory.look(settled, quick == 0);
            (directory, events)
        });
        let (back, mut batch) = match looked.await {
            Ok(looked) => looked,
            Err(error) => {
                tracing::error!(%error, "reading the directory failed; the last good state is kept");
                return events.closed().await;
            }
        };
        directory = back;
        first = false;
        if !synced {
            let hidden = directory.hidden_policies();
            if hidden.is_empty() {
                batch.push(Event::Synced);
                synced = true;
            } else if hidden != told {
                for problem in &hidden {
                    tracing::error!("nothing is served: this file may hold a policy and was never read: {problem}");
                }
                told = hidden;
            }
        }
        lively = if batch.is_empty() { u32::saturating_sub(lively, 1) } else { LIVELY };
        if !batch.is_empty() && events.send(batch).await.is_err() {
            return;
        }
        let is_quick = directory.is_settling() || lively > 0;
        quick = if is_quick { (quick + 1) % QUICK } else { 0 };
        let pause = if is_quick { SETTLE } else { PERIOD };
        tokio::select! {
            () = events.closed() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// When the content of a changed file is believed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Settled {
    AtOnce,
    Twice,
}

/// What is known of a directory.
struct Directory {
    root: PathBuf,
    files: BTreeMap<PathBuf, File>,
    /// What was sent, with the file and the content that it came from.
    sent: BTreeMap<Key, (PathBuf, u64)>,
    reported: Vec<Problem>,
}

/// The last good state of a file, and what is wrong with it now.
#[derive(Default)]
struct File {
    /// Hash of the content that `objects` come from.
    hash: Option<u64>,
    /// Hash seen by the last look, not yet believed.
    pending: Option<u64>,
    /// How it looked when it was read last.
    stamp: Option<files::Stamp>,
    objects: Vec<(Key, Option<Resource>, Vec<Problem>)>,
    /// Of the file as a whole, notes on what was passed over included.
    problems: Vec<Problem>,
    /// It was never read and names a kind of policy: what it forbids is not known.
    hides_policy: bool,
}

impl Directory {
    fn new(root: PathBuf) -> Self {
        Self { root, files: BTreeMap::new(), sent: BTreeMap::new(), reported: Vec::new() }
    }

    /// What is wrong with files that name a policy and have no last good state. To serve without them would let in what
    /// they forbid, so that the first reading is not complete before they are mended or taken away.
    fn hidden_policies(&self) -> Vec<Problem> {
        self.files.values().filter(|f| f.hides_policy).flat_map(|f| f.problems.iter().cloned()).collect()
    }

    fn is_settling(&self) -> bool {
        self.files.values().any(|f| f.pending.is_some())
    }

    /// Looks once and returns what differs from what was returned before.
    ///
    /// Not `thorough`, it reads only files that look otherwise than when they were read.
    fn look(&mut self, settled: Settled, thorough: bool) -> Vec<Event> {
        let mut reports = Vec::new();
        match files::list(&self.root) {
            Err(error) => reports.push(self.whole("unreadable_directory", format!("it cannot be read: {error}"))),
            Ok(paths) if paths.is_empty() && !self.files.is_empty() => {
                let message = "every file in it is gone; the last good state is kept".to_owned();
                reports.push(self.whole("empty_directory", message));
            }
            Ok(paths) => {
                if paths.is_empty() {
                    let mut problem =
                        self.whole("empty_directory", "it holds no *.yaml, *.yml or *.json file".to_owned());
                    problem.severity = Severity::Warning;
                    reports.push(problem);
                }
                self.files.retain(|path, _| paths.contains(path));
                for path in paths {
                    let file = self.files.entry(path.clone()).or_default();
                    // Before the content: what changes in between is then seen as a change.
                    let stamp = files::stamp(&path);
                    if thorough || !file.is_as(stamp.as_ref()) {
                        file.update(&path, files::content(&path), settled);
                        file.stamp = stamp;
                    }
                }
            }
        }
        self.difference(reports)
    }

    fn whole(&self, code: &'static str, message: String) -> Problem {
        Problem {
            file: self.root.display().to_string(),
            line: 0,
            severity: Severity::Error,
            code,
            resource: String::new(),
            field: String::new(),
            message,
            advice: "Check the path that --source names.".to_owned(),
        }
    }

    fn difference(&mut self, mut reports: Vec<Problem>) -> Vec<Event> {
        let mut events = Vec::new();
        let mut now: BTreeMap<Key, (PathBuf, u64)> = BTreeMap::new();
        for (path, file) in &self.files {
            reports.extend(file.problems.iter().cloned());
            for (key, resource, problems) in &file.objects {
                if let Some((first, _)) = now.get(key) {
                    reports.push(duplicate(path, key, resource.as_ref(), problems, first));
                    continue;
                }
                let state = (path.clone(), file.hash.unwrap_or_default());
                if self.sent.get(key) != Some(&state) {
                    events.push(match resource.clone() {
                        Some(resource) => Event::Upsert { resource, problems: problems.clone() },
                        None => Event::Refused { key: key.clone(), generation: 0, problems: problems.clone() },
                    });
                }
                now.insert(key.clone(), state);
            }
        }
        events.extend(self.sent.keys().filter(|k| !now.contains_key(k)).cloned().map(Event::Delete));
        self.sent = now;
        if reports != self.reported {
            self.reported.clone_from(&reports);
            events.push(Event::Report(reports));
        }
        events
    }
}

fn duplicate(path: &Path, key: &Key, resource: Option<&Resource>, problems: &[Problem], first: &Path) -> Problem {
    let line = resource.map(|r| r.meta().origin.line).or(problems.first().map(|p| p.line)).unwrap_or_default();
    Problem {
        file: path.display().to_string(),
        line,
        severity: Severity::Error,
        code: "duplicate_resource",
        resource: key.to_string(),
        field: String::new(),
        message: format!("it stands in {} too, which comes first and is used", first.display()),
        advice: "Remove one of the two.".to_owned(),
    }
}

impl File {
    /// Whether its content is believed and it still looks as when that was read.
    fn is_as(&self, stamp: Option<&files::Stamp>) -> bool {
        self.pending.is_none() && stamp.is_some() && self.stamp.as_ref() == stamp
    }

    fn update(&mut self, path: &Path, content: Result<String, String>, settled: Settled) {
        let file = path.display().to_string();
        let broken = |line, message| Problem {
            file: file.clone(),
            line,
            severity: Severity::Error,
            code: "broken_file",
            resource: String::new(),
            field: String::new(),
            message,
            advice: "Correct it; until then the last good resources of this file stay in force.".to_owned(),
        };
        let text = match content {
            Ok(text) => text,
            Err(message) => {
                // Forget the hash, so that the file is read anew when it is readable again.
                (self.pending, self.hash) = (None, self.hash.map(|h| !h));
                self.problems = vec![broken(0, message)];
                return;
            }
        };
        let hash = xxh3_64(text.as_bytes());
        if self.hash == Some(hash) {
            self.pending = None;
            return;
        }
        if settled == Settled::Twice && self.pending != Some(hash) {
            self.pending = Some(hash);
            return;
        }
        (self.pending, self.hash) = (None, Some(hash));
        match yaml::documents(&text) {
            Err(error) => {
                self.problems = vec![broken(error.line, error.message)];
                let names_policy = ["AuthorizationPolicy", "PeerAuthentication"].iter().any(|kind| text.contains(kind));
                self.hides_policy = self.objects.is_empty() && names_policy;
            }
            Ok(documents) => {
                self.hides_policy = false;
                self.replace(&file, documents);
            }
        }
    }

    fn replace(&mut self, file: &str, documents: Vec<yaml::Document>) {
        let mut last_good: BTreeMap<Key, Resource> = BTreeMap::new();
        for (key, resource, _) in self.objects.drain(..) {
            if let Some(resource) = resource {
                last_good.entry(key).or_insert(resource);
            }
        }
        self.problems.clear();
        for document in documents {
            for (path, value) in items(document.value) {
                let origin = Origin {
                    file: file.to_owned(),
                    line: document.lines.get(&path).copied().unwrap_or(document.line),
                    lines: below(&document.lines, &path),
                };
                match object(&value, &origin) {
                    Outcome::Usable(resource, problems) => {
                        self.objects.push((resource.meta().key.clone(), Some(resource), problems));
                    }
                    Outcome::Refused(key, problems, closed) => {
                        let kept = last_good.get(&key).cloned().or(closed);
                        self.objects.push((key, kept, problems));
                    }
                    Outcome::Passed(problem) => self.problems.push(problem),
                }
            }
        }
    }
}

/// The lines of the fields below `path`, by their path from there.
fn below(lines: &BTreeMap<String, u32>, path: &str) -> BTreeMap<String, u32> {
    if path.is_empty() {
        return lines.clone();
    }
    let prefix = format!("{path}.");
    lines
        .range(prefix.clone()..)
        .take_while(|(k, _)| k.starts_with(&prefix))
        .map(|(k, line)| (k[prefix.len()..].to_owned(), *line))
        .collect()
}

#[cfg(test)]
mod tests;
