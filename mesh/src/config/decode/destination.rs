//! Destinations: their backends, their split and their routes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::backend::backend;
use super::{At, Faults, action, each, pattern, route, shown};
use crate::config::{Backend, Destination, Kind, Protocol};
use crate::name;
use crate::split::{Split, SplitKey, Traits, Weighted};
use crate::wire;

/// Of one split.
const MAX_SHARES: usize = 256;
/// Of a destination with all its routes.
const MAX_BACKENDS: usize = 4096;
pub(super) const MAX_ROUTES: usize = 1024;
/// Thirty days: far above any use, far below where adding it to a clock overflows.
const MAX_TIMEOUT_MS: u64 = 30 * 24 * 3600 * 1000;

pub(super) fn destination(wire: &wire::Destination, at: &At<'_>, faults: &mut Faults<'_>) -> Option<Destination> {
    let canonical = faults.text(&at.field("canonical"), &wire.canonical, "a name", |n| !n.is_empty());
    let kind = kind(wire.kind, &at.field("kind"), faults);
    let protocol = protocol(wire.protocol, &at.field("protocol"), faults);
    let external = external(wire, kind, &at.field("external"), faults);
    let backends = backends(&wire.backends, &at.field("backends"), faults);
    let indices = indices(&wire.backends);
    let split = match &wire.split {
        None => Some(None),
        Some(split) => self::split(split, &indices, &at.field("split"), faults).map(Some),
    };
    let within = faults.within(&at.field("routes"), wire.routes.len(), MAX_ROUTES);
    let routes = if within {
        each(&wire.routes, &at.field("routes"), faults, |r, at, faults| route::route(r, &indices, at, faults))
    } else {
        None
    };
    let tls_routes = super::tls_route::tls_routes(&wire.tls_routes, &indices, &at.field("tls_routes"), faults);
    Some(Destination {
        canonical: canonical?.into(),
        kind: kind?,
        protocol: protocol?,
        routes: routes?.into(),
        tls_routes: tls_routes?,
        split: split?,
        backends: backends?,
        http_only: wire.http_only,
        external: external?,
        by_name: wire.by_name,
        service_name: wire.service_name.clone(),
        service_namespace: wire.service_namespace.clone(),
    })
}

fn kind(wire: i32, at: &At<'_>, faults: &mut Faults<'_>) -> Option<Kind> {
    use wire::destination::Kind as Wire;
    match Wire::try_from(wire) {
        Ok(Wire::Service) => Some(Kind::Service),
        Ok(Wire::Pod) => Some(Kind::Pod),
        Ok(Wire::Unknown) => Some(Kind::Unknown),
        Ok(Wire::External) => Some(Kind::External),
        Ok(Wire::Entry) => Some(Kind::Entry),
        Ok(Wire::Unspecified) | Err(_) => {
            faults.add(at, format!("{wire} is not a kind that this proxy knows"));
            None
        }
    }
}

pub(super) fn protocol(wire: i32, at: &At<'_>, faults: &mut Faults<'_>) -> Option<Protocol> {
    use wire::Protocol as Wire;
    match Wire::try_from(wire) {
        Ok(Wire::Unspecified) => Some(Protocol::Detect),
        Ok(Wire::Http1) => Some(Protocol::Http1),
        Ok(Wire::Http2) => Some(Protocol::Http2),
        Ok(Wire::Tcp) => Some(Protocol::Tcp),
        Ok(Wire::Tls) => Some(Protocol::Tls),
        Err(_) => {
            faults.add(at, format!("{wire} is not a protocol that this proxy knows"));
            None
        }
    }
}

fn external(
    wire: &wire::Destination,
    kind: Option<Kind>,
    at: &At<'_>,
    faults: &mut Faults<'_>,
) -> Option<Option<String>> {
    let is_external = kind == Some(Kind::External);
    if !is_external && !wire.external.is_empty() {
        faults.add(at, "is for destinations of the kind external only");
        return None;
    }
    if !is_external {
        return Some(None);
    }
    match name::host_port(&wire.external) {
        Ok(name::HostPort { host, port: Some(port) }) => Some(Some(name::subscription(&host, port))),
        Ok(_) => faults.none(*at, "needs a port"),
        Err(why) => faults.none(*at, format!("`{}`: {why}", shown(&wire.external))),
    }
}

