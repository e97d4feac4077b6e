//! Filters of a rule, of a backend: what happens to requests and responses on their way.

use super::super::lowered::MirrorTo;
use super::Lowering;
use crate::compile::duration;
use crate::problem::Severity;
use causeway_crds::gateway::filter::{
    CorsFilter, HTTPFilter, HeaderFilter, MirrorFilter, PathModifier, RedirectFilter,
};
use causeway_crds::gateway::http_route::{Retry, Timeouts};
use causeway_mesh::config::action::headers::{is_changeable, is_value};
use causeway_mesh::config::action::path::is_text;
use causeway_mesh::spiffe::is_dns_subdomain;
use causeway_mesh::wire::retry::Condition;
use causeway_mesh::wire::string_match::Kind;
use causeway_mesh::wire::{self, path_change, redirect, route};
use std::collections::BTreeSet;

/// Most retries of one request that proxies make.
const MOST_RETRIES: u32 = 10;
/// Retries where a rule that wants some does not say how many.
const RETRIES: u32 = 2;
/// Where a cross-origin rule does not say how long a browser remembers it, the standard does.
const MAX_AGE: u64 = 5;

/// What the filters of one rule or backend come to.
#[derive(Debug, Default)]
pub(super) struct Filters {
    /// Headers, rewrite, CORS, redirect.
    pub(super) template: wire::Route,
    pub(super) mirrors: Vec<MirrorTo>,
}

/// Where filters stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// `spec.rules[].filters`; whether the rule's one match is a prefix of the path.
    Rule { has_one_prefix: bool },
    /// `spec.rules[].backendRefs[].filters`
    Backend,
}

/// The filters in `field`. None where one of them cannot be used, which is said.
pub(super) fn filters(lowering: &mut Lowering<'_>, field: &str, all: &[HTTPFilter], place: Place) -> Option<Filters> {
    let mut found = Filters::default();
    let mut seen = BTreeSet::new();
    let mut usable = true;
    for (index, filter) in all.iter().enumerate() {
        let field = format!("{field}[{index}]");
        let is_new = seen.insert(filter.kind.as_str());
        if !is_new && !matches!(filter.kind.as_str(), "RequestMirror" | "ExtensionRef") {
            let message =
                format!("a second filter of type {} cannot stand beside the first", filter.kind.escape_debug());
            lowering.error("incompatible_filters", &field, message, "Make one filter of them.");
            usable = false;
        }
        usable &= add(lowering, &field, filter, place, &mut found).is_some();
    }
    let redirects = found.template.action.is_some();
    for (other, is_there) in
        [("URLRewrite", found.template.rewrite.is_some()), ("RequestMirror", !found.mirrors.is_empty())]
    {
        if redirects && is_there {
            let message = format!("RequestRedirect and {other} cannot stand in one rule");
            lowering.error("incompatible_filters", field, message, "Remove one of them.");
            usable = false;
        }
    }
    usable.then_some(found)
}

/// Adds one filter; None where it cannot be used.
fn add(lowering: &mut Lowering<'_>, field: &str, filter: &HTTPFilter, place: Place, found: &mut Filters) -> Option<()> {
    let template = &mut found.template;
    match (filter.kind.as_str(), place) {
        ("RequestHeaderModifier", _) => {
            let at = format!("{field}.requestHeaderModifier");
            let changes = present(lowering, &at, filter.request_header_modifier.as_ref())?;
            let authority = authority(lowering, &at, changes, place)?;
            if !authority.is_empty() {
                template.rewrite.get_or_insert_default().authority = authority;
            }
            template.request_headers = Some(headers(lowering, &at, changes, true)?);
        }
        ("ResponseHeaderModifier", _) => {
            let at = format!("{field}.responseHeaderModifier");
            let changes = present(lowering, &at, filter.response_header_modifier.as_ref())?;
            template.response_headers = Some(headers(lowering, &at, changes, false)?);
        }
        ("RequestMirror", Place::Rule { .. }) => {
            let at = format!("{field}.requestMirror");
            let to = present(lowering, &at, filter.request_mirror.as_ref())?;
            found.mirrors.extend(mirror(lowering, &at, to));
        }
        ("RequestRedirect", Place::Rule { has_one_prefix }) => {
            let at = format!("{field}.requestRedirect");
            let to = present(lowering, &at, filter.request_redirect.as_ref())?;
            template.action = Some(route::Action::Redirect(redirected(lowering, &at, to, has_one_prefix)?));
        }
        ("URLRewrite", Place::Rule { has_one_prefix }) => {
            let at = format!("{field}.urlRewrite");
            let to = present(lowering, &at, filter.url_rewrite.as_ref())?;
            let rewrite = template.rewrite.get_or_insert_default();
            if let Some(host) = &to.hostname {
                rewrite.authority = hostname(lowering, &at, host)?;
            }
            if let Some(path) = &to.path {
                rewrite.path = Some(path_change(lowering, &format!("{at}.path"), path, has_one_prefix)?);
            }
        }
        ("CORS", Place::Rule { .. }) => {
            let at = format!("{field}.cors");
            let filter = present(lowering, &at, filter.cors.as_ref())?;
            template.cors = Some(cors(lowering, &at, filter)?);
        }
        (kind, place) => {
            // Reading has named the field of a known kind already.
            if !lowering.meta.is_unsupported(field) {
                let known = match place {
                    Place::Rule { .. } => "a filter of this type is not known",
                    Place::Backend => "of a backend's filters only header modifiers are implemented",
                };
                let message = format!("`{}`: {known}", kind.escape_debug());
                lowering.error("unknown_value", &format!("{field}.type"), message, "Remove it.");
            }
            return None;
        }
    }
    Some(())
}

