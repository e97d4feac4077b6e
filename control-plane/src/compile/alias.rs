//! ExternalName Services: aliases of Services in the cluster, or names of the outside.

use super::catalog::Catalog;
use super::lowered::{Attachment, HttpRule, RouteResource, RuleMatch};
use super::{Name, Settings};
use crate::problem::{Problem, Severity};
use causeway_mesh::{name, wire};
use std::net::IpAddr;
use std::sync::Arc;

/// Longest chain of aliases that is followed.
const MAX_HOPS: usize = 8;

/// Host length of what an alias routes: before what its Service routes by any name.
pub(super) const OF_ALIAS: usize = usize::MAX;

/// What a Service name leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A Service that is no alias.
    Service(Name),
    /// A name of the outside, which a ServiceEntry may name too.
    Outside(String),
    /// A Service that does not exist, a loop, or a name that must not be reached this way.
    Nowhere,
}

/// Follows the aliases from `start`.
pub(super) fn follow(start: &Name, catalog: &Catalog, settings: &Settings) -> Target {
    followed(start, catalog, settings, |_| {})
}

/// As [`follow`]; every name on the way is shown to `pass`, one that is not there included.
pub(super) fn followed(start: &Name, catalog: &Catalog, settings: &Settings, mut pass: impl FnMut(&Name)) -> Target {
    let mut at = start.clone();
    for _ in 0..MAX_HOPS {
        pass(&at);
        let Some(service) = catalog.services.get(&at) else { return Target::Nowhere };
        let Some(external) = &service.external_name else { return Target::Service(at) };
        match inside(external, settings) {
            Some(next) => at = next,
            None if is_refused(external) => return Target::Nowhere,
            None => return Target::Outside(external.clone()),
        }
    }
    Target::Nowhere
}

/// The Service that a full name within the cluster names. A CNAME is absolute, so short forms are of the outside.
fn inside(external: &str, settings: &Settings) -> Option<Name> {
    let is_full = external.strip_suffix(&*settings.cluster_domain).is_some_and(|rest| rest.ends_with(".svc."));
    let found = name::service(external, "", &settings.cluster_domain).filter(|_| is_full)?;
    found.pod.is_none().then_some((found.namespace, found.service))
}

/// Names that lead back to the client's own machine or to its node, where admin ports and metadata live.
fn is_refused(external: &str) -> bool {
    let is_local = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local() || ip.is_unspecified(),
        IpAddr::V6(ip) => {
            ip.is_loopback() || ip.is_unspecified() || ip.is_unicast_link_local() || ip.to_ipv4_mapped().is_some()
        }
    };
    external == "localhost" || external.ends_with(".localhost") || external.parse().is_ok_and(is_local)
}

/// Routes that name an alias hold for the Service that it leads to, for requests whose host is the alias: DNS leads both
/// to one address, and the host is all that tells them apart. So its HTTP routes stay, and bytes go where the Service's
/// go; an alias of a ServiceEntry's host routes that.
pub(super) fn routed(
    all: Vec<Arc<RouteResource>>,
    catalog: &Catalog,
    settings: &Settings,
    problems: &mut Vec<Problem>,
) -> Vec<Arc<RouteResource>> {
    let one = |resource: Arc<RouteResource>| {
        let is_alias = resource.attachments.iter().any(|at| is_alias(at, catalog));
        let of_bytes = [(resource.tcp.is_empty(), "spec.tcp"), (resource.tls.is_empty(), "spec.tls")];
        for (_, field) in of_bytes.into_iter().filter(|(is_empty, _)| is_alias && !is_empty) {
            let message = "bytes do not say by which name they came, so these do nothing for a host that is an alias";
            let advice = "Name the Service that the alias leads to.";
            problems.push(resource.meta.problem(Severity::Warning, "no_effect", field, message, advice));
        }
        expanded(resource, catalog, settings)
    };
    all.into_iter().flat_map(one).collect()
}

