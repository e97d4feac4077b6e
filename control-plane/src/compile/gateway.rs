//! Gateway API with a Service as parent: turns each route into the one shape of all routes. Parents, references and grants
//! are judged here, since they need only the Services that exist; who sees a route is left to the lookups.
//!
//! A rule that cannot be understood takes no request by accident: where its matches are clear its requests are answered
//! with 500, else it takes none.

mod condition;
mod connection;
mod filter;
mod rule;

use super::Name;
use super::catalog::Catalog;
use super::lowered::{Attachment, Reference, RouteResource};
use crate::index::Resources;
use crate::problem::{Problem, Severity};
use crate::source::resource::{Custom, GRPCRoute, HTTPRoute, ReferenceGrant, TCPRoute, TLSRoute};
use crate::source::{Key, Kind, Meta};
use causeway_crds::gateway::{BackendObjectReference, ParentReference};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Said of a reference that is not valid.
const SHARE: &str = "Until then its share is answered with 500.";

/// A kind of route, as far as kinds are alike.
pub(super) trait RouteSpec {
    fn parents(&self) -> &[ParentReference];
    fn rules(&self) -> usize;
}

macro_rules! route_spec {
    ($($spec:ident),*) => { $(
        impl RouteSpec for causeway_crds::gateway::$spec {
            fn parents(&self) -> &[ParentReference] {
                &self.parent_refs
            }

            fn rules(&self) -> usize {
                self.rules.len()
            }
        }
    )* };
}

route_spec!(HTTPRouteSpec, GRPCRouteSpec, TCPRouteSpec, TLSRouteSpec);

/// What the status of a route speaks of, beside what every resource has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parents {
    /// Those of `spec.parentRefs` that are Services, with their position there, as the user wrote them.
    pub services: Vec<(usize, ParentReference)>,
    /// Rules that the route has.
    pub rules: usize,
}

impl Parents {
    /// Of one route.
    pub(super) fn of<S: RouteSpec>(route: &Custom<S>) -> Self {
        let numbered = route.spec.parents().iter().cloned().enumerate();
        Self { services: numbered.filter(|(_, p)| p.is_service()).collect(), rules: route.spec.rules() }
    }
}

/// Whether it is a route of the Gateway API.
pub fn is_route(kind: Kind) -> bool {
    Kind::ROUTES.contains(&kind)
}

/// The parents of every route of the Gateway API that is read.
pub(super) fn parents(resources: &Resources) -> Vec<(&Key, Parents)> {
    fn of<'a, S: RouteSpec>((key, route): (&'a Key, &'a Arc<Custom<S>>)) -> (&'a Key, Parents) {
        (key, Parents::of(route))
    }
    let layer7 = resources.http_routes.iter().map(of).chain(resources.grpc_routes.iter().map(of));
    layer7.chain(resources.tcp_routes.iter().map(of)).chain(resources.tls_routes.iter().map(of)).collect()
}

/// Whether what was found while reading `key` is anybody's business: a route that attaches to Gateways alone is not ours.
pub(super) fn concerns(resources: &Resources, key: &Key) -> bool {
    let any = |parents: &[ParentReference]| parents.is_empty() || parents.iter().any(ParentReference::is_service);
    match key.kind {
        Kind::HTTPRoute => resources.http_routes.get(key).is_none_or(|r| any(&r.spec.parent_refs)),
        Kind::GRPCRoute => resources.grpc_routes.get(key).is_none_or(|r| any(&r.spec.parent_refs)),
        Kind::TCPRoute => resources.tcp_routes.get(key).is_none_or(|r| any(&r.spec.parent_refs)),
        Kind::TLSRoute => resources.tls_routes.get(key).is_none_or(|r| any(&r.spec.parent_refs)),
        _ => true,
    }
}

/// Every route that has a Service as parent, with what is wrong with it.
pub(super) fn lower(resources: &Resources, catalog: &Catalog, problems: &mut Vec<Problem>) -> Vec<Arc<RouteResource>> {
    let grants = Grants::new(resources);
    let world = World { catalog, grants: &grants };
    let http = resources.http_routes.values().filter_map(|r| world.http(r, problems));
    let mut all: Vec<_> = http.collect();
    all.extend(resources.grpc_routes.values().filter_map(|r| world.grpc(r, problems)));
    all.extend(resources.tcp_routes.values().filter_map(|r| world.tcp(r, problems)));
    all.extend(resources.tls_routes.values().filter_map(|r| world.tls(r, problems)));
    all
}

/// One of them; None where there is none of this key, or it has no Service as parent.
pub(super) fn lower_one(
    key: &Key,
    resources: &Resources,
    catalog: &Catalog,
    problems: &mut Vec<Problem>,
) -> Option<Arc<RouteResource>> {
    let grants = Grants::new(resources);
    let world = World { catalog, grants: &grants };
    match key.kind {
        Kind::HTTPRoute => world.http(resources.http_routes.get(key)?, problems),
        Kind::GRPCRoute => world.grpc(resources.grpc_routes.get(key)?, problems),
        Kind::TCPRoute => world.tcp(resources.tcp_routes.get(key)?, problems),
        Kind::TLSRoute => world.tls(resources.tls_routes.get(key)?, problems),
        _ => None,
    }
}

