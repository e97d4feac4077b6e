//! Which changes of a status are worth an Event. Pure, and sparing: what comes and goes with every rollout is none.

use causeway_crds::Status;

use super::{ACCEPTED, PROGRAMMED, RESOLVED, found, generation};

/// Kubernetes takes no longer note.
const MAX_NOTE: usize = 1_000;

/// An Event to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Something is not as it should be.
    pub is_warning: bool,
    /// CamelCase.
    pub reason: String,
    /// In words.
    pub note: String,
}

/// What is worth telling of the change from `before` to `after`. `before` without conditions is a resource that had no
/// status yet.
pub fn notices(before: &Status, after: &Status) -> Vec<Notice> {
    let mut all = Vec::new();
    for kind in [ACCEPTED, RESOLVED] {
        match (found(before, kind), found(after, kind)) {
            (was, Some(("False", reason))) if was != Some(("False", reason)) => all.push(notice(after, kind, true)),
            (Some(("False", _)), Some(("True", _))) => all.push(notice(after, kind, false)),
            _ => {}
        }
    }
    let is_new = generation(before) != generation(after);
    match (found(before, PROGRAMMED), found(after, PROGRAMMED)) {
        // Refused by a proxy, or nobody knows: somebody should look.
        (was, Some((status, reason @ ("Refused" | "ReplicaSilent")))) if was != Some((status, reason)) => {
            all.push(notice(after, PROGRAMMED, true));
        }
        (Some((was, _)), Some(("True", _))) if was != "True" || is_new => all.push(notice(after, PROGRAMMED, false)),
        _ => {}
    }
    all
}

fn notice(status: &Status, kind: &str, is_warning: bool) -> Notice {
    let condition = status.conditions.iter().find(|c| c.type_ == kind);
    let (reason, message) = condition.map_or(("", ""), |c| (c.reason.as_str(), c.message.as_str()));
    let generation = generation(status).unwrap_or_default();
    let text = format!("generation {generation}: {message}");
    Notice { is_warning, reason: reason.to_owned(), note: cut(&text) }
}

fn cut(text: &str) -> String {
    let end = (0..=text.len().min(MAX_NOTE)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    text[..end].to_owned()
}
