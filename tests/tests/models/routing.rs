//! What the documents say of routes and splits: which endpoints may answer a request of a client, and in which shares.
//! Sources: DESIGN 3.1 and 7, decisions 0002, 0009 and 0012, the comments of the VirtualService's fields. What is special to
//! the Gateway API stands in `gateway`.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;

use crate::gateway;
use crate::standard;
use crate::world::{Destination, Http, Match, Question, Rule, SERVICES, Text, Virtual, World};

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// No route matches it: 404.
    NoRoute,
    /// Its route has no weight at all: 503.
    NoWeight,
    /// The addresses of each share, with the share's part of the whole in lowest terms. A share that is answered with 500
    /// has the address [`Answer::error`].
    Shares(Vec<(BTreeSet<String>, u64)>),
}

impl Answer {
    /// Stands for the addresses of a backend that is not valid.
    pub fn error() -> BTreeSet<String> {
        BTreeSet::from(["500".to_owned()])
    }

    /// Every request is answered with 500.
    pub fn broken() -> Self {
        Self::shares([(Self::error(), 1)])
    }

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

/// A route of a side, with what decides on its place among the others.
struct Ranked<'w> {
    place: Place,
    rule: Written<'w>,
}

/// What the user wrote.
enum Written<'w> {
    Virtual(&'w Virtual, &'w Http),
    Standard(&'w standard::Route, gateway::Entry<'w>),
}

/// Lesser comes first: exact host, longer host; the most specific match; older; name; API group; place.
type Place = (Reverse<(bool, usize)>, Reverse<Specific>, u8, (&'static str, String), &'static str, usize);

/// Greater comes first: exact path, longest prefix, regex, none; method; headers; query parameters.
pub type Specific = ((u8, usize), bool, usize, usize);

/// What the documents promise.
pub fn answer(world: &World, question: &Question) -> Answer {
    let mut routes = Vec::new();
    // Consumer routes first: they win in their own namespace.
    for consumer in [true, false] {
        routes.extend(merged(world, question, consumer));
    }
    if routes.is_empty() {
        let all = endpoints(world, question.service, None, question.port);
        return Answer::shares([(all, 1)]);
    }
    let Some(route) = routes.iter().find(|r| r.applies(question)) else { return Answer::NoRoute };
    match &route.rule {
        Written::Virtual(of, http) => split(world, question, of, http),
        Written::Standard(of, (rule, _)) => of.answer(world, rule),
    }
}

/// The routes of one side for the Service, in the order in which they are tried.
fn merged<'w>(world: &'w World, question: &Question, consumer: bool) -> Vec<Ranked<'w>> {
    let mut lists = virtuals(world, question, consumer);
    lists.extend(standards(world, question, consumer));
    let mut merged = Vec::new();
    loop {
        lists.retain(|l: &Vec<Ranked<'_>>| !l.is_empty());
        let Some(first) = lists.iter_mut().min_by_key(|l| l[0].place.clone()) else { break };
        merged.push(first.remove(0));
    }
    // Only now: which route comes before which does not hang on what exists at the moment.
    merged.retain(|r| r.takes_effect(world, question));
    merged
}

/// The routes of each VirtualService in its own order.
fn virtuals<'w>(world: &'w World, question: &Question, consumer: bool) -> Vec<Vec<Ranked<'w>>> {
    let all = world.routes.iter().enumerate();
    all.filter(|(_, v)| side(v.namespace, question) == Some(consumer))
        .filter(|(_, v)| is_visible(v.export_to, v.namespace, question.namespace))
        .filter(|(_, v)| v.gateways.is_empty() || v.gateways.contains(&"mesh"))
        .filter_map(|(number, of)| {
            let host = of.hosts.iter().filter_map(|h| host(h, of.namespace, question.service)).max()?;
            let ranked = |(index, http)| {
                let name = (of.namespace, Virtual::name(number));
                let place = (Reverse(host), Reverse(best(http, question)), of.created, name, "causeway.dev", index);
                Ranked { place, rule: Written::Virtual(of, http) }
            };
            let routes = of.http.iter().enumerate().filter(|(_, http)| is_about(http, question));
            Some(routes.map(ranked).collect())
        })
        .collect()
}

/// The matches of each route of the Gateway API by their precedence.
fn standards<'w>(world: &'w World, question: &Question, consumer: bool) -> Vec<Vec<Ranked<'w>>> {
    let all = world.standard.iter().enumerate();
    all.filter(|(_, r)| side(r.namespace, question) == Some(consumer) && r.is_attached(question))
        .map(|(number, of)| {
            let host = Reverse((true, full_name(question.service).len()));
            let ranked = |(index, (rule, by)): (usize, gateway::Entry<'w>)| {
                let (specific, name) = (Reverse(gateway::specific(by)), (of.namespace, Virtual::name(number)));
                let place = (host, specific, of.created, name, "gateway.networking.k8s.io", index);
                Ranked { place, rule: Written::Standard(of, (rule, by)) }
            };
            let mut routes: Vec<_> = of.entries().into_iter().map(ranked).collect();
            routes.sort_by_key(|r| r.place.clone());
            routes
        })
        .collect()
}

