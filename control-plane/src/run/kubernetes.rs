//! What runs beside the serving with `--source kubernetes`: the place where each part of it is started.

use std::sync::Arc;

use kube::Client;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::{Foundation, Grounds};
use crate::args::{Args, KubernetesArgs};
use crate::ca::{Authority, CaFiles};
use crate::clock;
use crate::index::Resources;
use crate::inject;
use crate::kubernetes::{self, lease, retired, secret, trust};
use crate::metrics::Metrics;
use crate::publish::Publisher;
use crate::readiness::Readiness;
use crate::source;
use crate::state::StateDir;
use crate::status;
use crate::token::{KubernetesTokens, TokenReviewer};
use crate::webhook::Webhook;

/// What a part may need; cheap to copy.
#[derive(Clone)]
pub struct Parts {
    /// The API server.
    pub client: Client,
    /// The command line's part on Kubernetes.
    pub args: KubernetesArgs,
    /// The proxies and the configuration in force.
    pub publisher: Arc<Publisher>,
    /// The resources in force; None before the source was read.
    pub resources: watch::Receiver<Option<Arc<Resources>>>,
    /// The CA.
    pub authority: Arc<Authority>,
    /// Whether this replica is the one that writes.
    pub leader: watch::Receiver<bool>,
    /// Counts.
    pub metrics: Metrics,
    /// Gates keep the control plane from being ready.
    pub readiness: Readiness,
    /// True once the process is to end.
    pub draining: watch::Receiver<bool>,
}

impl Parts {
    /// Starts what runs until the control plane ends; a part that ends by itself ends the control plane.
    fn start(&self, background: &mut JoinSet<()>) {
        let keeper = trust::Keeper {
            client: self.client.clone(),
            authority: Arc::clone(&self.authority),
            resources: self.resources.clone(),
            leader: self.leader.clone(),
            metrics: self.metrics.clone(),
        };
        background.spawn(keeper.run());
        let statuses = status::Keeper {
            client: self.client.clone(),
            publisher: Arc::clone(&self.publisher),
            resources: self.resources.clone(),
            authority: Arc::clone(&self.authority),
            leader: self.leader.clone(),
            replica: self.args.pod_name.clone(),
        };
        background.spawn(statuses.run());
    }
}

/// Starts the webhooks, where an address for them is given.
fn admission(args: &Args, parts: &Parts, background: &mut JoinSet<()>) -> anyhow::Result<()> {
    let Some(address) = args.kubernetes.webhook else { return Ok(()) };
    let gate = parts.readiness.gate("the webhooks' listener");
    let listener = super::bind(address, "--webhook")?;
    let webhook = Webhook {
        authority: Arc::clone(&parts.authority),
        injection: inject::Settings::new(&args.kubernetes.proxy_image, &args.kubernetes.advertise, &args.trust_domain),
        compile: super::settings(args),
        resources: parts.resources.clone(),
        leader: parts.leader.clone(),
        draining: parts.draining.clone(),
        metrics: parts.metrics.clone(),
    };
    webhook.start(listener, parts.client.clone(), background)?;
    gate.open();
    Ok(())
}

/// Waits for the CA's Secret, then starts everything else.
pub(super) async fn grounds(
    args: &Args,
    state: StateDir,
    foundation: &Foundation,
    background: &mut JoinSet<()>,
) -> anyhow::Result<Grounds> {
    let client = kubernetes::client().await?;
    let draining = foundation.draining.clone();
    let (trust_domain, leaf_ttl) = (&args.trust_domain, args.leaf_ttl);
    let judge =
        |delivery| Authority::open(state.clone(), CaFiles::Secret(delivery), trust_domain, leaf_ttl, clock::unix_now());
    let (delivery, authority) = secret::open(&client, &args.kubernetes.ca_secret, trust_domain, judge).await;
    let authority = Arc::new(authority);

    let (leader, leaving) =
        lease::elect(client.clone(), &args.kubernetes.pod_name, foundation.metrics.clone(), draining.clone());
    background.spawn(retired::remember(
        client.clone(),
        args.kubernetes.ca_secret.clone(),
        Arc::clone(&authority),
        delivery.subscribe(),
        leader.clone(),
    ));
    background.spawn(secret::follow(client.clone(), args.kubernetes.ca_secret.clone(), delivery));
    let (sender, events) = mpsc::channel(16);
    background.spawn(source::kubernetes::watch(client.clone(), sender));
    let resources = watch::Sender::default();
    let parts = Parts {
        client: client.clone(),
        args: args.kubernetes.clone(),
        publisher: Arc::clone(&foundation.publisher),
        resources: resources.subscribe(),
        authority: Arc::clone(&authority),
        leader: leader.clone(),
        metrics: foundation.metrics.clone(),
        readiness: foundation.readiness.clone(),
        draining,
    };
    parts.start(background);
    admission(args, &parts, background)?;
    let tokens = TokenReviewer::Kubernetes(Box::new(KubernetesTokens::new(client, foundation.metrics.clone())));
    Ok(Grounds { authority, tokens, events, election: Some((leader, leaving)), resources })
}
