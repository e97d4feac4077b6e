//! The certificate that the webhooks' listener shows to the API server: issued by the mesh's CA, kept in memory only,
//! renewed at half its life and whenever the roots change. It names no SPIFFE ID, so nothing in the mesh takes its
//! holder for a workload.

use std::sync::Arc;
use std::time::Duration;

use causeway_mesh::{lifetime, svid};
use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS13;
use tokio::sync::watch;

use super::{LOOK, SERVER_NAMES};
use crate::ca::{Authority, CaError};
use crate::clock;
use crate::metrics::Metrics;

/// The certificate in force.
pub(super) struct Certificate {
    authority: Arc<Authority>,
    metrics: Metrics,
    tls: watch::Sender<Arc<ServerConfig>>,
    renew_at: i64,
    roots: String,
}

impl Certificate {
    /// The first one, and where each that follows can be had.
    pub(super) fn issue(
        authority: Arc<Authority>,
        metrics: Metrics,
    ) -> Result<(Self, watch::Receiver<Arc<ServerConfig>>), CaError> {
        let now = clock::unix_now();
        let (renew_at, config) = config(&authority, &metrics, now)?;
        let roots = authority.bundle_pem(now);
        let tls = watch::Sender::new(config);
        let receiver = tls.subscribe();
        Ok((Self { authority, metrics, tls, renew_at, roots }, receiver))
    }

    /// Renews until the task is dropped.
    pub(super) async fn keep(mut self) {
        loop {
            let left = u64::try_from(self.renew_at - clock::unix_now()).unwrap_or(0).max(1);
            tokio::time::sleep(LOOK.min(Duration::from_secs(left))).await;
            let now = clock::unix_now();
            let roots = self.authority.bundle_pem(now);
            if now < self.renew_at && roots == self.roots {
                continue;
            }
            match config(&self.authority, &self.metrics, now) {
                Ok((renew_at, config)) => {
                    (self.renew_at, self.roots) = (renew_at, roots);
                    self.tls.send_replace(config);
                }
                Err(error) => {
                    tracing::error!(%error, "the webhooks' certificate cannot be renewed");
                    self.renew_at = now + 5;
                }
            }
        }
    }
}

/// TLS with a new certificate, and when to renew that (seconds since the epoch).
fn config(authority: &Authority, metrics: &Metrics, now: i64) -> Result<(i64, Arc<ServerConfig>), CaError> {
    let (key, issued) = authority.serving_key(&SERVER_NAMES, now)?;
    let unusable = |e: rustls::Error| CaError::Unusable(svid::SvidError::Malformed(e.to_string()));
    let mut config = ServerConfig::builder_with_provider(svid::provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(unusable)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    // The API server asks for this one alone, so that its calls spread over replicas.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    metrics.webhook_certificate_expiry.set(issued.not_after);
    Ok((lifetime::renew_at(now, issued.not_after, 0.5), Arc::new(config)))
}
