//! `causeway proxy`: what the proxy of a pod has in force, from its admin port: identity, certificate, policies for what
//! comes in, and for what goes out the destinations with their weights and endpoints.

mod picture;

use std::io::Write;
use std::net::SocketAddr;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde_json::{Value, json};

use crate::cluster::{Cluster, PROXY_ADMIN, Target};
use crate::terminal::{self, Style};
use crate::validate::Output;
use crate::{address, admin, clock};

const EXAMPLES: &str = "\
Examples:
  causeway proxy dev/web-5d4f8c7b6-x2x7k           the proxy of that pod
  causeway proxy -n dev deployment/web             of one pod of a Deployment
  causeway proxy dev/web-0 --destination prodsvc   only destinations whose name has that text, with every endpoint
  causeway proxy --proxy http://127.0.0.1:15000    a proxy on this machine
  causeway proxy dev/web-0 -o json | jq .config.destinations

Exit codes: 0 the proxy is ready and its certificate valid; 1 it is not, or cannot be asked; 2 the command line is \
wrong.";

/// Arguments of `causeway proxy`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Settings {
    /// Pod whose proxy is asked, or what made it: deployment/NAME, statefulset/NAME, daemonset/NAME.
    #[arg(value_name = "[NAMESPACE/]POD", required_unless_present = "proxy")]
    pod: Option<String>,
    /// Namespace of the pod; else that of the context.
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
    /// Admin address of a proxy, asked instead of a pod's.
    #[arg(long, value_name = "URL", value_parser = address::admin_address, conflicts_with = "pod")]
    proxy: Option<SocketAddr>,
    /// Only destinations whose name contains this text; every endpoint of them is named.
    #[arg(short, long, value_name = "TEXT")]
    destination: Option<String>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    cluster: Target,
}

/// What a proxy says, each as its admin port gives it.
#[derive(Clone, Debug, Default)]
struct Views {
    certs: Value,
    status: Value,
    config: Value,
}

