//! Keeps the trust bundle, by which a new proxy knows the control plane, as a ConfigMap in every namespace with
//! injection. The leader alone does it. Roots that running proxies trust come over their configuration streams.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use tokio::sync::watch;

use super::{ANSWER_DEADLINE, INJECTOR, NAME, is_status};
use crate::ca::Authority;
use crate::clock;
use crate::index::Resources;
use crate::metrics::Metrics;

mod plan;

pub use plan::namespaces;
use plan::{Action, Owner, Seen, plan};

/// The ConfigMap's name in every namespace, which injected pods mount.
pub use crate::inject::TRUST_CONFIG_MAP as CONFIG_MAP;
/// Its key, a file in PEM.
pub const BUNDLE_KEY: &str = "trust-bundle.pem";

/// What belongs together comes within so long.
const QUIET: Duration = Duration::from_millis(50);
/// The bundle is compared, and what failed is tried again, this often.
const AGAIN: Duration = Duration::from_secs(5);
/// The owner is read again this often, besides before each write.
const OWNER: Duration = Duration::from_secs(10);

/// What is needed to keep the ConfigMaps.
pub struct Keeper {
    /// The API server.
    pub client: Client,
    /// The roots.
    pub authority: Arc<Authority>,
    /// Which namespaces have injection; None before the source was read.
    pub resources: watch::Receiver<Option<Arc<Resources>>>,
    /// Whether this replica is the one that writes.
    pub leader: watch::Receiver<bool>,
    /// Counts.
    pub metrics: Metrics,
}

impl Keeper {
    /// Runs for ever; acts while this replica leads.
    pub async fn run(mut self) {
        let mut leader = self.leader.clone();
        // A sender that is gone is one that ends the process.
        while leader.wait_for(|leads| *leads).await.is_ok() {
            tokio::select! {
                () = self.lead() => {}
                _ = leader.wait_for(|leads| !*leads) => {}
            }
            self.metrics.trust_config_maps.set(0);
            self.metrics.trust_config_maps_failed.set(0);
        }
        std::future::pending::<()>().await;
    }

    async fn lead(&mut self) {
        let maps: Api<ConfigMap> = Api::all(self.client.clone());
        // By the field selector RBAC can name this one ConfigMap, and the API server sends no other.
        let config = watcher::Config::default().fields(&format!("metadata.name={CONFIG_MAP}"));
        let mut events = pin!(watcher(maps, config).default_backoff());
        let (mut seen, mut is_listed) = (BTreeMap::new(), false);
        let (mut resources, mut known) = (self.resources.clone(), Known::default());
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(event)) => note(&mut seen, &mut is_listed, event),
                    Some(Err(error)) => tracing::debug!(%error, "the trust bundle's ConfigMaps cannot be watched"),
                    None => return,
                },
                changed = resources.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(AGAIN) => {}
            }
            let wanted = resources.borrow_and_update().as_deref().map(namespaces);
            let (Some(wanted), true) = (wanted, is_listed) else { continue };
            // Collect what belongs together.
            while let Ok(Some(event)) = tokio::time::timeout(QUIET, events.next()).await {
                if let Ok(event) = event {
                    note(&mut seen, &mut is_listed, event);
                }
            }
            if is_listed {
                self.metrics.trust_config_maps.set(i64::try_from(wanted.len()).unwrap_or(i64::MAX));
                self.pass(&wanted, &seen, &mut known).await;
            }
        }
    }

    async fn pass(&self, wanted: &BTreeSet<String>, seen: &BTreeMap<String, Seen>, known: &mut Known) {
        let bundle = self.authority.bundle_pem(clock::unix_now());
        let is_settled = plan(wanted, &bundle, known.owner.as_ref(), seen).is_empty();
        let is_old = known.since.is_none_or(|since| since.elapsed() >= OWNER);
        if is_settled && !is_old {
            self.metrics.trust_config_maps_failed.set(0);
            return;
        }
        // Before anything is written: what names an owner that is gone is collected at once.
        let Ok(owner) = self.owner().await else { return };
        *known = Known { owner, since: Some(clock::now()) };
        let mut failed = 0;
        for action in plan(wanted, &bundle, known.owner.as_ref(), seen) {
            if let Err(error) = self.act(&action, &bundle, known.owner.as_ref()).await {
                failed += 1;
                tracing::debug!(?action, error, "a trust bundle cannot be written");
            }
        }
        if failed > 0 && self.metrics.trust_config_maps_failed.get() == 0 {
            tracing::warn!(failed, "trust bundles could not be written (namespaces that end, or missing permission?)");
        }
        self.metrics.trust_config_maps_failed.set(failed);
    }

    /// Who owns the ConfigMaps, so that they go with the installation; an installation without injection has no owner
    /// for them.
    async fn owner(&self) -> Result<Option<Owner>, ()> {
        let injectors: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        match tokio::time::timeout(ANSWER_DEADLINE, injectors.get_metadata_opt(INJECTOR)).await {
            Ok(Ok(found)) => Ok(found.and_then(|f| f.metadata.uid).map(|uid| Owner { uid })),
            Ok(Err(error)) => {
                tracing::debug!(%error, "{INJECTOR} cannot be read");
                Err(())
            }
            Err(_) => Err(()),
        }
    }

    async fn act(&self, action: &Action, bundle: &str, owner: Option<&Owner>) -> Result<(), String> {
        let maps = |namespace: &str| Api::<ConfigMap>::namespaced(self.client.clone(), namespace);
        let done = match action {
            Action::Write(namespace) => {
                let (maps, map) = (maps(namespace), plan::config_map(bundle, owner));
                let parameters = PatchParams::apply(NAME).force();
                let call = async move { maps.patch(CONFIG_MAP, &parameters, &Patch::Apply(map)).await.map(drop) };
                tokio::time::timeout(ANSWER_DEADLINE, call).await
            }
            Action::Delete(namespace) => {
                let maps = maps(namespace);
                let call = async move { maps.delete(CONFIG_MAP, &DeleteParams::default()).await.map(drop) };
                tokio::time::timeout(ANSWER_DEADLINE, call).await
            }
        };
        match done {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if is_status(&error, 404) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {ANSWER_DEADLINE:?}")),
        }
    }
}

/// The owner as it was read last.
#[derive(Default)]
struct Known {
    owner: Option<Owner>,
    since: Option<Instant>,
}

/// Applies one event of the watch. `is_listed` is false while a list is under way: from a part of it nothing follows.
fn note(seen: &mut BTreeMap<String, Seen>, is_listed: &mut bool, event: watcher::Event<ConfigMap>) {
    let mut keep = |map: ConfigMap| {
        seen.insert(map.metadata.namespace.clone().unwrap_or_default(), Seen::of(&map));
    };
    match event {
        watcher::Event::Init => {
            seen.clear();
            *is_listed = false;
        }
        watcher::Event::InitApply(map) | watcher::Event::Apply(map) => keep(map),
        watcher::Event::InitDone => *is_listed = true,
        watcher::Event::Delete(map) => {
            seen.remove(&map.metadata.namespace.unwrap_or_default());
        }
    }
}
