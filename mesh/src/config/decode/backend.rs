//! Backends: how their endpoints are used.

use std::time::Duration;

use super::destination::{milliseconds, protocol};
use super::pattern::header_name;
use super::{At, Faults, each};
use crate::config::backend::{
    Algorithm, Backend, Failover, HashKey, Keepalive, Limits, LoadBalancing, OriginateTls, Outlier, RetryBudget,
    SlowStart, Zones,
};
use crate::name;
use crate::wire;

/// Keys of one consistent hash.
const MAX_KEYS: usize = 16;
/// Regions of one rule of failover.
const MAX_FAILOVERS: usize = 64;
/// Names of one backend outside of the mesh.
const MAX_NAMES: usize = 256;
/// Roots and names of one TLS setting.
const MAX_TLS_ENTRIES: usize = 256;

pub(super) fn backend(b: &wire::Backend, at: &At<'_>, faults: &mut Faults<'_>) -> Option<Backend> {
    let name = faults.text(&at.field("name"), &b.name, "a name", |n| !n.is_empty());
    // A reference that is not valid may name no port at all.
    let port = match (b.port, b.broken.is_empty()) {
        (0, false) => Some(0),
        (port, _) => faults.port(&at.field("port"), port),
    };
    let connect_timeout = milliseconds(b.connect_timeout_ms, &at.field("connect_timeout_ms"), faults);
    let load_balancing = match &b.load_balancing {
        None => Some(LoadBalancing::default()),
        Some(wire) => self::load_balancing(wire, &at.field("load_balancing"), faults),
    };
    let limits = match &b.limits {
        None => Some(Limits::default()),
        Some(wire) => self::limits(wire, &at.field("limits"), faults),
    };
    let outlier = match &b.outlier {
        None => Some(None),
        Some(wire) => self::outlier(wire, &at.field("outlier"), faults).map(Some),
    };
    let tls = match &b.tls {
        None => Some(None),
        Some(wire) => self::tls(wire, &at.field("tls"), faults).map(Some),
    };
    let retry_budget = match &b.retry_budget {
        None => Some(RetryBudget::default()),
        Some(wire) => {
            let percent = at_most(wire.percent, 100, &at.field("retry_budget"), "percent", faults);
            percent.map(|percent| RetryBudget { percent, min_concurrency: wire.min_concurrency })
        }
    };
    let names = at.field("dns");
    let is_within = faults.within(&names, b.dns.len(), MAX_NAMES);
    let dns = if is_within { each(&b.dns, &names, faults, |name, at, faults| dns(name, at, faults)) } else { None };
    let protocol = protocol(b.protocol, &at.field("protocol"), faults);
    let idle_timeout = milliseconds(b.idle_timeout_ms, &at.field("idle_timeout_ms"), faults);
    Some(Backend {
        name: name?.into(),
        service: b.service.clone(),
        namespace: b.namespace.clone(),
        port: port?,
        subset: b.subset.clone(),
        connect_timeout: connect_timeout?,
        plaintext: b.plaintext,
        load_balancing: load_balancing?,
        limits: limits?,
        outlier: outlier?,
        tls: tls?,
        retry_budget: retry_budget?,
        broken: (!b.broken.is_empty()).then(|| b.broken.clone()),
        dns: dns?,
        protocol: protocol?,
        idle_timeout: idle_timeout?,
    })
}

fn dns(wire: &str, at: &At<'_>, faults: &mut Faults<'_>) -> Option<String> {
    match name::host_port(wire) {
        Ok(name::HostPort { host, port: Some(port) }) => Some(name::subscription(&host, port)),
        Ok(_) => faults.none(*at, "needs a port"),
        Err(why) => faults.none(*at, format!("`{}`: {why}", super::shown(wire))),
    }
}

