//! The nftables rules that send a network namespace's TCP to the proxy, as text. Applying them is left to the proxy's
//! `redirect` command.
//!
//! One script is one transaction of the kernel: either all of it holds or nothing changed. One table of family `inet`
//! serves IPv4 and IPv6, so neither can be captured while the other passes by. UDP, and with it DNS, is not touched.
//!
//! What is not captured on the way out: the proxy's own connections and those of excluded users (by uid); whatever
//! leaves through `lo`, that is loopback and the pod's own addresses, because an application that calls itself needs
//! no mesh; excluded networks and ports. What is not captured on the way in: the proxy's own ports, which it serves
//! itself, and excluded ports, which stay open to everybody without mutual TLS.
//!
//! Whoever opens a connection that was to be captured and was not is refused. That happens because the kernel translates
//! addresses by what it knows of a connection: of an attempt that it saw before the rules were there it remembers, for
//! two minutes, that it passes, and so would the next one from the same port. From any other port it is captured.

mod network;

#[cfg(test)]
mod tests;

pub use network::{Network, NetworkError};

use std::collections::BTreeSet;
use std::fmt::{Display, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The table's family and name, as nft takes them.
pub const TABLE: &str = "inet causeway";

/// Where nobody listens and the rules lead to the outbound listener, for the proxy's user alone: the proxy connects here
/// to learn whether the rules are in force.
pub const SELF_TEST: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 15019);

/// Port of the proxy's admin side. It listens on loopback only; the rules refuse it from outside in any case.
const ADMIN_PORT: u16 = 15000;

/// Port of the proxy's health and metrics, open to kubelet and scrapers.
const HEALTH_PORT: u16 = 15020;

/// What is captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where the proxy listens for what leaves.
    pub outbound_port: u16,
    /// Where the proxy listens for what comes in.
    pub inbound_port: u16,
    /// The user that the proxy runs as; no other process may run as it.
    pub proxy_uid: u32,
    /// Destination ports that leave directly.
    pub exclude_outbound_ports: Vec<u16>,
    /// Ports of the pod that are reached directly.
    pub exclude_inbound_ports: Vec<u16>,
    /// Destinations that are reached directly.
    pub exclude_outbound_cidrs: Vec<Network>,
    /// Further users whose connections leave directly.
    pub exclude_uids: Vec<u32>,
    /// When given, only these ports are captured on the way in; the exclusions still hold.
    pub include_inbound_ports: Option<Vec<u16>>,
    /// Whether the proxy serves IPv6. If not, TCP over IPv6 is refused, since it must not pass by.
    pub ipv6: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            outbound_port: 15001,
            inbound_port: 15006,
            proxy_uid: 2102,
            exclude_outbound_ports: Vec::new(),
            exclude_inbound_ports: vec![HEALTH_PORT],
            exclude_outbound_cidrs: Vec::new(),
            exclude_uids: Vec::new(),
            include_inbound_ports: None,
            ipv6: true,
        }
    }
}

/// The script that puts the table in force, replacing an earlier one in the same transaction.
pub fn rules(settings: &Settings) -> String {
    format!("{}table {TABLE} {{\n{}}}\n", removal(), body(settings))
}

/// The script that removes the table, whether or not it is there.
pub fn removal() -> String {
    // `add` makes the `delete` valid when there is nothing yet.
    format!("add table {TABLE}\ndelete table {TABLE}\n")
}

/// A script that loads the same rules under another table name without putting them in force, so that nft's own
/// listing of both can be compared; the last line removes that table.
pub fn shadow(settings: &Settings, table: &str) -> (String, String) {
    let remove = format!("add table {table}\ndelete table {table}\n");
    (format!("{remove}table {table} {{\n\tflags dormant\n{}}}\n", body(settings)), remove)
}

fn body(settings: &Settings) -> String {
    [outbound(settings), inbound(settings), refused(settings), missed(settings)].join("\n")
}

/// What local processes send.
fn outbound(settings: &Settings) -> String {
    let mut lines = vec![format!(
        "meta skuid {} ip daddr {} tcp dport {} redirect to :{}",
        settings.proxy_uid,
        SELF_TEST.ip(),
        SELF_TEST.port(),
        settings.outbound_port
    )];
    lines.extend(passes_out(settings));
    lines.push(format!("meta l4proto tcp redirect to :{}", settings.outbound_port));
    chain("outbound", "type nat hook output priority -100; policy accept;", &lines)
}

