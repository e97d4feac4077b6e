//! Keeps in the CA's Secret which roots signed before and until when their leaves may be about, so that a replica that
//! starts within that time trusts them too. The leader writes; when a root retires is decided by `ca`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::secret::REREAD;
use super::{ANSWER_DEADLINE, NAME, NAMESPACE};
use crate::ca::{Authority, Delivery, Root};

/// The roots, PEM.
pub const ROOTS: &str = "retired-roots.pem";
/// Until when each counts, seconds since the epoch, in the order of the roots, with commas between them.
const UNTIL: &str = "causeway.dev/retired-roots";

/// Runs for ever; acts while this replica leads.
pub async fn remember(
    client: Client,
    name: String,
    authority: Arc<Authority>,
    delivery: Delivery,
    leader: watch::Receiver<bool>,
) {
    let secrets: Api<Secret> = Api::namespaced(client, NAMESPACE);
    loop {
        tokio::time::sleep(REREAD).await;
        // Of a Secret that is gone or broken nothing is known, and a patch would not mend it.
        let Ok(known) = delivery.borrow().clone() else { continue };
        let retired = authority.retired();
        if !*leader.borrow() || roots(&known.retired) == roots(&retired) {
            continue;
        }
        let parameters = PatchParams { field_manager: Some(NAME.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(patch(&retired));
        let call = secrets.patch(&name, &parameters, &patch);
        match tokio::time::timeout(ANSWER_DEADLINE, call).await {
            Ok(Ok(_)) => tracing::info!(roots = retired.len(), "the CA's Secret names the roots that signed before"),
            Ok(Err(error)) => tracing::warn!(%error, "the roots that signed before cannot be kept in the CA's Secret"),
            Err(_) => tracing::debug!("no answer while writing the CA's Secret"),
        }
    }
}

fn roots(retired: &[(Root, i64)]) -> BTreeSet<&[u8]> {
    retired.iter().map(|(root, _)| root.der.as_slice()).collect()
}

/// What makes a Secret name `retired`; nothing of it is left where there are none.
fn patch(retired: &[(Root, i64)]) -> Value {
    if retired.is_empty() {
        return json!({ "metadata": { "annotations": { UNTIL: null } }, "data": { ROOTS: null } });
    }
    let pem: String = retired.iter().map(|(root, _)| root.pem()).collect();
    let until: Vec<_> = retired.iter().map(|(_, until)| until.to_string()).collect();
    json!({ "metadata": { "annotations": { UNTIL: until.join(",") } }, "data": { ROOTS: STANDARD.encode(pem) } })
}

/// The roots that a Secret names. What does not fit together counts as none: trust is not guessed.
pub fn read(place: &str, data: &[u8], annotations: Option<&BTreeMap<String, String>>) -> Vec<(Root, i64)> {
    let until = annotations.and_then(|a| a.get(UNTIL)).map(String::as_str).unwrap_or_default();
    let until: Result<Vec<i64>, _> = until.split(',').filter(|t| !t.is_empty()).map(str::parse).collect();
    match (Root::parse_all(data, place.as_ref()), until) {
        (Ok(roots), Ok(until)) if roots.len() == until.len() => roots.into_iter().zip(until).collect(),
        _ => {
            tracing::debug!(place, "{ROOTS} and the annotation {UNTIL} do not fit together");
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::ca::Material;

    fn root() -> Root {
        Material::make("a Secret".to_owned(), "cluster.local", 1_800_000_000).unwrap().trust_anchor().unwrap()
    }

    fn read_back(patch: &Value) -> Vec<(Root, i64)> {
        let data = STANDARD.decode(patch["data"][ROOTS].as_str().unwrap_or_default()).unwrap();
        let annotations = serde_json::from_value(patch["metadata"]["annotations"].clone()).ok();
        read("a Secret", &data, annotations.as_ref())
    }

    #[test]
    fn what_is_written_is_read_again() {
        let retired = vec![(root(), 10), (root(), 20)];
        assert_eq!(read_back(&patch(&retired)), retired);
        assert_eq!(read_back(&patch(&[])), []);
    }

    #[test]
    fn roots_without_a_time_count_as_none() {
        let annotations = BTreeMap::from([(UNTIL.to_owned(), "10,x".to_owned())]);
        for annotations in [None, Some(&annotations)] {
            assert_eq!(read("a Secret", root().pem().as_bytes(), annotations), []);
        }
    }
}
