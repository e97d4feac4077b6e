//! Keeps the proxy's certificate: asks for it, renews it in time, follows the trust bundle, and publishes each change
//! as one `TlsState`; using it is the data plane's job.
//!
//! Fails closed: before the first certificate, and after the last one expired, `None` is published. Which roots count:
//! those that the control plane told last (config stream, else the answer to `Certify`); the bundle file only until
//! then. The control plane itself may chain to either, so that neither a stale file nor a missed rotation locks us out.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use causeway_mesh::config::TrustBundle;
use causeway_mesh::svid::{self, Roots, SvidError, Usage};
use causeway_mesh::{backoff, lifetime};
use rustls::pki_types::{CertificateDer, UnixTime};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock;
use crate::store::{Store, StoredIdentity};
use crate::tls::dial::ControlPlane;
use crate::tls::{Credential, Tls, TlsState};

mod bundle;
mod certify;

pub use bundle::BundleFile;
pub use certify::CertifyError;

/// A bundle file that changed is noticed within this time.
const LOOK: Duration = Duration::from_secs(5);
/// Between two certificates, whatever their life.
const SPACING: Duration = Duration::from_secs(1);
const RETRY_BASE: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(20);
const LOCAL_RETRY_MAX: Duration = Duration::from_secs(1);
/// Nobody was reached and there is no certificate yet: the pod's start waits for us.
const STARTING_RETRY_MAX: Duration = Duration::from_secs(2);
/// The same complaint again.
const COMPLAIN: Duration = Duration::from_secs(60);
/// Above it the clocks are worth a warning: leaves are back-dated by minutes only.
const SKEW_WARN: i64 = 60;

/// What the identity task needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// PEM file with the roots to begin with; read again when it changes.
    pub trust_bundle: PathBuf,
    /// The projected ServiceAccount token; read for each request, since it rotates.
    pub token_file: PathBuf,
    /// Peers of any other are refused.
    pub trust_domain: String,
    /// Namespace of the pod: the certificate must be of it.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
}

impl Settings {
    /// `namespace/pod`, as the wire has it.
    pub fn workload(&self) -> String {
        format!("{}/{}", self.namespace, self.pod)
    }
}

/// Starts the task on the current runtime and returns the view of what it publishes.
///
/// `trust` carries the bundle of the config stream; `stored` is what an earlier run of the same workload left behind.
/// The task ends when the last [`Tls`] is dropped.
pub fn spawn(
    settings: Settings,
    control_plane: Arc<ControlPlane>,
    trust: watch::Receiver<Option<Arc<TrustBundle>>>,
    store: Option<Store>,
    stored: Option<StoredIdentity>,
) -> Tls {
    let (publish, state) = watch::channel(None);
    let mut keeper = Keeper {
        file: BundleFile::new(settings.trust_bundle.clone(), &settings.trust_domain),
        settings,
        control_plane,
        trust,
        store,
        publish,
        taken: None,
        told: None,
        held: None,
        must_renew: false,
        complained: None,
    };
    if let Some(stored) = stored {
        keeper.restore(stored);
    }
    tokio::spawn(keeper.run());
    Tls::new(state)
}

struct Keeper {
    settings: Settings,
    control_plane: Arc<ControlPlane>,
    file: BundleFile,
    trust: watch::Receiver<Option<Arc<TrustBundle>>>,
    store: Option<Store>,
    publish: watch::Sender<Option<Arc<TlsState>>>,
    /// The stream's bundle that was looked at last.
    taken: Option<Arc<TrustBundle>>,
    /// Roots that the control plane told last.
    told: Option<Arc<Roots>>,
    held: Option<Held>,
    /// Our own chain is not valid under the newest roots.
    must_renew: bool,
    /// The last complaint, and when it was made.
    complained: Option<(String, Instant)>,
}

struct Held {
    credential: Credential,
    /// Seconds that the issuer's clock is ahead of ours.
    skew: i64,
    renew_at: i64,
    /// The same moments by our own clocks: whichever of the two says "due" first, wins.
    renew: Moment,
    expiry: Moment,
}

/// A moment on the wall clock, which may jump, and on the monotonic one, which may sleep.
#[derive(Clone, Copy)]
struct Moment {
    wall: i64,
    monotonic: Instant,
}

impl Moment {
    /// `at` by a clock that shows `their_now` at this instant.
    fn at(at: i64, their_now: i64) -> Self {
        let left = u64::try_from(at.saturating_sub(their_now)).unwrap_or(0);
        let wall = clock::unix().saturating_add(at.saturating_sub(their_now));
        // A century is as good as for ever, and does not overflow.
        Self { wall, monotonic: Instant::now() + Duration::from_secs(left.min(100 * 365 * 86_400)) }
    }

    fn left(self) -> Duration {
        let wall = u64::try_from(self.wall.saturating_sub(clock::unix())).unwrap_or(0);
        self.monotonic.saturating_duration_since(Instant::now()).min(Duration::from_secs(wall))
    }
}

