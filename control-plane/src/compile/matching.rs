//! Conditions of HTTP and TCP routes: those on the client are decided here, those on the request become wire matches.

use super::lowered::{ClientMatch, Subnet};
use causeway_crds::common::StringMatch;
use causeway_crds::http_route::HttpMatch;
use causeway_mesh::route::PathRank;
use causeway_mesh::text::TextMatch;
use causeway_mesh::wire;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The client, and the address that it uses, as conditions see them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Viewer<'a> {
    pub(super) namespace: &'a str,
    pub(super) account: &'a str,
    pub(super) labels: &'a BTreeMap<String, String>,
    /// Of its pod, as far as known.
    pub(super) addresses: &'a [IpAddr],
    /// What the destination answers to.
    pub(super) destinations: &'a [IpAddr],
}

/// Why a condition cannot be used; the match that holds it never applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unusable {
    /// Stable.
    pub(super) code: &'static str,
    /// Below the match, e.g. `uri.regex`.
    pub(super) field: String,
    pub(super) message: String,
}

fn is_mesh(gateways: &[String]) -> bool {
    gateways.is_empty() || gateways.iter().any(|g| g == "mesh")
}

/// Whether a resource or match with these `gateways` is meant for proxies beside workloads.
pub(super) fn is_for_mesh(gateways: &[String]) -> bool {
    is_mesh(gateways)
}

/// Whether the conditions on the client and the port hold.
pub(super) fn holds(asked: &ClientMatch, viewer: Viewer<'_>, port: u16) -> bool {
    let is_within = |subnets: &[Subnet], addresses: &[IpAddr]| {
        subnets.is_empty() || addresses.iter().any(|a| subnets.iter().any(|s| s.holds(*a)))
    };
    asked.port.is_none_or(|on| on == port)
        && asked.namespace.as_ref().is_none_or(|n| n == viewer.namespace)
        && asked.account.as_ref().is_none_or(|(n, a)| n == viewer.namespace && a == viewer.account)
        && super::catalog::selects(&asked.labels, viewer.labels)
        && is_within(&asked.sources, viewer.addresses)
        && is_within(&asked.destinations, viewer.destinations)
}

/// The conditions on the request.
pub(super) fn to_wire(condition: &HttpMatch) -> Result<wire::Match, Unusable> {
    let optional = |value: &Option<StringMatch>, field: &str, lower: bool| {
        value.as_ref().map(|m| text(m, field, lower)).transpose()
    };
    let (method, method_match) = match optional(&condition.method, "method", false)? {
        Some(wire::StringMatch { kind: Some(wire::string_match::Kind::Exact(m)) }) => (method(m)?, None),
        other => (String::new(), other),
    };
    let mut headers = named(&condition.headers, "headers", true)?;
    headers.extend(
        named(&condition.without_headers, "withoutHeaders", true)?
            .into_iter()
            .map(|m| wire::NamedMatch { invert: true, ..m }),
    );
    if condition.query_params.keys().any(String::is_empty) {
        let message = "the name of a query parameter must not be empty".to_owned();
        return Err(Unusable { code: "invalid_query", field: "queryParams".into(), message });
    }
    Ok(wire::Match {
        path: optional(&condition.uri, "uri", false)?,
        method,
        method_match,
        headers,
        queries: named(&condition.query_params, "queryParams", false)?,
        authority: optional(&condition.authority, "authority", true)?,
        scheme: optional(&condition.scheme, "scheme", true)?,
        ignore_path_case: condition.ignore_uri_case.unwrap_or_default() && condition.uri.is_some(),
    })
}

/// Patterns on headers or query parameters. An empty one asks only that the header is there.
fn named(map: &BTreeMap<String, StringMatch>, field: &str, is_header: bool) -> Result<Vec<wire::NamedMatch>, Unusable> {
    let one = |(name, value): (&String, &StringMatch)| {
        let field = format!("{field}.{name}");
        if is_header && !is_token(name) {
            let message = format!("`{}` cannot be the name of a header", name.escape_debug());
            return Err(Unusable { code: "invalid_header", field, message });
        }
        let value = if *value == StringMatch::default() { present() } else { text(value, &field, false)? };
        let name = if is_header { name.to_ascii_lowercase() } else { name.clone() };
        Ok(wire::NamedMatch { name, value: Some(value), invert: false })
    };
    map.iter().map(one).collect()
}

/// `token` of RFC 9110 section 5.6.2, of a length that proxies take.
pub(super) fn is_token(name: &str) -> bool {
    (1..=256).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

fn present() -> wire::StringMatch {
    wire::StringMatch { kind: Some(wire::string_match::Kind::Present(true)) }
}

/// Hosts are compared in lower case.
pub(super) fn text(value: &StringMatch, field: &str, lower: bool) -> Result<wire::StringMatch, Unusable> {
    use wire::string_match::Kind;
    let case = |text: &String| if lower { text.to_ascii_lowercase() } else { text.clone() };
    let kind = match (&value.exact, &value.prefix, &value.regex) {
        (Some(exact), None, None) => Kind::Exact(case(exact)),
        (None, Some(prefix), None) => Kind::Prefix(case(prefix)),
        (None, None, Some(regex)) => match TextMatch::regex(regex) {
            Ok(_) => Kind::Regex(regex.clone()),
            Err(error) => {
                let message = format!("this is not a regular expression: {error}");
                return Err(Unusable { code: "invalid_regex", field: format!("{field}.regex"), message });
            }
        },
        (None, None, None) => {
            let message = "one of exact, prefix and regex is needed".to_owned();
            return Err(Unusable { code: "empty_match", field: field.to_owned(), message });
        }
        _ => {
            let message = "only one of exact, prefix and regex may be set".to_owned();
            return Err(Unusable { code: "ambiguous_match", field: field.to_owned(), message });
        }
    };
    Ok(wire::StringMatch { kind: Some(kind) })
}

fn method(method: String) -> Result<String, Unusable> {
    if is_token(&method) && !method.contains('*') && method.len() <= 64 {
        return Ok(method);
    }
    let message = format!("`{}` is not an HTTP method", method.escape_debug());
    Err(Unusable { code: "invalid_method", field: "method.exact".into(), message })
}

/// Whether the match asks nothing of the request.
pub(super) fn is_catch_all(found: &wire::Match) -> bool {
    use wire::string_match::Kind;
    let any_path = match found.path.as_ref().and_then(|p| p.kind.as_ref()) {
        None => true,
        Some(Kind::Prefix(prefix) | Kind::PathPrefix(prefix)) => prefix.is_empty() || prefix == "/",
        _ => false,
    };
    let rest = wire::Match { path: None, ignore_path_case: false, ..found.clone() };
    any_path && rest == wire::Match::default()
}

/// What precedence looks at in the path.
pub(super) fn rank(found: &wire::Match) -> PathRank {
    use wire::string_match::Kind;
    match found.path.as_ref().and_then(|p| p.kind.as_ref()) {
        Some(Kind::Exact(_)) => PathRank::Exact,
        // Every path has it, so it asks nothing, whichever API writes it.
        Some(Kind::Prefix(prefix) | Kind::PathPrefix(prefix)) if prefix.is_empty() || prefix == "/" => PathRank::None,
        Some(Kind::Prefix(prefix) | Kind::PathPrefix(prefix)) => PathRank::Prefix(prefix.len()),
        Some(_) => PathRank::Regex,
        None => PathRank::None,
    }
}
