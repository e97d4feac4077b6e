//! The certificate authority: whose signature the mesh trusts, what a workload's certificate looks like, and which
//! roots are told to the proxies. Who may have a certificate is left to `identity`.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use causeway_mesh::spiffe::SpiffeId;
use causeway_mesh::svid::{self, Roots, RootsSource, SvidError};
use causeway_mesh::wire;
use rcgen::{CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::clock;
use crate::state::{PUBLIC, StateDir, StateError};

mod material;
mod signer;

use material::Told;
pub use material::{CaProblem, Delivery, Material};
use signer::Signer;
pub use signer::{CA_FILE, Root};

/// The roots that proxies need to begin with, in the state directory.
pub const BUNDLE_FILE: &str = "trust-bundle.pem";
/// More roots for the bundle, in the state directory; the operator's, read again on a timer.
pub const EXTRA_ROOTS_FILE: &str = "extra-roots.pem";
/// A leaf is valid from this long before its issue on, for clocks that are behind (seconds).
pub const BACKDATE: i64 = 10 * 60;
/// Namespace and account of the control plane itself; never issued for a token.
pub const OWN_IDENTITY: (&str, &str) = (crate::kubernetes::NAMESPACE, crate::kubernetes::NAME);

/// Why there is no authority, or no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The state directory cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// A file is not what it must be.
    #[error("{path}: {what}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and what to do.
        what: String,
    },
    /// The CA is gone from a directory that had one.
    #[error(
        "{ca} is missing, but {bundle} shows that this directory had a CA. Restore it from a backup; or remove {bundle} \
         to begin with a new CA, which no proxy trusts until it has the new bundle"
    )]
    Lost {
        /// The missing file.
        ca: PathBuf,
        /// What shows that it was there.
        bundle: PathBuf,
    },
    /// A certificate made with this CA would be refused by every proxy.
    #[error("certificates of this CA would not be accepted: {0}")]
    Unusable(#[from] SvidError),
    /// The new issuer's root has not been told to the proxies.
    #[error(
        "the new CA has another root, which the proxies do not know yet. Put that root into {0} first, wait until all \
         proxies have acknowledged it, then replace the CA"
    )]
    UnannouncedRoot(PathBuf),
    /// The issuer's own certificate is over.
    #[error("ca_expired: the certificate of the CA expired {0} s ago; renew it")]
    Expired(i64),
    /// Signing failed.
    #[error("signing failed: {0}")]
    Sign(#[from] rcgen::Error),
}

/// Where the CA comes from.
#[derive(Clone, Debug)]
pub enum CaFiles {
    /// Kept in the state directory, made there at first.
    Own,
    /// Given by the operator: a PEM chain, issuer first, and its key. Read again on a timer.
    Given {
        /// Issuer, then what signed it, up to the root.
        cert: PathBuf,
        /// PKCS#8, SEC1 or PKCS#1 PEM.
        key: PathBuf,
    },
    /// Given, and given again, by a task that reads a Secret; never written to the state directory.
    Secret(Delivery),
}

/// A certificate with what signed it.
#[derive(Clone, Debug)]
pub struct Issued {
    /// Leaf first, DER, without the root.
    pub chain: Vec<Vec<u8>>,
    /// Seconds since the epoch.
    pub not_before: i64,
    /// Seconds since the epoch.
    pub not_after: i64,
    /// Hexadecimal.
    pub serial: String,
}

/// Signs certificates and knows the trust bundle.
pub struct Authority {
    trust_domain: String,
    leaf_ttl: i64,
    files: CaFiles,
    state: StateDir,
    held: RwLock<Arc<Held>>,
}

/// What changes when files change; replaced as a whole.
struct Held {
    signer: Arc<Signer>,
    extra: Vec<Root>,
    /// Roots of signers that were replaced, and until when leaves of theirs may be about.
    retired: Vec<(Root, i64)>,
    roots: Arc<Roots>,
}

impl Authority {
    /// Opens the CA, or makes one where `state` never had one, and writes the trust bundle.
    ///
    /// # Errors
    /// Whenever there is doubt: a file that is missing, unreadable or does not fit is never replaced.
    pub fn open(
        state: StateDir,
        files: CaFiles,
        trust_domain: &str,
        leaf_ttl: Duration,
        now: i64,
    ) -> Result<Self, CaError> {
        let (signer, extra, mut retired) = match &files {
            CaFiles::Own => (Signer::open_own(&state, trust_domain, now)?, read_extra(&state)?, Vec::new()),
            CaFiles::Given { cert, key } => (Signer::read(cert, key)?, read_extra(&state)?, Vec::new()),
            CaFiles::Secret(delivery) => {
                let told = Told::by(delivery)?;
                (told.signer, told.extra, told.retired)
            }
        };
        retired.retain(|(_, until)| *until > now);
        let leaf_ttl = i64::try_from(leaf_ttl.as_secs()).unwrap_or(i64::MAX);
        let held = Held::new(trust_domain, Arc::new(signer), extra, retired)?;
        let authority =
            Self { trust_domain: trust_domain.to_owned(), leaf_ttl, files, state, held: RwLock::new(Arc::new(held)) };
        authority.try_out(&authority.held(), now)?;
        authority.write_bundle(now)?;
        Ok(authority)
    }

