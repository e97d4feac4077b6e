//! The rule by which every certificate in the mesh is judged, in both directions; the clock is an argument, and
//! reading keys, bundles and sockets is left to the callers.
//!
//! The rule: exactly one subject alternative name, a URI that parses as a [`SpiffeId`] of our trust domain; not a CA;
//! the key usage and extended key usage of its role; valid now; and a chain to a root that is itself valid now.
//! Sources: SPIFFE X509-SVID sections 2, 4 and 5; RFC 5280 section 4.2. There is no revocation: leaves are short-lived.

use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::spiffe::{SpiffeId, is_trust_domain};

mod handshake;

pub use handshake::{
    ClientVerifier, RootsSource, ServerVerifier, cause, client_config, identified, provider, server_config,
};

/// Larger certificates are refused unread.
pub const MAX_CERTIFICATE: usize = 16 * 1024;
/// Longer chains are refused unread, which bounds the work that a stranger can ask for.
pub const MAX_INTERMEDIATES: usize = 4;

/// Why a certificate was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SvidError {
    /// Not one DER certificate.
    #[error("not an X.509 certificate in DER: {0}")]
    Malformed(String),
    /// Above [`MAX_CERTIFICATE`] or [`MAX_INTERMEDIATES`].
    #[error("a chain has at most {MAX_INTERMEDIATES} intermediates of at most {MAX_CERTIFICATE} bytes each")]
    TooLarge,
    /// The subject alternative names are not exactly one URI that is a SPIFFE ID of a workload.
    #[error("exactly one URI name that is a SPIFFE ID is needed: {0}")]
    San(String),
    /// A SPIFFE ID of somebody else's trust domain.
    #[error("trust domain `{found}` is not ours, `{ours}`")]
    TrustDomain {
        /// As in the certificate.
        found: String,
        /// As configured.
        ours: String,
    },
    /// A valid peer, but not the one that this connection is meant for.
    #[error("the peer is {found}, expected {expected}")]
    Identity {
        /// The endpoint's identity.
        expected: SpiffeId,
        /// The certificate's identity.
        found: SpiffeId,
    },
    /// The leaf or an intermediate is past its end.
    #[error("expired {0} s ago")]
    Expired(u64),
    /// The leaf or an intermediate is before its beginning.
    #[error("not valid before {0} s from now; compare the clocks")]
    NotYetValid(u64),
    /// The extended key usage of the role is missing.
    #[error("the extended key usage lacks {0}")]
    Eku(&'static str),
    /// The key usage is missing, lacks digitalSignature or allows to sign certificates.
    #[error("the key usage must have digitalSignature and must not sign certificates or lists")]
    KeyUsage,
    /// A CA certificate in the place of a leaf.
    #[error("a CA certificate is not a workload's certificate")]
    IsCa,
    /// No valid root signed it.
    #[error("no root of the trust bundle signed it; compare the trust bundles of both sides")]
    UnknownRoot,
    /// It chains only to a root that is not valid now.
    #[error("the root that signed it is expired or not yet valid; rotate the root")]
    RootExpired,
    /// Any other fault of the chain.
    #[error("the chain is not valid: {0}")]
    Chain(String),
    /// There is nothing to verify against yet.
    #[error("no trust bundle is held yet")]
    NoRoots,
}

impl SvidError {
    /// The stable code for logs and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "svid_malformed",
            Self::TooLarge => "svid_too_large",
            Self::San(_) => "svid_san",
            Self::TrustDomain { .. } => "svid_trust_domain",
            Self::Identity { .. } => "svid_identity",
            Self::Expired(_) => "svid_expired",
            Self::NotYetValid(_) => "svid_not_yet_valid",
            Self::Eku(_) => "svid_eku",
            Self::KeyUsage => "svid_key_usage",
            Self::IsCa => "svid_is_ca",
            Self::UnknownRoot => "svid_unknown_root",
            Self::RootExpired => "svid_root_expired",
            Self::Chain(_) => "svid_chain",
            Self::NoRoots => "svid_no_roots",
        }
    }
}

/// The role for which a certificate is presented; each demands its own extended key usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// The side that accepts.
    Server,
    /// The side that connects.
    Client,
}

impl Usage {
    fn name(self) -> &'static str {
        match self {
            Self::Server => "serverAuth",
            Self::Client => "clientAuth",
        }
    }
}

/// Parsed trust anchors of one trust domain.
#[derive(Clone)]
pub struct Roots {
    trust_domain: String,
    anchors: Vec<Anchor>,
}

/// webpki's anchors carry no validity and so accept expired roots; ours keep it.
#[derive(Clone)]
struct Anchor {
    anchor: TrustAnchor<'static>,
    der: Vec<u8>,
    not_before: u64,
    not_after: u64,
}

