//! The program itself: flags, the token command, signals.

use std::io::{BufRead, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::client::{Plane, until};

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_causeway-control-plane"));
    command.env_clear().stdin(Stdio::null());
    command
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test]
async fn the_token_command_prints_a_token_and_nothing_else() {
    let plane = Plane::start(&[]).await;
    let state = plane.state();
    let output = program().args(["token", "--state"]).arg(&state).args(["dev/web", "--pod", "web-1"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let token = String::from_utf8(output.stdout).unwrap();
    assert_eq!(token.lines().count(), 1);
    let csr = crate::client::csr(&rcgen::KeyPair::generate().unwrap());
    assert!(plane.certify(token.trim().to_owned(), csr).await.is_ok());
}

#[test]
fn wrong_flags_end_with_one_clear_line() {
    let dir = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| program().args(args).current_dir(dir.path()).output().unwrap();
    for (args, what) in [
        (&["--source", "foo", "--state", "s"][..], "dir:"),
        (&["--source", "dir:.", "--state", "s", "--leaf-ttl", "1"], "a duration is"),
        (&["--source", "dir:.", "--state", "s", "--leaf-ttl", "1s"], "5s to 90d"),
        (&["--source", "dir:.", "--state", "s", "--trust-domain", "UPPER"], "a trust domain has"),
        (&["--source", "dir:.", "--state", "s", "--ca-cert", "x"], "--ca-key"),
        (&["--source", "dir:.", "--state", "s", "--ca-cert", "x", "--ca-key", "y"], "x: cannot be read"),
        (&["token", "--state", "s", "dev"], "NAMESPACE/SERVICEACCOUNT"),
        (&["token", "dev/web"], "--state"),
        (&["--source", "dir:."], "--state"),
    ] {
        let output = run(args);
        assert!(!output.status.success(), "{args:?}");
        assert!(stderr(&output).contains(what) && output.stdout.is_empty(), "{args:?}: {}", stderr(&output));
        assert!(!stderr(&output).contains("panicked"), "{args:?}");
    }
    let help = String::from_utf8(run(&["--help"]).stdout).unwrap();
    assert!(help.contains("CAUSEWAY_STATE") && help.contains("extra-roots.pem"), "{help}");
}

/// A running program; killed when dropped.
struct Program {
    child: std::process::Child,
    log: std::io::BufReader<std::process::ChildStderr>,
    listen: std::net::SocketAddr,
    admin: std::net::SocketAddr,
}

impl Program {
    /// Starts `command` with flags for `dir` and waits until it serves.
    #[allow(clippy::zombie_processes)] // dropping the value waits for it
    fn start(mut command: Command, dir: &std::path::Path) -> Self {
        let mut child = command
            .env("CAUSEWAY_SOURCE", format!("dir:{}", dir.display()))
            .env("CAUSEWAY_STATE", dir.join("state"))
            .env("CAUSEWAY_LISTEN", "127.0.0.1:0")
            .env("CAUSEWAY_ADMIN", "127.0.0.1:0")
            .env("CAUSEWAY_LOG_FORMAT", "json")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = std::io::BufReader::new(child.stderr.take().unwrap());
        loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "it ended before it served");
            let event: serde_json::Value = serde_json::from_str(&line).unwrap();
            if event["message"] == "control plane serves" {
                let address = |key: &str| event[key].as_str().unwrap().parse().unwrap();
                return Self { listen: address("listen"), admin: address("admin"), child, log };
            }
        }
    }

    /// Clock ticks of CPU time that it used.
    fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    fn health(&self) -> Option<String> {
        let mut stream = TcpStream::connect(self.admin).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.starts_with("HTTP/1.1 200").then_some(answer)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_flood_past_the_descriptor_limit_neither_spins_nor_kills() {
    let dir = tempfile::tempdir().unwrap();
    let mut shell = Command::new("sh");
    shell.env_clear().stdin(Stdio::null());
    shell.args(["-c", "ulimit -n 64 && exec \"$0\""]).arg(env!("CARGO_BIN_EXE_causeway-control-plane"));
    let mut program = Program::start(shell, dir.path());
    let flood: Vec<_> = (0..200).map(|_| TcpStream::connect(program.listen).unwrap()).collect();
    let warned = |log: &mut dyn BufRead| {
        let mut line = String::new();
        while !line.contains("accept failed") {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "the program ended");
        }
    };
    warned(&mut program.log);
    // Handshakes that never come end after 10 s; until then it may not use the processor up.
    let before = program.cpu_ticks();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let used = program.cpu_ticks() - before;
    assert!(used < 40, "{used} ticks of 200 while there was nothing to do");
    drop(flood);
    until("an answer after the flood", || program.health()).await;
}

#[cfg(target_os = "linux")] // elsewhere 127.0.0.2 is not there
#[tokio::test]
async fn one_address_cannot_take_all_places() {
    let dir = tempfile::tempdir().unwrap();
    let program = Program::start(self::program(), dir.path());
    let crowd: Vec<_> = (0..520).map(|_| TcpStream::connect(program.listen).unwrap()).collect();
    let is_closed = |mut s: &TcpStream| {
        s.set_nonblocking(true).unwrap();
        matches!(s.read(&mut [0]), Ok(0))
    };
    until("connections that are closed at once", || {
        let closed = crowd.iter().filter(|s| is_closed(s)).count();
        (closed == 8).then_some(())
    })
    .await;
    // Another address still gets an answer, if only a TLS alert.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = socket.connect(program.listen).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut other, b"rubbish that is no TLS").await.unwrap();
    assert!(tokio::io::AsyncReadExt::read(&mut other, &mut [0; 64]).await.unwrap() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rubbish_and_silence_do_not_keep_others_out() {
    let plane = Plane::start(&[]).await;
    let mut silent = Vec::new();
    for i in 0..300u32 {
        let mut stream = TcpStream::connect(plane.running.listen).unwrap();
        match i % 3 {
            0 => {}
            1 => stream.write_all(&i.to_be_bytes().repeat(100)).unwrap(),
            // The head of a ClientHello that never goes on.
            _ => stream.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).unwrap(),
        }
        silent.push(stream);
    }
    let csr = crate::client::csr(&rcgen::KeyPair::generate().unwrap());
    assert!(plane.certify(plane.token("dev", "web", None), csr).await.is_ok());
    assert!(plane.metric("causeway_control_plane_handshakes_failed_total{").await >= 1.0);
}

#[tokio::test]
async fn sigterm_ends_the_program_with_success() {
    let dir = tempfile::tempdir().unwrap();
    let mut program = Program::start(self::program(), dir.path());
    assert!(Command::new("kill").arg(program.child.id().to_string()).status().unwrap().success());
    let status = until("the end of the program", || program.child.try_wait().unwrap()).await;
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn a_second_control_plane_on_the_same_state_is_refused() {
    let plane = Plane::start(&[]).await;
    let output = program()
        .args(["--source", "dir:.", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--state"])
        .arg(plane.state())
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(stderr(&output).contains("in use by another control plane"), "{}", stderr(&output));
}

#[test]
fn a_kill_at_any_moment_leaves_a_state_that_starts_again() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let mut first_bundle = None;
    for round in 0..40 {
        let mut child = program()
            .args(["--source", "dir:.", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--state"])
            .arg(&state)
            .current_dir(dir.path())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // The moment of the kill is what is tried out here, from before the first file to after the last.
        std::thread::sleep(Duration::from_millis(round));
        child.kill().unwrap();
        child.wait().unwrap();
        let bundle = std::fs::read(state.join("trust-bundle.pem")).ok();
        if first_bundle.is_some() {
            assert_eq!(bundle, first_bundle, "round {round}: another CA");
        }
        first_bundle = bundle;
    }
    let program = Program::start(program(), dir.path());
    drop(program);
    let bundle = std::fs::read(state.join("trust-bundle.pem")).unwrap();
    assert!(first_bundle.is_none_or(|first| first == bundle));
    let left: Vec<_> = std::fs::read_dir(&state).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().filter(|n| n.to_string_lossy().starts_with(".ca")).count() == 0, "{left:?}");
}
