//! Keeps what ends from ending: the listener's certificate, and the CA and trust bundle as they are now.

use std::sync::Arc;
use std::time::Duration;

use causeway_mesh::svid::{self, ClientVerifier};
use rustls::ServerConfig;
use tokio::sync::watch;

use crate::ca::Authority;
use crate::clock;
use crate::metrics::Metrics;
use crate::publish::Publisher;

/// How often the CA's files are read again.
const RELOAD: Duration = Duration::from_secs(5);
const DAY: i64 = 24 * 3600;

/// The listener's TLS with a fresh certificate, and when to renew it (seconds since the epoch).
pub fn server_config(
    authority: &Arc<Authority>,
    metrics: &Metrics,
    now: i64,
) -> anyhow::Result<(i64, Arc<ServerConfig>)> {
    let (key, issued) = authority.server_key(now)?;
    metrics.server_certificate_expiry.set(issued.not_after);
    metrics.ca_expiry.set(authority.expires());
    let clients = ClientVerifier::optional(authority.roots_source());
    let config = svid::server_config(key, clients, &[b"h2"])?;
    // Life counts from now: the back-dated part was never used.
    Ok((causeway_mesh::lifetime::renew_at(now, issued.not_after, 0.5), Arc::new(config)))
}

/// Reads the CA's files again, and keeps the listener's certificate and the proxies' trust bundle up to date.
pub async fn renew(
    authority: Arc<Authority>,
    publisher: Arc<Publisher>,
    tls: watch::Sender<Arc<ServerConfig>>,
    mut renew_at: i64,
    metrics: Metrics,
) {
    let (mut warn_at, mut last_error) = (0, String::new());
    loop {
        let left = u64::try_from(renew_at - clock::unix_now()).unwrap_or(0).max(1);
        tokio::time::sleep(RELOAD.min(Duration::from_secs(left))).await;
        let now = clock::unix_now();
        let changed = match authority.reload(now) {
            Ok(changed) => {
                metrics.reload_failed.set(0);
                last_error.clear();
                changed
            }
            Err(error) => {
                metrics.reload_failed.set(1);
                // Once, not every few seconds until somebody comes.
                if last_error != error.to_string() {
                    last_error = error.to_string();
                    tracing::warn!(%error, "the CA changed and cannot be used; what was in force stays");
                }
                false
            }
        };
        publisher.publish_trust(authority.bundle(now));
        let days = (authority.expires() - now) / DAY;
        if days < 60 && now >= warn_at {
            warn_at = now + DAY;
            tracing::warn!(days, "the CA's certificate ends soon; announce its successor in extra-roots.pem");
        }
        if changed {
            tracing::info!("the CA or the trust bundle changed");
        }
        if changed || now >= renew_at {
            match server_config(&authority, &metrics, now) {
                Ok((at, config)) => {
                    renew_at = at;
                    tls.send_replace(config);
                }
                Err(error) => {
                    tracing::error!(%error, "the listener's certificate cannot be renewed");
                    renew_at = now + 5;
                }
            }
        }
    }
}