fn load_balancing(wire: &wire::LoadBalancing, at: &At<'_>, faults: &mut Faults<'_>) -> Option<LoadBalancing> {
    use wire::load_balancing::{Algorithm as Wire, Zones as WireZones};
    let algorithm = match Wire::try_from(wire.algorithm) {
        Ok(Wire::PeakEwma) => Some(Algorithm::PeakEwma),
        Ok(Wire::LeastRequest) => Some(Algorithm::LeastRequest),
        Ok(Wire::RoundRobin) => Some(Algorithm::RoundRobin),
        Ok(Wire::Random) => Some(Algorithm::Random),
        Ok(Wire::ConsistentHash) => consistent_hash(wire, at, faults),
        Err(_) => faults.none(at.field("algorithm"), format!("{} is not one that this proxy knows", wire.algorithm)),
    };
    let zones = match WireZones::try_from(wire.zones) {
        Ok(WireZones::AsHinted) => Some(Zones::AsHinted),
        Ok(WireZones::Off) => Some(Zones::Off),
        Ok(WireZones::Prefer) => Some(Zones::Prefer),
        Err(_) => faults.none(at.field("zones"), format!("{} is not a choice that this proxy knows", wire.zones)),
    };
    let slow_start = slow_start(wire, at, faults);
    let affinity = affinity(wire, at, faults);
    let list = at.field("failover");
    let failover = if faults.within(&list, wire.failover.len(), MAX_FAILOVERS) {
        each(&wire.failover, &list, faults, failover)
    } else {
        None
    };
    Some(LoadBalancing {
        algorithm: algorithm?,
        slow_start: slow_start?,
        zones: zones?,
        failover: failover?,
        affinity: affinity?,
    })
}

fn failover(wire: &wire::Failover, at: &At<'_>, faults: &mut Faults<'_>) -> Option<Failover> {
    let mut region = |field, name: &str| faults.text(&at.field(field), name, "the name of a region", |n| !n.is_empty());
    let (from, to) = (region("from", &wire.from), region("to", &wire.to));
    Some(Failover { from: from?, to: to? })
}

fn affinity(wire: &wire::LoadBalancing, at: &At<'_>, faults: &mut Faults<'_>) -> Option<Option<Duration>> {
    let at = at.field("affinity_ms");
    if wire.affinity_ms > 0 && wire.algorithm() != wire::load_balancing::Algorithm::ConsistentHash {
        return faults.none(at, "is set where the algorithm is not CONSISTENT_HASH");
    }
    milliseconds(wire.affinity_ms, &at, faults)
}

fn consistent_hash(wire: &wire::LoadBalancing, at: &At<'_>, faults: &mut Faults<'_>) -> Option<Algorithm> {
    let list = at.field("hash");
    if wire.hash.is_empty() {
        faults.add(&list, "is empty");
    }
    let keys =
        if faults.within(&list, wire.hash.len(), MAX_KEYS) { each(&wire.hash, &list, faults, hash_key) } else { None };
    let balance_percent = match wire.hash_balance_percent {
        0 => Some(125),
        percent if percent > 100 => Some(percent),
        percent => faults.none(at.field("hash_balance_percent"), format!("{percent} is not above 100")),
    };
    Some(Algorithm::ConsistentHash { keys: keys?, balance_percent: balance_percent? })
}

fn hash_key(wire: &wire::HashKey, at: &At<'_>, faults: &mut Faults<'_>) -> Option<HashKey> {
    use wire::hash_key::Kind;
    let is_token = |n: &str| !n.is_empty() && n.bytes().all(|b| b.is_ascii_graphic() && b != b';' && b != b'=');
    match &wire.kind {
        Some(Kind::Header(name)) => header_name(name, &at.field("header"), faults).map(HashKey::Header),
        Some(Kind::Cookie(cookie)) => {
            let at = at.field("cookie");
            let name = faults.text(&at.field("name"), &cookie.name, "the name of a cookie", is_token);
            let is_path = |p: &str| p.bytes().all(|b| b.is_ascii() && !b.is_ascii_control() && b != b';');
            let path = faults.text(&at.field("path"), &cookie.path, "a cookie's path", is_path);
            let ttl = cookie.ttl_s.map(Duration::from_secs);
            Some(HashKey::Cookie { name: name?, path: path?, ttl })
        }
        Some(Kind::Query(name)) => {
            faults.text(&at.field("query"), name, "a name", |n| !n.is_empty()).map(HashKey::Query)
        }
        Some(Kind::SourceAddress(true)) => Some(HashKey::SourceAddress),
        Some(Kind::SourceIdentity(true)) => Some(HashKey::SourceIdentity),
        Some(Kind::SourceAddress(false) | Kind::SourceIdentity(false)) => faults.none(*at, "must be true"),
        None => faults.none(*at, "has no kind, or one that this proxy does not know"),
    }
}

