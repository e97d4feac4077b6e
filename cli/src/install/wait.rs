//! Whether an installation works: definitions established, control planes ready, webhooks answering. Each look is a
//! question to the API server; what the answers mean is decided by pure functions.

use causeway_control_plane::inject::INJECT_LABEL;
use causeway_control_plane::kubernetes::INJECTOR;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{DynamicObject, ListParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::json;

use crate::clock;
use crate::cluster::{CONTROL_PLANE, CONTROL_PLANE_PODS, Cluster, NAMESPACE};

/// Where the webhooks are tried, by requests that change nothing.
const TRIED_IN: &str = "default";
/// Seconds after which a control plane that runs should be ready.
const SLOW: i64 = 10;

/// The answer to one look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// It is as it shall be; said so.
    Done(String),
    /// Not yet; why.
    Waiting(String),
}

/// The definitions are part of the API.
///
/// # Errors
/// The API server cannot be asked.
pub async fn definitions(cluster: &Cluster, names: &[String]) -> anyhow::Result<Look> {
    let api: Api<CustomResourceDefinition> = Api::all(cluster.client());
    for name in names {
        let found = cluster.ask(api.get_opt(name)).await?;
        let conditions = found.and_then(|d| d.status).and_then(|s| s.conditions).unwrap_or_default();
        if !conditions.iter().any(|c| c.type_ == "Established" && c.status == "True") {
            return Ok(Look::Waiting(format!("{name} is not established")));
        }
    }
    Ok(Look::Done(format!("{} definitions established", names.len())))
}

/// As many control planes are ready as were asked for, and no older one runs.
///
/// # Errors
/// The API server cannot be asked.
pub async fn control_plane(cluster: &Cluster) -> anyhow::Result<Look> {
    let deployments: Api<Deployment> = Api::namespaced(cluster.client(), NAMESPACE);
    let Some(deployment) = cluster.ask(deployments.get_opt(CONTROL_PLANE)).await? else {
        return Ok(Look::Waiting("there is no Deployment".to_owned()));
    };
    if let Look::Done(said) = rollout(&deployment, None) {
        return Ok(Look::Done(said));
    }
    let pods: Api<Pod> = Api::namespaced(cluster.client(), NAMESPACE);
    let pods = cluster.ask(pods.list(&ListParams::default().labels(CONTROL_PLANE_PODS))).await?;
    let reason = pods.items.iter().find_map(|pod| trouble(pod, clock::unix_now()));
    Ok(rollout(&deployment, reason))
}

/// What a Deployment's status says; `reason` is what a Pod of it suffers from.
fn rollout(deployment: &Deployment, reason: Option<String>) -> Look {
    let wanted = deployment.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
    let status = deployment.status.clone().unwrap_or_default();
    let ready = status.available_replicas.unwrap_or(0).min(status.updated_replicas.unwrap_or(0));
    let is_seen = status.observed_generation >= deployment.metadata.generation;
    let is_alone = status.replicas.unwrap_or(0) == wanted;
    if is_seen && ready >= wanted && is_alone {
        return Look::Done(format!("{ready}/{wanted} control planes ready"));
    }
    let failure = status.conditions.unwrap_or_default().into_iter().find(|c| c.type_ == "ReplicaFailure");
    let why = failure.and_then(|c| c.message).or(reason).unwrap_or_else(|| {
        if !is_seen {
            "the Deployment was not looked at yet: does the cluster's controller manager run?".to_owned()
        } else if ready >= wanted {
            "an older one is still going".to_owned()
        } else {
            "starting".to_owned()
        }
    });
    Look::Waiting(format!("{ready}/{wanted} control planes ready: {why}"))
}

