//! A real API server with its etcd, filled with the simulated cluster. No kubelet and no controller runs: what these would
//! write is written here. Both processes and their data go when this does, also when this program is killed.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use causeway_tests::kube::ApiServer;
use http::{Method, Request};
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde::Deserialize as _;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::say;
use crate::world::{Workload, World};

/// Who writes, for server-side apply.
const MANAGER: &str = "causeway-scale";
/// Namespaces that are written at once.
const AT_ONCE: usize = 16;
/// What of the shipped manifest needs no nodes.
const SHIPPED: [&str; 7] =
    ["CustomResourceDefinition", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "Lease"];

/// See the module.
pub struct Cluster {
    client: Client,
    /// With the rights of the control plane's ServiceAccount.
    account: PathBuf,
    // Dropping it ends and removes everything.
    _server: ApiServer,
}

impl Cluster {
    /// Starts the processes, and installs definitions, account and rights as they are shipped.
    ///
    /// # Errors
    /// When the API server does not take them.
    pub async fn start() -> anyhow::Result<Self> {
        let (server, account) = tokio::task::spawn_blocking(installed).await??;
        let config = Kubeconfig::read_from(server.kubeconfig())?;
        let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
        Ok(Self { client: Client::try_from(config)?, account, _server: server })
    }

    /// With what the control plane goes to the API server.
    pub fn kubeconfig(&self) -> &Path {
        &self.account
    }

    /// Writes everything that stays as it is.
    ///
    /// # Errors
    /// The API server's refusal.
    pub async fn fill(&self, world: &World) -> anyhow::Result<()> {
        let namespaces = world.namespaces();
        let (count, mut done) = (namespaces.len(), 0);
        let mut running: JoinSet<anyhow::Result<()>> = JoinSet::new();
        for namespace in namespaces {
            if running.len() >= AT_ONCE {
                running.join_next().await.context("nothing runs")???;
                done += 1;
                if done % 20 == 0 {
                    say(&format!("written: {done} of {count} namespaces"));
                }
            }
            let (client, objects) = (self.client.clone(), world.fixed(&namespace));
            running.spawn(async move {
                for object in &objects {
                    apply(&client, object).await?;
                }
                Ok(())
            });
        }
        while let Some(written) = running.join_next().await {
            written??;
        }
        Ok(())
    }

    /// Writes objects that change.
    ///
    /// # Errors
    /// The API server's refusal.
    pub async fn put(&self, objects: &[Value]) -> anyhow::Result<()> {
        for object in objects {
            apply(&self.client, object).await?;
        }
        Ok(())
    }

    /// A token bound to the workload's pod, for the control plane, as kubelet asks for it.
    ///
    /// # Errors
    /// The API server's refusal.
    pub async fn token(&self, workload: &Workload) -> anyhow::Result<String> {
        let asked = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {
                "audiences": ["causeway"], "expirationSeconds": 3600,
                "boundObjectRef": { "apiVersion": "v1", "kind": "Pod", "name": workload.pod },
            },
        });
        let path = format!("/api/v1/namespaces/{}/serviceaccounts/{}/token", workload.namespace, workload.account);
        let given = send(&self.client, Method::POST, &path, "application/json", &asked).await?;
        given["status"]["token"].as_str().map(str::to_owned).context("no token in the TokenRequest's answer")
    }
}

/// An API server with what is shipped but for what needs nodes.
fn installed() -> anyhow::Result<(ApiServer, PathBuf)> {
    const SYSTEM: &str = "causeway-system";
    let server = ApiServer::start();
    server.create_namespace(SYSTEM, &[]);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../deploy/causeway.yaml");
    let text = std::fs::read_to_string(&file).with_context(|| format!("{}", file.display()))?;
    let documents: Result<Vec<Value>, _> = serde_yaml::Deserializer::from_str(&text).map(Value::deserialize).collect();
    let is_meant = |object: &Value| SHIPPED.iter().any(|kind| object["kind"] == *kind);
    let items: Vec<Value> = documents?.into_iter().filter(is_meant).collect();
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
    server.kubectl_with_input(&["apply", "--server-side", "-f", "-"], &list.to_string()).map_err(anyhow::Error::msg)?;
    let definitions = ["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"];
    server.kubectl(&definitions).map_err(anyhow::Error::msg)?;
    let account = server.as_service_account(SYSTEM, "causeway-control-plane").kubeconfig().to_owned();
    Ok((server, account))
}

/// Path of an object, by the resources that the simulated cluster has.
fn path(object: &Value) -> anyhow::Result<String> {
    let text = |value: &Value| value.as_str().map(str::to_owned).context("an object without kind or name");
    let (version, kind) = (text(&object["apiVersion"])?, text(&object["kind"])?);
    let plural = match &*kind.to_lowercase() {
        kind if kind.ends_with('y') => format!("{}ies", kind.trim_end_matches('y')),
        kind => format!("{kind}s"),
    };
    let root = if version.contains('/') { "/apis" } else { "/api" };
    let meta = &object["metadata"];
    let within = meta["namespace"].as_str().map_or_else(String::new, |namespace| format!("/namespaces/{namespace}"));
    Ok(format!("{root}/{version}{within}/{plural}/{}", text(&meta["name"])?))
}

/// Server-side apply; the status of a pod is applied by itself, as kubelet does.
async fn apply(client: &Client, object: &Value) -> anyhow::Result<()> {
    let path = path(object)?;
    let (mut object, query) = (object.clone(), format!("?fieldManager={MANAGER}&force=true"));
    let status = object.as_object_mut().and_then(|fields| fields.remove("status"));
    let media = "application/apply-patch+yaml";
    send(client, Method::PATCH, &format!("{path}{query}"), media, &object).await?;
    if let Some(status) = status {
        let object = json!({
            "apiVersion": object["apiVersion"], "kind": object["kind"], "status": status,
            "metadata": { "name": object["metadata"]["name"], "namespace": object["metadata"]["namespace"] },
        });
        send(client, Method::PATCH, &format!("{path}/status{query}"), media, &object).await?;
    }
    Ok(())
}

async fn send(client: &Client, method: Method, path: &str, media: &str, body: &Value) -> anyhow::Result<Value> {
    let request = Request::builder().method(method).uri(path).header(http::header::CONTENT_TYPE, media);
    let answer: Value =
        client.request(request.body(body.to_string().into_bytes())?).await.with_context(|| path.to_owned())?;
    ensure!(answer["kind"] != "Status" || answer["status"] != "Failure", "{path}: {answer}");
    Ok(answer)
}
