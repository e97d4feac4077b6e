//! The CA's Secret: made by the first replica, read by all, never replaced. What its content means is left to `ca`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use tokio::sync::watch;

use super::{ANSWER_DEADLINE, MANAGED_BY, NAME, NAMESPACE, is_status, retired, trust};
use crate::ca::{CaError, CaProblem, Delivery, EXTRA_ROOTS_FILE, Material, Root};
use crate::clock;

/// How often the Secret is read again.
pub const REREAD: Duration = Duration::from_secs(5);
/// Longest wait between two tries at the start.
const LONGEST: Duration = Duration::from_secs(10);
/// The issuer, then what signed it.
const CHAIN: &str = "tls.crt";
/// The issuer's key.
const KEY: &str = "tls.key";
/// The root.
const ROOT: &str = "ca.crt";

/// What tells the authority of changes.
pub type Sender = watch::Sender<Result<Arc<Material>, CaProblem>>;

/// Why there is no CA yet.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The API server did not answer in time.
    #[error("no answer from the API server within {ANSWER_DEADLINE:?}")]
    Late,
    /// The API server refused or cannot be reached.
    #[error("{action} {place}: {source}")]
    Api {
        /// `reading`, `making`.
        action: &'static str,
        /// Which object.
        place: String,
        /// The API server's answer.
        source: kube::Error,
    },
    /// The Secret is not what it must be.
    #[error("{}: {}", .0.place, .0.what)]
    Content(CaProblem),
    /// It is gone from a cluster that had one.
    #[error(
        "{secret} is missing, but ConfigMap {NAMESPACE}/{} shows that this cluster had a CA. Restore the Secret from a \
         backup; or delete that ConfigMap to begin with a new CA, which no running proxy trusts",
        trust::CONFIG_MAP
    )]
    Lost {
        /// `Secret namespace/name`
        secret: String,
    },
    /// The issuer has a root that nobody trusts yet.
    #[error(
        "the root of {secret} is not in ConfigMap {NAMESPACE}/{}, so that no proxy trusts it. Put the former CA back, \
         announce the new root as {EXTRA_ROOTS_FILE} in the Secret, and replace the CA once all proxies acknowledged \
         the root; or delete that ConfigMap to use the new root at once, which no running proxy trusts",
        trust::CONFIG_MAP
    )]
    Unannounced {
        /// `Secret namespace/name`
        secret: String,
    },
    /// No CA could be made, or the one that is there cannot be read.
    #[error(transparent)]
    Ca(#[from] CaError),
}

/// Waits until there is a CA that `judge` takes: reads the Secret, or makes it where this cluster never had one.
pub async fn open<T>(
    client: &Client,
    name: &str,
    trust_domain: &str,
    judge: impl Fn(Delivery) -> Result<T, CaError>,
) -> (Sender, T) {
    let (mut failures, mut last_error) = (0, String::new());
    loop {
        let found = read_or_make(client, name, trust_domain, clock::unix_now()).await;
        let judged = found.and_then(|material| {
            let (sender, delivery) = watch::channel(Ok(Arc::new(material)));
            Ok((sender, judge(delivery)?))
        });
        let error = match judged {
            Ok(opened) => return opened,
            Err(error) => error.to_string(),
        };
        if last_error != error {
            tracing::error!(error, "there is no CA yet; trying again");
            last_error = error;
        }
        let point = f64::from(u16::from_ne_bytes(clock::random_bytes())) / f64::from(u16::MAX);
        tokio::time::sleep(causeway_mesh::backoff::delay(failures, Duration::from_millis(500), LONGEST, point)).await;
        failures = failures.saturating_add(1);
    }
}

/// Reads the Secret again and again. One that is gone or cannot be used is told as such; while the API server is away
/// nothing is told.
pub async fn follow(client: Client, name: String, sender: Sender) {
    loop {
        tokio::time::sleep(REREAD).await;
        let told = match read(&client, &name).await {
            Ok(Some(material)) => Ok(Arc::new(material)),
            Ok(None) => Err(CaProblem {
                place: place(&name),
                what: "it is gone; restore it from a backup, or no replica can start again".to_owned(),
            }),
            Err(SecretError::Content(problem)) => Err(problem),
            Err(error) => {
                tracing::debug!(%error, "the CA's Secret cannot be read");
                continue;
            }
        };
        sender.send_if_modified(|was| {
            let changed = *was != told;
            if changed {
                *was = told;
            }
            changed
        });
    }
}

async fn read_or_make(client: &Client, name: &str, trust_domain: &str, now: i64) -> Result<Material, SecretError> {
    let found = read(client, name).await?;
    let announced = announced(client).await?;
    match (found, announced) {
        (Some(material), None) => Ok(material),
        (Some(material), Some(roots)) => {
            let root = material.trust_anchor()?;
            if roots.contains(&root) { Ok(material) } else { Err(SecretError::Unannounced { secret: place(name) }) }
        }
        (None, Some(_)) => Err(SecretError::Lost { secret: place(name) }),
        (None, None) => make(client, name, trust_domain, now).await,
    }
}

