#![allow(clippy::unwrap_used)]
use super::*;
use crate::index::Index;
use std::fs;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::mpsc;

fn service(name: &str, port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: prod}}\nspec:\n  ports:\n  - port: {port}\n"
    )
}

struct Bench {
    root: TempDir,
    directory: Directory,
    index: Index,
}

impl Bench {
    fn new(files: &[(&str, &str)]) -> Self {
        let root = TempDir::new().unwrap();
        files.iter().for_each(|(name, text)| fs::write(root.path().join(name), text).unwrap());
        let directory = Directory::new(root.path().to_owned());
        let mut bench = Self { root, directory, index: Index::new() };
        bench.look();
        bench
    }

    fn write(&mut self, name: &str, text: &str) {
        fs::write(self.root.path().join(name), text).unwrap();
        self.look();
    }

    fn look(&mut self) {
        let events = self.directory.look(Settled::AtOnce, true);
        self.index.apply(events);
    }

    fn ports(&self) -> Vec<(String, u16)> {
        let snapshot = self.index.snapshot();
        snapshot.services.iter().map(|(k, s)| (k.name.clone(), s.ports[0].port)).collect()
    }

    fn codes(&self) -> Vec<(&'static str, u32)> {
        let snapshot = self.index.snapshot();
        snapshot.found.values().flatten().chain(&snapshot.reported).map(|p| (p.code, p.line)).collect()
    }
}

#[test]
fn a_change_of_a_file_is_an_upsert_and_nothing_else() {
    let mut bench = Bench::new(&[("a.yaml", &service("a", 80)), ("b.yml", &service("b", 81))]);
    assert_eq!(bench.ports(), [("a".into(), 80), ("b".into(), 81)]);
    fs::write(bench.root.path().join("a.yaml"), service("a", 90)).unwrap();
    let events = bench.directory.look(Settled::AtOnce, true);
    assert!(matches!(&events[..], [Event::Upsert { resource, .. }] if resource.meta().key.name == "a"));
    assert!(bench.directory.look(Settled::AtOnce, true).is_empty());
}

#[test]
fn a_broken_file_keeps_its_last_good_resources_and_says_where() {
    let mut bench = Bench::new(&[("a.yaml", &service("a", 80))]);
    bench.write("a.yaml", "kind: Service\nmetadata:\n  name: [\n");
    assert_eq!(bench.ports(), [("a".into(), 80)]);
    assert!(matches!(bench.codes()[..], [("broken_file", 3..=4)]), "{:?}", bench.codes());
    bench.write("a.yaml", &service("a", 82));
    assert_eq!(bench.ports(), [("a".into(), 82)]);
    assert_eq!(bench.codes(), []);
}

#[test]
fn a_broken_object_keeps_its_last_good_version_and_frees_its_neighbours() {
    let both = |port: &str| format!("{}---\n{}", service("a", 80).replace("80", port), service("b", 81));
    let mut bench = Bench::new(&[("a.yaml", &both("80"))]);
    bench.write("a.yaml", &both("eighty").replace("81", "91"));
    assert_eq!(bench.ports(), [("a".into(), 80), ("b".into(), 91)]);
    let snapshot = bench.index.snapshot();
    let problem = snapshot.found.values().flatten().next().unwrap();
    assert_eq!((problem.field.as_str(), problem.line), ("spec.ports[0].port", 6));
    assert_eq!(problem.resource, "Service prod/a");
}

#[test]
fn a_deleted_file_deletes_its_resources() {
    let mut bench = Bench::new(&[("a.yaml", &service("a", 80)), ("b.yaml", &service("b", 81))]);
    fs::remove_file(bench.root.path().join("a.yaml")).unwrap();
    bench.look();
    assert_eq!(bench.ports(), [("b".into(), 81)]);
}

#[test]
fn a_directory_that_is_emptied_or_vanishes_keeps_the_last_good_state() {
    let mut bench = Bench::new(&[("a.yaml", &service("a", 80))]);
    fs::remove_file(bench.root.path().join("a.yaml")).unwrap();
    bench.look();
    assert_eq!(bench.ports(), [("a".into(), 80)]);
    assert_eq!(bench.codes(), [("empty_directory", 0)]);
    fs::remove_dir(bench.root.path()).unwrap();
    bench.look();
    assert_eq!(bench.ports(), [("a".into(), 80)]);
    assert_eq!(bench.codes(), [("unreadable_directory", 0)]);
    fs::create_dir(bench.root.path()).unwrap();
    bench.write("c.yaml", &service("c", 82));
    assert_eq!(bench.ports(), [("c".into(), 82)]);
    assert_eq!(bench.codes(), []);
}

