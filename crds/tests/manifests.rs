//! The committed manifests are what the types generate.
#![allow(clippy::unwrap_used)]

use causeway_crds::manifest::manifests;
use std::path::Path;

#[test]
fn committed_manifests_equal_the_generated_ones() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests");
    let mut expected: Vec<String> = manifests().iter().map(|m| format!("{}.yaml", m.name)).collect();
    for manifest in manifests() {
        let path = directory.join(format!("{}.yaml", manifest.name));
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == manifest.to_yaml().unwrap(),
            "{} is out of date; run `cargo run -p causeway-crds --bin crdgen -- crds/manifests`",
            path.display()
        );
    }
    let mut found: Vec<String> =
        std::fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
}
