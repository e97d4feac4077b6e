//! The redirection rules in real network namespaces: who lands where, in IPv4 and IPv6.
#![allow(clippy::unwrap_used, missing_docs)]

use std::process::Command;
use std::time::Duration;

use causeway_tests::binaries::binary;
use causeway_tests::capability::{Need, has};
use causeway_tests::net::{Namespace, Node};
use causeway_tests::process::run;
use causeway_tests::{Output, Process, until};

const PROXY: u32 = 2102;
const APP: u32 = 1000;

/// The kernel remembers connections where rules ask it to, as those of a node do.
const REMEMBERS: &str = "table inet notes { chain out { type filter hook output priority 0; ct state new counter; }; }";

const REFUSED: &str = "connect: connection refused";

/// Two pods, each with listeners that greet with their own port.
struct Field {
    pod: Namespace,
    other: Namespace,
    _listeners: Vec<Process>,
    // Outlives the pods.
    _node: Node,
    directory: tempfile::TempDir,
}

impl Field {
    fn new() -> Option<Self> {
        if !has(&[Need::Namespaces, Need::Program("nft"), Need::Program("setpriv")]) {
            return None;
        }
        let node = Node::new();
        let (pod, other) = (node.pod(), node.pod());
        let directory = tempfile::tempdir().unwrap();
        let mut field = Self { pod, other, _listeners: Vec::new(), _node: node, directory };
        for (number, namespace) in [&field.pod, &field.other].into_iter().enumerate() {
            for port in [8080_u16, 9090, 15000, 15001, 15006, 15020] {
                let listener = field.listener(namespace, "tcp-greet", port, &format!("{number}-{port}"));
                field._listeners.push(listener);
            }
        }
        Some(field)
    }

    /// What serves a port of a namespace; its greeting is the port. `log` is the name of its log.
    fn listener(&self, of: &Namespace, behaviour: &str, port: u16, log: &str) -> Process {
        let (mut command, name) = (of.command(binary("causeway-test-app")), port.to_string());
        command.args([behaviour, "--listen", &format!("[::]:{port}"), "--name", &name]);
        let log = self.directory.path().join(format!("{log}.log"));
        let listener = Process::start(&name, &mut command, &log);
        listener.wait_for_log("listening", Duration::from_secs(20));
        listener
    }

    /// Runs `causeway-proxy redirect` in the pod.
    fn redirect(&self, flags: &[&str]) -> Output {
        run(self.pod.command(binary("causeway-proxy")).arg("redirect").args(flags))
    }

    fn apply(&self, flags: &[&str]) {
        self.redirect(&[&["--apply"], flags].concat()).ok();
    }

    /// Which port of whom answers when a user of the pod connects.
    fn out(&self, uid: u32, target: &str) -> String {
        reached(&mut self.pod.command_as(uid, binary_for_all()), target)
    }

    /// Which port of the pod answers when the other pod connects, by IPv4 and by IPv6.
    fn inward(&self, port: u16) -> [String; 2] {
        [format!("{}:{port}", self.pod.ip), format!("[{}]:{port}", self.pod.ip6)]
            .map(|target| reached(&mut self.other.command(binary("causeway-test-app")), &target))
    }

    /// What an application of the pod reaches at a port of the other pod, by IPv4 and by IPv6.
    fn outward(&self, uid: u32, port: u16) -> [String; 2] {
        [format!("{}:{port}", self.other.ip), format!("[{}]:{port}", self.other.ip6)]
            .map(|target| self.out(uid, &target))
    }

    /// The whole ruleset, as nft shows it.
    fn ruleset(&self) -> String {
        run(self.pod.command("nft").args(["--stateless", "-nn", "list", "ruleset"])).ok()
    }
}

/// The test application, where every user can run it.
fn binary_for_all() -> &'static std::path::Path {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::OnceLock;
    static COPY: OnceLock<tempfile::TempDir> = OnceLock::new();
    static PATH: OnceLock<std::path::PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let directory = COPY.get_or_init(|| tempfile::tempdir().unwrap()).path();
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = directory.join("app");
        std::fs::copy(binary("causeway-test-app"), &path).unwrap();
        path
    })
}

/// The port in the greeting, or how connecting failed.
fn reached(command: &mut Command, target: &str) -> String {
    reached_with(command, target, &["--timeout-ms", "3000"])
}

fn reached_with(command: &mut Command, target: &str, more: &[&str]) -> String {
    let answer = run(command.args(["talk", "--connect", target, "--until", "1"]).args(more)).json();
    match answer["text"].as_str().unwrap_or_default().trim().strip_prefix("hello from ") {
        Some(port) => port.to_owned(),
        None => answer["end"].as_str().unwrap_or_default().to_owned(),
    }
}

fn both(text: &str) -> [String; 2] {
    [text.to_owned(), text.to_owned()]
}

