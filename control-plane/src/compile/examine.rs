//! What is wrong with the routes: everything that they name and that does not exist, said once each.

use super::Name;
use super::lowered::{Reference, RouteResource};
use super::previous::SHARE;
use super::routes::Routes;
use super::split::World;
use crate::problem::{Problem, Severity};
use crate::source::{Key, Meta};
use causeway_crds::common::Destination;
use causeway_mesh::wire::Protocol;
use std::collections::{BTreeMap, BTreeSet};

/// Said of a mirror that does not exist.
const NO_COPY: &str = "Until then no copy is sent there.";

/// Adds every problem of every resource that routes something. Returns the resources that name something that does not
/// exist and that would get traffic.
pub(super) fn examine(routes: &Routes, world: World<'_>, problems: &mut Vec<Problem>) -> BTreeSet<Key> {
    let lacks_delegate: BTreeSet<String> =
        problems.iter().filter(|p| p.code == "unknown_delegate").map(|p| p.resource.clone()).collect();
    let mut dangling = BTreeSet::new();
    for resource in &routes.all {
        let mut examination = Examination { resource, world, problems, dangling: BTreeSet::new() };
        examination.run();
        let found = std::mem::take(&mut examination.dangling);
        let key = &resource.meta.key;
        if resource.attachments.is_empty() || !found.is_empty() || lacks_delegate.contains(&key.to_string()) {
            dangling.insert(key.clone());
        }
        dangling.extend(found);
    }
    dangling
}

struct Examination<'a, 'p> {
    resource: &'a RouteResource,
    world: World<'a>,
    problems: &'p mut Vec<Problem>,
    /// Resources in which something that would get traffic does not exist.
    dangling: BTreeSet<Key>,
}

impl<'a> Examination<'a, '_> {
    fn run(&mut self) {
        // One resource may route several Services; what it names is looked at once.
        let services: BTreeSet<&Name> = self.resource.attachments.iter().map(|a| &a.service).collect();
        if services.is_empty() {
            return;
        }
        let resource = self.resource;
        let found = services.iter().filter_map(|name| self.world.catalog.services.get(name));
        let ports: BTreeMap<u16, Protocol> =
            found.flat_map(|s| s.ports.iter().map(|p| (p.port, super::protocol::protocol(p)))).collect();
        if resource.in_order {
            self.protocols(services.into_iter());
        }
        for rule in &resource.http {
            let meta = rule.written_in.as_deref().unwrap_or(&resource.meta);
            for one in rule.forward.iter().flat_map(|f| &f.destinations) {
                self.destination(meta, &one.field, &one.to, one.weight, &ports);
            }
            for one in &rule.mirrors {
                if let Reference::Named(destination) = &one.to {
                    self.exists(meta, &one.field, destination, &ports, NO_COPY);
                }
            }
        }
        let tcp = resource.tcp.iter().flat_map(|r| &r.destinations);
        for one in tcp.chain(resource.tls.iter().flat_map(|r| &r.destinations)) {
            self.destination(&resource.meta, &one.field, &one.to, one.weight, &ports);
        }
    }

    /// HTTP routes need a port that may carry HTTP.
    fn protocols(&mut self, services: impl Iterator<Item = &'a Name>) {
        let services = services.filter_map(|name| self.world.catalog.services.get(name));
        let ports: Vec<Protocol> = services.flat_map(|s| s.ports.iter().map(super::protocol::protocol)).collect();
        if ports.is_empty() {
            return;
        }
        let is_bytes = |p: &Protocol| matches!(p, Protocol::Tcp | Protocol::Tls);
        let is_http = |p: &Protocol| matches!(p, Protocol::Http1 | Protocol::Http2);
        let resource = self.resource;
        let mut add = |code, field: &str, message: &str, advice: &str| {
            self.problems.push(resource.meta.problem(Severity::Error, code, field, message, advice));
        };
        if !resource.http.is_empty() && ports.iter().all(is_bytes) {
            let message = "every port of its Service is declared as TCP or TLS, so its HTTP routes never apply";
            add("http_route_on_tcp_port", "spec.http", message, "Use spec.tcp, or rename the port to http.");
        }
        if !resource.tcp.is_empty() && ports.iter().all(is_http) {
            let message = "every port of its Service is declared as HTTP, so its TCP routes never apply";
            add("tcp_route_on_http_port", "spec.tcp", message, "Use spec.http, or rename the port to tcp.");
        }
        if !resource.tls.is_empty() && ports.iter().all(is_http) {
            let message = "every port of its Service is declared as HTTP, so its TLS routes never apply";
            add("tcp_route_on_http_port", "spec.tls", message, "Use spec.http, or rename the port to tls.");
        }
    }

    fn destination(&mut self, meta: &Meta, field: &str, to: &Reference, weight: u32, ports: &BTreeMap<u16, Protocol>) {
        let Reference::Named(destination) = to else { return };
        let field = format!("{field}.destination");
        if !self.exists(meta, &field, destination, ports, SHARE) && weight > 0 {
            self.dangling.insert(meta.key.clone());
        }
    }

    fn exists(
        &mut self,
        meta: &Meta,
        field: &str,
        destination: &Destination,
        ports: &BTreeMap<u16, Protocol>,
        effect: &str,
    ) -> bool {
        // Names are resolved where the routes are attached, also those of a delegate.
        let namespace = &self.resource.meta.key.namespace;
        // A port that is not named is the one asked for: good enough when any port of the routed Services will do.
        let results: Vec<_> = ports.keys().map(|port| self.world.target(destination, namespace, *port)).collect();
        let found = results.iter().find(|r| r.is_ok()).or(results.first()).cloned();
        let found = found.unwrap_or_else(|| self.world.target(destination, namespace, 80));
        let mut add = |code, below: &str, message: &str, advice: &str| {
            let field = format!("{field}.{below}");
            self.problems.push(meta.problem(Severity::Error, code, &field, message, advice));
        };
        let service = match found {
            Ok((service, _)) => service,
            Err(missing) => {
                add(missing.code, missing.field, &missing.message, effect);
                return false;
            }
        };
        let Some(subset) = destination.subset.as_deref().filter(|s| !s.is_empty()) else { return true };
        let is_named = self.world.rules.names_subset(&service, subset, namespace);
        if !is_named {
            let shown = subset.escape_debug();
            let message = format!("no DestinationRule defines subset `{shown}` of Service {}/{}", service.0, service.1);
            let advice = format!("Add it to a DestinationRule in namespace {} or {namespace}. {effect}", service.0);
            add("unknown_subset", "subset", &message, &advice);
        }
        is_named
    }
}
