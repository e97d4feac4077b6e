//! Checks tokens by a TokenReview of the API server, and that the pod that a token is bound to may still have what it
//! asks for. Nothing is taken from a token itself: what counts is the API server's answer.

use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, PostParams};
use tokio::sync::Semaphore;

use super::{AUDIENCE, MAX_TOKEN, Proven, TokenError};
use crate::clock;
use crate::inject::INJECTED_LABEL;
use crate::metrics::Metrics;
use causeway_mesh::spiffe::{is_dns_label, is_dns_subdomain};

mod hint;

/// How long the API server may take for one token, with the look at its pod and the wait for a place.
const DEADLINE: Duration = Duration::from_secs(5);
/// Tokens that are checked at once. The API server is everybody's.
const AT_ONCE: usize = 32;

/// Who the API server is asked as, and how often at once.
pub struct KubernetesTokens {
    client: Client,
    places: Semaphore,
    metrics: Metrics,
}

impl std::fmt::Debug for KubernetesTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubernetesTokens").finish_non_exhaustive()
    }
}

impl KubernetesTokens {
    /// Checks tokens at the API server of `client`.
    pub fn new(client: Client, metrics: Metrics) -> Self {
        Self { client, places: Semaphore::new(AT_ONCE), metrics }
    }

    /// Checks `token`, and reads its pod; `now` in seconds since the epoch serves to say why a token was refused.
    ///
    /// # Errors
    /// Why it proves nothing. Without an answer of the API server nothing is proven.
    pub async fn review(&self, token: &str, now: i64) -> Result<Proven, TokenError> {
        if token.is_empty() || token.len() > MAX_TOKEN {
            return Err(TokenError::Malformed("it is empty or longer than 16 KiB"));
        }
        let began = clock::now();
        let reviewed = tokio::time::timeout(DEADLINE, async {
            let _place = self.places.acquire().await.map_err(|_| unavailable("the process is ending"))?;
            let status = self.ask(token).await?;
            let proven = proven(&status).map_err(|refusal| match refusal {
                Refusal::Unauthenticated => hint::why(token, now),
                Refusal::Because(error) => error,
            })?;
            self.check_pod(&proven).await?;
            Ok(proven)
        })
        .await;
        self.metrics.token_review_seconds.observe(began.elapsed().as_secs_f64());
        reviewed.unwrap_or_else(|_| Err(unavailable("the API server did not answer within 5 s")))
    }

    async fn ask(&self, token: &str) -> Result<TokenReviewStatus, TokenError> {
        let review = TokenReview {
            spec: TokenReviewSpec { audiences: Some(vec![AUDIENCE.to_owned()]), token: Some(token.to_owned()) },
            ..TokenReview::default()
        };
        let reviews: Api<TokenReview> = Api::all(self.client.clone());
        let answer = reviews.create(&PostParams::default(), &review).await;
        let answer = answer.map_err(|e| failed("the API server did not review the token", &e))?;
        answer.status.ok_or_else(|| unavailable("the API server's TokenReview has no status"))
    }

    /// A token outlives its pod's end by a while; a certificate must not begin then. The pod is read from the API
    /// server, not from what was watched: a pod that has just begun is there, and one that is gone is not.
    async fn check_pod(&self, proven: &Proven) -> Result<(), TokenError> {
        let name = proven.pod.as_deref().unwrap_or_default();
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &proven.namespace);
        let pod = pods.get_opt(name).await.map_err(|e| failed("the API server did not say which pod it is", &e))?;
        fits(proven, pod.as_ref())
    }
}

/// Why a review proves nothing.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    /// The API server does not say more that could be relied on.
    Unauthenticated,
    /// What its answer lacks.
    Because(TokenError),
}

/// Who it is, by the API server's answer alone.
fn proven(status: &TokenReviewStatus) -> Result<Proven, Refusal> {
    if status.authenticated != Some(true) {
        return Err(Refusal::Unauthenticated);
    }
    // An authenticator that knows no audiences leaves them out: that proves nothing to whom the token was given.
    if !status.audiences.iter().flatten().any(|a| a == AUDIENCE) {
        return Err(Refusal::Because(TokenError::Audience));
    }
    let user = status.user.clone().unwrap_or_default();
    let (namespace, account) = user
        .username
        .as_deref()
        .and_then(|name| name.strip_prefix("system:serviceaccount:"))
        .and_then(|name| name.split_once(':'))
        .filter(|(namespace, account)| is_dns_label(namespace) && is_dns_subdomain(account))
        .ok_or(Refusal::Because(TokenError::Subject))?;
    let only = |key: &str| {
        let values = user.extra.as_ref().and_then(|extra| extra.get(key))?;
        match values.as_slice() {
            [one] if !one.is_empty() => Some(one.clone()),
            _ => None,
        }
    };
    let pod = only("authentication.kubernetes.io/pod-name").filter(|pod| is_dns_subdomain(pod));
    let uid = only("authentication.kubernetes.io/pod-uid");
    let (Some(pod), Some(uid)) = (pod, uid) else { return Err(Refusal::Because(TokenError::Unbound)) };
    Ok(Proven { namespace: namespace.to_owned(), account: account.to_owned(), pod: Some(pod), pod_uid: Some(uid) })
}

/// Whether the pod is the one that the token is bound to, still runs, and is in the mesh.
fn fits(proven: &Proven, pod: Option<&Pod>) -> Result<(), TokenError> {
    let name = || format!("{}/{}", proven.namespace, proven.pod.as_deref().unwrap_or_default());
    let Some(pod) = pod.filter(|pod| pod.metadata.uid.is_some() && pod.metadata.uid == proven.pod_uid) else {
        return Err(TokenError::PodGone(name()));
    };
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    if pod.metadata.deletion_timestamp.is_some() || matches!(phase, Some("Succeeded" | "Failed")) {
        return Err(TokenError::PodFinished(name()));
    }
    let spec = pod.spec.clone().unwrap_or_default();
    let account = spec.service_account_name.filter(|a| !a.is_empty());
    if account.as_deref().unwrap_or("default") != proven.account {
        return Err(TokenError::PodAccount { pod: name(), account: proven.account.clone() });
    }
    let injected = pod.metadata.labels.as_ref().and_then(|l| l.get(INJECTED_LABEL)).is_some_and(|v| v == "true");
    if !injected || spec.host_network == Some(true) {
        return Err(TokenError::PodNotMeshed(name()));
    }
    Ok(())
}

fn unavailable(what: &str) -> TokenError {
    TokenError::Unavailable(what.to_owned())
}

/// kube's error may quote what was sent; only what says nothing of the token is passed on.
fn failed(what: &str, error: &kube::Error) -> TokenError {
    match error {
        kube::Error::Api(status) => TokenError::Unavailable(format!("{what}: HTTP {} {}", status.code, status.reason)),
        _ => TokenError::Unavailable(format!("{what}: it cannot be reached")),
    }
}

#[cfg(test)]
mod tests;
