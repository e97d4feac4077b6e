//! What the operator sees, as JSON.

use causeway_mesh::config::action::{Action, Filters};
use causeway_mesh::config::{Destination, Endpoint};
use causeway_mesh::route::Route;
use causeway_mesh::split::Split;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::prelude::FromDer;

use crate::discovery::Discovery;
use crate::tls::Tls;

use super::words;

fn rfc3339(unix: i64) -> Value {
    OffsetDateTime::from_unix_timestamp(unix)
        .ok()
        .and_then(|t| t.format(&Rfc3339).ok())
        .map_or(Value::Null, Value::String)
}

fn seconds(unix: u64) -> i64 {
    i64::try_from(unix).unwrap_or(i64::MAX)
}

/// The certificate in use and the roots; never the key.
pub fn certs(tls: &Tls) -> Value {
    let Some(state) = tls.current() else {
        return json!({"spiffe_id": null, "waiting_for": "the first certificate"});
    };
    let leaf = state.leaf();
    let roots: Vec<Value> = state
        .roots()
        .der()
        .filter_map(|der| x509_parser::certificate::X509Certificate::from_der(der).ok())
        .map(|(_, root)| {
            json!({
                "subject": root.subject().to_string(),
                "serial": root.raw_serial_as_string().replace(':', ""),
                "not_before": rfc3339(root.validity().not_before.timestamp()),
                "not_after": rfc3339(root.validity().not_after.timestamp()),
            })
        })
        .collect();
    json!({
        "spiffe_id": leaf.id.to_string(),
        "trust_domain": leaf.id.trust_domain(),
        "serial": leaf.serial,
        "not_before": rfc3339(seconds(leaf.not_before)),
        "not_after": rfc3339(seconds(leaf.not_after)),
        "renew_at": rfc3339(state.renew_at()),
        "chain_length": state.chain().len(),
        "roots": roots,
    })
}

/// The stream to the control plane.
pub fn status(discovery: &Discovery, workload: &str, awaited: &[&str], open: usize) -> Value {
    let status = discovery.status();
    json!({
        "workload": workload,
        "version": env!("CARGO_PKG_VERSION"),
        "ready": awaited.is_empty(),
        "awaited": awaited,
        "connections": open,
        "control_plane": {
            "connected": status.connected,
            "last_contact": rfc3339(status.last_contact),
            "acked": status.acked,
            "nacked": status.nacked.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "streams": status.streams,
            "drifts": status.drifts,
            "last_error": status.last_error,
            "subscriptions": status.subscriptions,
            "resources": status.resources,
        },
    })
}

/// The configuration in force.
pub fn config(discovery: &Discovery) -> Value {
    let receiver = discovery.snapshot();
    let snapshot = receiver.borrow().clone();
    let destinations: serde_json::Map<String, Value> =
        snapshot.destinations.iter().map(|(name, d)| (name.to_string(), destination(d))).collect();
    let endpoints: serde_json::Map<String, Value> =
        snapshot.endpoints.iter().map(|(name, list)| (name.to_string(), list.iter().map(endpoint).collect())).collect();
    let workload = snapshot.workload.as_ref().map(|w| {
        json!({
            "namespace": w.namespace,
            "pod": w.pod,
            "service_account": w.service_account,
            "workload_name": w.workload_name,
            "labels": w.labels,
            "egress": if w.egress_allowed { "allow" } else { "deny" },
            "inbound": {
                "mtls": format!("{:?}", w.inbound.mode),
                "ports": w.inbound.ports.iter().map(|(p, m)| (p.to_string(), format!("{m:?}"))).collect::<std::collections::BTreeMap<_, _>>(),
                "default": if w.inbound.default_allow { "allow" } else { "deny" },
                "policies": w.inbound.policies.iter().map(|p| json!({
                    "name": &*p.name, "action": if p.allow { "ALLOW" } else { "DENY" }, "rules": p.rules.iter().map(words::rule).collect::<Vec<_>>(),
                })).collect::<Vec<_>>(),
                "probes": w.inbound.probes.iter().map(|p| json!({"port": p.port, "path": p.path})).collect::<Vec<_>>(),
            },
        })
    });
    json!({
        "generation": snapshot.generation,
        "workload": workload,
        "destinations": destinations,
        "endpoints": endpoints,
    })
}

fn destination(d: &Destination) -> Value {
    let split = |s: &Split| {
        json!({
            "origin": &*s.origin,
            "key": s.key.as_ref().map(|k| format!("{k:?}")),
            "backends": s.shares().map(|(index, weight)| json!({
                "backend": d.backends.get(index).map(|b| b.name.to_string()),
                "weight": weight,
            })).collect::<Vec<_>>(),
        })
    };
    json!({
        "canonical": &*d.canonical,
        "kind": format!("{:?}", d.kind),
        "protocol": format!("{:?}", d.protocol),
        "http_only": d.http_only,
        "external": d.external,
        "split": d.split.as_ref().map(&split),
        "routes": d.routes.iter().map(|r| json!({
            "name": &*r.name,
            "matches": r.matches.iter().map(words::matching).collect::<Vec<_>>(),
            "timeout_ms": r.timeout.map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX)),
            "split": r.split().map(&split),
            "does": does(r),
        })).collect::<Vec<_>>(),
    })
}

/// In one word each, what a route does besides.
fn does(route: &Route) -> Vec<&'static str> {
    let filters = route.filters.as_deref();
    let has = |is: fn(&Filters) -> bool| filters.is_some_and(is);
    let all = [
        ("redirect", matches!(route.action, Action::Redirect(_))),
        ("direct response", matches!(route.action, Action::Direct(_))),
        ("rewrite", has(|f| f.path.is_some() || f.authority.is_some())),
        ("headers", has(|f| !f.request.is_empty() || !f.response.is_empty())),
        ("mirror", has(|f| !f.mirrors.is_empty())),
        ("cors", has(|f| f.cors.is_some())),
        ("fault", has(|f| f.fault.is_some())),
        ("retry", route.retry.is_some()),
    ];
    all.into_iter().filter_map(|(word, is)| is.then_some(word)).collect()
}

fn endpoint(e: &Endpoint) -> Value {
    json!({
        "address": std::net::SocketAddr::new(e.address, e.port).to_string(),
        "identity": e.identity.as_ref().map(ToString::to_string),
        "pod": format!("{}/{}", e.namespace, e.pod),
        "workload": e.workload_name,
        "zone": e.zone,
    })
}