impl Keeper {
    async fn run(mut self) {
        let mut attempt = 0;
        let mut not_before = Instant::now();
        loop {
            self.follow_roots().await;
            if self.is_due() && Instant::now() >= not_before {
                match self.renew().await {
                    Ok(()) => (attempt, not_before) = (0, Instant::now() + SPACING),
                    Err(error) => {
                        not_before = Instant::now() + self.complain(&error, attempt);
                        attempt = attempt.saturating_add(1);
                    }
                }
            }
            self.drop_if_expired();
            let nap = self.nap(not_before);
            tokio::select! {
                () = tokio::time::sleep(nap) => {}
                changed = self.trust.changed() => if changed.is_err() {
                    // Discovery is gone; what it said last stays true.
                    tokio::time::sleep(nap).await;
                },
                () = self.publish.closed() => return,
            }
        }
    }

    /// Tells why there is no certificate, the same cause at most once a minute, and says how long to wait.
    fn complain(&mut self, error: &CertifyError, attempt: u32) -> Duration {
        // A file that is still to come costs nobody anything to look for.
        let max = match error {
            CertifyError::NoBundle(_) | CertifyError::Token { .. } => LOCAL_RETRY_MAX,
            CertifyError::Dial(_) if self.held.is_none() => STARTING_RETRY_MAX,
            _ => RETRY_MAX,
        };
        let wait = backoff::delay(attempt, RETRY_BASE, max, clock::unit());
        let text = error.to_string();
        if self.complained.as_ref().is_none_or(|(last, at)| *last != text || at.elapsed() >= COMPLAIN) {
            let svid = svid::cause(error).map(SvidError::code);
            tracing::warn!(error = text, svid, attempt, wait_ms = wait.as_millis(), "certificate not issued");
            self.complained = Some((text, Instant::now()));
        }
        wait
    }

    fn is_due(&self) -> bool {
        self.must_renew || self.held.as_ref().is_none_or(|h| h.renew.left().is_zero())
    }

    fn nap(&self, not_before: Instant) -> Duration {
        let retry = not_before.saturating_duration_since(Instant::now());
        let due = match &self.held {
            Some(_) if self.must_renew => retry,
            Some(held) => held.renew.left().max(retry).min(held.expiry.left().max(Duration::from_millis(100))),
            None => retry,
        };
        // Wall clocks count whole seconds; a nap of nothing would spin through the last one.
        due.clamp(Duration::from_millis(10), LOOK)
    }

    /// The roots that peers are judged by.
    fn roots(&self) -> Option<Arc<Roots>> {
        self.told.clone().or_else(|| self.file.roots())
    }

    /// The roots that the control plane may chain to.
    fn dial_roots(&self) -> Option<Arc<Roots>> {
        let (told, file) = (self.told.as_deref(), self.file.roots());
        let all: Vec<Vec<u8>> =
            told.into_iter().chain(file.as_deref()).flat_map(Roots::der).map(<[u8]>::to_vec).collect();
        Roots::new(&self.settings.trust_domain, &all).ok().map(Arc::new)
    }

    /// Takes up a bundle that the stream or the file brought, and publishes anew where that changes anything.
    async fn follow_roots(&mut self) {
        let file_changed = self.file.refresh().await;
        // Compared, not asked for changes: the nap has seen the change already.
        let bundle = self.trust.borrow_and_update().clone();
        let told_changed = match bundle {
            Some(bundle) if self.taken.as_ref().is_none_or(|taken| !Arc::ptr_eq(taken, &bundle)) => {
                let changed = self.take_told(&bundle);
                self.taken = Some(bundle);
                changed
            }
            _ => false,
        };
        if (file_changed || told_changed) && self.held.is_some() {
            tracing::info!("trust bundle changed");
            self.must_renew = !self.is_accepted();
            self.publish_held();
            self.save();
        }
    }

    fn take_told(&mut self, bundle: &TrustBundle) -> bool {
        match Roots::new(&self.settings.trust_domain, &bundle.roots) {
            Ok(roots) if self.told.as_ref().is_some_and(|told| told.der().eq(roots.der())) => false,
            Ok(roots) => {
                self.told = Some(Arc::new(roots));
                true
            }
            Err(error) => {
                tracing::warn!(%error, code = error.code(), "trust bundle of the stream refused");
                false
            }
        }
    }

    async fn renew(&mut self) -> Result<(), CertifyError> {
        let dial_roots = self.dial_roots().ok_or_else(|| CertifyError::NoBundle(self.settings.trust_bundle.clone()))?;
        let issued = certify::certify(&self.control_plane, &dial_roots, &self.settings.token_file).await?;
        let now = issued.credential.issued_at;
        let skew = now - clock::unix();
        if skew.abs() > SKEW_WARN {
            tracing::warn!(skew_s = skew, "our clock and the control plane's differ; set the clock of this machine");
        }
        let theirs = Roots::new(&self.settings.trust_domain, &issued.roots).map(Arc::new);
        let accept = |roots: &Roots| accept(roots, &issued.credential, now, &self.settings.namespace);
        match (self.told.as_deref().map(accept), theirs) {
            (Some(Ok(())), _) => {}
            // Newer than what the stream said last, or said before the stream said anything.
            (_, Ok(theirs)) => {
                accept(&theirs)?;
                self.told = Some(theirs);
            }
            (Some(Err(error)), Err(_)) => return Err(error),
            (None, Err(error)) => return Err(CertifyError::Issued(error.into())),
        }
        self.hold(issued.credential, now)?;
        self.publish_held();
        self.save();
        Ok(())
    }

