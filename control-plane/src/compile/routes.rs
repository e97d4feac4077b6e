//! Which routes a Service has for a client, in the order in which they are tried.
//!
//! Within one VirtualService the user's order holds, as in Istio. Several resources for one Service are merged by
//! precedence: at each step the best of their next routes comes first. See docs/decisions/0009.

use super::Name;
use super::alias::OF_ALIAS;
use super::lowered::{ClientMatch, HttpRule, Reference, RouteResource, SniMatch, TcpRule, TlsRule};
use super::matching::{self, Viewer};
use super::scope::{Attached, Scoped, is_exported};
use crate::problem::{Problem, Severity};
use crate::source::Key;
use causeway_mesh::route::{Precedence, precedence};
use causeway_mesh::wire;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Most HTTP routes of one Service from one side: proxies take no more than twice as many.
const MOST_ROUTES: usize = 500;

/// A copy is cheap and shares what it holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Routes {
    by_service: BTreeMap<Arc<Name>, Arc<Scoped<RouteResource>>>,
    /// Every resource by its key, those that route nothing included; where one names aliases it is here several times.
    pub(super) all: Vec<Arc<RouteResource>>,
}

/// One HTTP rule that applies to a client, with the conditions that are left for the request.
#[derive(Clone, Debug)]
pub(super) struct Picked<'a> {
    pub(super) from: &'a Attached<RouteResource>,
    pub(super) rule: &'a HttpRule,
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
            method: !found.method.is_empty() || found.method_match.is_some(),
            // The Gateway API writes the authority as a match on the header Host.
            headers: found.headers.len() + usize::from(found.authority.is_some()),
            queries: found.queries.len(),
            created: meta.created,
            name: format!("{}#{}", meta.key.path(), meta.key.group),
            index: self.rule.index,
        };
        let all = self.matches.iter().map(best).min_by(precedence);
        all.unwrap_or_else(|| best(&wire::Match::default()))
    }
}

/// A rule for connections that applies to a client.
#[derive(Debug)]
pub(super) struct PickedTcp<'a> {
    pub(super) from: &'a Attached<RouteResource>,
    pub(super) rule: &'a TcpRule,
}

/// A rule for TLS connections that applies to a client, with the names that it takes.
#[derive(Debug)]
pub(super) struct PickedTls<'a> {
    pub(super) from: &'a Attached<RouteResource>,
    pub(super) rule: &'a TlsRule,
    /// None: every name.
    pub(super) hosts: Vec<String>,
}

impl Routes {
    pub(super) fn new(all: Vec<Arc<RouteResource>>, problems: &mut Vec<Problem>) -> Self {
        let mut by_service: BTreeMap<Name, Scoped<RouteResource>> = BTreeMap::new();
        for resource in &all {
            for at in &resource.attachments {
                // However an exact host is written, it names the same Service.
                let host_length = if at.is_exact && at.host_length != OF_ALIAS { 0 } else { at.host_length };
                let attached =
                    Attached { resource: Arc::clone(resource), port: at.port, is_exact: at.is_exact, host_length };
                by_service.entry(at.service.clone()).or_default().attach(&at.service, attached);
            }
        }
        debug_assert!(all.is_sorted_by_key(|resource| &resource.meta.key), "as the index has them");
        let by_service = by_service.into_iter().map(|(name, scoped)| (Arc::new(name), Arc::new(scoped)));
        let routes = Self { by_service: by_service.collect(), all };
        routes.report_shadowed(problems);
        routes
    }

    /// The one resource of this key, if it is attached.
    pub(super) fn only(&self, key: &Key) -> Option<&Arc<RouteResource>> {
        let mut found = self.all[self.place(key)..].iter().take_while(|resource| resource.meta.key == *key);
        let (one, None) = (found.next()?, found.next()) else { return None };
        (!one.attachments.is_empty()).then_some(one)
    }

    /// Where in `all` the first resource of this key is, or would be.
    fn place(&self, key: &Key) -> usize {
        self.all.partition_point(|resource| resource.meta.key < *key)
    }

    /// Puts `new` in place of the resources of these keys, which are all that route `services`, and route nothing else.
    pub(super) fn replace(&mut self, keys: &BTreeSet<Key>, services: &BTreeSet<Name>, new: Self) {
        for key in keys {
            let place = self.place(key);
            if self.all.get(place).is_some_and(|old| old.meta.key == *key) {
                self.all.remove(place);
            }
        }
        services.iter().for_each(|service| drop(self.by_service.remove(service)));
        for new in new.all {
            self.all.insert(self.place(&new.meta.key), new);
        }
        self.by_service.extend(new.by_service);
    }