fn present<'a, T>(lowering: &mut Lowering<'_>, at: &str, field: Option<&'a T>) -> Option<&'a T> {
    if field.is_none() {
        lowering.error("missing_field", at, "the filter's type asks for this field", "Add it, or correct the type.");
    }
    field
}

/// The host that a change of the header `Host` sets; empty where it sets none.
fn authority(lowering: &mut Lowering<'_>, at: &str, changes: &HeaderFilter, place: Place) -> Option<String> {
    let Some(host) = changes.set.iter().find(|h| h.name.eq_ignore_ascii_case("host")) else {
        return Some(String::new());
    };
    if place == Place::Backend {
        let message = "the host can be changed for the whole rule only";
        lowering.error("unsupported_header", &format!("{at}.set"), message, "Use URLRewrite in the rule's filters.");
        return None;
    }
    if causeway_mesh::name::host_port(&host.value).is_err() {
        let message = format!("`{}` is not a host", host.value.escape_debug());
        lowering.error("invalid_authority", &format!("{at}.set"), message, "Write a host, or host:port.");
        return None;
    }
    Some(host.value.clone())
}

/// Changes of headers; one name may stand in them once.
fn headers(
    lowering: &mut Lowering<'_>,
    at: &str,
    from: &HeaderFilter,
    is_request: bool,
) -> Option<wire::HeaderChanges> {
    let mut seen = BTreeSet::new();
    let mut usable = true;
    let mut changes = wire::HeaderChanges::default();
    let sets = from.set.iter().enumerate().map(|(i, h)| ("set", i, &h.name, h.value.as_str()));
    let adds = from.add.iter().enumerate().map(|(i, h)| ("add", i, &h.name, h.value.as_str()));
    let removes = from.remove.iter().enumerate().map(|(i, name)| ("remove", i, name, ""));
    for (list, index, name, value) in sets.chain(adds).chain(removes) {
        let field = format!("{at}.{list}[{index}]");
        let lower = name.to_ascii_lowercase();
        let is_host = is_request && list == "set" && lower == "host";
        let wrong = if !seen.insert(lower.clone()) {
            Some(("invalid_header", "is changed twice; one name may stand in a filter once"))
        } else if is_host {
            continue;
        } else if !is_changeable(&lower) {
            Some(("unsupported_header", "is not a header that may be changed"))
        } else if !is_value(value) {
            Some(("invalid_header", "is given a value with control characters, or one that is too long"))
        } else {
            None
        };
        if let Some((code, text)) = wrong {
            let message = format!("`{}` {text}", name.escape_debug());
            lowering.error(code, &field, message, "Correct or remove it.");
            usable = false;
            continue;
        }
        match list {
            "set" => changes.set.push(wire::Header { name: lower, value: value.to_owned() }),
            "add" => changes.add.push(wire::Header { name: lower, value: value.to_owned() }),
            _ => changes.remove.push(lower),
        }
    }
    usable.then_some(changes)
}

/// Where copies go; none where that is not valid, which is said.
fn mirror(lowering: &mut Lowering<'_>, at: &str, from: &MirrorFilter) -> Option<MirrorTo> {
    let field = format!("{at}.backendRef");
    let to = lowering.reference(&from.backend_ref, &field);
    let share_ppm = match (from.percent, &from.fraction) {
        (Some(percent), _) => percent.min(100).saturating_mul(10_000),
        (None, Some(fraction)) => {
            let of = u64::from(fraction.denominator.unwrap_or(100).max(1));
            let share = u64::from(fraction.numerator).saturating_mul(1_000_000) / of;
            u32::try_from(share.min(1_000_000)).unwrap_or(1_000_000)
        }
        (None, None) => 1_000_000,
    };
    // The standard: what is not valid is dropped, and the status says why.
    let is_valid = !matches!(to, super::Reference::Broken(_));
    (is_valid && share_ppm > 0).then_some(MirrorTo { to, share_ppm, field })
}

