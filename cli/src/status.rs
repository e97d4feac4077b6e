//! `causeway status`: shows connected proxies, what each has acknowledged, and problems, from the control plane's admin
//! port.

use std::io::Write;
use std::net::SocketAddr;

use anyhow::Context;
use clap::Args;
use serde_json::{Value, json};

use crate::terminal::{Ink, Style, pad, width};
use crate::validate::Output;
use crate::{address, admin};

const EXAMPLES: &str = "\
Examples:
  causeway status                                          the control plane of this machine
  causeway status --control-plane http://127.0.0.1:15014   the same, said in full
  causeway status -o json | jq '.proxies[].workload'       for a script

Exit codes: 0 every connected proxy is up to date and no problem is an error; 1 something is not, or the control plane
cannot be asked; 2 the command line is wrong.";

/// Arguments of `causeway status`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Settings {
    /// Admin address of the control plane.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:15014", value_parser = address::admin_address)]
    control_plane: SocketAddr,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Asks and prints; returns the exit code.
///
/// # Errors
/// The control plane cannot be asked, or the output cannot be written.
pub fn run(settings: &Settings, style: Style, out: &mut dyn Write) -> anyhow::Result<u8> {
    let (proxies, problems) = admin::block_on(async {
        let proxies = admin::get_json(settings.control_plane, "/proxies").await?;
        let problems = admin::get_json(settings.control_plane, "/problems").await?;
        Ok((list(&proxies, "proxies"), list(&problems, "problems")))
    })
    .context("no control plane could be asked; say where its admin port is with --control-plane http://HOST:PORT")?;
    match settings.output {
        Output::Json => writeln!(out, "{:#}", json!({ "proxies": proxies, "problems": problems }))?,
        Output::Text => out.write_all(text(&proxies, &problems, style).as_bytes())?,
    }
    let is_well = proxies.iter().all(|proxy| state(proxy) == State::Current) && !problems.iter().any(is_error);
    Ok(u8::from(!is_well))
}

/// The version of `resource` that the proxy of `workload` has acknowledged, if any.
pub(crate) fn acked_version(view: &Value, workload: &str, resource: &str) -> Option<String> {
    let proxies = list(view, "proxies");
    let proxy = proxies.iter().find(|proxy| proxy["workload"] == workload)?;
    let held = proxy["resources"].as_array()?.iter().find(|held| held["name"] == resource)?;
    if held["acked"] != true {
        return None;
    }
    Some(held["version"].to_string())
}

/// The list under `key`, or the answer itself where it is one.
fn list(view: &Value, key: &str) -> Vec<Value> {
    view.get(key).unwrap_or(view).as_array().cloned().unwrap_or_default()
}

fn is_error(problem: &Value) -> bool {
    problem["severity"] == "error"
}

/// How far a proxy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Current,
    Behind,
    Refused,
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

fn text(proxies: &[Value], problems: &[Value], style: Style) -> String {
    let mut lines = Vec::new();
    if proxies.is_empty() {
        lines.push(style.paint(Ink::Warn, "no proxy is connected"));
    } else {
        lines.extend(table(proxies, style));
    }
    lines.push(String::new());
    let shown: Vec<&Value> = problems.iter().filter(|problem| problem["severity"] != "note").collect();
    if shown.is_empty() {
        lines.push(style.paint(Ink::Good, "no problems"));
    } else {
        lines.push(style.paint(Ink::Head, "PROBLEMS"));
    }
    for problem in shown {
        let word = |key: &str| problem[key].as_str().unwrap_or_default().to_owned();
        let ink = if is_error(problem) { Ink::Bad } else { Ink::Warn };
        let title = style.paint(ink, &format!("{}[{}]", word("severity"), word("code")));
        let line = problem["line"].as_u64().filter(|n| *n > 0).map(|n| format!(":{n}")).unwrap_or_default();
        lines.push(format!("{title} {}{line}  {}  {}", word("file"), word("resource"), word("field")));
        lines.push(format!("  {}", word("message")));
        if !word("advice").is_empty() {
            lines.push(format!("  {} {}", style.paint(Ink::Good, "help:"), word("advice")));
        }
    }
    lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

fn table(proxies: &[Value], style: Style) -> Vec<String> {
    let mut rows = vec![["PROXY", "STATE", "ACKED", "VERSION", "IDENTITY"].map(|t| style.paint(Ink::Head, t))];
    for proxy in proxies {
        let word = |key: &str| proxy[key].as_str().unwrap_or("-").to_owned();
        let state = match state(proxy) {
            State::Current => style.paint(Ink::Good, "current"),
            State::Behind => style.paint(Ink::Warn, "behind"),
            State::Refused => style.paint(Ink::Bad, "refused"),
        };
        let acked = format!("{}/{}", proxy["acked"], proxy["total"]);
        rows.push([word("workload"), state, acked, word("version"), style.paint(Ink::Name, &word("spiffe_id"))]);
    }
    let widths: Vec<usize> =
        (0..5).map(|column| rows.iter().map(|row| width(&row[column])).max().unwrap_or_default()).collect();
    let mut lines: Vec<String> = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| pad(cell, *width)).collect();
        lines.push(cells.join("  "));
        if let Some(nack) =
            index.checked_sub(1).and_then(|i| proxies.get(i)).map(|p| &p["nack"]).filter(|n| !n.is_null())
        {
            let word = |key: &str| nack[key].as_str().unwrap_or_default().to_owned();
            lines.push(format!("  {} {}: {}", word("resource"), word("field"), word("message")));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies() -> Vec<Value> {
        vec![
            json!({"workload": "dev/web", "spiffe_id": "spiffe://cluster.local/ns/dev/sa/web", "version": "0.1.0",
                "acked": 2, "total": 2, "nack": null,
                "resources": [{"name": "destination/prodsvc.prod:80", "version": 7, "acked": true}]}),
            json!({"workload": "prod/prodsvc-stable", "version": "0.1.0", "acked": 1, "total": 2,
                "nack": {"resource": "workload", "field": "inbound.mode", "message": "is unknown"}, "resources": []}),
        ]
    }

    #[test]
    fn a_table_shows_who_is_behind_and_why() {
        let text = text(&proxies(), &[], Style::PLAIN);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "dev/web              current  2/2    0.1.0    spiffe://cluster.local/ns/dev/sa/web");
        assert_eq!(lines[2], "prod/prodsvc-stable  refused  1/2    0.1.0    -");
        assert_eq!(lines[3], "  workload inbound.mode: is unknown");
        assert_eq!(lines.last(), Some(&"no problems"));
    }

    #[test]
    fn only_an_acknowledged_version_counts() {
        let view = json!({ "proxies": proxies() });
        assert_eq!(acked_version(&view, "dev/web", "destination/prodsvc.prod:80").as_deref(), Some("7"));
        assert_eq!(acked_version(&view, "dev/web", "destination/other:80"), None);
        assert_eq!(acked_version(&view, "dev/nobody", "destination/prodsvc.prod:80"), None);
    }
}
