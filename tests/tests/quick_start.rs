//! The README's commands, run as they stand, and the demo to its end.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::Command;

use causeway_tests::binaries::binary;
use causeway_tests::capability::{Need, has};
use causeway_tests::net::Node;
use causeway_tests::process::run;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The first `sh` block after a heading.
fn block(readme: &str, heading: &str) -> String {
    let section = readme.split_once(heading).unwrap_or_else(|| panic!("README has no {heading:?}")).1;
    let code = section.split_once("```sh\n").unwrap().1;
    code.split_once("```").unwrap().0.to_owned()
}

#[test]
fn the_readme_names_the_two_commands() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    for command in ["cargo run --release --bin causeway -- demo", "tests/run"] {
        assert!(readme.lines().any(|l| l.trim() == command), "README lacks {command:?}");
    }
    assert!(root().join("tests/run").is_file());
}

#[test]
fn the_quick_start_by_hand_works_as_written() {
    if !has(&[Need::Namespaces, Need::Program("curl"), Need::Program("python3")]) {
        return;
    }
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let code = block(&readme, "## Quick start by hand");
    // Built already, in another directory; all else stands.
    assert!(code.contains("cargo build --release\n") && code.contains("$PWD/target/release"), "{code}");
    let bin = binary("causeway").parent().unwrap().display().to_string();
    let code = code.replace("cargo build --release\n", "").replace("$PWD/target/release", &bin);
    let scratch = tempfile::tempdir().unwrap();
    let script = scratch.path().join("quick-start");
    std::fs::write(&script, format!("set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{code}"))
        .unwrap();
    let node = Node::new(); // its own ports
    let pod = node.pod();
    let mut command = pod.command("timeout");
    let output = run(command.args(["120", "bash"]).arg(&script).current_dir(root()).env("TMPDIR", scratch.path()));
    // The script's last line ends its jobs; bash may report that, so what was printed counts.
    for part in ["kind: Service", "403", "policy_denied", "dev/web"] {
        assert!(output.stdout.contains(part), "{part:?} is not in {output:?}");
    }
    assert!(output.code == Some(0) || output.code == Some(143), "{output:?}");
}

#[test]
fn the_demo_runs_to_its_end() {
    let (node, pod);
    let mut command = if has(&[Need::Namespaces]) {
        node = Node::new();
        pod = node.pod();
        pod.command(binary("causeway"))
    } else {
        Command::new(binary("causeway"))
    };
    let output = run(command.args(["demo", "--duration", "12"]).current_dir(root()));
    assert_eq!(output.code, Some(0), "{output:?}");
    for part in ["spiffe://cluster.local/ns/dev/", "spiffe://cluster.local/ns/prod/", "refused"] {
        assert!(output.stdout.contains(part), "{part:?} is not in {output:?}");
    }
}

#[test]
fn the_examples_are_valid() {
    let examples = root().join("deploy/examples");
    let output = run(Command::new(binary("causeway")).arg("validate").arg(&examples));
    assert_eq!(output.code, Some(0), "{output:?}");
}
