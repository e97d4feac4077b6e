//! What is written on the user's resources: whether each is right, whether all that it names exists, and on how many
//! proxies it is in force. [`of`] decides, purely; `gather` puts the replicas' figures together; `keeper` writes.

use causeway_crds::Status;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use crate::compile::Subject;
use crate::problem::{Problem, Severity};

mod api;
mod event;
mod gather;
mod keeper;
mod parents;
mod replicas;

pub use gather::{Missing, Other, Sum, sum};
pub use keeper::Keeper;

/// As written it is right.
pub const ACCEPTED: &str = "Accepted";
/// All that it names exists.
pub const RESOLVED: &str = "ResolvedRefs";
/// Every proxy that it concerns has it in force.
pub const PROGRAMMED: &str = "Programmed";

/// Problems that one message spells out.
const MAX_PROBLEMS: usize = 3;
/// Names that one message lists.
const MAX_NAMES: usize = 5;
/// Far below the 32,768 that Kubernetes allows.
const MAX_MESSAGE: usize = 2_000;
/// Hosts that are listed.
const MAX_HOSTS: usize = 256;

/// Codes of problems that are about what a resource names, with the reason that the condition gives.
const REFERENCES: [(&str, &str); 10] = [
    ("reference_not_permitted", "RefNotPermitted"),
    ("unsupported_backend", "InvalidKind"),
    ("unknown_host", "HostNotFound"),
    ("unknown_service", "BackendNotFound"),
    ("unknown_port", "BackendNotFound"),
    ("unknown_target_port", "BackendNotFound"),
    ("unknown_subset", "SubsetNotFound"),
    ("unknown_service_account", "ServiceAccountNotFound"),
    ("external_destination", "RefNotPermitted"),
    ("alias_loop", "RefNotPermitted"),
];

/// Everything that a status follows from.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The resource as this replica has read it.
    pub subject: &'a Subject,
    /// How far it is on the proxies of all replicas.
    pub sum: &'a Sum,
    /// What is written on it now.
    pub previous: &'a Status,
    /// It was in force everywhere a moment ago, and nothing of it has changed: proxies that come and go do not take
    /// that away at once.
    pub holds: bool,
    /// Seconds since the epoch.
    pub now: i64,
}

/// The status that `facts` call for.
pub fn of(facts: &Facts<'_>) -> Status {
    let (subject, sum) = (facts.subject, facts.sum);
    let is_current = subject.in_force == Some(subject.generation);
    let (acked, total) = (if is_current { sum.acked } else { 0 }, sum.total);
    let conditions = [(ACCEPTED, accepted(subject)), (RESOLVED, resolved(subject)), (PROGRAMMED, programmed(facts))];
    let hosts = subject.hosts.iter().take(MAX_HOSTS).cloned().collect();
    Status {
        conditions: conditions.map(|(kind, judged)| condition(kind, judged, facts, &facts.previous.conditions)).into(),
        observed_generation: Some(subject.generation),
        acked: Some(acked),
        total: Some(total),
        proxies: Some(format!("{acked}/{total}")),
        resolved_hosts: hosts,
    }
}

/// Status, reason, message.
type Judged = (&'static str, &'static str, String);

/// `written` are the conditions as they are now: one whose status stays keeps the time of its last transition.
fn condition(kind: &str, (status, reason, message): Judged, facts: &Facts<'_>, written: &[Condition]) -> Condition {
    let before = written.iter().find(|c| c.type_ == kind).filter(|c| c.status == status);
    let now = || Time(Timestamp::from_second(facts.now).unwrap_or_default());
    Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: shortened(message),
        observed_generation: Some(facts.subject.generation),
        last_transition_time: before.map_or_else(now, |c| c.last_transition_time.clone()),
    }
}

fn shortened(message: String) -> String {
    if message.len() <= MAX_MESSAGE {
        return message;
    }
    let end = (0..MAX_MESSAGE).rev().find(|at| message.is_char_boundary(*at)).unwrap_or_default();
    format!("{}...", &message[..end])
}

fn reference(problem: &Problem) -> Option<&'static str> {
    let reason = REFERENCES.iter().find(|(code, _)| *code == problem.code).map(|(_, reason)| *reason)?;
    // A host that is not known beside one that is may be a gateway's; a ServiceAccount that nobody has is never meant.
    let counts = problem.severity == Severity::Error || problem.code == "unknown_service_account";
    counts.then_some(reason)
}

/// Errors of the resource itself, not of what it names.
fn own_errors(subject: &Subject) -> impl Iterator<Item = &Problem> {
    subject.problems.iter().filter(|p| p.severity == Severity::Error && reference(p).is_none())
}

fn accepted(subject: &Subject) -> Judged {
    let errors: Vec<_> = own_errors(subject).collect();
    let Some(first) = errors.first() else {
        let warnings: Vec<_> =
            subject.problems.iter().filter(|p| p.severity != Severity::Error && reference(p).is_none()).collect();
        let message = if warnings.is_empty() { "It is right as written.".to_owned() } else { listed(&warnings) };
        return ("True", "Accepted", message);
    };
    let reason = match first.code {
        "unknown_field" | "not_implemented" | "unknown_value" => "UnsupportedValue",
        code if code.starts_with("conflicting_") => "Conflicted",
        _ => "Invalid",
    };
    let in_force = match subject.in_force {
        None => " Nothing of it is in force.".to_owned(),
        Some(good) if good != subject.generation => format!(" Until then generation {good} stays in force."),
        Some(_) => String::new(),
    };
    ("False", reason, listed(&errors) + &in_force)
}

