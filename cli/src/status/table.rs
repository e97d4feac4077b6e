//! The table of proxies: who is up to date, who is behind, who refused what.

use serde_json::Value;

use crate::terminal::{Ink, Style, pad, width};

/// Rows without `--all`.
const ROWS: usize = 20;

/// How far a proxy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Refused,
    Behind,
    Current,
}

fn state(proxy: &Value) -> State {
    if !proxy["nack"].is_null() {
        State::Refused
    } else if proxy["acked"] == proxy["total"] {
        State::Current
    } else {
        State::Behind
    }
}

/// Whether a proxy has all of its configuration in force.
pub(super) fn is_current(proxy: &Value) -> bool {
    state(proxy) == State::Current
}

/// A heading, a row for each proxy (those that need a look first where not all are shown), and what was refused.
pub(super) fn lines(proxies: &[Value], shows_all: bool, style: Style, columns: usize) -> Vec<String> {
    if proxies.is_empty() {
        return vec![style.paint(Ink::Warn, "no proxy is connected")];
    }
    let mut shown: Vec<&Value> = proxies.iter().collect();
    if !shows_all {
        shown.sort_by_key(|proxy| state(proxy));
        shown.truncate(ROWS);
    }
    let mut rows = rows(&shown, style, false);
    if widths(&rows).iter().sum::<usize>() + 8 > columns {
        rows = self::rows(&shown, style, true);
    }
    let widths = widths(&rows);
    let mut lines: Vec<String> = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| pad(cell, *width)).collect();
        lines.push(cells.join("  "));
        let nack = index.checked_sub(1).and_then(|i| shown.get(i)).map(|p| &p["nack"]).filter(|n| !n.is_null());
        if let Some(nack) = nack {
            let word = |key: &str| nack[key].as_str().unwrap_or_default().to_owned();
            lines.push(format!("  {} {}: {}", word("resource"), word("field"), word("message")));
        }
    }
    if shown.len() < proxies.len() {
        let current = proxies.iter().filter(|proxy| is_current(proxy)).count();
        let text =
            format!("{} of {} proxies shown, {current} current; --all shows every one", shown.len(), proxies.len());
        lines.push(style.paint(Ink::Faint, &text));
    }
    lines
}

/// The heading and a row for each; `is_short` leaves out of the identity what is the same for all.
fn rows(shown: &[&Value], style: Style, is_short: bool) -> Vec<[String; 5]> {
    let mut rows = vec![["PROXY", "STATE", "ACKED", "VERSION", "IDENTITY"].map(|title| style.paint(Ink::Head, title))];
    for proxy in shown {
        let word = |key: &str| proxy[key].as_str().unwrap_or("-").to_owned();
        let state = match state(proxy) {
            State::Current => style.paint(Ink::Good, "current"),
            State::Behind => style.paint(Ink::Warn, "behind"),
            State::Refused => style.paint(Ink::Bad, "refused"),
        };
        let acked = format!("{}/{}", proxy["acked"], proxy["total"]);
        let identity = word("spiffe_id");
        let identity = match identity.split_once("/ns/") {
            Some((_, account)) if is_short => account.replace("/sa/", "/"),
            _ => identity,
        };
        rows.push([word("workload"), state, acked, word("version"), style.paint(Ink::Name, &identity)]);
    }
    rows
}

fn widths(rows: &[[String; 5]]) -> [usize; 5] {
    [0, 1, 2, 3, 4].map(|column| rows.iter().map(|row| width(&row[column])).max().unwrap_or_default())
}
