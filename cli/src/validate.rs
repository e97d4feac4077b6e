//! `causeway validate`: shows what the control plane's own code finds in YAML files, with the line it stands on.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;

use anyhow::bail;
use causeway_control_plane::Validation;
use causeway_control_plane::problem::{Problem, Severity};
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::terminal::{Ink, Style};

const EXAMPLES: &str = "\
Examples:
  causeway validate k8s/                    every problem in a folder and the folders below it
  causeway validate route.yaml rules.yaml   several files, read as one configuration
  causeway validate --strict k8s/           warnings fail too, for a pipeline
  causeway validate -o json k8s/ | jq '.problems[].code'

Files are read together, as one control plane would read them: a route may name a subset that another file defines.
Kinds that Causeway does not use (Deployment, NetworkPolicy, ...) are passed over with a note; --notes shows the notes.

Exit codes: 0 no errors (and, with --strict, no warnings); 1 there are some, or nothing was read; 2 the command line is
wrong.";

/// Arguments of `causeway validate`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Settings {
    /// Files or folders of YAML.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// How to print what was found.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// Fail on warnings too.
    #[arg(long)]
    strict: bool,
    /// Print notes too, for example on kinds that are passed over.
    #[arg(long)]
    notes: bool,
}

/// Form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Validates and prints; returns the exit code.
///
/// # Errors
/// A path that is not there, or output that cannot be written.
pub fn run(settings: &Settings, style: Style, out: &mut dyn Write) -> anyhow::Result<u8> {
    for path in &settings.paths {
        if !path.exists() {
            bail!("there is no file or folder `{}`", path.display());
        }
    }
    let found = causeway_control_plane::validate(&settings.paths);
    let passed = is_passed(&found, settings.strict);
    match settings.output {
        Output::Json => {
            let answer = json!({
                "valid": passed,
                "files": found.files,
                "resources": found.resources,
                "problems": found.problems,
            });
            writeln!(out, "{answer:#}")?;
        }
        Output::Text => out.write_all(text(&found, settings, passed, style).as_bytes())?,
    }
    Ok(u8::from(!passed))
}

/// A pipeline that checks the wrong folder must not pass, so reading nothing is a failure.
fn is_passed(found: &Validation, strict: bool) -> bool {
    found.files > 0 && count(found, Severity::Error) == 0 && !(strict && count(found, Severity::Warning) > 0)
}

fn count(found: &Validation, severity: Severity) -> usize {
    found.problems.iter().filter(|p| p.severity == severity).count()
}

fn text(found: &Validation, settings: &Settings, passed: bool, style: Style) -> String {
    let mut sources = Sources::default();
    let mut text = String::new();
    for problem in found.problems.iter().filter(|p| settings.notes || p.severity != Severity::Note) {
        text.push_str(&describe(problem, &mut sources, style));
        text.push('\n');
    }
    let counted = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let verdict = if passed { style.paint(Ink::Good, "valid") } else { style.paint(Ink::Bad, "not valid") };
    let mut parts = vec![
        counted(found.files, "file"),
        counted(found.resources, "resource"),
        counted(count(found, Severity::Error), "error"),
        counted(count(found, Severity::Warning), "warning"),
    ];
    let notes = count(found, Severity::Note);
    let hint = if notes > 0 && !settings.notes { " (--notes shows them)" } else { "" };
    parts.push(format!("{}{hint}", counted(notes, "note")));
    let _ = writeln!(text, "{verdict}: {}", parts.join(", "));
    text
}

