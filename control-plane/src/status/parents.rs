//! The status of a Gateway API route, which has conditions for each of its parents: what is written for those that are
//! Services. Pure; parents of other kinds and what other controllers say are left alone by `api`.

use causeway_crds::gateway::ParentReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::{ACCEPTED, Facts, Judged, PROGRAMMED, RESOLVED, condition, gist, listed, programmed, reference, resolved};
use crate::compile::Subject;
use crate::problem::{Problem, Severity};

/// Tells what we write in the status of a route from what others write.
pub const CONTROLLER: &str = "causeway.dev/mesh-controller";
/// Some rules are in force and some are not.
pub const PARTIALLY_INVALID: &str = "PartiallyInvalid";

/// What is written for one parent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentStatus {
    /// As it stands in the spec.
    pub parent_ref: ParentReference,
    /// [`CONTROLLER`] where it is ours.
    pub controller_name: String,
    /// `Accepted`, `ResolvedRefs`, `Programmed`, and `PartiallyInvalid` where it is true.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// The status for each parent that is a Service. `before` is what is written now.
pub fn of(facts: &Facts<'_>, before: &[ParentStatus]) -> Vec<ParentStatus> {
    let none = Vec::new();
    let services = facts.subject.parents.as_ref().map_or(&none, |p| &p.services);
    services.iter().map(|(index, parent)| one(facts, before, *index, parent)).collect()
}

/// Whether two statuses differ in more than figures and words.
pub fn differ_much(a: &[ParentStatus], b: &[ParentStatus]) -> bool {
    let is_same = |(a, b): (&ParentStatus, &ParentStatus)| {
        a.parent_ref == b.parent_ref && gist(&a.conditions) == gist(&b.conditions)
    };
    a.len() != b.len() || !a.iter().zip(b).all(is_same)
}

fn one(facts: &Facts<'_>, before: &[ParentStatus], index: usize, parent: &ParentReference) -> ParentStatus {
    // What is wrong with another parent does not concern this one.
    let own = format!("spec.parentRefs[{index}]");
    let concerns = |p: &&Problem| !p.field.starts_with("spec.parentRefs[") || is_below(&p.field, &own);
    let problems = facts.subject.problems.iter().filter(concerns).cloned().collect();
    let subject = Subject { problems, ..facts.subject.clone() };
    let written = before.iter().find(|p| p.parent_ref == *parent).map_or(&[][..], |p| &p.conditions);
    let (accepted, partially) = accepted(&subject);
    let resolved = resolved(&subject);
    let mut subject = subject;
    if accepted.0 == "True" {
        // What is dropped or broken is in force as that.
        subject.problems.clear();
    }
    let facts = &Facts { subject: &subject, ..*facts };
    let judged = [
        Some((ACCEPTED, accepted)),
        Some((RESOLVED, resolved)),
        Some((PROGRAMMED, programmed(facts))),
        partially.map(|p| (PARTIALLY_INVALID, p)),
    ];
    let conditions = judged.into_iter().flatten().map(|(kind, judged)| condition(kind, judged, facts, written));
    ParentStatus {
        parent_ref: parent.clone(),
        controller_name: CONTROLLER.to_owned(),
        conditions: conditions.collect(),
    }
}

fn is_below(field: &str, path: &str) -> bool {
    field.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Whether the parent takes the route, and whether it takes only some of its rules.
fn accepted(subject: &Subject) -> (Judged, Option<Judged>) {
    let errors = || subject.problems.iter().filter(|p| p.severity == Severity::Error && reference(p).is_none());
    let refused = |reason, problems: &[&Problem]| (("False", reason, listed(problems)), None);
    let parent: Vec<&Problem> = errors().filter(|p| p.code == "unknown_parent").collect();
    if !parent.is_empty() {
        return refused("NoMatchingParent", &parent);
    }
    let mut by_rule: BTreeMap<&str, Vec<&Problem>> = BTreeMap::new();
    let mut whole = Vec::new();
    for problem in errors() {
        match rule(&problem.field) {
            Some(rule) => by_rule.entry(rule).or_default().push(problem),
            None => whole.push(problem),
        }
    }
    if !whole.is_empty() {
        return refused(reason(&whole), &whole);
    }
    let dropped: Vec<&Problem> = by_rule.values().flatten().copied().collect();
    if dropped.is_empty() {
        let warnings: Vec<_> =
            subject.problems.iter().filter(|p| p.severity == Severity::Warning && reference(p).is_none()).collect();
        let message = if warnings.is_empty() { "It is right as written.".to_owned() } else { listed(&warnings) };
        return (("True", ACCEPTED, message), None);
    }
    if by_rule.len() >= subject.parents.as_ref().map_or(0, |p| p.rules) {
        return refused(reason(&dropped), &dropped);
    }
    let rules = by_rule.keys().copied().collect::<Vec<_>>().join(", ");
    let message = format!("Dropped Rule {rules}: {}", listed(&dropped));
    let accepted = format!("It holds but for {rules}, see {PARTIALLY_INVALID}.");
    (("True", ACCEPTED, accepted), Some(("True", reason(&dropped), message)))
}

/// `spec.rules[3]` of a field below it.
fn rule(field: &str) -> Option<&str> {
    let rest = field.strip_prefix("spec.rules[")?;
    let end = rest.find(']')?;
    field.get(.."spec.rules[".len() + end + 1)
}

/// The standard's reasons for what is not taken.
fn reason(problems: &[&Problem]) -> &'static str {
    let is_incompatible = problems.iter().all(|p| p.code == "incompatible_filters");
    if is_incompatible { "IncompatibleFilters" } else { "UnsupportedValue" }
}
