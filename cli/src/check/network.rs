//! What NetworkPolicies let through between two pods, as the API's documentation has it: a pod that some policy selects
//! for a direction is closed in it but for what one of them allows. Whether the cluster enforces them is left to its CNI.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::facts::Labels;

/// A pod as policies see it.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// Its namespace.
    pub namespace: String,
    /// The labels of its namespace.
    pub namespace_labels: Labels,
    /// Its labels.
    pub labels: Labels,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its named ports.
    pub ports: BTreeMap<String, u16>,
}

/// Which way, seen from the pod that the policy selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To it.
    Ingress,
    /// From it.
    Egress,
}

/// Protocol and port of the pod that is called.
#[derive(Clone, Copy, Debug)]
pub struct Port {
    /// `TCP` or `UDP`.
    pub protocol: &'static str,
    /// Number.
    pub number: u16,
}

/// The names of the policies that together close `direction` of `subject` to `other`; empty where nothing is closed.
pub fn blockers<'p>(
    policies: &'p [NetworkPolicy],
    direction: Direction,
    subject: &Peer,
    other: &Peer,
    port: Port,
) -> Vec<&'p str> {
    let selecting: Vec<&NetworkPolicy> = policies.iter().filter(|p| selects(p, direction, subject)).collect();
    let callee = if direction == Direction::Egress { other } else { subject };
    if selecting.iter().any(|policy| allows(policy, direction, other, callee, port)) {
        return Vec::new();
    }
    selecting.iter().filter_map(|policy| policy.metadata.name.as_deref()).collect()
}

/// Whether the policy closes `direction` of the pod.
fn selects(policy: &NetworkPolicy, direction: Direction, pod: &Peer) -> bool {
    let Some(spec) = &policy.spec else { return false };
    let closes = match (&spec.policy_types, direction) {
        (Some(types), Direction::Ingress) if !types.is_empty() => types.iter().any(|t| t == "Ingress"),
        (Some(types), Direction::Egress) if !types.is_empty() => types.iter().any(|t| t == "Egress"),
        (_, Direction::Ingress) => true,
        (_, Direction::Egress) => spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()),
    };
    let is_of_namespace = policy.metadata.namespace.as_deref() == Some(&pod.namespace);
    let everything = LabelSelector::default();
    closes && is_of_namespace && matches(spec.pod_selector.as_ref().unwrap_or(&everything), &pod.labels)
}

fn allows(policy: &NetworkPolicy, direction: Direction, other: &Peer, callee: &Peer, port: Port) -> bool {
    let Some(spec) = &policy.spec else { return false };
    let own = policy.metadata.namespace.as_deref().unwrap_or_default();
    let passes = |peers: Option<&Vec<NetworkPolicyPeer>>, ports: Option<&Vec<NetworkPolicyPort>>| {
        let is_peer = peers.is_none_or(|peers| peers.is_empty() || peers.iter().any(|p| is_peer(p, own, other)));
        let is_port = ports.is_none_or(|ports| ports.is_empty() || ports.iter().any(|p| is_port(p, callee, port)));
        is_peer && is_port
    };
    match direction {
        Direction::Ingress => spec.ingress.iter().flatten().any(|r| passes(r.from.as_ref(), r.ports.as_ref())),
        Direction::Egress => spec.egress.iter().flatten().any(|r| passes(r.to.as_ref(), r.ports.as_ref())),
    }
}

fn is_peer(peer: &NetworkPolicyPeer, own_namespace: &str, other: &Peer) -> bool {
    if let Some(block) = &peer.ip_block {
        return other.addresses.iter().any(|address| is_within(block, *address));
    }
    let is_namespace = match &peer.namespace_selector {
        Some(selector) => matches(selector, &other.namespace_labels),
        None => other.namespace == own_namespace,
    };
    is_namespace && peer.pod_selector.as_ref().is_none_or(|selector| matches(selector, &other.labels))
}

fn is_port(allowed: &NetworkPolicyPort, callee: &Peer, port: Port) -> bool {
    if allowed.protocol.as_deref().unwrap_or("TCP") != port.protocol {
        return false;
    }
    match &allowed.port {
        None => true,
        Some(IntOrString::String(name)) => callee.ports.get(name) == Some(&port.number),
        Some(IntOrString::Int(first)) => {
            let last = allowed.end_port.unwrap_or(*first);
            (*first..=last).contains(&i32::from(port.number))
        }
    }
}

/// Whether `selector` matches `labels`; an empty one matches all.
fn matches(selector: &LabelSelector, labels: &Labels) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    equal && selector.match_expressions.iter().flatten().all(|requirement| holds(requirement, labels))
}

fn holds(requirement: &LabelSelectorRequirement, labels: &Labels) -> bool {
    let value = labels.get(&requirement.key);
    let is_listed = value.is_some_and(|value| requirement.values.iter().flatten().any(|listed| listed == value));
    match requirement.operator.as_str() {
        "In" => is_listed,
        "NotIn" => !is_listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

fn is_within(block: &IPBlock, address: IpAddr) -> bool {
    let is_excepted = block.except.iter().flatten().any(|range| in_range(range, address));
    in_range(&block.cidr, address) && !is_excepted
}

fn in_range(range: &str, address: IpAddr) -> bool {
    let Some((base, length)) = range.split_once('/') else { return false };
    let (Ok(base), Ok(length)) = (base.parse::<IpAddr>(), length.parse::<u32>()) else { return false };
    match (base, address) {
        (IpAddr::V4(base), IpAddr::V4(address)) if length <= 32 => {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            u32::from(base) & mask == u32::from(address) & mask
        }
        (IpAddr::V6(base), IpAddr::V6(address)) if length <= 128 => {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            u128::from(base) & mask == u128::from(address) & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
