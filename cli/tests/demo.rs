//! The demo as a person runs it: real processes on this machine, no root.
#![allow(clippy::unwrap_used)]

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

/// What needs Linux only because it shows the command lines of other processes in `/proc`.
#[cfg(target_os = "linux")]
mod ending {
    use std::io::{BufRead, BufReader, Read};
    use std::path::{Path, PathBuf};
    use std::process::{Child, ChildStdout, Command, Stdio};
    use std::time::{Duration, SystemTime};

    use super::demo;

    /// A demo whose traffic flows, what it prints from then on, and its directory.
    fn flowing() -> (Child, BufReader<ChildStdout>, PathBuf) {
        started(&["--plain", "--duration", "60"], "traffic flows")
    }

    /// A demo that has printed a line with `until`.
    fn started(arguments: &[&str], until: &str) -> (Child, BufReader<ChildStdout>, PathBuf) {
        let mut command = demo(arguments);
        let mut demo = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(demo.stdout.take().unwrap());
        let mut folder = None;
        let mut line = String::new();
        while !line.contains(until) {
            line.clear();
            assert!(out.read_line(&mut line).unwrap() > 0, "the demo ended before `{until}`");
            if let Some((_, path)) = line.trim().split_once("example written to ") {
                folder = Some(PathBuf::from(path).parent().unwrap().to_owned());
            }
        }
        (demo, out, folder.unwrap())
    }

    /// The processes whose command line names `folder`, with that line.
    fn processes_of(folder: &Path) -> Vec<(u32, String)> {
        let folder = folder.to_str().unwrap();
        let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        let processes = entries.filter_map(|entry| {
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            Some((entry.file_name().to_str()?.parse().ok()?, String::from_utf8_lossy(&line).replace('\0', " ")))
        });
        processes.filter(|(_, line)| line.contains(folder)).collect()
    }

    fn signal(name: &str, process: u32) {
        assert!(Command::new("kill").args([name, &process.to_string()]).status().unwrap().success());
    }

    #[allow(clippy::disallowed_methods)] // a deadline
    fn all_end(folder: &Path) {
        let deadline = SystemTime::now() + Duration::from_secs(20);
        while !processes_of(folder).is_empty() {
            assert!(SystemTime::now() < deadline, "processes go on: {:?}", processes_of(folder));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    #[test]
    fn no_process_outlives_a_demo_that_is_killed() {
        let (mut demo, _out, folder) = flowing();
        assert_eq!(processes_of(&folder).len(), 5, "one control plane and four proxies");
        demo.kill().unwrap();
        demo.wait().unwrap();
        all_end(&folder);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn with_keep_it_runs_until_ctrl_c_and_then_succeeds() {
        let arguments = ["--plain", "--keep", "--duration", "6", "--requests-per-second", "60"];
        let (mut demo, mut out, folder) = started(&arguments, "Ctrl-C ends everything");
        assert_eq!(processes_of(&folder).len(), 5, "one control plane and four proxies");
        signal("-INT", demo.id());
        let mut rest = String::new();
        out.read_to_string(&mut rest).unwrap();
        assert_eq!(demo.wait().unwrap().code(), Some(0), "{rest}");
        assert_eq!(processes_of(&folder), []);
        assert!(!folder.exists());
    }

    #[test]
    fn ctrl_c_ends_everything_and_removes_the_files() {
        let (mut demo, mut out, folder) = flowing();
        signal("-INT", demo.id());
        let mut rest = String::new();
        out.read_to_string(&mut rest).unwrap();
        assert_eq!(demo.wait().unwrap().code(), Some(130), "{rest}");
        assert_eq!(processes_of(&folder), []);
        assert!(!folder.exists());
    }

    #[test]
    fn a_process_that_dies_is_named_with_the_end_of_its_log() {
        let (mut demo, mut out, folder) = flowing();
        let processes = processes_of(&folder);
        let (victim, _) = processes.iter().find(|(_, line)| line.contains("prod/prodsvc-canary")).unwrap();
        signal("-KILL", *victim);
        let mut rest = String::new();
        out.read_to_string(&mut rest).unwrap();
        let mut errors = String::new();
        demo.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        assert_eq!(demo.wait().unwrap().code(), Some(1), "{rest}{errors}");
        assert!(errors.contains("proxy of prod/prodsvc-canary ended unexpectedly"), "{errors}");
        assert!(errors.contains("ready"), "no line of its log: {errors}");
        assert_eq!(processes_of(&folder), []);
        assert!(folder.join("logs/prodsvc-canary.log").is_file(), "{errors}");
        assert!(!folder.join("state").exists() && !folder.join("tokens").exists(), "secrets were left behind");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
