//! VirtualServices: which routes a Service has for a client, in the order in which they are tried.
//!
//! Within one VirtualService the user's order holds, as in Istio. Several for one Service are merged by precedence: at each
//! step the best of their next routes comes first. See docs/decisions/0009.

use super::catalog::Catalog;
use super::matching::{self, Viewer};
use super::scope::{Attached, Host, Scoped, is_exported, resolve};
use super::{Name, Settings};
use crate::problem::{Problem, Severity};
use crate::source::Key;
use crate::source::resource::VirtualService;
use causeway_crds::VirtualServiceSpec;
use causeway_crds::http_route::HttpRoute;
use causeway_crds::virtual_service::RouteDestination;
use causeway_mesh::route::{Precedence, precedence};
use causeway_mesh::wire;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Most HTTP routes of one Service from one side: proxies take no more than twice as many.
const MOST_ROUTES: usize = 500;

#[derive(Debug, Default)]
pub(super) struct Routes {
    by_service: BTreeMap<Name, Scoped<VirtualServiceSpec>>,
    /// VirtualServices of which no host is known.
    pub(super) unattached: BTreeSet<Key>,
}

/// One HTTP route that applies to a client, with the conditions that are left for the request.
#[derive(Debug)]
pub(super) struct Picked<'a> {
    pub(super) from: &'a Attached<VirtualServiceSpec>,
    pub(super) index: usize,
    pub(super) route: &'a HttpRoute,
    pub(super) matches: Vec<wire::Match>,
}

impl Picked<'_> {
    /// Whether no request passes it.
    pub(super) fn is_catch_all(&self) -> bool {
        self.matches.is_empty() || self.matches.iter().any(matching::is_catch_all)
    }

    fn precedence(&self) -> Precedence {
        let meta = self.from.meta();
        let best = |found: &wire::Match| Precedence {
            exact_host: self.from.is_exact,
            host_length: self.from.host_length,
            path: matching::rank(found),
            method: !found.method.is_empty(),
            headers: found.headers.len(),
            queries: found.queries.len(),
            created: meta.created,
            name: format!("{}#{}", meta.key.path(), meta.key.group),
            index: self.index,
        };
        let all = self.matches.iter().map(best).min_by(precedence);
        all.unwrap_or_else(|| best(&wire::Match::default()))
    }
}

/// Connections that a TCP route takes.
#[derive(Debug)]
pub(super) struct Tcp<'a> {
    pub(super) from: &'a Attached<VirtualServiceSpec>,
    pub(super) index: usize,
    pub(super) route: &'a [RouteDestination],
}

impl Routes {
    pub(super) fn new(
        resources: &BTreeMap<Key, Arc<VirtualService>>,
        catalog: &Catalog,
        settings: &Settings,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut routes = Self::default();
        for resource in resources.values() {
            let (meta, spec) = (&resource.meta, &resource.spec);
            if !matching::is_for_mesh(&spec.gateways) {
                let message = "its gateways do not include `mesh`, so it is passed over".to_owned();
                problems.push(meta.problem(Severity::Note, "gateway_only", "spec.gateways", message, ""));
                continue;
            }
            if spec.hosts.is_empty() {
                let message = "it names no host, so it routes nothing".to_owned();
                problems.push(meta.problem(
                    Severity::Error,
                    "no_hosts",
                    "spec.hosts",
                    message,
                    "Name the Service in spec.hosts.",
                ));
            }
            let resolved = spec.hosts.iter().map(|host| names(resolve(host, &meta.key.namespace, catalog, settings)));
            let resolved: Vec<Vec<Name>> = resolved.collect();
            // Beside a host that is known, another may be meant for a gateway.
            let is_used = resolved.iter().any(|names| !names.is_empty());
            if !is_used {
                routes.unattached.insert(meta.key.clone());
            }
            for (index, (host, names)) in spec.hosts.iter().zip(resolved).enumerate() {
                if names.is_empty() {
                    let severity = if is_used { Severity::Warning } else { Severity::Error };
                    let (shown, own) = (host.escape_debug(), &meta.key.namespace);
                    let message = format!("no Service `{shown}` is known in namespace {own}; nothing is routed for it");
                    let advice = "Correct the name (svc, svc.ns or the full name), or create the Service.";
                    let field = format!("spec.hosts[{index}]");
                    problems.push(meta.problem(severity, "unknown_host", &field, message, advice));
                }
                for name in names {
                    let (is_exact, host_length) = (!host.starts_with('*'), host.len());
                    let attached = Attached { resource: Arc::clone(resource), is_exact, host_length };
                    routes.by_service.entry(name.clone()).or_default().attach(&name, attached);
                }
            }
        }
        routes.report_shadowed(problems);
        routes
    }

    /// Every VirtualService with the Services that it routes.
    pub(super) fn attached(&self) -> impl Iterator<Item = (&Name, &Attached<VirtualServiceSpec>)> {
        self.by_service.iter().flat_map(|(service, scoped)| {
            let all = scoped.producer.iter().chain(scoped.consumers.values().flatten());
            all.map(move |a| (service, a))
        })
    }

    /// HTTP routes of `service` for this client, in the order in which they are tried.
    pub(super) fn http<'a>(&'a self, service: &Name, viewer: Viewer<'_>, port: u16) -> Vec<Picked<'a>> {
        let lists = self.by_service.get(service).map(|s| s.seen_by(viewer.namespace)).unwrap_or_default();
        lists.into_iter().flat_map(|list| merged(list, Some((viewer, port))).into_iter().take(MOST_ROUTES)).collect()
    }