    /// Whether a destination is one of these subsets, of whatever Service.
    pub(super) fn names_subset(&self, names: &BTreeSet<String>) -> bool {
        let named = |reference: &Reference| match reference {
            Reference::Named(to) => to.subset.as_ref().is_some_and(|subset| names.contains(subset)),
            Reference::Service { .. } | Reference::Broken(_) => false,
        };
        !names.is_empty() && self.all.iter().flat_map(|resource| resource.references()).any(named)
    }

    /// Every resource with the Services that it routes.
    pub(super) fn attached(&self) -> impl Iterator<Item = (&Name, &Attached<RouteResource>)> {
        self.by_service.iter().flat_map(|(service, scoped)| scoped.all().map(move |a| (&**service, a)))
    }

    /// Keys of resources that route other Services than `before`, or name other destinations.
    pub(super) fn differing<'a>(&'a self, before: &'a Self) -> BTreeSet<&'a Key> {
        let by_key = |routes: &'a Self| {
            let mut all: BTreeMap<&Key, Vec<&RouteResource>> = BTreeMap::new();
            routes.all.iter().for_each(|r| all.entry(&r.meta.key).or_default().push(r));
            all
        };
        let (now, last) = (by_key(self), by_key(before));
        let other = now.iter().filter(|(key, all)| last.get(*key) != Some(*all)).map(|(key, _)| *key);
        let gone = last.keys().copied().filter(|key| !now.contains_key(key));
        other.chain(gone).collect()
    }

    /// Every resource that routes `service`, for whomever.
    pub(super) fn of(&self, service: &Name) -> impl Iterator<Item = &Attached<RouteResource>> {
        self.by_service.get(service).into_iter().flat_map(|scoped| scoped.all())
    }

    fn seen<'a>(
        &'a self,
        service: &Name,
        viewer: Viewer<'_>,
        port: u16,
    ) -> [impl Iterator<Item = &'a Attached<RouteResource>>; 2] {
        let lists = self.by_service.get(service).map(|s| s.seen_by(viewer.namespace)).unwrap_or_default();
        let client = viewer.namespace.to_owned();
        lists.map(|list| {
            let client = client.clone();
            let is_seen = move |a: &&Attached<RouteResource>| {
                a.port.is_none_or(|p| p == port) && is_exported(&a.resource.export_to, a.meta(), &client)
            };
            list.iter().filter(is_seen)
        })
    }

    /// HTTP routes of `service` for this client, in the order in which they are tried.
    pub(super) fn http<'a>(&'a self, service: &Name, viewer: Viewer<'_>, port: u16) -> Vec<Picked<'a>> {
        let applies = |client: &ClientMatch| matching::holds(client, viewer, port);
        let sides = self.seen(service, viewer, port);
        sides.into_iter().flat_map(|list| merged(list, applies).into_iter().take(MOST_ROUTES)).collect()
    }

    /// The rule for TCP connections to `service` by this client.
    pub(super) fn tcp<'a>(
        &'a self,
        service: &Name,
        viewer: Viewer<'_>,
        port: u16,
        takes_effect: impl Fn(&TcpRule, &Attached<RouteResource>) -> bool,
    ) -> Option<PickedTcp<'a>> {
        let applies =
            |rule: &TcpRule| rule.matches.is_empty() || rule.matches.iter().any(|m| matching::holds(m, viewer, port));
        self.seen(service, viewer, port).into_iter().flatten().find_map(|from| {
            let rule = from.resource.tcp.iter().find(|r| applies(r) && takes_effect(r, from))?;
            Some(PickedTcp { from, rule })
        })
    }

    /// Rules for TLS connections to `service` by this client: exact names before wildcards, the longer before the shorter.
    pub(super) fn tls<'a>(&'a self, service: &Name, viewer: Viewer<'_>, port: u16) -> Vec<PickedTls<'a>> {
        let rank = |host: &str| (host.starts_with("*."), std::cmp::Reverse(host.len()));
        let hosts = |rule: &TlsRule| -> Option<Vec<String>> {
            let held: Vec<&SniMatch> =
                rule.matches.iter().filter(|m| matching::holds(&m.client, viewer, port)).collect();
            if held.is_empty() && !rule.matches.is_empty() {
                return None;
            }
            let takes_all = held.is_empty() || held.iter().any(|m| m.hosts.is_empty());
            Some(if takes_all { Vec::new() } else { held.iter().flat_map(|m| m.hosts.clone()).collect() })
        };
        let mut all = Vec::new();
        for list in self.seen(service, viewer, port) {
            let mut side = Vec::new();
            for from in list {
                let picked = from.resource.tls.iter().filter_map(|rule| Some((rule, hosts(rule)?)));
                for (rule, hosts) in picked {
                    if hosts.is_empty() {
                        side.push(PickedTls { from, rule, hosts });
                    } else {
                        side.extend(hosts.into_iter().map(|h| PickedTls { from, rule, hosts: vec![h] }));
                    }
                }
            }
            side.sort_by_cached_key(|p| p.hosts.first().map_or((true, std::cmp::Reverse(0)), |h| rank(h)));
            all.extend(side.into_iter().take(MOST_ROUTES));
        }
        all
    }

    /// Routes after one that takes everything are never reached; their authors should hear of it. One that is reached for
    /// another Service of a wildcard is none of them.
    fn report_shadowed(&self, problems: &mut Vec<Problem>) {
        let mut reached = BTreeSet::new();
        let mut shadowed = BTreeMap::new();
        for scoped in self.by_service.values() {
            for list in std::iter::once(&scoped.producer).chain(scoped.consumers.values()) {
                report_excess(list, problems);
                // What holds for one port only hides nothing on the others.
                let of_all_ports = list.iter().filter(|a| a.port.is_none());
                let mut by: Option<(String, String)> = None;
                for route in merged(of_all_ports, ClientMatch::is_for_everybody) {
                    let meta = route.from.meta();
                    let of = (meta.key.clone(), route.rule.index);
                    match &by {
                        None => drop(reached.insert(of)),
                        Some((other, field)) if route.from.resource.in_order => {
                            let message =
                                format!("it is never reached: {other} {field} comes first and takes every request");
                            let advice = "Give it a narrower match, or put it first.";
                            let problem =
                                meta.problem(Severity::Warning, "shadowed_route", &route.rule.field, message, advice);
                            shadowed.entry(of).or_insert(problem);
                        }
                        Some(_) => {}
                    }
                    if by.is_none() && route.is_catch_all() {
                        by = Some((meta.key.to_string(), route.rule.field.clone()));
                    }
                }
            }
        }
        problems.extend(shadowed.into_iter().filter(|(of, _)| !reached.contains(of)).map(|(_, problem)| problem));
    }
}

