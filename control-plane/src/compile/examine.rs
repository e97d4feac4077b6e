//! What is wrong with the VirtualServices: everything that a route names and that does not exist, said once each.

use super::Name;
use super::duration;
use super::matching;
use super::previous::SHARE;
use super::routes::Routes;
use super::scope::Attached;
use super::split::{self, World, weights};
use crate::problem::{Problem, Severity};
use crate::source::Key;
use causeway_crds::VirtualServiceSpec;
use causeway_crds::http_route::{HttpRoute, SplitKey};
use causeway_crds::virtual_service::RouteDestination;
use causeway_mesh::wire::Protocol;
use std::collections::{BTreeMap, BTreeSet};

/// Adds every problem of every VirtualService that routes something. Returns the VirtualServices that name something that
/// does not exist and that would get traffic.
pub(super) fn examine(routes: &Routes, world: World<'_>, problems: &mut Vec<Problem>) -> BTreeSet<Key> {
    let mut dangling = routes.unattached.clone();
    // One VirtualService may route several Services; what it names is looked at once.
    let mut services: BTreeMap<_, (&Attached<VirtualServiceSpec>, Vec<&Name>)> = BTreeMap::new();
    for (service, attached) in routes.attached() {
        services.entry(&attached.meta().key).or_insert_with(|| (attached, Vec::new())).1.push(service);
    }
    for (attached, services) in services.into_values() {
        let mut examination = Examination { attached, services, world, problems, is_dangling: false };
        examination.run();
        if examination.is_dangling {
            dangling.insert(attached.meta().key.clone());
        }
    }
    dangling
}

struct Examination<'a, 'p> {
    attached: &'a Attached<VirtualServiceSpec>,
    services: Vec<&'a Name>,
    world: World<'a>,
    problems: &'p mut Vec<Problem>,
    is_dangling: bool,
}

impl Examination<'_, '_> {
    fn add(&mut self, severity: Severity, code: &'static str, field: &str, message: String, advice: &str) {
        self.problems.push(self.attached.meta().problem(severity, code, field, message, advice));
    }

    fn run(&mut self) {
        let resource = std::sync::Arc::clone(&self.attached.resource);
        self.protocols(&resource.spec);
        for (index, route) in resource.spec.http.iter().enumerate() {
            let path = format!("spec.http[{index}]");
            self.http(&path, route);
            let acts = route.redirect.is_some() || route.direct_response.is_some() || route.delegate.is_some();
            if !acts {
                self.destinations(&path, &route.route);
            }
        }
        for (index, route) in resource.spec.tcp.iter().enumerate() {
            self.destinations(&format!("spec.tcp[{index}]"), &route.route);
        }
    }

    /// HTTP routes need a port that may carry HTTP.
    fn protocols(&mut self, spec: &VirtualServiceSpec) {
        let ports: Vec<Protocol> = self
            .services
            .iter()
            .filter_map(|name| self.world.catalog.services.get(*name))
            .flat_map(|s| s.ports.iter().map(super::catalog::protocol))
            .collect();
        let is_bytes = |p: &Protocol| matches!(p, Protocol::Tcp | Protocol::Tls);
        if !spec.http.is_empty() && !ports.is_empty() && ports.iter().all(is_bytes) {
            let message =
                "every port of its Service is declared as TCP or TLS, so its HTTP routes never apply".to_owned();
            self.add(
                Severity::Error,
                "http_route_on_tcp_port",
                "spec.http",
                message,
                "Use spec.tcp, or rename the port to http.",
            );
        }
        let is_http = |p: &Protocol| matches!(p, Protocol::Http1 | Protocol::Http2);
        if !spec.tcp.is_empty() && !ports.is_empty() && ports.iter().all(is_http) {
            let message = "every port of its Service is declared as HTTP, so its TCP routes never apply".to_owned();
            self.add(
                Severity::Error,
                "tcp_route_on_http_port",
                "spec.tcp",
                message,
                "Use spec.http, or rename the port to tcp.",
            );
        }
    }

