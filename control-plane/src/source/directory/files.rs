//! Finds and reads the files of a directory.

use crate::source::yaml::MAX_BYTES;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Deepest nesting of directories, so that a link to a parent ends.
const MAX_DEPTH: usize = 16;
/// Most files.
const MAX_FILES: usize = 20_000;

/// What a directory holds.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Every file of resources, with how it looks.
    pub(super) files: BTreeMap<PathBuf, Stamp>,
    /// Every directory that was looked into.
    pub(super) directories: BTreeSet<PathBuf>,
}

/// Every YAML and JSON file under `root`, or `root` itself when it is a file. Names that begin with a dot are left out,
/// links are followed: a mounted ConfigMap is made of both.
///
/// # Errors
/// When any directory cannot be read: half a listing would look like deletions.
pub(super) fn list(root: &Path) -> io::Result<Listing> {
    let mut found = Listing::default();
    let seen = fs::metadata(root)?;
    if seen.is_file() {
        found.files.insert(root.to_owned(), Stamp::of(&seen));
        found.directories.extend(root.parent().map(Path::to_owned));
    } else {
        walk(root, 0, &mut found)?;
    }
    Ok(found)
}

fn walk(directory: &Path, depth: usize, found: &mut Listing) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Ok(());
    }
    found.directories.insert(directory.to_owned());
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if is_hidden(&entry.file_name()) {
            continue;
        }
        let path = entry.path();
        // A link that leads nowhere, or a file that was just removed, is no file.
        let Ok(seen) = fs::metadata(&path) else { continue };
        if seen.is_dir() {
            walk(&path, depth + 1, found)?;
        } else if seen.is_file() && is_resource_file(&path) {
            found.files.insert(path, Stamp::of(&seen));
            if found.files.len() > MAX_FILES {
                return Err(io::Error::other(format!("it holds more than {MAX_FILES} files")));
            }
        }
    }
    Ok(())
}

pub(super) fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

pub(super) fn is_resource_file(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json")
}

/// What differs when a file was written or replaced, but for one of the same size within one tick of the clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    size: u64,
    written: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(seen: &fs::Metadata) -> Self {
        Self {
            inode: seen.ino(),
            size: seen.len(),
            written: (seen.mtime(), seen.mtime_nsec()),
            changed: (seen.ctime(), seen.ctime_nsec()),
        }
    }

    /// Whether whatever is written from `now` on (seconds since the epoch) gives another stamp: clocks of file systems tick
    /// seldom, some of them once in two seconds.
    pub(super) fn is_telling(&self, now: i64) -> bool {
        self.changed.0.max(self.written.0) + 2 < now
    }
}

/// How the file looks from outside; None where there is no file.
pub(super) fn stamp(path: &Path) -> Option<Stamp> {
    fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|seen| Stamp::of(&seen))
}

/// Content of a file as text, or why there is none.
pub(super) fn content(path: &Path) -> Result<String, String> {
    let unreadable = |e: io::Error| format!("the file cannot be read: {e}");
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(unreadable)?;
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    String::from_utf8(bytes).map_err(|_| "the file is not UTF-8 text".to_owned())
}