#[test]
fn of_two_files_with_the_same_resource_the_first_by_path_wins() {
    let mut bench = Bench::new(&[("b.yaml", &service("a", 81))]);
    bench.write("a.yaml", &service("a", 80));
    assert_eq!(bench.ports(), [("a".into(), 80)]);
    assert_eq!(bench.codes(), [("duplicate_resource", 1)]);
    fs::remove_file(bench.root.path().join("a.yaml")).unwrap();
    bench.look();
    assert_eq!(bench.ports(), [("a".into(), 81)]);
    assert_eq!(bench.codes(), []);
}

#[test]
fn half_a_file_is_not_believed() {
    let mut bench = Bench::new(&[("a.yaml", &format!("{}---\n{}", service("a", 80), service("b", 81)))]);
    fs::write(bench.root.path().join("a.yaml"), service("a", 80)).unwrap();
    assert!(bench.directory.look(Settled::Twice, true).is_empty());
    assert!(bench.directory.is_settling());
    assert!(matches!(bench.directory.look(Settled::Twice, true)[..], [Event::Upsert { .. }, Event::Delete(_)]));
    assert!(!bench.directory.is_settling());
}

#[tokio::test]
async fn what_is_moved_into_its_place_is_believed_at_once() {
    let mut bench = Bench::new(&[("a.yaml", &service("a", 80))]);
    let at = |name: &str| bench.root.path().join(name);
    bench.directory.ears = Some(Ears::new().unwrap());
    assert!(bench.directory.look(Settled::Twice, false).is_empty());
    assert!(bench.directory.look_where_heard().is_empty(), "nothing happened before it listened");
    fs::write(at("a.new"), service("a", 90)).unwrap();
    fs::rename(at("a.new"), at("a.yaml")).unwrap();
    assert!(matches!(bench.directory.look_where_heard()[..], [Event::Upsert { .. }]));
    fs::write(at("a.yaml"), service("a", 91)).unwrap();
    assert!(bench.directory.look_where_heard().is_empty() && bench.directory.is_settling());
    assert!(matches!(bench.directory.look_where_heard()[..], [Event::Upsert { .. }]));
    fs::rename(at("a.yaml"), at("b.yaml")).unwrap();
    // A new name is listed, and read as what was moved there.
    assert!(matches!(bench.directory.look_where_heard()[..], [Event::Upsert { .. }]));
    assert!(bench.directory.look_where_heard().is_empty());
}

#[test]
fn hidden_directories_are_skipped_and_links_are_followed() {
    let bench = Bench::new(&[]);
    let root = bench.root.path();
    fs::create_dir_all(root.join("..data")).unwrap();
    fs::create_dir_all(root.join("deep/er")).unwrap();
    fs::write(root.join("..data/a.yaml"), service("a", 80)).unwrap();
    fs::write(
        root.join("deep/er/b.json"),
        r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"b"},"spec":{"ports":[{"port":1}]}}"#,
    )
    .unwrap();
    std::os::unix::fs::symlink("..data/a.yaml", root.join("a.yaml")).unwrap();
    let reading = read(root);
    assert_eq!((reading.files, reading.resources.len()), (2, 2), "{:?}", reading.problems);
}

#[test]
fn kinds_that_are_not_used_are_noted_and_lists_are_opened() {
    let text = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: apps/v1\n  kind: Deployment\n  metadata: {name: d}\n- apiVersion: v1\n  kind: Namespace\n  metadata: {name: prod}\n";
    let root = TempDir::new().unwrap();
    fs::write(root.path().join("l.yaml"), text).unwrap();
    let reading = read(root.path());
    assert_eq!(reading.resources.len(), 1);
    assert_eq!(reading.resources[0].meta().origin.line, 7);
    assert_eq!(reading.problems.len(), 1);
    assert_eq!((reading.problems[0].code, reading.problems[0].line), ("unused_kind", 4));
}

#[tokio::test]
async fn the_watch_sends_what_is_there_and_then_what_changes() {
    let root = TempDir::new().unwrap();
    fs::write(root.path().join("a.yaml"), service("a", 80)).unwrap();
    let (sender, mut receiver) = mpsc::channel(1);
    let task = tokio::spawn(watch(root.path().to_owned(), sender));
    let batch = receiver.recv().await.unwrap();
    assert!(matches!(batch[..], [Event::Upsert { .. }, Event::Synced]));
    fs::write(root.path().join("a.yaml"), service("a", 81)).unwrap();
    let batch = tokio::time::timeout(Duration::from_secs(10), receiver.recv()).await.unwrap().unwrap();
    assert!(matches!(batch[..], [Event::Upsert { .. }]));
    drop(receiver);
    tokio::time::timeout(Duration::from_secs(10), task).await.unwrap().unwrap();
}
