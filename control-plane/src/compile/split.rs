//! Destinations with weights, resolved: which backends of which Services, in which shares.

use super::alias::{self, Target};
use super::catalog::Catalog;
use super::lowered::{Forward, Reference, Weighted};
use super::matching::is_token;
use super::protocol::protocol;
use super::rules::{Consumer, Found, Rules};
use super::scope::{Host, resolve};
use super::{Name, Settings};
use crate::problem::{Problem, Severity};
use crate::source::resource::Service;
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
    pub(super) fn takes_effect(&self, route: &[Weighted], namespace: &str, asked: u16, client: Consumer<'_>) -> bool {
        let exists = |one: &Weighted| match &one.to {
            Reference::Named(destination) => {
                let subset = destination.subset.as_deref().unwrap_or_default();
                let found = self.target(destination, namespace, asked);
                found.is_ok_and(|(service, _)| {
                    subset.is_empty() || self.rules.subset(&service, subset, client).is_some()
                })
            }
            Reference::Service { .. } | Reference::Broken(_) => true,
        };
        let is_zero = route.iter().all(|w| w.weight == 0);
        !route.is_empty() && (is_zero || route.iter().any(|one| one.weight > 0 && exists(one)))
    }

    /// The backend of a Service port or of one of its subsets, as the client sees it.
    pub(super) fn backend(&self, service: &Name, port: u16, subset: &str, client: Consumer<'_>) -> wire::Backend {
        let found: Option<Found<'_>> =
            if subset.is_empty() { None } else { self.rules.subset(service, subset, client) };
        let hidden = if self.rules.hides(service, subset) { client.namespace } else { "" };
        let mut backend = wire::Backend {
            // One that the client does not see has a name without endpoints, never that of others' subset.
            name: backend_name(service, port, subset, found.map_or(hidden, |f| f.consumer)),
            service: service.1.clone(),
            namespace: service.0.clone(),
            port: port.into(),
            subset: subset.to_owned(),
            protocol: self.spoken(service, port).into(),
            ..wire::Backend::default()
        };
        self.rules.traffic(service, subset, port, client).apply(&mut backend);
        if let Some(entry) = self.catalog.entries.get(service) {
            entry.complete(&mut backend, None);
        }
        if let Some(tls) = backend.tls.as_mut().filter(|t| t.sni.is_empty() && !service.1.starts_with('*')) {
            tls.sni = super::scope::full(service, self.settings);
        }
        let sticky = self.catalog.services.get(service).filter(|s| s.sticks_to_client);
        if let Some(sticky) = sticky.filter(|_| backend.load_balancing.is_none()) {
            backend.load_balancing = Some(by_client(affinity(sticky).unwrap_or(USUAL_AFFINITY)));
        }
        backend
    }

    /// What the application declares to speak, as far as it is a version of HTTP.
    fn spoken(&self, service: &Name, port: u16) -> wire::Protocol {
        let service = self.catalog.services.get(service);
        let declared = service.and_then(|s| s.ports.iter().find(|p| p.port == port)).map(protocol);
        declared
            .filter(|p| matches!(p, wire::Protocol::Http1 | wire::Protocol::Http2))
            .unwrap_or(wire::Protocol::Unspecified)
    }
}

/// `sessionAffinity: ClientIP`: the client is the pod, and all that one proxy sends is of one. Load does not move it, nor does
/// an endpoint that is new, until it was silent for so many seconds.
fn by_client(seconds: u32) -> wire::LoadBalancing {
    wire::LoadBalancing {
        algorithm: wire::load_balancing::Algorithm::ConsistentHash.into(),
        hash: vec![wire::HashKey { kind: Some(wire::hash_key::Kind::SourceAddress(true)) }],
        hash_balance_percent: u32::MAX,
        affinity_ms: u64::from(seconds) * 1000,
        ..wire::LoadBalancing::default()
    }
}

/// What API servers write where nobody wrote anything, seconds.
const USUAL_AFFINITY: u32 = 10_800;

/// The longest that API servers take, seconds.
const LONGEST_AFFINITY: u32 = 86_400;

/// For how many seconds of silence a client is remembered. None where what is written is nothing that it can be.
fn affinity(service: &Service) -> Option<u32> {
    let Some(asked) = service.affinity_seconds else { return Some(USUAL_AFFINITY) };
    u32::try_from(asked).ok().filter(|seconds| (1..=LONGEST_AFFINITY).contains(seconds))
}

/// Names what an API server would have refused.
pub(super) fn examine(service: &Service, problems: &mut Vec<Problem>) {
    if !service.sticks_to_client || affinity(service).is_some() {
        return;
    }
    let asked = service.affinity_seconds.unwrap_or_default();
    let message = format!("{asked} is no number of seconds from 1 to {LONGEST_AFFINITY}; {USUAL_AFFINITY} is used");
    let field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
    let advice = format!("Write 1 to {LONGEST_AFFINITY}, or leave it out.");
    problems.push(service.meta.problem(Severity::Error, "out_of_range", field, message, &advice));
}

