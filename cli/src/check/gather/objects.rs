//! Lists and single objects, each cut down to what is judged.

use std::collections::{BTreeMap, BTreeSet};

use causeway_crds::manifest::manifests;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::apps::v1::Deployment as ApiDeployment;
use k8s_openapi::api::coordination::v1::Lease as ApiLease;
use k8s_openapi::api::core::v1::{Namespace as ApiNamespace, Node as ApiNode, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use serde_json::Value;

use super::super::facts::{Definition, DefinitionState, Deployment, Known, Lease, Namespace, Node, Webhook, Workload};
use super::super::network::Peer;
use super::super::{INJECTOR, VALIDATOR};
use super::{list, serials, why};
use crate::cluster::{CONTROL_PLANE, Cluster, NAMESPACE};

pub(super) async fn nodes(cluster: &Cluster) -> Known<Vec<Node>> {
    let (nodes, leases) = (Api::<ApiNode>::all(cluster.client()), Api::namespaced(cluster.client(), "kube-node-lease"));
    let (nodes, leases) = tokio::join!(list(cluster, &nodes, "", node), list(cluster, &leases, "", node_clock));
    let clocks: BTreeMap<String, i64> = leases.unwrap_or_default().into_iter().flatten().collect();
    let mut nodes = nodes?;
    for node in &mut nodes {
        node.ahead = clocks.get(&node.name).copied();
    }
    Ok(nodes)
}

fn node(node: ApiNode) -> Node {
    let info = node.status.and_then(|status| status.node_info);
    Node {
        name: node.metadata.name.unwrap_or_default(),
        kubelet: info.map(|info| info.kubelet_version).unwrap_or_default(),
        ahead: None,
    }
}

/// A kubelet writes its own time into its Lease, and the API server notes beside it when it did.
fn node_clock(lease: ApiLease) -> Option<(String, i64)> {
    let renewed = lease.spec?.renew_time?.0.as_second();
    let written =
        lease.metadata.managed_fields?.into_iter().filter_map(|entry| Some(entry.time?.0.as_second())).max()?;
    let ahead = renewed - written;
    Some((lease.metadata.name?, if ahead.abs() <= 1 { 0 } else { ahead }))
}

pub(super) async fn definitions(cluster: &Cluster) -> Known<Vec<Definition>> {
    let api: Api<CustomResourceDefinition> = Api::all(cluster.client());
    let mut all = Vec::new();
    for manifest in manifests() {
        let found = why(cluster.ask(api.get_opt(&manifest.name)).await)?;
        let state = found.map_or(DefinitionState::Missing, |found| {
            let is_established = found
                .status
                .iter()
                .flat_map(|status| status.conditions.iter().flatten())
                .any(|condition| condition.type_ == "Established" && condition.status == "True");
            let there = serde_json::to_value(&found.spec).unwrap_or_default();
            if !is_part(&manifest.definition["spec"]["versions"], &there["versions"]) {
                DefinitionState::Different
            } else if is_established {
                DefinitionState::Current
            } else {
                DefinitionState::NotEstablished
            }
        });
        all.push(Definition { name: manifest.name, state });
    }
    Ok(all)
}

/// Whether all of `expected` is in `there`, which may have more: the API server sets defaults.
fn is_part(expected: &Value, there: &Value) -> bool {
    match (expected, there) {
        (Value::Object(expected), Value::Object(there)) => {
            expected.iter().all(|(key, value)| there.get(key).is_some_and(|there| is_part(value, there)))
        }
        (Value::Array(expected), Value::Array(there)) => {
            expected.len() == there.len()
                && expected.iter().zip(there).all(|(expected, there)| is_part(expected, there))
        }
        (Value::Number(expected), Value::Number(there)) => expected.as_f64() == there.as_f64(),
        _ => expected == there,
    }
}

pub(super) async fn deployment(cluster: &Cluster) -> Known<Option<Deployment>> {
    let api: Api<ApiDeployment> = Api::namespaced(cluster.client(), NAMESPACE);
    let Some(found) = why(cluster.ask(api.get_opt(CONTROL_PLANE)).await)? else { return Ok(None) };
    let status = found.status.unwrap_or_default();
    let spec = found.spec.unwrap_or_default();
    Ok(Some(Deployment {
        wanted: spec.replicas.unwrap_or(1),
        ready: status.ready_replicas.unwrap_or_default(),
        updated: status.updated_replicas.unwrap_or_default(),
    }))
}

pub(super) async fn lease(cluster: &Cluster) -> Known<Option<Lease>> {
    let api: Api<ApiLease> = Api::namespaced(cluster.client(), NAMESPACE);
    let Some(spec) = why(cluster.ask(api.get_opt(CONTROL_PLANE)).await)?.and_then(|lease| lease.spec) else {
        return Ok(None);
    };
    Ok(Some(Lease {
        holder: spec.holder_identity.unwrap_or_default(),
        renewed: spec.renew_time.map(|time| time.0.as_second()).unwrap_or_default(),
        duration: i64::from(spec.lease_duration_seconds.unwrap_or_default()),
    }))
}

pub(super) async fn webhooks(cluster: &Cluster) -> Known<Vec<Webhook>> {
    let mutating: Api<MutatingWebhookConfiguration> = Api::all(cluster.client());
    let validating: Api<ValidatingWebhookConfiguration> = Api::all(cluster.client());
    let (injector, validator) =
        tokio::join!(cluster.ask(mutating.get_opt(INJECTOR)), cluster.ask(validating.get_opt(VALIDATOR)));
    let roots = |bundle: Option<k8s_openapi::ByteString>| serials(&bundle.unwrap_or_default().0);
    let mut all = Vec::new();
    if let Some(found) = why(injector)? {
        let hooks = found.webhooks.unwrap_or_default().into_iter();
        all.push(Webhook {
            name: INJECTOR.to_owned(),
            roots: hooks.map(|hook| roots(hook.client_config.ca_bundle)).collect(),
        });
    }
    if let Some(found) = why(validator)? {
        let hooks = found.webhooks.unwrap_or_default().into_iter();
        all.push(Webhook {
            name: VALIDATOR.to_owned(),
            roots: hooks.map(|hook| roots(hook.client_config.ca_bundle)).collect::<Vec<BTreeSet<String>>>(),
        });
    }
    Ok(all)
}

pub(super) async fn namespaces(cluster: &Cluster) -> Known<Vec<Namespace>> {
    list(cluster, &Api::<ApiNamespace>::all(cluster.client()), "", |namespace| Namespace {
        name: namespace.metadata.name.unwrap_or_default(),
        labels: namespace.metadata.labels.unwrap_or_default(),
    })
    .await
}

/// Pods that have not finished, in one namespace or in all.
pub(super) async fn pods(cluster: &Cluster, namespace: Option<&str>, selector: &str) -> Known<Vec<Workload>> {
    let api: Api<Pod> = match namespace {
        Some(namespace) => Api::namespaced(cluster.client(), namespace),
        None => Api::all(cluster.client()),
    };
    Ok(list(cluster, &api, selector, workload).await?.into_iter().flatten().collect())
}

fn workload(pod: Pod) -> Option<Workload> {
    let status = pod.status.unwrap_or_default();
    let phase = status.phase.unwrap_or_default();
    if matches!(phase.as_str(), "Succeeded" | "Failed") {
        return None;
    }
    let labels = pod.metadata.labels.unwrap_or_default();
    let owner = pod.metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    Some(Workload {
        namespace: pod.metadata.namespace.unwrap_or_default(),
        name: pod.metadata.name.unwrap_or_default(),
        addresses: status.pod_ips.iter().flatten().filter_map(|address| address.ip.parse().ok()).collect(),
        is_running: phase == "Running",
        is_host_network: pod.spec.and_then(|spec| spec.host_network) == Some(true),
        created: pod.metadata.creation_timestamp.map(|time| time.0.as_second()).unwrap_or_default(),
        owner: owner.map(|owner| restarted(&owner.kind, &owner.name, labels.get("pod-template-hash"))),
        is_ending: pod.metadata.deletion_timestamp.is_some(),
        labels,
    })
}

/// What a person restarts: the Deployment rather than its ReplicaSet.
fn restarted(kind: &str, name: &str, hash: Option<&String>) -> String {
    let deployment = hash.and_then(|hash| name.strip_suffix(hash.as_str())).and_then(|name| name.strip_suffix('-'));
    match (kind, deployment) {
        ("ReplicaSet", Some(deployment)) => format!("deployment/{deployment}"),
        _ => format!("{}/{name}", kind.to_ascii_lowercase()),
    }
}

/// The pods that `selector` selects in `namespace`, as NetworkPolicies see them.
pub(super) async fn peers(cluster: &Cluster, namespace: &str, selector: &str) -> Known<Vec<Peer>> {
    let api = Api::<ApiNamespace>::all(cluster.client());
    let by_name = format!("kubernetes.io/metadata.name={namespace}");
    let labels_of = |namespace: ApiNamespace| namespace.metadata.labels.unwrap_or_default();
    let (namespaces, pods) =
        tokio::join!(list(cluster, &api, &by_name, labels_of), pods(cluster, Some(namespace), selector));
    let labels = namespaces?.into_iter().next().unwrap_or_default();
    Ok(pods?.iter().map(|pod| pod.peer(&labels)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_the_api_server_adds_makes_no_difference() {
        let expected = json!({"a": [{"b": 1}], "c": "x"});
        assert!(is_part(&expected, &json!({"a": [{"b": 1.0, "default": true}], "c": "x", "d": 1})));
        assert!(!is_part(&expected, &json!({"a": [{"b": 2}], "c": "x"})));
        assert!(!is_part(&expected, &json!({"a": [{"b": 1}, {}], "c": "x"})));
        assert!(!is_part(&expected, &json!({"c": "x"})));
    }

    #[test]
    fn a_deployment_is_restarted_rather_than_its_replica_set() {
        let hash = "5d4f8c7b6".to_owned();
        assert_eq!(restarted("ReplicaSet", "web-5d4f8c7b6", Some(&hash)), "deployment/web");
        assert_eq!(restarted("ReplicaSet", "bare", None), "replicaset/bare");
        assert_eq!(restarted("StatefulSet", "db", None), "statefulset/db");
    }
}
