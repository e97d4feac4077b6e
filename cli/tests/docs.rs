//! The documents are true of the tree as far as a program can tell: links lead somewhere, files that are named exist.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn documents(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() && !name.starts_with('.') && !name.starts_with("target") {
            documents(&path, found);
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    let mut found = Vec::new();
    documents(&root(), &mut found);
    assert!(found.len() > 15, "{found:?}");
    for document in found {
        let text = std::fs::read_to_string(&document).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap();
            if !link.starts_with("http") && !path.is_empty() {
                assert!(document.parent().unwrap().join(path).exists(), "{}: {link}", document.display());
            }
        }
    }
}

#[test]
fn the_architecture_names_files_that_exist_and_stays_short() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    assert!(text.lines().count() <= 120);
    let named: Vec<&str> = text.split('`').skip(1).step_by(2).filter(|name| name.ends_with(".rs")).collect();
    assert!(named.len() > 10, "{named:?}");
    for name in named {
        let folders = ["", "mesh/src", "control-plane/src"];
        let is_there = folders.iter().any(|folder| root().join(folder).join(name).is_file());
        assert!(is_there, "{name} is not there");
    }
}

#[test]
fn decision_records_are_short_and_numbered_once() {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(root().join("docs/decisions")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name != "README.md" {
            numbers.push(name[..4].parse::<u32>().unwrap());
            assert!(std::fs::read_to_string(&path).unwrap().lines().count() <= 40, "{name} is too long");
        }
    }
    numbers.sort_unstable();
    let count = numbers.len();
    numbers.dedup();
    assert_eq!(numbers.len(), count, "a number is used twice");
}
