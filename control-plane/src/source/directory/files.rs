//! Finds and reads the files of a directory.

use crate::source::yaml::MAX_BYTES;
use std::collections::BTreeSet;
use std::io::Read;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Deepest nesting of directories, so that a link to a parent ends.
const MAX_DEPTH: usize = 16;
/// Most files.
const MAX_FILES: usize = 20_000;

/// Every YAML and JSON file under `root`, or `root` itself when it is a file. Names that begin with a dot are left out,
/// links are followed: a mounted ConfigMap is made of both.
///
/// # Errors
/// When any directory cannot be read: half a listing would look like deletions.
pub(super) fn list(root: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    if fs::metadata(root)?.is_file() {
        found.insert(root.to_owned());
    } else {
        walk(root, 0, &mut found)?;
    }
    Ok(found)
}

fn walk(directory: &Path, depth: usize, found: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Ok(());
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        // A link that leads nowhere, or a file that was just removed, is no file.
        let Ok(kind) = fs::metadata(&path) else { continue };
        if kind.is_dir() {
            walk(&path, depth + 1, found)?;
        } else if kind.is_file() && is_resource_file(&path) {
            found.insert(path);
            if found.len() > MAX_FILES {
                return Err(io::Error::other(format!("it holds more than {MAX_FILES} files")));
            }
        }
    }
    Ok(())
}

fn is_resource_file(path: &Path) -> bool {
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

/// How the file looks from outside; None where it cannot be seen.
pub(super) fn stamp(path: &Path) -> Option<Stamp> {
    let seen = fs::metadata(path).ok()?;
    Some(Stamp {
        inode: seen.ino(),
        size: seen.len(),
        written: (seen.mtime(), seen.mtime_nsec()),
        changed: (seen.ctime(), seen.ctime_nsec()),
    })
}

/// Content of a file as text, or why there is none.
pub(super) fn content(path: &Path) -> Result<String, String> {
    let unreadable = |e: io::Error| format!("the file cannot be read: {e}");
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(unreadable)?;
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    String::from_utf8(bytes).map_err(|_| "the file is not UTF-8 text".to_owned())
}