    fn http(&mut self, path: &str, route: &HttpRoute) {
        for (index, condition) in route.matches.iter().enumerate() {
            if let Err(unusable) = matching::to_wire(condition) {
                let field = format!("{path}.match[{index}].{}", unusable.field);
                let advice = "Until it is corrected this match never applies.";
                self.add(Severity::Error, unusable.code, &field, unusable.message, advice);
            }
        }
        if let Some(text) = route.timeout.as_deref().filter(|t| duration::millis(t).is_none()) {
            let problem =
                duration::problem(self.attached.meta(), &format!("{path}.timeout"), text, "there is no timeout");
            self.problems.push(problem);
        }
        if let Some(key) = route.split.as_ref().and_then(|s| s.key.as_ref()) {
            let SplitKey { header, cookie, source_identity } = key;
            let set =
                [header.is_some(), cookie.is_some(), source_identity.is_some()].into_iter().filter(|s| *s).count();
            let field = format!("{path}.split.key");
            if set != 1 {
                let message = "exactly one of header, cookie and sourceIdentity must be set".to_owned();
                self.add(Severity::Error, "invalid_key", &field, message, "Until then the first that is set is used.");
            } else if split::key(key).is_none() {
                let message = "this cannot be the name of a header or cookie, or is false, so the split does not stick"
                    .to_owned();
                self.add(Severity::Error, "invalid_key", &field, message, "Correct the name.");
            }
        }
    }

    fn destinations(&mut self, path: &str, route: &[RouteDestination]) {
        if route.is_empty() {
            let message = "it has no destination, so it does not apply".to_owned();
            return self.add(Severity::Error, "no_destination", path, message, "Name a destination under route.");
        }
        let weights = weights(route);
        if weights.iter().all(|w| *w == 0) {
            let message = "all weights are zero, so it answers with 503".to_owned();
            self.add(
                Severity::Warning,
                "no_weight",
                &format!("{path}.route"),
                message,
                "Give at least one destination a weight.",
            );
        }
        for (index, (one, weight)) in route.iter().zip(weights).enumerate() {
            let at = format!("{path}.route[{index}]");
            if one.weight.is_none() && route.len() > 1 {
                let message = "it has no weight among others that may have one, so it gets nothing".to_owned();
                self.add(Severity::Warning, "missing_weight", &format!("{at}.weight"), message, "Write its weight.");
            }
            if !self.exists(&at, one) && weight > 0 {
                self.is_dangling = true;
            }
        }
    }

    fn exists(&mut self, at: &str, one: &RouteDestination) -> bool {
        let namespace = self.attached.meta().key.namespace.clone();
        let mut asked: Vec<u16> = self
            .services
            .iter()
            .filter_map(|name| self.world.catalog.services.get(*name))
            .flat_map(|s| s.ports.iter().map(|p| p.port))
            .collect();
        asked.sort_unstable();
        asked.dedup();
        // A port that is not named is the one asked for: good enough when any port of the routed Services will do.
        let results: Vec<_> = asked.iter().map(|port| self.world.target(&one.destination, &namespace, *port)).collect();
        let found = results.iter().find(|r| r.is_ok()).or(results.first()).cloned();
        let found = found.unwrap_or_else(|| self.world.target(&one.destination, &namespace, 80));
        let service = match found {
            Ok((service, _)) => service,
            Err(missing) => {
                let field = format!("{at}.destination.{}", missing.field);
                self.add(Severity::Error, missing.code, &field, missing.message, SHARE);
                return false;
            }
        };
        let Some(subset) = one.destination.subset.as_deref().filter(|s| !s.is_empty()) else { return true };
        let is_named = self.world.rules.names_subset(&service, subset, &namespace);
        if !is_named {
            let shown = subset.escape_debug();
            let message = format!("no DestinationRule defines subset `{shown}` of Service {}/{}", service.0, service.1);
            let advice = format!("Add it to a DestinationRule in namespace {} or {namespace}. {SHARE}", service.0);
            self.add(Severity::Error, "unknown_subset", &format!("{at}.destination.subset"), message, &advice);
        }
        is_named
    }
}
