//! Findings as lines for a terminal: a mark, what was seen, and under it the cure.

use super::finding::{Finding, Mark};
use crate::terminal::{Ink, Style, width, wrap};

/// Objects of one finding that are named before the rest is only counted.
const NAMED: usize = 5;

/// All findings, by group, and a last line that sums them up. `columns` is the width of the terminal.
pub fn text(findings: &[Finding], style: Style, columns: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut group = None;
    for finding in findings {
        if group != Some(finding.group) {
            if group.is_some() {
                lines.push(String::new());
            }
            lines.push(style.paint(Ink::Head, finding.group.title()));
            group = Some(finding.group);
        }
        lines.extend(one(finding, style, columns));
    }
    lines.push(String::new());
    lines.push(summary(findings, style));
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn one(finding: &Finding, style: Style, columns: usize) -> Vec<String> {
    let (mark, ink) = match finding.mark {
        Mark::Good => ("✔", Ink::Good),
        Mark::Note => ("·", Ink::Faint),
        Mark::Warning => ("!", Ink::Warn),
        Mark::Unknown => ("?", Ink::Warn),
        Mark::Problem => ("✘", Ink::Bad),
    };
    let mark = style.paint(ink, mark);
    let mut lines = indented(&format!("  {mark} "), "    ", &finding.text, columns);
    for item in finding.items.iter().take(NAMED) {
        lines.extend(indented("      ", "        ", item, columns));
    }
    if finding.items.len() > NAMED {
        lines.push(format!("      and {} more (-o json names all)", finding.items.len() - NAMED));
    }
    if let Some(cure) = &finding.cure {
        lines.extend(indented(&format!("    {} ", style.paint(Ink::Good, "→")), "      ", cure, columns));
    }
    lines
}

/// `text` behind `first`, its further lines behind `rest`.
fn indented(first: &str, rest: &str, text: &str, columns: usize) -> Vec<String> {
    let room = columns.saturating_sub(width(first)).max(20);
    let wrapped = wrap(text, room);
    wrapped.iter().enumerate().map(|(n, line)| format!("{}{line}", if n == 0 { first } else { rest })).collect()
}

fn summary(findings: &[Finding], style: Style) -> String {
    let of = |mark: Mark| findings.iter().filter(|finding| finding.mark == mark).count();
    let (problems, warnings, unknown) = (of(Mark::Problem), of(Mark::Warning), of(Mark::Unknown));
    let plural = |number: usize, noun: &str| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
    let mut parts = Vec::new();
    if problems > 0 {
        parts.push(style.paint(Ink::Bad, &plural(problems, "problem")));
    }
    if warnings > 0 {
        parts.push(style.paint(Ink::Warn, &plural(warnings, "warning")));
    }
    if unknown > 0 {
        parts.push(style.paint(Ink::Warn, &format!("{unknown} could not be told")));
    }
    let good = plural(of(Mark::Good), "check");
    if parts.is_empty() {
        return style.paint(Ink::Good, &format!("{good} passed: all is well"));
    }
    format!("{}; {good} passed", parts.join(", "))
}
