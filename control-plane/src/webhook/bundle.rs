//! Keeps `caBundle` of both webhook configurations equal to the mesh's roots: all of them while several are trusted, so
//! that the API server trusts each replica's certificate through a rotation. The leader alone writes.

use std::sync::Arc;

use base64::Engine as _;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;

use super::{LOOK, VALIDATOR};
use crate::ca::Authority;
use crate::clock;
use crate::kubernetes::{ANSWER_DEADLINE, INJECTOR, is_status};

/// Runs until the task is dropped.
pub(super) async fn keep(client: Client, authority: Arc<Authority>, mut leader: watch::Receiver<bool>) {
    let mut told = String::new();
    loop {
        if leader.wait_for(|leads| *leads).await.is_err() {
            // Nobody elects any more: the process ends.
            return std::future::pending().await;
        }
        let roots = authority.bundle_pem(clock::unix_now());
        let mutating = settle::<MutatingWebhookConfiguration>(&client, INJECTOR, &roots).await;
        let validating = settle::<ValidatingWebhookConfiguration>(&client, VALIDATOR, &roots).await;
        match mutating.and(validating) {
            Ok(()) => told.clear(),
            // Once, not every few seconds until somebody comes.
            Err(error) if told != error => {
                tracing::warn!(error, "the webhooks' caBundle cannot be kept up to date");
                told = error;
            }
            Err(_) => {}
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Reads the configuration, and writes where it differs.
async fn settle<K>(client: &Client, name: &str, roots: &str) -> Result<(), String>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + serde::Serialize + std::fmt::Debug,
{
    let api: Api<K> = Api::all(client.clone());
    let explain = |e: kube::Error| match e {
        // Not installed yet, or any more.
        e if is_status(&e, 404) => None,
        // Edited between reading and writing: next time.
        e if is_status(&e, 409) || is_status(&e, 422) => None,
        e => Some(format!("{name}: {e}")),
    };
    let late = || Err(format!("{name}: the API server did not answer in time"));
    let found = match timeout(ANSWER_DEADLINE, api.get(name)).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return explain(error).map_or(Ok(()), Err),
        Err(_) => return late(),
    };
    let found = serde_json::to_value(&found).map_err(|e| format!("{name}: {e}"))?;
    let Some(patch) = difference(&found, roots) else { return Ok(()) };
    let patched = timeout(ANSWER_DEADLINE, api.patch(name, &PatchParams::default(), &Patch::Strategic(patch))).await;
    match patched {
        Ok(Ok(_)) => {
            tracing::info!(name, "wrote the mesh's roots into the webhook configuration");
            Ok(())
        }
        Ok(Err(error)) => explain(error).map_or(Ok(()), Err),
        Err(_) => late(),
    }
}

/// The strategic merge patch (webhooks merge by name) that gives each of our webhooks the roots; None where all have
/// them. It holds for the version that was read alone.
pub(super) fn difference(configuration: &Value, roots: &str) -> Option<Value> {
    let bundle = base64::engine::general_purpose::STANDARD.encode(roots);
    let webhooks = configuration.get("webhooks").and_then(Value::as_array).into_iter().flatten();
    let wrong = webhooks.filter_map(|webhook| {
        let name = webhook.get("name").and_then(Value::as_str)?;
        let is_right = webhook.pointer("/clientConfig/caBundle").and_then(Value::as_str) == Some(bundle.as_str());
        // A configuration under our name may hold webhooks that somebody added.
        let is_ours = name.ends_with(".causeway.dev");
        (is_ours && !is_right).then(|| json!({"name": name, "clientConfig": {"caBundle": bundle}}))
    });
    let wrong: Vec<Value> = wrong.collect();
    let version = configuration.pointer("/metadata/resourceVersion").cloned().unwrap_or_default();
    (!wrong.is_empty()).then(|| json!({"metadata": {"resourceVersion": version}, "webhooks": wrong}))
}
