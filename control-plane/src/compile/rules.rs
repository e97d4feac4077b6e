//! DestinationRules: which subsets a Service has for a client, and how connections to it are made.

use super::alias::{self, Target};
use super::catalog::{Catalog, Member, selects};
use super::duration;
use super::previous::named_subsets;
use super::routes::Routes;
use super::scope::{Attached, Host, Scoped, is_exported, resolve};
use super::{Name, Settings};
use crate::index::Resources;
use crate::problem::{Problem, Severity};
use crate::source::Meta;
use crate::source::resource::DestinationRule;
use causeway_crds::destination_rule::Subset;
use causeway_crds::traffic_policy::{TlsMode, TrafficPolicy};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct Rules {
    by_service: BTreeMap<Name, Scoped<DestinationRule>>,
    /// Subsets that routes name and that no rule defines any more: `(service, consumer or empty, subset)`.
    kept: BTreeMap<(Name, String, String), Subset>,
}

/// A subset as one client sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'a> {
    pub(super) subset: &'a Subset,
    /// Namespace of a consumer's rule, empty for the producer's.
    pub(super) consumer: &'a str,
}

/// How connections are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Connection {
    /// 0: the proxy's default.
    pub(super) connect_timeout_ms: u64,
    pub(super) plaintext: bool,
}

impl Rules {
    pub(super) fn new(
        resources: &Resources,
        catalog: &Catalog,
        settings: &Settings,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut rules = Self::default();
        for rule in resources.destination_rules.values() {
            let meta = &rule.meta;
            if meta.is_unsupported("spec.workloadSelector") {
                continue;
            }
            examine(rule, problems);
            let host = &rule.spec.host;
            let names = match resolve(host, &meta.key.namespace, catalog, settings) {
                Host::Service(name) => vec![name],
                Host::Wildcard(names) if !names.is_empty() => names,
                _ => {
                    let message =
                        format!("no Service `{}` is known in namespace {}", host.escape_debug(), meta.key.namespace);
                    let advice = "Correct the name (svc, svc.ns or the full name), or create the Service.";
                    problems.push(meta.problem(Severity::Error, "unknown_host", "spec.host", message, advice));
                    continue;
                }
            };
            for name in names {
                let (is_exact, host_length) = (!host.starts_with('*'), host.len());
                let attached = Attached { resource: Arc::clone(rule), port: None, is_exact, host_length };
                rules.by_service.entry(name.clone()).or_default().attach(&name, attached);
            }
        }
        rules.conflicts(problems);
        rules
    }

