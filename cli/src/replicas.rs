//! The replicas of the control plane: finds their pods, asks each its admin views through the API server, and joins
//! what they say. Judging and printing are left to the commands.

use std::net::SocketAddr;

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use serde_json::Value;

use crate::admin;
use crate::cluster::{CONTROL_PLANE_ADMIN, CONTROL_PLANE_PODS, Cluster, NAMESPACE};

/// One replica.
#[derive(Clone, Debug)]
pub struct Replica {
    /// Its pod; the address that was given where it is no pod.
    pub pod: String,
    /// Whether the pod is ready.
    pub is_ready: bool,
    /// How often its container was started again.
    pub restarts: i32,
    /// What it says, or why it says nothing.
    pub views: Result<Views, String>,
}

/// What one replica says, each as its admin port gives it.
#[derive(Clone, Debug, Default)]
pub struct Views {
    /// `/status`
    pub status: Value,
    /// `/proxies`
    pub proxies: Vec<Value>,
    /// `/problems`
    pub problems: Vec<Value>,
    /// `/trust`
    pub trust: Value,
}

impl Replica {
    /// The version that it says it has.
    pub fn version(&self) -> Option<&str> {
        self.views.as_ref().ok()?.status["version"].as_str()
    }

    /// Whether it says that it leads.
    pub fn is_leader(&self) -> bool {
        self.views.as_ref().is_ok_and(|views| views.status["leader"] == true)
    }
}

/// Every replica in `cluster`, asked at once.
///
/// # Errors
/// The pods cannot be listed. What a single replica does not say is told in its `views`.
pub async fn ask_all(cluster: &Cluster) -> anyhow::Result<Vec<Replica>> {
    let pods: Api<Pod> = Api::namespaced(cluster.client(), NAMESPACE);
    let parameters = ListParams::default().labels(CONTROL_PLANE_PODS);
    let pods = cluster.ask(pods.list(&parameters)).await?;
    Ok(join_all(pods.items.iter().filter(|pod| is_of_now(pod)).map(|pod| ask_pod(cluster, pod))).await)
}

/// Whether the pod is neither on its way out nor what is left of one that was evicted.
fn is_of_now(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Succeeded" | "Failed"))
}

/// The one control plane whose admin port is at `address`.
pub async fn ask_address(address: SocketAddr) -> Replica {
    let views = views(async |path: &'static str| admin::get_json(address, path).await).await;
    Replica { pod: address.to_string(), is_ready: views.is_ok(), restarts: 0, views }
}

async fn ask_pod(cluster: &Cluster, pod: &Pod) -> Replica {
    let name = pod.metadata.name.clone().unwrap_or_default();
    let status = pod.status.clone().unwrap_or_default();
    let is_ready = status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
    let restarts = status.container_statuses.iter().flatten().map(|c| c.restart_count).sum();
    let views = match status.phase.as_deref() {
        Some("Running") => {
            views(async |path: &'static str| cluster.get_json(NAMESPACE, &name, CONTROL_PLANE_ADMIN, path).await).await
        }
        phase => Err(format!("the pod is {}", waiting(&status).unwrap_or(phase.unwrap_or("Pending").to_owned()))),
    };
    Replica { pod: name, is_ready, restarts, views }
}

/// Why a container does not run, as the kubelet says it, e.g. `ImagePullBackOff`.
fn waiting(status: &k8s_openapi::api::core::v1::PodStatus) -> Option<String> {
    let states = status.container_statuses.iter().flatten().filter_map(|c| c.state.as_ref()?.waiting.as_ref());
    states.filter_map(|waiting| waiting.reason.clone()).next()
}

async fn views(get: impl AsyncFn(&'static str) -> anyhow::Result<Value>) -> Result<Views, String> {
    let all = async {
        let (status, proxies, problems, trust) =
            tokio::try_join!(get("/status"), get("/proxies"), get("/problems"), get("/trust"))?;
        Ok::<_, anyhow::Error>(Views {
            status,
            proxies: list(&proxies, "proxies"),
            problems: list(&problems, "problems"),
            trust,
        })
    };
    all.await.map_err(|error| format!("{error:#}"))
}

/// The list under `key`, or the answer itself where it is one.
pub fn list(view: &Value, key: &str) -> Vec<Value> {
    view.get(key).unwrap_or(view).as_array().cloned().unwrap_or_default()
}

/// The proxies of all replicas, by name; one that moved from a replica to another is counted where it is now.
pub fn proxies(replicas: &[Replica]) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    for (replica, views) in replicas.iter().filter_map(|r| Some((r, r.views.as_ref().ok()?))) {
        for proxy in &views.proxies {
            let mut proxy = proxy.clone();
            proxy["replica"] = Value::from(replica.pod.as_str());
            all.push(proxy);
        }
    }
    let since = |proxy: &Value| proxy["connected_since"].as_str().unwrap_or_default().to_owned();
    let name = |proxy: &Value| proxy["workload"].as_str().unwrap_or_default().to_owned();
    all.sort_by(|a, b| name(a).cmp(&name(b)).then(since(b).cmp(&since(a))));
    all.dedup_by(|later, kept| later["workload"] == kept["workload"]);
    all
}

/// The problems of the configuration, each once: every replica reads the same.
pub fn problems(replicas: &[Replica]) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    for views in replicas.iter().filter_map(|replica| replica.views.as_ref().ok()) {
        for problem in &views.problems {
            if !all.contains(problem) {
                all.push(problem.clone());
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn replica(pod: &str, proxies: Vec<Value>, problems: Vec<Value>) -> Replica {
        let views = Views { proxies, problems, ..Views::default() };
        Replica { pod: pod.to_owned(), is_ready: true, restarts: 0, views: Ok(views) }
    }

    #[test]
    fn a_proxy_that_moved_is_counted_where_it_is_now() {
        let old = json!({"workload": "dev/web", "connected_since": "2026-11-21T10:00:00Z"});
        let new = json!({"workload": "dev/web", "connected_since": "2026-11-21T10:05:00Z"});
        let other = json!({"workload": "dev/api", "connected_since": "2026-11-21T10:00:00Z"});
        let all = proxies(&[replica("a", vec![old], vec![]), replica("b", vec![new, other], vec![])]);
        let word = |proxy: &Value, key: &str| proxy[key].as_str().unwrap_or_default().to_owned();
        let seen: Vec<_> =
            all.iter().map(|proxy| format!("{} {}", word(proxy, "workload"), word(proxy, "replica"))).collect();
        assert_eq!(seen, vec!["dev/api b", "dev/web b"]);
    }

    #[test]
    fn a_pod_that_ends_or_was_evicted_is_no_replica() {
        let pod = |text: &str| serde_yaml::from_str::<Pod>(text).expect("a pod");
        assert!(is_of_now(&pod("{status: {phase: Running}}")));
        assert!(is_of_now(&pod("{status: {phase: Pending}}")));
        assert!(!is_of_now(&pod("{status: {phase: Failed, reason: Evicted}}")));
        assert!(!is_of_now(&pod("{metadata: {deletionTimestamp: '2026-11-21T00:00:00Z'}, status: {phase: Running}}")));
    }

    #[test]
    fn a_problem_that_every_replica_sees_is_said_once() {
        let problem = json!({"code": "unknown_host", "resource": "VirtualService dev/x"});
        let all = problems(&[replica("a", vec![], vec![problem.clone()]), replica("b", vec![], vec![problem.clone()])]);
        assert_eq!(all, vec![problem]);
    }
}