#[test]
fn traffic_of_both_families_goes_through_the_proxy() {
    let Some(field) = Field::new() else { return };
    assert_eq!(field.outward(APP, 8080), both("8080"), "nothing is captured before");
    field.apply(&[]);
    assert_eq!(field.outward(APP, 8080), both("15001"), "what leaves");
    assert_eq!(field.outward(0, 9090), both("15001"), "whoever sends it");
    assert_eq!(field.outward(PROXY, 8080), both("8080"), "but the proxy");
    assert_eq!(field.inward(8080), both("15006"), "what comes in");
    assert_eq!(field.inward(9090), both("15006"));
    assert_eq!(field.inward(15020), both("15020"), "health is open");
    // An application that calls itself needs no mesh.
    for target in [
        "127.0.0.1:8080".to_owned(),
        "[::1]:8080".to_owned(),
        format!("{}:8080", field.pod.ip),
        format!("[{}]:8080", field.pod.ip6),
    ] {
        assert_eq!(field.out(APP, &target), "8080", "{target}");
    }
}

#[test]
fn the_proxys_own_ports_cannot_be_used_from_outside() {
    let Some(field) = Field::new() else { return };
    field.apply(&[]);
    for port in [15000, 15001, 15006] {
        assert_eq!(field.inward(port), both(REFUSED), "{port}");
    }
    assert_eq!(field.out(APP, "127.0.0.1:15001"), "15001", "an application may name the proxy itself");
    assert_eq!(field.out(APP, "127.0.0.1:15000"), "15000");
    assert_eq!(field.out(APP, "127.0.0.1:15006"), REFUSED, "nothing redirected it");
}

#[test]
fn exclusions_pass_by_the_proxy() {
    let Some(field) = Field::new() else { return };
    field.apply(&["--exclude-outbound-ports", "9090,22", "--exclude-inbound-ports", "9090"]);
    assert_eq!(field.outward(APP, 9090), both("9090"));
    assert_eq!(field.outward(APP, 8080), both("15001"));
    assert_eq!(field.inward(9090), both("9090"));
    assert_eq!(field.inward(8080), both("15006"));
    field.apply(&["--exclude-uids", "1000,7"]);
    assert_eq!(field.outward(APP, 8080), both("8080"));
    assert_eq!(field.outward(1001, 8080), both("15001"));
    let networks = format!("10.0.0.0/8,10.244.0.0/16,{}", field.other.ip6);
    field.apply(&["--exclude-outbound-cidrs", &networks]);
    assert_eq!(field.outward(APP, 8080), both("8080"));
    field.apply(&["--exclude-outbound-cidrs", "10.0.0.0/8"]);
    assert_eq!(field.outward(APP, 8080), ["8080", "15001"], "a network of one family excludes nothing of the other");
    field.apply(&["--include-inbound-ports", "8080"]);
    assert_eq!(field.inward(8080), both("15006"));
    assert_eq!(field.inward(9090), both("9090"));
}

#[test]
fn ipv6_is_refused_where_the_proxy_does_not_serve_it() {
    let Some(field) = Field::new() else { return };
    field.apply(&["--no-ipv6"]);
    assert_eq!(field.outward(APP, 8080), ["15001", REFUSED]);
    assert_eq!(field.inward(8080), ["15006", REFUSED]);
    assert_eq!(field.out(APP, "[::1]:8080"), "8080", "loopback stays");
}

#[test]
fn applying_again_replaces_and_removing_restores() {
    let Some(field) = Field::new() else { return };
    let empty = field.ruleset();
    assert_eq!(field.redirect(&["--check"]).code, Some(4), "absent");
    field.apply(&[]);
    let first = field.ruleset();
    field.apply(&[]);
    assert_eq!(field.ruleset(), first, "applying twice is applying once");
    assert_eq!(field.redirect(&["--check"]).code, Some(0));
    assert_eq!(field.redirect(&["--check", "--proxy-uid", "7"]).code, Some(4), "other settings");
    assert_eq!(field.ruleset(), first, "a check leaves nothing behind");
    field.apply(&["--exclude-uids", "7"]);
    assert_ne!(field.ruleset(), first);
    run(field.pod.command("nft").args(["flush", "chain", "inet", "causeway", "inbound"])).ok();
    assert_eq!(field.redirect(&["--check", "--exclude-uids", "7"]).code, Some(4), "somebody took rules out");
    field.redirect(&["--remove"]).ok();
    assert_eq!(field.ruleset(), empty);
    field.redirect(&["--remove"]).ok();
    assert_eq!(field.outward(APP, 8080), both("8080"));
}

