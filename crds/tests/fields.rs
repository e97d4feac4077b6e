//! The committed table of fields is what the schemas say, and says something of each of them.
#![allow(clippy::unwrap_used)]

use causeway_crds::fields::{leaves, table};
use causeway_crds::manifest::manifests;
use causeway_crds::support::{PARTLY, rooted};
use std::path::Path;

fn all() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for manifest in manifests().into_iter().chain(causeway_crds::gateway::schemas()) {
        let mut paths = Vec::new();
        leaves(manifest.spec_schema().unwrap(), "spec", &mut paths);
        found.extend(paths.into_iter().map(|p| (manifest.kind.clone(), rooted(&p))));
    }
    found
}

#[test]
fn the_committed_table_equals_the_generated_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/fields.md");
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    let hint =
        "docs/fields.md is out of date; run `cargo run -p causeway-crds --bin crdgen -- --fields > docs/fields.md`";
    assert!(committed == table(), "{hint}");
}

#[test]
fn every_field_of_every_schema_is_in_the_table() {
    let table = table();
    for (kind, path) in all() {
        let section = table.split("\n### ").find(|s| s.starts_with(&format!("{kind}\n"))).unwrap();
        assert!(section.contains(&format!("| `{path}` | ")), "{kind} {path}");
    }
}

#[test]
fn what_works_in_part_is_a_field() {
    let all = all();
    for (kind, path, _) in PARTLY {
        assert!(all.iter().any(|(k, p)| k == kind && p == path), "{kind} {path}");
    }
}
