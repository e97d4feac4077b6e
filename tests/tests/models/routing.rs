//! What the documents say of routes and splits: which endpoints may answer a request of a client, and in which shares.
//! Sources: DESIGN 3.1 and 7, decisions 0002, 0009 and 0012, the comments of the VirtualService's fields.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;

use crate::world::{Destination, Http, Match, Question, Rule, SERVICES, Text, Virtual, World};

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// No route matches it: 404.
    NoRoute,
    /// Its route has no weight at all: 503.
    NoWeight,
    /// The addresses of each share, with the share's part of the whole in lowest terms.
    Shares(Vec<(BTreeSet<String>, u64)>),
}

impl Answer {
    /// Shares of equal addresses are one; parts are in lowest terms.
    pub fn shares(all: impl IntoIterator<Item = (BTreeSet<String>, u64)>) -> Self {
        let mut parts: BTreeMap<BTreeSet<String>, u64> = BTreeMap::new();
        for (addresses, weight) in all {
            *parts.entry(addresses).or_default() += weight;
        }
        let divisor = parts.values().fold(0, |a, b| greatest_common_divisor(a, *b)).max(1);
        Self::Shares(parts.into_iter().map(|(addresses, weight)| (addresses, weight / divisor)).collect())
    }
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

type Service = (&'static str, &'static str);

/// A route of a side, with what its place among the others hangs on.
struct Ranked<'w> {
    of: &'w Virtual,
    /// Of its VirtualService among the World's.
    number: usize,
    host: (bool, usize),
    index: usize,
    http: &'w Http,
}

/// What the documents promise.
pub fn answer(world: &World, question: &Question) -> Answer {
    let mut routes = Vec::new();
    // Consumer routes first: they win in their own namespace.
    for consumer in [true, false] {
        routes.extend(merged(world, question, consumer));
    }
    if routes.is_empty() {
        let all = endpoints(world, question.service, None);
        return Answer::shares([(all, 1)]);
    }
    let Some(route) = routes.iter().find(|r| applies(r.http, question)) else { return Answer::NoRoute };
    split(world, question, route)
}

/// The routes of one side for the Service, in the order in which they are tried.
fn merged<'w>(world: &'w World, question: &Question, consumer: bool) -> Vec<Ranked<'w>> {
    let mut lists: Vec<Vec<Ranked<'w>>> = world
        .routes
        .iter()
        .enumerate()
        .filter(|(_, v)| side(v.namespace, question) == Some(consumer))
        .filter(|(_, v)| is_visible(v.export_to, v.namespace, question.namespace))
        .filter(|(_, v)| v.gateways.is_empty() || v.gateways.contains(&"mesh"))
        .filter_map(|(number, of)| {
            let host = of.hosts.iter().filter_map(|h| host(h, of.namespace, question.service)).max()?;
            let ranked = |(index, http)| Ranked { of, number, host, index, http };
            let routes = of.http.iter().enumerate().map(ranked);
            Some(routes.filter(|r| is_about(r.http, question)).collect())
        })
        .collect();
    let mut merged = Vec::new();
    loop {
        lists.retain(|l: &Vec<Ranked<'_>>| !l.is_empty());
        let Some(first) = lists.iter_mut().min_by_key(|l| rank(&l[0], question)) else { break };
        merged.push(first.remove(0));
    }
    // Only now: which route comes before which does not hang on what exists at the moment.
    merged.retain(|r| takes_effect(world, question, r));
    merged
}

/// A route whose matches are all for other clients, ports or gateways is none of this client's.
fn is_about(http: &Http, question: &Question) -> bool {
    http.matches.is_empty() || http.matches.iter().any(|m| is_for(m, question))
}

/// A route of which nothing exists does not take effect. One whose weights are all zero needs nothing.
fn takes_effect(world: &World, question: &Question, route: &Ranked<'_>) -> bool {
    let needed = |d: &Destination| weight(route.http, d) > 0;
    !route.http.route.iter().any(needed) || existing(world, question, route).iter().any(|(_, d)| needed(d))
}

/// Whether a resource of `namespace` is a consumer's (true) or the producer's (false) for the question; None: neither.
fn side(namespace: &str, question: &Question) -> Option<bool> {
    if namespace == question.service.0 { Some(false) } else { (namespace == question.namespace).then_some(true) }
}

fn is_visible(export_to: Option<&str>, own: &str, client: &str) -> bool {
    match export_to {
        None | Some("*") => true,
        Some(".") => own == client,
        Some(namespace) => namespace == client,
    }
}

/// Whether an entry of `hosts` names the Service: exactly or not, and the length of the full name or pattern.
fn host(written: &str, own: &str, (namespace, service): Service) -> Option<(bool, usize)> {
    let written = written.to_lowercase();
    let full = format!("{service}.{namespace}.svc.cluster.local");
    if let Some(suffix) = written.strip_prefix('*') {
        return full.ends_with(suffix).then_some((false, written.len()));
    }
    (resolve(&written, own) == Some((namespace.to_owned(), service.to_owned()))).then_some((true, full.len()))
}

/// `service`, `service.namespace`, `service.namespace.svc` and `service.namespace.svc.cluster.local`.
fn resolve(written: &str, own: &str) -> Option<(String, String)> {
    let written = written.to_lowercase();
    let parts: Vec<&str> = written.split('.').collect();
    let namespace = match &parts[1..] {
        [] => own,
        [namespace] | [namespace, "svc"] | [namespace, "svc", "cluster", "local"] => namespace,
        _ => return None,
    };
    Some((namespace.to_owned(), parts[0].to_owned()))
}

