//! The key that signs, and the PEM files that it and the roots are kept in.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{BACKDATE, BUNDLE_FILE, CaError, Holder, Issued, leaf_params};
use crate::state::{PRIVATE, StateDir};

/// Key and certificate of the CA in one file, so that there is never half of it.
pub const CA_FILE: &str = "ca.pem";

const YEAR: i64 = 365 * 24 * 3600;
/// More than this in a chain is no chain of a mesh's CA.
const MAX_CHAIN: usize = 4;

/// A trust anchor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// X.509, DER.
    pub der: Vec<u8>,
    /// Seconds since the epoch.
    pub not_after: i64,
}

impl Root {
    /// Every certificate of a PEM file, each of which must be a CA's.
    pub fn parse_all(pem: &[u8], path: &Path) -> Result<Vec<Self>, CaError> {
        certificates(pem, path)?.into_iter().map(|der| Self::parse(&der, path)).collect()
    }

    fn parse(der: &[u8], path: &Path) -> Result<Self, CaError> {
        let cert = parse_ca(der, path)?;
        Ok(Self { der: der.to_vec(), not_after: cert.validity().not_after.timestamp() })
    }

    /// With a final newline.
    pub fn pem(&self) -> String {
        to_pem("CERTIFICATE", &self.der)
    }
}

/// A CA key with its certificate.
pub struct Signer {
    issuer: Issuer<'static, KeyPair>,
    /// Sent after the leaf: issuer first, without the root.
    intermediates: Vec<Vec<u8>>,
    /// The last certificate of the chain; peers need this one only.
    pub root: Root,
    not_before: i64,
    /// The earliest end in the chain, seconds since the epoch.
    pub not_after: i64,
    /// The chain in DER: two signers with the same one are the same.
    pub fingerprint: Vec<u8>,
}

impl Signer {
    /// The CA of the state directory, made on its first use.
    pub fn open_own(state: &StateDir, trust_domain: &str, now: i64) -> Result<Self, CaError> {
        let path = state.file(CA_FILE);
        if let Some(pem) = state.read_private(CA_FILE)? {
            return Self::parse(&pem, &path, &pem, &path);
        }
        if state.read(BUNDLE_FILE)?.is_some() {
            return Err(CaError::Lost { ca: path, bundle: state.file(BUNDLE_FILE) });
        }
        let (certificate, key) = make(trust_domain, now)?;
        let pem = key + &certificate;
        state.write(CA_FILE, pem.as_bytes(), PRIVATE)?;
        tracing::info!(path = %path.display(), "made a new CA; back this file up");
        Self::parse(pem.as_bytes(), &path, pem.as_bytes(), &path)
    }

    /// A CA of the operator's files.
    pub fn read(cert: &Path, key: &Path) -> Result<Self, CaError> {
        let read = |path: &Path| {
            std::fs::read(path)
                .map_err(|e| CaError::File { path: path.to_owned(), what: format!("cannot be read: {e}") })
        };
        Self::parse(&read(cert)?, cert, &read(key)?, key)
    }

