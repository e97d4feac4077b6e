//! What the control plane does with the API server besides reading the configuration: the client, its own names, the
//! CA's Secret, the Lease, the trust bundle's ConfigMaps. The configuration is left to `source::kubernetes`.

use std::time::Duration;

use anyhow::Context as _;
use kube::{Client, Config};

pub mod lease;
pub mod retired;
pub mod secret;
pub mod trust;

/// The namespace that Causeway is installed in, always: it is part of the control plane's identity.
pub const NAMESPACE: &str = "causeway-system";
/// Deployment, Service, ServiceAccount and Lease of the control plane, and the field manager of what it writes.
pub const NAME: &str = "causeway-control-plane";
/// Label of what the control plane made, so that it removes nothing else.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The MutatingWebhookConfiguration.
pub const INJECTOR: &str = "causeway-injector";

/// Longest wait for one answer of the API server that is no watch.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// A client for the cluster that this process runs in, or the one that KUBECONFIG names.
///
/// kube makes aws-lc-rs the process's default provider here where there is none; nothing of ours uses that default.
///
/// # Errors
/// When neither is there or what is there cannot be read. The API server itself is not asked.
pub async fn client() -> anyhow::Result<Client> {
    let mut config = Config::infer().await.context(
        "no cluster: this process has no ServiceAccount token, and KUBECONFIG or ~/.kube/config cannot be used",
    )?;
    config.connect_timeout = Some(ANSWER_DEADLINE);
    Client::try_from(config).context("the client for the API server cannot be made")
}

/// Whether the API server answered with `code` (an HTTP status).
pub fn is_status(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}