/// Lesser comes first: exact host, longer host, exact path, longest prefix, regex; method; headers; query parameters;
/// older; name; place.
fn rank(route: &Ranked<'_>, question: &Question) -> impl Ord + use<> {
    let of = |m: &Match| {
        let path = match &m.uri {
            None => (0, 0),
            Some(Text::Regex(_)) => (1, 0),
            Some(Text::Prefix(prefix)) => (2, prefix.len()),
            Some(Text::Exact(_)) => (3, 0),
        };
        (path, m.method.is_some(), m.headers.len() + m.without_headers.len(), m.query.len())
    };
    let best = route.http.matches.iter().filter(|m| is_for(m, question)).map(of).max();
    let (exact, length) = route.host;
    let name = (route.of.namespace, Virtual::name(route.number));
    (Reverse(exact), Reverse(length), Reverse(best.unwrap_or_default()), route.of.created, name, route.index)
}

/// Whether the match is about this client at all.
fn is_for(m: &Match, question: &Question) -> bool {
    m.port.is_none_or(|p| p == question.port)
        && m.source_namespace.is_none_or(|n| n == question.namespace)
        && m.source_labels.is_none_or(|t| t == question.tier)
        && (m.gateways.is_empty() || m.gateways.contains(&"mesh"))
}

fn applies(http: &Http, question: &Question) -> bool {
    http.matches.is_empty() || http.matches.iter().any(|m| is_for(m, question) && matches(m, question))
}

fn matches(m: &Match, question: &Question) -> bool {
    let (namespace, service) = question.service;
    let host = format!("{service}.{namespace}.svc.cluster.local");
    let header = |(name, text): &(&str, Option<Text>)| {
        let values = question.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| *v);
        values.into_iter().any(|value| text.as_ref().is_none_or(|t| t.is(value)))
    };
    let parameter = |(name, text): &(&str, Text)| {
        let pairs = question.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(n, _)| n == name).map(|(_, value)| value).next().is_some_and(|value| text.is(value))
    };
    m.uri.as_ref().is_none_or(|t| t.is(question.path))
        && m.method.as_ref().is_none_or(|t| t.is(question.method))
        && m.authority.as_ref().is_none_or(|t| t.is(&host))
        && m.headers.iter().all(header)
        && !m.without_headers.iter().any(header)
        && m.query.iter().all(parameter)
}

impl Text {
    fn is(&self, value: &str) -> bool {
        match self {
            Self::Exact(text) => value == *text,
            Self::Prefix(text) => value.starts_with(text),
            Self::Regex(text) => Regex::new(&format!("^(?:{text})$")).unwrap().is_match(value),
        }
    }
}

/// The destinations of a route that exist, each with its place in the list.
fn existing<'w>(world: &'w World, question: &Question, route: &Ranked<'w>) -> Vec<(usize, &'w Destination)> {
    let exists = |(_, d): &(usize, &Destination)| target(world, question, route, d).is_some();
    route.http.route.iter().enumerate().filter(exists).collect()
}

/// The Service of a destination, and the pods' version that its subset asks for.
fn target(
    world: &World,
    question: &Question,
    route: &Ranked<'_>,
    to: &Destination,
) -> Option<(Service, Option<&'static str>)> {
    let (namespace, name) = resolve(to.host, route.of.namespace)?;
    let service = *SERVICES.iter().find(|s| **s == (namespace.as_str(), name.as_str()))?;
    match to.subset {
        None => Some((service, None)),
        Some(subset) => Some((service, Some(version(world, question, service, subset)?))),
    }
}

/// The version that a subset means for this client: the rule of its own namespace wins.
fn version(world: &World, question: &Question, service: Service, subset: &str) -> Option<&'static str> {
    let holds = |r: &&Rule, namespace: &str| {
        r.service == service && r.namespace == namespace && is_visible(r.export_to, r.namespace, question.namespace)
    };
    let find = |namespace: &str| {
        let rules = world.rules.iter().filter(|r| holds(r, namespace));
        rules.flat_map(|r| &r.subsets).find(|(name, _)| *name == subset).map(|(_, version)| *version)
    };
    find(question.namespace).or_else(|| find(service.0))
}

/// Addresses of the ready pods, of one version where it is named.
fn endpoints(world: &World, service: Service, version: Option<&str>) -> BTreeSet<String> {
    let pods = world.pods.iter().filter(|p| p.service == service && p.ready);
    pods.filter(|p| version.is_none_or(|v| p.version == v)).map(crate::world::Pod::address).collect()
}

/// A single destination gets everything, whatever its weight.
fn weight(http: &Http, destination: &Destination) -> u64 {
    if http.route.len() == 1 { 1 } else { u64::from(destination.weight.unwrap_or(0)) }
}

fn split(world: &World, question: &Question, route: &Ranked<'_>) -> Answer {
    let weight = |d: &Destination| weight(route.http, d);
    if route.http.route.iter().all(|d| weight(d) == 0) {
        return Answer::NoWeight;
    }
    let shares = existing(world, question, route).into_iter().filter(|(_, d)| weight(d) > 0).map(|(_, d)| {
        let (service, version) = target(world, question, route, d).unwrap();
        (endpoints(world, service, version), weight(d))
    });
    let (ready, missing): (Vec<_>, Vec<_>) = shares.partition(|(addresses, _)| !addresses.is_empty());
    // Shares of what is not ready wait until it is; if nothing is, the error names what is missing.
    Answer::shares(if ready.is_empty() { missing } else { ready })
}
