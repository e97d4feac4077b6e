//! The conversation with the control plane: one stream at a time, opened again with backoff for as long as the proxy
//! lives; understanding what it brings is `apply`'s job.

use std::time::Duration;

use causeway_mesh::config::Fault;
use causeway_mesh::wire::config_client::ConfigClient;
use causeway_mesh::wire::watch_request::Request as Said;
use causeway_mesh::wire::{self, Ack, Hello, Nack, Subscribe, Update, WatchRequest};
use causeway_mesh::{backoff, svid};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

use super::apply::{Batch, Held};
use super::{Core, Status};
use crate::clock;
use crate::tls::TlsState;
use crate::tls::dial::DialError;

/// For the answer to the opening of a stream, and for anything we say to be taken.
const PATIENCE: Duration = Duration::from_secs(10);
const RETRY_BASE: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(15);
/// The same while there is no configuration at all: the pod's start waits for us, and an attempt that reaches nobody
/// is cheap.
const STARTING_RETRY_MAX: Duration = Duration::from_secs(2);
/// A stream that stood this long was a good one: the next failure counts as the first.
const STEADY: Duration = Duration::from_secs(10);
/// Between two looks for idle subscriptions.
const IDLE_LOOK: Duration = Duration::from_secs(15);
/// A batch larger than this is refused; it bounds what a broken control plane can make us hold.
const MAX_BATCH: usize = 64 << 20;

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    /// The control plane closed it in good order (age, drain): come back soon.
    #[error("closed by the control plane")]
    Closed,
    /// What we hold is not what the control plane thinks that we hold.
    #[error("the digest differs; all resources are asked for again")]
    Drift,
    #[error("{0}")]
    Dial(#[from] DialError),
    #[error("TLS: {0}")]
    Tls(#[from] crate::tls::TlsError),
    #[error("refused ({code:?}): {message}")]
    Refused { code: Code, message: String },
    #[error("{0} took too long")]
    Slow(&'static str),
    /// Every handle of the proxy is gone.
    #[error("the proxy is going")]
    Abandoned,
}

impl From<tonic::Status> for Ended {
    fn from(status: tonic::Status) -> Self {
        Self::Refused { code: status.code(), message: status.message().to_owned() }
    }
}

/// One open stream.
struct Session {
    say: mpsc::Sender<WatchRequest>,
    /// We said that we hold nothing: the first batch is everything there is.
    is_reset: bool,
}

impl Core {
    /// Runs until every handle is gone.
    pub(super) async fn run(mut self) {
        let mut states = self.tls.subscribe();
        let mut attempt = 0;
        let mut reset = false;
        loop {
            let state = match states.wait_for(Option::is_some).await {
                Ok(state) => state.clone(),
                Err(_) => return,
            };
            let Some(state) = state else { continue };
            let begun = Instant::now();
            let ended = self.converse(&state, reset).await;
            let was_connected = self.status.borrow().connected;
            if was_connected && begun.elapsed() >= STEADY {
                attempt = 0;
            }
            reset = matches!(ended, Ended::Drift);
            let wait = match &ended {
                Ended::Abandoned => return,
                Ended::Closed | Ended::Drift if attempt == 0 => RETRY_BASE.mul_f64(clock::unit()),
                Ended::Dial(_) if self.held.len() == 0 => {
                    backoff::delay(attempt, RETRY_BASE, STARTING_RETRY_MAX, clock::unit())
                }
                _ => backoff::delay(attempt, RETRY_BASE, RETRY_MAX, clock::unit()),
            };
            attempt = attempt.saturating_add(1);
            self.tell_ended(&ended, wait);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.publish.closed() => return,
            }
        }
    }

    fn tell_ended(&self, ended: &Ended, wait: Duration) {
        let wait_ms = wait.as_millis();
        let is_orderly = matches!(ended, Ended::Closed);
        if is_orderly {
            tracing::debug!(wait_ms, "config stream closed by the control plane");
        } else {
            let svid = svid::cause(ended).map(svid::SvidError::code);
            tracing::warn!(error = %ended, svid, wait_ms, "no config stream; the last configuration stays");
        }
        self.status.send_modify(|s| {
            s.connected = false;
            s.away = !matches!(ended, Ended::Closed | Ended::Drift);
            s.drifts += u64::from(matches!(ended, Ended::Drift));
            s.last_error = (!is_orderly).then(|| ended.to_string());
        });
    }

    async fn converse(&mut self, state: &TlsState, reset: bool) -> Ended {
        match self.open(state, reset).await {
            Ok((session, stream)) => self.listen(session, stream).await,
            Err(ended) => ended,
        }
    }

    async fn open(&self, state: &TlsState, is_reset: bool) -> Result<(Session, Streaming<Update>), Ended> {
        let config = state.control_plane_config(self.control_plane.id())?;
        let channel = self.control_plane.channel(config).await?;
        let mut client = ConfigClient::new(channel).max_decoding_message_size(MAX_BATCH);
        let (say, said) = mpsc::channel(16);
        let held = match is_reset {
            true => Vec::new(),
            false => self.held.versions().map(|(n, version)| wire::Held { name: n.to_owned(), version }).collect(),
        };
        let hello = Hello {
            workload: self.own.workload(),
            proxy_version: self.version.clone(),
            held,
            destinations: self.subscriptions.all(),
        };
        // First in line before the stream opens; the channel has room.
        say.try_send(request(Said::Hello(hello))).ok();
        let answer = timeout(PATIENCE, client.watch(ReceiverStream::new(said))).await;
        let stream = answer.map_err(|_| Ended::Slow("opening the stream"))??.into_inner();
        self.status.send_modify(|s| {
            s.connected = true;
            s.away = false;
            s.streams += 1;
            s.last_contact = clock::unix();
            s.last_error = None;
        });
        tracing::info!(held = if is_reset { 0 } else { self.held.len() }, "config stream open");
        Ok((Session { say, is_reset }, stream))
    }

    async fn listen(&mut self, mut session: Session, mut stream: Streaming<Update>) -> Ended {
        let subscriptions = self.subscriptions.clone();
        let mut look = interval(IDLE_LOOK.min(subscriptions.idle() / 2).max(Duration::from_millis(100)));
        loop {
            let done = tokio::select! {
                update = stream.message() => match update {
                    Ok(Some(update)) => self.take(&mut session, &update).await,
                    Ok(None) => Err(Ended::Closed),
                    Err(status) => Err(status.into()),
                },
                () = subscriptions.changed() => self.subscribe(&session).await,
                _ = look.tick() => {
                    subscriptions.expire();
                    Ok(())
                }
                () = self.publish.closed() => Err(Ended::Abandoned),
            };
            if let Err(ended) = done {
                return ended;
            }
        }
    }

    async fn subscribe(&self, session: &Session) -> Result<(), Ended> {
        let changes = self.subscriptions.changes();
        if changes.add.is_empty() && changes.remove.is_empty() {
            return Ok(());
        }
        session.say(Said::Subscribe(Subscribe { add: changes.add, remove: changes.remove })).await
    }

    /// Brings one batch in force and acknowledges it, or refuses it as a whole.
    async fn take(&mut self, session: &mut Session, update: &Update) -> Result<(), Ended> {
        let nonce = update.nonce;
        self.status.send_modify(|s| s.last_contact = clock::unix());
        let resources: Vec<Ref<'_>> = update.resources.iter().map(Ref).collect();
        let batch = match Batch::decode(&resources, &update.removed, &self.held, &self.own) {
            Ok(batch) => batch,
            Err(faults) => {
                self.tell_nack(nonce, &faults);
                return session.say(Said::Nack(Nack { nonce, faults: faults.iter().map(on_wire).collect() })).await;
            }
        };
        let first_after_reset = std::mem::take(&mut session.is_reset);
        if self.held.digest_after(&batch) != update.digest {
            if !first_after_reset {
                return Err(Ended::Drift);
            }
            // We said that we hold nothing, so this is everything; what it does not name is gone.
            let fresh = Held::default();
            if fresh.digest_after(&batch) != update.digest {
                tracing::warn!(nonce, "the digest differs even for a complete batch; the batch is taken as it is");
            }
            self.held = fresh;
        }
        self.held.apply(batch);
        self.publish_held();
        self.save();
        tracing::debug!(nonce, resources = update.resources.len(), removed = update.removed.len(), "in force");
        self.status.send_modify(|s| {
            s.acked = nonce;
            s.nacked.clear();
        });
        session.say(Said::Ack(Ack { nonce })).await
    }

    fn tell_nack(&self, nonce: u64, faults: &[Fault]) {
        let fault = faults.first().map(ToString::to_string);
        tracing::warn!(nonce, faults = faults.len(), fault, "configuration refused; the last good one stays");
        self.status.send_modify(|s: &mut Status| s.nacked = faults.to_vec());
    }
}

impl Session {
    async fn say(&self, said: Said) -> Result<(), Ended> {
        match timeout(PATIENCE, self.say.send(request(said))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Ended::Closed),
            Err(_) => Err(Ended::Slow("taking our answer")),
        }
    }
}

/// A resource of an update, borrowed as `Batch::decode` wants it.
struct Ref<'a>(&'a wire::Resource);

impl AsRef<wire::Resource> for Ref<'_> {
    fn as_ref(&self) -> &wire::Resource {
        self.0
    }
}

fn request(said: Said) -> WatchRequest {
    WatchRequest { request: Some(said) }
}

fn on_wire(fault: &Fault) -> wire::Fault {
    wire::Fault { resource: fault.resource.clone(), field: fault.field.clone(), message: fault.message.clone() }
}
