//! A directory of YAML as the source: the very same files that `kubectl apply` takes, compared by content.
//!
//! A file that breaks keeps its last good resources; a directory that vanishes keeps everything. Only a file that is
//! really gone, or no longer holds a resource, removes it.

mod ears;
mod file;
mod files;
mod watch;

use super::Event;
use super::resource::{Key, Resource};
use crate::clock;
use crate::problem::{Problem, Severity};
use ears::{Ears, Fate, Heard};
use file::File;
use files::Stamp;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use watch::watch;

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

/// When the content of a changed file is believed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Settled {
    AtOnce,
    /// When two looks agree, since half a file may be valid YAML; at once where it was moved into its place.
    Twice,
}

/// What is known of a directory.
struct Directory {
    root: PathBuf,
    /// None: it is only looked at.
    ears: Option<Ears>,
    /// What happened and was not looked at yet.
    heard: Heard,
    files: BTreeMap<Arc<Path>, File>,
    resources: BTreeMap<Key, Known>,
    /// Files whose content is not believed yet.
    settling: BTreeSet<Arc<Path>>,
    /// Files that were changed so lately that the next change may not show from outside.
    fresh: BTreeSet<Arc<Path>>,
    /// Resources that stand in more than one place.
    doubles: usize,
    /// What is wrong with the directory itself.
    problems: Vec<Problem>,
    reported: Vec<Problem>,
}

/// What is known of one resource.
#[derive(Default)]
struct Known {
    /// What was sent: the file, and [`File::taken`].
    sent: Option<(Arc<Path>, u64)>,
    /// Every file that holds it, sorted; the first is used.
    holders: Vec<Arc<Path>>,
}

/// What a look has found out.
#[derive(Default)]
struct Findings {
    /// Resources that stand elsewhere, or otherwise, than before.
    keys: BTreeSet<Key>,
    /// Whether a file has changed at all.
    is_new: bool,
}

impl Directory {
    fn new(root: PathBuf) -> Self {
        Self {
            root,
            ears: None,
            heard: Heard::default(),
            files: BTreeMap::new(),
            resources: BTreeMap::new(),
            settling: BTreeSet::new(),
            fresh: BTreeSet::new(),
            doubles: 0,
            problems: Vec::new(),
            reported: Vec::new(),
        }
    }

    /// What is wrong with files that name a policy and have no last good state. To serve without them would let in what
    /// they forbid, so that the first reading is not complete before they are mended or taken away.
    fn hidden_policies(&self) -> Vec<Problem> {
        self.files.values().filter(|f| f.hides_policy).flat_map(|f| f.problems.iter().cloned()).collect()
    }

    fn is_settling(&self) -> bool {
        !self.settling.is_empty()
    }

    fn listen(&mut self) {
        if let Some(ears) = &mut self.ears {
            let Heard { files, anything } = ears.drain();
            self.heard.files.extend(files);
            self.heard.anything |= anything;
        }
    }

    /// Looks at everything once and returns what differs from what was returned before.
    ///
    /// Not `thorough`, it reads only files that look otherwise than when they were read.
    fn look(&mut self, settled: Settled, thorough: bool) -> Vec<Event> {
        self.listen();
        let heard = std::mem::take(&mut self.heard);
        let mut found = Findings::default();
        let problems = match files::list(&self.root) {
            Err(error) => vec![self.whole("unreadable_directory", format!("it cannot be read: {error}"))],
            Ok(listing) if listing.files.is_empty() && !self.files.is_empty() => {
                let message = "every file in it is gone; the last good state is kept".to_owned();
                vec![self.whole("empty_directory", message)]
            }
            Ok(listing) => {
                if self.ears.as_mut().is_some_and(|ears| ears.cover(&listing.directories)) {
                    // What happened before it was covered was not heard.
                    self.heard.anything = true;
                }
                let is_gone = |path: &&Arc<Path>| !listing.files.contains_key(&***path);
                let gone: Vec<Arc<Path>> = self.files.keys().filter(is_gone).cloned().collect();
                gone.iter().for_each(|path| self.drop_file(path, &mut found));
                for (path, stamp) in &listing.files {
                    let fate = heard.files.get(path).copied();
                    let is_open = |path: &Arc<Path>| self.settling.contains(path) || self.fresh.contains(path);
                    let known =
                        self.files.get_key_value(&**path).filter(|(_, file)| file.stamp.as_ref() == Some(stamp));
                    if thorough || fate.is_some() || known.is_none_or(|(path, _)| is_open(path)) {
                        self.read(path, stamp, fate, settled, &mut found);
                    }
                }
                if listing.files.is_empty() {
                    let message = "it holds no *.yaml, *.yml or *.json file".to_owned();
                    let mut problem = self.whole("empty_directory", message);
                    problem.severity = Severity::Warning;
                    vec![problem]
                } else {
                    Vec::new()
                }
            }
        };
        found.is_new |= problems != self.problems;
        self.problems = problems;
        self.difference(found)
    }