impl Roots {
    /// Parses the roots (DER, one certificate each); the same root twice counts once.
    ///
    /// # Errors
    /// [`SvidError::TrustDomain`] where it cannot be one, [`SvidError::NoRoots`] where there is none, and
    /// [`SvidError::Malformed`] with the position of the first certificate that is not a CA certificate.
    pub fn new(trust_domain: &str, roots_der: &[Vec<u8>]) -> Result<Self, SvidError> {
        if !is_trust_domain(trust_domain) {
            return Err(SvidError::TrustDomain {
                found: trust_domain.escape_debug().to_string(),
                ours: "lower-case letters, digits, `.`, `-`, `_`".to_owned(),
            });
        }
        let mut anchors: Vec<Anchor> = Vec::with_capacity(roots_der.len());
        for (i, der) in roots_der.iter().enumerate() {
            if anchors.iter().all(|a| a.der != *der) {
                anchors.push(Anchor::parse(der).map_err(|e| match e {
                    SvidError::Malformed(why) => SvidError::Malformed(format!("root {i}: {why}")),
                    other => other,
                })?);
            }
        }
        if anchors.is_empty() {
            return Err(SvidError::NoRoots);
        }
        Ok(Self { trust_domain: trust_domain.to_owned(), anchors })
    }

    /// The trust domain whose identities these roots vouch for.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// The roots as given, DER.
    pub fn der(&self) -> impl Iterator<Item = &[u8]> {
        self.anchors.iter().map(|a| a.der.as_slice())
    }

    /// The end of each root's validity, seconds since the epoch.
    pub fn not_after(&self) -> impl Iterator<Item = u64> + '_ {
        self.anchors.iter().map(|a| a.not_after)
    }

    /// Anchors that are (`true`) or are not valid at `now`.
    fn anchors(&self, now: u64, valid: bool) -> Vec<TrustAnchor<'_>> {
        self.anchors
            .iter()
            .filter(|a| (a.not_before <= now && now <= a.not_after) == valid)
            .map(|a| a.anchor.clone())
            .collect()
    }
}

impl std::fmt::Debug for Roots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Roots").field("trust_domain", &self.trust_domain).field("count", &self.anchors.len()).finish()
    }
}

impl Anchor {
    fn parse(der: &[u8]) -> Result<Self, SvidError> {
        let cert = parse(der)?;
        let is_ca = cert.basic_constraints().ok().flatten().is_some_and(|b| b.value.ca);
        if !is_ca {
            return Err(SvidError::Malformed("not a CA certificate".to_owned()));
        }
        let anchor = webpki::anchor_from_trusted_cert(&CertificateDer::from(der))
            .map_err(|e| SvidError::Malformed(e.to_string()))?
            .to_owned();
        let (not_before, not_after) = validity(&cert);
        Ok(Self { anchor, der: der.to_vec(), not_before, not_after })
    }
}

/// What a proxy tells about a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafInfo {
    /// Whose it is.
    pub id: SpiffeId,
    /// Seconds since the epoch.
    pub not_before: u64,
    /// Seconds since the epoch.
    pub not_after: u64,
    /// Lower-case hexadecimal.
    pub serial: String,
}

/// Judges `leaf` by the whole rule at the moment `now` and says whose it is.
///
/// # Errors
/// The first part of the rule that the chain breaks. What is cheap is checked first.
pub fn verify(
    roots: &Roots,
    leaf: &[u8],
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
    usage: Usage,
) -> Result<SpiffeId, SvidError> {
    if intermediates.len() > MAX_INTERMEDIATES || intermediates.iter().any(|c| c.len() > MAX_CERTIFICATE) {
        return Err(SvidError::TooLarge);
    }
    let cert = parse(leaf)?;
    let id = san_identity(&cert)?;
    if id.trust_domain() != roots.trust_domain {
        let found = id.trust_domain().to_owned();
        return Err(SvidError::TrustDomain { found, ours: roots.trust_domain.clone() });
    }
    check_leaf_usage(&cert, usage)?;
    let (not_before, not_after) = validity(&cert);
    if now.as_secs() > not_after {
        return Err(SvidError::Expired(now.as_secs() - not_after));
    }
    if now.as_secs() < not_before {
        return Err(SvidError::NotYetValid(not_before - now.as_secs()));
    }
    check_chain(roots, leaf, intermediates, now, usage)?;
    Ok(id)
}

/// The identity that a leaf names, by the rule of its names alone.
///
/// # Errors
/// [`SvidError::Malformed`], [`SvidError::TooLarge`] or [`SvidError::San`].
pub fn leaf_identity(leaf: &[u8]) -> Result<SpiffeId, SvidError> {
    san_identity(&parse(leaf)?)
}

