//! Rules for connections that are carried as bytes: TCP, and TLS by server name.

use super::{Report, client, destinations, is_broken};
use crate::compile::lowered::{ClientMatch, SniMatch, TcpRule, TlsRule, Weighted};
use crate::compile::matching::is_for_mesh;
use causeway_crds::VirtualServiceSpec;
use causeway_crds::virtual_service::{RouteDestination, TlsMatch};

pub(super) fn tcp(report: &mut Report<'_>, spec: &VirtualServiceSpec) -> Vec<TcpRule> {
    let mut all = Vec::new();
    for (index, route) in spec.tcp.iter().enumerate() {
        let field = format!("spec.tcp[{index}]");
        let mut matches: Vec<ClientMatch> = Vec::new();
        for (at, condition) in route.matches.iter().enumerate() {
            let at = format!("{field}.match[{at}]");
            let found = client::tcp(report, &at, condition);
            if is_for_mesh(&condition.gateways) && !report.meta.is_unsupported(&at) {
                matches.extend(found);
            }
        }
        let destinations = to(report, &field, &route.route);
        let never = matches.is_empty() && !route.matches.is_empty();
        if !never && !destinations.is_empty() && !is_broken(report.meta, &field) {
            all.push(TcpRule { index, matches, destinations });
        }
    }
    all
}

pub(super) fn tls(report: &mut Report<'_>, spec: &VirtualServiceSpec) -> Vec<TlsRule> {
    let mut all = Vec::new();
    for (index, route) in spec.tls.iter().enumerate() {
        let field = format!("spec.tls[{index}]");
        let mut matches = Vec::new();
        for (at, condition) in route.matches.iter().enumerate() {
            let at = format!("{field}.match[{at}]");
            let found = client::tls(report, &at, condition).zip(names(report, &at, condition));
            if is_for_mesh(&condition.gateways) && !report.meta.is_unsupported(&at) {
                matches.extend(found.map(|(client, hosts)| SniMatch { client, hosts }));
            }
        }
        let destinations = to(report, &field, &route.route);
        let never = matches.is_empty() && !route.matches.is_empty();
        if !never && !destinations.is_empty() && !is_broken(report.meta, &field) {
            all.push(TlsRule { index, matches, destinations });
        }
    }
    all
}

/// Server names in lower case; None where one is none, which is said.
fn names(report: &mut Report<'_>, at: &str, condition: &TlsMatch) -> Option<Vec<String>> {
    let is_name = |name: &str| {
        let rest = name.strip_prefix("*.").unwrap_or(name);
        (1..=253).contains(&name.len())
            && rest
                .split('.')
                .all(|l| !l.is_empty() && l.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)))
    };
    let mut all = Some(Vec::new());
    for (index, host) in condition.sni_hosts.iter().enumerate() {
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        if host == "*" {
            // Every name: nothing is asked.
            return Some(Vec::new());
        }
        if is_name(&name) {
            if let Some(list) = &mut all {
                list.push(name);
            }
            continue;
        }
        let message = format!("`{}` is no server name, so this match never applies", host.escape_debug());
        let advice = "Write a name like db.prod.svc.cluster.local, or *.example.com.";
        report.error("invalid_server_name", &format!("{at}.sniHosts[{index}]"), message, advice);
        all = None;
    }
    all
}

fn to(report: &mut Report<'_>, field: &str, route: &[RouteDestination]) -> Vec<Weighted> {
    if route.is_empty() {
        let advice = "Name a destination under route.";
        report.error("no_destination", field, "it has no destination, so it does not apply", advice);
    }
    destinations(report, field, route)
}
