//! Drives one proxy's session between its requests, the configuration in force and the end of the stream.

use std::future::Future;
use std::time::Duration;

use causeway_mesh::wire;
use causeway_mesh::wire::watch_request::Request;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_stream::{Stream, StreamExt};

use super::{Publisher, Registration, SessionError, WatchError};
use crate::clock;

/// A proxy that does not answer a batch for so long is asked to begin anew.
const ACK_DEADLINE: Duration = Duration::from_secs(60);

/// Faults of one refusal that are logged; `/proxies` shows all.
const MAX_LOGGED: usize = 5;

/// How a stream ended without anybody's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The proxy went away.
    Gone,
    /// It is old enough, or this process shuts down: the proxy resumes where it was.
    Polite,
    /// No answer to a batch.
    Unanswered,
}

/// What a request was.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    Acked,
    Nacked,
    Subscribed,
}

/// Runs until the proxy goes, breaks the rules, or `until` is over.
///
/// # Errors
/// What the proxy did wrong, or that it may no longer have the stream.
pub async fn drive<S, E>(
    registration: &Registration,
    mut requests: S,
    updates: mpsc::Sender<wire::Update>,
    until: impl Future<Output = ()>,
) -> Result<Ending, WatchError>
where
    S: Stream<Item = Result<wire::WatchRequest, E>> + Unpin,
{
    let publisher = &registration.publisher;
    let mut until = std::pin::pin!(until);
    let mut deadline = None;
    // Whether there may be something to send: what is in force or what the proxy uses has changed.
    let mut is_stale = true;
    loop {
        if is_stale && publisher.view().is_some() {
            publisher.check_account(&registration.client(), &registration.proxy.peer.id)?;
            let (update, is_waiting) = registration.next_update();
            // A change that came while a batch is on its way is looked at again after the answer.
            is_stale = update.is_none() && is_waiting;
            if let Some(update) = update {
                deadline = Some(Instant::now() + ACK_DEADLINE);
                // Never more than one batch is on its way, so this waits for nobody slow.
                if updates.send(update).await.is_err() {
                    return Ok(Ending::Gone);
                }
            }
        }
        let overdue = async move {
            match deadline {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            request = requests.next() => match request {
                Some(Ok(request)) => {
                    let said = registration.handle(request)?;
                    is_stale |= said != Said::Acked;
                    if said != Said::Subscribed {
                        deadline = None;
                    }
                }
                Some(Err(_)) | None => return Ok(Ending::Gone),
            },
            () = registration.proxy.news.notified() => is_stale = true,
            () = overdue => return Ok(Ending::Unanswered),
            () = &mut until => return Ok(Ending::Polite),
        }
    }
}

impl Registration {
    fn client(&self) -> crate::compile::Client {
        self.proxy.state().session.client().clone()
    }

    /// The next batch, and whether one is on its way.
    fn next_update(&self) -> (Option<wire::Update>, bool) {
        let mut state = self.proxy.state();
        // What is in force while the state is held: one that was looked up before may be older than what the session passed.
        let update = self.publisher.view().and_then(|view| state.session.next(&*view));
        if let Some(update) = &update {
            state.waiting_since = Some(clock::now());
            self.publisher.metrics.pushes.inc();
            self.publisher.metrics.pushed_resources.inc_by(update.resources.len() as u64);
        }
        let is_waiting = state.session.is_waiting();
        drop(state);
        self.publisher.note_change();
        (update, is_waiting)
    }

    fn handle(&self, request: wire::WatchRequest) -> Result<Said, WatchError> {
        let said = self.understand(request);
        self.publisher.note_change();
        said
    }

    fn understand(&self, request: wire::WatchRequest) -> Result<Said, WatchError> {
        let publisher: &Publisher = &self.publisher;
        let mut state = self.proxy.state();
        match request.request {
            Some(Request::Ack(ack)) => {
                state.session.on_ack(ack.nonce)?;
                state.waiting_since = None;
                publisher.metrics.acks.inc();
                Ok(Said::Acked)
            }
            Some(Request::Nack(nack)) => {
                state.session.on_nack(&nack)?;
                state.waiting_since = None;
                publisher.metrics.nacks.inc();
                let workload = &self.proxy.peer.id;
                for fault in nack.faults.iter().take(MAX_LOGGED) {
                    let wire::Fault { resource, field, message: fault } = fault;
                    tracing::warn!(%workload, resource, field, fault, "a proxy refused configuration and keeps the old");
                }
                Ok(Said::Nacked)
            }
            Some(Request::Subscribe(subscribe)) => {
                state.session.on_subscribe(&subscribe)?;
                let client = state.session.client().clone();
                drop(state);
                publisher.forget(&client, &subscribe.remove);
                publisher.remember(&client, &subscribe.add);
                Ok(Said::Subscribed)
            }
            Some(Request::Hello(_)) => Err(SessionError::Unexpected("a stream has one Hello").into()),
            None => Err(SessionError::Unexpected("a request that is not known").into()),
        }
    }
}

#[cfg(test)]
mod tests;
