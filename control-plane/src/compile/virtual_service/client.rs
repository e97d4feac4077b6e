//! Conditions on the client and on the address that it uses.

use super::Report;
use crate::compile::Name;
use crate::compile::lowered::{ClientMatch, Subnet};
use causeway_crds::http_route::HttpMatch;
use causeway_crds::virtual_service::{TcpMatch, TlsMatch};
use causeway_mesh::spiffe::{is_dns_label, is_dns_subdomain};

/// Of an HTTP match; None where it can hold for nobody, which is said.
pub(super) fn http(report: &mut Report<'_>, at: &str, condition: &HttpMatch) -> Option<ClientMatch> {
    let account = match condition.source_service_account.as_deref().filter(|a| !a.is_empty()) {
        None => None,
        Some(text) => Some(account(report, &format!("{at}.sourceServiceAccount"), text)?),
    };
    Some(ClientMatch {
        port: condition.port.and_then(|p| u16::try_from(p).ok()),
        namespace: condition.source_namespace.clone().filter(|n| !n.is_empty()),
        labels: condition.source_labels.clone(),
        account,
        ..ClientMatch::default()
    })
}

/// `namespace/name`, or the name alone of an account in the resource's own namespace.
fn account(report: &mut Report<'_>, field: &str, text: &str) -> Option<Name> {
    let (namespace, name) = text.split_once('/').unwrap_or((&report.meta.key.namespace, text));
    if is_dns_label(namespace) && is_dns_subdomain(name) {
        return Some((namespace.to_owned(), name.to_owned()));
    }
    let message = format!("`{}` is not a ServiceAccount, so this match never applies", text.escape_debug());
    report.error("invalid_service_account", field, message, "Write namespace/name.");
    None
}

/// Of a TCP match.
pub(super) fn tcp(report: &mut Report<'_>, at: &str, condition: &TcpMatch) -> Option<ClientMatch> {
    let source: Vec<String> = condition.source_subnet.iter().cloned().collect();
    Some(ClientMatch {
        port: condition.port.and_then(|p| u16::try_from(p).ok()),
        namespace: condition.source_namespace.clone().filter(|n| !n.is_empty()),
        labels: condition.source_labels.clone(),
        account: None,
        sources: subnets(report, &format!("{at}.sourceSubnet"), &source)?,
        destinations: subnets(report, &format!("{at}.destinationSubnets"), &condition.destination_subnets)?,
    })
}

/// Of a TLS match, the server names left out.
pub(super) fn tls(report: &mut Report<'_>, at: &str, condition: &TlsMatch) -> Option<ClientMatch> {
    Some(ClientMatch {
        port: condition.port.and_then(|p| u16::try_from(p).ok()),
        namespace: condition.source_namespace.clone().filter(|n| !n.is_empty()),
        labels: condition.source_labels.clone(),
        destinations: subnets(report, &format!("{at}.destinationSubnets"), &condition.destination_subnets)?,
        ..ClientMatch::default()
    })
}

fn subnets(report: &mut Report<'_>, field: &str, texts: &[String]) -> Option<Vec<Subnet>> {
    let mut all = Some(Vec::new());
    for text in texts {
        match (Subnet::parse(text), &mut all) {
            (Some(found), Some(list)) => list.push(found),
            (Some(_), None) => {}
            (None, _) => {
                let message =
                    format!("`{}` is no range of addresses, so this match never applies", text.escape_debug());
                report.error("invalid_subnet", field, message, "Write it like 10.1.0.0/16.");
                all = None;
            }
        }
    }
    all
}
