//! Checks files offline, by the same code path as the running control plane.

use crate::compile::{Settings, compile};
use crate::index::Resources;
use crate::problem::{Problem, Severity};
use crate::source::{Event, Key, directory};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// What [`validate`] found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Validation {
    /// Number of files read.
    pub files: usize,
    /// Number of resources in force.
    pub resources: usize,
    /// Everything found, sorted by file and line.
    pub problems: Vec<Problem>,
}

impl Validation {
    /// Whether any problem is an error.
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(|p| p.severity == Severity::Error)
    }
}

/// Reads and compiles the files and directories `paths` together, as one control plane would.
pub fn validate(paths: &[PathBuf]) -> Validation {
    let mut resources = Resources::default();
    let mut files = 0;
    let mut places: BTreeMap<Key, String> = BTreeMap::new();
    for path in paths {
        let reading = directory::read(path);
        files += reading.files;
        for resource in reading.resources {
            let meta = resource.meta();
            if let Some(first) = places.get(&meta.key).filter(|first| **first != meta.origin.file) {
                let message = format!("it stands in {first} too, which comes first and is used");
                let problem =
                    meta.problem(Severity::Error, "duplicate_resource", "", message, "Remove one of the two.");
                resources.reported.push(problem);
                continue;
            }
            places.insert(meta.key.clone(), meta.origin.file.clone());
            resources.apply(Event::Upsert { resource, problems: Vec::new() });
        }
        resources.reported.extend(reading.problems);
    }
    let count = resources.len();
    let model = compile(&Arc::new(resources), &Settings::default());
    Validation { files, resources: count, problems: model.problems().to_vec() }
}
