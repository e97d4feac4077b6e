//! Every worked example, and what the commands say about good and bad input, as a person runs them.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn validate(arguments: &[&str], paths: &[&Path]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
    command.arg("validate").args(arguments).args(paths).output().unwrap()
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples").canonicalize().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

fn codes(answer: &Value) -> Vec<&str> {
    answer["problems"].as_array().unwrap().iter().map(|p| p["code"].as_str().unwrap()).collect()
}

#[test]
fn every_example_is_valid_without_a_warning() {
    let mut seen = 0;
    for entry in std::fs::read_dir(examples()).unwrap() {
        let folder = entry.unwrap().path();
        let output = validate(&["--strict", "-o", "json"], &[&folder]);
        let answer = json(&output);
        assert_eq!(output.status.code(), Some(0), "{}: {answer:#}", folder.display());
        assert!(answer["resources"].as_u64().unwrap() > 4, "{}: {answer:#}", folder.display());
        assert!(folder.join("README.md").is_file(), "{} has no README.md", folder.display());
        seen += 1;
    }
    assert!(seen >= 3, "only {seen} examples");
}

#[test]
fn kinds_that_are_passed_over_are_noted() {
    let output = validate(&["--notes"], &[&examples().join("three-tiers")]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    for kind in ["Deployment", "NetworkPolicy", "RoleBinding"] {
        assert!(text.contains(kind), "no note on {kind}:\n{text}");
    }
}

#[test]
fn an_unknown_subset_is_shown_with_file_line_and_field() {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(examples().join("dev-prod")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    let route = folder.path().join("virtualservice.yaml");
    let text = std::fs::read_to_string(&route).unwrap().replace("subset: v1-canary", "subset: v9");
    let line = 1 + text.lines().position(|l| l.contains("v9")).unwrap();
    std::fs::write(&route, text).unwrap();

    let output = validate(&[], &[folder.path()]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("virtualservice.yaml:{line}")), "{text}");
    assert!(text.contains("spec.http[0].route[0].destination.subset"), "{text}");
    assert!(text.contains("subset: v9"), "the line itself is not shown: {text}");
    assert!(!text.contains('\x1b'), "colour although this is no terminal: {text}");
}

#[test]
fn a_broken_file_is_one_problem_and_the_others_are_still_read() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.yaml"), "kind: [unclosed\n").unwrap();
    std::fs::write(folder.path().join("b.yaml"), "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: dev\n").unwrap();
    let output = validate(&["-o", "json"], &[folder.path()]);
    let answer = json(&output);
    assert_eq!(output.status.code(), Some(1), "{answer:#}");
    assert_eq!(answer["valid"], false);
    assert_eq!(answer["resources"], 1, "{answer:#}");
    let errors: Vec<_> = answer["problems"].as_array().unwrap().iter().filter(|p| p["severity"] == "error").collect();
    assert_eq!(errors.len(), 1, "{answer:#}");
    assert!(errors[0]["file"].as_str().unwrap().ends_with("a.yaml"), "{answer:#}");
}

#[test]
fn several_paths_are_one_configuration() {
    let example = examples().join("dev-prod");
    let route = example.join("virtualservice.yaml");
    let alone = validate(&["-o", "json"], &[&route]);
    assert_eq!(alone.status.code(), Some(1), "a route to a Service that is nowhere: {:#}", json(&alone));
    assert!(!codes(&json(&alone)).is_empty());
    let files = ["virtualservice.yaml", "destinationrule.yaml", "service.yaml", "pods.yaml", "namespaces.yaml"];
    let files: Vec<PathBuf> = files.iter().map(|f| example.join(f)).collect();
    let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    let together = validate(&["-o", "json"], &files);
    assert_eq!(together.status.code(), Some(0), "{:#}", json(&together));
}

#[test]
fn a_path_that_is_not_there_is_an_error_that_names_it() {
    let output = validate(&[], &[Path::new("/nowhere/at/all")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("/nowhere/at/all"));
}

#[test]
fn a_folder_with_nothing_to_read_does_not_pass() {
    let folder = tempfile::tempdir().unwrap();
    let output = validate(&[], &[folder.path()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stdout).unwrap().contains("not valid: 0 files"));
}

#[test]
fn a_wrong_flag_exits_with_two() {
    assert_eq!(validate(&["--nonsense"], &[]).status.code(), Some(2));
    assert_eq!(validate(&[], &[]).status.code(), Some(2));
}

#[test]
fn nobody_to_ask_is_an_error_that_says_which_flag_helps() {
    for (command, flag) in [("certs", "--proxy"), ("status", "--control-plane")] {
        // Port 1 is reserved and nobody listens there.
        let mut causeway = Command::new(env!("CARGO_BIN_EXE_causeway"));
        let output = causeway.args([command, flag, "127.0.0.1:1"]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(flag) && said.contains("127.0.0.1:1"), "{said}");
    }
}