    /// The TCP route of `service` for this client.
    pub(super) fn tcp<'a>(
        &'a self,
        service: &Name,
        viewer: Viewer<'_>,
        port: u16,
        takes_effect: impl Fn(&[RouteDestination], &str) -> bool,
    ) -> Option<Tcp<'a>> {
        let lists = self.by_service.get(service).map(|s| s.seen_by(viewer.namespace)).unwrap_or_default();
        lists
            .into_iter()
            .flatten()
            .filter(|a| is_exported(&a.resource.spec.export_to, a.meta(), viewer.namespace))
            .find_map(|from| {
                let (index, found) = from.resource.spec.tcp.iter().enumerate().find(|(index, route)| {
                    let path = format!("spec.tcp[{index}]");
                    let is_usable = |at: usize| !from.meta().is_unsupported(&format!("{path}.match[{at}]"));
                    let any = route
                        .matches
                        .iter()
                        .enumerate()
                        .any(|(at, m)| is_usable(at) && matching::tcp_concerns(m, viewer, port));
                    let namespace = &from.meta().key.namespace;
                    let applies = !is_broken(from, &path) && (route.matches.is_empty() || any);
                    applies && takes_effect(&route.route, namespace)
                })?;
                Some(Tcp { from, index, route: &found.route })
            })
    }

    /// Routes after one that takes everything are never reached; their authors should hear of it.
    fn report_shadowed(&self, problems: &mut Vec<Problem>) {
        let mut told = BTreeSet::new();
        for scoped in self.by_service.values() {
            for list in std::iter::once(&scoped.producer).chain(scoped.consumers.values()) {
                report_excess(list, problems);
                let mut by: Option<(String, usize)> = None;
                for route in merged(list, None) {
                    let key = route.from.meta().key.clone();
                    if let Some((other, index)) = &by
                        && told.insert((key.clone(), route.index))
                    {
                        let message = format!(
                            "it is never reached: {other} spec.http[{index}] comes first and takes every request"
                        );
                        let field = format!("spec.http[{}]", route.index);
                        let advice = "Give it a narrower match, or put it first.";
                        problems.push(route.from.meta().problem(
                            Severity::Warning,
                            "shadowed_route",
                            &field,
                            message,
                            advice,
                        ));
                    }
                    if by.is_none() && route.is_catch_all() {
                        by = Some((key.to_string(), route.index));
                    }
                }
            }
        }
    }
}

/// The resource with which the routes of a Service become too many hears of it.
fn report_excess(list: &[Attached<VirtualServiceSpec>], problems: &mut Vec<Problem>) {
    let mut sum = 0;
    for attached in list {
        let before = sum;
        sum += attached.resource.spec.http.len();
        if before <= MOST_ROUTES && sum > MOST_ROUTES {
            let message = format!("one Service may have {MOST_ROUTES} HTTP routes; with this resource there are {sum}");
            let advice = "Those that come last are left out. Merge routes that differ only in a match.";
            problems.push(attached.meta().problem(Severity::Error, "too_many_routes", "spec.http", message, advice));
        }
    }
}

fn names(host: Host) -> Vec<Name> {
    match host {
        Host::Service(name) => vec![name],
        Host::Wildcard(names) => names,
        Host::Unknown => Vec::new(),
    }
}

/// Whether a field of the route itself is not understood, so that the route cannot be taken to mean what it says. A match
/// that is not understood only takes itself out.
fn is_broken(from: &Attached<VirtualServiceSpec>, path: &str) -> bool {
    let matches = format!("{path}.match[");
    from.meta()
        .unsupported
        .iter()
        .any(|u| u.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')) && !u.starts_with(&matches))
}

/// The routes of several VirtualServices in one order. Without a client, those that are the same for everybody.
fn merged<'a>(list: &'a [Attached<VirtualServiceSpec>], client: Option<(Viewer<'_>, u16)>) -> Vec<Picked<'a>> {
    let mut queues: Vec<std::iter::Peekable<std::vec::IntoIter<(Precedence, Picked<'a>)>>> = list
        .iter()
        .filter(|a| client.is_none_or(|(v, _)| is_exported(&a.resource.spec.export_to, a.meta(), v.namespace)))
        .map(|a| picked(a, client).into_iter().map(|p| (p.precedence(), p)).collect::<Vec<_>>().into_iter().peekable())
        .collect();
    let mut all = Vec::new();
    loop {
        let mut best: Option<(usize, Precedence)> = None;
        for (at, queue) in queues.iter_mut().enumerate() {
            if let Some((next, _)) = queue.peek()
                && best.as_ref().is_none_or(|(_, b)| precedence(next, b).is_lt())
            {
                best = Some((at, next.clone()));
            }
        }
        let Some((at, _)) = best else { return all };
        all.extend(queues[at].next().map(|(_, route)| route));
    }
}

fn picked<'a>(from: &'a Attached<VirtualServiceSpec>, client: Option<(Viewer<'_>, u16)>) -> Vec<Picked<'a>> {
    let meta = from.meta();
    let usable = from
        .resource
        .spec
        .http
        .iter()
        .enumerate()
        .filter(|(index, route)| !route.route.is_empty() && !is_broken(from, &format!("spec.http[{index}]")));
    usable
        .filter_map(|(index, route)| {
            let matches: Vec<wire::Match> = route
                .matches
                .iter()
                .enumerate()
                .filter(|(at, _)| !meta.is_unsupported(&format!("spec.http[{index}].match[{at}]")))
                .filter(|(_, m)| match client {
                    Some((viewer, port)) => matching::concerns(m, viewer, port),
                    None => matching::is_for_everybody(m),
                })
                .filter_map(|(_, m)| matching::to_wire(m).ok())
                .collect();
            let applies = route.matches.is_empty() || !matches.is_empty();
            applies.then_some(Picked { from, index, route, matches })
        })
        .collect()
}