    fn hold(&mut self, credential: Credential, now: i64) -> Result<(), CertifyError> {
        let leaf = credential.chain.first().map(Vec::as_slice).unwrap_or_default();
        let info = svid::leaf_info(leaf).map_err(|e| CertifyError::Issued(e.into()))?;
        let not_after = i64::try_from(info.not_after).unwrap_or(i64::MAX);
        // Counted from the issue, not from `not_before`, which is back-dated and would make short lives shorter.
        let renew_at = lifetime::renew_at(credential.issued_at, not_after, clock::unit());
        tracing::info!(id = %info.id, serial = info.serial, not_after, renew_at, "certificate held");
        self.must_renew = false;
        self.held = Some(Held {
            credential,
            skew: now - clock::unix(),
            renew_at,
            renew: Moment::at(renew_at, now),
            expiry: Moment::at(not_after, now),
        });
        Ok(())
    }

    /// Whether peers that hold the newest roots accept our chain.
    fn is_accepted(&self) -> bool {
        let (Some(held), Some(roots)) = (&self.held, self.roots()) else { return true };
        accept(&roots, &held.credential, clock::unix() + held.skew, &self.settings.namespace).is_ok()
    }

    fn publish_held(&self) {
        let (Some(held), Some(roots)) = (&self.held, self.roots()) else { return };
        match TlsState::new(&held.credential, roots, held.renew_at) {
            Ok(state) => {
                let state = match self.dial_roots() {
                    Some(dial) => state.with_control_plane_roots(dial),
                    None => state,
                };
                self.publish.send_replace(Some(Arc::new(state)));
            }
            Err(error) => tracing::error!(%error, "certificate cannot be used; the former one stays"),
        }
    }

    fn drop_if_expired(&mut self) {
        if self.held.as_ref().is_some_and(|h| h.expiry.left().is_zero()) {
            tracing::error!("the certificate expired before it could be renewed; new connections are refused");
            self.held = None;
            self.publish.send_replace(None);
        }
    }

    fn save(&self) {
        if let (Some(store), Some(held), Some(roots)) = (&self.store, &self.held, self.roots()) {
            store.save_identity(StoredIdentity {
                workload: self.settings.workload(),
                credential: held.credential.clone(),
                roots: roots.der().map(<[u8]>::to_vec).collect(),
            });
        }
    }

    /// Takes up what an earlier run left, if it is still this workload's and still valid.
    fn restore(&mut self, stored: StoredIdentity) {
        let now = clock::unix();
        let checked = self.check_stored(&stored, now);
        match checked.and_then(|roots| {
            self.told = Some(Arc::new(roots));
            self.hold(stored.credential, now)
        }) {
            Ok(()) => self.publish_held(),
            Err(error) => {
                self.told = None;
                tracing::warn!(%error, "stored certificate not used");
            }
        }
    }

    fn check_stored(&self, stored: &StoredIdentity, now: i64) -> Result<Roots, CertifyError> {
        let roots =
            Roots::new(&self.settings.trust_domain, &stored.roots).map_err(|e| CertifyError::Issued(e.into()))?;
        if stored.workload != self.settings.workload() {
            return Err(CertifyError::NotOurs(stored.workload.clone()));
        }
        accept(&roots, &stored.credential, now, &self.settings.namespace)?;
        let leaf = stored.credential.chain.first().map(Vec::as_slice).unwrap_or_default();
        let id = svid::leaf_identity(leaf).map_err(|e| CertifyError::Issued(e.into()))?;
        match certify::token_account(&self.settings.token_file) {
            Some((namespace, account)) if (namespace.as_str(), account.as_str()) != (id.namespace(), id.account()) => {
                Err(CertifyError::NotOurs(id.to_string()))
            }
            _ => Ok(roots),
        }
    }
}

/// Judges our own chain as our peers will: in both roles, and its key must be ours.
fn accept(roots: &Roots, credential: &Credential, now: i64, namespace: &str) -> Result<(), CertifyError> {
    let now = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now).unwrap_or(0)));
    let chain: Vec<CertificateDer<'_>> = credential.chain.iter().map(|c| CertificateDer::from(c.as_slice())).collect();
    let [leaf, intermediates @ ..] = chain.as_slice() else {
        return Err(CertifyError::Issued(crate::tls::TlsError::Empty));
    };
    for usage in [Usage::Server, Usage::Client] {
        let id = svid::verify(roots, leaf, intermediates, now, usage).map_err(|e| CertifyError::Issued(e.into()))?;
        if id.namespace() != namespace {
            return Err(CertifyError::NotOurs(id.to_string()));
        }
    }
    credential.check_key().map_err(CertifyError::Issued)
}
