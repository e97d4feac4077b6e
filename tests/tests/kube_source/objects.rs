//! Objects on a real API server: made, changed and removed with plain requests, since the suites make thousands.

use std::path::Path;

use http::Request;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

/// A client with the rights of a kubeconfig; through `port` of loopback where one is given.
pub async fn client(kubeconfig: &Path, port: Option<u16>) -> Client {
    let read = Kubeconfig::read_from(kubeconfig).unwrap();
    let mut config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.unwrap();
    if let Some(port) = port {
        config.cluster_url = format!("https://127.0.0.1:{port}").parse().unwrap();
    }
    Client::try_from(config).unwrap()
}

pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Path of the collection that an object belongs to.
fn collection(object: &Value) -> String {
    let (api, kind) = (text(object, "/apiVersion"), text(object, "/kind").to_lowercase());
    let plural = match kind.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{kind}s"),
    };
    let root = if api.contains('/') { format!("/apis/{api}") } else { format!("/api/{api}") };
    match (kind.as_str(), text(object, "/metadata/namespace")) {
        ("namespace" | "customresourcedefinition" | "clusterrole" | "clusterrolebinding", _) => {
            format!("{root}/{plural}")
        }
        (_, "") => format!("{root}/namespaces/default/{plural}"),
        (_, namespace) => format!("{root}/namespaces/{namespace}/{plural}"),
    }
}

fn path(object: &Value) -> String {
    format!("{}/{}", collection(object), text(object, "/metadata/name"))
}

async fn send(client: &Client, method: &str, path: &str, kind: &str, body: &Value) -> Result<Value, String> {
    let request = Request::builder().method(method).uri(path).header("content-type", kind);
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    client.request(request.body(body).unwrap()).await.map_err(|e| format!("{method} {path}: {e}"))
}

/// Makes an object, and gives it the status that stands in it, which the API server drops at first.
pub async fn create(client: &Client, object: &Value) -> Value {
    let made = send(client, "POST", &collection(object), "application/json", object).await.unwrap();
    match object.get("status").filter(|_| text(object, "/kind") == "Pod") {
        Some(status) => patch_status(client, object, status).await,
        None => made,
    }
}

pub async fn try_create(client: &Client, object: &Value) -> Result<Value, String> {
    send(client, "POST", &collection(object), "application/json", object).await
}

pub async fn patch_status(client: &Client, object: &Value, status: &Value) -> Value {
    let path = format!("{}/status", path(object));
    send(client, "PATCH", &path, "application/merge-patch+json", &json!({"status": status})).await.unwrap()
}

pub async fn patch(client: &Client, object: &Value, patch: &Value) -> Value {
    send(client, "PATCH", &path(object), "application/merge-patch+json", patch).await.unwrap()
}

pub async fn delete(client: &Client, object: &Value) {
    let body = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0});
    send(client, "DELETE", &path(object), "application/json", &body).await.unwrap();
}

pub fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

pub fn account(namespace: &str, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}})
}

pub fn service(namespace: &str, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80}]}})
}

/// A CustomResourceDefinition that accepts everything, as those of a service mesh in use do for most fields.
pub fn definition(group: &str, kind: &str, versions: &[&str]) -> Value {
    let plural = match kind.to_lowercase() {
        kind if kind.ends_with('y') => format!("{}ies", kind.trim_end_matches('y')),
        kind => format!("{kind}s"),
    };
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let versions: Vec<Value> = versions
        .iter()
        .enumerate()
        .map(|(at, name)| json!({"name": name, "served": true, "storage": at == 0, "schema": schema}))
        .collect();
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {"group": group, "scope": "Namespaced", "versions": versions,
            "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()}}})
}
