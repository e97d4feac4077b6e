//! The CA, the roots that namespaces hold, and the certificates of proxies.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::facts::Facts;
use super::super::finding::{Finding, Findings, Group};
use super::{count, word};
use crate::certs;
use crate::terminal::spoken_seconds;

const DAY: i64 = 24 * 3600;

pub(super) fn judge(facts: &Facts, proxies: &[Value]) -> Vec<Finding> {
    let mut findings = Findings::of(Group::Certificates);
    authority(facts, &mut findings);
    agreement(facts, &mut findings);
    bundles(facts, &mut findings);
    leaves(facts, proxies, &mut findings);
    findings.all
}

/// Serial numbers of the roots that the control plane trusts now, as all its replicas say.
pub(super) fn roots(facts: &Facts) -> BTreeSet<String> {
    trusts(facts).flat_map(serials).collect()
}

fn trusts(facts: &Facts) -> impl Iterator<Item = &Value> {
    facts.replicas.iter().flatten().filter_map(|replica| replica.views.as_ref().ok()).map(|views| &views.trust)
}

fn serials(trust: &Value) -> BTreeSet<String> {
    let roots = trust["roots"].as_array().map(Vec::as_slice).unwrap_or_default();
    roots.iter().filter_map(|root| root["serial"].as_str()).map(normal).collect()
}

/// A serial number without leading zeros, which some print and others do not.
pub(in super::super) fn normal(serial: &str) -> String {
    serial.trim_start_matches('0').to_ascii_lowercase()
}

fn instant(value: &Value, key: &str) -> Option<i64> {
    certs::instant(&value[key])
}

fn authority(facts: &Facts, findings: &mut Findings) {
    let ends: Vec<i64> = trusts(facts).filter_map(|trust| instant(trust, "issuer_expires")).collect();
    let Some(end) = ends.iter().min() else {
        // Where no replica is ready, that is the problem.
        if facts.replicas.iter().flatten().any(|replica| replica.is_ready) {
            findings.unknown("ca_life", "how long the CA lives", "no replica could be asked");
        }
        return;
    };
    let left = end - facts.now;
    let cure = "put its successor into the Secret causeway-ca: docs/control-plane.md says in which order";
    let when = spoken_seconds(left);
    match left {
        ..=0 => {
            findings.problem("ca_life", format!("the CA ended {when} ago"), cure);
        }
        1..=604_800 => {
            findings.problem("ca_life", format!("the CA ends in {when}"), cure);
        }
        604_801..=5_184_000 => {
            findings.warning("ca_life", format!("the CA ends in {when}"), cure);
        }
        _ => findings.good("ca_life", format!("the CA lives {} more days", left / DAY)),
    }
}

/// All replicas must issue from one CA.
fn agreement(facts: &Facts, findings: &mut Findings) {
    let said: BTreeSet<BTreeSet<String>> = trusts(facts).map(serials).collect();
    if said.len() > 1 {
        let cure = "wait 10 s, replicas read the Secret causeway-ca again by themselves; then see their logs";
        findings.problem("ca_shared", "the replicas do not trust the same roots", cure);
    }
}

fn bundles(facts: &Facts, findings: &mut Findings) {
    let Ok(namespaces) = &facts.namespaces else { return };
    let meshed: Vec<&str> = namespaces.iter().filter(|ns| ns.is_meshed()).map(|ns| ns.name.as_str()).collect();
    let Some(bundles) = findings.known("trust_bundles", "trust bundles", &facts.trust_bundles) else { return };
    let roots = roots(facts);
    if meshed.is_empty() || roots.is_empty() {
        return;
    }
    let (mut missing, mut stale) = (Vec::new(), Vec::new());
    for name in &meshed {
        match bundles.get(*name) {
            None => missing.push((*name).to_owned()),
            Some(held) if !roots.is_subset(held) => stale.push((*name).to_owned()),
            Some(_) => {}
        }
    }
    let cure = "the leader writes it within seconds: if it stays so, see the leader's log";
    if !missing.is_empty() {
        let text = "namespaces without the ConfigMap causeway-trust-bundle: pods wait for it";
        findings.problem("trust_bundles", text, cure).items = missing;
    } else if !stale.is_empty() {
        findings.problem("trust_bundles", "namespaces with an old trust bundle", cure).items = stale;
    } else {
        findings.good("trust_bundles", format!("{} with the mesh's roots", count(meshed.len(), "namespace")));
    }
}

/// A proxy renews at 70 % of a certificate's life; whoever has so little left did not, seconds.
const ENDING: i64 = 120;

fn leaves(facts: &Facts, proxies: &[Value], findings: &mut Findings) {
    let left = |proxy: &Value| instant(proxy, "certificate_expires").map(|end| end - facts.now);
    let ending: Vec<String> = proxies
        .iter()
        .filter_map(|proxy| Some((proxy, left(proxy)?)))
        .filter(|(_, left)| *left < ENDING)
        .map(|(proxy, left)| format!("{} {}", word(proxy, "workload"), spoken_seconds(left.max(0))))
        .collect();
    if !ending.is_empty() {
        let text = format!("{} did not renew in time", count(ending.len(), "certificate"));
        findings.warning("certificates", text, "causeway proxy NAMESPACE/POD says the last error").items = ending;
    } else if let Some(shortest) = proxies.iter().filter_map(left).min() {
        let text = format!("every connected proxy has one, the next to end in {}", spoken_seconds(shortest));
        findings.good("certificates", text);
    }
}
