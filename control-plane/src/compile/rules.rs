//! DestinationRules: which subsets a Service has for a client, and how connections to it are made.

use super::alias::{self, Target};
use super::catalog::{Catalog, Member, selects};
use super::previous::named_subsets;
use super::routes::Routes;
use super::scope::{Attached, Described, Host, Scoped, age, is_exported, resolve};
use super::traffic::{Policies, Traffic};
use super::virtual_service::Report;
use super::{Name, Settings};
use crate::index::Resources;
use crate::problem::{Problem, Severity};
use crate::source::resource::DestinationRule;
use crate::source::{Key, Meta};
use causeway_crds::destination_rule::Subset;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    by_service: BTreeMap<Arc<Name>, Arc<Scoped<Rule>>>,
    /// Subsets that routes name and that no rule defines any more: `(service, consumer or empty, subset)`.
    kept: BTreeMap<(Name, String, String), Subset>,
    /// Whether some rule is for pods with certain labels only.
    pub(super) looks_at_labels: bool,
}

/// A DestinationRule with its traffic policies as the wire wants them.
#[derive(Debug)]
pub(super) struct Rule {
    written: Arc<DestinationRule>,
    policies: Policies,
    /// Labels of the clients that it holds for, all of its own namespace; None: everybody who sees it.
    selector: Option<BTreeMap<String, String>>,
}

impl Described for Rule {
    fn meta(&self) -> &Meta {
        &self.written.meta
    }
}

impl Rule {
    /// Subsets of rules for certain clients are left out: a backend of one name cannot differ between clients.
    fn subsets(&self) -> &[Subset] {
        if self.selector.is_some() { &[] } else { &self.written.spec.subsets }
    }
}

/// The client as rules see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Consumer<'a> {
    pub(super) namespace: &'a str,
    /// Of its pod; None: any pod of the namespace.
    pub(super) labels: Option<&'a BTreeMap<String, String>>,
}

impl<'a> Consumer<'a> {
    /// Whoever is in this namespace.
    pub(super) fn any(namespace: &'a str) -> Self {
        Self { namespace, labels: None }
    }
}

/// A subset as one client sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'a> {
    pub(super) subset: &'a Subset,
    /// Namespace of a consumer's rule, empty for the producer's.
    pub(super) consumer: &'a str,
}

impl Rules {
    pub(super) fn new(
        resources: &Resources,
        catalog: &Catalog,
        settings: &Settings,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let rules = Self::of(resources.destination_rules.values(), catalog, settings, problems);
        conflicts(rules.by_service.values(), problems);
        rules
    }