/// The resource with which the routes of a Service become too many hears of it.
fn report_excess(list: &[Attached<RouteResource>], problems: &mut Vec<Problem>) {
    let mut sum = 0;
    for attached in list {
        let before = sum;
        let resource = &attached.resource;
        sum += match resource.in_order {
            true => resource.http.len(),
            false => resource.http.iter().map(|r| r.matches.len().max(1)).sum(),
        };
        if before <= MOST_ROUTES && sum > MOST_ROUTES {
            let message = format!("one Service may have {MOST_ROUTES} HTTP routes; with this resource there are {sum}");
            let advice = "Those that come last are left out. Merge routes that differ only in a match.";
            let field = if resource.in_order { "spec.http" } else { "spec.rules" };
            problems.push(attached.meta().problem(Severity::Error, "too_many_routes", field, message, advice));
        }
    }
}

type Queue<'a> = std::iter::Peekable<std::vec::IntoIter<(Precedence, Picked<'a>)>>;

/// The routes of several resources in one order.
fn merged<'a>(
    list: impl Iterator<Item = &'a Attached<RouteResource>>,
    applies: impl Fn(&ClientMatch) -> bool,
) -> Vec<Picked<'a>> {
    let mut queues: Vec<Queue<'a>> = list.map(|a| picked(a, &applies).into_iter().peekable()).collect();
    let mut all: Vec<Picked<'a>> = Vec::new();
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
        let Some((_, next)) = queues[at].next() else { return all };
        match all.last_mut() {
            // Matches of one rule that follow each other are one route.
            Some(last) if std::ptr::eq(last.rule, next.rule) => last.matches.extend(next.matches),
            _ => all.push(next),
        }
    }
}

/// The rules of one resource that apply, in its own order.
fn picked<'a>(
    from: &'a Attached<RouteResource>,
    applies: &impl Fn(&ClientMatch) -> bool,
) -> Vec<(Precedence, Picked<'a>)> {
    let mut all = Vec::new();
    for rule in &from.resource.http {
        let matches: Vec<wire::Match> =
            rule.matches.iter().filter(|m| applies(&m.client)).map(|m| m.request.clone()).collect();
        if matches.is_empty() && !rule.matches.is_empty() {
            continue;
        }
        if from.resource.in_order || matches.is_empty() {
            all.push(Picked { from, rule, matches });
        } else {
            all.extend(matches.into_iter().map(|m| Picked { from, rule, matches: vec![m] }));
        }
    }
    let mut all: Vec<_> = all.into_iter().map(|p| (p.precedence(), p)).collect();
    if !from.resource.in_order {
        all.sort_by(|(a, _), (b, _)| precedence(a, b));
    }
    all
}
