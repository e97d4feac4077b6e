//! What the API server asks before it stores something (admission): `/inject` puts the proxy into Pods, `/validate`
//! judges our resources. Decides in `inject` and `validate`; here is the HTTPS around it, its certificate, and the
//! `caBundle` by which the API server trusts that.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::ca::{Authority, CaError};
use crate::index::Resources;
use crate::metrics::Metrics;
use crate::{compile, inject};

mod bundle;
mod certificate;
mod listen;
pub mod review;
#[cfg(test)]
mod tests;
pub mod validate;

/// The names by which the API server calls the webhooks' Service.
pub const SERVER_NAMES: [&str; 2] =
    ["causeway-control-plane.causeway-system.svc", "causeway-control-plane.causeway-system.svc.cluster.local"];
/// The ValidatingWebhookConfiguration.
pub const VALIDATOR: &str = "causeway-validator";
/// Both webhook configurations and the back-stop policy, as they are installed.
pub const CONFIGURATION: &str = include_str!("webhook/configuration.yaml");

/// How often what may have changed is looked at again.
const LOOK: Duration = Duration::from_secs(5);

/// Everything that admission needs.
pub struct Webhook {
    /// Signs the listener's certificate and knows the roots.
    pub authority: Arc<Authority>,
    /// What injection does.
    pub injection: inject::Settings,
    /// What resources are judged by.
    pub compile: compile::Settings,
    /// The resources in force; None before the source was read.
    pub resources: watch::Receiver<Option<Arc<Resources>>>,
    /// Whether this replica keeps the `caBundle`.
    pub leader: watch::Receiver<bool>,
    /// True once the process is to end.
    pub draining: watch::Receiver<bool>,
    /// Counts.
    pub metrics: Metrics,
}

impl Webhook {
    /// Answers on `listener` and keeps both certificate and `caBundle` in force, until the tasks are dropped.
    ///
    /// # Errors
    /// When no certificate can be issued.
    pub fn start(self, listener: TcpListener, client: Client, background: &mut JoinSet<()>) -> Result<(), CaError> {
        let (certificate, tls) = certificate::Certificate::issue(Arc::clone(&self.authority), self.metrics.clone())?;
        background.spawn(certificate.keep());
        background.spawn(bundle::keep(client, Arc::clone(&self.authority), self.leader.clone()));
        background.spawn(listen::serve(listener, tls, Arc::new(self)));
        Ok(())
    }
}
