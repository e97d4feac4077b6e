//! Tokens that stand for Kubernetes' projected ServiceAccount tokens, and the seam behind which whatever checks a
//! token is hidden. Which pods exist is left to `identity`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::state::{StateDir, StateError};
use causeway_mesh::spiffe::{is_dns_label, is_dns_subdomain};

mod kubernetes;

pub use kubernetes::KubernetesTokens;

/// The audience that a token must name.
pub const AUDIENCE: &str = "causeway";
/// Issuer of the tokens that [`LocalTokens`] signs.
pub const ISSUER: &str = "causeway-directory";
/// File of the signing key in the state directory.
pub const KEY_FILE: &str = "token-key.pem";
/// No token of Kubernetes comes near it.
pub const MAX_TOKEN: usize = 16 * 1024;

/// How far a token may come from the future before it is refused, seconds.
const CLOCK_LEEWAY: i64 = 60;

/// Why a token proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token at all, or without the claims that are needed.
    #[error("token_malformed: {0}")]
    Malformed(&'static str),
    /// Another key, another algorithm, or changed since it was signed.
    #[error("token_signature: {0}")]
    Signature(&'static str),
    /// Of another issuer.
    #[error("token_issuer: the token is not of issuer `{ISSUER}`")]
    Issuer,
    /// Meant for somebody else.
    #[error("token_audience: the token is not for audience `{AUDIENCE}`")]
    Audience,
    /// Too old.
    #[error("token_expired: the token expired {0} s ago; make a new one")]
    Expired(i64),
    /// Too new.
    #[error("token_not_yet_valid: the token is valid in {0} s; compare the clocks")]
    NotYetValid(i64),
    /// The API server does not accept it, and the token itself does not show why.
    #[error(
        "token_refused: the API server refuses it: it is of another cluster, changed, or its pod or account is gone"
    )]
    Refused,
    /// Not a ServiceAccount's.
    #[error("token_subject: the token is not of a ServiceAccount")]
    Subject,
    /// Good for any pod, so that it says nothing of this one.
    #[error("token_unbound: the token is not bound to a pod; only a projected token of the pod itself is accepted")]
    Unbound,
    /// Its pod is gone, or another pod has the name now.
    #[error("token_pod_unknown: there is no pod {0} with the uid of the token")]
    PodGone(String),
    /// Its pod runs no more.
    #[error("token_pod_finished: pod {0} has ended or is being deleted")]
    PodFinished(String),
    /// Its pod runs as somebody else.
    #[error("token_account_mismatch: pod {pod} has another ServiceAccount than the token, {account}")]
    PodAccount {
        /// `namespace/name`
        pod: String,
        /// Of the token.
        account: String,
    },
    /// Its pod is not in the mesh.
    #[error("pod_not_meshed: pod {0} was not injected, or uses its node's network; it has no identity in the mesh")]
    PodNotMeshed(String),
    /// Whoever checks tokens cannot be reached.
    #[error("token_review_unavailable: {0}")]
    Unavailable(String),
}

impl TokenError {
    /// Whether the token is good, but not for what is asked: its pod may not have a certificate.
    pub fn is_about_pod(&self) -> bool {
        matches!(self, Self::PodGone(_) | Self::PodFinished(_) | Self::PodAccount { .. } | Self::PodNotMeshed(_))
    }

    /// Stable, for metrics and for the caller.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "token_malformed",
            Self::Signature(_) => "token_signature",
            Self::Issuer => "token_issuer",
            Self::Audience => "token_audience",
            Self::Expired(_) => "token_expired",
            Self::NotYetValid(_) => "token_not_yet_valid",
            Self::Refused => "token_refused",
            Self::Subject => "token_subject",
            Self::Unbound => "token_unbound",
            Self::PodGone(_) => "token_pod_unknown",
            Self::PodFinished(_) => "token_pod_finished",
            Self::PodAccount { .. } => "token_account_mismatch",
            Self::PodNotMeshed(_) => "pod_not_meshed",
            Self::Unavailable(_) => "token_review_unavailable",
        }
    }
}

/// What a token proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// Namespace of the ServiceAccount.
    pub namespace: String,
    /// Name of the ServiceAccount.
    pub account: String,
    /// The pod that the token is bound to.
    pub pod: Option<String>,
    /// The uid of that pod; None where tokens do not say it (those of a directory).
    pub pod_uid: Option<String>,
}