impl Ranked<'_> {
    /// A VirtualService's route of which nothing exists does not take effect. One whose weights are all zero needs nothing.
    fn takes_effect(&self, world: &World, question: &Question) -> bool {
        let Written::Virtual(of, http) = &self.rule else { return true };
        let needed = |d: &Destination| weight(http, d) > 0;
        !http.route.iter().any(needed) || existing(world, question, of, http).iter().any(|d| needed(d))
    }

    fn applies(&self, question: &Question) -> bool {
        match &self.rule {
            Written::Virtual(_, http) => applies(http, question),
            Written::Standard(_, (_, by)) => gateway::applies(*by, question),
        }
    }
}

/// A route whose matches are all for other clients, ports or gateways is none of this client's.
fn is_about(http: &Http, question: &Question) -> bool {
    http.matches.is_empty() || http.matches.iter().any(|m| is_for(m, question))
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
fn host(written: &str, own: &str, service: Service) -> Option<(bool, usize)> {
    let written = written.to_lowercase();
    let full = full_name(service);
    if let Some(suffix) = written.strip_prefix('*') {
        return full.ends_with(suffix).then_some((false, written.len()));
    }
    (resolve(&written, own) == Some((service.0.to_owned(), service.1.to_owned()))).then_some((true, full.len()))
}

pub fn full_name((namespace, service): Service) -> String {
    format!("{service}.{namespace}.svc.cluster.local")
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

/// The most specific of the matches that are about this client.
fn best(http: &Http, question: &Question) -> Specific {
    let of = |m: &Match| {
        let path = match &m.uri {
            // Every path has the prefix `/`.
            None | Some(Text::Prefix("/")) => (0, 0),
            Some(Text::Regex(_)) => (1, 0),
            Some(Text::Prefix(prefix)) => (2, prefix.len()),
            Some(Text::Exact(_)) => (3, 0),
        };
        // The authority is one of the headers.
        let headers = m.headers.len() + m.without_headers.len() + usize::from(m.authority.is_some());
        (path, m.method.is_some(), headers, m.query.len())
    };
    http.matches.iter().filter(|m| is_for(m, question)).map(of).max().unwrap_or_default()
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
    let host = full_name(question.service);
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

/// Whether the regular expression takes the text from its beginning to its end.
pub fn is_whole(pattern: &str, text: &str) -> bool {
    // Compiling takes most of the time of this suite.
    thread_local!(static COMPILED: RefCell<BTreeMap<String, Regex>> = RefCell::default());
    COMPILED.with_borrow_mut(|all| {
        let compiled = || Regex::new(&format!("^(?:{pattern})$")).unwrap();
        all.entry(pattern.to_owned()).or_insert_with(compiled).is_match(text)
    })
}

impl Text {
    fn is(&self, value: &str) -> bool {
        match self {
            Self::Exact(text) => value == *text,
            Self::Prefix(text) => value.starts_with(text),
            Self::Regex(text) => is_whole(text, value),
        }
    }
}

/// The destinations of a route that exist.
fn existing<'w>(world: &World, question: &Question, of: &Virtual, http: &'w Http) -> Vec<&'w Destination> {
    http.route.iter().filter(|d| target(world, question, of, d).is_some()).collect()
}

/// The Service of a destination, and the pods' version that its subset asks for.
fn target(
    world: &World,
    question: &Question,
    of: &Virtual,
    to: &Destination,
) -> Option<(Service, Option<&'static str>)> {
    let (namespace, name) = resolve(to.host, of.namespace)?;
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

/// Where the ready pods listen for what comes to the Service's port, of one version where it is named.
pub fn endpoints(world: &World, service: Service, version: Option<&str>, port: u16) -> BTreeSet<String> {
    let pods = world.pods.iter().filter(|p| p.service == service && p.ready);
    let pods = pods.filter(|p| version.is_none_or(|v| p.version == v));
    pods.map(|p| format!("{}:{}", p.address(), port + 8000)).collect()
}

/// A single destination gets everything, whatever its weight.
fn weight(http: &Http, destination: &Destination) -> u64 {
    if http.route.len() == 1 { 1 } else { u64::from(destination.weight.unwrap_or(0)) }
}

fn split(world: &World, question: &Question, of: &Virtual, http: &Http) -> Answer {
    if http.route.iter().all(|d| weight(http, d) == 0) {
        return Answer::NoWeight;
    }
    let shares = existing(world, question, of, http).into_iter().map(|d| {
        let (service, version) = target(world, question, of, d).unwrap();
        (endpoints(world, service, version, d.port.unwrap_or(question.port)), weight(http, d))
    });
    ready_shares(shares.collect())
}

/// Shares of what is not ready wait until it is; if nothing is, the error names what is missing.
pub fn ready_shares(mut all: Vec<(BTreeSet<String>, u64)>) -> Answer {
    all.retain(|(_, weight)| *weight > 0);
    if all.is_empty() {
        return Answer::NoWeight;
    }
    let (ready, missing): (Vec<_>, Vec<_>) = all.into_iter().partition(|(addresses, _)| !addresses.is_empty());
    Answer::shares(if ready.is_empty() { missing } else { ready })
}
