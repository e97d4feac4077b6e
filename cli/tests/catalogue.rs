//! `docs/problems.md` lists every problem code that the control plane can say, and no other.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;

/// What stands right before a code where a problem is made.
const BEFORE: [&str; 6] =
    ["Severity::Error, ", "Severity::Warning, ", "Severity::Note, ", "code: ", "invalid(path, ", "refuse("];

fn sources(folder: &Path, all: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|e| e == "rs") && path.file_stem().is_some_and(|s| s != "tests") {
            let text = std::fs::read_to_string(&path).unwrap();
            // Tests within a file come last; a line that names a file of tests hides nothing.
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            // Line breaks between arguments do not matter.
            all.push_str(&code.split_whitespace().collect::<Vec<_>>().join(" "));
        }
    }
}

#[test]
fn every_problem_code_is_in_the_catalogue() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut code = String::new();
    for folder in ["control-plane/src", "crds/src"] {
        sources(&root.join(folder), &mut code);
    }
    let mut said = BTreeSet::new();
    for before in BEFORE {
        for (at, _) in code.match_indices(before) {
            if let Some(literal) = code[at + before.len()..].strip_prefix('"') {
                said.insert(literal.split('"').next().unwrap());
            }
        }
    }
    assert!(said.len() > 30, "the codes are made in another way now: {said:?}");
    let catalogue = std::fs::read_to_string(root.join("docs/problems.md")).unwrap();
    let rows = catalogue.lines().filter(|line| line.starts_with("| `")).map(|line| line.split('|').nth(1).unwrap());
    let listed: BTreeSet<&str> = rows.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    let missing: Vec<_> = said.difference(&listed).collect();
    assert!(missing.is_empty(), "not in docs/problems.md: {missing:?}");
    let unknown: Vec<_> = listed.iter().filter(|listed| !code.contains(&format!("\"{listed}\""))).collect();
    assert!(unknown.is_empty(), "in docs/problems.md but never said: {unknown:?}");
}
