//! The harness itself: what the other suites stand on.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use causeway_tests::Process;
use causeway_tests::binaries::binary;
use causeway_tests::capability::{Need, has};
use causeway_tests::net::Node;
use causeway_tests::process::run;
use causeway_tests::until;

#[test]
fn pods_of_one_node_reach_each_other_and_nothing_else() {
    if !has(&[Need::Namespaces]) {
        return;
    }
    let node = Node::new();
    let (a, b) = (node.pod(), node.pod());
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut command = b.command(binary("causeway-test-app"));
    let server = Process::start("server", command.args(["http", "--name", "b", "--listen", "[::]:80"]), log.path());
    server.wait_for_log("listening", Duration::from_secs(10));
    for address in [b.ip.to_string(), format!("[{}]", b.ip6)] {
        let url = format!("http://{address}/");
        assert_eq!(run(a.command("curl").args(["-sS", "-m", "5", &url])).ok(), "b\n");
    }
    let outside = run(a.command("curl").args(["-sS", "-m", "5", "http://192.0.2.1/"]));
    assert_eq!(outside.code, Some(7), "unreachable at once: {outside:?}");
}

#[test]
fn namespaces_and_their_processes_end_with_their_owner() {
    if !has(&[Need::Namespaces]) {
        return;
    }
    let node = Node::new();
    let pod = node.pod();
    let name = pod.name().to_owned();
    let mut sleeper = pod.command("sleep").arg("600").spawn().unwrap();
    // Only once it is in the namespace can the namespace's end reach it.
    until("the program runs in the namespace", Duration::from_secs(10), || {
        let comm = std::fs::read_to_string(format!("/proc/{}/comm", sleeper.id())).unwrap_or_default();
        if comm.trim() == "sleep" { Ok(()) } else { Err(comm) }
    });
    drop(pod);
    assert!(!sleeper.wait().unwrap().success());
    assert!(!std::path::Path::new("/run/netns").join(name).exists());
}
