//! Policies as people write them, against the two calls that a proxy must be able to make.
#![allow(clippy::unwrap_used)]

use super::*;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn web() -> Peer {
    Peer { namespace: "dev".to_owned(), labels: labels(&[("app", "web")]), ..Peer::default() }
}

fn control_plane() -> Peer {
    Peer {
        namespace: "causeway-system".to_owned(),
        namespace_labels: labels(&[("kubernetes.io/metadata.name", "causeway-system")]),
        labels: labels(&[("app.kubernetes.io/name", "causeway-control-plane")]),
        addresses: vec!["10.244.0.7".parse().unwrap()],
        ports: [("grpc".to_owned(), 15010)].into(),
    }
}

const GRPC: Port = Port { protocol: "TCP", number: 15010 };

fn policy(name: &str, namespace: &str, spec: &str) -> NetworkPolicy {
    let mut policy: NetworkPolicy = serde_yaml::from_str(&format!("spec: {spec}")).unwrap();
    policy.metadata.name = Some(name.to_owned());
    policy.metadata.namespace = Some(namespace.to_owned());
    policy
}

fn egress(spec: &str) -> bool {
    let policies = [policy("p", "dev", spec)];
    blockers(&policies, Direction::Egress, &web(), &control_plane(), GRPC).is_empty()
}

#[test]
fn without_a_policy_nothing_is_closed() {
    assert!(blockers(&[], Direction::Egress, &web(), &control_plane(), GRPC).is_empty());
}

#[test]
fn a_policy_closes_its_own_directions_only() {
    assert!(!egress("{podSelector: {}, policyTypes: [Ingress, Egress]}"));
    assert!(egress("{podSelector: {}, policyTypes: [Ingress]}"));
    assert!(egress("{podSelector: {}}"), "without types and egress rules it is about ingress");
    assert!(!egress("{podSelector: {}, egress: [{ports: [{port: 53, protocol: UDP}]}]}"));
}

#[test]
fn a_policy_of_another_namespace_or_for_other_pods_closes_nothing() {
    let deny = "{podSelector: {}, policyTypes: [Egress]}";
    let policies = [policy("deny", "prod", deny)];
    assert!(blockers(&policies, Direction::Egress, &web(), &control_plane(), GRPC).is_empty());
    assert!(egress("{podSelector: {matchLabels: {app: other}}, policyTypes: [Egress]}"));
    assert!(egress(
        "{podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [web]}]}, policyTypes: [Egress]}"
    ));
    assert!(!egress("{podSelector: {matchExpressions: [{key: app, operator: Exists}]}, policyTypes: [Egress]}"));
}

#[test]
fn peers_are_named_by_namespace_by_pod_or_by_address() {
    let to = |peer: &str| egress(&format!("{{podSelector: {{}}, policyTypes: [Egress], egress: [{{to: [{peer}]}}]}}"));
    assert!(to("{namespaceSelector: {}}"));
    assert!(to("{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: causeway-system}}}"));
    assert!(!to("{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: prod}}}"));
    assert!(!to("{podSelector: {}}"), "a pod selector alone means the policy's own namespace");
    assert!(!to("{namespaceSelector: {}, podSelector: {matchLabels: {k8s-app: kube-dns}}}"));
    assert!(to("{ipBlock: {cidr: 10.244.0.0/16}}"));
    assert!(to("{ipBlock: {cidr: 0.0.0.0/0}}"));
    assert!(!to("{ipBlock: {cidr: 10.244.0.0/16, except: [10.244.0.0/24]}}"));
    assert!(!to("{ipBlock: {cidr: 'fd00::/8'}}"));
}

#[test]
fn ports_are_numbers_ranges_or_names_of_the_callee() {
    let on =
        |port: &str| egress(&format!("{{podSelector: {{}}, policyTypes: [Egress], egress: [{{ports: [{port}]}}]}}"));
    assert!(on("{port: 15010}"));
    assert!(on("{port: 15000, endPort: 15020}"));
    assert!(on("{port: grpc}"));
    assert!(on("{protocol: TCP}"));
    assert!(!on("{port: 15010, protocol: UDP}"));
    assert!(!on("{port: 443}"));
    assert!(!on("{port: webhook}"));
}

#[test]
fn one_policy_that_allows_is_enough_and_the_closing_ones_are_named() {
    let deny = policy("default-deny", "dev", "{podSelector: {}, policyTypes: [Egress]}");
    let dns = policy("dns", "dev", "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 53}]}]}");
    let mesh = policy("mesh", "dev", "{podSelector: {}, egress: [{ports: [{port: 15010}]}]}");
    let both = [deny.clone(), dns.clone()];
    assert_eq!(blockers(&both, Direction::Egress, &web(), &control_plane(), GRPC), vec!["default-deny", "dns"]);
    assert!(blockers(&[deny, dns, mesh], Direction::Egress, &web(), &control_plane(), GRPC).is_empty());
}

#[test]
fn ingress_of_the_control_plane_is_judged_by_its_own_namespace() {
    let closed = [policy("closed", "causeway-system", "{podSelector: {}, policyTypes: [Ingress]}")];
    assert_eq!(blockers(&closed, Direction::Ingress, &control_plane(), &web(), GRPC), vec!["closed"]);
    let open = [policy("open", "causeway-system", "{podSelector: {}, ingress: [{ports: [{port: grpc}]}]}")];
    assert!(blockers(&open, Direction::Ingress, &control_plane(), &web(), GRPC).is_empty());
}
