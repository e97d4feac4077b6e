//! The picture of a running demo: lines of at most 79 columns, made of facts alone. Pure.

use std::time::Duration;

use super::board::{Epoch, Facts, Note, Refusal};
use crate::clock;
use crate::terminal::{Ink, Style, bar, cut, grouped, pad, spark};

/// Columns that the picture needs.
pub(super) const COLUMNS: usize = 79;
/// Lines that the picture takes, always the same number.
pub(super) const ROWS: usize = 23;

const BAR: usize = 32;
const NOTES: usize = 2;

/// Draws `facts`; always [`ROWS`] lines.
pub(super) fn draw(facts: &Facts, style: Style) -> Vec<String> {
    let mut lines = vec![title(facts, style), String::new()];
    lines.extend(road(facts, style));
    lines.push(String::new());
    lines.extend(split(facts, style));
    lines.push(String::new());
    lines.push(figures(facts, style));
    lines.push(String::new());
    lines.extend(identities(facts, style));
    lines.push(String::new());
    lines.extend(refusals(facts, style));
    lines.push(String::new());
    lines.extend(notes(&facts.notes, style));
    lines.resize(ROWS, String::new());
    lines.into_iter().map(|line| if line.is_empty() { line } else { format!(" {line}") }).collect()
}

fn title(facts: &Facts, style: Style) -> String {
    let left = format!("{}  a service mesh on this machine", style.paint(Ink::Head, "CAUSEWAY"));
    let clock = minutes(clock::now().duration_since(facts.began));
    let right = if facts.epochs.is_empty() {
        format!("starting  {clock}")
    } else {
        format!("weights {} of {}  {clock}", facts.phase(), facts.phases)
    };
    let room = COLUMNS - 1 - right.chars().count();
    format!("{}{}", pad(&left, room), style.paint(Ink::Faint, &right))
}

fn road(facts: &Facts, style: Style) -> [String; 3] {
    let flows = !facts.epochs.is_empty();
    let ink = if flows { Ink::Good } else { Ink::Faint };
    let wire = |text: &str| style.paint(ink, text);
    let app = |text: &str| style.paint(Ink::Head, text);
    let stable = style.paint(Ink::Stable, "v1-stable");
    let canary = style.paint(Ink::Canary, "v1-canary");
    [
        format!("{}{} proxy ── {stable}", " ".repeat(46), wire("┌─▶")),
        format!(
            "{} ── proxy {} {}",
            app("dev/web"),
            wire("━━━━━━━━ mutual TLS ━━━━━━━━━┫"),
            style.paint(Ink::Faint, "prodsvc.prod.svc.cluster.local")
        ),
        format!("{}{} proxy ── {canary}", " ".repeat(46), wire("└─▶")),
    ]
}

fn split(facts: &Facts, style: Style) -> [String; 4] {
    let Some(epoch) = facts.epochs.last() else {
        let waiting = style.paint(Ink::Faint, "the control plane and four proxies are starting ...");
        return [heading("VirtualService dev/prod-service-route", style), String::new(), waiting, String::new()];
    };
    let state = if epoch.is_in_force { "in force" } else { "written, on its way to the proxies" };
    let shown = epoch.weights;
    let sum = f64::from(shown.stable + shown.canary).max(1.0);
    let line = |name: &str, ink: Ink, weight: u32, share: f64, count: u64| {
        version_line(style, ink, name, weight, f64::from(weight) / sum, epoch, share, count)
    };
    let canary = epoch.share.of_canary();
    let stable = if epoch.share.total() == 0 { 0.0 } else { 1.0 - canary };
    [
        format!(
            "{} {}",
            heading("VirtualService dev/prod-service-route", style),
            style.paint(if epoch.is_in_force { Ink::Good } else { Ink::Warn }, state)
        ),
        line("v1-stable", Ink::Stable, shown.stable, stable, epoch.share.stable),
        line("v1-canary", Ink::Canary, shown.canary, canary, epoch.share.canary),
        timeline(facts, style),
    ]
}

#[allow(clippy::too_many_arguments)] // one line of one table, called from one place
fn version_line(
    style: Style,
    ink: Ink,
    name: &str,
    weight: u32,
    wanted: f64,
    epoch: &Epoch,
    share: f64,
    count: u64,
) -> String {
    let filled = bar(share, BAR);
    let length = filled.chars().count();
    let mark = ((wanted * BAR as f64).round() as usize).min(BAR);
    // The mark stands where the bar should end; a bar that reaches it hides it.
    let rest: String = (length..BAR).map(|column| if column == mark { '┊' } else { ' ' }).collect();
    let percent = if epoch.share.total() == 0 { "     -".to_owned() } else { format!("{:>5.1} %", share * 100.0) };
    format!(
        "  {} weight {weight:>3}  {}{} {} {:>9}",
        style.paint(ink, name),
        style.paint(ink, &filled),
        style.paint(Ink::Faint, &rest),
        pad(&style.paint(Ink::Head, &percent), 8),
        grouped(count)
    )
}

fn timeline(facts: &Facts, style: Style) -> String {
    // The second that is under way would make the last step too low or too high.
    let done = facts.seconds.len().saturating_sub(1);
    let from = done.saturating_sub(48);
    let steps: String = facts.seconds[from..done].iter().map(|second| spark(second.of_canary())).collect();
    format!("  {}  {}", style.paint(Ink::Faint, "canary by second  "), style.paint(Ink::Canary, &steps))
}