fn redirected(
    lowering: &mut Lowering<'_>,
    at: &str,
    from: &RedirectFilter,
    has_one_prefix: bool,
) -> Option<wire::Redirect> {
    let status = from.status_code.unwrap_or(302);
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        let message = format!("{status} is not one of 301, 302, 303, 307, 308");
        lowering.error("unknown_value", &format!("{at}.statusCode"), message, "Write one of these.");
        return None;
    }
    let scheme = from.scheme.clone().unwrap_or_default();
    if !matches!(scheme.as_str(), "" | "http" | "https") {
        let message = format!("`{}` is not one of http, https", scheme.escape_debug());
        lowering.error("unknown_value", &format!("{at}.scheme"), message, "Write one of these.");
        return None;
    }
    let host = match &from.hostname {
        Some(host) => hostname(lowering, at, host)?,
        None => String::new(),
    };
    let path = match &from.path {
        Some(path) => Some(path_change(lowering, &format!("{at}.path"), path, has_one_prefix)?),
        None => None,
    };
    let port = match from.port {
        Some(port) => Some(redirect::Port::Number(port)),
        None if scheme.is_empty() => None,
        None => Some(redirect::Port::OfScheme(true)),
    };
    Some(wire::Redirect { status, scheme, host, port, path })
}

fn hostname(lowering: &mut Lowering<'_>, at: &str, host: &str) -> Option<String> {
    let lower = host.to_ascii_lowercase();
    if is_dns_subdomain(&lower) {
        return Some(lower);
    }
    let message = format!("`{}` is not the name of a host", host.escape_debug());
    lowering.error("invalid_authority", &format!("{at}.hostname"), message, "Write its full name, without a port.");
    None
}

fn path_change(
    lowering: &mut Lowering<'_>,
    at: &str,
    from: &PathModifier,
    has_one_prefix: bool,
) -> Option<wire::PathChange> {
    let (field, value) = match from.kind.as_str() {
        "ReplaceFullPath" => ("replaceFullPath", &from.replace_full_path),
        "ReplacePrefixMatch" => ("replacePrefixMatch", &from.replace_prefix_match),
        other => {
            let message = format!("`{}` is not one of ReplaceFullPath, ReplacePrefixMatch", other.escape_debug());
            lowering.error("unknown_value", &format!("{at}.type"), message, "Write one of these.");
            return None;
        }
    };
    let field = format!("{at}.{field}");
    let value = present(lowering, &field, value.as_ref())?;
    let is_full = from.kind == "ReplaceFullPath";
    if !is_full && !has_one_prefix {
        let message = "a prefix can be replaced only where the rule has one match, and that a PathPrefix";
        lowering.error("incompatible_filters", &field, message, "Make a rule of each match.");
        return None;
    }
    let value = match value.as_str() {
        "" if !is_full => String::new(),
        path if path.starts_with('/') => path.to_owned(),
        path => format!("/{path}"),
    };
    if !is_text(&value) || !is_full && value.contains('?') {
        let message = format!("`{}` cannot stand in a path", value.escape_debug());
        lowering.error("invalid_path", &field, message, "Write other characters as %XX.");
        return None;
    }
    let kind = if is_full { path_change::Kind::Full(value) } else { path_change::Kind::Prefix(value) };
    Some(wire::PathChange { kind: Some(kind) })
}

fn cors(lowering: &mut Lowering<'_>, at: &str, from: &CorsFilter) -> Option<wire::Cors> {
    let mut origins = Vec::new();
    for (index, origin) in from.allow_origins.iter().enumerate() {
        let Some(pattern) = origin_pattern(origin) else {
            let message = format!("`{}` is not an origin", origin.escape_debug());
            let advice = "Write it like https://shop.example.com, https://*.example.com or *.";
            lowering.error("invalid_origin", &format!("{at}.allowOrigins[{index}]"), message, advice);
            return None;
        };
        origins.push(wire::StringMatch { kind: Some(pattern) });
    }
    let names = |list: &[String]| list.iter().map(|n| n.trim().to_owned()).collect::<Vec<_>>();
    let lists = [
        ("allowMethods", &from.allow_methods),
        ("allowHeaders", &from.allow_headers),
        ("exposeHeaders", &from.expose_headers),
    ];
    for (field, list) in lists {
        if let Some(index) = list.iter().position(|n| !crate::compile::matching::is_token(n.trim())) {
            let message = format!("`{}` is not a name", list[index].escape_debug());
            lowering.error("invalid_header", &format!("{at}.{field}[{index}]"), message, "Correct it.");
            return None;
        }
    }
    Some(wire::Cors {
        origins,
        methods: names(&from.allow_methods),
        headers: names(&from.allow_headers),
        expose: names(&from.expose_headers),
        max_age_s: Some(from.max_age.map_or(MAX_AGE, u64::from)),
        credentials: from.allow_credentials == Some(true),
        forward_unmatched: false,
    })
}

