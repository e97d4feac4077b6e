//! What passes the pods' network, to see that it is all TLS.

use std::path::PathBuf;
use std::time::Duration;

use causeway_tests::kube::Node;
use causeway_tests::process::{Process, run};
use causeway_tests::until;

/// Bytes that only the tests' applications send; in the clear they must never be seen.
pub const MARKER: &str = "marker-of-the-life-cycle";

/// A running capture.
pub struct Capture {
    process: Process,
    file: PathBuf,
}

impl Capture {
    /// Of everything between pods but the kubelet's probes, which come in plain text from the node itself.
    pub fn start(node: &Node) -> Self {
        let file = node.directory().join("life.pcap");
        let shown = run(node.enter("ip").args(["-4", "-o", "addr", "show", "cni0"])).ok();
        let gateway = shown.split_whitespace().nth(3).and_then(|a| a.split('/').next()).unwrap().to_owned();
        let mut command = node.enter("tcpdump");
        command.args(["-i", "cni0", "-s", "0", "-U", "-Z", "root", "-w"]).arg(&file);
        command.args(["tcp", "port", "8080", "and", "not", "host", &gateway]);
        let process = Process::start("tcpdump", &mut command, &node.directory().join("log/life-tcpdump.log"));
        process.wait_for_log("listening on", Duration::from_secs(20));
        Self { process, file }
    }

    /// Ends it. There was TLS, and the marker was nowhere in plain text.
    pub fn finish(mut self) {
        until("the capture holds TLS", Duration::from_secs(20), || {
            let bytes = std::fs::read(&self.file).map_err(|e| e.to_string())?;
            // A record of application data, TLS 1.2's number on the wire.
            if contains(&bytes, &[0x17, 0x03, 0x03]) { Ok(()) } else { Err(format!("{} bytes", bytes.len())) }
        });
        self.process.kill();
        let bytes = std::fs::read(&self.file).unwrap();
        println!("   captured: {} bytes", bytes.len());
        assert!(!contains(&bytes, MARKER.as_bytes()), "plain text on the network");
        assert!(!contains(&bytes, b"GET /"), "a request in plain HTTP on the network");
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