/// Why a Pod is not ready; None where it is, or is only starting.
fn trouble(pod: &Pod, now: i64) -> Option<String> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let status = pod.status.as_ref()?;
    let containers = status.container_statuses.iter().flatten();
    for container in containers {
        let state = container.state.clone().unwrap_or_default();
        let waiting = state.waiting.filter(|w| w.reason.as_deref() != Some("ContainerCreating"));
        if let Some(waiting) = waiting {
            let ended = container.last_state.clone().and_then(|s| s.terminated).and_then(|t| t.message);
            let parts = [waiting.reason, waiting.message, ended];
            return Some(format!("{name}: {}", parts.into_iter().flatten().collect::<Vec<_>>().join(": ")));
        }
        let since = state.running.map(|r| r.started_at.map_or(0, |at| at.0.as_second()));
        if !container.ready && since.is_some_and(|since| now - since > SLOW) {
            return Some(format!("{name} runs and is not ready; see: kubectl -n {NAMESPACE} logs {name}"));
        }
    }
    let unscheduled = status.conditions.iter().flatten().find(|c| c.type_ == "PodScheduled" && c.status == "False");
    unscheduled.and_then(|c| c.message.clone()).map(|message| format!("{name}: {message}"))
}

/// Both webhooks hold the mesh's roots and answer the API server.
///
/// # Errors
/// The API server cannot be asked.
pub async fn webhooks(cluster: &Cluster) -> anyhow::Result<Look> {
    let injector: Api<MutatingWebhookConfiguration> = Api::all(cluster.client());
    let validator: Api<ValidatingWebhookConfiguration> = Api::all(cluster.client());
    let injector = cluster.ask(injector.get_opt(INJECTOR)).await?;
    let validator = cluster.ask(validator.get_opt("causeway-validator")).await?;
    let injector = injector.and_then(|c| c.webhooks).unwrap_or_default().into_iter().map(|w| w.client_config);
    let validator = validator.and_then(|c| c.webhooks).unwrap_or_default().into_iter().map(|w| w.client_config);
    if !injector.chain(validator).all(|c| c.ca_bundle.is_some_and(|b| !b.0.is_empty())) {
        return Ok(Look::Waiting("the leader has not put the roots into the webhooks yet".to_owned()));
    }
    let validated = try_validator(cluster).await;
    let injected = try_injector(cluster).await;
    Ok(answered(&[validated, injected]))
}

/// A request that was carried out or refused was answered, unless it was refused because nobody answered.
fn answered(tried: &[kube::Result<()>]) -> Look {
    for result in tried {
        match result {
            Err(kube::Error::Api(status)) if is_unanswered(&status.message) || status.code >= 500 => {
                return Look::Waiting(status.message.clone());
            }
            Err(kube::Error::Api(_)) | Ok(()) => {}
            Err(error) => return Look::Waiting(error.to_string()),
        }
    }
    Look::Done("webhooks answer".to_owned())
}

/// What the API server says when a webhook is away, and what our own policy says when the API server does not know the
/// webhook yet.
fn is_unanswered(message: &str) -> bool {
    message.contains("failed calling webhook") || message.contains("and was not injected")
}

fn dry_run() -> PostParams {
    PostParams { dry_run: true, field_manager: None }
}

async fn try_validator(cluster: &Cluster) -> kube::Result<()> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("causeway.dev", "v1alpha1", "PeerAuthentication"));
    let api: Api<DynamicObject> = Api::namespaced_with(cluster.client(), TRIED_IN, &resource);
    let object = DynamicObject::new("causeway-install-trial", &resource).within(TRIED_IN).data(
        json!({"spec": {"selector": {"matchLabels": {"causeway.dev/trial": "true"}}, "mtls": {"mode": "STRICT"}}}),
    );
    api.create(&dry_run(), &object).await.map(drop)
}

async fn try_injector(cluster: &Cluster) -> kube::Result<()> {
    let api: Api<Pod> = Api::namespaced(cluster.client(), TRIED_IN);
    let mut pod = Pod::default();
    pod.metadata.name = Some("causeway-install-trial".to_owned());
    pod.metadata.labels = Some([(INJECT_LABEL.to_owned(), "true".to_owned())].into());
    pod.spec = Some(k8s_openapi::api::core::v1::PodSpec {
        containers: vec![k8s_openapi::api::core::v1::Container {
            name: "app".to_owned(),
            image: Some("app".to_owned()),
            ..Default::default()
        }],
        ..Default::default()
    });
    api.create(&dry_run(), &pod).await.map(drop)
}

#[cfg(test)]
mod tests;
