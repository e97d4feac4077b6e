//! Conditions of HTTPRoute and GRPCRoute as the proxy compares them.

use causeway_crds::gateway::grpc_route::{GRPCMatch, GRPCMethodMatch};
use causeway_crds::gateway::http_route::{HTTPMatch, PathMatch, ValueMatch};
use causeway_mesh::text::TextMatch;
use causeway_mesh::wire::string_match::Kind;
use causeway_mesh::wire::{Match, NamedMatch, StringMatch};

/// Why a condition cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unusable {
    /// Stable.
    pub(super) code: &'static str,
    /// Below the match, e.g. `path.value`.
    pub(super) field: String,
    pub(super) message: String,
}

fn unusable<T>(code: &'static str, field: impl Into<String>, message: impl Into<String>) -> Result<T, Unusable> {
    Err(Unusable { code, field: field.into(), message: message.into() })
}

/// The conditions of an HTTPRoute's match.
pub(super) fn http(from: &HTTPMatch) -> Result<Match, Unusable> {
    let mut found = Match {
        path: from.path.as_ref().map(path).transpose()?.flatten(),
        queries: named(&from.query_params, "queryParams", false)?,
        ..Match::default()
    };
    set_headers(&mut found, &from.headers)?;
    if let Some(method) = &from.method {
        let is_method = !method.is_empty() && method.len() <= 64 && is_token(method) && !method.contains('*');
        if !is_method {
            return unusable("invalid_method", "method", format!("`{}` is not an HTTP method", method.escape_debug()));
        }
        found.method.clone_from(method);
    }
    Ok(found)
}

/// The conditions of a GRPCRoute's match.
pub(super) fn grpc(from: &GRPCMatch) -> Result<Match, Unusable> {
    let path = from.method.as_ref().map(method).transpose()?.flatten();
    let mut found = Match { path, ..Match::default() };
    set_headers(&mut found, &from.headers)?;
    Ok(found)
}

/// None where every path is meant.
fn path(from: &PathMatch) -> Result<Option<StringMatch>, Unusable> {
    let value = from.value.as_deref().unwrap_or("/");
    let kind = from.kind.as_deref().unwrap_or("PathPrefix");
    if matches!(kind, "Exact" | "PathPrefix") {
        let is_path = value.starts_with('/') && !value.contains("//") && !value.contains(['#', '?']);
        let is_plain = value.bytes().all(|b| b.is_ascii_graphic());
        if !is_path || !is_plain || value.split('/').any(|s| s == "." || s == "..") {
            let message = format!(
                "`{}` is not a path: it begins with `/` and has no `//`, `.`, `..` or query",
                value.escape_debug()
            );
            return unusable("invalid_path", "path.value", message);
        }
    }
    match kind {
        "Exact" => Ok(Some(text(Kind::Exact(value.to_owned())))),
        "PathPrefix" => match value.trim_end_matches('/') {
            "" => Ok(None),
            prefix => Ok(Some(text(Kind::PathPrefix(prefix.to_owned())))),
        },
        "RegularExpression" => Ok(Some(text(Kind::Regex(regex(value, "path.value")?)))),
        other => unknown("path.type", other, "Exact, PathPrefix, RegularExpression"),
    }
}

/// A call of method `M` of service `S` is a request for `/S/M`.
fn method(from: &GRPCMethodMatch) -> Result<Option<StringMatch>, Unusable> {
    let of = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
    let (service, method) = (of(&from.service), of(&from.method));
    match from.kind.as_deref().unwrap_or("Exact") {
        "Exact" => {
            for (field, value) in [("method.service", &service), ("method.method", &method)] {
                let is_name = |v: &String| v.bytes().all(|b| b.is_ascii_graphic() && !b"/?#%".contains(&b));
                if let Some(value) = value.as_ref().filter(|v| !is_name(v)) {
                    let message = format!("`{}` is not the name of a gRPC service or method", value.escape_debug());
                    return unusable("invalid_path", field, message);
                }
            }
            Ok(match (service, method) {
                (Some(service), Some(method)) => Some(text(Kind::Exact(format!("/{service}/{method}")))),
                (Some(service), None) => Some(text(Kind::Prefix(format!("/{service}/")))),
                (None, Some(method)) => Some(text(Kind::Regex(format!("/[^/]+/{}", escaped(&method))))),
                (None, None) => None,
            })
        }
        "RegularExpression" => {
            let part = |value: Option<String>, field| match value {
                Some(value) => regex(&value, field).map(|value| format!("(?:{value})")),
                None => Ok("[^/]+".to_owned()),
            };
            let pattern = format!("/{}/{}", part(service, "method.service")?, part(method, "method.method")?);
            Ok(Some(text(Kind::Regex(regex(&pattern, "method")?))))
        }
        other => unknown("method.type", other, "Exact, RegularExpression"),
    }
}

/// A name with what has a meaning in regular expressions taken literally.
fn escaped(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.chars().map(|c| if plain(c) { c.to_string() } else { format!("\\x{:02x}", u32::from(c)) }).collect()
}

/// `Host` is the authority, which HTTP/2 carries under another name; it is compared without its port.
fn set_headers(found: &mut Match, headers: &[ValueMatch]) -> Result<(), Unusable> {
    found.headers = named(headers, "headers", true)?;
    if let Some(at) = found.headers.iter().position(|h| h.name == "host") {
        let host = found.headers.remove(at).value;
        found.authority = host.map(|value| match value.kind {
            Some(Kind::Exact(host)) => {
                let lower = host.to_ascii_lowercase();
                let without = lower.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map(|(h, _)| h);
                text(Kind::Exact(without.unwrap_or(&lower).to_owned()))
            }
            _ => value,
        });
    }
    Ok(())
}

/// Of a name that is there twice the first counts.
fn named(all: &[ValueMatch], field: &str, is_header: bool) -> Result<Vec<NamedMatch>, Unusable> {
    let mut found: Vec<NamedMatch> = Vec::with_capacity(all.len());
    for (index, one) in all.iter().enumerate() {
        let field = format!("{field}[{index}]");
        let name = if is_header { one.name.to_ascii_lowercase() } else { one.name.clone() };
        if is_header && !is_token(&name) {
            let message = format!("`{}` cannot be the name of a header", one.name.escape_debug());
            return unusable("invalid_header", format!("{field}.name"), message);
        }
        if name.is_empty() {
            return unusable(
                "invalid_query",
                format!("{field}.name"),
                "the name of a query parameter must not be empty",
            );
        }
        let kind = match one.kind.as_deref().unwrap_or("Exact") {
            "Exact" => Kind::Exact(one.value.clone()),
            "RegularExpression" => Kind::Regex(regex(&one.value, &format!("{field}.value"))?),
            other => return unknown(&format!("{field}.type"), other, "Exact, RegularExpression"),
        };
        if !found.iter().any(|f| f.name == name) {
            found.push(NamedMatch { name, value: Some(text(kind)), invert: false });
        }
    }
    Ok(found)
}

fn text(kind: Kind) -> StringMatch {
    StringMatch { kind: Some(kind) }
}

fn regex(pattern: &str, field: &str) -> Result<String, Unusable> {
    match TextMatch::regex(pattern) {
        Ok(_) => Ok(pattern.to_owned()),
        Err(error) => unusable("invalid_regex", field, format!("this is not a regular expression: {error}")),
    }
}

fn unknown<T>(field: &str, found: &str, known: &str) -> Result<T, Unusable> {
    unusable("unknown_value", field, format!("`{}` is not one of {known}", found.escape_debug()))
}

fn is_token(name: &str) -> bool {
    super::super::matching::is_token(name)
}
