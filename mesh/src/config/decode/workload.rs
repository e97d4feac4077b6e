//! What concerns the proxy's own workload: who it is, what may come in, and the roots that it trusts.

use std::sync::Arc;

use super::pattern::{self, Subject};
use super::{At, Faults, each, limit};
use crate::config::{TrustBundle, Workload};
use crate::path;
use crate::policy::{Inbound, MtlsMode, Operation, Policy, Principal, Probe, Rule, Source};
use crate::spiffe::{is_dns_label, is_dns_subdomain, is_trust_domain};
use crate::wire;

const MAX_ROOTS: usize = 64;
const MAX_POLICIES: usize = 1024;
const MAX_LIST: usize = 1024;

pub(super) fn trust(wire: &wire::TrustBundle, at: &At<'_>, faults: &mut Faults<'_>) -> Option<TrustBundle> {
    let trust_domain = faults.text(&at.field("trust_domain"), &wire.trust_domain, "a trust domain", is_trust_domain);
    let at = at.field("roots_der");
    if wire.roots_der.is_empty() {
        return faults.none(at, "is empty; a proxy without roots could trust nobody");
    }
    faults.within(&at, wire.roots_der.len(), MAX_ROOTS);
    let roots = each(&wire.roots_der, &at, faults, |der, at, faults| {
        if der.is_empty() {
            faults.add(at, "is empty");
        }
        Some(der.clone())
    });
    Some(TrustBundle { trust_domain: trust_domain?, roots: roots? })
}

pub(super) fn workload(wire: &wire::Workload, at: &At<'_>, faults: &mut Faults<'_>) -> Option<Workload> {
    let namespace = faults.text(&at.field("namespace"), &wire.namespace, "a namespace", is_dns_label);
    let pod = faults.text(&at.field("pod"), &wire.pod, "the name of a pod", is_dns_subdomain);
    let account = &wire.service_account;
    let account = faults.text(&at.field("service_account"), account, "the name of a ServiceAccount", is_dns_subdomain);
    let domain = faults.text(&at.field("cluster_domain"), &wire.cluster_domain, "a DNS domain", is_dns_subdomain);
    let inbound = match &wire.inbound {
        Some(inbound) => self::inbound(inbound, &at.field("inbound"), faults),
        None => faults.none(at.field("inbound"), "is missing"),
    };
    let egress_allowed = match wire::Egress::try_from(wire.egress) {
        Ok(wire::Egress::Allow) => Some(true),
        Ok(wire::Egress::Deny) => Some(false),
        _ => faults.none(at.field("egress"), "must say allow or deny"),
    };
    let limits = match &wire.inbound {
        Some(inbound) => limit::limits(&inbound.limits, &at.field("inbound").field("limits"), faults),
        None => None,
    };
    Some(Workload {
        namespace: namespace?,
        pod: pod?,
        service_account: account?,
        workload_name: wire.workload_name.clone(),
        cluster_domain: domain?,
        labels: wire.labels.clone(),
        inbound: Arc::new(inbound?),
        limits: limits?.into(),
        zone: wire.zone.clone(),
        region: wire.region.clone(),
        egress_allowed: egress_allowed?,
    })
}

fn inbound(wire: &wire::Inbound, at: &At<'_>, faults: &mut Faults<'_>) -> Option<Inbound> {
    let mode = mode(wire.mode, &at.field("mode"), faults);
    let ports = each(&wire.ports, &at.field("ports"), faults, |p, at, faults| {
        let port = faults.port(&at.field("port"), p.port);
        let mode = self::mode(p.mode, &at.field("mode"), faults);
        Some((port?, mode?))
    });
    if let Some(ports) = &ports {
        no_port_twice(ports, &at.field("ports"), faults);
    }
    let default_allow = verdict(wire.default_verdict, &at.field("default_verdict"), faults);
    faults.within(&at.field("policies"), wire.policies.len(), MAX_POLICIES);
    let policies = each(&wire.policies, &at.field("policies"), faults, policy);
    let probes = each(&wire.probes, &at.field("probes"), faults, probe);
    Some(Inbound { mode: mode?, ports: ports?, default_allow: default_allow?, policies: policies?, probes: probes? })
}

fn no_port_twice(ports: &[(u16, MtlsMode)], at: &At<'_>, faults: &mut Faults<'_>) {
    for (i, (port, _)) in ports.iter().enumerate() {
        if ports[..i].iter().any(|(p, _)| p == port) {
            faults.add(&at.index(i), format!("port {port} has a mode already"));
        }
    }
}

fn mode(wire: i32, at: &At<'_>, faults: &mut Faults<'_>) -> Option<MtlsMode> {
    match wire::MtlsMode::try_from(wire) {
        Ok(wire::MtlsMode::MtlsStrict) => Some(MtlsMode::Strict),
        Ok(wire::MtlsMode::MtlsPermissive) => Some(MtlsMode::Permissive),
        Ok(wire::MtlsMode::MtlsDisable) => Some(MtlsMode::Disable),
        _ => {
            faults.add(at, "must be a mode that this proxy knows: strict, permissive or disable");
            None
        }
    }
}

