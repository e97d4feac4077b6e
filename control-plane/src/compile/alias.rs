//! ExternalName Services: aliases of Services in the cluster, or names of the outside.

use super::catalog::Catalog;
use super::{Name, Settings};
use crate::problem::{Problem, Severity};
use causeway_mesh::name;
use std::net::IpAddr;

/// Longest chain of aliases that is followed.
const MAX_HOPS: usize = 8;

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
    let mut at = start.clone();
    for _ in 0..MAX_HOPS {
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