    /// The control plane's own identity.
    ///
    /// # Errors
    /// When the trust domain is none.
    pub fn own_id(&self) -> Result<SpiffeId, CaError> {
        own_id(&self.trust_domain)
    }

    /// The trust domain of everything that is issued.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// A certificate for `id` and the public key `key`; it ends with its issuer at the latest.
    ///
    /// # Errors
    /// [`CaError::Expired`], and when signing fails.
    pub fn issue(&self, id: &SpiffeId, key: &impl rcgen::PublicKeyData, now: i64) -> Result<Issued, CaError> {
        self.held().signer.issue(&Holder::Workload(id), key, now, self.leaf_ttl)
    }

    /// A new key and certificate for the control plane's own listener, with the time at which to renew it.
    ///
    /// # Errors
    /// As [`Authority::issue`].
    pub fn server_key(&self, now: i64) -> Result<(Arc<CertifiedKey>, Issued), CaError> {
        self.new_key(&Holder::Workload(&self.own_id()?), now)
    }

    /// A new key and a certificate for an HTTPS server of these DNS names. It is no SVID, so that nothing of the mesh
    /// takes its holder for a workload.
    ///
    /// # Errors
    /// As [`Authority::issue`].
    pub fn serving_key(&self, names: &[&str], now: i64) -> Result<(Arc<CertifiedKey>, Issued), CaError> {
        self.new_key(&Holder::Server(names), now)
    }

    fn new_key(&self, holder: &Holder<'_>, now: i64) -> Result<(Arc<CertifiedKey>, Issued), CaError> {
        let pair = rcgen::KeyPair::generate()?;
        let issued = self.held().signer.issue(holder, &pair, now, self.leaf_ttl)?;
        let der = PrivateKeyDer::Pkcs8(pair.serialize_der().into());
        let key = svid::provider()
            .key_provider
            .load_private_key(der)
            .map_err(|e| CaError::Unusable(SvidError::Malformed(e.to_string())))?;
        let chain = issued.chain.iter().map(|c| CertificateDer::from(c.clone())).collect();
        Ok((Arc::new(CertifiedKey::new(chain, key)), issued))
    }

    /// The roots that proxies are told, expired ones left out, in a fixed order.
    pub fn bundle(&self, now: i64) -> wire::TrustBundle {
        let roots_der = self.held().roots_at(now).map(|r| r.der.clone()).collect();
        wire::TrustBundle { trust_domain: self.trust_domain.clone(), roots_der }
    }

    /// The same roots as one PEM text.
    pub fn bundle_pem(&self, now: i64) -> String {
        self.held().roots_at(now).map(Root::pem).collect()
    }

    /// Roots that sign no more, and until when (seconds since the epoch) they are trusted.
    pub fn retired(&self) -> Vec<(Root, i64)> {
        self.held().retired.clone()
    }

    /// The same roots for verifying proxies.
    pub fn roots_source(self: &Arc<Self>) -> RootsSource {
        let authority = Arc::clone(self);
        Arc::new(move || Some(Arc::clone(&authority.held().roots)))
    }

    /// When the issuer's certificate ends, seconds since the epoch.
    pub fn expires(&self) -> i64 {
        self.held().signer.not_after
    }

    /// Reads again what the operator may have changed; true when the bundle or the issuer is another one now.
    ///
    /// # Errors
    /// What is wrong with the files. What was in force stays in force.
    pub fn reload(&self, now: i64) -> Result<bool, CaError> {
        let was = self.held();
        let (read, extra, told) = match &self.files {
            CaFiles::Own => (None, read_extra(&self.state)?, Vec::new()),
            CaFiles::Given { cert, key } => (Some(Signer::read(cert, key)?), read_extra(&self.state)?, Vec::new()),
            CaFiles::Secret(delivery) => {
                let told = Told::by(delivery)?;
                (Some(told.signer), told.extra, told.retired)
            }
        };
        let mut retired = was.retired.clone();
        // What another replica, or this one before it was started again, had in force.
        retired.extend(told.into_iter().filter(|(root, _)| was.retired.iter().all(|(known, _)| known != root)));
        retired.retain(|(_, until)| *until > now);
        let mut signer = Arc::clone(&was.signer);
        if let Some(read) = read.filter(|read| read.fingerprint != signer.fingerprint) {
            if !was.roots_at(now).any(|r| r.der == read.root.der) {
                return Err(CaError::UnannouncedRoot(self.extra_place()));
            }
            if signer.root.der != read.root.der {
                retired.push((signer.root.clone(), now.saturating_add(self.leaf_ttl)));
            }
            signer = Arc::new(read);
        }
        let changed = signer.fingerprint != was.signer.fingerprint || extra != was.extra || retired != was.retired;
        if changed {
            let held = Arc::new(Held::new(&self.trust_domain, signer, extra, retired)?);
            self.try_out(&held, now)?;
            *self.held.write().unwrap_or_else(PoisonError::into_inner) = held;
        }
        self.write_bundle(now)?;
        Ok(changed)
    }

