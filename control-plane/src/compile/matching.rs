//! Conditions of HTTP and TCP routes: those on the client are decided here, those on the request become wire matches.

use causeway_crds::common::StringMatch;
use causeway_crds::http_route::HttpMatch;
use causeway_crds::virtual_service::TcpMatch;
use causeway_mesh::route::PathRank;
use causeway_mesh::text::TextMatch;
use causeway_mesh::wire;
use std::collections::BTreeMap;

/// The client as conditions see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Viewer<'a> {
    pub(super) namespace: &'a str,
    pub(super) labels: &'a BTreeMap<String, String>,
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
pub(super) fn concerns(condition: &HttpMatch, viewer: Viewer<'_>, port: u16) -> bool {
    is_mesh(&condition.gateways)
        && holds(condition.port, condition.source_namespace.as_deref(), &condition.source_labels, viewer, port)
}

/// Whether the conditions on the client and the port hold.
pub(super) fn tcp_concerns(condition: &TcpMatch, viewer: Viewer<'_>, port: u16) -> bool {
    is_mesh(&condition.gateways)
        && holds(condition.port, condition.source_namespace.as_deref(), &condition.source_labels, viewer, port)
}

fn holds(
    on: Option<u32>,
    namespace: Option<&str>,
    labels: &BTreeMap<String, String>,
    viewer: Viewer<'_>,
    port: u16,
) -> bool {
    on.is_none_or(|on| on == u32::from(port))
        && namespace.filter(|n| !n.is_empty()).is_none_or(|n| n == viewer.namespace)
        && super::catalog::selects(labels, viewer.labels)
}

/// Whether nothing is asked of the client and the port, so that the match is the same for everybody.
pub(super) fn is_for_everybody(condition: &HttpMatch) -> bool {
    is_mesh(&condition.gateways)
        && condition.port.is_none()
        && condition.source_namespace.as_deref().is_none_or(str::is_empty)
        && condition.source_labels.is_empty()
}

/// The conditions on the request.
pub(super) fn to_wire(condition: &HttpMatch) -> Result<wire::Match, Unusable> {
    let path = condition.uri.as_ref().map(|m| text(m, "uri", false)).transpose()?;
    let method = condition.method.as_ref().map(method).transpose()?.unwrap_or_default();
    let authority = condition.authority.as_ref().map(|m| text(m, "authority", true)).transpose()?;
    let named = |map: &BTreeMap<String, StringMatch>, field: &str, lower: bool| {
        map.iter()
            .map(|(name, value)| {
                let field = format!("{field}.{name}");
                let value = if *value == StringMatch::default() { present() } else { text(value, &field, false)? };
                let name = if lower { name.to_ascii_lowercase() } else { name.clone() };
                Ok(wire::NamedMatch { name, value: Some(value), invert: false })
            })
            .collect::<Result<Vec<_>, Unusable>>()
    };
    let headers = named(&condition.headers, "headers", true)?;
    if let Some(bad) = condition.headers.keys().find(|n| !is_token(n)) {
        let message = format!("`{}` cannot be the name of a header", bad.escape_debug());
        return Err(Unusable { code: "invalid_header", field: format!("headers.{bad}"), message });
    }
    if condition.query_params.keys().any(String::is_empty) {
        let message = "the name of a query parameter must not be empty".to_owned();
        return Err(Unusable { code: "invalid_query", field: "queryParams".into(), message });
    }
    let queries = named(&condition.query_params, "queryParams", false)?;
    Ok(wire::Match { path, method, headers, queries, authority, ..wire::Match::default() })
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
fn text(value: &StringMatch, field: &str, lower: bool) -> Result<wire::StringMatch, Unusable> {
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

fn method(value: &StringMatch) -> Result<String, Unusable> {
    match text(value, "method", false)?.kind {
        Some(wire::string_match::Kind::Exact(method))
            if is_token(&method) && !method.contains('*') && method.len() <= 64 =>
        {
            Ok(method)
        }
        Some(wire::string_match::Kind::Exact(other)) => {
            let message = format!("`{}` is not an HTTP method", other.escape_debug());
            Err(Unusable { code: "invalid_method", field: "method.exact".into(), message })
        }
        _ => {
            let message = "only an exact method is implemented yet, so this match never applies".to_owned();
            Err(Unusable { code: "not_implemented", field: "method".into(), message })
        }
    }
}

/// Whether the match asks nothing of the request.
pub(super) fn is_catch_all(found: &wire::Match) -> bool {
    use wire::string_match::Kind;
    let any_path = match found.path.as_ref().and_then(|p| p.kind.as_ref()) {
        None => true,
        Some(Kind::Prefix(prefix)) => prefix.is_empty() || prefix == "/",
        _ => false,
    };
    any_path
        && found.method.is_empty()
        && found.headers.is_empty()
        && found.queries.is_empty()
        && found.authority.is_none()
}

/// What precedence looks at in the path.
pub(super) fn rank(found: &wire::Match) -> PathRank {
    use wire::string_match::Kind;
    match found.path.as_ref().and_then(|p| p.kind.as_ref()) {
        Some(Kind::Exact(_)) => PathRank::Exact,
        Some(Kind::Prefix(prefix) | Kind::PathPrefix(prefix)) => PathRank::Prefix(prefix.len()),
        Some(_) => PathRank::Regex,
        None => PathRank::None,
    }
}