fn resolved(subject: &Subject) -> Judged {
    let missing: Vec<_> = subject.problems.iter().filter(|p| reference(p).is_some()).collect();
    match missing.first().and_then(|p| reference(p)) {
        Some(reason) => ("False", reason, listed(&missing)),
        None if subject.hosts.is_empty() => ("True", RESOLVED, "Everything that it names exists.".to_owned()),
        None => ("True", RESOLVED, format!("Everything that it names exists: {}.", names(&subject.hosts))),
    }
}

/// Problems in words: where, what, and what to do.
fn listed(problems: &[&Problem]) -> String {
    let one = |p: &&Problem| {
        let place = if p.field.is_empty() { String::new() } else { format!("{}: ", p.field) };
        let advice = if p.advice.is_empty() { String::new() } else { format!(" {}", p.advice) };
        format!("{place}{}.{advice}", p.message.trim_end_matches('.'))
    };
    let told: Vec<_> = problems.iter().take(MAX_PROBLEMS).map(one).collect();
    let more = problems.len() - told.len();
    let more = if more > 0 { format!(" And {more} more.") } else { String::new() };
    told.join(" ") + &more
}

fn programmed(facts: &Facts<'_>) -> Judged {
    let (subject, sum) = (facts.subject, facts.sum);
    let count = format!("{} of {} proxies", sum.acked, sum.total);
    let see = if own_errors(subject).next().is_some() { ACCEPTED } else { RESOLVED };
    match subject.in_force {
        None => return ("False", "NotInForce", format!("No version of it is in force; see {see}.")),
        Some(good) if good != subject.generation => {
            let message = format!(
                "Generation {} is not in force, see {see}; generation {good} stays in force, on {count}.",
                subject.generation
            );
            return ("False", "HeldBack", message);
        }
        Some(_) => {}
    }
    if subject.problems.iter().any(|p| p.severity == Severity::Error) {
        return ("False", "NotInForce", format!("It is not in force as written, see {see}; what is, is on {count}."));
    }
    if let Some(refusal) = sum.refusals.first() {
        let place = if refusal.field.is_empty() { String::new() } else { format!(" at {}", refusal.field) };
        let message = format!(
            "{count} have it in force; {} refused {}{place}: {}. It keeps what it had before.",
            refusal.workload,
            refusal.resource,
            refusal.message.trim_end_matches('.')
        );
        return ("False", "Refused", message);
    }
    let waiting = waiting(sum);
    if waiting.is_empty() {
        return match sum.total {
            0 => ("True", "NoProxies", "It concerns no proxy now.".to_owned()),
            _ => ("True", PROGRAMMED, format!("In force on {count}.")),
        };
    }
    match (facts.holds, sum.silent.is_empty()) {
        (true, _) => ("True", PROGRAMMED, format!("In force on {count}; {waiting}.")),
        (false, true) => ("False", "Pending", format!("In force on {count}; {waiting}.")),
        (false, false) => ("Unknown", "ReplicaSilent", format!("Known to be in force on {count}; {waiting}.")),
    }
}

/// What is still awaited; empty when nothing is.
fn waiting(sum: &Sum) -> String {
    let mut parts = Vec::new();
    if !sum.silent.is_empty() {
        parts.push(format!("no answer from replica {}", names(&sum.silent)));
    }
    if !sum.lagging.is_empty() {
        parts.push(format!("not read yet by replica {}", names(&sum.lagging)));
    }
    if !sum.behind.is_empty() {
        parts.push(format!("waiting for {}", names(&sum.behind)));
    }
    if !sum.missing.is_empty() {
        parts.push(format!("not connected: {}", names(&sum.missing)));
    }
    if parts.is_empty() && (!sum.settled || sum.acked < sum.total) {
        parts.push("being sent".to_owned());
    }
    parts.join("; ")
}

fn names(all: &[String]) -> String {
    let told = all.iter().take(MAX_NAMES).cloned().collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(MAX_NAMES) {
        0 => told,
        more => format!("{told} and {more} more"),
    }
}

/// Status and reason of a condition.
pub fn found<'a>(status: &'a Status, kind: &str) -> Option<(&'a str, &'a str)> {
    status.conditions.iter().find(|c| c.type_ == kind).map(|c| (c.status.as_str(), c.reason.as_str()))
}

/// The generation that `Programmed` speaks of.
pub fn generation(status: &Status) -> Option<i64> {
    status.conditions.iter().find(|c| c.type_ == PROGRAMMED).and_then(|c| c.observed_generation)
}

/// Whether two statuses differ in more than figures and words.
pub fn differs_much(a: &Status, b: &Status) -> bool {
    gist(&a.conditions) != gist(&b.conditions)
}

/// Conditions without their words and times.
fn gist(conditions: &[Condition]) -> Vec<(&str, &str, &str, Option<i64>)> {
    conditions.iter().map(|c| (&*c.type_, &*c.status, &*c.reason, c.observed_generation)).collect()
}

#[cfg(test)]
mod tests;