fn figures(facts: &Facts, style: Style) -> String {
    let failed = format!("{} failed", grouped(facts.failed));
    let failed = style.paint(if facts.failed == 0 { Ink::Good } else { Ink::Bad }, &failed);
    let latency = |quantile| facts.latencies.quantile(quantile).map_or("-".to_owned(), milliseconds);
    let rest = format!("{:.0} per second  p50 {}  p99 {}", facts.rate(), latency(0.5), latency(0.99));
    let requests = format!("{} requests", grouped(facts.answered() + facts.failed));
    format!("{}  {failed}  {}", style.paint(Ink::Head, &requests), style.paint(Ink::Faint, &rest))
}

fn identities(facts: &Facts, style: Style) -> [String; 4] {
    let found = &facts.identities;
    let line = |who: &str, ink: Ink, id: &Option<String>| {
        let text = cut(id.as_deref().unwrap_or("not seen yet"), 60);
        let ink_of_id = if id.is_some() { Ink::Name } else { Ink::Faint };
        format!("  {}{}", pad(&style.paint(ink, who), 13), style.paint(ink_of_id, &text))
    };
    [
        heading("Identities, proved by certificates on both sides", style),
        line("caller", Ink::Head, &found.caller),
        line("v1-stable", Ink::Stable, &found.stable),
        line("v1-canary", Ink::Canary, &found.canary),
    ]
}

fn refusals(facts: &Facts, style: Style) -> [String; 2] {
    let line = |who: &str, refusal: &Option<Refusal>| match refusal {
        None => style.paint(Ink::Faint, &format!("· {who}  not tried yet")),
        Some(Refusal { holds, what }) => {
            let (mark, ink) = if *holds { ("✔ refused", Ink::Good) } else { ("✘ NOT refused", Ink::Bad) };
            format!("{} {who}  {}", style.paint(ink, mark), style.paint(Ink::Faint, &cut(what, 45)))
        }
    };
    [line("dev/intruder", &facts.intruder), line("plain text  ", &facts.plaintext)]
}

fn notes(notes: &[Note], style: Style) -> Vec<String> {
    let from = notes.len().saturating_sub(NOTES);
    notes[from..]
        .iter()
        .map(|note| format!("{}  {}", style.paint(Ink::Faint, &minutes(note.at)), cut(&note.text, COLUMNS - 9)))
        .collect()
}

fn heading(text: &str, style: Style) -> String {
    style.paint(Ink::Head, text)
}

/// `0:07`, `12:34`
pub(super) fn minutes(time: Duration) -> String {
    format!("{}:{:02}", time.as_secs() / 60, time.as_secs() % 60)
}

/// `0.84 ms`, `12 ms`
pub(super) fn milliseconds(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1000.0;
    if millis < 10.0 { format!("{millis:.2} ms") } else { format!("{millis:.0} ms") }
}

#[cfg(test)]
mod tests {
    use super::super::board::{Identities, Share};
    use super::super::directory::Weights;
    use super::*;
    use crate::terminal::width;

    fn busy() -> Facts {
        let mut facts = Facts::new(clock::now(), 3);
        facts.traffic_began = Some(facts.began);
        facts.epochs = vec![Epoch {
            weights: Weights { stable: 4_000, canary: 96_000 },
            is_in_force: false,
            share: Share { stable: 12_345_678, canary: 98_765 },
        }];
        facts.seconds = vec![Share { stable: 9, canary: 1 }; 500];
        facts.failed = 12_345;
        let long = "spiffe://cluster.local/ns/a-namespace-with-a-long-name/sa/an-account-with-a-very-long-name";
        facts.identities =
            Identities { caller: Some(long.into()), stable: Some(long.into()), canary: Some(long.into()) };
        facts.intruder = Some(Refusal { holds: false, what: "x".repeat(200) });
        facts.plaintext = Some(Refusal { holds: true, what: "y".repeat(200) });
        facts.notes = vec![Note { at: Duration::from_secs(7_000), text: "z".repeat(200) }; 8];
        facts.notes.push(Note { at: Duration::from_secs(7_001), text: format!("the last one {}", "z".repeat(200)) });
        facts.latencies.add(Duration::from_secs(9));
        facts
    }

    #[test]
    fn the_picture_fits_a_terminal_of_80_by_24() {
        for facts in [Facts::new(clock::now(), 3), busy()] {
            for style in [Style::PLAIN, Style::COLOURED] {
                let lines = draw(&facts, style);
                assert_eq!(lines.len(), ROWS);
                let last = facts.notes.last().map(|note| cut(&note.text, 20));
                assert!(last.is_none_or(|text| lines[ROWS - 1].contains(text.trim_end_matches('…'))), "{lines:#?}");
                for line in lines {
                    assert!(width(&line) <= COLUMNS, "{} columns: {line}", width(&line));
                }
            }
        }
    }

    #[test]
    fn a_bar_of_the_right_length_ends_at_its_mark() {
        let mut facts = busy();
        facts.epochs[0].weights = Weights { stable: 50, canary: 50 };
        facts.epochs[0].share = Share { stable: 100, canary: 100 };
        let lines = draw(&facts, Style::PLAIN);
        let bars: Vec<_> = lines.iter().filter(|l| l.contains("weight  50")).collect();
        assert_eq!(bars.len(), 2);
        assert!(bars[0].contains(&format!("{}┊", "█".repeat(BAR / 2))), "{}", bars[0]);
    }
}
