//! Answers that a route gives by itself, and what it changes in a request's target.

use super::Report;
use crate::compile::lowered::RuleMatch;
use base64::Engine as _;
use causeway_crds::http_route::{DirectResponse, Redirect, RegexRewrite, Rewrite};
use causeway_mesh::config::action::path::{RegexChange, is_text};
use causeway_mesh::wire::{self, path_change, redirect};

/// Redirects that say where to go.
const REDIRECTS: [u32; 5] = [301, 302, 303, 307, 308];
/// What Istio writes for the Gateway API: the path after it takes the place of the prefix that matched.
const PREFIX: &str = "%PREFIX()%";

/// None where it cannot be, which is said; the route then does not apply.
pub(super) fn redirect(report: &mut Report<'_>, at: &str, asked: &Redirect) -> Option<wire::Redirect> {
    let status = asked.redirect_code.unwrap_or(301);
    if !REDIRECTS.contains(&status) {
        let message = format!("{status} is not one of 301, 302, 303, 307 and 308, so this route does not apply");
        report.error("unknown_value", &format!("{at}.redirectCode"), message, "Write one of them.");
        return None;
    }
    let scheme = asked.scheme.as_deref().unwrap_or_default().to_ascii_lowercase();
    if !matches!(&*scheme, "" | "http" | "https") {
        let message = format!("`{}` is not http or https, so this route does not apply", scheme.escape_debug());
        report.error("unknown_value", &format!("{at}.scheme"), message, "Write one of them.");
        return None;
    }
    let (host, of_authority) = match asked.authority.as_deref().filter(|a| !a.is_empty()) {
        None => (String::new(), None),
        Some(text) => authority(report, &format!("{at}.authority"), text)?,
    };
    let written = asked.port.and_then(|p| u16::try_from(p).ok()).or(of_authority);
    let field = format!("{at}.derivePort");
    let port = match (written, asked.derive_port.as_deref()) {
        (Some(port), None) => Some(redirect::Port::Number(port.into())),
        (None, None) => None,
        (None, Some("FROM_PROTOCOL_DEFAULT")) => Some(redirect::Port::OfScheme(true)),
        (None, Some("FROM_REQUEST_PORT")) if scheme.is_empty() => None,
        (_, derived) => {
            let (message, advice) = match derived {
                Some("FROM_PROTOCOL_DEFAULT" | "FROM_REQUEST_PORT") if written.is_some() => {
                    ("it stands beside a port, so this route does not apply", "Keep one of the two.")
                }
                Some("FROM_REQUEST_PORT") => (
                    "the request's port is not kept where the scheme changes, so this route does not apply",
                    "Write the port.",
                ),
                _ => (
                    "this is not one of FROM_PROTOCOL_DEFAULT and FROM_REQUEST_PORT, so this route does not apply",
                    "Write one of them.",
                ),
            };
            report.error("unknown_value", &field, message, advice);
            return None;
        }
    };
    let path = match asked.uri.as_deref().filter(|u| !u.is_empty()) {
        None => None,
        Some(uri) => match uri.strip_prefix(PREFIX) {
            Some(rest) => Some(path_change::Kind::Prefix(path(report, &format!("{at}.uri"), rest, true)?)),
            None => Some(path_change::Kind::Full(path(report, &format!("{at}.uri"), uri, false)?)),
        },
    };
    let path = path.map(|kind| wire::PathChange { kind: Some(kind) });
    Some(wire::Redirect { status, scheme, host, port, path })
}

/// Host and port of a new authority.
fn authority(report: &mut Report<'_>, field: &str, text: &str) -> Option<(String, Option<u16>)> {
    match causeway_mesh::name::host_port(text) {
        Ok(found) => {
            let host = if found.host.contains(':') { format!("[{}]", found.host) } else { found.host.into_owned() };
            Some((host, found.port))
        }
        Err(why) => {
            let message = format!("`{}` is not a host: {why}; this route does not apply", text.escape_debug());
            report.error("invalid_authority", field, message, "Write a host, or host:port.");
            None
        }
    }
}

/// A path as it may stand in a request; a whole one may have a query.
fn path(report: &mut Report<'_>, field: &str, text: &str, is_prefix: bool) -> Option<String> {
    let begins = text.starts_with('/') || is_prefix && text.is_empty();
    if begins && is_text(text) && !(is_prefix && text.contains('?')) {
        return Some(text.to_owned());
    }
    let message = format!("`{}` is not a path, so this route does not apply", text.escape_debug());
    report.error("invalid_path", field, message, "Begin it with /, and write other characters as %XX.");
    None
}

