//! Our custom resources, by the conditions that the control plane writes, and what it says of its sources.

use serde_json::Value;

use super::super::facts::Facts;
use super::super::finding::{Finding, Findings, Group};
use super::{count, word};
use crate::{conditions, replicas};

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = Findings::of(Group::Configuration);
    resources(facts, &mut findings);
    sources(facts, &mut findings);
    findings.all
}

fn resources(facts: &Facts, findings: &mut Findings) {
    let Some(resources) = findings.known("resources", "custom resources", &facts.resources) else { return };
    if resources.is_empty() {
        return findings.note(
            "resources",
            "no VirtualService, DestinationRule, AuthorizationPolicy, PeerAuthentication or other resource of the mesh",
        );
    }
    let mut is_good = true;
    for (condition, check, text, cure) in [
        ("Accepted", "accepted", "not accepted, so not in force", "mend the field that it names and apply it again"),
        ("ResolvedRefs", "resolved", "naming what does not exist", "create what it names, or mend the name"),
        ("Programmed", "programmed", "not in force on every proxy", "causeway status says which proxies are behind"),
    ] {
        let bad: Vec<String> = resources
            .iter()
            .filter_map(|resource| {
                let found = conditions::current(resource, condition)?;
                // What is not accepted or names nothing cannot be in force: said once.
                let is_known =
                    condition == "Programmed" && ["Accepted", "ResolvedRefs"].iter().any(|kind| is_bad(resource, kind));
                let wrong = found["status"] != "True" && !is_known;
                wrong.then(|| {
                    format!("{}: {}: {}", conditions::name(resource), word(found, "reason"), word(found, "message"))
                })
            })
            .collect();
        if bad.is_empty() {
            continue;
        }
        is_good = false;
        let text = format!("{} {text}", count(bad.len(), "resource"));
        let finding = match condition {
            "Accepted" => findings.problem(check, text, cure),
            _ => findings.warning(check, text, cure),
        };
        finding.items = bad;
    }
    let unjudged: Vec<String> = resources
        .iter()
        .filter(|resource| conditions::current(resource, "Accepted").is_none())
        .map(conditions::name)
        .collect();
    if !unjudged.is_empty() {
        is_good = false;
        let text = format!("{} without a status for the newest generation", count(unjudged.len(), "resource"));
        findings.warning("judged", text, "wait a few seconds; if it stays so, see the leader's log").items = unjudged;
    }
    if is_good {
        findings.good("resources", format!("{} accepted, resolved and in force", count(resources.len(), "resource")));
    }
}

fn is_bad(resource: &Value, condition: &str) -> bool {
    conditions::current(resource, condition).is_some_and(|found| found["status"] != "True")
}

/// What the control plane says of where it reads from: a missing permission, a missing CRD, an API server that is away.
fn sources(facts: &Facts, findings: &mut Findings) {
    let problems = facts.replicas.as_ref().map(|replicas| replicas::problems(replicas)).unwrap_or_default();
    let of_source = |problem: &&Value| {
        matches!(word(problem, "severity"), "error" | "warning") && word(problem, "resource").is_empty()
    };
    for problem in problems.iter().filter(of_source) {
        let text = format!("{}: {}", word(problem, "code"), word(problem, "message"));
        let advice = word(problem, "advice");
        let cure = if advice.is_empty() { "docs/problems.md explains the code" } else { advice };
        findings.problem("source", text, cure);
    }
}
