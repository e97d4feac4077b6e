//! What is taken from a certificate signing request: the public key, and nothing else. Names that it asks for are
//! ignored, since the identity comes from the token; requests that no honest proxy makes are refused.

use rcgen::SubjectPublicKeyInfo;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::ParsedExtension;
use x509_parser::oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_SIG_ECDSA_WITH_SHA256};
use x509_parser::prelude::FromDer;

/// A request for one key is some 300 bytes.
pub const MAX_CSR: usize = 16 * 1024;

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// Over [`MAX_CSR`].
    #[error("csr_too_large: a CSR has at most 16 KiB")]
    TooLarge,
    /// Not PKCS#10 in DER, or something follows it.
    #[error("csr_malformed: not a PKCS#10 request in DER")]
    Malformed,
    /// Another kind of key.
    #[error("csr_key: the key must be ECDSA P-256")]
    Key,
    /// The sender does not hold the private key.
    #[error("csr_signature: the request is not signed by its own key with ecdsa-with-SHA256")]
    Signature,
    /// Asks to become a CA.
    #[error("csr_ca: a workload's certificate is never a CA's")]
    Ca,
}

impl CsrError {
    /// Stable, for metrics and for the caller.
    pub fn code(self) -> &'static str {
        match self {
            Self::TooLarge => "csr_too_large",
            Self::Malformed => "csr_malformed",
            Self::Key => "csr_key",
            Self::Signature => "csr_signature",
            Self::Ca => "csr_ca",
        }
    }
}

/// The public key of a request whose sender holds the private one.
///
/// # Errors
/// Why the request is refused; the signature is checked before its wishes are looked at.
pub fn public_key(der: &[u8]) -> Result<SubjectPublicKeyInfo, CsrError> {
    if der.len() > MAX_CSR {
        return Err(CsrError::TooLarge);
    }
    let (rest, csr) = X509CertificationRequest::from_der(der).map_err(|_| CsrError::Malformed)?;
    if !rest.is_empty() {
        return Err(CsrError::Malformed);
    }
    let key = &csr.certification_request_info.subject_pki;
    let curve = key.algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok());
    // 65 bytes: an uncompressed point.
    let is_p256 = key.algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY
        && curve == Some(OID_EC_P256)
        && key.subject_public_key.data.len() == 65;
    if !is_p256 {
        return Err(CsrError::Key);
    }
    if csr.signature_algorithm.algorithm != OID_SIG_ECDSA_WITH_SHA256 || csr.verify_signature().is_err() {
        return Err(CsrError::Signature);
    }
    if !is_strict(der, csr.certification_request_info.raw) {
        return Err(CsrError::Malformed);
    }
    if asks_for_ca(&csr) {
        return Err(CsrError::Ca);
    }
    SubjectPublicKeyInfo::from_der(key.raw).map_err(|_| CsrError::Key)
}

/// Whether what lies around the signed part is DER to the bit; the parser is lenient with tags there.
fn is_strict(der: &[u8], signed: &[u8]) -> bool {
    /// `SEQUENCE { OID ecdsa-with-SHA256 }`, no parameters (RFC 5758 section 3.2).
    const ALGORITHM: [u8; 12] = [0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
    let header = match der {
        [0x30, ..=0x7f, ..] => 2,
        [0x30, 0x81, ..] => 3,
        [0x30, 0x82, ..] => 4,
        _ => return false,
    };
    let after = der.get(header..).and_then(|d| d.strip_prefix(signed)).and_then(|d| d.strip_prefix(&ALGORITHM));
    // A BIT STRING without unused bits, up to the end.
    matches!(after, Some([0x03, length, 0x00, rest @ ..]) if usize::from(*length) == rest.len() + 1)
}

fn asks_for_ca(csr: &X509CertificationRequest<'_>) -> bool {
    let attributes = csr.certification_request_info.iter_attributes();
    attributes
        .filter_map(|a| match a.parsed_attribute() {
            ParsedCriAttribute::ExtensionRequest(request) => Some(request),
            _ => None,
        })
        .flat_map(|request| &request.extensions)
        .any(|e| match e.parsed_extension() {
            ParsedExtension::BasicConstraints(b) => b.ca,
            ParsedExtension::KeyUsage(u) => u.key_cert_sign() || u.crl_sign(),
            _ => false,
        })
}

#[cfg(test)]
mod tests;
