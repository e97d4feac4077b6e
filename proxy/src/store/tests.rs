//! Tests of what is kept and how.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::MetadataExt as _;

use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::*;

fn identity(workload: &str) -> StoredIdentity {
    let credential =
        Credential { chain: vec![vec![1; 300], vec![2; 200]], key: vec![7; 120], issued_at: 1_795_000_000 };
    StoredIdentity { workload: workload.to_owned(), credential, roots: vec![vec![3; 250]] }
}

fn config(names: &[&str]) -> StoredConfig {
    let resource =
        |name: &&str| Arc::new(wire::Resource { name: (*name).to_owned(), version: 9, ..Default::default() });
    StoredConfig { workload: "dev/web-0".to_owned(), resources: names.iter().map(resource).collect() }
}

/// What is on disk, once it is `wanted`; panics after 10 s.
async fn reloaded(dir: &Path, wanted: impl Fn(&Loaded) -> bool) -> Loaded {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let loaded = Loaded { identity: load_identity(dir), config: load_config(dir) };
        if wanted(&loaded) {
            return loaded;
        }
        assert!(Instant::now() < deadline, "not written in time: {loaded:?}");
        sleep(Duration::from_millis(10)).await;
    }
}

async fn filled() -> TempDir {
    let dir = TempDir::new().unwrap();
    let (store, _) = Store::open(dir.path()).unwrap();
    store.save_identity(identity("dev/web-0"));
    store.save_config(config(&["workload"]));
    reloaded(dir.path(), |l| l.identity.is_some() && l.config.is_some()).await;
    dir
}

#[tokio::test]
async fn what_was_saved_is_read_back() {
    let dir = filled().await;
    let (_store, loaded) = Store::open(dir.path()).unwrap();
    assert_eq!(loaded.identity, Some(identity("dev/web-0")));
    assert_eq!(loaded.config, Some(config(&["workload"])));
}

#[tokio::test]
async fn an_empty_or_new_directory_holds_nothing() {
    let dir = TempDir::new().unwrap();
    let (_store, loaded) = Store::open(&dir.path().join("a/b")).unwrap();
    assert!(loaded.identity.is_none() && loaded.config.is_none());
}

#[tokio::test]
async fn of_many_changes_the_last_is_on_disk_in_the_end() {
    let dir = TempDir::new().unwrap();
    let (store, _) = Store::open(dir.path()).unwrap();
    for i in 0..500 {
        store.save_config(config(&["workload", &format!("destination/svc-{i}:80")]));
    }
    // Also when nobody is left who could save.
    drop(store);
    let last = config(&["workload", "destination/svc-499:80"]);
    reloaded(dir.path(), |l| l.config.as_ref() == Some(&last)).await;
}

#[tokio::test]
async fn nobody_else_may_read_what_is_kept() {
    let dir = TempDir::new().unwrap();
    let state = dir.path().join("state");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o777)).unwrap();
    let (store, _) = Store::open(&state).unwrap();
    store.save_identity(identity("dev/web-0"));
    store.save_config(config(&["workload"]));
    reloaded(&state, |l| l.identity.is_some() && l.config.is_some()).await;
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!(mode(&state), 0o700);
    assert_eq!((mode(&state.join(IDENTITY)), mode(&state.join(CONFIG))), (0o600, 0o600));
}

#[tokio::test]
async fn a_file_that_is_broken_anywhere_is_ignored_and_deleted() {
    let dir = filled().await;
    let path = dir.path().join(IDENTITY);
    let good = fs::read(&path).unwrap();
    let mut broken: Vec<Vec<u8>> = (0..good.len()).step_by(7).map(|end| good[..end].to_vec()).collect();
    broken.extend((0..good.len()).step_by(5).map(|i| {
        let mut content = good.clone();
        content[i] ^= 0x40;
        content
    }));
    broken.push([good.clone(), vec![0]].concat());
    broken.push(b"causeway-state-2 of a later version".to_vec());
    for content in broken {
        fs::write(&path, content).unwrap();
        assert!(load_identity(dir.path()).is_none());
        assert!(!path.exists());
    }
    fs::write(&path, good).unwrap();
    assert!(load_identity(dir.path()).is_some(), "the other file and a good one are not touched");
    assert!(load_config(dir.path()).is_some());
}

#[tokio::test]
async fn a_write_that_was_cut_short_leaves_the_last_good_file() {
    let dir = filled().await;
    fs::write(dir.path().join(IDENTITY).with_extension("new"), b"half").unwrap();
    let (store, loaded) = Store::open(dir.path()).unwrap();
    assert_eq!(loaded.identity, Some(identity("dev/web-0")));
    store.save_identity(identity("dev/web-1"));
    reloaded(dir.path(), |l| l.identity == Some(identity("dev/web-1"))).await;
}

#[tokio::test]
async fn a_link_in_the_way_is_replaced_not_followed() {
    let dir = TempDir::new().unwrap();
    let elsewhere = dir.path().join("elsewhere");
    fs::write(&elsewhere, b"precious").unwrap();
    let state = dir.path().join("state");
    let (store, _) = Store::open(&state).unwrap();
    std::os::unix::fs::symlink(&elsewhere, state.join(IDENTITY).with_extension("new")).unwrap();
    store.save_identity(identity("dev/web-0"));
    reloaded(&state, |l| l.identity.is_some()).await;
    assert_eq!(fs::read(&elsewhere).unwrap(), b"precious");
}

#[test]
fn the_key_is_not_printed() {
    let shown = format!("{:?}", identity("dev/web-0"));
    assert!(!shown.contains("7, 7"), "{shown}");
}
