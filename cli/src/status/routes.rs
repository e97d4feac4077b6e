//! Custom resources: routes with their weights as bars, and how far each resource is in force.

use serde_json::Value;

use crate::conditions;
use crate::terminal::{Ink, Style, bar, cut, pad, width, wrap};

/// Columns of a bar.
const BAR: usize = 30;

/// Everything about `resources`; nothing where there are none.
pub(super) fn lines(resources: &[Value], style: Style, columns: usize) -> Vec<String> {
    let (routes, others): (Vec<&Value>, Vec<&Value>) =
        resources.iter().partition(|resource| resource["kind"] == "VirtualService");
    let mut lines = Vec::new();
    if !routes.is_empty() {
        lines.push(style.paint(Ink::Head, "ROUTES"));
        for route in &routes {
            lines.push(title(route, style, columns));
            lines.extend(complaints(route, style, columns));
            lines.extend(weights(route, style, columns));
        }
        lines.push(String::new());
    }
    if !others.is_empty() {
        lines.push(style.paint(Ink::Head, "OTHER RESOURCES"));
        for other in others {
            lines.push(title(other, style, columns));
            lines.extend(complaints(other, style, columns));
        }
        lines.push(String::new());
    }
    lines
}

/// Name on the left, how far it is on the right.
fn title(resource: &Value, style: Style, columns: usize) -> String {
    let progress = progress(resource, style);
    let room = columns.saturating_sub(width(&progress) + 4);
    format!("  {}  {progress}", pad(&cut(&conditions::name(resource), room), room.min(60)))
}

fn progress(resource: &Value, style: Style) -> String {
    let is =
        |kind: &str, status: &str| conditions::current(resource, kind).is_some_and(|found| found["status"] == status);
    let count = match (&resource["status"]["acked"], &resource["status"]["total"]) {
        (Value::Number(acked), Value::Number(total)) => format!(" {acked}/{total}"),
        _ => String::new(),
    };
    if is("Accepted", "False") {
        style.paint(Ink::Bad, "not accepted")
    } else if is("Programmed", "True") && count == " 0/0" {
        style.paint(Ink::Good, "in force, no proxy uses it")
    } else if is("Programmed", "True") {
        style.paint(Ink::Good, &format!("in force{count}"))
    } else if let Some(found) = conditions::current(resource, "Programmed") {
        let (ink, text) = match found["reason"].as_str().unwrap_or_default() {
            "Refused" => (Ink::Bad, "refused by a proxy"),
            "HeldBack" => (Ink::Warn, "held back"),
            "NotInForce" => (Ink::Bad, "not in force"),
            _ if found["status"] == "Unknown" => (Ink::Warn, "not known"),
            _ => (Ink::Warn, "on its way"),
        };
        style.paint(ink, &format!("{text}{count}"))
    } else {
        style.paint(Ink::Warn, "not judged yet")
    }
}

/// Why a condition is not True.
fn complaints(resource: &Value, style: Style, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for (kind, ink) in [("Accepted", Ink::Bad), ("ResolvedRefs", Ink::Bad), ("Programmed", Ink::Warn)] {
        let Some(found) = conditions::current(resource, kind).filter(|found| found["status"] != "True") else {
            continue;
        };
        let word = |key: &str| found[key].as_str().unwrap_or_default();
        let text = format!("{}: {}", word("reason"), word("message"));
        let mark = style.paint(ink, if ink == Ink::Bad { "✘" } else { "!" });
        let wrapped = wrap(&text, columns.saturating_sub(6).max(20));
        let first = |n: usize| if n == 0 { format!("    {mark} ") } else { "      ".to_owned() };
        lines.extend(wrapped.iter().enumerate().map(|(n, line)| format!("{}{line}", first(n))));
    }
    lines
}

fn weights(resource: &Value, style: Style, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for protocol in ["http", "tcp", "tls"] {
        let rules = resource["spec"][protocol].as_array().map(Vec::as_slice).unwrap_or_default();
        for (index, rule) in rules.iter().enumerate() {
            let destinations = rule["route"].as_array().map(Vec::as_slice).unwrap_or_default();
            if rules.len() > 1 {
                let name = rule["name"].as_str().map_or_else(|| format!("{protocol}[{index}]"), str::to_owned);
                lines.push(format!("    {}", style.paint(Ink::Faint, &name)));
            }
            lines.extend(split(destinations, style, columns));
        }
    }
    lines
}

/// One bar for each destination of a rule, as long as its share. A host that all share is said once.
fn split(destinations: &[Value], style: Style, columns: usize) -> Vec<String> {
    let weight = |destination: &Value| match &destination["weight"] {
        Value::Null => u64::from(destinations.len() == 1),
        weight => weight.as_u64().or_else(|| weight.as_f64().map(|w| w.max(0.0) as u64)).unwrap_or(0),
    };
    let sum: u64 = destinations.iter().map(weight).sum();
    let mut lines = Vec::new();
    let host = destinations.first().map_or("-", |first| host(&first["destination"]));
    let is_shared = destinations.iter().all(|d| {
        let destination = &d["destination"];
        self::host(destination) == host && destination["subset"].is_string() && destination["port"].is_null()
    });
    if is_shared {
        lines.push(format!("    {}", style.paint(Ink::Faint, &cut(host, columns.saturating_sub(4)))));
    }
    let name = |destination: &Value| match destination["subset"].as_str() {
        Some(subset) if is_shared => format!("  {subset}"),
        _ => target(destination),
    };
    let names: Vec<String> = destinations.iter().map(|destination| name(&destination["destination"])).collect();
    let room = columns.saturating_sub(BAR + 14).max(20);
    let longest = names.iter().map(|name| width(name)).max().unwrap_or_default().min(room);
    for (index, (destination, name)) in destinations.iter().zip(names).enumerate() {
        let share = if sum == 0 { 0.0 } else { weight(destination) as f64 / sum as f64 };
        let ink = if index == 0 && destinations.len() > 1 { Ink::Canary } else { Ink::Stable };
        let name = pad(&cut(&name, longest), longest);
        lines.push(format!("    {name}  {:>5.1} %  {}", share * 100.0, style.paint(ink, &bar(share, BAR))));
    }
    lines
}

fn host(destination: &Value) -> &str {
    destination["host"].as_str().unwrap_or("-")
}

fn target(destination: &Value) -> String {
    let host = host(destination);
    let port = destination.pointer("/port/number").map(|port| format!(":{port}")).unwrap_or_default();
    match destination["subset"].as_str() {
        Some(subset) => format!("{host}{port} {subset}"),
        None => format!("{host}{port}"),
    }
}