/// What leaves directly.
fn passes_out(settings: &Settings) -> Vec<String> {
    let uids: BTreeSet<u32> = settings.exclude_uids.iter().copied().chain([settings.proxy_uid]).collect();
    let mut lines = vec![format!("meta skuid {} return", set(uids)), "oifname \"lo\" return".to_owned()];
    let (v4, v6): (Vec<Network>, Vec<Network>) =
        network::outermost(&settings.exclude_outbound_cidrs).into_iter().partition(Network::is_ipv4);
    for (family, networks) in [("ip", v4), ("ip6", v6)] {
        if !networks.is_empty() {
            lines.push(format!("{family} daddr {} return", set(networks)));
        }
    }
    lines.extend(excluded(&settings.exclude_outbound_ports));
    lines
}

/// What other hosts send here.
fn inbound(settings: &Settings) -> String {
    let mut lines = passes_in(settings);
    if let Some(ports) = captured_in(settings) {
        lines.push(format!("{ports} redirect to :{}", settings.inbound_port));
    }
    chain("inbound", "type nat hook prerouting priority -100; policy accept;", &lines)
}

/// What comes in directly.
fn passes_in(settings: &Settings) -> Vec<String> {
    let own = [settings.outbound_port, settings.inbound_port, ADMIN_PORT, HEALTH_PORT];
    let mut lines = vec!["iifname \"lo\" return".to_owned()];
    lines.extend(excluded(&[&own[..], &settings.exclude_inbound_ports].concat()));
    lines
}

/// What is captured of the rest; None: nothing.
fn captured_in(settings: &Settings) -> Option<String> {
    match &settings.include_inbound_ports {
        None => Some("meta l4proto tcp".to_owned()),
        Some(ports) if ports.is_empty() => None,
        Some(ports) => Some(format!("tcp dport {}", set(sorted(ports)))),
    }
}

/// What the redirection was to capture and did not. Runs after it, and looks only at what opens a connection: one that
/// was open before the rules and that the kernel remembers goes on.
fn missed(settings: &Settings) -> String {
    const REFUSED: &str = "ct status & dnat == 0 reject with tcp reset";
    let open = vec!["tcp flags & (syn | ack) != syn return".to_owned()];
    let out = [open.clone(), passes_out(settings), vec![format!("meta l4proto tcp {REFUSED}")]].concat();
    let mut inward = [open, passes_in(settings)].concat();
    inward.extend(captured_in(settings).map(|ports| format!("{ports} {REFUSED}")));
    [
        chain("missed_out", "type filter hook output priority 0; policy accept;", &out),
        chain("missed_in", "type filter hook input priority 0; policy accept;", &inward),
    ]
    .join("\n")
}

/// What must not be reached, whoever asks. Runs after redirection, so a captured connection shows its new port here.
fn refused(settings: &Settings) -> String {
    let closed = sorted(&[settings.outbound_port, ADMIN_PORT]);
    let mut lines = vec![
        // The outbound listener would forward with this pod's identity.
        format!("iifname != \"lo\" tcp dport {} reject with tcp reset", set(closed)),
        // A connection that nothing redirected has no original destination to deliver to.
        format!("tcp dport {} ct status & dnat == 0 reject with tcp reset", settings.inbound_port),
    ];
    if settings.ipv6 {
        return chain("refused", "type filter hook input priority 0; policy accept;", &lines);
    }
    lines.push("iifname != \"lo\" meta nfproto ipv6 meta l4proto tcp reject with tcp reset".to_owned());
    let input = chain("refused", "type filter hook input priority 0; policy accept;", &lines);
    // Before redirection, which would turn the destination into loopback. Only what opens a connection: else the reset
    // that answers a refused one could not leave.
    let line = "oifname != \"lo\" meta nfproto ipv6 tcp flags & (syn | ack) == syn reject with tcp reset".to_owned();
    let output = chain("refused_out", "type filter hook output priority -110; policy accept;", &[line]);
    [input, output].join("\n")
}

fn chain(name: &str, head: &str, lines: &[String]) -> String {
    let mut text = format!("\tchain {name} {{\n\t\t{head}\n");
    for line in lines {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "\t\t{line}");
    }
    text.push_str("\t}\n");
    text
}

fn excluded(ports: &[u16]) -> Option<String> {
    (!ports.is_empty()).then(|| format!("tcp dport {} return", set(sorted(ports))))
}

fn sorted(ports: &[u16]) -> BTreeSet<u16> {
    ports.iter().copied().collect()
}

/// `a` or `{ a, b }`.
fn set<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    match items.as_slice() {
        [one] => one.clone(),
        _ => format!("{{ {} }}", items.join(", ")),
    }
}