    /// These rules, with nothing said of any by another.
    pub(super) fn of<'a>(
        rules: impl IntoIterator<Item = &'a Arc<DestinationRule>>,
        catalog: &Catalog,
        settings: &Settings,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let (mut by_service, mut looks_at_labels) = (BTreeMap::<Name, Scoped<Rule>>::new(), false);
        for rule in rules {
            let meta = &rule.meta;
            if is_passed_over(rule) {
                continue;
            }
            examine(rule, problems);
            let policies = Policies::new(&mut Report { meta, problems }, &rule.spec);
            let selector = rule.spec.workload_selector.as_ref().map(|s| s.match_labels.clone());
            looks_at_labels |= selector.is_some();
            let lowered = Arc::new(Rule { written: Arc::clone(rule), policies, selector });
            let host = &rule.spec.host;
            let names = about(rule, catalog, settings);
            if names.is_empty() {
                let message =
                    format!("no Service `{}` is known in namespace {}", host.escape_debug(), meta.key.namespace);
                let advice = "Correct the name (svc, svc.ns or the full name), or create the Service.";
                problems.push(meta.problem(Severity::Error, "unknown_host", "spec.host", message, advice));
            }
            for name in names {
                let (is_exact, host_length) = (!host.starts_with('*'), host.len());
                let attached = Attached { resource: Arc::clone(&lowered), port: None, is_exact, host_length };
                by_service.entry(name.clone()).or_default().attach(&name, attached);
            }
        }
        let by_service = by_service.into_iter().map(|(name, scoped)| (Arc::new(name), Arc::new(scoped))).collect();
        Self { by_service, kept: BTreeMap::new(), looks_at_labels }
    }

    /// Puts `new`, one rule or none, in place of the rule of this key, both of which are about `services`.
    pub(super) fn replace(&mut self, key: &Key, services: &BTreeSet<Name>, new: Self) {
        for service in services {
            let Some(scoped) = self.by_service.get_mut(service) else { continue };
            Arc::make_mut(scoped).detach(key);
            if scoped.all().next().is_none() {
                self.by_service.remove(service);
            }
        }
        for (service, new) in new.by_service {
            let scoped = Arc::make_mut(self.by_service.entry(Arc::clone(&service)).or_default());
            new.all().for_each(|attached| scoped.attach(&service, attached.clone()));
        }
    }

    /// Services that rules are about.
    pub(super) fn services(&self) -> impl Iterator<Item = &Name> {
        self.by_service.keys().map(|service| &**service)
    }

    /// Whether no other rule than that of this key is about `services`.
    pub(super) fn is_alone(&self, key: &Key, services: &BTreeSet<Name>) -> bool {
        let mut others = services.iter().filter_map(|service| self.by_service.get(service)).flat_map(|s| s.all());
        others.all(|attached| attached.meta().key == *key)
    }

    /// What is said of the rule of this key because of others that are about `services`, which is all that it is about.
    pub(super) fn conflicts_of(&self, key: &Key, services: &BTreeSet<Name>) -> impl Iterator<Item = Problem> + use<> {
        let mut found = Vec::new();
        conflicts(services.iter().filter_map(|service| self.by_service.get(service)), &mut found);
        let name = key.to_string();
        found.into_iter().filter(move |problem| problem.resource == name)
    }

    fn seen<'a>(&'a self, service: &Name, client: Consumer<'_>) -> impl Iterator<Item = (&'a Attached<Rule>, bool)> {
        let mut all: Vec<(&'a Attached<Rule>, bool)> = Vec::new();
        let lists = self.by_service.get(service).map(|s| s.seen_by(client.namespace)).unwrap_or_default();
        for (list, is_consumer) in lists.into_iter().zip([true, false]) {
            let from = all.len();
            let holds = |a: &&Attached<Rule>| {
                let is_selected = a.resource.selector.as_ref().is_none_or(|selector| {
                    a.meta().key.namespace == client.namespace
                        && client.labels.is_none_or(|labels| selects(selector, labels))
                });
                is_selected && is_exported(&a.resource.written.spec.export_to, a.meta(), client.namespace)
            };
            all.extend(list.iter().filter(holds).map(|a| (a, is_consumer)));
            // What is for certain clients comes first, then an exact host before a wildcard; else the oldest.
            all[from..].sort_by_key(|(a, _)| (a.resource.selector.is_none(), !a.is_exact));
        }
        all.into_iter()
    }

    /// The rules of `service` that hold for the client.
    pub(super) fn seen_by(&self, service: &Name, client: Consumer<'_>) -> impl Iterator<Item = &Meta> {
        self.seen(service, client).map(|(rule, _)| rule.meta())
    }

    /// Every rule with the Services that it is about.
    pub(super) fn attached(&self) -> impl Iterator<Item = (&Name, &Attached<Rule>)> {
        self.by_service.iter().flat_map(|(service, scoped)| scoped.all().map(move |a| (&**service, a)))
    }

    /// The subset `name` of `service` as the client sees it.
    pub(super) fn subset<'a>(&'a self, service: &Name, name: &str, client: Consumer<'_>) -> Option<Found<'a>> {
        let live = self.seen(service, client).find_map(|(rule, is_consumer)| {
            let (index, subset) = rule.resource.subsets().iter().enumerate().find(|(_, s)| s.name == name)?;
            if rule.meta().is_unsupported(&format!("spec.subsets[{index}]")) && is_broken(rule, index) {
                return None;
            }
            let consumer = if is_consumer { rule.meta().key.namespace.as_str() } else { "" };
            Some(Found { subset, consumer })
        });
        let kept = |consumer: &str| {
            let key = (service.clone(), consumer.to_owned(), name.to_owned());
            self.kept.get_key_value(&key).map(|((_, consumer, _), subset)| Found { subset, consumer })
        };
        live.or_else(|| kept(client.namespace)).or_else(|| kept(""))
    }

    /// The subset of `service` that the end of a backend's name means: `subset`, or `subset@consumer`.
    pub(super) fn defined(&self, service: &Name, text: &str) -> Option<&Subset> {
        // A subset's name may have an `@` of its own.
        let of_consumer =
            || text.rsplit_once('@').and_then(|(name, consumer)| self.defined_by(service, name, consumer));
        self.defined_by(service, text, "").or_else(of_consumer)
    }

    fn defined_by(&self, service: &Name, name: &str, consumer: &str) -> Option<&Subset> {
        let scoped = self.by_service.get(service);
        let list = scoped.and_then(|s| if consumer.is_empty() { Some(&s.producer) } else { s.consumers.get(consumer) });
        // A rule that its own namespace does not see is nobody's: the name is then that of a subset hidden from it.
        let is_seen = |a: &&Attached<Rule>| {
            consumer.is_empty() || is_exported(&a.resource.written.spec.export_to, a.meta(), consumer)
        };
        let seen = list.into_iter().flatten().filter(is_seen);
        let live = seen.flat_map(|a| a.resource.subsets()).find(|s| s.name == name);
        let kept = || self.kept.get(&(service.clone(), consumer.to_owned(), name.to_owned()));
        let first = live.or_else(kept)?;
        // The rule that wins comes first, as in the lookup.
        let winner = self.subset(service, name, Consumer::any(consumer)).filter(|f| f.consumer == consumer);
        Some(winner.map_or(first, |f| f.subset))
    }

    /// Whether a rule of the Service's namespace defines the subset, for some clients at least.
    pub(super) fn hides(&self, service: &Name, name: &str) -> bool {
        let producer = self.by_service.get(service).into_iter().flat_map(|scoped| &scoped.producer);
        producer.flat_map(|rule| rule.resource.subsets()).any(|subset| subset.name == name)
    }

    /// Keeps the labels of every subset that `routes` name and that only the rules `before` define.
    pub(super) fn keep(&mut self, before: &Self, routes: &Routes, catalog: &Catalog, settings: &Settings) {
        for (host, namespace, subset) in named_subsets(routes) {
            let Host::Service(service) = resolve(host, namespace, catalog, settings) else { continue };
            let Target::Service(service) = alias::follow(&service, catalog, settings) else { continue };
            if self.subset(&service, subset, Consumer::any(namespace)).is_none()
                && let Some(found) = before.subset(&service, subset, Consumer::any(namespace))
            {
                let key = (service, found.consumer.to_owned(), subset.to_owned());
                self.kept.insert(key, found.subset.clone());
            }
        }
    }

    /// Whether subsets that no rule defines any more are kept.
    pub(super) fn keeps(&self) -> bool {
        !self.kept.is_empty()
    }

    /// Services that other rules are about than `before`, or of which other subsets are kept. What the rules themselves
    /// say is not compared.
    pub(super) fn differing<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = &'a Name> {
        let about = |rules: &'a Self, service: &Name| rules.by_service.get(service).map(|scoped| scoped.outline());
        let services = self.services().chain(before.services());
        let other = services.filter(move |service| about(self, service) != about(before, service));
        let kept = |one: &'a Self, two: &'a Self| one.kept.iter().filter(|(at, set)| two.kept.get(*at) != Some(*set));
        other.chain(kept(self, before).chain(kept(before, self)).map(|((service, ..), _)| service))
    }

    /// Whether some rule that a client of `client` sees defines the subset, usable or not.
    pub(super) fn names_subset(&self, service: &Name, name: &str, client: &str) -> bool {
        self.seen(service, Consumer::any(client))
            .any(|(rule, _)| rule.resource.subsets().iter().any(|s| s.name == name))
    }

    /// How the client connects: of each part the first policy that has it. The client's own rules come before those of
    /// the Service's namespace; within a rule the subset comes before the whole.
    pub(super) fn traffic(&self, service: &Name, subset: &str, port: u16, client: Consumer<'_>) -> Traffic {
        let of_rule = |rule: &Attached<Rule>| {
            let subsets = rule.resource.subsets();
            let at = subsets.iter().position(|s| !subset.is_empty() && s.name == subset);
            rule.resource.policies.of(at, port)
        };
        self.seen(service, client).map(|(rule, _)| of_rule(rule)).fold(Traffic::default(), |all, next| all.or(&next))
    }
}

