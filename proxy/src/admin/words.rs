//! Policies and routes in words, for the operator's view. What they mean is left to `causeway_mesh`.

use causeway_mesh::policy::{Operation, Principal, Rule, Source};
use causeway_mesh::route::{Match, NamedMatch};
use causeway_mesh::text::TextMatch;

/// Whom and what a rule means, e.g. `from spiffe://cluster.local/ns/dev/sa/web to GET on /api/*`.
pub(super) fn rule(rule: &Rule) -> String {
    let from = alternatives(&rule.from, source, "anybody");
    let to = alternatives(&rule.to, operation, "anything");
    format!("from {from} to {to}")
}

/// What a request must be, e.g. `path /api/* and header x-canary = yes`.
pub(super) fn matching(matching: &Match) -> String {
    let mut parts = Vec::new();
    parts.extend(matching.method.as_ref().map(|method| format!("method {method}")));
    parts.extend(matching.method_match.as_ref().map(|method| format!("method {}", pattern(method))));
    parts.extend(matching.scheme.as_ref().map(|scheme| format!("scheme {}", pattern(scheme))));
    parts.extend(matching.path.as_ref().map(|path| format!("path {}", pattern(path))));
    parts.extend(matching.authority.as_ref().map(|host| format!("host {}", pattern(host))));
    parts.extend(matching.headers.iter().map(|header| format!("header {}", named(header))));
    parts.extend(matching.queries.iter().map(|query| format!("query {}", named(query))));
    if parts.is_empty() { "any request".to_owned() } else { parts.join(" and ") }
}

fn alternatives<T>(all: &[T], one: impl Fn(&T) -> String, none: &str) -> String {
    if all.is_empty() { none.to_owned() } else { all.iter().map(one).collect::<Vec<_>>().join(" or ") }
}

fn source(source: &Source) -> String {
    let principal = |p: &Principal| match p {
        Principal::Any => "anybody with an identity".to_owned(),
        Principal::Id(id) => id.to_string(),
    };
    let mut parts = Vec::new();
    parts.extend(list("", &source.principals, principal));
    parts.extend(list("not ", &source.not_principals, principal));
    parts.extend(list("namespace ", &source.namespaces, String::clone));
    parts.extend(list("not namespace ", &source.not_namespaces, String::clone));
    if parts.is_empty() { "anybody".to_owned() } else { parts.join(" and ") }
}

fn operation(operation: &Operation) -> String {
    let mut parts = Vec::new();
    parts.extend(list("", &operation.methods, String::clone));
    parts.extend(list("not ", &operation.not_methods, String::clone));
    parts.extend(list("path ", &operation.paths, pattern));
    parts.extend(list("not path ", &operation.not_paths, pattern));
    parts.extend(list("host ", &operation.hosts, pattern));
    parts.extend(list("not host ", &operation.not_hosts, pattern));
    parts.extend(list("port ", &operation.ports, u16::to_string));
    parts.extend(list("not port ", &operation.not_ports, u16::to_string));
    if parts.is_empty() { "anything".to_owned() } else { parts.join(" and ") }
}

fn list<T>(before: &str, all: &[T], one: impl Fn(&T) -> String) -> Option<String> {
    let words: Vec<String> = all.iter().map(one).collect();
    (!words.is_empty()).then(|| format!("{before}{}", words.join("|")))
}

fn named(named: &NamedMatch) -> String {
    let not = if named.invert { "not " } else { "" };
    match &named.value {
        TextMatch::Present => format!("{not}{}", named.name),
        value => format!("{not}{} = {}", named.name, pattern(value)),
    }
}

fn pattern(pattern: &TextMatch) -> String {
    match pattern {
        TextMatch::Exact(text) => text.to_string(),
        TextMatch::Prefix(text) => format!("{text}*"),
        TextMatch::Suffix(text) => format!("*{text}"),
        TextMatch::Regex(regex) => format!("~{}", regex.as_str()),
        TextMatch::Present => "*".to_owned(),
        TextMatch::PathPrefix(text) if &**text == "/" => "/*".to_owned(),
        TextMatch::PathPrefix(text) => format!("{text}, {text}/*"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_reads_as_it_is_meant() {
        let everybody = Rule::default();
        assert_eq!(rule(&everybody), "from anybody to anything");
        let named = Rule {
            from: vec![Source {
                principals: vec![Principal::Id("spiffe://cluster.local/ns/dev/sa/web".parse().expect("an id"))],
                ..Source::default()
            }],
            to: vec![
                Operation { methods: vec!["GET".into(), "HEAD".into()], ports: vec![8080], ..Operation::default() },
                Operation { not_paths: vec![TextMatch::Prefix("/admin".into())], ..Operation::default() },
            ],
        };
        assert_eq!(
            rule(&named),
            "from spiffe://cluster.local/ns/dev/sa/web to GET|HEAD and port 8080 or not path /admin*"
        );
    }

    #[test]
    fn a_match_reads_as_it_is_meant() {
        let header = |value, invert| NamedMatch { name: "x-canary".into(), value, invert };
        let route = Match {
            path: Some(TextMatch::PathPrefix("/api".into())),
            method: Some("GET".into()),
            headers: vec![header(TextMatch::Exact("yes".into()), false), header(TextMatch::Present, true)],
            queries: Vec::new(),
            ..Match::default()
        };
        assert_eq!(
            matching(&route),
            "method GET and path /api, /api/* and header x-canary = yes and header not x-canary"
        );
    }
}