/// None where it cannot be, which is said.
pub(super) fn direct(report: &mut Report<'_>, at: &str, asked: &DirectResponse) -> Option<wire::DirectResponse> {
    let Some(status) = asked.status else {
        let message = "this field is required, so this route does not apply";
        report.error("missing_field", &format!("{at}.status"), message, "Write the status of the response.");
        return None;
    };
    let body = asked.body.as_ref();
    let body = match body.map(|b| (b.string.as_deref(), b.bytes.as_deref())) {
        None | Some((None, None)) => Vec::new(),
        Some((Some(text), None)) => text.as_bytes().to_vec(),
        Some((None, Some(text))) => match base64::engine::general_purpose::STANDARD.decode(text.trim()) {
            Ok(body) => body,
            Err(_) => {
                let message = "this is not base64, so this route does not apply";
                report.error("invalid_body", &format!("{at}.body.bytes"), message, "Write the body as string.");
                return None;
            }
        },
        Some((Some(_), Some(_))) => {
            let message = "only one of string and bytes may be set, so this route does not apply";
            report.error("ambiguous_action", &format!("{at}.body"), message, "Keep one of them.");
            return None;
        }
    };
    Some(wire::DirectResponse { status, body, content_type: String::new() })
}

/// None where it cannot be, which is said.
pub(super) fn rewrite(report: &mut Report<'_>, at: &str, asked: &Rewrite) -> Option<wire::Rewrite> {
    let change = match (asked.uri.as_deref().filter(|u| !u.is_empty()), &asked.uri_regex_rewrite) {
        (None, None) => None,
        (Some(uri), None) => Some(path_change::Kind::Prefix(path(report, &format!("{at}.uri"), uri, true)?)),
        (None, Some(regex)) => {
            Some(path_change::Kind::Regex(replace(report, &format!("{at}.uriRegexRewrite"), regex)?))
        }
        (Some(_), Some(_)) => {
            let message = "only one of uri and uriRegexRewrite may be set, so this route does not apply";
            report.error("ambiguous_action", at, message, "Keep one of them.");
            return None;
        }
    };
    let authority = match asked.authority.as_deref().filter(|a| !a.is_empty()) {
        None => String::new(),
        Some(text) => {
            self::authority(report, &format!("{at}.authority"), text)?;
            text.to_owned()
        }
    };
    Some(wire::Rewrite { path: change.map(|kind| wire::PathChange { kind: Some(kind) }), authority })
}

fn replace(report: &mut Report<'_>, at: &str, asked: &RegexRewrite) -> Option<wire::RegexReplace> {
    let (pattern, replacement) = (asked.pattern.clone().unwrap_or_default(), asked.rewrite.clone().unwrap_or_default());
    let (field, why) = match RegexChange::new(&pattern, &replacement) {
        _ if pattern.is_empty() => (format!("{at}.match"), "this field is required".to_owned()),
        Err(why) => (at.to_owned(), why),
        Ok(_) => return Some(wire::RegexReplace { pattern, replacement }),
    };
    report.error("invalid_regex", &field, format!("{why}; this route does not apply"), "Correct the expression.");
    None
}

/// A new prefix takes the place of the one that matched: without a condition on the path that is `/`.
pub(super) fn with_prefix(matches: Vec<RuleMatch>, template: &wire::Route) -> Vec<RuleMatch> {
    let is_prefix = |change: Option<&wire::PathChange>| {
        change.is_some_and(|c| matches!(c.kind, Some(path_change::Kind::Prefix(_))))
    };
    let of_action = match &template.action {
        Some(wire::route::Action::Redirect(redirect)) => is_prefix(redirect.path.as_ref()),
        _ => false,
    };
    if !of_action && !template.rewrite.as_ref().is_some_and(|r| is_prefix(r.path.as_ref())) {
        return matches;
    }
    let mut matches = matches;
    if matches.is_empty() {
        matches.push(RuleMatch::default());
    }
    for one in matches.iter_mut().filter(|m| m.request.path.is_none()) {
        one.request.path = Some(wire::StringMatch { kind: Some(wire::string_match::Kind::Prefix("/".to_owned())) });
    }
    matches
}