    /// A CA of two PEM texts; the paths are for messages.
    pub fn parse(cert_pem: &[u8], cert_path: &Path, key_pem: &[u8], key_path: &Path) -> Result<Self, CaError> {
        let bad = |path: &Path, what: &str| CaError::File { path: path.to_owned(), what: what.to_owned() };
        let chain = certificates(cert_pem, cert_path)?;
        let key = PrivateKeyDer::from_pem_slice(key_pem)
            .map_err(|_| bad(key_path, "there is no private key in PEM in it; restore it from a backup"))?;
        let key =
            KeyPair::try_from(&key).map_err(|_| bad(key_path, "the private key is of a kind that is not known"))?;
        let (Some(first), Some(last)) = (chain.first(), chain.last()) else {
            return Err(bad(cert_path, "there is no certificate in PEM in it; restore it from a backup"));
        };
        if chain.len() > MAX_CHAIN {
            return Err(bad(cert_path, "a chain has at most 4 certificates; leave other roots to extra-roots.pem"));
        }
        if parse_ca(first, cert_path)?.public_key().raw != key.subject_public_key_info() {
            return Err(bad(
                key_path,
                "the key is not that of the first certificate; give the pair that belongs together",
            ));
        }
        let root = Root::parse(last, cert_path)?;
        let mut intermediates = chain.clone();
        intermediates.pop();
        let (mut not_before, mut not_after) = (i64::MIN, i64::MAX);
        for der in &chain {
            let cert = parse_ca(der, cert_path)?;
            not_before = not_before.max(cert.validity().not_before.timestamp());
            not_after = not_after.min(cert.validity().not_after.timestamp());
        }
        let issuer = Issuer::from_ca_cert_der(&CertificateDer::from(first.as_slice()), key)?;
        Ok(Self { issuer, intermediates, root, not_before, not_after, fingerprint: chain.concat() })
    }

    /// See [`super::Authority::issue`].
    pub(super) fn issue(
        &self,
        holder: &Holder<'_>,
        key: &impl PublicKeyData,
        now: i64,
        ttl: i64,
    ) -> Result<Issued, CaError> {
        if self.not_after <= now {
            return Err(CaError::Expired(now - self.not_after));
        }
        let not_before = (now - BACKDATE).max(self.not_before).min(now);
        let not_after = now.saturating_add(ttl).min(self.not_after);
        let params = leaf_params(holder, not_before, not_after)?;
        let serial = params.serial_number.as_ref().map(|s| s.to_string().replace(':', "")).unwrap_or_default();
        let leaf = params.signed_by(key, &self.issuer)?;
        let mut chain = vec![leaf.der().to_vec()];
        chain.extend(self.intermediates.iter().cloned());
        Ok(Issued { chain, not_before, not_after, serial })
    }
}

/// A new root that signs leaves itself: its certificate and its key, PEM.
pub fn make(trust_domain: &str, now: i64) -> Result<(String, String), CaError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Causeway");
    // The serial in the name tells roots of one trust domain apart while one replaces the other.
    let serial = super::random_serial();
    let short: String = serial[12..].iter().map(|b| format!("{b:02x}")).collect();
    params.distinguished_name.push(DnType::CommonName, format!("Causeway root {short} of {trust_domain}"));
    params.serial_number = Some(serial.to_vec().into());
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date(now - 3600);
    params.not_after = date(now + 10 * YEAR);
    let cert = params.self_signed(&key)?;
    Ok((to_pem("CERTIFICATE", cert.der()), key.serialize_pem()))
}

/// `seconds` since the epoch, at most the last second that a certificate can name.
pub fn date(seconds: i64) -> time::OffsetDateTime {
    const YEAR_9999: i64 = 253_402_300_799;
    time::OffsetDateTime::from_unix_timestamp(seconds.clamp(0, YEAR_9999)).unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
}

pub fn certificates(pem: &[u8], path: &Path) -> Result<Vec<Vec<u8>>, CaError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).map(|c| c.map(|c| c.to_vec())).collect();
    let broken =
        |e| CaError::File { path: path.to_owned(), what: format!("is not PEM: {e}; restore it from a backup") };
    all.map_err(broken)
}

fn parse_ca<'a>(der: &'a [u8], path: &Path) -> Result<X509Certificate<'a>, CaError> {
    let bad = |what: &str| CaError::File { path: path.to_owned(), what: what.to_owned() };
    let (rest, cert) = X509Certificate::from_der(der).map_err(|_| bad("a certificate in it is not X.509"))?;
    if !rest.is_empty() || !cert.is_ca() {
        return Err(bad("a certificate in it is not a CA's (basic constraints CA:true)"));
    }
    Ok(cert)
}

pub fn to_pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, next) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = next;
    }
    out + &format!("-----END {label}-----\n")
}
