//! What a proxy is sent unasked.

use super::{Client, Model};
use causeway_mesh::name::subscription;
use std::collections::BTreeSet;

/// Destinations that a client will most likely use: what its own namespace offers, and what its own routes are about.
pub(super) fn prefetch(model: &Model, client: &Client) -> Vec<String> {
    const MOST: usize = 64;
    let namespace = &client.namespace;
    let own = model.catalog().services.of(namespace).map(|(name, _)| (namespace.clone(), name.clone()));
    let routed = model.directions.routes.all.iter().filter(|r| r.meta.key.namespace == *namespace);
    let routed = routed.flat_map(|r| &r.attachments).filter(|a| a.is_exact).map(|a| a.service.clone());
    let mut all: Vec<String> = Vec::new();
    for (ns, name) in routed.chain(own) {
        let Some(service) = model.catalog().services.get(&(ns.clone(), name.clone())) else { continue };
        if name.starts_with('*') {
            continue;
        }
        let host = match service.cluster_ips.first() {
            Some(ip) => ip.to_string(),
            None => super::scope::full(&(ns, name), &model.settings),
        };
        all.extend(service.ports.iter().map(|p| subscription(&host, p.port)));
    }
    let mut seen = BTreeSet::new();
    all.retain(|text| seen.insert(text.clone()));
    all.truncate(MOST);
    all
}