/// Asks and prints; returns the exit code.
///
/// # Errors
/// The proxy cannot be found or asked, or the output cannot be written.
pub fn run(settings: &Settings, style: Style, out: &mut dyn Write) -> anyhow::Result<u8> {
    let mut views = admin::block_on(async {
        match (settings.proxy, &settings.pod) {
            (Some(address), _) => ask(async |path: &'static str| admin::get_json(address, path).await)
                .await
                .context("no proxy could be asked; say where its admin port is with --proxy http://HOST:PORT"),
            (None, Some(pod)) => of_pod(&settings.cluster, settings.namespace.as_deref(), pod).await,
            (None, None) => bail!("name a pod: causeway proxy NAMESPACE/POD"),
        }
    })?;
    if let (Some(text), Some(all)) = (&settings.destination, views.config["destinations"].as_object_mut()) {
        all.retain(|name, destination| {
            name.contains(text.as_str())
                || destination["canonical"].as_str().is_some_and(|name| name.contains(text.as_str()))
        });
    }
    let now = clock::unix_now();
    match settings.output {
        Output::Json => {
            writeln!(out, "{:#}", json!({"certs": views.certs, "status": views.status, "config": views.config}))?;
        }
        Output::Text => {
            let frame =
                picture::Frame { style, columns: terminal::columns(), now, all: settings.destination.is_some() };
            out.write_all(picture::text(&views, frame).as_bytes())?;
        }
    }
    let is_valid = crate::certs::is_valid(&views.certs, now);
    Ok(u8::from(!(is_valid && views.status["ready"] == true)))
}

async fn ask(get: impl AsyncFn(&'static str) -> anyhow::Result<Value>) -> anyhow::Result<Views> {
    let (certs, status, config) = tokio::try_join!(get("/certs"), get("/status"), get("/config"))?;
    Ok(Views { certs, status, config })
}

async fn of_pod(target: &Target, namespace: Option<&str>, name: &str) -> anyhow::Result<Views> {
    let cluster =
        Cluster::find(target).await.context("for a proxy on this machine: causeway proxy --proxy 127.0.0.1:15000")?;
    let (namespace, name) = named(name, namespace.unwrap_or(cluster.namespace()))?;
    let pods: Api<Pod> = Api::namespaced(cluster.client(), &namespace);
    let pod = match name.split_once('/') {
        None => cluster.ask(pods.get(&name)).await?,
        Some((kind, owner)) => {
            let all = cluster.ask(pods.list(&kube::api::ListParams::default())).await?;
            let is_meant = |pod: &&Pod| is_made_by(pod, kind, owner) && phase(pod) == "Running";
            let missing = || anyhow!("no running pod of {kind}/{owner} in namespace {namespace}");
            all.items.iter().find(is_meant).cloned().ok_or_else(missing)?
        }
    };
    let name = pod.metadata.name.clone().unwrap_or_default();
    if !has_proxy(&pod) {
        bail!(
            "pod {namespace}/{name} has no proxy: label its namespace (kubectl label namespace {namespace} \
             causeway.dev/inject=true) and have the pod made anew"
        );
    }
    if phase(&pod) != "Running" && !proxy_runs(&pod) {
        bail!("pod {namespace}/{name} is {}: kubectl -n {namespace} describe pod {name}", phase(&pod));
    }
    ask(async |path: &'static str| cluster.get_json(&namespace, &name, PROXY_ADMIN, path).await)
        .await
        .with_context(|| format!("kubectl -n {namespace} logs {name} -c causeway-proxy says more"))
}

/// Namespace and pod (or `kind/name`) in what a person wrote.
fn named(text: &str, default: &str) -> anyhow::Result<(String, String)> {
    let parts: Vec<&str> = text.split('/').collect();
    if parts.iter().any(|part| part.is_empty()) {
        bail!("`{text}` names no pod; write NAMESPACE/POD");
    }
    match parts.as_slice() {
        ["pod" | "pods" | "po", name] => Ok((default.to_owned(), (*name).to_owned())),
        [kind, name] if workload(kind).is_some() => Ok((default.to_owned(), format!("{kind}/{name}"))),
        [name] => Ok((default.to_owned(), (*name).to_owned())),
        [namespace, name] => Ok(((*namespace).to_owned(), (*name).to_owned())),
        [namespace, kind, name] if workload(kind).is_some() => Ok(((*namespace).to_owned(), format!("{kind}/{name}"))),
        _ => bail!("`{text}` names no pod; write NAMESPACE/POD"),
    }
}

/// The kind of owner that a pod of it has.
fn workload(kind: &str) -> Option<&'static str> {
    match kind {
        "deployment" | "deployments" | "deploy" => Some("ReplicaSet"),
        "statefulset" | "statefulsets" | "sts" => Some("StatefulSet"),
        "daemonset" | "daemonsets" | "ds" => Some("DaemonSet"),
        _ => None,
    }
}

fn is_made_by(pod: &Pod, kind: &str, name: &str) -> bool {
    let hash = pod.metadata.labels.iter().flatten().find(|(key, _)| *key == "pod-template-hash").map(|(_, hash)| hash);
    let owners = pod.metadata.owner_references.iter().flatten();
    owners.filter(|owner| Some(owner.kind.as_str()) == workload(kind)).any(|owner| match (owner.kind.as_str(), hash) {
        ("ReplicaSet", Some(hash)) => owner.name == format!("{name}-{hash}"),
        _ => owner.name == name,
    })
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Unknown")
}

fn has_proxy(pod: &Pod) -> bool {
    let spec = pod.spec.iter();
    let mut containers = spec.flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
    containers.any(|container| container.name == causeway_control_plane::inject::PROXY)
}

/// Whether the proxy runs already, while later init containers still hold the pod back.
fn proxy_runs(pod: &Pod) -> bool {
    let statuses = pod.status.iter().flat_map(|status| status.init_container_statuses.iter().flatten());
    let mut ours = statuses.filter(|status| status.name == causeway_control_plane::inject::PROXY);
    ours.any(|status| status.state.as_ref().is_some_and(|state| state.running.is_some()))
}

#[cfg(test)]
mod tests;
