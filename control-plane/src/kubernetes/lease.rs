//! Elects, by the Lease `causeway-control-plane`, the replica that alone writes status, events, ConfigMaps and
//! caBundles. Serving proxies and admission needs no leader.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{NAME, NAMESPACE, is_status};
use crate::clock;
use crate::metrics::Metrics;

mod candidate;

use candidate::{Candidate, LASTS, Record, Step};

/// Longest wait for one answer: a holder has time for a second try before it must stop leading.
const ANSWER: Duration = Duration::from_secs(2);

/// Starts to stand for election. The receiver says whether this replica leads; it turns false before another one can
/// lead. The task ends once `draining` and the Lease is given back, so that the next replica leads at once.
pub fn elect(
    client: Client,
    name: &str,
    metrics: Metrics,
    draining: watch::Receiver<bool>,
) -> (watch::Receiver<bool>, JoinHandle<()>) {
    let (leads, leader) = watch::channel(false);
    // A container that is started again has its pod's name, but is not the process that holds the Lease.
    let name = format!("{name}_{:08x}", u32::from_ne_bytes(clock::random_bytes()));
    let election = Election {
        leases: Api::namespaced(client, NAMESPACE),
        candidate: Candidate::new(name.clone()),
        name,
        leads,
        metrics,
        acquired: None,
        epoch: clock::now(),
    };
    (leader, tokio::spawn(election.run(draining)))
}

struct Election {
    leases: Api<Lease>,
    candidate: Candidate,
    name: String,
    leads: watch::Sender<bool>,
    metrics: Metrics,
    /// When this replica took the Lease last.
    acquired: Option<MicroTime>,
    epoch: Instant,
}

impl Election {
    async fn run(mut self, mut draining: watch::Receiver<bool>) {
        let mut last_error = String::new();
        loop {
            let round = tokio::select! {
                round = self.round() => round,
                _ = draining.wait_for(|d| *d) => break,
            };
            self.tell();
            let failed = match round {
                Ok(()) => {
                    last_error.clear();
                    false
                }
                Err(error) => {
                    // Once, not every second until the API server is back.
                    if last_error != error {
                        tracing::warn!(error, "the Lease {NAMESPACE}/{NAME} cannot be read or written");
                        last_error = error;
                    }
                    true
                }
            };
            let now = self.epoch.elapsed();
            let mut wait = self.candidate.wait(now, failed);
            if let Some(until) = self.candidate.leads_until() {
                wait = wait.min(until.saturating_sub(now));
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = draining.wait_for(|d| *d) => break,
            }
            self.tell();
        }
        self.give_back().await;
    }

    /// Reads the Lease and writes it where it is, or may become, ours. Never outlasts our time as a leader.
    async fn round(&mut self) -> Result<(), String> {
        let left = self.candidate.leads_until().map(|until| until.saturating_sub(self.epoch.elapsed()));
        let limit = left.filter(|left| !left.is_zero()).map_or(ANSWER, |left| left.min(ANSWER));
        let late = |_| format!("no answer within {limit:?}");
        let read = tokio::time::timeout(limit, self.leases.get_opt(NAME)).await.map_err(late)?;
        let read = read.map_err(|e| e.to_string())?;
        let now = self.epoch.elapsed();
        let step = self.candidate.saw(read.as_ref().map(record), now);
        if !self.candidate.leads(now) {
            self.tell();
        }
        let name = self.name.clone();
        let lease = match step {
            Step::Leave => return Ok(()),
            Step::Create => self.lease(None, &name),
            Step::Write(seen) => self.lease(Some(&seen), &name),
        };
        let limit = self.candidate.leads_until().map_or(ANSWER, |until| until.saturating_sub(now).min(ANSWER));
        let late = |_| format!("no answer within {limit:?}");
        match tokio::time::timeout(limit, self.write(&lease)).await.map_err(late)? {
            Ok(written) => {
                self.candidate.wrote(record(&written), now, self.epoch.elapsed());
                Ok(())
            }
            // Another replica was faster.
            Err(error) if is_status(&error, 409) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn write(&self, lease: &Lease) -> kube::Result<Lease> {
        match lease.metadata.resource_version {
            Some(_) => self.leases.replace(NAME, &PostParams::default(), lease).await,
            None => self.leases.create(&PostParams::default(), lease).await,
        }
    }

    fn lease(&mut self, seen: Option<&Record>, holder: &str) -> Lease {
        let now = k8s_openapi::jiff::Timestamp::from_microsecond(clock::unix_micros()).unwrap_or_default();
        let is_new = seen.is_none_or(|seen| seen.holder != holder && !holder.is_empty());
        if is_new {
            self.acquired = Some(MicroTime(now));
        }
        let transitions = seen.map_or(0, |seen| seen.transitions.saturating_add(i32::from(is_new)));
        Lease {
            metadata: ObjectMeta {
                name: Some(NAME.to_owned()),
                namespace: Some(NAMESPACE.to_owned()),
                resource_version: seen.map(|seen| seen.version.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.to_owned()),
                lease_duration_seconds: i32::try_from(LASTS.as_secs()).ok(),
                lease_transitions: Some(transitions),
                acquire_time: self.acquired.clone(),
                renew_time: Some(MicroTime(now)),
                ..LeaseSpec::default()
            }),
        }
    }

    /// Tells who wants to know whether this replica leads now.
    fn tell(&self) {
        let leads = self.candidate.leads(self.epoch.elapsed());
        self.metrics.leader.set(i64::from(leads));
        self.leads.send_if_modified(|was| {
            if *was != leads {
                let what = if leads { "this replica leads now" } else { "this replica leads no more" };
                tracing::info!(name = self.name, "{what}");
            }
            std::mem::replace(was, leads) != leads
        });
    }

    /// Frees the Lease, so that nobody waits for its end.
    async fn give_back(mut self) {
        self.candidate.resign();
        // First nobody leads, then somebody else may.
        self.tell();
        // Read anew: a write may have been under way.
        let Ok(Ok(Some(lease))) = tokio::time::timeout(ANSWER, self.leases.get_opt(NAME)).await else { return };
        let held = record(&lease);
        if held.holder != self.name {
            return;
        }
        let lease = self.lease(Some(&held), "");
        match tokio::time::timeout(ANSWER, self.leases.replace(NAME, &PostParams::default(), &lease)).await {
            Ok(Ok(_)) => tracing::info!("gave the Lease back"),
            Ok(Err(error)) => tracing::debug!(%error, "the Lease was not given back; it ends by itself"),
            Err(_) => tracing::debug!("the Lease was not given back in time; it ends by itself"),
        }
    }
}

fn record(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    Record {
        holder: spec.holder_identity.unwrap_or_default(),
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
        transitions: spec.lease_transitions.unwrap_or_default(),
    }
}
