//! Removes an installation in the order that hurts nobody: first what the API server would wait for, then those who would
//! make things anew, then the things.

use std::time::Instant;

use anyhow::Context;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret};
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, ListParams};
use serde::de::DeserializeOwned;

use crate::cluster::{CONTROL_PLANE_PODS, Cluster, NAMESPACE};
use crate::install::Report;
use crate::install::apply::{Step, api};
use crate::install::manifest::Object;
use crate::install::wait::Look;
use crate::uninstall::inventory::{Inventory, TRUST};

/// Removes what was found; waits until each part is gone.
///
/// # Errors
/// An object that the cluster does not let go, or that is still there at `end`. Running again goes on.
pub async fn remove(cluster: &Cluster, found: &Inventory, end: Instant, report: &mut Report<'_>) -> anyhow::Result<()> {
    // Before the control plane: pods that ask for injection would be refused while nobody answers.
    let admission = of(found, |step| step == Step::Admission);
    remove_objects(cluster, &admission, end, report, Step::Admission.title()).await?;
    // Before what it made: the leader would put it back.
    remove_objects(cluster, &of(found, |step| step == Step::ControlPlane), end, report, "control plane").await?;
    report.until(end, async || no_control_plane(cluster).await).await?;

    for namespace in &found.config_maps {
        let maps: Api<ConfigMap> = Api::namespaced(cluster.client(), namespace);
        delete(cluster, &maps, TRUST, &DeleteParams::background()).await?;
    }
    if let Some(secret) = &found.secret {
        let secrets: Api<Secret> = Api::namespaced(cluster.client(), NAMESPACE);
        delete(cluster, &secrets, secret, &DeleteParams::background()).await?;
    }
    let rest = of(found, |step| matches!(step, Step::Permissions | Step::Surroundings));
    remove_objects(cluster, &rest, end, report, "permissions, service, CA, roots").await?;

    let definitions: Vec<&Object> = found.definitions.iter().map(|definition| &definition.object).collect();
    remove_objects(cluster, &definitions, end, report, Step::Definitions.title()).await?;
    if found.is_namespace_there && found.foreign.is_empty() {
        let namespaces: Api<Namespace> = Api::all(cluster.client());
        delete(cluster, &namespaces, NAMESPACE, &DeleteParams::background()).await?;
        report.until(end, async || gone(cluster, &namespaces, NAMESPACE, "namespace").await).await?;
    }
    Ok(())
}

fn of(found: &Inventory, wanted: impl Fn(Step) -> bool) -> Vec<&Object> {
    found.objects.iter().filter(|object| wanted(Step::of(object.kind()))).collect()
}

async fn remove_objects(
    cluster: &Cluster,
    objects: &[&Object],
    end: Instant,
    report: &mut Report<'_>,
    title: &str,
) -> anyhow::Result<()> {
    for object in objects {
        // Only a Deployment has something below it, which shall be gone when it is.
        let parameters = match Step::of(object.kind()) {
            Step::ControlPlane => DeleteParams::foreground(),
            _ => DeleteParams::background(),
        };
        delete(cluster, &api(cluster, object), object.name(), &parameters).await.with_context(|| object.title())?;
    }
    if objects.is_empty() {
        return Ok(());
    }
    let all_gone = async || {
        for object in objects {
            let api: Api<DynamicObject> = api(cluster, object);
            if let waiting @ Look::Waiting(_) = gone(cluster, &api, object.name(), object.kind()).await? {
                return Ok(waiting);
            }
        }
        Ok(Look::Done(title.to_owned()))
    };
    report.until(end, all_gone).await
}

async fn no_control_plane(cluster: &Cluster) -> anyhow::Result<Look> {
    let pods: Api<Pod> = Api::namespaced(cluster.client(), NAMESPACE);
    let pods = cluster.ask(pods.list_metadata(&ListParams::default().labels(CONTROL_PLANE_PODS))).await?;
    Ok(match pods.items.len() {
        0 => Look::Done("no control plane runs".to_owned()),
        left => Look::Waiting(format!("{left} control planes are still going")),
    })
}

async fn gone<K>(cluster: &Cluster, api: &Api<K>, name: &str, kind: &str) -> anyhow::Result<Look>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    Ok(match cluster.ask(api.get_metadata_opt(name)).await? {
        None => Look::Done(format!("{kind} {name}")),
        Some(left) => {
            let finalizers = left.metadata.finalizers.unwrap_or_default();
            let why =
                if finalizers.is_empty() { String::new() } else { format!("; waits for {}", finalizers.join(", ")) };
            Look::Waiting(format!("{kind} {name} is still there{why}"))
        }
    })
}

/// Deletes; what is not there is as it shall be.
async fn delete<K>(cluster: &Cluster, api: &Api<K>, name: &str, parameters: &DeleteParams) -> anyhow::Result<()>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let answer = cluster.ask(async { Ok(api.delete(name, parameters).await) }).await?;
    match answer {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(cluster.explain(&error)),
    }
}