/// How an origin is compared: browsers leave out the port that is the scheme's own.
fn origin_pattern(origin: &str) -> Option<Kind> {
    if origin == "*" {
        return Some(Kind::Present(true));
    }
    let (scheme, rest) = origin.split_once("://")?;
    let own = match scheme {
        "http" => "80",
        "https" => "443",
        _ => return None,
    };
    let (host, port) = rest.rsplit_once(':').map_or((rest, None), |(host, port)| (host, Some(port)));
    let is_port = port.is_none_or(|p| p.parse::<u16>().is_ok_and(|p| p > 0));
    let plain = host.strip_prefix('*').unwrap_or(host);
    let is_host = host == "*" || is_dns_subdomain(&plain.trim_start_matches('.').to_ascii_lowercase());
    if !is_port || !is_host {
        return None;
    }
    let port = port.filter(|p| *p != own).map(|p| format!(":{p}")).unwrap_or_default();
    let host = host.to_ascii_lowercase();
    match host.strip_prefix('*') {
        None => Some(Kind::Exact(format!("{scheme}://{host}{port}"))),
        // A name holds nothing that a regular expression takes for more than itself, but the dot.
        Some("") if port.is_empty() => Some(Kind::Regex(format!("{scheme}://[^/]+"))),
        Some(rest) => Some(Kind::Regex(format!("{scheme}://[^/]+{}{port}", rest.replace('.', "[.]")))),
    }
}

/// Timeouts and retries of a rule, into `template`. None where one cannot be used, which is said.
pub(super) fn resilience(
    lowering: &mut Lowering<'_>,
    field: &str,
    timeouts: Option<&Timeouts>,
    retry: Option<&Retry>,
    template: &mut wire::Route,
) -> Option<()> {
    let timeouts = timeouts.cloned().unwrap_or_default();
    template.timeout_ms = millis(lowering, &format!("{field}.timeouts.request"), timeouts.request.as_deref())?;
    let each = format!("{field}.timeouts.backendRequest");
    let try_timeout_ms = millis(lowering, &each, timeouts.backend_request.as_deref())?;
    if template.timeout_ms > 0 && try_timeout_ms > template.timeout_ms {
        let message = "a try cannot take longer than the whole request";
        lowering.error("invalid_duration", &each, message, "Make it no longer than timeouts.request.");
        return None;
    }
    let Some(retry) = retry else {
        if try_timeout_ms > 0 {
            template.retry = Some(wire::Retry { try_timeout_ms, ..wire::Retry::default() });
        }
        return Some(());
    };
    let attempts = retry.attempts.unwrap_or(RETRIES);
    if attempts > MOST_RETRIES {
        let message = format!("at most {MOST_RETRIES} retries are made, not {attempts}");
        lowering.add(
            Severity::Warning,
            "too_many_retries",
            &format!("{field}.retry.attempts"),
            message,
            "Write fewer.",
        );
    }
    let backoff = millis(lowering, &format!("{field}.retry.backoff"), retry.backoff.as_deref())?;
    let on =
        [Condition::ConnectFailure, Condition::RefusedStream, Condition::ResetBeforeResponse, Condition::TryTimeout];
    template.retry = Some(wire::Retry {
        attempts: attempts.min(MOST_RETRIES),
        on: on.map(i32::from).into(),
        statuses: retry.codes.clone(),
        try_timeout_ms,
        // Drawn from what is written to twice that; each further wait may be longer.
        backoff_ms: backoff.saturating_mul(2),
        backoff_max_ms: backoff.saturating_mul(10),
        backoff_min_ms: backoff,
        ..wire::Retry::default()
    });
    Some(())
}

/// Milliseconds; 0 where none are set.
fn millis(lowering: &mut Lowering<'_>, field: &str, text: Option<&str>) -> Option<u64> {
    let Some(text) = text else { return Some(0) };
    let found = duration::millis(text);
    if found.is_none() {
        lowering.problems.push(duration::problem(lowering.meta, field, text, "the rule does not apply"));
    }
    found
}
