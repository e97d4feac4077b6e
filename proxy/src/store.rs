//! `--state DIR`: the last good configuration and certificate, so that a proxy that restarts while the control plane
//! is away serves again at once; whether what is read back may be used is judged by the readers.
//!
//! One file each, replaced atomically, mode 0600 in a directory of mode 0700. A file that is broken in any way is
//! deleted and told of, never half used. Writing happens off the data path, the newest content only.

use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use causeway_mesh::directory::version as checksum;
use causeway_mesh::wire;
use prost::Message;
use tokio::sync::watch;

use crate::tls::Credential;

#[cfg(test)]
mod tests;

/// Format of both files; another one is not read.
const MAGIC: &[u8; 16] = b"causeway-state-1";
const IDENTITY: &str = "identity";
const CONFIG: &str = "config";
/// Our directory within one that is somebody else's.
const WITHIN: &str = "proxy";
/// Updates that follow one another closely are written once.
const SETTLE: Duration = Duration::from_millis(300);
/// Larger files were not written by us.
const MAX_FILE: u64 = 256 << 20;

/// A certificate as kept between runs.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredIdentity {
    /// `namespace/pod`
    pub workload: String,
    /// Chain and key.
    pub credential: Credential,
    /// The roots of its time, DER.
    pub roots: Vec<Vec<u8>>,
}

/// A configuration as kept between runs: the resources as they came over the wire.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoredConfig {
    /// `namespace/pod`
    pub workload: String,
    /// Everything held.
    pub resources: Vec<Arc<wire::Resource>>,
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
struct IdentityFile {
    #[prost(string, tag = "1")]
    workload: String,
    #[prost(bytes = "vec", repeated, tag = "2")]
    chain: Vec<Vec<u8>>,
    #[prost(bytes = "vec", tag = "3")]
    key: Vec<u8>,
    #[prost(int64, tag = "4")]
    issued_at: i64,
    #[prost(bytes = "vec", repeated, tag = "5")]
    roots: Vec<Vec<u8>>,
}

impl fmt::Debug for IdentityFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityFile").field("workload", &self.workload).finish_non_exhaustive()
    }
}

#[derive(Clone, PartialEq, Message)]
struct ConfigFile {
    #[prost(string, tag = "1")]
    workload: String,
    #[prost(message, repeated, tag = "2")]
    resources: Vec<wire::Resource>,
}

/// What an earlier run left behind, where it is whole.
#[derive(Debug, Default)]
pub struct Loaded {
    /// See [`StoredIdentity`].
    pub identity: Option<StoredIdentity>,
    /// See [`StoredConfig`].
    pub config: Option<StoredConfig>,
}

/// Takes what is to be kept and writes it in the background. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    identity: Arc<watch::Sender<Option<StoredIdentity>>>,
    config: Arc<watch::Sender<Option<StoredConfig>>>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Store {
    /// Makes `dir` where it is missing, reads what it holds and starts the writer on the current runtime.
    ///
    /// # Errors
    /// The directory cannot be made, or cannot be closed to others.
    pub fn open(dir: &Path) -> io::Result<(Self, Loaded)> {
        let dir = private(dir)?;
        let loaded = Loaded { identity: load_identity(&dir), config: load_config(&dir) };
        let (identity, config) = (watch::Sender::new(None), watch::Sender::new(None));
        tokio::spawn(write_identity(dir.clone(), identity.subscribe()));
        tokio::spawn(write_config(dir, config.subscribe()));
        Ok((Self { identity: Arc::new(identity), config: Arc::new(config) }, loaded))
    }

    /// Has the certificate written at once, in the background.
    pub fn save_identity(&self, identity: StoredIdentity) {
        self.identity.send_replace(Some(identity));
    }

    /// Has the configuration written soon, in the background; a later one in between replaces it.
    pub fn save_config(&self, config: StoredConfig) {
        self.config.send_replace(Some(config));
    }
}