/// Whether the verdict is to allow.
fn verdict(wire: i32, at: &At<'_>, faults: &mut Faults<'_>) -> Option<bool> {
    match wire::Verdict::try_from(wire) {
        Ok(wire::Verdict::Allow) => Some(true),
        Ok(wire::Verdict::Deny) => Some(false),
        _ => {
            faults.add(at, "must be a verdict that this proxy knows: allow or deny");
            None
        }
    }
}

/// The path is brought into the form in which requests arrive; one that has none stays and so matches nothing.
fn probe(wire: &wire::Probe, at: &At<'_>, faults: &mut Faults<'_>) -> Option<Probe> {
    let port = faults.port(&at.field("port"), wire.port);
    let Some(text) = &wire.path else { return Some(Probe { port: port?, path: None, query: "".into() }) };
    faults.text(&at.field("path"), text, "a path that begins with `/`", |p| p.starts_with('/'))?;
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    let path = path::normalise(path).unwrap_or(path.into());
    Some(Probe { port: port?, path: Some(path.into()), query: query.into() })
}

fn policy(wire: &wire::Policy, at: &At<'_>, faults: &mut Faults<'_>) -> Option<Policy> {
    let name = faults.text(&at.field("name"), &wire.name, "`namespace/name`", |n| !n.is_empty());
    let allow = verdict(wire.verdict, &at.field("verdict"), faults);
    faults.within(&at.field("rules"), wire.rules.len(), MAX_LIST);
    let rules = each(&wire.rules, &at.field("rules"), faults, |rule, at, faults| {
        let from = each(&rule.from, &at.field("from"), faults, source);
        let to = each(&rule.to, &at.field("to"), faults, operation);
        Some(Rule { from: from?, to: to? })
    });
    Some(Policy { name: name?.into(), allow: allow?, rules: rules? })
}

/// A source that asks for nothing is refused: it is what is left when a later version's condition was not understood.
fn source(wire: &wire::Source, at: &At<'_>, faults: &mut Faults<'_>) -> Option<Source> {
    if *wire == wire::Source::default() {
        faults.add(at, "asks for nothing that this proxy knows; leave `from` empty to mean anybody");
        return None;
    }
    let principals = each(&wire.principals, &at.field("principals"), faults, principal);
    let not_principals = each(&wire.not_principals, &at.field("not_principals"), faults, principal);
    let namespaces = each(&wire.namespaces, &at.field("namespaces"), faults, namespace);
    let not_namespaces = each(&wire.not_namespaces, &at.field("not_namespaces"), faults, namespace);
    Some(Source {
        principals: principals?,
        not_principals: not_principals?,
        namespaces: namespaces?,
        not_namespaces: not_namespaces?,
    })
}

#[allow(clippy::ptr_arg)] // the shape that `each` hands over
fn principal(text: &String, at: &At<'_>, faults: &mut Faults<'_>) -> Option<Principal> {
    if text == "*" {
        return Some(Principal::Any);
    }
    match text.parse() {
        Ok(id) => Some(Principal::Id(id)),
        Err(why) => {
            faults.add(at, format!("neither `*` nor a whole SPIFFE ID: {why}"));
            None
        }
    }
}

#[allow(clippy::ptr_arg)]
fn namespace(text: &String, at: &At<'_>, faults: &mut Faults<'_>) -> Option<String> {
    faults.text(at, text, "a namespace", is_dns_label)
}

/// An operation that asks for nothing is refused, for the same reason as a source.
fn operation(wire: &wire::Operation, at: &At<'_>, faults: &mut Faults<'_>) -> Option<Operation> {
    if *wire == wire::Operation::default() {
        faults.add(at, "asks for nothing that this proxy knows; leave `to` empty to mean anything");
        return None;
    }
    let methods = |list: &[String], field, faults: &mut Faults<'_>| {
        each(list, &at.field(field), faults, |m, at, faults| pattern::method(m, at, faults))
    };
    let patterns = |list: &[wire::StringMatch], subject, field, faults: &mut Faults<'_>| {
        each(list, &at.field(field), faults, |p, at, faults| pattern::pattern(p, subject, at, faults))
    };
    let ports = |list: &[u32], field, faults: &mut Faults<'_>| {
        each(list, &at.field(field), faults, |p, at, faults| faults.port(at, *p))
    };
    let allowed = (
        methods(&wire.methods, "methods", faults),
        patterns(&wire.paths, Subject::Path, "paths", faults),
        ports(&wire.ports, "ports", faults),
        patterns(&wire.hosts, Subject::Host, "hosts", faults),
    );
    let denied = (
        methods(&wire.not_methods, "not_methods", faults),
        patterns(&wire.not_paths, Subject::Path, "not_paths", faults),
        ports(&wire.not_ports, "not_ports", faults),
        patterns(&wire.not_hosts, Subject::Host, "not_hosts", faults),
    );
    Some(Operation {
        methods: allowed.0?,
        not_methods: denied.0?,
        paths: allowed.1?,
        not_paths: denied.1?,
        ports: allowed.2?,
        not_ports: denied.2?,
        hosts: allowed.3?,
        not_hosts: denied.3?,
    })
}
