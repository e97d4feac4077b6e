//! Destinations with weights, resolved: which backends of which Services, in which shares.

use super::alias::{self, Target};
use super::catalog::Catalog;
use super::matching::is_token;
use super::rules::{Found, Rules};
use super::scope::{Host, resolve};
use super::{Name, Settings};
use causeway_crds::common::Destination;
use causeway_crds::http_route::SplitKey;
use causeway_crds::virtual_service::RouteDestination;
use causeway_mesh::wire;

/// Why a destination cannot be resolved. Its share goes to the others until it can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Missing {
    /// Stable.
    pub(super) code: &'static str,
    /// Below the destination: `host`, `subset`, `port.number`.
    pub(super) field: &'static str,
    pub(super) message: String,
}

/// Everything that destinations are resolved against.
#[derive(Clone, Copy)]
pub(super) struct World<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) rules: &'a Rules,
    pub(super) settings: &'a Settings,
}

/// Name of a backend: `service.namespace:port`, then `/subset`, then `@namespace` where a consumer defines the subset.
pub(super) fn backend_name(service: &Name, port: u16, subset: &str, consumer: &str) -> String {
    let (namespace, name) = service;
    match (subset, consumer) {
        ("", _) => format!("{name}.{namespace}:{port}"),
        (subset, "") => format!("{name}.{namespace}:{port}/{subset}"),
        (subset, consumer) => format!("{name}.{namespace}:{port}/{subset}@{consumer}"),
    }
}

impl<'a> World<'a> {
    /// The Service and port that a destination in a resource of `namespace` names, for a client that asked for `asked`.
    pub(super) fn target(
        &self,
        destination: &Destination,
        namespace: &str,
        asked: u16,
    ) -> Result<(Name, u16), Missing> {
        let shown = destination.host.escape_debug();
        let Host::Service(name) = resolve(&destination.host, namespace, self.catalog, self.settings) else {
            let message = format!("no Service `{shown}` is known in namespace {namespace}");
            return Err(Missing { code: "unknown_service", field: "host", message });
        };
        let Target::Service(name) = alias::follow(&name, self.catalog, self.settings) else {
            let message = format!(
                "`{shown}` is an alias that leads out of the cluster or nowhere, so it cannot be a destination"
            );
            return Err(Missing { code: "external_destination", field: "host", message });
        };
        let ports: Vec<u16> =
            self.catalog.services.get(&name).map(|s| s.ports.iter().map(|p| p.port).collect()).unwrap_or_default();
        let listed = || ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
        match (destination.port.as_ref().and_then(|p| p.number), &ports[..]) {
            (Some(number), ports) => match ports.iter().find(|p| u32::from(**p) == number) {
                Some(port) => Ok((name, *port)),
                None => {
                    let message = format!("Service {}/{} has no port {number}; it has {}", name.0, name.1, listed());
                    Err(Missing { code: "unknown_port", field: "port.number", message })
                }
            },
            (None, [port]) => Ok((name, *port)),
            (None, ports) if ports.contains(&asked) => Ok((name, asked)),
            (None, _) => {
                let message = format!("Service {}/{} has no port {asked}; it has {}", name.0, name.1, listed());
                Err(Missing { code: "unknown_port", field: "port", message })
            }
        }
    }

    /// Whether a route of a resource of `namespace` can take effect for a client: some destination with a weight exists.
    /// A route in which every weight is zero does: it says that nothing is to be reached.
    pub(super) fn takes_effect(&self, route: &[RouteDestination], namespace: &str, asked: u16, client: &str) -> bool {
        let weights = weights(route);
        let exists = |one: &RouteDestination| {
            let subset = one.destination.subset.as_deref().unwrap_or_default();
            let found = self.target(&one.destination, namespace, asked);
            found.is_ok_and(|(service, _)| subset.is_empty() || self.rules.subset(&service, subset, client).is_some())
        };
        let is_zero = weights.iter().all(|w| *w == 0);
        !route.is_empty() && (is_zero || route.iter().zip(weights).any(|(one, weight)| weight > 0 && exists(one)))
    }

    /// The backend of a Service port or of one of its subsets, as clients of `client` see it.
    pub(super) fn backend(&self, service: &Name, port: u16, subset: &str, client: &str) -> wire::Backend {
        let found: Option<Found<'_>> =
            if subset.is_empty() { None } else { self.rules.subset(service, subset, client) };
        let connection = self.rules.connection(service, subset, client);
        wire::Backend {
            name: backend_name(service, port, subset, found.map_or("", |f| f.consumer)),
            service: service.1.clone(),
            namespace: service.0.clone(),
            port: port.into(),
            subset: subset.to_owned(),
            connect_timeout_ms: connection.connect_timeout_ms,
            plaintext: connection.plaintext,
            ..wire::Backend::default()
        }
    }
}

