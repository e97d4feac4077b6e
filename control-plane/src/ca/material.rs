//! A CA as it comes from a Secret: PEM in memory, in cert-manager's layout. Reading the Secret is left to
//! `kubernetes::secret`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;

use super::signer::{self, Signer, certificates, to_pem};
use super::{CaError, EXTRA_ROOTS_FILE, Root};

/// What a Secret holds.
#[derive(Clone, PartialEq, Eq)]
pub struct Material {
    /// Which Secret, for messages.
    pub place: String,
    /// `tls.crt`: the issuer, then what signed it.
    pub chain: Vec<u8>,
    /// `tls.key`: the issuer's private key.
    pub key: Vec<u8>,
    /// `ca.crt`: the root; empty where `tls.crt` ends with it.
    pub root: Vec<u8>,
    /// `extra-roots.pem`: more roots to trust.
    pub extra: Vec<u8>,
    /// Roots that signed before, and until when (seconds since the epoch) their leaves may be about.
    pub retired: Vec<(Root, i64)>,
}

/// The newest state of a Secret, or what is wrong with it now.
pub type Delivery = watch::Receiver<Result<Arc<Material>, CaProblem>>;

/// What is wrong with the Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaProblem {
    /// Which Secret.
    pub place: String,
    /// What is wrong, and what to do.
    pub what: String,
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Material {
    /// A new CA for `trust_domain`, which is its own root.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn make(place: String, trust_domain: &str, now: i64) -> Result<Self, CaError> {
        let (certificate, key) = signer::make(trust_domain, now)?;
        let chain = certificate.into_bytes();
        Ok(Self { place, root: chain.clone(), chain, key: key.into_bytes(), extra: Vec::new(), retired: Vec::new() })
    }

    /// The root that this CA's certificates are verified by.
    ///
    /// # Errors
    /// When the certificates cannot be read.
    pub fn trust_anchor(&self) -> Result<Root, CaError> {
        Ok(self.signer()?.root)
    }

    /// The roots of `extra-roots.pem`.
    ///
    /// # Errors
    /// When one of them is no CA's certificate.
    pub fn extra_roots(&self) -> Result<Vec<Root>, CaError> {
        // More than one in ca.crt: the first belongs to the chain, the others are announced.
        let mut roots: Vec<_> = Root::parse_all(&self.root, &self.part("ca.crt"))?.into_iter().skip(1).collect();
        roots.extend(Root::parse_all(&self.extra, &self.part(EXTRA_ROOTS_FILE))?);
        Ok(roots)
    }

    fn signer(&self) -> Result<Signer, CaError> {
        let (cert, key) = (self.part("tls.crt"), self.part("tls.key"));
        let mut chain = certificates(&self.chain, &cert)?;
        if let Some(root) = certificates(&self.root, &self.part("ca.crt"))?.into_iter().next()
            && !chain.contains(&root)
        {
            chain.push(root);
        }
        let pem: String = chain.iter().map(|der| to_pem("CERTIFICATE", der)).collect();
        Signer::parse(pem.as_bytes(), &cert, &self.key, &key)
    }

    fn part(&self, key: &str) -> PathBuf {
        Path::new(&self.place).join(key)
    }
}

/// What the Secret says now.
pub(super) struct Told {
    pub signer: Signer,
    /// Roots that are trusted too.
    pub extra: Vec<Root>,
    /// Roots that were, and until when.
    pub retired: Vec<(Root, i64)>,
}

impl Told {
    pub(super) fn by(delivery: &Delivery) -> Result<Self, CaError> {
        let now = delivery.borrow().clone();
        let material = now.map_err(|p| CaError::File { path: PathBuf::from(p.place), what: p.what })?;
        Ok(Self { signer: material.signer()?, extra: material.extra_roots()?, retired: material.retired.clone() })
    }
}
