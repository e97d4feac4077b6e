//! One file of resources: its last good state, and what is wrong with it now.

use super::Settled;
use super::files::Stamp;
use crate::problem::{Problem, Severity};
use crate::source::read::{Outcome, items, object};
use crate::source::resource::{Key, Origin, Resource};
use crate::source::yaml;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use xxhash_rust::xxh3::xxh3_64;

/// See the module.
#[derive(Default)]
pub(super) struct File {
    /// Hash of the content that was believed last, understood or not.
    hash: Option<u64>,
    /// Hash seen by the last look, not yet believed.
    pending: Option<u64>,
    /// How it looked when it was read last.
    pub(super) stamp: Option<Stamp>,
    /// Hash of the content that `objects` come from.
    pub(super) taken: u64,
    pub(super) objects: Vec<(Key, Option<Resource>, Vec<Problem>)>,
    /// Of the file as a whole, notes on what was passed over included.
    pub(super) problems: Vec<Problem>,
    /// It was never read and names a kind of policy: what it forbids is not known.
    pub(super) hides_policy: bool,
}

impl File {
    /// Whether there is a content that is not believed yet.
    pub(super) fn is_settling(&self) -> bool {
        self.pending.is_some()
    }

    /// Differs where a new content is believed.
    pub(super) fn content(&self) -> Option<u64> {
        self.hash
    }

    /// What it holds, as often as it does.
    pub(super) fn keys(&self) -> impl DoubleEndedIterator<Item = &Key> + ExactSizeIterator {
        self.objects.iter().map(|(key, ..)| key)
    }

    /// Where each resource stands first.
    pub(super) fn places(&self) -> HashMap<&Key, usize> {
        self.keys().enumerate().map(|(at, key)| (key, at)).rev().collect()
    }

    /// Understands a content, if it is to be believed. Returns what it held before where its objects are others now.
    pub(super) fn update(
        &mut self,
        path: &Path,
        content: Result<String, String>,
        settled: Settled,
    ) -> Option<Vec<Key>> {
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
                return None;
            }
        };
        let hash = xxh3_64(text.as_bytes());
        if self.hash == Some(hash) {
            self.pending = None;
            return None;
        }
        if settled == Settled::Twice && self.pending != Some(hash) {
            self.pending = Some(hash);
            return None;
        }
        (self.pending, self.hash) = (None, Some(hash));
        match yaml::documents(&text) {
            Err(error) => {
                self.problems = vec![broken(error.line, error.message)];
                let names_policy = ["AuthorizationPolicy", "PeerAuthentication"].iter().any(|kind| text.contains(kind));
                self.hides_policy = self.objects.is_empty() && names_policy;
                None
            }
            Ok(documents) => {
                self.hides_policy = false;
                let before = self.keys().cloned().collect();
                self.replace(&file, documents);
                self.taken = hash;
                Some(before)
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