/// Collects the backends of one wire destination while its splits are built.
pub(super) struct Splits<'a> {
    pub(super) world: World<'a>,
    pub(super) client: &'a str,
    /// Port that the client asked for.
    pub(super) asked: u16,
    /// Whether a backend has a ready endpoint now.
    pub(super) is_ready: &'a dyn Fn(&str) -> bool,
    pub(super) backends: Vec<wire::Backend>,
}

impl Splits<'_> {
    /// A split as a resource of `namespace` wrote it.
    pub(super) fn routed(
        &mut self,
        route: &[RouteDestination],
        namespace: &str,
        key: Option<wire::SplitKey>,
        origin: String,
    ) -> wire::Split {
        let weights = weights(route);
        let backends = route.iter().zip(weights).map(|(r, weight)| {
            let subset = r.destination.subset.as_deref().unwrap_or_default();
            let backend = match self.world.target(&r.destination, namespace, self.asked) {
                Ok((service, port)) => self.world.backend(&service, port, subset, self.client),
                Err(_) => self.missing(&r.destination, namespace),
            };
            self.weighted(backend, weight)
        });
        let backends = backends.collect::<Vec<_>>();
        wire::Split { backends: joined(backends), key, origin, ..wire::Split::default() }
    }

    /// Everything to one backend: the Service's own default.
    pub(super) fn whole(&mut self, backend: wire::Backend) -> wire::Split {
        let one = self.weighted(backend, 1);
        wire::Split { backends: vec![one], key: None, origin: String::new(), ..wire::Split::default() }
    }

    /// A backend that does not exist stands in the list with no endpoints, so that errors can name it.
    fn missing(&self, destination: &Destination, namespace: &str) -> wire::Backend {
        let found = causeway_mesh::name::service(
            &destination.host.to_ascii_lowercase(),
            namespace,
            &self.world.settings.cluster_domain,
        );
        let service = found.map_or((namespace.to_owned(), "unknown".to_owned()), |f| (f.namespace, f.service));
        let port =
            destination.port.as_ref().and_then(|p| p.number).and_then(|p| u16::try_from(p).ok()).unwrap_or(self.asked);
        let subset = destination.subset.as_deref().unwrap_or_default();
        wire::Backend {
            name: backend_name(&service, port, subset, ""),
            service: service.1,
            namespace: service.0,
            port: port.into(),
            subset: subset.to_owned(),
            ..wire::Backend::default()
        }
    }

    fn weighted(&mut self, backend: wire::Backend, weight: u32) -> wire::Weighted {
        let effective = if (self.is_ready)(&backend.name) { weight } else { 0 };
        let name = backend.name.clone();
        if !self.backends.iter().any(|b| b.name == name) {
            self.backends.push(backend);
        }
        wire::Weighted { backend: name, weight, effective, ..wire::Weighted::default() }
    }
}

/// One backend that is listed twice in a split has the sum of both weights.
fn joined(weighted: Vec<wire::Weighted>) -> Vec<wire::Weighted> {
    let mut all: Vec<wire::Weighted> = Vec::with_capacity(weighted.len());
    for next in weighted {
        match all.iter_mut().find(|w| w.backend == next.backend) {
            Some(same) => {
                same.weight = same.weight.saturating_add(next.weight);
                same.effective = same.effective.saturating_add(next.effective);
            }
            None => all.push(next),
        }
    }
    all
}

/// The weights as whole numbers. A single destination without a weight gets everything; fractions are kept to a
/// thousandth.
pub(super) fn weights(route: &[RouteDestination]) -> Vec<u32> {
    if let [RouteDestination { weight: None, .. }] = route {
        return vec![1];
    }
    let all: Vec<f64> = route.iter().map(|r| r.weight.unwrap_or(0.0).clamp(0.0, 1e6)).collect();
    let scale = if all.iter().all(|w| w.fract() == 0.0) { 1.0 } else { 1000.0 };
    // At most 1e9, so the cast is exact.
    all.iter().map(|w| (w * scale).round() as u32).collect()
}

/// The key of a sticky split: the first that is set, in the order header, cookie, source identity. None where it cannot be
/// used.
pub(super) fn key(key: &SplitKey) -> Option<wire::SplitKey> {
    use wire::split_key::Kind;
    let is_cookie = |n: &String| !n.is_empty() && n.bytes().all(|b| b.is_ascii_graphic() && b != b';' && b != b'=');
    let kind = match key {
        SplitKey { header: Some(name), .. } => is_token(name).then(|| Kind::Header(name.to_ascii_lowercase())),
        SplitKey { cookie: Some(name), .. } => is_cookie(name).then(|| Kind::Cookie(name.clone())),
        SplitKey { source_identity, .. } => source_identity.filter(|s| *s).map(Kind::SourceIdentity),
    };
    Some(wire::SplitKey { kind: Some(kind?) })
}
