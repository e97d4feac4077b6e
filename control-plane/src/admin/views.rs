//! The JSON views, each a function from what is in force to text.

use std::sync::Arc;

use causeway_mesh::wire;
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Replica;
use crate::ca::Authority;
use crate::clock::rfc3339;
use crate::compile::Client;
use crate::publish::{Proxy, Publisher, Session, View};

/// `/status`; `awaited` is what readiness waits for.
pub fn status(replica: &Replica, awaited: Option<&str>) -> String {
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pod": replica.pod,
        "source": replica.source,
        "leader": replica.leader.as_ref().is_some_and(|leader| *leader.borrow()),
        "ready": awaited.is_none(),
        "awaited": awaited,
    })
    .to_string()
}

/// `/resources`
pub fn resources(publisher: &Publisher) -> String {
    let services = publisher.view().map(|v| v.model.services()).unwrap_or_default();
    json!({ "services": services }).to_string()
}

/// `/problems`
pub fn problems(publisher: &Publisher) -> String {
    let problems = publisher.view().map(|v| v.model.problems().to_vec()).unwrap_or_default();
    json!({ "problems": problems }).to_string()
}

/// `/proxies`
pub fn proxies(publisher: &Publisher) -> String {
    let mut proxies: Vec<_> = publisher.proxies();
    proxies.sort_by_key(|p| p.inspect(|s, _| workload(s)));
    json!({ "proxies": proxies.iter().map(proxy).collect::<Vec<_>>() }).to_string()
}

fn workload(session: &Session) -> String {
    format!("{}/{}", session.client().namespace, session.client().pod)
}

fn proxy(proxy: &Arc<Proxy>) -> Value {
    proxy.inspect(|session, waiting_since| {
        let fault = |f: &wire::Fault| json!({ "resource": f.resource, "field": f.field, "message": f.message });
        let faults: Vec<_> = session.faults().map(fault).collect();
        let resources: Vec<_> = session
            .resources()
            .map(|(name, version, acked)| json!({ "name": name, "version": format!("{version:016x}"), "acked": acked }))
            .collect();
        let acked = session.resources().filter(|(_, _, acked)| *acked).count();
        json!({
            "workload": workload(session),
            "spiffe_id": proxy.peer.id.to_string(),
            "version": proxy.version,
            "address": proxy.peer.address.to_string(),
            "connected_since": rfc3339(proxy.since),
            "certificate_expires": rfc3339(proxy.peer.certificate_expires),
            "destinations": session.destinations(),
            "total": resources.len(),
            "acked": acked,
            "resources": resources,
            "nack": faults.first(),
            "nacks": faults,
            "unanswered_seconds": waiting_since.map(|since| crate::clock::now().duration_since(since).as_secs()),
        })
    })
}

/// `/trust`
pub fn trust(authority: &Authority, now: i64) -> String {
    let bundle = authority.bundle(now);
    let roots: Vec<_> = bundle.roots_der.iter().filter_map(|der| root(der)).collect();
    json!({ "trust_domain": bundle.trust_domain, "issuer_expires": rfc3339(authority.expires()), "roots": roots })
        .to_string()
}

fn root(der: &[u8]) -> Option<Value> {
    let (_, cert) = X509Certificate::from_der(der).ok()?;
    let serial: String = cert.raw_serial().iter().map(|b| format!("{b:02x}")).collect();
    Some(json!({
        "subject": cert.subject().to_string(),
        "serial": serial,
        "not_before": rfc3339(cert.validity().not_before.timestamp()),
        "not_after": rfc3339(cert.validity().not_after.timestamp()),
    }))
}

/// `/destination`; the error is for the person who asked.
pub fn destination(publisher: &Publisher, query: &str) -> Result<String, String> {
    let usage = || "give ?client=NAMESPACE/ACCOUNT[/POD]&name=HOST:PORT".to_owned();
    let value = |key: &str| {
        let pair = query.split('&').filter_map(|p| p.split_once('=')).find(|(k, _)| *k == key);
        pair.map(|(_, v)| percent_decode(v)).ok_or_else(usage)
    };
    let (client, name) = (value("client")?, value("name")?);
    let mut parts = client.splitn(3, '/');
    let (Some(namespace), Some(account)) = (parts.next(), parts.next()) else { return Err(usage()) };
    let pod = parts.next().unwrap_or_default();
    let client = Client { namespace: namespace.to_owned(), account: account.to_owned(), pod: pod.to_owned() };
    let view = publisher.view().ok_or("the configuration is not read yet")?;
    Ok(describe(&view, &client, &name.to_ascii_lowercase()))
}

fn describe(view: &View, client: &Client, name: &str) -> String {
    let d = view.model.destination(client, name);
    let endpoints: serde_json::Map<_, _> = d
        .backends
        .iter()
        .map(|b| {
            let all = view.model.endpoints(&b.name).unwrap_or_default().endpoints;
            let all: Vec<_> = all
                .iter()
                .map(|e| json!({ "address": e.address, "port": e.port, "identity": e.identity, "pod": e.pod }))
                .collect();
            (b.name.clone(), Value::from(all))
        })
        .collect();
    let routes: Vec<_> = d.routes.iter().map(route).collect();
    json!({
        "name": name,
        "canonical": d.canonical,
        "kind": d.kind().as_str_name(),
        "protocol": d.protocol().as_str_name(),
        "external": d.external,
        "http_only": d.http_only,
        "routes": routes,
        "split": d.split.as_ref().map(split),
        "endpoints": endpoints,
    })
    .to_string()
}

fn route(route: &wire::Route) -> Value {
    // The wire's own text form: matches have many shapes, and this view is for people.
    let matches: Vec<_> = route.matches.iter().map(|m| format!("{m:?}")).collect();
    let (to, answer) = match &route.action {
        Some(wire::route::Action::Split(to)) => (Some(split(to)), None),
        other => (None, other.as_ref().map(|a| format!("{a:?}"))),
    };
    json!({ "name": route.name, "matches": matches, "timeout_ms": route.timeout_ms, "split": to, "answer": answer })
}

fn split(split: &wire::Split) -> Value {
    let backends: Vec<_> = split
        .backends
        .iter()
        .map(|b| json!({ "backend": b.backend, "weight": b.weight, "effective": b.effective }))
        .collect();
    json!({ "origin": split.origin, "backends": backends })
}

/// `%XX` only; what is not valid stays as it is.
fn percent_decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|h| std::str::from_utf8(h).ok()).and_then(|h| u8::from_str_radix(h, 16).ok());
        match (first, hex) {
            (b'%', Some(byte)) => {
                out.push(byte);
                rest = &after[2..];
            }
            _ => {
                out.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