/// Whether nobody else is told otherwise by the one than by the other: both are for the same clients and Services, name the
/// same subsets, and have or lack a policy alike.
pub(super) fn is_alike(one: &DestinationRule, other: &DestinationRule) -> bool {
    let outline = |rule: &'_ DestinationRule| {
        let spec = &rule.spec;
        let selector = spec.workload_selector.as_ref().map(|selector| selector.match_labels.clone());
        (
            rule.meta.unsupported.clone(),
            spec.host.clone(),
            spec.export_to.clone(),
            selector,
            spec.traffic_policy.is_some(),
        )
    };
    let names = |rule: &'_ DestinationRule| rule.spec.subsets.iter().map(|s| s.name.clone()).collect::<Vec<_>>();
    age(&one.meta) == age(&other.meta) && outline(one) == outline(other) && names(one) == names(other)
}

/// The Services that a rule is about.
pub(super) fn about(rule: &DestinationRule, catalog: &Catalog, settings: &Settings) -> Vec<Name> {
    match resolve(&rule.spec.host, &rule.meta.key.namespace, catalog, settings) {
        _ if is_passed_over(rule) => Vec::new(),
        Host::Service(name) => vec![name],
        Host::Wildcard(names) => names,
        Host::Unknown => Vec::new(),
    }
}

