//! One request for a certificate: token, new key, CSR, answer. Whether the answer is acceptable is judged by the
//! caller.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use causeway_mesh::svid::{self, Roots, ServerVerifier};
use causeway_mesh::wire::CertifyRequest;
use causeway_mesh::wire::identity_client::IdentityClient;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use tonic::{Code, Request};

use crate::tls::dial::{ControlPlane, DialError, GRPC};
use crate::tls::{Credential, TlsError, fixed};

/// For the whole exchange once the connection stands.
const ANSWER: Duration = Duration::from_secs(15);
/// Larger tokens are not tokens.
const MAX_TOKEN: usize = 64 * 1024;

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertifyError {
    /// No roots to verify the control plane by.
    #[error("no trust bundle in {0}; mount or copy the control plane's trust-bundle.pem there")]
    NoBundle(PathBuf),
    /// The token file cannot be read.
    #[error("token file {path}: {error}")]
    Token {
        /// As configured.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The control plane was not reached or is not who it must be.
    #[error("control plane: {0}")]
    Dial(#[from] DialError),
    /// Key or CSR.
    #[error("key and CSR: {0}")]
    Csr(#[from] rcgen::Error),
    /// The control plane said no.
    #[error("the control plane refused ({code:?}): {message}")]
    Refused {
        /// gRPC status.
        code: Code,
        /// Its words.
        message: String,
    },
    /// It issued something that our peers would refuse.
    #[error("the issued certificate would be refused by our peers: {0}")]
    Issued(#[source] TlsError),
    /// The certificate is somebody else's.
    #[error("the certificate is of {0}, not of this workload")]
    NotOurs(String),
}

/// What the control plane issued, not judged yet.
#[derive(Debug)]
pub(super) struct Issued {
    pub(super) credential: Credential,
    pub(super) roots: Vec<Vec<u8>>,
}

/// Asks for one certificate, for a key made here and never sent.
pub(super) async fn certify(
    control_plane: &ControlPlane,
    roots: &Arc<Roots>,
    token_file: &Path,
) -> Result<Issued, CertifyError> {
    let token = read_token(token_file).map_err(|error| CertifyError::Token { path: token_file.to_owned(), error })?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut csr = CertificateParams::default();
    csr.distinguished_name = DistinguishedName::new();
    let csr_der = csr.serialize_request(&key)?.der().to_vec();

    let verifier = ServerVerifier::new(control_plane.id().clone(), fixed(roots));
    let config = svid::client_config(None, verifier, &[GRPC]).map_err(|e| CertifyError::Issued(e.into()))?;
    let channel = control_plane.channel(Arc::new(config)).await?;
    let mut request = Request::new(CertifyRequest { token, csr_der });
    request.set_timeout(ANSWER);
    let answer = match tokio::time::timeout(ANSWER, IdentityClient::new(channel).certify(request)).await {
        Ok(Ok(answer)) => answer.into_inner(),
        Ok(Err(status)) => {
            return Err(CertifyError::Refused { code: status.code(), message: status.message().to_owned() });
        }
        Err(_) => {
            let message = format!("no answer within {} s", ANSWER.as_secs());
            return Err(CertifyError::Refused { code: Code::DeadlineExceeded, message });
        }
    };
    let credential = Credential { chain: answer.chain_der, key: key.serialize_der(), issued_at: answer.now_unix };
    Ok(Issued { credential, roots: answer.roots_der })
}

fn read_token(path: &Path) -> std::io::Result<String> {
    let token = std::fs::read_to_string(path)?;
    let token = token.trim();
    if token.is_empty() || token.len() > MAX_TOKEN {
        return Err(std::io::Error::other("empty or larger than 64 KiB"));
    }
    Ok(token.to_owned())
}

/// `(namespace, account)` that the token claims, unverified: only to see that a stored certificate is somebody else's.
pub(super) fn token_account(path: &Path) -> Option<(String, String)> {
    let token = read_token(path).ok()?;
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&payload).ok()?;
    let (namespace, account) = claims.get("sub")?.as_str()?.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    Some((namespace.to_owned(), account.to_owned()))
}