/// Who checks tokens.
#[derive(Debug)]
pub enum TokenReviewer {
    /// This process, by its own key.
    Local(LocalTokens),
    /// The API server of the cluster, which knows the pods too.
    Kubernetes(Box<KubernetesTokens>),
}

impl TokenReviewer {
    /// Checks `token` at `now` (seconds since the epoch).
    ///
    /// # Errors
    /// Why it proves nothing.
    pub async fn review(&self, token: &str, now: i64) -> Result<Proven, TokenError> {
        match self {
            Self::Local(tokens) => tokens.verify(token, now),
            Self::Kubernetes(tokens) => tokens.review(token, now).await,
        }
    }

    /// Whether a review has looked at the token's pod already.
    pub fn knows_pods(&self) -> bool {
        matches!(self, Self::Kubernetes(_))
    }
}

/// The shape of Kubernetes' own tokens.
#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    iat: i64,
    nbf: i64,
    exp: i64,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Bound,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    fn names(&self, wanted: &str) -> bool {
        match self {
            Self::One(one) => one == wanted,
            Self::Many(many) => many.iter().any(|a| a == wanted),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Bound {
    namespace: String,
    serviceaccount: Named,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pod: Option<Named>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Named {
    name: String,
}

/// What a new token shall say.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    /// Namespace of the ServiceAccount.
    pub namespace: String,
    /// Name of the ServiceAccount.
    pub account: String,
    /// Binds the token to a pod.
    pub pod: Option<String>,
    /// Life in seconds.
    pub ttl: i64,
    /// Usually [`AUDIENCE`].
    pub audience: String,
}

/// Why no token was made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The state directory cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The signing key is there but is none.
    #[error("{0} does not hold an ECDSA P-256 key in PKCS#8 PEM; restore it, or remove it and make all tokens anew")]
    Key(String),
    /// A name that no ServiceAccount or pod can have.
    #[error("`{0}` is not a name that Kubernetes allows here")]
    Name(String),
    /// Signing failed.
    #[error("signing failed: {0}")]
    Sign(String),
}

/// Signs and checks tokens with a key of the state directory.
pub struct LocalTokens {
    signing: EncodingKey,
    verifying: DecodingKey,
    key_id: String,
}

impl fmt::Debug for LocalTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalTokens").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

impl LocalTokens {
    /// Takes the key of `state`, making one where there is none; two processes at once end with the same key.
    ///
    /// # Errors
    /// When the key can be neither read nor made.
    pub fn open(state: &StateDir) -> Result<Self, IssueError> {
        let bad = || IssueError::Key(state.file(KEY_FILE).display().to_string());
        let pem = match state.read_private(KEY_FILE)? {
            Some(pem) => pem,
            None => {
                let key = rcgen::KeyPair::generate().map_err(|e| IssueError::Sign(e.to_string()))?;
                state.read_or_make(KEY_FILE, key.serialize_pem().as_bytes())?
            }
        };
        let pem = String::from_utf8(pem).map_err(|_| bad())?;
        let key = rcgen::KeyPair::from_pem_and_sign_algo(&pem, &rcgen::PKCS_ECDSA_P256_SHA256).map_err(|_| bad())?;
        let signing = EncodingKey::from_ec_pem(pem.as_bytes()).map_err(|_| bad())?;
        let point = key.public_key_raw();
        // Uncompressed: 4, x, y.
        let (x, y) = point.get(1..).and_then(|xy| xy.split_at_checked(32)).ok_or_else(bad)?;
        let verifying = DecodingKey::from_ec_components(&URL_SAFE_NO_PAD.encode(x), &URL_SAFE_NO_PAD.encode(y))
            .map_err(|_| bad())?;
        let key_id = format!("{:016x}", causeway_mesh::directory::version(point));
        Ok(Self { signing, verifying, key_id })
    }

    /// Signs a token that is valid from `now` (seconds since the epoch) on.
    ///
    /// # Errors
    /// When a name is none, or signing fails.
    pub fn issue(&self, request: &TokenRequest, now: i64) -> Result<String, IssueError> {
        let check = |name: &str, is_name: bool| {
            if is_name { Ok(()) } else { Err(IssueError::Name(name.escape_debug().to_string())) }
        };
        check(&request.namespace, is_dns_label(&request.namespace))?;
        check(&request.account, is_dns_subdomain(&request.account))?;
        if let Some(pod) = &request.pod {
            check(pod, is_dns_subdomain(pod))?;
        }
        let claims = Claims {
            iss: ISSUER.to_owned(),
            sub: subject(&request.namespace, &request.account),
            aud: Audience::Many(vec![request.audience.clone()]),
            iat: now,
            nbf: now,
            exp: now.saturating_add(request.ttl),
            kubernetes: Bound {
                namespace: request.namespace.clone(),
                serviceaccount: Named { name: request.account.clone() },
                pod: request.pod.clone().map(|name| Named { name }),
            },
        };
        let header = Header { kid: Some(self.key_id.clone()), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, &claims, &self.signing).map_err(|e| IssueError::Sign(e.to_string()))
    }

    /// Checks `token` at `now`. The signature comes first: nothing that is not signed by our key is looked at.
    ///
    /// # Errors
    /// Why it proves nothing.
    pub fn verify(&self, token: &str, now: i64) -> Result<Proven, TokenError> {
        if token.is_empty() || token.len() > MAX_TOKEN {
            return Err(TokenError::Malformed("it is empty or longer than 16 KiB"));
        }
        self.check_header(token)?;
        let mut rules = Validation::new(Algorithm::ES256);
        // Times, audience and issuer are checked below, against `now` and with a code each.
        rules.validate_exp = false;
        rules.validate_aud = false;
        rules.required_spec_claims.clear();
        let claims: Claims =
            jsonwebtoken::decode(token, &self.verifying, &rules).map(|data| data.claims).map_err(|e| {
                match e.kind() {
                    jsonwebtoken::errors::ErrorKind::InvalidSignature => {
                        TokenError::Signature("no key of this control plane signed it")
                    }
                    _ => TokenError::Malformed("its claims are not those of a ServiceAccount token"),
                }
            })?;
        check_claims(&claims, now)?;
        Ok(Proven {
            namespace: claims.kubernetes.namespace,
            account: claims.kubernetes.serviceaccount.name,
            pod: claims.kubernetes.pod.map(|p| p.name),
            pod_uid: None,
        })
    }

    /// The algorithm is pinned before any key is used, so that a token cannot choose how it is checked.
    fn check_header(&self, token: &str) -> Result<(), TokenError> {
        #[derive(Deserialize)]
        struct Head {
            alg: String,
            kid: Option<String>,
            crit: Option<serde_json::Value>,
        }
        let head = token.split('.').next().unwrap_or_default();
        let head = URL_SAFE_NO_PAD.decode(head).map_err(|_| TokenError::Malformed("its header is not base64url"))?;
        let head: Head =
            serde_json::from_slice(&head).map_err(|_| TokenError::Malformed("its header is not that of a JWT"))?;
        if head.alg != "ES256" {
            return Err(TokenError::Signature("its algorithm is not ES256"));
        }
        if head.crit.is_some() {
            return Err(TokenError::Malformed("its header demands extensions that are not known"));
        }
        if head.kid.as_deref() != Some(self.key_id.as_str()) {
            return Err(TokenError::Signature("it names another key; was the state directory replaced?"));
        }
        Ok(())
    }
}

fn check_claims(claims: &Claims, now: i64) -> Result<(), TokenError> {
    if claims.iss != ISSUER {
        return Err(TokenError::Issuer);
    }
    if !claims.aud.names(AUDIENCE) {
        return Err(TokenError::Audience);
    }
    if claims.exp <= now {
        return Err(TokenError::Expired(now - claims.exp));
    }
    let ahead = claims.nbf.max(claims.iat) - now;
    if ahead > CLOCK_LEEWAY {
        return Err(TokenError::NotYetValid(ahead));
    }
    let bound = &claims.kubernetes;
    if claims.sub != subject(&bound.namespace, &bound.serviceaccount.name) {
        return Err(TokenError::Malformed("its subject is not the ServiceAccount that it is bound to"));
    }
    Ok(())
}

fn subject(namespace: &str, account: &str) -> String {
    format!("system:serviceaccount:{namespace}:{account}")
}

#[cfg(test)]
mod tests;