/// Whether it is not known for which clients it is.
fn is_passed_over(rule: &DestinationRule) -> bool {
    rule.meta.is_unsupported("spec.workloadSelector")
}

/// One rule per Service and namespace is what people expect; several merge, and the later ones hear of it.
fn conflicts<'a>(about: impl Iterator<Item = &'a Arc<Scoped<Rule>>>, problems: &mut Vec<Problem>) {
    for scoped in about {
        for list in std::iter::once(&scoped.producer).chain(scoped.consumers.values()) {
            for (at, later) in list.iter().enumerate().skip(1) {
                // Rules for different clients are meant to differ.
                let first = list[..at]
                    .iter()
                    .find(|a| a.is_exact == later.is_exact && a.resource.selector == later.resource.selector);
                let Some(first) = first else { continue };
                for (index, subset) in later.resource.subsets().iter().enumerate() {
                    let earlier =
                        list[..at].iter().find(|a| a.resource.subsets().iter().any(|s| s.name == subset.name));
                    if let Some(earlier) = earlier {
                        let message = format!(
                            "subset `{}` is already defined by {}, which wins",
                            subset.name,
                            earlier.meta().key
                        );
                        let field = format!("spec.subsets[{index}].name");
                        problems.push(later.meta().problem(
                            Severity::Warning,
                            "duplicate_subset",
                            &field,
                            message,
                            "Rename or remove it.",
                        ));
                    }
                }
                let has_policy = |a: &Attached<Rule>| a.resource.written.spec.traffic_policy.is_some();
                if has_policy(first) && has_policy(later) {
                    let message = format!("{} has a traffic policy for the same Service and wins", first.meta().key);
                    let field = "spec.trafficPolicy";
                    problems.push(later.meta().problem(
                        Severity::Warning,
                        "conflicting_rule",
                        field,
                        message,
                        "Merge the two.",
                    ));
                }
            }
        }
    }
}

/// A field of the subset itself, rather than of its traffic policy, is not understood.
fn is_broken(rule: &Attached<Rule>, index: usize) -> bool {
    let policy = format!("spec.subsets[{index}].trafficPolicy");
    let subset = format!("spec.subsets[{index}]");
    rule.meta().unsupported.iter().any(|u| u.starts_with(&subset) && !u.starts_with(&policy))
}

/// Whether a member belongs to the subset.
pub(super) fn belongs(subset: &Subset, member: &Member) -> bool {
    match &member.pod {
        Some(pod) => selects(&subset.labels, &pod.meta.labels),
        None => subset.labels.is_empty(),
    }
}

fn examine(rule: &DestinationRule, problems: &mut Vec<Problem>) {
    let spec = &rule.spec;
    if spec.workload_selector.is_some() && !spec.subsets.is_empty() {
        let message = "a rule for certain clients cannot define subsets, so these are not known";
        let advice = "Define them in a rule without workloadSelector.";
        problems.push(rule.meta.problem(Severity::Error, "selected_subsets", "spec.subsets", message, advice));
    }
    for (index, subset) in spec.subsets.iter().enumerate() {
        if spec.subsets[..index].iter().any(|s| s.name == subset.name) {
            let message = format!("subset `{}` is defined twice; the first is used", subset.name);
            let field = format!("spec.subsets[{index}].name");
            problems.push(rule.meta.problem(
                Severity::Error,
                "duplicate_subset",
                &field,
                message,
                "Rename or remove it.",
            ));
        }
    }
}