/// A directory that nobody else can look into: `dir`, or one within it where `dir` is somebody else's, as the root of
/// a pod's volume is.
fn private(dir: &Path) -> io::Result<PathBuf> {
    let close = |dir: &Path| {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
    };
    match close(dir) {
        Ok(()) => Ok(dir.to_owned()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let own = dir.join(WITHIN);
            close(&own)?;
            Ok(own)
        }
        Err(error) => Err(error),
    }
}

async fn write_identity(dir: PathBuf, mut identity: watch::Receiver<Option<StoredIdentity>>) {
    while identity.changed().await.is_ok() {
        let Some(StoredIdentity { workload, credential, roots }) = identity.borrow_and_update().clone() else {
            continue;
        };
        let Credential { chain, key, issued_at } = credential;
        let file = IdentityFile { workload, chain, key, issued_at, roots };
        write_in_background(dir.join(IDENTITY), move || file.encode_to_vec()).await;
    }
}

async fn write_config(dir: PathBuf, mut config: watch::Receiver<Option<StoredConfig>>) {
    while config.changed().await.is_ok() {
        tokio::time::sleep(SETTLE).await;
        let Some(StoredConfig { workload, resources }) = config.borrow_and_update().clone() else { continue };
        let encode = move || {
            let resources = resources.iter().map(|r| wire::Resource::clone(r)).collect();
            ConfigFile { workload, resources }.encode_to_vec()
        };
        write_in_background(dir.join(CONFIG), encode).await;
    }
}

async fn write_in_background(path: PathBuf, encode: impl FnOnce() -> Vec<u8> + Send + 'static) {
    let shown = path.display().to_string();
    let written = tokio::task::spawn_blocking(move || write(&path, &encode())).await;
    if let Err(error) = written.unwrap_or_else(|e| Err(io::Error::other(e))) {
        // The proxy serves from memory; only a restart while the control plane is away would miss the file.
        tracing::warn!(path = shown, %error, "state not written");
    }
}

/// Replaces `path` atomically by magic, checksum and `payload`.
fn write(path: &Path, payload: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // `create_new`: never through a link that somebody else put there, never with somebody else's mode.
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(MAGIC)?;
    file.write_all(&checksum(payload).to_be_bytes())?;
    file.write_all(payload)?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}

/// The payload of `path`, `None` where there is no file.
fn read(path: &Path) -> Result<Option<Vec<u8>>, String> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
        Ok(meta) if !meta.is_file() || meta.len() > MAX_FILE => return Err("not a file of ours".to_owned()),
        Ok(_) => {}
    }
    let content = fs::read(path).map_err(|e| e.to_string())?;
    let rest = content.strip_prefix(MAGIC.as_slice()).ok_or("another format")?;
    let (sum, payload) = rest.split_first_chunk::<8>().ok_or("cut short")?;
    if checksum(payload) != u64::from_be_bytes(*sum) {
        return Err("the checksum differs".to_owned());
    }
    Ok(Some(payload.to_vec()))
}

fn load<M: Message + Default>(path: &Path) -> Option<M> {
    let decoded = read(path).and_then(|payload| match payload {
        Some(payload) => M::decode(payload.as_slice()).map(Some).map_err(|e| e.to_string()),
        None => Ok(None),
    });
    decoded.unwrap_or_else(|error| {
        tracing::warn!(path = %path.display(), error, "broken state file, deleted");
        if let Err(error) = fs::remove_file(path) {
            tracing::warn!(path = %path.display(), %error, "broken state file stays");
        }
        None
    })
}

fn load_identity(dir: &Path) -> Option<StoredIdentity> {
    let IdentityFile { workload, chain, key, issued_at, roots } = load(&dir.join(IDENTITY))?;
    Some(StoredIdentity { workload, credential: Credential { chain, key, issued_at }, roots })
}

fn load_config(dir: &Path) -> Option<StoredConfig> {
    let ConfigFile { workload, resources } = load(&dir.join(CONFIG))?;
    Some(StoredConfig { workload, resources: resources.into_iter().map(Arc::new).collect() })
}
