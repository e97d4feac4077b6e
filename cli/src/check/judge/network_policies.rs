//! NetworkPolicies that keep proxies from the control plane or from the cluster's DNS. Traffic between workloads uses
//! the pods' own ports, so policies for it need nothing new.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::facts::{Facts, Labels, Workload};
use super::super::finding::{Finding, Findings, Group};
use super::super::network::{Direction, Peer, Port, blockers};
use super::word;

const GRPC: Port = Port { protocol: "TCP", number: 15010 };
const DNS: Port = Port { protocol: "UDP", number: 53 };

const CURE: &str = "allow egress to namespace causeway-system, TCP 15010, and to the DNS, port 53: \
                    docs/kubernetes.md has the policy";

pub(super) fn judge(facts: &Facts, proxies: &[Value]) -> Vec<Finding> {
    let mut findings = Findings::of(Group::Workloads);
    let Ok(pods) = &facts.pods else { return findings.all };
    let Some(policies) = findings.known("network_policies", "NetworkPolicies", &facts.policies) else {
        return findings.all;
    };
    let labels_of: BTreeMap<&str, &Labels> =
        facts.namespaces.iter().flatten().map(|namespace| (namespace.name.as_str(), &namespace.labels)).collect();
    let connected: BTreeSet<&str> = proxies.iter().map(|proxy| word(proxy, "workload")).collect();
    let nothing = Labels::new();
    let (mut cut_off, mut seen): (BTreeMap<String, Closed>, BTreeSet<(&str, &Labels)>) = Default::default();
    for pod in pods.iter().filter(|pod| pod.is_injected() && !pod.is_ending) {
        // Pods of one template stand or fall together.
        if !seen.insert((&pod.namespace, &pod.labels)) {
            continue;
        }
        let peer = pod.peer(labels_of.get(pod.namespace.as_str()).unwrap_or(&&nothing));
        let (what, names) = closed_to(facts, policies, &peer);
        if !names.is_empty() {
            let closed =
                cut_off.entry(format!("{}: {what} closed by {}", pod.namespace, names.join(", "))).or_default();
            closed.note(pod, &connected);
        }
    }
    if cut_off.is_empty() {
        if !policies.is_empty() {
            findings.good("network_policies", "no NetworkPolicy cuts a proxy off");
        }
        return findings.all;
    }
    let is_enforced = !cut_off.values().all(|closed| closed.is_connected);
    let items = cut_off.into_keys().collect::<Vec<_>>();
    if is_enforced {
        findings.problem("network_policies", "NetworkPolicies cut proxies off", CURE).items = items;
    } else {
        let text = "NetworkPolicies would cut proxies off where they are enforced (here they are not: the proxies are \
                    connected)";
        findings.warning("network_policies", text, CURE).items = items;
    }
    findings.all
}

#[derive(Default)]
struct Closed {
    is_connected: bool,
}

impl Closed {
    fn note(&mut self, pod: &Workload, connected: &BTreeSet<&str>) {
        self.is_connected |= connected.contains(pod.key().as_str());
    }
}

/// What is closed to the pod, and by which policies.
fn closed_to(
    facts: &Facts,
    policies: &[k8s_openapi::api::networking::v1::NetworkPolicy],
    pod: &Peer,
) -> (&'static str, Vec<String>) {
    for control_plane in &facts.control_plane_peers {
        let out = blockers(policies, Direction::Egress, pod, control_plane, GRPC);
        if !out.is_empty() {
            return ("egress to the control plane", owned(&out));
        }
        let in_ = blockers(policies, Direction::Ingress, control_plane, pod, GRPC);
        if !in_.is_empty() {
            return ("ingress of the control plane", owned(&in_));
        }
    }
    // One server of several is enough.
    let dns: Vec<_> = facts.dns_peers.iter().map(|dns| blockers(policies, Direction::Egress, pod, dns, DNS)).collect();
    match dns.first() {
        Some(first) if dns.iter().all(|names| !names.is_empty()) => ("egress to the DNS", owned(first)),
        _ => ("", Vec::new()),
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
