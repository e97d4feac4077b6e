//! Tells another replica how far the proxies of this one are.

use std::time::Duration;

use causeway_mesh::wire;
use causeway_mesh::wire::replicas_server::Replicas;
use tokio::time::{Instant, sleep, sleep_until};
use tonic::{Request, Response, Status};

use super::Services;
use super::accept::ConnectionInfo;
use crate::metrics::Reason;
use crate::publish::progress::report;

/// Changes that come together are told together.
const QUIET: Duration = Duration::from_millis(50);
/// Longest time that an answer is held back.
const LONGEST: Duration = Duration::from_secs(10);

#[tonic::async_trait]
impl Replicas for Services {
    async fn progress(&self, request: Request<wire::ProgressRequest>) -> Result<Response<wire::ProgressReply>, Status> {
        let info = request.extensions().get::<ConnectionInfo>();
        let is_replica = info.and_then(|c| c.peer.as_ref()).is_some_and(|peer| peer.id == self.own);
        if !is_replica {
            self.metrics.watches_refused.get_or_create(&Reason { reason: "not_a_replica" }).inc();
            return Err(Status::permission_denied("not_a_replica: only the control plane itself may ask for this"));
        }
        let wire::ProgressRequest { known, wait_ms } = *request.get_ref();
        let deadline = Instant::now() + Duration::from_millis(wait_ms.into()).min(LONGEST);
        let (mut changes, mut draining) = (self.publisher.changes(), self.draining.clone());
        loop {
            changes.mark_unchanged();
            let publisher = self.publisher.clone();
            let progress = tokio::task::spawn_blocking(move || publisher.progress()).await;
            let progress = progress.ok().flatten();
            let progress =
                progress.ok_or_else(|| Status::unavailable("not_synced: the configuration is not read yet"))?;
            let reply = report::to_wire(&self.replica, &progress);
            if reply.digest != known {
                return Ok(Response::new(reply));
            }
            let digest = reply.digest;
            let has_ended = tokio::select! {
                Ok(()) = changes.changed() => false,
                () = sleep_until(deadline) => {
                    let replica = self.replica.clone();
                    let reply = wire::ProgressReply { replica, digest, unchanged: true, ..Default::default() };
                    return Ok(Response::new(reply));
                }
                _ = draining.wait_for(|d| *d) => true,
            };
            if has_ended {
                return Err(Status::unavailable("draining: this replica ends"));
            }
            sleep(QUIET).await;
        }
    }
}
