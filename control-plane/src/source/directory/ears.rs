//! Hears from the kernel which files of some directories change. It hears nothing of what another machine writes on a shared
//! file system, nor behind links that lead elsewhere: whoever listens looks by itself now and then.

use super::files::is_hidden;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::unix::AsyncFd;

/// Directories that are listened to; the others are looked at only now and then.
const MAX_WATCHES: usize = 4096;
/// What is listened for.
const WANTED: WatchFlags = WatchFlags::MODIFY
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);
/// Bytes of events that are read at once.
const BUFFER: usize = 16 * 1024;

/// See the module.
pub(super) struct Ears {
    queue: Arc<AsyncFd<OwnedFd>>,
    /// By the kernel's number. Two paths may lead to one directory.
    watched: BTreeMap<i32, BTreeSet<PathBuf>>,
}

/// What has happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// What is not a directory, and what happened to it last.
    pub(super) files: BTreeMap<PathBuf, Fate>,
    /// Directories came or went, or more happened than can be told.
    pub(super) anything: bool,
}

/// What happened to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It was moved to where it is, so it is whole.
    Moved,
    /// It was made or written to, perhaps not to the end.
    Written,
    /// It is no longer there.
    Gone,
}

impl Heard {
    /// Nothing at all.
    pub(super) fn is_nothing(&self) -> bool {
        self.files.is_empty() && !self.anything
    }
}

impl Ears {
    /// Ears that hear nothing yet. Belongs to the runtime that it is called in.
    ///
    /// # Errors
    /// When the kernel has no room for another listener.
    pub(super) fn new() -> std::io::Result<Self> {
        let queue = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        #[allow(deprecated, reason = "what replaces it is unsafe, for descriptors that are not owned; this one is")]
        let queue = AsyncFd::with_interest(queue, tokio::io::Interest::READABLE)?;
        Ok(Self { queue: Arc::new(queue), watched: BTreeMap::new() })
    }

    /// Listens to what these paths lead to now and to nothing else; true where that is new, so that something may have
    /// happened unheard.
    pub(super) fn cover(&mut self, directories: &BTreeSet<PathBuf>) -> bool {
        let mut now: BTreeMap<i32, BTreeSet<PathBuf>> = BTreeMap::new();
        for path in directories.iter().take(MAX_WATCHES) {
            // Where the kernel refuses, the directory is looked at now and then.
            if let Ok(number) = inotify::add_watch(&*self.queue, path, WANTED) {
                now.entry(number).or_default().insert(path.clone());
            }
        }
        for number in self.watched.keys().filter(|number| !now.contains_key(number)) {
            // It may be gone already, and the watch with it.
            let _ = inotify::remove_watch(&*self.queue, *number);
        }
        let is_known = |(number, paths): (&i32, &BTreeSet<PathBuf>)| {
            self.watched.get(number).is_some_and(|before| paths.is_subset(before))
        };
        let is_new = !now.iter().all(is_known);
        self.watched = now;
        is_new
    }

    /// Ready once something happened that [`Ears::drain`] did not tell.
    pub(super) fn ready(&self) -> impl Future<Output = ()> + use<> {
        let queue = Arc::clone(&self.queue);
        async move {
            match queue.readable().await {
                // Before it is drained, so that what comes meanwhile makes it ready again.
                Ok(mut ready) => ready.clear_ready(),
                Err(_) => std::future::pending().await,
            }
        }
    }

    /// What has happened since the last time.
    pub(super) fn drain(&mut self) -> Heard {
        let mut heard = Heard::default();
        let mut buffer = [MaybeUninit::<u8>::uninit(); BUFFER];
        let mut reader = inotify::Reader::new(&*self.queue, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => {
                    let flags = event.events();
                    let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
                    match self.watched.get(&event.wd()).zip(name) {
                        // Notes of editors and tools. The two dots are of a mounted ConfigMap, whose files are links through them.
                        Some((_, name)) if is_hidden(name) && !name.as_bytes().starts_with(b"..") => {}
                        Some((paths, name)) if !flags.contains(ReadFlags::ISDIR) && !is_hidden(name) => {
                            let fate = fate(flags);
                            heard.files.extend(paths.iter().map(|path| (path.join(name), fate)));
                        }
                        _ => heard.anything = true,
                    }
                    if flags.contains(ReadFlags::IGNORED) {
                        self.watched.remove(&event.wd());
                    }
                }
                Err(Errno::INTR) => {}
                Err(_) => return heard,
            }
        }
    }
}

fn fate(flags: ReadFlags) -> Fate {
    if flags.contains(ReadFlags::MOVED_TO) {
        Fate::Moved
    } else if flags.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM) {
        Fate::Gone
    } else {
        Fate::Written
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    #[tokio::test]
    async fn what_was_moved_into_place_is_whole_and_what_was_written_there_is_not() {
        let root = tempfile::TempDir::new().unwrap();
        let at = |name: &str| root.path().join(name);
        let mut ears = Ears::new().unwrap();
        assert!(ears.cover(&[root.path().to_owned()].into()));
        assert!(!ears.cover(&[root.path().to_owned()].into()));
        assert!(ears.drain().is_nothing());
        fs::write(at(".new"), "1").unwrap();
        fs::rename(at(".new"), at("moved.yaml")).unwrap();
        fs::write(at("written.yaml"), "1").unwrap();
        ears.ready().await;
        let heard = ears.drain();
        assert_eq!(heard.files, [(at("moved.yaml"), Fate::Moved), (at("written.yaml"), Fate::Written)].into());
        fs::write(at("moved.yaml"), "2").unwrap();
        assert_eq!(ears.drain(), Heard { files: [(at("moved.yaml"), Fate::Written)].into(), anything: false });
        fs::remove_file(at("moved.yaml")).unwrap();
        assert_eq!(ears.drain().files, [(at("moved.yaml"), Fate::Gone)].into());
        fs::create_dir(at("deep")).unwrap();
        assert!(ears.drain().anything, "it may hold files already");
        fs::write(at(".a.yaml.swp"), "1").unwrap();
        assert!(ears.drain().is_nothing());
        std::os::unix::fs::symlink("x", at("..data")).unwrap();
        assert!(ears.drain().anything);
    }

    #[tokio::test]
    async fn a_path_that_leads_to_another_directory_is_covered_anew() {
        let root = tempfile::TempDir::new().unwrap();
        let deep = root.path().join("deep");
        let both: BTreeSet<PathBuf> = [root.path().to_owned(), deep.clone()].into();
        fs::create_dir(&deep).unwrap();
        let mut ears = Ears::new().unwrap();
        ears.cover(&both);
        fs::rename(&deep, root.path().join("away")).unwrap();
        fs::create_dir(&deep).unwrap();
        assert!(ears.drain().anything);
        assert!(ears.cover(&both));
        fs::write(root.path().join("away/old.yaml"), "1").unwrap();
        fs::write(deep.join("a.yaml"), "1").unwrap();
        assert_eq!(ears.drain().files, [(deep.join("a.yaml"), Fate::Written)].into());
    }
}
