//! What a proxy's TLS is made of at one moment: its certificate, its roots, and the rustls configurations built from
//! both; getting them is the `identity` module's job, judging peers that of `causeway_mesh::svid`.
//!
//! A handshake uses the state that is current when it begins; connections made before a renewal are not touched.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use causeway_mesh::spiffe::SpiffeId;
use causeway_mesh::svid::{self, ClientVerifier, LeafInfo, Roots, RootsSource, ServerVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ServerConfig};
use tokio::sync::watch;

use crate::clock;

pub mod dial;

/// Client configurations kept per state. Above it the cache starts anew, which costs one build per endpoint identity.
const CLIENT_CACHE: usize = 1024;

/// What two proxies speak inside a TLS connection. The inbound side never guesses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// HTTP over one shared HTTP/2 connection.
    H2,
    /// HTTP/1.1, for what HTTP/2 cannot carry (Upgrade), and for requests that come one at a time.
    H1,
    /// Bytes.
    Tcp,
}

impl Alpn {
    /// In the inbound side's order of preference.
    pub const ALL: [Self; 3] = [Self::H2, Self::H1, Self::Tcp];

    /// As on the wire.
    pub const fn name(self) -> &'static [u8] {
        match self {
            Self::H2 => b"causeway-h2",
            Self::H1 => b"causeway-h1",
            Self::Tcp => b"causeway-tcp",
        }
    }

    /// What a finished handshake agreed on; `None`: nothing of ours, so the connection must be refused.
    pub fn agreed(connection: &rustls::CommonState) -> Option<Self> {
        let name = connection.alpn_protocol()?;
        Self::ALL.into_iter().find(|a| a.name() == name)
    }
}

/// Why a certificate and key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The chain breaks the rule.
    #[error(transparent)]
    Svid(#[from] svid::SvidError),
    /// The key is not that of the leaf, or rustls refuses it.
    #[error("certificate and key: {0}")]
    Key(#[from] rustls::Error),
    /// No certificate at all.
    #[error("the chain is empty")]
    Empty,
}

/// A certificate chain with its private key.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// The leaf first, DER.
    pub chain: Vec<Vec<u8>>,
    /// PKCS#8, DER. Never logged, never leaves the pod.
    pub key: Vec<u8>,
    /// When the control plane issued it, by the control plane's clock, seconds since the epoch.
    pub issued_at: i64,
}

impl Credential {
    /// Whether the key is that of the leaf.
    ///
    /// # Errors
    /// [`TlsError`] where it is not, or cannot be used.
    pub fn check_key(&self) -> Result<(), TlsError> {
        self.certified_key().map(|_| ())
    }

    fn certified_key(&self) -> Result<CertifiedKey, TlsError> {
        if self.chain.is_empty() {
            return Err(TlsError::Empty);
        }
        let chain = self.chain.iter().cloned().map(CertificateDer::from).collect();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.clone()));
        let key = CertifiedKey::from_der(chain, key, &svid::provider())?;
        key.keys_match()?;
        Ok(key)
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("issued_at", &self.issued_at).finish_non_exhaustive()
    }
}

/// One certificate with the roots of its time, and everything that is derived from both. Immutable.
pub struct TlsState {
    key: Arc<CertifiedKey>,
    roots: Arc<Roots>,
    control_plane_roots: Arc<Roots>,
    info: LeafInfo,
    renew_at: i64,
    server: Arc<ServerConfig>,
    clients: Mutex<HashMap<(SpiffeId, Alpn), Arc<ClientConfig>>>,
}

impl TlsState {
    /// Builds the state from a credential that was verified before; `renew_at` in seconds since the epoch.
    ///
    /// # Errors
    /// [`TlsError`] where the key does not fit the leaf or the leaf is malformed.
    pub fn new(credential: &Credential, roots: Arc<Roots>, renew_at: i64) -> Result<Self, TlsError> {
        let leaf = credential.chain.first().ok_or(TlsError::Empty)?;
        let info = svid::leaf_info(leaf)?;
        let key = Arc::new(credential.certified_key()?);
        let alpn = Alpn::ALL.map(Alpn::name);
        let server = svid::server_config(key.clone(), ClientVerifier::required(fixed(&roots)), &alpn)?;
        Ok(Self {
            key,
            control_plane_roots: roots.clone(),
            roots,
            info,
            renew_at,
            server: Arc::new(server),
            clients: Mutex::default(),
        })
    }

