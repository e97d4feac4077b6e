//! Addresses that serve a backend.

use std::net::IpAddr;

use super::{At, Faults, each, shown};
use crate::config::Endpoint;
use crate::wire;

/// Most endpoints of one backend.
const MAX_ENDPOINTS: usize = 16_384;

pub(super) fn endpoints(wire: &wire::Endpoints, at: &At<'_>, faults: &mut Faults<'_>) -> Option<Vec<Endpoint>> {
    let at = at.field("endpoints");
    if !faults.within(&at, wire.endpoints.len(), MAX_ENDPOINTS) {
        return None;
    }
    each(&wire.endpoints, &at, faults, endpoint)
}

fn endpoint(wire: &wire::Endpoint, at: &At<'_>, faults: &mut Faults<'_>) -> Option<Endpoint> {
    let port = faults.port(&at.field("port"), wire.port);
    let address = address(&wire.address, &at.field("address"), faults);
    let identity = match wire.identity.as_str() {
        "" => Some(None),
        text => match text.parse() {
            Ok(id) => Some(Some(id)),
            Err(why) => faults.none(at.field("identity"), format!("{why}")),
        },
    };
    Some(Endpoint {
        address: address?,
        port: port?,
        identity: identity?,
        workload_name: wire.workload_name.clone(),
        pod: wire.pod.clone(),
        namespace: wire.namespace.clone(),
        zone: wire.zone.clone(),
        region: wire.region.clone(),
        for_zones: wire.for_zones.clone(),
    })
}

fn address(text: &str, at: &At<'_>, faults: &mut Faults<'_>) -> Option<IpAddr> {
    match text.parse::<IpAddr>().map(|a| a.to_canonical()) {
        Ok(address) if !address.is_unspecified() && !address.is_multicast() => Some(address),
        _ => {
            faults.add(at, format!("`{}` is not an IP address of one host", shown(text)));
            None
        }
    }
}
