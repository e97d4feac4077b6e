//! Routes of TLS connections by the name in their ClientHello.

use std::collections::HashMap;

use super::{At, Faults, destination, each};
use crate::sni::{SniHost, TlsRoute};
use crate::wire;

/// Names of one route.
const MAX_HOSTS: usize = 256;

/// `indices` are those of the destination's backends.
pub(super) fn tls_routes(
    wire: &[wire::TlsRoute],
    indices: &HashMap<&str, usize>,
    at: &At<'_>,
    faults: &mut Faults<'_>,
) -> Option<Vec<TlsRoute>> {
    if !faults.within(at, wire.len(), destination::MAX_ROUTES) {
        return None;
    }
    each(wire, at, faults, |route, at, faults| {
        let name = faults.text(&at.field("name"), &route.name, "a name", |n| !n.is_empty());
        let list = at.field("sni_hosts");
        let within = faults.within(&list, route.sni_hosts.len(), MAX_HOSTS);
        let hosts = if within {
            each(&route.sni_hosts, &list, faults, |text, at, faults| host(text, at, faults))
        } else {
            None
        };
        let split = match &route.split {
            Some(split) => destination::split(split, indices, &at.field("split"), faults),
            None => faults.none(at.field("split"), "is missing"),
        };
        Some(TlsRoute { name: name?.into(), hosts: hosts?, split: split? })
    })
}

fn host(text: &str, at: &At<'_>, faults: &mut Faults<'_>) -> Option<SniHost> {
    let parsed = SniHost::parse(text);
    if parsed.is_none() {
        let what = "is no host name in lower case, nor one with `*.` in front";
        faults.add(at, format!("`{}` {what}", super::shown(text)));
    }
    parsed
}
