//! A Pod that is created with a server-side dry run: nothing is stored, but every webhook is asked.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

use super::super::INJECT_LABEL;
use super::super::facts::{Known, Namespace, Trial};
use crate::cluster::{Cluster, NAMESPACE};

/// Tries a Pod that asks to be injected, in a namespace with injection where there is one.
pub(super) async fn run(cluster: &Cluster, namespaces: &Known<Vec<Namespace>>, is_installed: bool) -> Trial {
    if !is_installed {
        return Trial::Unknown("Causeway is not installed".to_owned());
    }
    let namespace = place(namespaces.as_deref().unwrap_or_default());
    let pod = json!({
        "metadata": {"name": "trial-of-check", "labels": {INJECT_LABEL: "true"}},
        "spec": {"containers": [{"name": "trial", "image": "causeway.invalid/never-pulled"}]},
    });
    let pod: Pod = match serde_json::from_value(pod) {
        Ok(pod) => pod,
        Err(error) => return Trial::Unknown(error.to_string()),
    };
    let pods: Api<Pod> = Api::namespaced(cluster.client(), &namespace);
    let parameters = PostParams { dry_run: true, ..PostParams::default() };
    let created = tokio::time::timeout(super::super::PATIENCE, pods.create(&parameters, &pod)).await;
    match created {
        Err(_) => Trial::Unknown("the API server did not answer in time".to_owned()),
        Ok(Ok(pod)) if is_injected(&pod) => Trial::Injected { namespace },
        Ok(Ok(_)) => Trial::Untouched { namespace },
        Ok(Err(kube::Error::Api(status)))
            if status.code == 403 && status.message.contains("cannot create resource") =>
        {
            Trial::Unknown(status.message)
        }
        Ok(Err(kube::Error::Api(status))) => Trial::Refused { namespace, message: status.message },
        Ok(Err(error)) => Trial::Unknown(format!("{:#}", cluster.explain(&error))),
    }
}

/// A namespace with injection whose PodSecurity lets injected pods in; else `default`, where the Pod's own label asks.
fn place(namespaces: &[Namespace]) -> String {
    let is_open = |namespace: &&Namespace| {
        let level = namespace.labels.get("pod-security.kubernetes.io/enforce").map(String::as_str);
        namespace.is_meshed() && matches!(level, None | Some("privileged")) && namespace.name != NAMESPACE
    };
    namespaces.iter().find(is_open).map_or_else(|| "default".to_owned(), |namespace| namespace.name.clone())
}

fn is_injected(pod: &Pod) -> bool {
    let init = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    let mut names = init.map(|container| container.name.as_str());
    names.any(|name| name == causeway_control_plane::inject::PROXY)
}
