//! Network namespaces: one for the node, with a bridge, and one per pod, joined by veth pairs.
//!
//! Every node is an island, so that all tests use the same addresses and nothing of the host changes. Names carry
//! the test's process id; namespaces of dead processes are swept when the next one starts.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::process::run;

/// The node's address on the bridge; the control plane listens here.
pub const NODE_IP: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);

static NODES: AtomicU32 = AtomicU32::new(0);

/// A node: the namespace with the bridge.
#[derive(Debug)]
pub struct Node {
    prefix: String,
    namespace: Namespace,
    pods: AtomicU32,
}

/// One network namespace. It is deleted, with the processes in it, when the value is dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    /// Address on the bridge.
    pub ip: Ipv4Addr,
    /// Address on the bridge.
    pub ip6: Ipv6Addr,
}

impl Node {
    /// Makes a node.
    pub fn new() -> Self {
        static SWEEP: Once = Once::new();
        SWEEP.call_once(sweep);
        let prefix = format!("cw{}x{}", std::process::id(), NODES.fetch_add(1, Ordering::Relaxed));
        let namespace = Namespace::new(&format!("{prefix}node"), NODE_IP, address6(1));
        let name = &namespace.name;
        // A fixed address: else the bridge takes its lowest port's, and pods' ARP entries go stale as pods come.
        namespace.ip_link(&["add", "br0", "address", "02:00:00:00:00:01", "type", "bridge", "forward_delay", "0"]);
        namespace.ip_link(&["set", "br0", "up"]);
        must(&["ip", "-n", name, "addr", "add", "10.244.0.1/16", "dev", "br0"]);
        must(&["ip", "-n", name, "addr", "add", "fd00:244::1/64", "dev", "br0", "nodad"]);
        // What is not on this node is unreachable at once, rather than after a timeout.
        must(&[
            "ip",
            "netns",
            "exec",
            name,
            "sysctl",
            "-qw",
            "net.ipv4.ip_forward=1",
            "net.ipv6.conf.all.forwarding=1",
        ]);
        must(&["ip", "-n", name, "route", "add", "unreachable", "default"]);
        must(&["ip", "-n", name, "-6", "route", "add", "unreachable", "default", "metric", "9999"]);
        Self { prefix, namespace, pods: AtomicU32::new(0) }
    }

    /// The node's own namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Adds a pod's namespace, its default routes through the node.
    pub fn pod(&self) -> Namespace {
        let number = self.pods.fetch_add(1, Ordering::Relaxed) + 10;
        let ip = Ipv4Addr::new(10, 244, 0, u8::try_from(number).expect("at most 240 pods"));
        let pod = Namespace::new(&format!("{}p{number}", self.prefix), ip, address6(number));
        let (name, node) = (&pod.name, &self.namespace.name);
        let peer = format!("v{number}");
        must(&["ip", "link", "add", "eth0", "netns", name, "type", "veth", "peer", "name", &peer, "netns", node]);
        must(&["ip", "-n", node, "link", "set", &peer, "master", "br0", "up"]);
        must(&["ip", "-n", name, "addr", "add", &format!("{ip}/16"), "dev", "eth0"]);
        must(&["ip", "-n", name, "addr", "add", &format!("{}/64", pod.ip6), "dev", "eth0", "nodad"]);
        must(&["ip", "-n", name, "link", "set", "eth0", "up"]);
        must(&["ip", "-n", name, "route", "add", "default", "via", "10.244.0.1"]);
        must(&["ip", "-n", name, "-6", "route", "add", "default", "via", "fd00:244::1"]);
        pod
    }
}

impl Default for Node {
    fn default() -> Self {
        Self::new()
    }
}

fn address6(number: u32) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x244, 0, 0, 0, 0, 0, u16::try_from(number).expect("small number"))
}

impl Namespace {
    fn new(name: &str, ip: Ipv4Addr, ip6: Ipv6Addr) -> Self {
        must(&["ip", "netns", "add", name]);
        let this = Self { name: name.to_owned(), ip, ip6 };
        must(&["ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=0"]);
        this.ip_link(&["set", "lo", "up"]);
        this
    }

    /// Name for `ip netns`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that runs in this namespace as root. The child's process id is the program's own.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// As [`Self::command`], as another user.
    pub fn command_as(&self, uid: u32, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = self.command("setpriv");
        let id = uid.to_string();
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]).arg(program);
        command
    }

    /// Writes the `/etc/hosts` that programs in this namespace see.
    pub fn write_hosts(&self, text: &str) {
        let directory = self.etc();
        std::fs::create_dir_all(&directory).expect("directory of the namespace's hosts");
        std::fs::write(directory.join("hosts"), format!("127.0.0.1 localhost\n::1 localhost\n{text}")).expect("hosts");
    }

    fn etc(&self) -> PathBuf {
        PathBuf::from("/etc/netns").join(&self.name)
    }

    fn ip_link(&self, arguments: &[&str]) {
        must(&[&["ip", "-n", &self.name, "link"], arguments].concat());
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        delete(&self.name);
    }
}

fn delete(name: &str) {
    let pids = run(Command::new("ip").args(["netns", "pids", name])).stdout;
    for pid in pids.split_whitespace() {
        run(Command::new("kill").args(["-KILL", pid]));
    }
    run(Command::new("ip").args(["netns", "del", name]));
    let _ = std::fs::remove_dir_all(PathBuf::from("/etc/netns").join(name));
}

/// Deletes what test processes that are gone left behind.
fn sweep() {
    let listed = run(Command::new("ip").args(["netns", "list"])).stdout;
    for name in listed.lines().filter_map(|l| l.split_whitespace().next()) {
        let owner: String = name.strip_prefix("cw").unwrap_or("").chars().take_while(char::is_ascii_digit).collect();
        if !owner.is_empty() && !PathBuf::from(format!("/proc/{owner}")).exists() {
            delete(name);
        }
    }
}

fn must(arguments: &[&str]) {
    let output = run(Command::new(arguments[0]).args(&arguments[1..]));
    assert_eq!(output.code, Some(0), "{}: {}", arguments.join(" "), output.stderr);
}
