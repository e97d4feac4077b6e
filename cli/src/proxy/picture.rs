//! A proxy's views as text for a terminal. Pure.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::Views;
use crate::certs;
use crate::terminal::{Ink, Style, bar, cut, pad, spoken_seconds, width, wrap};

/// Columns of a bar.
const BAR: usize = 24;
/// Endpoints of a destination that are named before the rest is only counted.
const NAMED: usize = 3;
/// Columns of the names on the left.
const NAME: usize = 15;

/// How it is drawn.
#[derive(Clone, Copy)]
pub(super) struct Frame {
    pub(super) style: Style,
    pub(super) columns: usize,
    /// Seconds since the epoch.
    pub(super) now: i64,
    /// Name every endpoint.
    pub(super) all: bool,
}

pub(super) fn text(views: &Views, frame: Frame) -> String {
    let mut lines = title(views, frame);
    lines.push(String::new());
    lines.extend(inbound(&views.config["workload"], frame));
    lines.push(String::new());
    lines.extend(outbound(&views.config, frame));
    lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

fn word<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

fn row(frame: Frame, name: &str, value: &str) -> String {
    format!("  {}{value}", pad(&frame.style.paint(Ink::Faint, name), NAME))
}

/// Who it is, how long its certificate lives, and how it stands with the control plane.
fn title(views: &Views, frame: Frame) -> Vec<String> {
    let Views { certs, status, .. } = views;
    let style = frame.style;
    let ready = if status["ready"] == true {
        style.paint(Ink::Good, "ready")
    } else {
        let awaited: Vec<&str> =
            status["awaited"].as_array().iter().flat_map(|all| all.iter().filter_map(Value::as_str)).collect();
        style.paint(Ink::Bad, &format!("not ready, waits for: {}", awaited.join(", ")))
    };
    let mut lines = vec![format!(
        "{}  {}  {ready}  connections: {}",
        style.paint(Ink::Head, word(status, "workload")),
        word(status, "version"),
        status["connections"]
    )];
    match certs["spiffe_id"].as_str() {
        Some(id) => {
            lines.push(row(frame, "identity", &style.paint(Ink::Name, id)));
            lines.extend(certs::life_left(certs, frame.now, style).map(|life| row(frame, "certificate", &life)));
        }
        None => lines.push(row(frame, "certificate", &style.paint(Ink::Bad, "none yet"))),
    }
    lines.push(row(frame, "control plane", &control_plane(&status["control_plane"], frame)));
    let side = &status["control_plane"];
    let nacked = side["nacked"].as_array().map(Vec::as_slice).unwrap_or_default();
    for nack in nacked.iter().filter_map(Value::as_str) {
        lines.push(row(frame, "refused", &style.paint(Ink::Bad, nack)));
    }
    if let Some(error) = side["last_error"].as_str().filter(|_| side["connected"] != true) {
        for (index, line) in wrap(error, frame.columns.saturating_sub(NAME + 2)).iter().enumerate() {
            lines.push(row(frame, if index == 0 { "last error" } else { "" }, &style.paint(Ink::Warn, line)));
        }
    }
    lines
}

fn control_plane(side: &Value, frame: Frame) -> String {
    let resources = &side["resources"];
    if side["connected"] == true {
        return format!("{}, {resources} resources in force", frame.style.paint(Ink::Good, "connected"));
    }
    let last = certs::instant(&side["last_contact"]);
    let ago = last.map_or_else(
        || "never reached".to_owned(),
        |last| format!("last message {} ago", spoken_seconds(frame.now - last)),
    );
    format!("{}, {ago}; {resources} resources kept in force", frame.style.paint(Ink::Bad, "away"))
}

/// What may come in.
fn inbound(workload: &Value, frame: Frame) -> Vec<String> {
    let style = frame.style;
    let mut lines = vec![style.paint(Ink::Head, "INBOUND")];
    if workload.is_null() {
        lines.push("  no configuration yet: nothing comes in".to_owned());
        return lines;
    }
    let inbound = &workload["inbound"];
    let mode = |mode: &str| match mode {
        "Strict" => "mutual TLS only",
        "Permissive" => "mutual TLS, and plain text without an identity",
        _ => "plain text expected, mutual TLS accepted",
    };
    let mut modes = mode(word(inbound, "mtls")).to_owned();
    for (port, text) in inbound["ports"].as_object().into_iter().flatten() {
        modes.push_str(&format!("; port {port}: {}", mode(text.as_str().unwrap_or_default())));
    }
    lines.extend(wrapped(frame, "encryption", &modes));
    let policies = inbound["policies"].as_array().map(Vec::as_slice).unwrap_or_default();
    for policy in policies {
        let (ink, name) = if policy["action"] == "ALLOW" { (Ink::Good, "allow") } else { (Ink::Bad, "deny") };
        let rules: Vec<&str> = policy["rules"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mark = format!("{} by {}", style.paint(ink, name), word(policy, "name"));
        lines.push(format!("  {mark}"));
        if rules.is_empty() {
            lines.push(format!("    {}", style.paint(Ink::Faint, "no rule: nothing matches")));
        }
        for rule in rules {
            let all = wrap(rule, frame.columns.saturating_sub(6));
            lines.extend(
                all.iter().enumerate().map(|(n, line)| format!("{}{line}", if n == 0 { "    " } else { "      " })),
            );
        }
    }
    // An ALLOW policy that selects the pod closes it for everybody else.
    let otherwise = if policies.iter().any(|policy| policy["action"] == "ALLOW") {
        "deny, since an ALLOW policy selects this pod"
    } else {
        word(inbound, "default")
    };
    lines.push(row(frame, "otherwise", otherwise));
    let probes: Vec<String> = inbound["probes"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|p| format!("{}{}", p["port"], word(p, "path")))
        .collect();
    if !probes.is_empty() {
        lines.extend(wrapped(frame, "probes", &format!("{} (kubelet, in plain text)", probes.join(" "))));
    }
    lines
}

fn wrapped(frame: Frame, name: &str, text: &str) -> Vec<String> {
    let lines = wrap(text, frame.columns.saturating_sub(NAME + 2).max(20));
    lines.iter().enumerate().map(|(index, line)| row(frame, if index == 0 { name } else { "" }, line)).collect()
}

/// Where its application's calls go.
fn outbound(config: &Value, frame: Frame) -> Vec<String> {
    let mut lines = vec![frame.style.paint(Ink::Head, "OUTBOUND")];
    if let Some(egress) = config["workload"]["egress"].as_str() {
        lines.push(row(frame, "unknown hosts", egress));
    }
    let nothing = Map::new();
    let destinations = config["destinations"].as_object().unwrap_or(&nothing);
    let endpoints = config["endpoints"].as_object().unwrap_or(&nothing);
    if destinations.is_empty() {
        lines.push("  no destination: each is asked for at its first use".to_owned());
    }
    for (name, destination) in destinations {
        lines.extend(one(name, destination, endpoints, frame));
    }
    lines
}

fn one(name: &str, destination: &Value, endpoints: &Map<String, Value>, frame: Frame) -> Vec<String> {
    let style = frame.style;
    let kind = match word(destination, "kind") {
        "Service" => word(destination, "protocol").to_owned(),
        "Pod" => format!("one pod, {}", word(destination, "protocol")),
        "External" => format!("outside, {}", word(destination, "external")),
        _ => "unknown to the mesh".to_owned(),
    };
    // Redirected traffic is asked for by address; a person looks for the name.
    let canonical = word(destination, "canonical");
    let (name, asked) = if canonical.is_empty() || canonical == name { (name, "") } else { (canonical, name) };
    let asked = if asked.is_empty() { kind } else { format!("{kind}, by {asked}") };
    let room = frame.columns.saturating_sub(width(&asked) + 6).max(20);
    let name = style.paint(Ink::Name, &cut(name, room));
    let mut lines = vec![format!("  {name}  {}", style.paint(Ink::Faint, &asked))];
    let routes = destination["routes"].as_array().map(Vec::as_slice).unwrap_or_default();
    for route in routes {
        let matches: Vec<&str> = route["matches"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let what = if matches.is_empty() { "any request".to_owned() } else { matches.join(", or ") };
        let timeout = route["timeout_ms"].as_u64().map(|ms| format!(", at most {ms} ms")).unwrap_or_default();
        let origin = word(&route["split"], "origin");
        let by = if origin.is_empty() { String::new() } else { format!(" (by {origin})") };
        let all = wrap(&format!("{what}{timeout}{by}"), frame.columns.saturating_sub(6));
        lines.extend(
            all.iter().enumerate().map(|(n, line)| format!("{}{line}", if n == 0 { "    " } else { "      " })),
        );
        lines.extend(split(&route["split"], endpoints, frame));
    }
    // The split without a route is what bytes take, and requests that no route matches where there are no routes.
    if routes.is_empty() || destination["http_only"] != true && destination["split"] != routes[0]["split"] {
        if !routes.is_empty() {
            lines.push("    connections that are not HTTP".to_owned());
        }
        lines.extend(split(&destination["split"], endpoints, frame));
    }
    lines
}

/// A bar for each backend, then who serves it.
fn split(split: &Value, endpoints: &Map<String, Value>, frame: Frame) -> Vec<String> {
    let backends = split["backends"].as_array().map(Vec::as_slice).unwrap_or_default();
    let sum: u64 = backends.iter().filter_map(|backend| backend["weight"].as_u64()).sum();
    let room = frame.columns.saturating_sub(BAR + 32).max(20);
    let longest = backends.iter().map(|backend| width(word(backend, "backend"))).max().unwrap_or_default().min(room);
    let mut lines = Vec::new();
    for (index, backend) in backends.iter().enumerate() {
        let name = word(backend, "backend");
        let of = endpoints.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let share = if sum == 0 { 0.0 } else { backend["weight"].as_u64().unwrap_or_default() as f64 / sum as f64 };
        let ink = if index == 0 && backends.len() > 1 { Ink::Canary } else { Ink::Stable };
        let drawn = pad(&frame.style.paint(ink, &bar(share, BAR)), BAR);
        let number = match of.len() {
            0 => frame.style.paint(Ink::Warn, "no endpoint"),
            1 => "1 endpoint".to_owned(),
            more => format!("{more} endpoints"),
        };
        lines.push(format!("      {}  {:>5.1} %  {drawn} {number}", pad(&cut(name, longest), longest), share * 100.0));
        lines.extend(served_by(of, frame));
    }
    if let Some(key) = split["key"].as_str() {
        lines.push(format!("      sticky by {key}"));
    }
    lines
}

/// The endpoints, with the identity that each must prove; those that share one are named under it.
fn served_by(endpoints: &[Value], frame: Frame) -> Vec<String> {
    let mut by_identity: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for endpoint in endpoints {
        by_identity.entry(endpoint["identity"].as_str().unwrap_or("plain text")).or_default().push(endpoint);
    }
    let mut lines = Vec::new();
    for (identity, of) in by_identity {
        let ink = if identity == "plain text" { Ink::Warn } else { Ink::Faint };
        lines.push(format!("        {}", frame.style.paint(ink, identity)));
        let shown = if frame.all { of.len() } else { NAMED };
        for endpoint in of.iter().take(shown) {
            lines.push(format!("          {}  {}", word(endpoint, "address"), word(endpoint, "pod")));
        }
        if of.len() > shown {
            lines.push(format!("          and {} more (--destination TEXT names all)", of.len() - shown));
        }
    }
    lines
}
