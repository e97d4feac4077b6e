//! Which resources of the user's API take part in what a client holds, and which version of each is in force. What becomes
//! of that on the proxies is left to `publish`, what is written about it to `status`.

use super::asked::Topic;
use super::directions::Replaced;
use super::gateway::{Parents, RouteSpec};
use super::lowered::RouteResource;
use super::previous::Versions;
use super::routes::Routes;
use super::rules::Rules;
use super::{Client, Model, Name, Settings, lookup};
use crate::index::Resources;
use crate::problem::{Problem, Severity};
use crate::source::resource::Custom;
use crate::source::{Key, Kind};
use causeway_mesh::wire;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Keys of the resources that took part in something, sorted.
pub type Parts = Arc<[Arc<Key>]>;

/// A resource of the user's API as the model has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// `metadata.uid`, empty where the source does not say or the resource was never usable.
    pub uid: String,
    /// Generation of the latest version that was read, usable or not.
    pub generation: i64,
    /// Generation that is in force; None where none is.
    pub in_force: Option<i64>,
    /// Full names of the Services that it is about (VirtualService, DestinationRule).
    pub hosts: Vec<String>,
    /// What is wrong with the latest version, sorted.
    pub problems: Vec<Problem>,
    /// Of a route of the Gateway API: what it attaches to.
    pub parents: Option<Parents>,
    /// Differs whenever what is in force differs: another object, another generation, other errors. Equal on every
    /// replica that has read the same.
    pub version: u64,
}

/// What traffic to a destination becomes, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// [`Model::destination`]
    pub destination: wire::Destination,
    /// The VirtualServices, DestinationRules and ServiceEntries that took part.
    pub parts: Parts,
    /// While nothing of this changes and the client stays alike ([`Model::distinction`]), the answer stays.
    pub topics: Vec<Topic>,
}

/// Every resource of the user's API.
pub type Subjects = BTreeMap<Arc<Key>, Arc<Subject>>;

/// What [`subjects`] looks at.
pub(super) struct Compiled<'a> {
    pub(super) resources: &'a Resources,
    /// Versions of VirtualServices that are in force instead of the latest.
    pub(super) held: Option<&'a Versions>,
    pub(super) routes: &'a Routes,
    pub(super) rules: &'a Rules,
    pub(super) problems: &'a [Problem],
    pub(super) settings: &'a Settings,
}

/// Every resource of the user's API with what is in force of it and what is wrong with it.
pub(super) fn subjects(compiled: &Compiled<'_>) -> Subjects {
    let resources = compiled.resources;
    let mut all: BTreeMap<Arc<Key>, Subject> = BTreeMap::new();
    put(&mut all, resources.virtual_services.values(), of);
    put(&mut all, resources.destination_rules.values(), of);
    put(&mut all, resources.authorization_policies.values(), of);
    put(&mut all, resources.peer_authentications.values(), of);
    put(&mut all, resources.service_entries.values(), of);
    put(&mut all, resources.rate_limit_policies.values(), of);
    put(&mut all, resources.http_routes.values(), of_route);
    put(&mut all, resources.grpc_routes.values(), of_route);
    put(&mut all, resources.tcp_routes.values(), of_route);
    put(&mut all, resources.tls_routes.values(), of_route);
    for (key, held) in compiled.held.into_iter().flat_map(Versions::iter) {
        if let Some(subject) = all.get_mut(key) {
            subject.in_force = Some(held.meta.generation);
            subject.version = content(held);
        }
    }
    for (key, generation) in
        resources.refused.iter().filter(|(key, _)| Kind::with_status().any(|kind| kind == key.kind))
    {
        all.entry(Arc::new(key.clone())).or_default().generation = *generation;
    }
    let full = |name: &Name| super::scope::full(name, compiled.settings);
    let named = compiled.routes.attached().flat_map(|(service, a)| {
        let keys = a.resource.delegates.iter().map(|m| &m.key).chain([&a.meta().key]);
        keys.map(move |key| (service, key))
    });
    for (service, key) in named.chain(compiled.rules.attached().map(|(service, a)| (service, &a.meta().key))) {
        if let Some(subject) = all.get_mut(key) {
            subject.hosts.push(full(service));
        }
    }
    let mut by_text: BTreeMap<&str, Vec<&Problem>> = BTreeMap::new();
    for problem in compiled.problems {
        by_text.entry(&problem.resource).or_default().push(problem);
    }
    let finished = |(key, subject): (Arc<Key>, Subject)| {
        let problems = by_text.get(&*key.to_string()).into_iter().flatten();
        (key, Arc::new(finished(subject, problems.map(|p| (*p).clone()).collect())))
    };
    all.into_iter().map(finished).collect()
}

