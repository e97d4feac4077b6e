//! Which resources of the user's API take part in what a client holds, and which version of each is in force. What becomes
//! of that on the proxies is left to `publish`, what is written about it to `status`.

use super::previous::Good;
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
    /// Differs whenever what is in force differs: another object, another generation, other errors. Equal on every
    /// replica that has read the same.
    pub version: u64,
}

/// Every resource of the user's API.
pub type Subjects = BTreeMap<Arc<Key>, Subject>;

/// What [`subjects`] looks at.
pub(super) struct Compiled<'a> {
    pub(super) resources: &'a Resources,
    /// Versions of VirtualServices that are in force instead of the latest.
    pub(super) held: Option<&'a Good>,
    pub(super) routes: &'a Routes,
    pub(super) rules: &'a Rules,
    pub(super) problems: &'a [Problem],
    pub(super) settings: &'a Settings,
}

/// Every resource of the user's API with what is in force of it and what is wrong with it.
pub(super) fn subjects(compiled: &Compiled<'_>) -> Subjects {
    let resources = compiled.resources;
    let mut all: BTreeMap<Arc<Key>, Subject> = BTreeMap::new();
    put(&mut all, resources.virtual_services.values());
    put(&mut all, resources.destination_rules.values());
    put(&mut all, resources.authorization_policies.values());
    put(&mut all, resources.peer_authentications.values());
    put(&mut all, resources.service_entries.values());
    put(&mut all, resources.rate_limit_policies.values());
    for (key, held) in compiled.held.into_iter().flatten() {
        if let Some(subject) = all.get_mut(key) {
            subject.in_force = Some(held.meta.generation);
            subject.version = content(held);
        }
    }
    for (key, generation) in resources.refused.iter().filter(|(key, _)| is_ours(key.kind)) {
        all.entry(Arc::new(key.clone())).or_default().generation = *generation;
    }
    let full = |(namespace, name): &Name| format!("{name}.{namespace}.svc.{}", compiled.settings.cluster_domain);
    let named = compiled.routes.attached().map(|(service, a)| (service, &a.meta().key));
    for (service, key) in named.chain(compiled.rules.attached().map(|(service, a)| (service, &a.meta().key))) {
        if let Some(subject) = all.get_mut(key) {
            subject.hosts.push(full(service));
        }
    }
    let mut by_text: BTreeMap<&str, Vec<&Problem>> = BTreeMap::new();
    for problem in compiled.problems {
        by_text.entry(&problem.resource).or_default().push(problem);
    }
    for (key, subject) in &mut all {
        subject.hosts.sort();
        subject.hosts.dedup();
        let problems = by_text.get(&*key.to_string()).into_iter().flatten();
        subject.problems = problems.map(|p| (*p).clone()).collect();
        subject.version = version(subject);
    }
    all
}

/// Whether it is a kind of the user's API.
fn is_ours(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::VirtualService
            | Kind::DestinationRule
            | Kind::AuthorizationPolicy
            | Kind::PeerAuthentication
            | Kind::ServiceEntry
            | Kind::RateLimitPolicy
    )
}

fn put<'a, S: Serialize + 'a>(all: &mut Subjects, resources: impl Iterator<Item = &'a Arc<Custom<S>>>) {
    for resource in resources {
        let meta = &resource.meta;
        let subject = Subject {
            uid: meta.uid.clone(),
            generation: meta.generation,
            in_force: Some(meta.generation),
            version: content(resource),
            ..Subject::default()
        };
        all.insert(Arc::new(meta.key.clone()), subject);
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

    /// As [`Model::destination`], with the VirtualServices and DestinationRules that took part.
    pub fn destination_and_parts(&self, client: &Client, text: &str) -> (wire::Destination, Parts) {
        let lookup = lookup::Lookup::new(self, client, text);
        let found = lookup.run();
        (found, self.parts(lookup.parts().iter()))
    }

    /// The AuthorizationPolicies and PeerAuthentications that take part in [`Model::workload`].
    pub fn workload_parts(&self, client: &Client) -> Parts {
        let none = BTreeMap::new();
        let labels = self.labels(client).unwrap_or(&none);
        let policies = self.policies.parts(&client.namespace, labels);
        let parts: BTreeSet<&Key> = policies.chain(self.peers.parts(&client.namespace, labels)).collect();
        self.parts(parts.into_iter())
    }

    /// Pods that have a proxy and are ready, so that their proxy was in force once, connected now or not.
    pub fn running(&self) -> impl Iterator<Item = Client> {
        let pods = self.catalog.pods.iter();
        let pods = pods.filter(|(_, p)| p.meshed && p.ready && !p.finished && !p.host_network && !p.ips.is_empty());
        pods.map(|((namespace, pod), p)| Client {
            namespace: namespace.clone(),
            account: p.account.clone(),
            pod: pod.clone(),
        })
    }

    /// Whether what becomes of a destination may depend on the labels of the client's pod.
    pub fn looks_at_labels(&self) -> bool {
        self.looks_at_labels
    }

    fn parts<'a>(&self, keys: impl Iterator<Item = &'a Key>) -> Parts {
        keys.filter_map(|key| self.subjects.get_key_value(key).map(|(key, _)| Arc::clone(key))).collect()
    }
}

/// Whether any route is for pods with certain labels only.
pub(super) fn looks_at_labels(resources: &Resources) -> bool {
    resources.virtual_services.values().any(|v| {
        let http = v.spec.http.iter().flat_map(|r| &r.matches).any(|m| !m.source_labels.is_empty());
        http || v.spec.tcp.iter().flat_map(|r| &r.matches).any(|m| !m.source_labels.is_empty())
    })
}