/// Collects the backends of one wire destination while its splits are built.
pub(super) struct Splits<'a> {
    pub(super) world: World<'a>,
    pub(super) client: Consumer<'a>,
    /// Port that the client asked for.
    pub(super) asked: u16,
    /// The pod that was asked for, of a headless Service: that Service as a whole is this pod.
    pub(super) pod: Option<(&'a Name, &'a wire::Backend)>,
    /// Whether a backend has a ready endpoint now.
    pub(super) is_ready: &'a dyn Fn(&str) -> bool,
    pub(super) backends: Vec<wire::Backend>,
}

impl Splits<'_> {
    /// A split as a resource of `namespace` wrote it.
    pub(super) fn routed(&mut self, forward: &Forward, namespace: &str, origin: String) -> wire::Split {
        let backends = self.shares(&forward.destinations, namespace);
        let (key, version_header) = (forward.key.clone(), forward.version_header.clone());
        wire::Split { backends, key, origin, version_header }
    }

    /// A split of connections.
    pub(super) fn connections(&mut self, route: &[Weighted], namespace: &str, origin: String) -> wire::Split {
        wire::Split { backends: self.shares(route, namespace), origin, ..wire::Split::default() }
    }

    fn shares(&mut self, route: &[Weighted], namespace: &str) -> Vec<wire::Weighted> {
        let one = |one: &Weighted| {
            let backend = self.backend(&one.to, namespace);
            let version = if backend.subset.is_empty() { backend.service.clone() } else { backend.subset.clone() };
            wire::Weighted {
                request_headers: one.request_headers.clone(),
                response_headers: one.response_headers.clone(),
                version,
                ..self.weighted(self.asked_for(backend), one.weight)
            }
        };
        joined(route.iter().map(one).collect())
    }

    /// Who asks for one pod means that pod, of a StatefulSet above all; a subset is a group of its own.
    fn asked_for(&self, backend: wire::Backend) -> wire::Backend {
        let is_its = |(namespace, service): &Name| {
            (&backend.namespace, &backend.service, backend.subset.as_str()) == (namespace, service, "")
        };
        self.pod.filter(|(of, _)| is_its(of)).map_or(backend, |(_, pod)| pod.clone())
    }

    /// What a reference in a resource of `namespace` leads to.
    fn backend(&self, to: &Reference, namespace: &str) -> wire::Backend {
        match to {
            Reference::Named(destination) => {
                let subset = destination.subset.as_deref().unwrap_or_default();
                match self.world.target(destination, namespace, self.asked) {
                    Ok((service, port)) => self.world.backend(&service, port, subset, self.client),
                    Err(_) => self.missing(destination, namespace),
                }
            }
            Reference::Service { service, port } => self.world.backend(service, *port, "", self.client),
            Reference::Broken(why) => wire::Backend {
                // Nothing is sent there; names differ where reasons do.
                name: format!("broken.{namespace}:1/{:x}", xxhash_rust::xxh3::xxh3_64(why.as_bytes())),
                service: "broken".to_owned(),
                namespace: namespace.to_owned(),
                port: 1,
                broken: why.clone(),
                ..wire::Backend::default()
            },
        }
    }

    /// The backend that copies go to; None while it does not exist.
    pub(super) fn mirror(&mut self, to: &Reference, namespace: &str) -> Option<String> {
        let backend = match to {
            Reference::Named(destination) => {
                let subset = destination.subset.as_deref().unwrap_or_default();
                let (service, port) = self.world.target(destination, namespace, self.asked).ok()?;
                let is_there = subset.is_empty() || self.world.rules.subset(&service, subset, self.client).is_some();
                is_there.then(|| self.world.backend(&service, port, subset, self.client))?
            }
            Reference::Service { .. } => self.backend(to, namespace),
            Reference::Broken(_) => return None,
        };
        Some(self.weighted(backend, 0).backend)
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
        // What is broken takes its share, and answers with an error.
        let is_used = !backend.broken.is_empty() || !backend.dns.is_empty() || (self.is_ready)(&backend.name);
        let effective = if is_used { weight } else { 0 };
        let name = backend.name.clone();
        if !self.backends.iter().any(|b| b.name == name) {
            self.backends.push(backend);
        }
        wire::Weighted { backend: name, weight, effective, ..wire::Weighted::default() }
    }
}

/// One backend that is listed twice with the same changes has the sum of both weights.
fn joined(weighted: Vec<wire::Weighted>) -> Vec<wire::Weighted> {
    let mut all: Vec<wire::Weighted> = Vec::with_capacity(weighted.len());
    for next in weighted {
        let is_same = |w: &&mut wire::Weighted| {
            w.backend == next.backend
                && (&w.request_headers, &w.response_headers) == (&next.request_headers, &next.response_headers)
        };
        match all.iter_mut().find(is_same) {
            Some(same) => {
                same.weight = same.weight.saturating_add(next.weight);
                same.effective = same.effective.saturating_add(next.effective);
            }
            None => all.push(next),
        }
    }
    all
}

/// The weights as whole numbers. A single destination gets everything, whatever weight it has, as in Istio: Flagger writes
/// one of weight 0 that way. Fractions are kept to a thousandth.
pub(super) fn weights(route: &[RouteDestination]) -> Vec<u32> {
    if route.len() == 1 {
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
