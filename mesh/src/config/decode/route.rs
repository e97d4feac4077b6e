//! HTTP routes: what they match, and what becomes of what they take.

use std::collections::HashMap;

use super::pattern::{self, Subject};
use super::{At, Faults, action, destination, each};
use crate::config::action::Action;
use crate::route::{Match, Route};
use crate::text::TextMatch;
use crate::wire;

const MAX_MATCHES: usize = 256;

pub(super) fn route(
    wire: &wire::Route,
    indices: &HashMap<&str, usize>,
    at: &At<'_>,
    faults: &mut Faults<'_>,
) -> Option<Route> {
    use wire::route::Action as Wire;
    let name = faults.text(&at.field("name"), &wire.name, "a name", |n| !n.is_empty());
    let within = faults.within(&at.field("matches"), wire.matches.len(), MAX_MATCHES);
    let matches = if within { each(&wire.matches, &at.field("matches"), faults, one_match) } else { None };
    let action = match &wire.action {
        Some(Wire::Split(split)) => destination::split(split, indices, &at.field("split"), faults).map(Action::Split),
        Some(Wire::Redirect(redirect)) => {
            action::redirect(redirect, &at.field("redirect"), faults).map(Action::Redirect)
        }
        Some(Wire::Direct(direct)) => action::direct(direct, &at.field("direct"), faults).map(Action::Direct),
        None => faults.none(at.field("action"), "is missing or of a kind that this proxy does not know"),
    };
    let timeout = destination::milliseconds(wire.timeout_ms, &at.field("timeout_ms"), faults);
    let filters = action::filters(wire, indices, at, faults);
    let retry = match &wire.retry {
        None => Some(None),
        Some(retry) => action::retry(retry, &at.field("retry"), faults).map(|r| Some(Box::new(r))),
    };
    Some(Route {
        name: name?.into(),
        matches: matches?,
        action: action?,
        timeout: timeout?,
        filters: filters?,
        retry: retry?,
    })
}

/// A match that asks for nothing is refused: `matches` is left empty to mean every request.
pub(super) fn one_match(wire: &wire::Match, at: &At<'_>, faults: &mut Faults<'_>) -> Option<Match> {
    if *wire == wire::Match::default() {
        faults.add(at, "asks for nothing that this proxy knows; leave `matches` empty to mean every request");
        return None;
    }
    let path = optional(wire.path.as_ref(), Subject::Path, &at.field("path"), faults);
    let authority = optional(wire.authority.as_ref(), Subject::Host, &at.field("authority"), faults);
    let scheme = optional(wire.scheme.as_ref(), Subject::Value, &at.field("scheme"), faults);
    let method = match wire.method.as_str() {
        "" => Some(None),
        method => pattern::method(method, &at.field("method"), faults).map(|m| Some(m.into_boxed_str())),
    };
    let method_match = optional(wire.method_match.as_ref(), Subject::Value, &at.field("method_match"), faults);
    let is_plain = matches!(
        path.as_ref().and_then(Option::as_ref),
        Some(TextMatch::Exact(_) | TextMatch::Prefix(_) | TextMatch::PathPrefix(_))
    );
    if wire.ignore_path_case && path.is_some() && !is_plain {
        faults.add(&at.field("ignore_path_case"), "is for an exact path or a prefix only");
    }
    faults.within(&at.field("headers"), wire.headers.len(), MAX_MATCHES);
    faults.within(&at.field("queries"), wire.queries.len(), MAX_MATCHES);
    let headers = each(&wire.headers, &at.field("headers"), faults, pattern::header);
    let queries = each(&wire.queries, &at.field("queries"), faults, pattern::query);
    Some(Match {
        path: path?,
        method: method?,
        headers: headers?,
        queries: queries?,
        authority: authority?,
        method_match: method_match?,
        scheme: scheme?,
        ignore_path_case: wire.ignore_path_case,
    })
}

fn optional(
    wire: Option<&wire::StringMatch>,
    subject: Subject,
    at: &At<'_>,
    faults: &mut Faults<'_>,
) -> Option<Option<TextMatch>> {
    match wire {
        None => Some(None),
        Some(wire) => pattern::pattern(wire, subject, at, faults).map(Some),
    }
}
