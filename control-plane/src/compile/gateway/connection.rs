//! Rules of TCPRoute and TLSRoute: connections as a whole.

use super::super::lowered::{Reference, SniMatch, TcpRule, TlsRule, Weighted};
use super::Lowering;
use crate::problem::Severity;
use causeway_crds::gateway::layer4::ConnectionRule;
use causeway_mesh::spiffe::is_dns_subdomain;

/// The rules of a TCPRoute.
pub(super) fn tcp(lowering: &mut Lowering<'_>, rules: &[ConnectionRule]) -> Vec<TcpRule> {
    shadowed(lowering, rules);
    let rule = |(index, rule): (usize, &ConnectionRule)| {
        let field = format!("spec.rules[{index}]");
        let destinations = destinations(lowering, &field, rule);
        TcpRule { index, matches: Vec::new(), destinations }
    };
    rules.iter().enumerate().map(rule).collect()
}

/// The rules of a TLSRoute.
pub(super) fn tls(lowering: &mut Lowering<'_>, hostnames: &[String], rules: &[ConnectionRule]) -> Vec<TlsRule> {
    shadowed(lowering, rules);
    let mut hosts = Vec::new();
    for (index, name) in hostnames.iter().enumerate() {
        let lower = name.to_ascii_lowercase();
        let is_name =
            lower.parse::<std::net::IpAddr>().is_err() && is_dns_subdomain(lower.strip_prefix("*.").unwrap_or(&lower));
        if is_name {
            hosts.push(lower);
        } else {
            let message = format!("`{}` cannot be the name in a ClientHello", name.escape_debug());
            lowering.error(
                "invalid_host",
                &format!("spec.hostnames[{index}]"),
                message,
                "Correct it; it takes nothing.",
            );
        }
    }
    if hosts.is_empty() && !hostnames.is_empty() {
        return Vec::new();
    }
    let rule = |(index, rule): (usize, &ConnectionRule)| {
        let field = format!("spec.rules[{index}]");
        let destinations = destinations(lowering, &field, rule);
        TlsRule { index, matches: vec![SniMatch { hosts: hosts.clone(), ..SniMatch::default() }], destinations }
    };
    rules.iter().enumerate().map(rule).collect()
}

/// Rules have no conditions of their own, so only the first is ever reached.
fn shadowed(lowering: &mut Lowering<'_>, rules: &[ConnectionRule]) {
    for index in 1..rules.len() {
        let message = "it is never reached: the first rule takes every connection";
        let field = format!("spec.rules[{index}]");
        lowering.add(Severity::Warning, "shadowed_route", &field, message, "Put its backends into the first rule.");
    }
}

fn destinations(lowering: &mut Lowering<'_>, field: &str, rule: &ConnectionRule) -> Vec<Weighted> {
    if lowering.meta.is_unsupported(field) {
        return vec![refused(format!("{} {field} has a field that is not known", lowering.meta.key), field)];
    }
    if rule.backend_refs.is_empty() {
        return vec![refused(format!("{} {field} names no backend", lowering.meta.key), field)];
    }
    let mut all = Vec::new();
    for (index, backend) in rule.backend_refs.iter().enumerate() {
        let field = format!("{field}.backendRefs[{index}]");
        let to = lowering.reference(&backend.object(), &field);
        let weight = backend.weight.unwrap_or(1);
        all.push(Weighted { to, weight, request_headers: None, response_headers: None, field });
    }
    all
}

/// A destination that refuses its share.
pub(super) fn refused(text: String, field: &str) -> Weighted {
    let to = Reference::Broken(text);
    Weighted { to, weight: 1, request_headers: None, response_headers: None, field: field.to_owned() }
}
