//! The state directory: who may use it, and how files get there whole or not at all. What the files mean is left to
//! `ca` and `token`.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::clock;

/// A secret: its owner alone reads it.
pub const PRIVATE: u32 = 0o600;
/// Anyone on the machine may read it.
pub const PUBLIC: u32 = 0o644;

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// An operation on a file failed.
    #[error("{action} {path}: {source}")]
    Io {
        /// `read`, `write`, ...
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Another process serves from it.
    #[error("{0} is in use by another control plane; give each its own --state, or stop the other one")]
    InUse(PathBuf),
}

/// An open state directory.
#[derive(Clone, Debug)]
pub struct StateDir {
    path: PathBuf,
}

/// While it lives no other control plane serves from the directory.
#[derive(Debug)]
pub struct StateLock(#[allow(dead_code)] File); // held for the lock that closing it releases

impl StateDir {
    /// Opens the directory, making it with mode 0700 where it does not exist.
    ///
    /// # Errors
    /// When it cannot be made or is not a directory.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| StateError::Io {
            action: "make the directory",
            path: path.to_owned(),
            source,
        })?;
        Ok(Self { path: path.to_owned() })
    }

    /// Takes the directory for this control plane alone, and clears away what a crash left half-written.
    ///
    /// # Errors
    /// [`StateError::InUse`], and when the lock file cannot be opened.
    pub fn lock(&self) -> Result<StateLock, StateError> {
        let path = self.file("lock");
        let open = OpenOptions::new().create(true).truncate(false).write(true).mode(PRIVATE).open(&path);
        let file = open.map_err(|source| StateError::Io { action: "open", path: path.clone(), source })?;
        match file.try_lock() {
            Ok(()) => {
                self.tidy();
                Ok(StateLock(file))
            }
            Err(fs::TryLockError::WouldBlock) => Err(StateError::InUse(self.path.clone())),
            Err(fs::TryLockError::Error(source)) => Err(StateError::Io { action: "lock", path, source }),
        }
    }

    /// Path of the file `name`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Content of `name`, None where it does not exist.
    ///
    /// # Errors
    /// When it exists but cannot be read.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StateError> {
        let path = self.file(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StateError::Io { action: "read", path, source }),
        }
    }

    /// As [`StateDir::read`], and takes from everybody but the owner the right to read the file.
    ///
    /// # Errors
    /// As [`StateDir::read`].
    pub fn read_private(&self, name: &str) -> Result<Option<Vec<u8>>, StateError> {
        let Some(bytes) = self.read(name)? else { return Ok(None) };
        let path = self.file(name);
        if let Ok(meta) = fs::metadata(&path)
            && meta.permissions().mode() & 0o077 != 0
        {
            tracing::warn!(path = %path.display(), "others could read this secret; its mode is now 0600");
            fs::set_permissions(&path, fs::Permissions::from_mode(PRIVATE)).map_err(|source| StateError::Io {
                action: "set the mode of",
                path,
                source,
            })?;
        }
        Ok(Some(bytes))
    }

    /// Replaces `name` in one step: a reader, or a crash, sees the old content or the new, never a part.
    ///
    /// # Errors
    /// When the file system refuses; the old content is then still there.
    pub fn write(&self, name: &str, bytes: &[u8], mode: u32) -> Result<(), StateError> {
        let path = self.file(name);
        let temp = self.write_temp(name, bytes, mode)?;
        let moved = fs::rename(&temp, &path).and_then(|()| self.sync());
        moved.map_err(|source| StateError::Io { action: "write", path, source })
    }

    /// Makes `name` in one step unless it exists, and returns what is there in the end: of two processes that try
    /// at once both get the same.
    ///
    /// # Errors
    /// As [`StateDir::write`].
    pub fn read_or_make(&self, name: &str, bytes: &[u8]) -> Result<Vec<u8>, StateError> {
        let path = self.file(name);
        let temp = self.write_temp(name, bytes, PRIVATE)?;
        let linked = fs::hard_link(&temp, &path);
        let _ = fs::remove_file(&temp);
        match linked {
            Ok(()) => self.sync().map_err(|source| StateError::Io { action: "write", path, source })?,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                return Ok(self.read_private(name)?.unwrap_or_default());
            }
            Err(source) => return Err(StateError::Io { action: "write", path, source }),
        }
        Ok(bytes.to_vec())
    }

    /// Removes temporary files that no writer will come back for. Those of the token key are left: the `token` command
    /// writes it without the lock.
    fn tidy(&self) {
        let Ok(entries) = fs::read_dir(&self.path) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let of = |file: &str| name.strip_prefix('.').is_some_and(|n| n.starts_with(&format!("{file}.")));
            if of(crate::ca::CA_FILE) || of(crate::ca::BUNDLE_FILE) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn write_temp(&self, name: &str, bytes: &[u8], mode: u32) -> Result<PathBuf, StateError> {
        let temp = self.file(&format!(".{name}.{:016x}", u64::from_ne_bytes(clock::random_bytes())));
        let write = || {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temp)?;
            file.write_all(bytes)?;
            // The process's umask may have taken bits away from a public file.
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            file.sync_all()
        };
        match write() {
            Ok(()) => Ok(temp),
            Err(source) => {
                let _ = fs::remove_file(&temp);
                Err(StateError::Io { action: "write", path: temp, source })
            }
        }
    }

    /// Makes a rename or link durable.
    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}
