//! Judges one resource before it is stored, by the code that reads and compiles it afterwards.
//!
//! Whether it is refused depends on the resource alone, so that the order in which things are applied never matters:
//! what it names and is not there yet is a warning. Kinds of Istio's groups only get warnings: what Istio accepts is
//! accepted. What was wrong before an edit is no reason to refuse the edit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use causeway_mesh::name;
use serde_json::Value;

use crate::compile::{Settings, compile};
use crate::index::Resources;
use crate::problem::{Problem, Severity};
use crate::source::Event;
use crate::source::read::{self, Outcome};
use crate::source::resource::{Key, Kind, Meta, Origin, Resource, Service, ServicePort, TargetPort};

/// Marks the problems of the resource that is judged among those of all others.
const HERE: &str = "<admission>";

/// What depends on other resources, or on the rest of the mesh: never a reason to refuse.
const OF_OTHERS: &[&str] = &[
    "alias_loop",
    "conflicting_peer_authentication",
    "conflicting_rule",
    "external_destination",
    "gateway_only",
    "http_route_on_tcp_port",
    "no_hosts",
    "refused_external_name",
    "shadowed_route",
    "tcp_route_on_http_port",
    "too_many_routes",
    "unknown_delegate",
    "unknown_host",
    "unknown_port",
    "unknown_service",
    "unknown_service_account",
    "unknown_subset",
    "unknown_target_port",
    "unsupported_kind",
];

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judgement {
    /// `VirtualService dev/prod-service-route`
    pub what: String,
    /// Reasons to refuse.
    pub errors: Vec<Problem>,
    /// What the user is told.
    pub warnings: Vec<Problem>,
}

/// Judges `new`, which replaces `old` where there is one, among `resources` where they are known.
pub fn judge(new: &Value, old: Option<&Value>, resources: Option<&Resources>, settings: &Settings) -> Judgement {
    if old.is_some_and(|old| old.get("spec") == new.get("spec")) {
        return Judgement::default();
    }
    let mut found = problems(new, resources, settings);
    let group = new.get("apiVersion").and_then(Value::as_str).and_then(|a| a.split_once('/')).map_or("", |(g, _)| g);
    if group != "causeway.dev" {
        found.warnings.append(&mut found.errors);
    } else if let Some(old) = old {
        let before: BTreeSet<_> = problems(old, None, settings).errors.into_iter().map(identity).collect();
        let (kept, new): (Vec<_>, Vec<_>) = found.errors.drain(..).partition(|p| before.contains(&identity(p.clone())));
        found.errors = new;
        found.warnings.extend(kept);
    }
    found.errors.sort_by(|a, b| (&a.field, a.code).cmp(&(&b.field, b.code)));
    found.warnings.sort();
    found.warnings.dedup();
    found
}

fn identity(problem: Problem) -> (&'static str, String, String) {
    (problem.code, problem.field, problem.message)
}

fn problems(value: &Value, resources: Option<&Resources>, settings: &Settings) -> Judgement {
    let origin = Origin { file: HERE.to_owned(), line: 0, lines: BTreeMap::new() };
    let (mut all, resource) = match read::object(value, &origin) {
        Outcome::Usable(resource, problems) => (problems, Some(resource)),
        Outcome::Refused(_, problems, _) => (problems, None),
        Outcome::Passed(problem) => (vec![problem], None),
    };
    let what = all.first().map(|p| p.resource.clone()).unwrap_or_default();
    let what = resource.as_ref().map_or(what, |r| r.meta().key.to_string());
    let mut around = Vec::new();
    if let Some(resource) = resource {
        all.extend(compiled(&resource, alone(&resource, settings), settings));
        let world = resources.map(world).unwrap_or_default();
        around = if resources.is_some() { compiled(&resource, world, settings) } else { Vec::new() };
    }
    let is_error = |p: &Problem| p.severity == Severity::Error && !OF_OTHERS.contains(&p.code);
    let errors: Vec<_> = all.iter().filter(|p| is_error(p)).cloned().collect();
    let rest = all.into_iter().filter(|p| !OF_OTHERS.contains(&p.code) || resources.is_none()).chain(around);
    let mut warnings: Vec<_> =
        rest.filter(|p| p.severity != Severity::Note && !is_error(p) && !errors.contains(p)).collect();
    warnings.sort();
    warnings.dedup();
    Judgement { what, errors, warnings }
}

/// The problems of `resource` among `world`.
fn compiled(resource: &Resource, mut world: Resources, settings: &Settings) -> Vec<Problem> {
    world.apply(Event::Upsert { resource: resource.clone(), problems: Vec::new() });
    let model = compile(&Arc::new(world), settings);
    model.problems().iter().filter(|p| p.file == HERE).cloned().collect()
}

/// Everything but what is many and says nothing about routes and policies.
fn world(resources: &Resources) -> Resources {
    Resources {
        namespaces: resources.namespaces.clone(),
        service_accounts: resources.service_accounts.clone(),
        services: resources.services.clone(),
        virtual_services: resources.virtual_services.clone(),
        destination_rules: resources.destination_rules.clone(),
        authorization_policies: resources.authorization_policies.clone(),
        peer_authentications: resources.peer_authentications.clone(),
        service_entries: resources.service_entries.clone(),
        rate_limit_policies: resources.rate_limit_policies.clone(),
        ..Resources::default()
    }
}

/// A world that has nothing but the Services that `resource` is about, so that its routes are looked at.
fn alone(resource: &Resource, settings: &Settings) -> Resources {
    let hosts: Vec<&str> = match resource {
        Resource::VirtualService(r) => r.spec.hosts.iter().map(String::as_str).collect(),
        Resource::DestinationRule(r) => vec![&r.spec.host],
        _ => Vec::new(),
    };
    let mut world = Resources::default();
    for host in hosts {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let host = host.replacen("*.", "any.", 1).replacen('*', "any", 1);
        let namespace = &resource.meta().key.namespace;
        let Some(found) = name::service(&host, namespace, &settings.cluster_domain) else { continue };
        let service = Resource::Service(Arc::new(stand_in(found.namespace, found.service)));
        world.apply(Event::Upsert { resource: service, problems: Vec::new() });
    }
    world
}

/// A Service with one port whose protocol is not declared: it carries every route.
fn stand_in(namespace: String, name: String) -> Service {
    let key = Key { kind: Kind::Service, namespace, name, group: String::new() };
    let meta = Meta {
        key,
        labels: BTreeMap::new(),
        created: 0,
        generation: 0,
        uid: String::new(),
        origin: Arc::new(Origin::default()),
        unsupported: Vec::new(),
    };
    let port =
        ServicePort { name: String::new(), port: 80, target: TargetPort::Number(80), app_protocol: None, index: 0 };
    Service {
        meta,
        cluster_ips: Vec::new(),
        headless: false,
        external_name: None,
        selector: BTreeMap::new(),
        ports: vec![port],
        publish_not_ready: false,
        sticks_to_client: false,
        affinity_seconds: None,
        prefers_near: false,
    }
}