/// Everything that routes are judged against.
#[derive(Clone, Copy)]
struct World<'a> {
    catalog: &'a Catalog,
    grants: &'a Grants<'a>,
}

impl World<'_> {
    fn http(self, route: &HTTPRoute, problems: &mut Vec<Problem>) -> Option<Arc<RouteResource>> {
        self.route(route, problems, |lowering, spec, lowered| {
            lowering.hostnames(spec.hostnames.len());
            lowered.http = rule::http(lowering, &spec.rules);
        })
    }

    fn grpc(self, route: &GRPCRoute, problems: &mut Vec<Problem>) -> Option<Arc<RouteResource>> {
        self.route(route, problems, |lowering, spec, lowered| {
            lowering.hostnames(spec.hostnames.len());
            lowered.http = rule::grpc(lowering, &spec.rules);
        })
    }

    fn tcp(self, route: &TCPRoute, problems: &mut Vec<Problem>) -> Option<Arc<RouteResource>> {
        self.route(route, problems, |lowering, spec, lowered| lowered.tcp = connection::tcp(lowering, &spec.rules))
    }

    fn tls(self, route: &TLSRoute, problems: &mut Vec<Problem>) -> Option<Arc<RouteResource>> {
        self.route(route, problems, |lowering, spec, lowered| {
            lowered.tls = connection::tls(lowering, &spec.hostnames, &spec.rules);
        })
    }

    /// One route, None where it has no Service as parent. `rules` fills in what its kind has.
    fn route<S: RouteSpec>(
        self,
        route: &Custom<S>,
        problems: &mut Vec<Problem>,
        rules: impl FnOnce(&mut Lowering<'_>, &S, &mut RouteResource),
    ) -> Option<Arc<RouteResource>> {
        let meta = &route.meta;
        let parents: Vec<(usize, &ParentReference)> =
            route.spec.parents().iter().enumerate().filter(|(_, p)| p.is_service()).collect();
        if parents.is_empty() {
            return None;
        }
        let mut lowering = Lowering { world: self, meta, parents: Vec::new(), problems };
        let mut attachments = Vec::new();
        for (index, parent) in parents {
            let service = named(parent, &meta.key.namespace);
            let attachment = lowering.attachment(index, parent, &service);
            let is_understood = !meta.is_unsupported(&format!("spec.parentRefs[{index}]"));
            attachments.extend(attachment.filter(|_| is_understood));
            lowering.parents.push(service);
        }
        // What is not understood and belongs to no rule may change what the whole route means.
        let belongs = |field: &&String| ["spec.rules[", "spec.parentRefs["].iter().any(|part| field.starts_with(part));
        if !meta.unsupported.iter().all(|field| belongs(&field)) {
            attachments.clear();
        }
        let mut lowered = RouteResource {
            meta: Arc::new(meta.clone()),
            attachments,
            export_to: Vec::new(),
            http: Vec::new(),
            tcp: Vec::new(),
            tls: Vec::new(),
            in_order: false,
            delegates: Vec::new(),
        };
        rules(&mut lowering, &route.spec, &mut lowered);
        Some(Arc::new(lowered))
    }
}

pub(super) fn named(parent: &ParentReference, own: &str) -> Name {
    let namespace = parent.namespace.as_deref().filter(|n| !n.is_empty()).unwrap_or(own);
    (namespace.to_owned(), parent.name.clone())
}

/// One route while it is turned into the shape of all routes.
struct Lowering<'a> {
    world: World<'a>,
    meta: &'a Meta,
    /// The Services that it attaches to.
    parents: Vec<Name>,
    problems: &'a mut Vec<Problem>,
}

