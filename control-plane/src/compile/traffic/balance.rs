//! How an endpoint is chosen.

use crate::compile::matching::is_token;
use crate::compile::virtual_service::Report;
use causeway_crds::traffic_policy::{ConsistentHash, Failover, HttpCookie, LoadBalancer};
use causeway_mesh::wire::load_balancing::{Algorithm, Zones};
use causeway_mesh::wire::{self, hash_key};

/// None where it is as by default.
pub(super) fn balancing(report: &mut Report<'_>, at: &str, asked: &LoadBalancer) -> Option<wire::LoadBalancing> {
    let mut found = wire::LoadBalancing::default();
    if let Some(simple) = asked.simple.as_deref() {
        found.algorithm = algorithm(report, &format!("{at}.simple"), simple).into();
    }
    if let Some(hash) = &asked.consistent_hash {
        if asked.simple.is_some() {
            let message = "only one of simple and consistentHash may be set; consistentHash is used";
            report.error("ambiguous_action", at, message, "Keep one of them.");
        }
        found.hash = keys(report, &format!("{at}.consistentHash"), hash);
        if !found.hash.is_empty() {
            found.algorithm = Algorithm::ConsistentHash.into();
        }
        // All that one proxy sends has this key, so a bound by load would only tear apart what is to stay together.
        if matches!(&*found.hash, [wire::HashKey { kind: Some(hash_key::Kind::SourceAddress(_)) }]) {
            found.hash_balance_percent = u32::MAX;
        }
    }
    if let Some(locality) = &asked.locality_lb_setting {
        let zones = if locality.enabled == Some(false) { Zones::Off } else { Zones::Prefer };
        found.zones = zones.into();
        if zones == Zones::Prefer {
            found.failover = failover(report, &format!("{at}.localityLbSetting.failover"), &locality.failover);
        }
    }
    warmup(report, at, asked, &mut found);
    (found != wire::LoadBalancing::default()).then_some(found)
}

/// Which region takes over for which; the first that names a region holds.
fn failover(report: &mut Report<'_>, at: &str, asked: &[Failover]) -> Vec<wire::Failover> {
    let mut found: Vec<wire::Failover> = Vec::new();
    for (index, one) in asked.iter().enumerate() {
        let mut region = |field: &str, name: Option<&str>| {
            let name = name.unwrap_or_default();
            let is_region = !name.is_empty() && !name.contains(['/', '*']);
            if !is_region {
                let message =
                    format!("`{}` is not the name of a region, so the rule is passed over", name.escape_debug());
                report.error("unknown_value", &format!("{at}[{index}].{field}"), message, "Write a region alone.");
            }
            is_region.then(|| name.to_owned())
        };
        let (from, to) = (region("from", one.from.as_deref()), region("to", one.to.as_deref()));
        if let (Some(from), Some(to)) = (from, to) {
            found.push(wire::Failover { from, to });
        }
    }
    found
}

fn algorithm(report: &mut Report<'_>, field: &str, simple: &str) -> Algorithm {
    match simple {
        "PEAK_EWMA" | "UNSPECIFIED" => Algorithm::PeakEwma,
        "LEAST_REQUEST" | "LEAST_CONN" => Algorithm::LeastRequest,
        "ROUND_ROBIN" => Algorithm::RoundRobin,
        "RANDOM" => Algorithm::Random,
        other => {
            let message = match other {
                "PASSTHROUGH" => "connections to a Service are always balanced; the default is used".to_owned(),
                other => format!("`{}` is not a known algorithm; the default is used", other.escape_debug()),
            };
            let advice = "Use PEAK_EWMA, LEAST_REQUEST, ROUND_ROBIN or RANDOM.";
            report.error("unknown_value", field, message, advice);
            Algorithm::PeakEwma
        }
    }
}

/// Every key that is set, in a fixed order: the first that a request has a value of is used.
fn keys(report: &mut Report<'_>, at: &str, asked: &ConsistentHash) -> Vec<wire::HashKey> {
    let mut kinds = Vec::new();
    if let Some(name) = &asked.http_header_name {
        if is_token(name) {
            kinds.push(hash_key::Kind::Header(name.to_ascii_lowercase()));
        } else {
            let message = "this cannot be the name of a header, so it is no key";
            report.error("invalid_header", &format!("{at}.httpHeaderName"), message, "Correct the name.");
        }
    }
    kinds.extend(asked.http_cookie.as_ref().and_then(|c| cookie(report, &format!("{at}.httpCookie"), c)));
    kinds.extend(asked.http_query_parameter_name.clone().filter(|n| !n.is_empty()).map(hash_key::Kind::Query));
    kinds.extend(asked.use_source_identity.filter(|u| *u).map(hash_key::Kind::SourceIdentity));
    kinds.extend(asked.use_source_ip.filter(|u| *u).map(hash_key::Kind::SourceAddress));
    if kinds.is_empty() {
        let message = "it names no key, so the default balancing is used";
        let advice =
            "Set one of httpHeaderName, httpCookie, httpQueryParameterName, useSourceIdentity and useSourceIp.";
        report.error("invalid_key", at, message, advice);
    }
    kinds.into_iter().map(|kind| wire::HashKey { kind: Some(kind) }).collect()
}

fn cookie(report: &mut Report<'_>, at: &str, asked: &HttpCookie) -> Option<hash_key::Kind> {
    let name = asked.name.clone().unwrap_or_default();
    if !is_token(&name) {
        let message = "this cannot be the name of a cookie, so it is no key";
        report.error("invalid_key", &format!("{at}.name"), message, "Correct the name.");
        return None;
    }
    let path = asked.path.clone().unwrap_or_default();
    if path.bytes().any(|b| b == b';' || b.is_ascii_control() || !b.is_ascii()) {
        let message = "this cannot be the path of a cookie, so it is no key";
        report.error("invalid_path", &format!("{at}.path"), message, "Correct the path.");
        return None;
    }
    let ttl = report.millis(asked.ttl.as_deref(), &format!("{at}.ttl"), "the proxy sets no cookie");
    let cookie = wire::Cookie { name, path, ttl_s: ttl.map(|ms| ms.div_ceil(1000)) };
    Some(hash_key::Kind::Cookie(cookie))
}

fn warmup(report: &mut Report<'_>, at: &str, asked: &LoadBalancer, found: &mut wire::LoadBalancing) {
    if let Some(warmup) = &asked.warmup {
        let field = format!("{at}.warmup.duration");
        if warmup.duration.is_none() {
            let message = "this field is required, so new endpoints get their whole share at once";
            report.error("missing_field", &field, message, "Write it like 30s.");
        }
        let duration = warmup.duration.as_deref();
        found.slow_start_ms = report.millis(duration, &field, "new endpoints get their whole share").unwrap_or(0);
        if found.slow_start_ms > 0 {
            // Istio counts in percent, from 0 to 100; none at all would never warm anything up.
            found.slow_start_min_percent = warmup.minimum_percent.map_or(0, |p| p.clamp(1.0, 100.0).round() as u32);
            found.slow_start_aggression = warmup.aggression.map_or(0.0, |a| a.clamp(1.0, 100.0));
        }
    } else if asked.warmup_duration_secs.is_some() {
        let (field, text) = (format!("{at}.warmupDurationSecs"), asked.warmup_duration_secs.as_deref());
        found.slow_start_ms = report.millis(text, &field, "new endpoints get their whole share").unwrap_or(0);
    }
}