/// A route or rule as it stands, but for what it is about and what is said of it; None: it is not there.
pub(super) fn subject(resources: &Resources, key: &Key) -> Option<Subject> {
    let mut subject = match key.kind {
        Kind::VirtualService => resources.virtual_services.get(key).map(|r| of(r)),
        Kind::DestinationRule => resources.destination_rules.get(key).map(|r| of(r)),
        Kind::HTTPRoute => resources.http_routes.get(key).map(|r| of_route(r)),
        Kind::GRPCRoute => resources.grpc_routes.get(key).map(|r| of_route(r)),
        Kind::TCPRoute => resources.tcp_routes.get(key).map(|r| of_route(r)),
        Kind::TLSRoute => resources.tls_routes.get(key).map(|r| of_route(r)),
        _ => None,
    }?;
    if let Some(generation) = resources.refused.get(key) {
        subject.generation = *generation;
    }
    Some(subject)
}

/// As `before`, but for what was looked at anew.
pub(super) fn replaced(before: &Subjects, replaced: &Replaced, problems: &[Problem]) -> Subjects {
    let mut all = before.clone();
    for (key, subject) in &replaced.subjects {
        let Some(subject) = subject else {
            all.remove(key);
            continue;
        };
        let text = key.to_string();
        let problems = problems.iter().filter(|p| p.resource == text).cloned().collect();
        all.insert(Arc::new(key.clone()), Arc::new(finished(subject.clone(), problems)));
    }
    all
}

/// With what is said of it.
fn finished(mut subject: Subject, problems: Vec<Problem>) -> Subject {
    subject.hosts.sort();
    subject.hosts.dedup();
    subject.problems = problems;
    subject.version = version(&subject);
    subject
}

fn put<'a, S: 'a>(
    all: &mut BTreeMap<Arc<Key>, Subject>,
    resources: impl Iterator<Item = &'a Arc<Custom<S>>>,
    of: impl Fn(&Custom<S>) -> Subject,
) {
    all.extend(resources.map(|resource| (Arc::new(resource.meta.key.clone()), of(resource))));
}

/// A route of the Gateway API, likewise.
fn of_route<S: Serialize + RouteSpec>(route: &Custom<S>) -> Subject {
    Subject { parents: Some(Parents::of(route)), ..of(route) }
}

/// A resource whose latest version is in force, as far as it says so itself.
fn of<S: Serialize>(resource: &Custom<S>) -> Subject {
    let meta = &resource.meta;
    Subject {
        uid: meta.uid.clone(),
        generation: meta.generation,
        in_force: Some(meta.generation),
        version: content(resource),
        ..Subject::default()
    }
}

/// Tells versions apart where the source counts no generations.
fn content<S: Serialize>(resource: &Custom<S>) -> u64 {
    match resource.meta.generation {
        0 => xxhash_rust::xxh3::xxh3_64(&serde_json::to_vec(&resource.spec).unwrap_or_default()),
        _ => 0,
    }
}

fn version(subject: &Subject) -> u64 {
    let mut text = format!("{}\0{:?}\0{}", subject.uid, subject.in_force, subject.version);
    for problem in subject.problems.iter().filter(|p| p.severity == Severity::Error) {
        text.extend(["\0", problem.code, "\0", &problem.field, "\0", &problem.message]);
    }
    xxhash_rust::xxh3::xxh3_64(text.as_bytes())
}

