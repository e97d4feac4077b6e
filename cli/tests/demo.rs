//! The demo as a person runs it: real processes on this machine, no root.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

fn demo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
    command.arg("demo").args(arguments).stdin(Stdio::null()).env("NO_COLOR", "1");
    command
}

#[test]
fn everything_that_the_demo_claims_is_true() {
    let output = demo(&["--plain", "--duration", "9", "--requests-per-second", "60"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{text}\n{errors}");
    for claim in [
        "weights 90/10",
        "weights 50/50",
        "weights 0/100: 0.0 % stable, 100.0 % canary",
        "0 of ",
        "403 policy_denied by prod/prodsvc-callers",
        "a plain text client was refused",
        "0 of anybody else",
    ] {
        assert!(text.contains(claim), "`{claim}` is missing:\n{text}");
    }
    assert!(!text.contains('\x1b') && !text.contains('✘'), "{text}");
    let written = text.lines().find_map(|l| l.split_once("example written to ")).unwrap().1;
    assert!(!std::path::Path::new(written).exists(), "{written} was left behind");
}

#[test]
fn a_wrong_duration_is_a_usage_error() {
    assert_eq!(demo(&["--duration", "1"]).output().unwrap().status.code(), Some(2));
}

/// Linux shows the command lines of other processes in `/proc`.
#[cfg(target_os = "linux")]
#[test]
fn no_process_outlives_a_demo_that_is_killed() {
    use std::time::{Duration, SystemTime};
    let mut demo = demo(&["--plain", "--duration", "60"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let mut folder = None;
    for line in lines.by_ref() {
        let line = line.unwrap();
        if let Some((_, path)) = line.split_once("example written to ") {
            folder = Some(std::path::PathBuf::from(path).parent().unwrap().to_owned());
        }
        if line.contains("traffic flows") {
            break;
        }
    }
    let folder = folder.unwrap();
    assert_eq!(children_of(&folder), 5, "one control plane and four proxies");
    demo.kill().unwrap();
    demo.wait().unwrap();
    #[allow(clippy::disallowed_methods)] // a deadline
    let deadline = SystemTime::now() + Duration::from_secs(20);
    #[allow(clippy::disallowed_methods)] // a deadline
    while children_of(&folder) > 0 {
        assert!(SystemTime::now() < deadline, "processes of a killed demo go on");
        std::thread::sleep(Duration::from_millis(50));
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[cfg(target_os = "linux")]
fn children_of(folder: &std::path::Path) -> usize {
    let folder = folder.to_str().unwrap();
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let commands = processes.filter_map(|p| std::fs::read(p.path().join("cmdline")).ok());
    commands.filter(|c| String::from_utf8_lossy(c).contains(folder)).count()
}
