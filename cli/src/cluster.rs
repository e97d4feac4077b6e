//! The cluster that a command speaks with: finds it, asks its API server, and reaches what listens on a pod's loopback
//! through it. What is asked, and what the answers mean, is left to the commands.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use clap::Args;
use hyper::Response;
use k8s_openapi::api::core::v1::Pod;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::Value;
use tokio::time::timeout;

use crate::admin;

/// Where Causeway is installed, and how the control plane's objects are called.
pub use causeway_control_plane::kubernetes::{NAME as CONTROL_PLANE, NAMESPACE};
/// Label selector of the control plane's pods.
pub const CONTROL_PLANE_PODS: &str = "app.kubernetes.io/name=causeway-control-plane";
/// Admin port of the control plane, on the pod's loopback.
pub const CONTROL_PLANE_ADMIN: u16 = 15014;
/// Admin port of a proxy, on the pod's loopback.
pub const PROXY_ADMIN: u16 = 15000;

/// How long one request to the API server, or to an admin port through it, may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which cluster.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Cluster")]
pub struct Target {
    /// Kubeconfig file; else KUBECONFIG, then ~/.kube/config, then the ServiceAccount of the pod this runs in.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; else its current one.
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
}

/// A cluster that was found. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    server: String,
    namespace: String,
}

impl Cluster {
    /// Reads the kubeconfig (or the pod's own ServiceAccount); asks nothing yet.
    ///
    /// # Errors
    /// No cluster is configured, or the configuration cannot be used; with what to do.
    pub async fn find(target: &Target) -> anyhow::Result<Self> {
        let mut config = configuration(target).await?;
        config.connect_timeout = Some(PATIENCE);
        // A watch or a port-forward may be silent for long; requests have deadlines of their own.
        config.read_timeout = None;
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let namespace = config.default_namespace.clone();
        let client = Client::try_from(config).map_err(|error| explain(&error, &server))?;
        Ok(Self { client, server, namespace })
    }

    /// The client, for what a command asks itself. [`Cluster::explain`] says its errors.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// URL of the API server.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The namespace of the kubeconfig's context; `default` where it names none.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// How long one request may take.
    pub fn patience(&self) -> Duration {
        PATIENCE
    }

    /// `error` in one line: what went wrong, where, and what to do next.
    pub fn explain(&self, error: &kube::Error) -> anyhow::Error {
        explain(error, &self.server)
    }

    /// Waits for `request`, but not for ever, and explains its error.
    ///
    /// # Errors
    /// What [`Cluster::explain`] says, or that there was no answer in time.
    pub async fn ask<T>(&self, request: impl Future<Output = kube::Result<T>>) -> anyhow::Result<T> {
        match timeout(PATIENCE, request).await {
            Ok(answer) => answer.map_err(|error| self.explain(&error)),
            Err(_) => bail!("the API server at {} gave no answer within {} s", self.server, PATIENCE.as_secs()),
        }
    }

    /// The text under `path` of the HTTP server on `port` of the loopback of `namespace/pod`, reached by a port-forward
    /// through the API server.
    ///
    /// # Errors
    /// The pod or its port cannot be reached, or nothing answers in time; with what to do.
    pub async fn get(&self, namespace: &str, pod: &str, port: u16, path: &str) -> anyhow::Result<Response<Bytes>> {
        match timeout(PATIENCE, self.forward_and_get(namespace, pod, port, path)).await {
            Ok(answer) => answer.with_context(|| format!("pod {namespace}/{pod}, port {port}")),
            Err(_) => bail!("pod {namespace}/{pod}, port {port}: no answer within {} s", PATIENCE.as_secs()),
        }
    }

    /// As [`Cluster::get`], for JSON.
    ///
    /// # Errors
    /// As [`Cluster::get`], or a status other than success, or a body that is not JSON.
    pub async fn get_json(&self, namespace: &str, pod: &str, port: u16, path: &str) -> anyhow::Result<Value> {
        let answer = self.get(namespace, pod, port, path).await?;
        admin::json(&answer, &format!("pod {namespace}/{pod}, port {port}: {path}"))
    }