fn is_alias(at: &Attachment, catalog: &Catalog) -> bool {
    at.is_exact && catalog.services.get(&at.service).is_some_and(|service| service.external_name.is_some())
}

fn expanded(resource: Arc<RouteResource>, catalog: &Catalog, settings: &Settings) -> Vec<Arc<RouteResource>> {
    if !resource.attachments.iter().any(|at| is_alias(at, catalog)) {
        return vec![resource];
    }
    let own = &resource.meta.key.namespace;
    let of_alias = resource.attachments.iter().filter(|at| is_alias(at, catalog)).filter_map(|at| {
        let service = match follow(&at.service, catalog, settings) {
            Target::Service(name) => name,
            Target::Outside(host) => catalog.entries.of_host(&host, own)?.0.clone(),
            Target::Nowhere => return None,
        };
        let attachment = Attachment { service, is_exact: true, host_length: OF_ALIAS, ..at.clone() };
        let host = named(&at.service, settings);
        let http = resource.http.iter().map(|rule| of_host(rule, &host)).collect();
        let part = RouteResource {
            attachments: vec![attachment],
            http,
            tcp: Vec::new(),
            tls: Vec::new(),
            ..(*resource).clone()
        };
        Some(Arc::new(part))
    });
    let of_alias: Vec<_> = of_alias.collect();
    let attachments = resource.attachments.iter().filter(|at| !is_alias(at, catalog)).cloned().collect();
    let rest = RouteResource { attachments, ..(*resource).clone() };
    std::iter::once(Arc::new(rest)).chain(of_alias).collect()
}

/// Every form of the alias's name, as an authority.
fn named((namespace, name): &Name, settings: &Settings) -> wire::StringMatch {
    let domain = settings.cluster_domain.replace('.', "\\.");
    let kind = wire::string_match::Kind::Regex(format!("{name}(\\.{namespace}(\\.svc(\\.{domain})?)?)?"));
    wire::StringMatch { kind: Some(kind) }
}

/// The rule for requests to `host` alone. A condition of the author's on the authority is narrower already.
fn of_host(rule: &HttpRule, host: &wire::StringMatch) -> HttpRule {
    let mut rule = rule.clone();
    if rule.matches.is_empty() {
        rule.matches.push(RuleMatch::default());
    }
    for one in &mut rule.matches {
        one.request.authority.get_or_insert_with(|| host.clone());
    }
    rule
}

/// Problems of every alias.
pub(super) fn examine(catalog: &Catalog, settings: &Settings, problems: &mut Vec<Problem>) {
    for service in catalog.services.values() {
        let Some(external) = &service.external_name else { continue };
        let shown = external.escape_debug();
        let (code, message, advice) = match inside(external, settings) {
            Some(next) if !catalog.services.contains_key(&next) => {
                let message = format!("the alias leads to Service {}/{}, which is not known", next.0, next.1);
                ("unknown_service", message, "Correct the name or create the Service.")
            }
            Some(next) if loops(&next, catalog, settings) => (
                "alias_loop",
                format!("the alias to `{shown}` leads round in a circle"),
                "Let it name the Service itself.",
            ),
            None if is_refused(external) => {
                let message =
                    format!("`{shown}` is an address of the client's own machine or node; the alias leads nowhere");
                ("refused_external_name", message, "Name a host of the outside.")
            }
            _ => continue,
        };
        problems.push(service.meta.problem(Severity::Error, code, "spec.externalName", message, advice));
    }
}

fn loops(start: &Name, catalog: &Catalog, settings: &Settings) -> bool {
    let mut at = start.clone();
    for _ in 0..MAX_HOPS {
        let external = catalog.services.get(&at).and_then(|s| s.external_name.as_ref());
        match external.and_then(|e| inside(e, settings)) {
            Some(next) => at = next,
            None => return false,
        }
    }
    true
}
