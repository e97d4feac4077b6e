//! Objects that are created with a server-side dry run: nothing is stored, but every webhook is asked.

use causeway_crds::VirtualService;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

use super::super::INJECT_LABEL;
use super::super::facts::{Known, Namespace, Trial};
use crate::cluster::{Cluster, NAMESPACE};

const NAME: &str = "trial-of-check";
const HOST: &str = "trial-of-check.invalid";

/// Tries a Pod that asks to be injected, in a namespace with injection where there is one; and a VirtualService.
pub(super) async fn run(
    cluster: &Cluster,
    namespaces: &Known<Vec<Namespace>>,
    is_installed: bool,
) -> (Trial, Known<Option<String>>) {
    if !is_installed {
        let why = "Causeway is not installed".to_owned();
        return (Trial::Unknown(why.clone()), Err(why));
    }
    let namespace = place(namespaces.as_deref().unwrap_or_default());
    tokio::join!(pod(cluster, &namespace), route(cluster, &namespace))
}

async fn pod(cluster: &Cluster, namespace: &str) -> Trial {
    let pod = json!({
        "metadata": {"name": NAME, "labels": {INJECT_LABEL: "true"}},
        "spec": {"containers": [{"name": "trial", "image": "causeway.invalid/never-pulled"}]},
    });
    let pod: Pod = match serde_json::from_value(pod) {
        Ok(pod) => pod,
        Err(error) => return Trial::Unknown(error.to_string()),
    };
    let api: Api<Pod> = Api::namespaced(cluster.client(), namespace);
    let namespace = namespace.to_owned();
    match tried(cluster, &api, &pod).await {
        Ok(Ok(pod)) if is_injected(&pod) => Trial::Injected { namespace },
        Ok(Ok(_)) => Trial::Untouched { namespace },
        Ok(Err(message)) => Trial::Refused { namespace, message },
        Err(why) => Trial::Unknown(why),
    }
}

/// A route to a host that nobody has is stored with a warning.
async fn route(cluster: &Cluster, namespace: &str) -> Known<Option<String>> {
    let spec = json!({"hosts": [HOST], "http": [{"route": [{"destination": {"host": HOST}}]}]});
    let spec = serde_json::from_value(spec).map_err(|error| error.to_string())?;
    let api: Api<VirtualService> = Api::namespaced(cluster.client(), namespace);
    Ok(tried(cluster, &api, &VirtualService::new(NAME, spec)).await?.err())
}

/// Creates an object without storing it. The inner error is a refusal in the API server's words.
async fn tried<K>(cluster: &Cluster, api: &Api<K>, object: &K) -> Known<Result<K, String>>
where
    K: Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let parameters = PostParams { dry_run: true, ..PostParams::default() };
    match tokio::time::timeout(super::super::PATIENCE, api.create(&parameters, object)).await {
        Err(_) => Err("the API server did not answer in time".to_owned()),
        Ok(Ok(created)) => Ok(Ok(created)),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Err(status.message),
        Ok(Err(kube::Error::Api(status)))
            if status.code == 403 && status.message.contains("cannot create resource") =>
        {
            Err(status.message)
        }
        Ok(Err(kube::Error::Api(status))) => Ok(Err(status.message)),
        Ok(Err(error)) => Err(format!("{:#}", cluster.explain(&error))),
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