fn slow_start(wire: &wire::LoadBalancing, at: &At<'_>, faults: &mut Faults<'_>) -> Option<Option<SlowStart>> {
    let window = milliseconds(wire.slow_start_ms, &at.field("slow_start_ms"), faults);
    let min_percent = at_most(wire.slow_start_min_percent, 100, at, "slow_start_min_percent", faults);
    let aggression = match wire.slow_start_aggression {
        0.0 => Some(1.0),
        a if a.is_finite() && a > 0.0 => Some(a),
        a => faults.none(at.field("slow_start_aggression"), format!("{a} is not a number above 0")),
    };
    let (window, min_percent, aggression) = (window?, min_percent?, aggression?);
    let min_percent = if min_percent == 0 { 10 } else { min_percent };
    Some(window.map(|window| SlowStart { window, min_percent, aggression }))
}

fn at_most(wire: u32, most: u32, at: &At<'_>, field: &str, faults: &mut Faults<'_>) -> Option<u32> {
    if wire > most {
        return faults.none(at.field(field), format!("{wire} is more than {most}"));
    }
    Some(wire)
}

/// None where the wire says 0.
fn limit(wire: u32) -> Option<u32> {
    (wire > 0).then_some(wire)
}

fn limits(wire: &wire::Limits, at: &At<'_>, faults: &mut Faults<'_>) -> Option<Limits> {
    let connection_life = milliseconds(wire.max_connection_ms, &at.field("max_connection_ms"), faults);
    let tcp_idle = milliseconds(wire.tcp_idle_ms, &at.field("tcp_idle_ms"), faults);
    let keepalive = match &wire.keepalive {
        None => Some(None),
        Some(wire) => {
            let at = at.field("keepalive");
            let time = milliseconds(wire.time_ms, &at.field("time_ms"), faults);
            let interval = milliseconds(wire.interval_ms, &at.field("interval_ms"), faults);
            time.zip(interval).map(|(time, interval)| Some(Keepalive { probes: limit(wire.probes), time, interval }))
        }
    };
    Some(Limits {
        connections: limit(wire.max_connections),
        pending: limit(wire.max_pending),
        requests: limit(wire.max_requests),
        retries: limit(wire.max_retries),
        requests_per_connection: limit(wire.max_requests_per_connection),
        streams_per_connection: limit(wire.max_streams_per_connection),
        connection_life: connection_life?,
        tcp_idle: tcp_idle?,
        keepalive: keepalive?,
    })
}

fn outlier(wire: &wire::Outlier, at: &At<'_>, faults: &mut Faults<'_>) -> Option<Outlier> {
    let interval = milliseconds(wire.interval_ms, &at.field("interval_ms"), faults);
    let base_ejection = milliseconds(wire.base_ejection_ms, &at.field("base_ejection_ms"), faults);
    let max_ejection_percent = at_most(wire.max_ejection_percent, 100, at, "max_ejection_percent", faults);
    let min_health_percent = at_most(wire.min_health_percent, 100, at, "min_health_percent", faults);
    let latency_percent = match wire.latency_percent {
        0 => Some(None),
        percent if percent > 100 => Some(Some(percent)),
        percent => faults.none(at.field("latency_percent"), format!("{percent} is not above 100")),
    };
    Some(Outlier {
        server_errors: limit(wire.consecutive_5xx),
        gateway_errors: limit(wire.consecutive_gateway_errors),
        connect_failures: limit(wire.consecutive_connect_failures),
        latency_percent: latency_percent?,
        interval: interval?.unwrap_or(Duration::from_secs(10)),
        base_ejection: base_ejection?.unwrap_or(Duration::from_secs(30)),
        max_ejection_percent: match max_ejection_percent? {
            0 => 10,
            percent => percent,
        },
        min_health_percent: min_health_percent?,
    })
}

fn tls(wire: &wire::OriginateTls, at: &At<'_>, faults: &mut Faults<'_>) -> Option<OriginateTls> {
    let is_within = faults.within(&at.field("roots_der"), wire.roots_der.len(), MAX_TLS_ENTRIES)
        & faults.within(&at.field("subject_alt_names"), wire.subject_alt_names.len(), MAX_TLS_ENTRIES);
    if wire.certificate_path.is_empty() != wire.key_path.is_empty() {
        faults.add(&at.field("key_path"), "a client certificate and its key go together");
        return None;
    }
    is_within.then(|| OriginateTls {
        sni: wire.sni.clone(),
        subject_alt_names: wire.subject_alt_names.clone(),
        roots: wire.roots_der.clone(),
        insecure_skip_verify: wire.insecure_skip_verify,
        certificate_path: wire.certificate_path.clone(),
        key_path: wire.key_path.clone(),
        roots_path: wire.roots_path.clone(),
    })
}

#[cfg(test)]
mod tests;