    /// The control plane alone may chain to these instead, e.g. while the two sides learn of a rotation.
    #[must_use]
    pub fn with_control_plane_roots(self, roots: Arc<Roots>) -> Self {
        Self { control_plane_roots: roots, ..self }
    }

    /// For inbound connections: a client certificate is demanded, every [`Alpn`] is offered.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }

    /// For an outbound connection to an endpoint whose identity is exactly `expected`.
    ///
    /// # Errors
    /// None in practice; rustls' building is fallible by type.
    pub fn client_config(&self, expected: &SpiffeId, alpn: Alpn) -> Result<Arc<ClientConfig>, TlsError> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = (expected.clone(), alpn);
        if let Some(config) = clients.get(&wanted) {
            return Ok(config.clone());
        }
        let config = Arc::new(self.build_client(expected, &self.roots, alpn.name())?);
        if clients.len() >= CLIENT_CACHE {
            clients.clear();
        }
        clients.insert(wanted, config.clone());
        Ok(config)
    }

    /// For the connection to the control plane.
    ///
    /// # Errors
    /// As [`Self::client_config`].
    pub fn control_plane_config(&self, control_plane: &SpiffeId) -> Result<Arc<ClientConfig>, TlsError> {
        self.build_client(control_plane, &self.control_plane_roots, dial::GRPC).map(Arc::new)
    }

    fn build_client(&self, expected: &SpiffeId, roots: &Arc<Roots>, alpn: &[u8]) -> Result<ClientConfig, TlsError> {
        let server = ServerVerifier::new(expected.clone(), fixed(roots));
        Ok(svid::client_config(Some(self.key.clone()), server, &[alpn])?)
    }

    /// Our own identity.
    pub fn own_id(&self) -> &SpiffeId {
        &self.info.id
    }

    /// Our own leaf: identity, validity, serial.
    pub fn leaf(&self) -> &LeafInfo {
        &self.info
    }

    /// Until when our own leaf is good; None: for longer than a clock can say.
    pub fn until(&self) -> Option<Instant> {
        until(self.info.not_after)
    }

    /// When it is to be renewed, seconds since the epoch.
    pub fn renew_at(&self) -> i64 {
        self.renew_at
    }

    /// Our own chain, the leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.key.cert
    }

    /// The roots that peers must chain to.
    pub fn roots(&self) -> &Arc<Roots> {
        &self.roots
    }
}

impl fmt::Debug for TlsState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsState").field("leaf", &self.info).field("roots", &self.roots).finish_non_exhaustive()
    }
}

/// A source of roots that never changes.
pub(crate) fn fixed(roots: &Arc<Roots>) -> RootsSource {
    let roots = roots.clone();
    Arc::new(move || Some(roots.clone()))
}

/// The proxy's TLS as it is now. Cheap to clone; `None` inside means: no valid certificate, refuse every handshake.
#[derive(Clone, Debug)]
pub struct Tls {
    state: watch::Receiver<Option<Arc<TlsState>>>,
}

impl Tls {
    /// Follows what the sender publishes; when the sender is gone the last value stays.
    pub fn new(state: watch::Receiver<Option<Arc<TlsState>>>) -> Self {
        Self { state }
    }

    /// The state for a handshake that begins now.
    pub fn current(&self) -> Option<Arc<TlsState>> {
        self.state.borrow().clone()
    }

    /// A receiver of its own, to be told of renewals (and of readiness: `is_some`).
    pub fn subscribe(&self) -> watch::Receiver<Option<Arc<TlsState>>> {
        self.state.clone()
    }
}

/// Until when the certificate that the peer proved itself by is good; None: it has none.
pub fn peer_until(connection: &rustls::CommonState) -> Option<Instant> {
    let leaf = connection.peer_certificates()?.first()?;
    until(svid::leaf_info(leaf).ok()?.not_after)
}

/// What the clock will say then, seconds since the epoch; what is over is now.
fn until(then: u64) -> Option<Instant> {
    let then = i64::try_from(then).unwrap_or(i64::MAX);
    let left = u64::try_from(then.saturating_sub(clock::unix())).unwrap_or(0);
    clock::now().checked_add(Duration::from_secs(left))
}

/// The verified identity of the peer of a finished handshake.
pub fn peer_identity(connection: &rustls::CommonState) -> Option<SpiffeId> {
    svid::identified(connection)
}