    /// One rule per Service and namespace is what people expect; several merge, and the later ones hear of it.
    fn conflicts(&self, problems: &mut Vec<Problem>) {
        for scoped in self.by_service.values() {
            for list in std::iter::once(&scoped.producer).chain(scoped.consumers.values()) {
                for (at, later) in list.iter().enumerate().skip(1) {
                    let first = list[..at].iter().find(|a| a.is_exact == later.is_exact);
                    let Some(first) = first else { continue };
                    for (index, subset) in later.resource.spec.subsets.iter().enumerate() {
                        let earlier =
                            list[..at].iter().find(|a| a.resource.spec.subsets.iter().any(|s| s.name == subset.name));
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
                    if first.resource.spec.traffic_policy.is_some() && later.resource.spec.traffic_policy.is_some() {
                        let message =
                            format!("{} has a traffic policy for the same Service and wins", first.meta().key);
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

    fn seen<'a>(&'a self, service: &Name, client: &str) -> impl Iterator<Item = (&'a Attached<DestinationRule>, bool)> {
        let lists = self.by_service.get(service).map(|s| s.seen_by(client)).unwrap_or_default();
        let client = client.to_owned();
        lists
            .into_iter()
            .zip([true, false])
            .flat_map(|(list, is_consumer)| {
                // An exact host before a wildcard.
                let exact = list.iter().filter(|a| a.is_exact);
                exact.chain(list.iter().filter(|a| !a.is_exact)).map(move |a| (a, is_consumer))
            })
            .filter(move |(a, _)| is_exported(&a.resource.spec.export_to, a.meta(), &client))
    }

    /// The rules of `service` that hold for clients of namespace `client`.
    pub(super) fn seen_by(&self, service: &Name, client: &str) -> impl Iterator<Item = &Meta> {
        self.seen(service, client).map(|(rule, _)| rule.meta())
    }

    /// Every rule with the Services that it is about.
    pub(super) fn attached(&self) -> impl Iterator<Item = (&Name, &Attached<DestinationRule>)> {
        self.by_service.iter().flat_map(|(service, scoped)| {
            let all = scoped.producer.iter().chain(scoped.consumers.values().flatten());
            all.map(move |a| (service, a))
        })
    }

    /// The subset `name` of `service` as clients of namespace `client` see it.
    pub(super) fn subset<'a>(&'a self, service: &Name, name: &str, client: &str) -> Option<Found<'a>> {
        let live = self.seen(service, client).find_map(|(rule, is_consumer)| {
            let (index, subset) = rule.resource.spec.subsets.iter().enumerate().find(|(_, s)| s.name == name)?;
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
        live.or_else(|| kept(client)).or_else(|| kept(""))
    }

    /// Keeps the labels of every subset that `routes` name and that only the rules `before` define.
    pub(super) fn keep(&mut self, before: &Self, routes: &Routes, catalog: &Catalog, settings: &Settings) {
        for (host, namespace, subset) in named_subsets(routes) {
            let Host::Service(service) = resolve(host, namespace, catalog, settings) else { continue };
            let Target::Service(service) = alias::follow(&service, catalog, settings) else { continue };
            if self.subset(&service, subset, namespace).is_none()
                && let Some(found) = before.subset(&service, subset, namespace)
            {
                let key = (service, found.consumer.to_owned(), subset.to_owned());
                self.kept.insert(key, found.subset.clone());
            }
        }
    }

    /// Whether some rule that a client of `client` sees defines the subset, usable or not.
    pub(super) fn names_subset(&self, service: &Name, name: &str, client: &str) -> bool {
        self.seen(service, client).any(|(rule, _)| rule.resource.spec.subsets.iter().any(|s| s.name == name))
    }

    /// How clients of `client` connect: the first policy that says so. The client's own rules come before those of the
    /// Service's namespace; within a rule the subset comes before the whole.
    pub(super) fn connection(&self, service: &Name, subset: &str, client: &str) -> Connection {
        let of_rule = |rule: &Attached<DestinationRule>| {
            let spec = &rule.resource.spec;
            let of_subset = spec.subsets.iter().find(|s| !subset.is_empty() && s.name == subset);
            [of_subset.and_then(|s| s.traffic_policy.clone()), spec.traffic_policy.clone()]
        };
        let policies: Vec<TrafficPolicy> = self.seen(service, client).flat_map(|(r, _)| of_rule(r)).flatten().collect();
        let timeout =
            policies.iter().find_map(|p| p.connection_pool.as_ref()?.tcp.as_ref()?.connect_timeout.as_deref());
        let tls = policies.iter().find_map(|p| p.tls.as_ref()?.mode);
        Connection {
            connect_timeout_ms: timeout.and_then(duration::millis).unwrap_or_default(),
            plaintext: tls == Some(TlsMode::Disable),
        }
    }

    /// Every subset of every Service: `(service, consumer or empty, subset)`.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Name, &str, &Subset)> {
        let kept = self.kept.iter().map(|((service, consumer, _), subset)| (service, consumer.as_str(), subset));
        let live = self.by_service.iter().flat_map(|(service, scoped)| {
            let producer = scoped.producer.iter().map(|a| ("", a));
            let consumers = scoped.consumers.iter().flat_map(|(ns, list)| list.iter().map(move |a| (ns.as_str(), a)));
            let all = producer.chain(consumers);
            all.flat_map(move |(consumer, a)| a.resource.spec.subsets.iter().map(move |s| (service, consumer, s)))
        });
        live.chain(kept)
    }
}

/// A field of the subset itself, rather than of its traffic policy, is not understood.
fn is_broken(rule: &Attached<DestinationRule>, index: usize) -> bool {
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
    let of_subsets = spec.subsets.iter().enumerate();
    let of_subsets = of_subsets.map(|(i, s)| (format!("spec.subsets[{i}].trafficPolicy"), s.traffic_policy.as_ref()));
    for (path, policy) in
        std::iter::once(("spec.trafficPolicy".to_owned(), spec.traffic_policy.as_ref())).chain(of_subsets)
    {
        let Some(policy) = policy else { continue };
        let timeout =
            policy.connection_pool.as_ref().and_then(|p| p.tcp.as_ref()).and_then(|t| t.connect_timeout.as_deref());
        if let Some(text) = timeout.filter(|t| duration::millis(t).is_none()) {
            let field = format!("{path}.connectionPool.tcp.connectTimeout");
            problems.push(duration::problem(&rule.meta, &field, text, "the default is used"));
        }
        let mode = policy.tls.as_ref().and_then(|t| t.mode);
        if let Some(mode @ (TlsMode::Simple | TlsMode::Mutual)) = mode {
            let message = format!(
                "tls mode {mode:?} is not implemented yet: meshed endpoints get mutual TLS of the mesh, others plain text"
            );
            let field = format!("{path}.tls.mode");
            problems.push(rule.meta.problem(
                Severity::Error,
                "not_implemented",
                &field,
                message,
                "Use ISTIO_MUTUAL or DISABLE.",
            ));
        }
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
