//! Decides who gets a certificate: the token says which ServiceAccount, the configuration says whether its pod may
//! have it, the CSR gives the key. Knows nothing of gRPC; `server` translates.

use std::sync::Arc;

use causeway_mesh::spiffe::SpiffeId;
use causeway_mesh::wire;

use crate::ca::{Authority, CaError, Issued, OWN_IDENTITY};
use crate::publish::Publisher;
use crate::token::{Proven, TokenError, TokenReviewer};

pub mod csr;

use csr::CsrError;

/// Why no certificate was issued. The text begins with the stable code.
#[derive(Debug, thiserror::Error)]
pub enum CertifyError {
    /// The token proves nothing.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The CSR is refused.
    #[error(transparent)]
    Csr(#[from] CsrError),
    /// The token names a pod that does not exist.
    #[error("token_pod_unknown: there is no pod {0}/{1}; is its YAML in the source?")]
    PodUnknown(String, String),
    /// The pod runs as somebody else.
    #[error("token_account_mismatch: pod {pod} has another ServiceAccount than the token, {account}")]
    AccountMismatch {
        /// `namespace/name`
        pod: String,
        /// Of the token.
        account: String,
    },
    /// The control plane's own name.
    #[error("identity_reserved: the identity {0} is the control plane's own")]
    Reserved(SpiffeId),
    /// A name that cannot stand in a SPIFFE ID.
    #[error("identity_invalid: {0}")]
    Name(String),
    /// The configuration is not read yet.
    #[error("not_synced: the configuration is not read yet; try again")]
    NotSynced,
    /// The CA cannot sign.
    #[error("ca_unavailable: {0}")]
    Ca(#[from] CaError),
}

impl CertifyError {
    /// Stable, for metrics and for the caller.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Token(e) => e.code(),
            Self::Csr(e) => e.code(),
            Self::PodUnknown(..) => "token_pod_unknown",
            Self::AccountMismatch { .. } => "token_account_mismatch",
            Self::Reserved(_) => "identity_reserved",
            Self::Name(_) => "identity_invalid",
            Self::NotSynced => "not_synced",
            Self::Ca(_) => "ca_unavailable",
        }
    }
}

/// Issues certificates.
pub struct Certifier {
    authority: Arc<Authority>,
    tokens: TokenReviewer,
    publisher: Arc<Publisher>,
}

impl Certifier {
    /// One that asks `tokens` who it is and `publisher` which pods there are.
    pub fn new(authority: Arc<Authority>, tokens: TokenReviewer, publisher: Arc<Publisher>) -> Self {
        Self { authority, tokens, publisher }
    }

    /// Issues one certificate; `now` in seconds since the epoch.
    ///
    /// # Errors
    /// Why there is none. Nothing is issued in doubt.
    pub async fn certify(
        &self,
        request: &wire::CertifyRequest,
        now: i64,
    ) -> Result<(SpiffeId, Issued, wire::TrustBundle), CertifyError> {
        let proven = self.tokens.review(&request.token, now).await?;
        let id = self.identity(&proven)?;
        self.check_pod(&proven)?;
        let key = csr::public_key(&request.csr_der)?;
        let issued = self.authority.issue(&id, &key, now)?;
        Ok((id, issued, self.authority.bundle(now)))
    }

    fn identity(&self, proven: &Proven) -> Result<SpiffeId, CertifyError> {
        let id = SpiffeId::new(self.authority.trust_domain(), &proven.namespace, &proven.account)
            .map_err(|e| CertifyError::Name(e.to_string()))?;
        if (id.namespace(), id.account()) == OWN_IDENTITY {
            return Err(CertifyError::Reserved(id));
        }
        Ok(id)
    }

    /// A token that is bound to a pod is worth something, where pods are the configuration's, while that pod exists and runs as its ServiceAccount.
    fn check_pod(&self, proven: &Proven) -> Result<(), CertifyError> {
        if self.tokens.knows_pods() {
            return Ok(());
        }
        let Some(pod) = &proven.pod else { return Ok(()) };
        let view = self.publisher.view().ok_or(CertifyError::NotSynced)?;
        match view.model.pod(&proven.namespace, pod) {
            None => Err(CertifyError::PodUnknown(proven.namespace.clone(), pod.clone())),
            Some(info) if info.account != proven.account => Err(CertifyError::AccountMismatch {
                pod: format!("{}/{pod}", proven.namespace),
                account: proven.account.clone(),
            }),
            Some(_) => Ok(()),
        }
    }
}