#[test]
fn a_refused_change_leaves_the_rules_that_were_there() {
    let Some(field) = Field::new() else { return };
    field.apply(&[]);
    let before = field.ruleset();
    // Without the right to change them.
    let mut command = field.pod.command_as(APP, causeway_tests::binaries::proxy_for_all());
    let refused = run(command.args(["redirect", "--apply", "--exclude-uids", "1000"]));
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("nothing was changed"), "{}", refused.stderr);
    assert_eq!(field.ruleset(), before);
    // The printed script is one transaction: with a fault in its last line none of it holds.
    let script = field.redirect(&["--exclude-uids", "1000"]).ok() + "add rule inet causeway nowhere accept\n";
    let file = field.directory.path().join("faulty.nft");
    std::fs::write(&file, script).unwrap();
    assert_ne!(run(field.pod.command("nft").arg("-f").arg(&file)).code, Some(0));
    assert_eq!(field.ruleset(), before);
    assert_eq!(field.outward(APP, 8080), both("15001"));
}

/// Puts rules in force.
fn nft(of: &Namespace, rules: &str) {
    run(of.command("nft").arg(rules)).ok();
}

/// What a namespace reaches from each of two ports.
fn from_ports(of: &Namespace, target: &str, timeout: &str) -> [String; 2] {
    ["23456", "23457"].map(|port| {
        let mut command = of.command_as(APP, binary_for_all());
        reached_with(&mut command, target, &["--from-port", port, "--timeout-ms", timeout])
    })
}

#[test]
fn who_tried_before_the_rules_were_there_does_not_pass_by_them() {
    let Some(field) = Field::new() else { return };
    nft(&field.pod, REMEMBERS);
    for (target, back) in [
        (format!("{}:8080", field.other.ip), format!("{}:8080", field.pod.ip)),
        (format!("[{}]:8080", field.other.ip6), format!("[{}]:8080", field.pod.ip6)),
    ] {
        // Nothing comes back: what is sent stays an attempt, and the other side's attempts stay half open.
        nft(
            &field.other,
            "table inet lossy { chain in { type filter hook input priority 0; meta l4proto tcp drop; }; }",
        );
        assert_eq!(from_ports(&field.pod, &target, "300"), both("connect: timeout"));
        assert_eq!(from_ports(&field.other, &back, "300"), both("connect: timeout"));
        field.apply(&[]);
        nft(&field.other, "delete table inet lossy");
        assert_eq!(from_ports(&field.pod, &target, "3000"), both(REFUSED));
        assert_eq!(from_ports(&field.other, &back, "3000"), both(REFUSED));
        // From any other port.
        assert_eq!(field.out(APP, &target), "15001");
        assert_eq!(reached(&mut field.other.command(binary("causeway-test-app")), &back), "15006");
        field.redirect(&["--remove"]).ok();
    }
}

#[test]
fn what_was_open_before_the_rules_and_is_remembered_goes_on() {
    let Some(field) = Field::new() else { return };
    nft(&field.pod, REMEMBERS);
    let target = format!("{}:9091", field.other.ip);
    let serve = |of: &Namespace, log: &str| field.listener(of, "tcp-push", 9091, log);
    let _servers = [serve(&field.other, "away"), serve(&field.pod, "here")];
    let back = format!("{}:9091", field.pod.ip);
    let clients = [(&field.pod, &target), (&field.other, &back)].map(|(of, target)| {
        let mut command = of.command_as(APP, binary_for_all());
        command.args(["talk", "--connect", target, "--until", "2000"]);
        command.stdout(std::process::Stdio::piped()).spawn().unwrap()
    });
    until("both are connected", Duration::from_secs(10), || {
        let found = run(field.pod.command("ss").args(["-Htn", "state", "established"])).ok();
        let open = found.lines().filter(|line| line.contains(":9091")).count();
        if open == 2 { Ok(()) } else { Err(found) }
    });
    field.apply(&[]);
    for client in clients {
        let output = client.wait_with_output().unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(answer["end"], "enough", "{answer}");
    }
}

#[test]
fn wrong_flags_and_a_missing_nft_have_their_own_exit_status() {
    let redirect = |flags: &[&str]| run(Command::new(binary("causeway-proxy")).arg("redirect").args(flags));
    for flags in [
        &["--exclude-outbound-cidrs", "10.0.0.1/8"][..],
        &["--exclude-outbound-ports", "99999"],
        &["--outbound-port", "0"],
        &["--apply", "--remove"],
    ] {
        let output = redirect(flags);
        assert_eq!(output.code, Some(2), "{flags:?}: {}", output.stderr);
    }
    let hint = redirect(&["--exclude-outbound-cidrs", "10.0.0.1/8"]).stderr;
    assert!(hint.contains("did you mean 10.0.0.0/8?"), "{hint}");
    let output = run(Command::new(binary("causeway-proxy")).args(["redirect", "--apply"]).env("PATH", "/nonexistent"));
    assert_eq!(output.code, Some(3), "{}", output.stderr);
    assert!(output.stderr.contains("nftables"), "{}", output.stderr);
    let printed = redirect(&[]).ok();
    assert!(printed.contains("table inet causeway {"), "{printed}");
}