    /// As [`Directory::look`], at what was heard of alone, where that is enough.
    fn look_where_heard(&mut self) -> Vec<Event> {
        self.listen();
        let needs_all = |(path, fate): (&PathBuf, &Fate)| match (self.files.contains_key(&**path), fate) {
            (is_known, Fate::Gone) => is_known,
            (true, _) => false,
            // A link to a directory is no directory to the kernel.
            (false, _) => files::is_resource_file(path) || path.is_dir(),
        };
        if self.heard.anything || self.heard.files.iter().any(needs_all) {
            return self.look(Settled::Twice, false);
        }
        let heard = std::mem::take(&mut self.heard).files;
        let settling: Vec<Arc<Path>> = self.settling.iter().cloned().collect();
        let known = heard.iter().filter(|(path, _)| self.files.contains_key(&***path));
        let mut paths: BTreeMap<&Path, Option<Fate>> = settling.iter().map(|path| (&**path, None)).collect();
        paths.extend(known.map(|(path, fate)| (&**path, Some(*fate))));
        let mut found = Findings::default();
        for (path, fate) in paths {
            match files::stamp(path) {
                Some(stamp) => self.read(path, &stamp, fate, Settled::Twice, &mut found),
                // The next look finds it gone.
                None => self.heard.anything = true,
            }
        }
        self.difference(found)
    }

    /// Reads one file and notes in `found` what that changes.
    fn read(&mut self, path: &Path, stamp: &Stamp, fate: Option<Fate>, settled: Settled, found: &mut Findings) {
        let content = files::content(path);
        let is_unreadable = content.is_err();
        let mut is_whole = || {
            self.listen();
            fate == Some(Fate::Moved) && !self.heard.anything && !self.heard.files.contains_key(path)
        };
        let settled = if settled == Settled::AtOnce || is_whole() { Settled::AtOnce } else { Settled::Twice };
        let path: Arc<Path> = match self.files.get_key_value(path) {
            Some((path, _)) => Arc::clone(path),
            None => path.into(),
        };
        let file = self.files.entry(Arc::clone(&path)).or_default();
        let (last, objects) = (file.content(), file.update(&path, content, settled));
        file.stamp = Some(stamp.clone());
        found.is_new |= last != file.content();
        put(&mut self.settling, &path, file.is_settling());
        put(&mut self.fresh, &path, is_unreadable || !stamp.is_telling(clock::unix_now()));
        if let Some(before) = objects {
            before.iter().for_each(|key| self.lose(key, &path));
            found.keys.extend(before);
            let now: Vec<Key> = self.files.get(&path).iter().flat_map(|f| f.keys()).cloned().collect();
            now.iter().for_each(|key| self.gain(key, &path));
            found.keys.extend(now);
        }
    }

    fn drop_file(&mut self, path: &Arc<Path>, found: &mut Findings) {
        self.settling.remove(path);
        self.fresh.remove(path);
        let Some(file) = self.files.remove(path) else { return };
        file.keys().for_each(|key| self.lose(key, path));
        found.keys.extend(file.keys().cloned());
        found.is_new = true;
    }

    fn gain(&mut self, key: &Key, path: &Arc<Path>) {
        let holders = &mut self.resources.entry(key.clone()).or_default().holders;
        holders.insert(holders.partition_point(|p| p <= path), Arc::clone(path));
        self.doubles += usize::from(holders.len() == 2);
    }

    fn lose(&mut self, key: &Key, path: &Arc<Path>) {
        let Some(Known { holders, .. }) = self.resources.get_mut(key) else { return };
        if let Some(at) = holders.iter().position(|p| p == path) {
            holders.remove(at);
            self.doubles -= usize::from(holders.len() == 1);
        }
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

    /// What differs from what was sent.
    fn difference(&mut self, found: Findings) -> Vec<Event> {
        let (mut events, mut gone) = (Vec::new(), Vec::new());
        let mut places: HashMap<Arc<Path>, HashMap<&Key, usize>> = HashMap::new();
        for key in found.keys {
            let Some(known) = self.resources.get_mut(&key) else { continue };
            let Some((path, file)) = known.holders.first().and_then(|path| self.files.get_key_value(path)) else {
                if self.resources.remove(&key).is_some_and(|known| known.sent.is_some()) {
                    gone.push(Event::Delete(key));
                }
                continue;
            };
            let state = Some((Arc::clone(path), file.taken));
            if known.sent == state {
                continue;
            }
            known.sent = state;
            let places = places.entry(Arc::clone(path)).or_insert_with(|| file.places());
            let object = places.get(&key).and_then(|at| file.objects.get(*at));
            events.extend(object.map(|(key, resource, problems)| match resource.clone() {
                Some(resource) => Event::Upsert { resource, problems: problems.clone() },
                None => Event::Refused { key: key.clone(), generation: 0, problems: problems.clone() },
            }));
        }
        drop(places);
        events.extend(gone);
        if found.is_new {
            let reports = self.reports();
            if reports != self.reported {
                self.reported.clone_from(&reports);
                events.push(Event::Report(reports));
            }
        }
        events
    }

    /// What is wrong with the directory, with whole files, and with resources that stand in more than one place.
    fn reports(&self) -> Vec<Problem> {
        let mut reports = self.problems.clone();
        let mut seen: HashMap<&Key, &Path> = HashMap::new();
        for (path, file) in &self.files {
            reports.extend(file.problems.iter().cloned());
            if self.doubles == 0 {
                continue;
            }
            for (key, resource, problems) in &file.objects {
                match seen.get(key) {
                    Some(first) => reports.push(duplicate(path, key, resource.as_ref(), problems, first)),
                    None => drop(seen.insert(key, path)),
                }
            }
        }
        reports
    }
}

fn put(set: &mut BTreeSet<Arc<Path>>, path: &Arc<Path>, is_in: bool) {
    if is_in {
        set.insert(Arc::clone(path));
    } else {
        set.remove(path);
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

#[cfg(test)]
mod tests;