    async fn forward_and_get(
        &self,
        namespace: &str,
        pod: &str,
        port: u16,
        path: &str,
    ) -> anyhow::Result<Response<Bytes>> {
        let pods: Api<Pod> = Api::namespaced(self.client(), namespace);
        let mut forwarder = pods.portforward(pod, &[port]).await.map_err(|error| self.explain(&error))?;
        let stream = forwarder.take_stream(port).ok_or_else(|| anyhow!("the port-forward has no stream"))?;
        let refused = forwarder.take_error(port);
        let answer = admin::exchange(stream, "localhost", path).await;
        let error = match answer {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        // What the kubelet says explains more than a stream that ended.
        let said = match refused {
            Some(said) => timeout(Duration::from_secs(1), said).await.ok().flatten(),
            None => None,
        };
        Err(match said {
            Some(said) if said.contains("refused") => anyhow!("nothing listens there: the process is not up yet"),
            Some(said) => anyhow!("{}", said.trim()),
            None => error,
        })
    }
}

async fn configuration(target: &Target) -> anyhow::Result<Config> {
    let options = KubeConfigOptions { context: target.context.clone(), ..KubeConfigOptions::default() };
    if let Some(file) = &target.kubeconfig {
        let kubeconfig = Kubeconfig::read_from(file).map_err(|e| anyhow!("{}: {}", file.display(), root_cause(&e)))?;
        return Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .map_err(|error| anyhow!("{}: {error}", file.display()));
    }
    if target.context.is_some() {
        return Config::from_kubeconfig(&options).await.map_err(|error| anyhow!("kubeconfig: {error}"));
    }
    Config::infer().await.map_err(|error| {
        let why = root_cause(&error);
        anyhow!("no cluster is configured ({why}); say where it is with KUBECONFIG or --kubeconfig FILE")
    })
}

fn explain(error: &kube::Error, server: &str) -> anyhow::Error {
    let kube::Error::Api(status) = error else {
        return anyhow!(
            "cannot reach the API server at {server}: {}; is the cluster up, and is it the right one \
             (kubectl config current-context)?",
            root_cause(error)
        );
    };
    match status.code {
        401 => anyhow!("the API server at {server} does not accept your credentials: log in to the cluster again"),
        403 => anyhow!("{}; `kubectl auth can-i --list` shows what you may", status.message),
        _ if status.message.is_empty() => anyhow!("the API server at {server} answered {}", status.code),
        _ => anyhow!("{}", status.message),
    }
}

/// The innermost cause: the outer ones say only that a request failed.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    fn api(code: u16, message: &str) -> kube::Error {
        kube::Error::Api(Box::new(Status { code, message: message.to_owned(), ..Status::default() }))
    }

    #[test]
    fn an_error_of_the_api_server_says_what_to_do() {
        let text = |error| explain(&error, "https://127.0.0.1:6443").to_string();
        assert!(text(api(401, "Unauthorized")).contains("log in"));
        let forbidden = text(api(403, "pods is forbidden: User \"jane\" cannot list resource \"pods\""));
        assert!(forbidden.contains("jane") && forbidden.contains("can-i"), "{forbidden}");
        assert_eq!(text(api(404, "pods \"web\" not found")), "pods \"web\" not found");
        assert_eq!(text(api(502, "")), "the API server at https://127.0.0.1:6443 answered 502");
    }

    #[tokio::test]
    async fn a_cluster_that_is_away_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("config");
        let text = "apiVersion: v1\nkind: Config\ncurrent-context: x\nclusters:\n- name: x\n  cluster: {server: \"http://127.0.0.1:1\"}\n\
                    contexts:\n- name: x\n  context: {cluster: x, user: x}\nusers:\n- name: x\n  user: {}\n";
        std::fs::write(&file, text).expect("written");
        let target = Target { kubeconfig: Some(file), context: None };
        let cluster = Cluster::find(&target).await.expect("a configuration");
        let error = cluster.ask(cluster.client().apiserver_version()).await.expect_err("nobody listens");
        let text = format!("{error:#}");
        assert!(text.contains("http://127.0.0.1:1:") && text.contains("current-context"), "{text}");
    }

    #[tokio::test]
    async fn a_kubeconfig_that_is_not_there_is_named() {
        let target = Target { kubeconfig: Some("/nonexistent/config".into()), context: None };
        let error = Cluster::find(&target).await.err().expect("no such file");
        assert!(error.to_string().starts_with("/nonexistent/config: "), "{error}");
    }
}
