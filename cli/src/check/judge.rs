//! From facts to findings, without a clock or a socket; each group of checks in a file of its own.

mod certificates;
mod configuration;
mod control_plane;
mod kubernetes;
mod network_policies;
#[cfg(test)]
mod tests;
mod workloads;

pub(super) use certificates::normal;

use serde_json::Value;

use super::facts::Facts;
use super::finding::Finding;
use crate::replicas;

/// Every finding about `facts`, in the order in which they are printed.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut all = kubernetes::judge(facts);
    all.extend(control_plane::judge(facts));
    if !is_installed(facts) {
        return all;
    }
    let proxies = facts.replicas.as_ref().ok().map(|replicas| replicas::proxies(replicas)).unwrap_or_default();
    all.extend(certificates::judge(facts, &proxies));
    all.extend(workloads::judge(facts, &proxies));
    all.extend(network_policies::judge(facts, &proxies));
    all.extend(configuration::judge(facts));
    all
}

/// Whether Causeway is in the cluster, as far as can be told.
pub fn is_installed(facts: &Facts) -> bool {
    !matches!(facts.deployment, Ok(None))
}

/// `3 pods`, `1 pod`.
fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// The text under `key`, or nothing.
fn word<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}
