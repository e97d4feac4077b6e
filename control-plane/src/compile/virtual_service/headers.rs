//! Changes to headers.

use super::Report;
use crate::compile::matching::is_token;
use causeway_crds::common::{HeaderOperations, Headers};
use causeway_mesh::config::action::headers::{is_changeable, is_value};
use causeway_mesh::wire;
use std::collections::BTreeMap;

/// Most changes of one list that proxies take.
const MOST: usize = 128;

/// What a [`Headers`] comes to.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) request: Option<wire::HeaderChanges>,
    pub(super) response: Option<wire::HeaderChanges>,
    /// Host that the request is given.
    pub(super) authority: Option<String>,
}

/// The changes to requests and responses. What cannot be is left out, which is said.
pub(super) fn both(report: &mut Report<'_>, at: &str, headers: &Headers) -> Changes {
    let mut changes = Changes::default();
    if let Some(request) = &headers.request {
        let at = format!("{at}.request");
        changes.authority = authority(report, &at, request);
        changes.request = operations(report, &at, request, true);
    }
    if let Some(response) = &headers.response {
        changes.response = operations(report, &format!("{at}.response"), response, false);
    }
    changes
}

fn is_host(name: &str) -> bool {
    name.eq_ignore_ascii_case("host") || name.eq_ignore_ascii_case(":authority")
}

/// Setting the host is a rewrite of the authority.
fn authority(report: &mut Report<'_>, at: &str, changes: &HeaderOperations) -> Option<String> {
    let (name, value) = changes.set.iter().chain(&changes.add).find(|(name, _)| is_host(name))?;
    if causeway_mesh::name::host_port(value).is_ok() {
        return Some(value.clone());
    }
    let message = format!("`{}` is not a host, so it stays as it is", value.escape_debug());
    report.error("invalid_authority", &format!("{at}.set.{name}"), message, "Write a host, or host:port.");
    None
}

fn operations(
    report: &mut Report<'_>,
    at: &str,
    changes: &HeaderOperations,
    is_request: bool,
) -> Option<wire::HeaderChanges> {
    let set = pairs(report, &format!("{at}.set"), &changes.set, is_request);
    let add = pairs(report, &format!("{at}.add"), &changes.add, is_request);
    let mut remove = Vec::new();
    for (index, name) in changes.remove.iter().enumerate() {
        if is_usable(report, &format!("{at}.remove[{index}]"), name) {
            remove.push(name.to_ascii_lowercase());
        }
    }
    let found = wire::HeaderChanges { set, add, remove };
    if found.set.len() + found.add.len() + found.remove.len() > MOST {
        let message = format!("more than {MOST} headers are changed, so none is");
        report.error("too_many", at, message, "Change fewer.");
        return None;
    }
    (found != wire::HeaderChanges::default()).then_some(found)
}

fn pairs(report: &mut Report<'_>, at: &str, map: &BTreeMap<String, String>, is_request: bool) -> Vec<wire::Header> {
    let mut all = Vec::new();
    for (name, value) in map.iter().filter(|(name, _)| !is_request || !is_host(name)) {
        let field = format!("{at}.{name}");
        if !is_usable(report, &field, name) {
            continue;
        }
        if !is_value(value) {
            let message = "this cannot be the value of a header, so this change is not made";
            report.error("invalid_header", &field, message, "Remove its control characters.");
            continue;
        }
        if is_command(value) {
            let message = format!("`{}` is sent as it stands: commands of Envoy are not known", value.escape_debug());
            report.warning("literal_value", &field, message, "Write the value itself.");
        }
        all.push(wire::Header { name: name.to_ascii_lowercase(), value: value.clone() });
    }
    all
}

fn is_usable(report: &mut Report<'_>, field: &str, name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    if is_changeable(&lower) {
        return true;
    }
    let shown = name.escape_debug();
    if is_token(&lower) || lower.starts_with(':') {
        let message = format!("`{shown}` is not a header that may be changed, so it stays as it is");
        let advice = "Leave headers of the connection and of framing alone; change the path by rewrite.";
        report.error("unsupported_header", field, message, advice);
    } else {
        let message = format!("`{shown}` cannot be the name of a header, so this change is not made");
        report.error("invalid_header", field, message, "Correct the name.");
    }
    false
}

/// Whether the value holds what Envoy would replace: `%START_TIME%`, `%REQ(x)%`.
fn is_command(value: &str) -> bool {
    let is_name = |part: &str| {
        let name = part.split('(').next().unwrap_or_default();
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
    };
    value.split('%').skip(1).step_by(2).any(is_name) && value.matches('%').count() >= 2
}