    fn extra_place(&self) -> PathBuf {
        match &self.files {
            CaFiles::Secret(_) => PathBuf::from(format!("{EXTRA_ROOTS_FILE} of the CA's Secret")),
            CaFiles::Own | CaFiles::Given { .. } => self.state.file(EXTRA_ROOTS_FILE),
        }
    }

    fn held(&self) -> Arc<Held> {
        Arc::clone(&self.held.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes a certificate and judges it by the rule that every peer uses, before anybody gets one.
    fn try_out(&self, held: &Held, now: i64) -> Result<(), CaError> {
        let id = own_id(&self.trust_domain)?;
        let issued = held.signer.issue(&Holder::Workload(&id), &rcgen::KeyPair::generate()?, now, self.leaf_ttl)?;
        let (leaf, rest) = issued.chain.split_first().ok_or(SvidError::TooLarge)?;
        let rest: Vec<_> = rest.iter().map(|c| CertificateDer::from(c.as_slice())).collect();
        let at = rustls_pki_types::UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now).unwrap_or(0)));
        for usage in [svid::Usage::Server, svid::Usage::Client] {
            svid::verify(&held.roots, leaf, &rest, at, usage)?;
        }
        Ok(())
    }

    /// Writes the bundle where it differs from what the file holds.
    fn write_bundle(&self, now: i64) -> Result<(), StateError> {
        let pem = self.bundle_pem(now);
        if self.state.read(BUNDLE_FILE)?.as_deref() != Some(pem.as_bytes()) {
            self.state.write(BUNDLE_FILE, pem.as_bytes(), PUBLIC)?;
        }
        Ok(())
    }
}

impl Held {
    fn new(
        trust_domain: &str,
        signer: Arc<Signer>,
        extra: Vec<Root>,
        retired: Vec<(Root, i64)>,
    ) -> Result<Self, SvidError> {
        let all = std::iter::once(&signer.root).chain(&extra).chain(retired.iter().map(|(root, _)| root));
        let all: Vec<_> = all.map(|r| r.der.clone()).collect();
        let roots = Arc::new(Roots::new(trust_domain, &all)?);
        Ok(Self { signer, extra, retired, roots })
    }

    /// Each root once, without those that are over.
    fn roots_at(&self, now: i64) -> impl Iterator<Item = &Root> {
        let mut seen = std::collections::BTreeSet::new();
        let all = std::iter::once(&self.signer.root).chain(&self.extra).chain(self.retired.iter().map(|(r, _)| r));
        all.filter(move |r| r.not_after > now && seen.insert(&r.der))
    }
}

fn own_id(trust_domain: &str) -> Result<SpiffeId, CaError> {
    SpiffeId::new(trust_domain, OWN_IDENTITY.0, OWN_IDENTITY.1)
        .map_err(|e| CaError::Unusable(SvidError::San(e.to_string())))
}

fn read_extra(state: &StateDir) -> Result<Vec<Root>, CaError> {
    match state.read(EXTRA_ROOTS_FILE)? {
        Some(pem) => Root::parse_all(&pem, &state.file(EXTRA_ROOTS_FILE)),
        None => Ok(Vec::new()),
    }
}

/// Whose a certificate is.
enum Holder<'a> {
    /// A workload, or the control plane as one: client and server by one SPIFFE ID.
    Workload(&'a SpiffeId),
    /// An HTTPS server by DNS names, known to nobody as a workload.
    Server(&'a [&'a str]),
}

/// What every leaf looks like: SPIFFE X509-SVID section 4, RFC 5280 section 4.2.1.6 (an empty subject makes the
/// name critical).
fn leaf_params(holder: &Holder<'_>, not_before: i64, not_after: i64) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    match holder {
        Holder::Workload(id) => {
            params.subject_alt_names = vec![SanType::URI(id.to_string().try_into()?)];
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        }
        Holder::Server(names) => {
            for name in *names {
                params.subject_alt_names.push(SanType::DnsName((*name).try_into()?));
            }
        }
    }
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(random_serial().to_vec().into());
    params.not_before = signer::date(not_before);
    params.not_after = signer::date(not_after);
    Ok(params)
}

/// 127 random bits: positive and at most 20 bytes as DER has it (RFC 5280 section 4.1.2.2).
fn random_serial() -> [u8; 16] {
    let mut bytes: [u8; 16] = clock::random_bytes();
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    bytes
}

#[cfg(test)]
mod tests;