async fn read(client: &Client, name: &str) -> Result<Option<Material>, SecretError> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    let found = answer("reading", place(name), secrets.get_opt(name)).await?;
    found.map(|secret| material(&place(name), &secret)).transpose()
}

/// The roots that the trust bundle of the control plane's own namespace names; None where there is none.
async fn announced(client: &Client) -> Result<Option<Vec<Root>>, SecretError> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let path = format!("ConfigMap {NAMESPACE}/{}", trust::CONFIG_MAP);
    let Some(map) = answer("reading", path.clone(), maps.get_opt(trust::CONFIG_MAP)).await? else { return Ok(None) };
    let pem = map.data.unwrap_or_default().remove(trust::BUNDLE_KEY).unwrap_or_default();
    Ok(Some(Root::parse_all(pem.as_bytes(), path.as_ref())?))
}

/// Makes the Secret. Of replicas that try at once one succeeds, and the others take what it made.
async fn make(client: &Client, name: &str, trust_domain: &str, now: i64) -> Result<Material, SecretError> {
    let made = Material::make(place(name), trust_domain, now)?;
    let data = [(CHAIN, &made.chain), (KEY, &made.key), (ROOT, &made.root)];
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(NAMESPACE.to_owned()),
            labels: Some(BTreeMap::from([(MANAGED_BY.to_owned(), NAME.to_owned())])),
            ..ObjectMeta::default()
        },
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(data.map(|(key, bytes)| (key.to_owned(), ByteString(bytes.clone()))).into()),
        ..Secret::default()
    };
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    let parameters = PostParams { field_manager: Some(NAME.to_owned()), ..PostParams::default() };
    match answer("making", place(name), secrets.create(&parameters, &secret)).await {
        Ok(_) => {
            tracing::info!(secret = place(name), "made a new CA; back this Secret up");
            Ok(made)
        }
        Err(SecretError::Api { source, .. }) if is_status(&source, 409) => {
            read(client, name).await?.ok_or_else(|| SecretError::Lost { secret: place(name) })
        }
        Err(error) => Err(error),
    }
}

/// What `secret` holds; whether it fits together is left to the authority.
fn material(place: &str, secret: &Secret) -> Result<Material, SecretError> {
    let take = |key: &str| secret.data.as_ref().and_then(|d| d.get(key)).map(|b| b.0.clone()).unwrap_or_default();
    let need = |key: &str| {
        let bytes = take(key);
        let what =
            format!("it has no key `{key}`; it must hold {CHAIN}, {KEY} and {ROOT} in PEM, as cert-manager does");
        let problem = CaProblem { place: place.to_owned(), what };
        if bytes.is_empty() { Err(SecretError::Content(problem)) } else { Ok(bytes) }
    };
    Ok(Material {
        place: place.to_owned(),
        chain: need(CHAIN)?,
        key: need(KEY)?,
        root: take(ROOT),
        extra: take(EXTRA_ROOTS_FILE),
        retired: retired::read(place, &take(retired::ROOTS), secret.metadata.annotations.as_ref()),
    })
}

fn place(name: &str) -> String {
    format!("Secret {NAMESPACE}/{name}")
}

/// Waits for an answer, but not for ever.
async fn answer<T>(
    action: &'static str,
    place: String,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, SecretError> {
    let answered = tokio::time::timeout(ANSWER_DEADLINE, call).await.map_err(|_| SecretError::Late)?;
    answered.map_err(|source| SecretError::Api { action, place, source })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn secret(keys: &[&str]) -> Secret {
        let data = keys.iter().map(|key| ((*key).to_owned(), ByteString(key.as_bytes().to_vec())));
        Secret { data: Some(data.collect()), ..Secret::default() }
    }

    #[test]
    fn a_secret_without_chain_or_key_is_refused_by_the_name_of_what_it_lacks() {
        for (keys, lacks) in [(&[][..], CHAIN), (&[CHAIN], KEY), (&[KEY, ROOT], CHAIN)] {
            let error = material("Secret a/b", &secret(keys)).unwrap_err().to_string();
            assert!(error.contains("Secret a/b") && error.contains(&format!("`{lacks}`")), "{error}");
        }
        let all = material("Secret a/b", &secret(&[CHAIN, KEY])).unwrap();
        assert_eq!((all.chain, all.key, all.root), (CHAIN.into(), KEY.into(), Vec::new()));
    }

    #[test]
    fn the_key_is_in_no_debug_output() {
        let all = material("Secret a/b", &secret(&[CHAIN, KEY])).unwrap();
        assert!(!format!("{all:?}").contains(KEY));
    }
}
