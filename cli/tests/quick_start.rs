//! The README's quick start, line by line, on free ports.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use causeway_tests::ports::free_port;

/// The ports that the README names.
const PORTS: [&str; 10] = ["15010", "15014", "15006", "8080", "15002", "15030", "15031", "15001", "15000", "15020"];

#[test]
fn the_quick_start_of_the_readme_works() {
    for program in ["bash", "curl", "python3"] {
        let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if found.is_err() {
            assert!(std::env::var_os("CI").is_none(), "{program} is needed");
            // Past the capture of the test runner, so that it is seen.
            let _ = writeln!(std::io::stderr(), "SKIPPED: {program} missing; the quick start was not run");
            return;
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
    let home = tempfile::tempdir().unwrap();
    programs(home.path());
    let example = home.path().join("laptop");
    std::fs::create_dir(&example).unwrap();

    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let mut script = quick_start(&readme);
    let mut mesh = std::fs::read_to_string(root.join("deploy/examples/laptop/mesh.yaml")).unwrap();
    // The programs' default ports may be in use on this machine: say them, so that they can be replaced too.
    for (command, in_full) in [
        ("causeway certs", "causeway certs --proxy 127.0.0.1:15000"),
        (" --source dir:", " --listen 127.0.0.1:15010 --admin 127.0.0.1:15014 --source dir:"),
    ] {
        assert!(script.contains(command), "{script}");
        script = script.replace(command, in_full);
    }
    for (named, free) in PORTS.iter().map(|named| (named, free_port())) {
        script = script.replace(&format!(":{named}"), &format!(":{free}"));
        script = script.replace(&format!("http.server {named}"), &format!("http.server {free}"));
        mesh = mesh.replace(&format!("port: {named}"), &format!("port: {free}"));
    }
    std::fs::write(example.join("mesh.yaml"), &mesh).unwrap();
    let script = script.replace("deploy/examples/laptop", example.to_str().unwrap());
    let path = format!("{}:{}", home.path().display(), std::env::var("PATH").unwrap_or_default());
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &format!("trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}")])
        .env("PATH", path)
        .env("TMPDIR", home.path())
        .current_dir(&root)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}\n--- printed\n{text}\n--- errors\n{errors}");
    assert!(text.contains("kind: EndpointSlice"), "GET did not bring the file\n{text}\n{errors}");
    assert!(text.contains("403 Forbidden") && text.contains("prod/hello-callers"), "POST was not refused\n{text}");
    assert!(text.contains("dev/web") && text.contains("no problems"), "status\n{text}\n{errors}");
    assert!(text.contains("spiffe://cluster.local/ns/dev/sa/web"), "certs\n{text}\n{errors}");
}

/// The commands after the two that build.
fn quick_start(readme: &str) -> String {
    let section = readme.split_once("## Quick start").unwrap().1;
    let block = section.split_once("```sh\n").unwrap().1.split_once("\n```").unwrap().0;
    let lines: Vec<&str> = block.lines().collect();
    assert_eq!(lines[0], "cargo build --release");
    assert!(lines[1].starts_with("export PATH="));
    lines[2..].join("\n")
}

/// The three programs under the names that the README uses; the two servers are the same code inside this binary.
fn programs(home: &Path) {
    let causeway = env!("CARGO_BIN_EXE_causeway");
    let scripts = [
        ("causeway", String::new()),
        ("causeway-control-plane", " run-control-plane".to_owned()),
        ("causeway-proxy", " run-proxy".to_owned()),
    ];
    for (name, subcommand) in scripts {
        let file: PathBuf = home.join(name);
        std::fs::write(&file, format!("#!/bin/sh\nexec \"{causeway}\"{subcommand} \"$@\"\n")).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&file, mode).unwrap();
    }
}