fn describe(problem: &Problem, sources: &mut Sources, style: Style) -> String {
    let ink = match problem.severity {
        Severity::Error => Ink::Bad,
        Severity::Warning => Ink::Warn,
        Severity::Note => Ink::Faint,
    };
    let title = style.paint(ink, &format!("{}[{}]", problem.severity, problem.code));
    let place = if problem.line > 0 { format!("{}:{}", problem.file, problem.line) } else { problem.file.clone() };
    let mut text = format!("{title} {}\n", style.paint(Ink::Head, &place));
    let subject = [&*problem.resource, &*problem.field].into_iter().filter(|s| !s.is_empty()).collect::<Vec<_>>();
    if !subject.is_empty() {
        let _ = writeln!(text, "  {}", style.paint(Ink::Name, &subject.join("  ")));
    }
    let _ = writeln!(text, "  {}", problem.message);
    if let Some(line) = sources.line(&problem.file, problem.line) {
        let number = problem.line.to_string();
        let gap = " ".repeat(number.len());
        let bar = style.paint(Ink::Faint, "|");
        let from = line.len() - line.trim_start().len();
        let shown = line.trim_start().chars().count();
        let marks = style.paint(ink, &"^".repeat(shown.clamp(1, 100)));
        let _ = writeln!(text, "  {} {bar} {line}", style.paint(Ink::Faint, &number));
        let _ = writeln!(text, "  {gap} {bar} {}{marks}", " ".repeat(from));
    }
    if !problem.advice.is_empty() {
        let _ = writeln!(text, "  {} {}", style.paint(Ink::Good, "help:"), problem.advice);
    }
    text
}

/// Lines of the files that problems name, each file read once.
#[derive(Default)]
struct Sources {
    files: HashMap<String, Vec<String>>,
}

impl Sources {
    fn line(&mut self, file: &str, line: u32) -> Option<&str> {
        let index = usize::try_from(line).ok()?.checked_sub(1)?;
        let lines = self.files.entry(file.to_owned()).or_insert_with(|| {
            std::fs::read(file)
                .map(|bytes| String::from_utf8_lossy(&bytes).lines().map(printable).collect())
                .unwrap_or_default()
        });
        lines.get(index).map(|line| line.trim_end()).filter(|line| !line.is_empty())
    }
}

/// A line that cannot steer the terminal, and not so long that it hides the rest.
fn printable(line: &str) -> String {
    let clean: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    crate::terminal::cut(&clean, 160)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(file: &str) -> Problem {
        Problem {
            file: file.to_owned(),
            line: 2,
            severity: Severity::Error,
            code: "unknown_subset",
            resource: "VirtualService dev/route".to_owned(),
            field: "spec.http[0].route[0].destination.subset".to_owned(),
            message: "no DestinationRule has the subset `v9`.".to_owned(),
            advice: "Add it, or correct the name.".to_owned(),
        }
    }

    #[test]
    fn a_problem_shows_its_line_and_what_to_do() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("route.yaml");
        std::fs::write(&file, "a: 1\n  subset: v9\n").expect("written");
        let text = describe(&problem(file.to_str().expect("text")), &mut Sources::default(), Style::PLAIN);
        let shown = text.lines().skip(1).collect::<Vec<_>>();
        assert_eq!(
            shown,
            [
                "  VirtualService dev/route  spec.http[0].route[0].destination.subset",
                "  no DestinationRule has the subset `v9`.",
                "  2 |   subset: v9",
                "    |   ^^^^^^^^^^",
                "  help: Add it, or correct the name.",
            ]
        );
    }

    #[test]
    fn a_file_that_is_gone_shows_no_line() {
        let text = describe(&problem("/nowhere/at/all.yaml"), &mut Sources::default(), Style::PLAIN);
        assert!(!text.contains('|'), "{text}");
        assert!(text.starts_with("error[unknown_subset] /nowhere/at/all.yaml:2\n"), "{text}");
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        assert_eq!(printable("a\x1b[31mb"), "a [31mb");
    }

    #[test]
    fn strict_fails_on_warnings_only_when_asked() {
        let mut warning = problem("x");
        warning.severity = Severity::Warning;
        let found = Validation { files: 1, resources: 1, problems: vec![warning] };
        assert!(is_passed(&found, false));
        assert!(!is_passed(&found, true));
    }
}