/// What a leaf says of itself; nothing is verified but its names.
///
/// # Errors
/// As [`leaf_identity`].
pub fn leaf_info(leaf: &[u8]) -> Result<LeafInfo, SvidError> {
    let cert = parse(leaf)?;
    let (not_before, not_after) = validity(&cert);
    let serial = cert.raw_serial().iter().map(|b| format!("{b:02x}")).collect();
    Ok(LeafInfo { id: san_identity(&cert)?, not_before, not_after, serial })
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, SvidError> {
    if der.len() > MAX_CERTIFICATE {
        return Err(SvidError::TooLarge);
    }
    let (rest, cert) = X509Certificate::from_der(der).map_err(|e| SvidError::Malformed(e.to_string()))?;
    if !rest.is_empty() {
        return Err(SvidError::Malformed(format!("{} bytes follow the certificate", rest.len())));
    }
    Ok(cert)
}

/// One name in total, of type URI. A text in any other form of name (DNS, email, otherName) or in the subject is
/// nobody's identity, whatever it says.
fn san_identity(cert: &X509Certificate<'_>) -> Result<SpiffeId, SvidError> {
    let san = cert
        .subject_alternative_name()
        .map_err(|_| SvidError::San("the extension is malformed or there twice".to_owned()))?
        .ok_or_else(|| SvidError::San("there is none".to_owned()))?;
    match &*san.value.general_names {
        [GeneralName::URI(uri)] => uri.parse().map_err(|e| SvidError::San(format!("{e}"))),
        [_] => Err(SvidError::San("its type is not URI".to_owned())),
        names => Err(SvidError::San(format!("there are {}", names.len()))),
    }
}

fn check_leaf_usage(cert: &X509Certificate<'_>, usage: Usage) -> Result<(), SvidError> {
    match cert.basic_constraints() {
        Ok(None) => {}
        Ok(Some(b)) if !b.value.ca => {}
        Ok(Some(_)) => return Err(SvidError::IsCa),
        Err(_) => return Err(SvidError::Malformed("basic constraints".to_owned())),
    }
    let may_sign_data_alone = cert
        .key_usage()
        .ok()
        .flatten()
        .is_some_and(|u| u.value.digital_signature() && !u.value.key_cert_sign() && !u.value.crl_sign());
    if !may_sign_data_alone {
        return Err(SvidError::KeyUsage);
    }
    // webpki demands an EKU only where the extension is present; here its absence is a refusal, and `any` is not it.
    let has_role = cert.extended_key_usage().ok().flatten().is_some_and(|e| match usage {
        Usage::Server => e.value.server_auth,
        Usage::Client => e.value.client_auth,
    });
    if has_role { Ok(()) } else { Err(SvidError::Eku(usage.name())) }
}

fn check_chain(
    roots: &Roots,
    leaf: &[u8],
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
    usage: Usage,
) -> Result<(), SvidError> {
    let leaf = CertificateDer::from(leaf);
    let leaf = EndEntityCert::try_from(&leaf).map_err(|e| SvidError::Malformed(e.to_string()))?;
    let try_with = |anchors: &[TrustAnchor<'_>]| {
        let role = match usage {
            Usage::Server => KeyUsage::server_auth(),
            Usage::Client => KeyUsage::client_auth(),
        };
        let algorithms = provider().signature_verification_algorithms.all;
        leaf.verify_for_usage(algorithms, anchors, intermediates, now, role, None, None).map(|_| ())
    };
    match try_with(&roots.anchors(now.as_secs(), true)) {
        Ok(()) => Ok(()),
        Err(webpki::Error::UnknownIssuer) => {
            // Only to say the true reason; a root out of its time never makes a chain valid.
            let stale = roots.anchors(now.as_secs(), false);
            Err(if !stale.is_empty() && try_with(&stale).is_ok() {
                SvidError::RootExpired
            } else {
                SvidError::UnknownRoot
            })
        }
        Err(webpki::Error::CaUsedAsEndEntity) => Err(SvidError::IsCa),
        Err(webpki::Error::CertExpired { time, not_after }) => {
            Err(SvidError::Expired(time.as_secs().saturating_sub(not_after.as_secs())))
        }
        Err(webpki::Error::CertNotValidYet { time, not_before }) => {
            Err(SvidError::NotYetValid(not_before.as_secs().saturating_sub(time.as_secs())))
        }
        Err(other) => Err(SvidError::Chain(other.to_string())),
    }
}

/// Seconds since the epoch; a time before it counts as 0.
fn validity(cert: &X509Certificate<'_>) -> (u64, u64) {
    let secs = |t: x509_parser::time::ASN1Time| u64::try_from(t.timestamp()).unwrap_or(0);
    (secs(cert.validity().not_before), secs(cert.validity().not_after))
}

#[cfg(test)]
mod tests;