impl Lowering<'_> {
    fn add(&mut self, severity: Severity, code: &'static str, field: &str, message: impl AsRef<str>, advice: &str) {
        self.problems.push(self.meta.problem(severity, code, field, message, advice));
    }

    fn error(&mut self, code: &'static str, field: &str, message: impl AsRef<str>, advice: &str) {
        self.add(Severity::Error, code, field, message, advice);
    }

    /// GEP-1294: a mesh infers nothing from the hostnames of a route.
    fn hostnames(&mut self, count: usize) {
        if count > 0 {
            let message = "hostnames have no meaning where a Service is the parent, so every host is taken";
            let advice = "Match the header Host in spec.rules[].matches[].headers instead.";
            self.add(Severity::Warning, "ignored_hostnames", "spec.hostnames", message, advice);
        }
    }

    /// The Service and port that a parent means; None, with a problem, where there is no such thing.
    fn attachment(&mut self, index: usize, parent: &ParentReference, service: &Name) -> Option<Attachment> {
        let field = format!("spec.parentRefs[{index}]");
        let advice = "Until then the route does not hold for it.";
        let Some(found) = self.world.catalog.services.get(service) else {
            let message = format!("there is no Service {}/{}", service.0, service.1);
            self.error("unknown_parent", &format!("{field}.name"), message, advice);
            return None;
        };
        if found.external_name.is_some() {
            let message =
                format!("Service {}/{} is an ExternalName, which routes do not attach to", service.0, service.1);
            self.error(
                "unknown_parent",
                &format!("{field}.name"),
                message,
                "Attach it to the Service that this names.",
            );
            return None;
        }
        let section = parent.section_name.as_deref().filter(|s| !s.is_empty());
        if section.is_none() && parent.port.is_none() {
            return Some(attached(service, None));
        }
        let is_meant = |p: &&crate::source::resource::ServicePort| {
            section.is_none_or(|s| s == p.name) && parent.port.is_none_or(|n| n == u32::from(p.port))
        };
        if let Some(port) = found.ports.iter().find(is_meant) {
            return Some(attached(service, Some(port.port)));
        }
        let wanted = match (section, parent.port) {
            (Some(name), Some(port)) => format!("port {port} of name `{}`", name.escape_debug()),
            (Some(name), None) => format!("port of name `{}`", name.escape_debug()),
            (None, port) => format!("port {}", port.unwrap_or_default()),
        };
        let message = format!("Service {}/{} has no {wanted}", service.0, service.1);
        let part = if section.is_some() { "sectionName" } else { "port" };
        self.error("unknown_parent", &format!("{field}.{part}"), message, advice);
        None
    }

    /// What a backend is. One that is not valid is broken, and a problem says why.
    fn reference(&mut self, object: &BackendObjectReference, field: &str) -> Reference {
        match self.resolve(object) {
            Ok((service, port)) => Reference::Service { service, port },
            Err((code, part, message)) => {
                self.error(code, &format!("{field}.{part}"), &message, SHARE);
                Reference::Broken(message)
            }
        }
    }

    fn resolve(&self, object: &BackendObjectReference) -> Result<(Name, u16), (&'static str, &'static str, String)> {
        let group = object.group.as_deref().unwrap_or_default();
        let kind = object.kind.as_deref().unwrap_or("Service");
        if !group.is_empty() || kind != "Service" {
            let of = if group.is_empty() { String::new() } else { format!(" of {}", group.escape_debug()) };
            let message = format!("a {}{of} cannot be a backend, only a Service", kind.escape_debug());
            return Err(("unsupported_backend", if group.is_empty() { "kind" } else { "group" }, message));
        }
        let own = &self.meta.key.namespace;
        let namespace = object.namespace.as_deref().filter(|n| !n.is_empty()).unwrap_or(own);
        let service = (namespace.to_owned(), object.name.clone());
        let shown = format!("{}/{}", namespace.escape_debug(), object.name.escape_debug());
        // Whoever asks for the parent may be sent to the parent.
        let is_allowed =
            namespace == own || self.parents.contains(&service) || self.world.grants.allow(self.meta, &service);
        if !is_allowed {
            let kind = self.meta.key.kind;
            let message = format!(
                "no ReferenceGrant in namespace {} lets a {kind:?} of namespace {own} name Service {shown}",
                namespace.escape_debug()
            );
            return Err(("reference_not_permitted", "namespace", message));
        }
        let Some(found) = self.world.catalog.services.get(&service) else {
            return Err(("unknown_service", "name", format!("there is no Service {shown}")));
        };
        if found.external_name.is_some() {
            let message = format!("Service {shown} is an ExternalName, which cannot be a backend");
            return Err(("external_destination", "name", message));
        }
        let port = object.port.and_then(|p| u16::try_from(p).ok());
        let Some(port) = port else {
            return Err(("unknown_port", "port", format!("the port of Service {shown} is not named")));
        };
        if !found.ports.iter().any(|p| p.port == port) {
            let ports = found.ports.iter().map(|p| p.port.to_string()).collect::<Vec<_>>().join(", ");
            return Err(("unknown_port", "port", format!("Service {shown} has no port {port}; it has {ports}")));
        }
        Ok((service, port))
    }
}

fn attached(service: &Name, port: Option<u16>) -> Attachment {
    Attachment { service: service.clone(), port, is_exact: true, host_length: 0 }
}

/// The ReferenceGrants by the namespace that grants.
struct Grants<'a>(BTreeMap<&'a str, Vec<&'a ReferenceGrant>>);

impl<'a> Grants<'a> {
    fn new(resources: &'a Resources) -> Self {
        let mut all: BTreeMap<&str, Vec<&ReferenceGrant>> = BTreeMap::new();
        for (key, grant) in &resources.reference_grants {
            // One that says something that is not understood grants nothing: it may have narrowed what it grants.
            if grant.meta.unsupported.is_empty() {
                all.entry(&key.namespace).or_default().push(grant);
            }
        }
        Self(all)
    }

    /// Whether the route of `meta` may name `service`.
    fn allow(&self, meta: &Meta, service: &Name) -> bool {
        let kind = format!("{:?}", meta.key.kind);
        let grants = self.0.get(service.0.as_str()).into_iter().flatten();
        grants.into_iter().any(|g| g.spec.allows(&kind, &meta.key.namespace, &service.1))
    }
}

#[cfg(test)]
pub(super) mod tests;