impl Model {
    /// Every resource of the user's API.
    pub fn subjects(&self) -> &Subjects {
        &self.subjects
    }

    /// Whether these stand as in `before`, which was known without looking at them.
    pub fn has_subjects_of(&self, before: &Self) -> bool {
        Arc::ptr_eq(&self.subjects, &before.subjects)
    }

    /// As [`Model::destination`], with what took part in it.
    pub fn answer(&self, client: &Client, text: &str) -> Answer {
        let lookup = lookup::Lookup::new(self, client, text);
        let destination = lookup.run();
        Answer { destination, parts: self.parts(lookup.parts().iter()), topics: lookup.topics() }
    }

    /// The AuthorizationPolicies, PeerAuthentications and RateLimitPolicies that take part in [`Model::workload`].
    pub fn workload_parts(&self, client: &Client) -> Parts {
        let none = BTreeMap::new();
        let labels = self.labels(client).unwrap_or(&none);
        let policies = self.foundation.policies.parts(&client.namespace, labels);
        let limits = self.foundation.limits.parts(&client.namespace, labels);
        let parts: BTreeSet<&Key> =
            policies.chain(self.foundation.peers.parts(&client.namespace, labels)).chain(limits).collect();
        self.parts(parts.into_iter())
    }

    /// Pods that have a proxy and are ready, so that their proxy was in force once, connected now or not.
    pub fn running(&self) -> impl Iterator<Item = Client> {
        let pods = self.catalog().pods();
        let pods = pods.filter(|p| p.meshed && p.ready && !p.finished && !p.host_network && !p.ips.is_empty());
        pods.map(|p| Client {
            namespace: p.meta.key.namespace.clone(),
            account: p.account.clone(),
            pod: p.meta.key.name.clone(),
        })
    }

    /// Equal for clients that get the same answer for each destination.
    pub fn distinction(&self, client: &Client) -> String {
        let mut text = client.namespace.clone();
        if self.directions.distinctions.account {
            text.extend(["\0", &client.account]);
        }
        if self.directions.distinctions.labels {
            for (label, value) in self.labels(client).into_iter().flatten() {
                text.extend(["\0", label, "=", value]);
            }
        }
        if self.directions.distinctions.addresses {
            let pod = self.catalog().pod(&client.namespace, &client.pod);
            pod.iter().flat_map(|p| &p.ips).for_each(|ip| text.push_str(&format!("\0{ip}")));
        }
        text
    }

    /// Whether [`Model::distinction`] depends on the client's pod.
    pub fn looks_at_pods(&self) -> bool {
        self.directions.distinctions.labels || self.directions.distinctions.addresses
    }

    fn parts<'a>(&self, keys: impl Iterator<Item = &'a Key>) -> Parts {
        keys.filter_map(|key| self.subjects.get_key_value(key).map(|(key, _)| Arc::clone(key))).collect()
    }
}

/// What becomes of a destination depends on the client's namespace, and on these where some route asks for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Distinctions {
    labels: bool,
    account: bool,
    addresses: bool,
}

impl Distinctions {
    pub(super) fn of(routes: &Routes, rules: &Rules) -> Self {
        let of_rules = Self { labels: rules.looks_at_labels, ..Self::default() };
        routes.all.iter().map(|resource| Self::by(resource)).fold(of_rules, |all, one| Self {
            labels: all.labels | one.labels,
            account: all.account | one.account,
            addresses: all.addresses | one.addresses,
        })
    }

    /// What one resource asks for.
    pub(super) fn by(resource: &RouteResource) -> Self {
        let mut found = Self::default();
        for client in resource.clients() {
            found.labels |= !client.labels.is_empty();
            found.account |= client.account.is_some();
            found.addresses |= !client.sources.is_empty();
        }
        found
    }
}