fn backends(wire: &[wire::Backend], at: &At<'_>, faults: &mut Faults<'_>) -> Option<Vec<Arc<Backend>>> {
    if !faults.within(at, wire.len(), MAX_BACKENDS) {
        return None;
    }
    let mut seen = HashSet::new();
    each(wire, at, faults, |b, at, faults| {
        if !seen.insert(b.name.as_str()) {
            faults.add(&at.field("name"), format!("`{}` stands here twice", shown(&b.name)));
        }
        backend(b, at, faults).map(Arc::new)
    })
}

/// Index of each backend by its name.
fn indices(backends: &[wire::Backend]) -> HashMap<&str, usize> {
    backends.iter().enumerate().map(|(i, b)| (b.name.as_str(), i)).collect()
}

/// None where the wire says 0.
pub(super) fn milliseconds(wire: u64, at: &At<'_>, faults: &mut Faults<'_>) -> Option<Option<Duration>> {
    if wire > MAX_TIMEOUT_MS {
        faults.add(at, format!("{wire} ms is more than thirty days"));
        return None;
    }
    Some((wire > 0).then(|| Duration::from_millis(wire)))
}

pub(super) fn split(
    wire: &wire::Split,
    indices: &HashMap<&str, usize>,
    at: &At<'_>,
    faults: &mut Faults<'_>,
) -> Option<Split> {
    let list = at.field("backends");
    if wire.backends.is_empty() {
        faults.add(&list, "is empty");
    }
    if !faults.within(&list, wire.backends.len(), MAX_SHARES) {
        return None;
    }
    let weighted = each(&wire.backends, &list, faults, |w, at, faults| {
        let name = &w.backend;
        let index = indices.get(name.as_str()).copied();
        if index.is_none() {
            faults.add(&at.field("backend"), format!("`{}` is not among the destination's backends", shown(name)));
        }
        if w.effective > w.weight {
            faults.add(&at.field("effective"), format!("{} is more than the weight {}", w.effective, w.weight));
        }
        Some(Weighted { backend: index?, name, weight: w.weight, effective: w.effective })
    });
    let key = match &wire.key {
        None => Some(None),
        Some(key) => split_key(key, &at.field("key"), faults).map(Some),
    };
    let traits = each(&wire.backends, &list, faults, traits);
    let version_header = match wire.version_header.as_str() {
        "" => Some(None),
        name => action::changeable(name, &at.field("version_header"), faults).map(Some),
    };
    Some(Split::new(&weighted?, key?, &wire.origin).with_traits(traits?, version_header?.as_deref()))
}

fn traits(wire: &wire::Weighted, at: &At<'_>, faults: &mut Faults<'_>) -> Option<Traits> {
    let request = action::header_changes(wire.request_headers.as_ref(), &at.field("request_headers"), faults);
    let response = action::header_changes(wire.response_headers.as_ref(), &at.field("response_headers"), faults);
    let is_version = |v: &str| v.len() <= 253 && v.bytes().all(|b| b.is_ascii_graphic());
    let version = faults.text(&at.field("version"), &wire.version, "a version as a header can carry it", is_version);
    Some(Traits { version: version?.into(), request: request?, response: response? })
}

fn split_key(wire: &wire::SplitKey, at: &At<'_>, faults: &mut Faults<'_>) -> Option<SplitKey> {
    use wire::split_key::Kind;
    match &wire.kind {
        Some(Kind::Header(name)) => pattern::header_name(name, &at.field("header"), faults).map(SplitKey::Header),
        Some(Kind::Cookie(name)) => {
            let is_name = |n: &str| !n.is_empty() && n.bytes().all(|b| b.is_ascii_graphic() && b != b';' && b != b'=');
            faults.text(&at.field("cookie"), name, "the name of a cookie", is_name).map(SplitKey::Cookie)
        }
        Some(Kind::SourceIdentity(true)) => Some(SplitKey::SourceIdentity),
        Some(Kind::SourceIdentity(false)) => faults.none(at.field("source_identity"), "must be true"),
        None => faults.none(*at, "has no kind, or one that this proxy does not know"),
    }
}
