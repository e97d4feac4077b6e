//! The API server's side of a status: reads what is written on the resources, writes it, and writes Events.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use causeway_crds as crds;
use causeway_crds::Status;
use causeway_crds::gateway::GROUP as GATEWAY_GROUP;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Client;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::ApiResource;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::event::Notice;
use super::parents::{CONTROLLER, ParentStatus};
use super::{ACCEPTED, PROGRAMMED, RESOLVED};
use crate::clock;
use crate::compile::is_route;
use crate::kubernetes::{ANSWER_DEADLINE, NAME, is_status};
use crate::source::{Key, Kind};

/// Our own API group.
pub const OWN_GROUP: &str = "causeway.dev";
/// Objects in one page of a list.
const PAGE: u32 = 500;
/// How long it is remembered that a foreign kind is not there.
const REDISCOVER: Duration = Duration::from_secs(30);
/// Kinds of Istio's whose status says the same, and routes of the Gateway API, where they are installed.
const FOREIGN: [(&str, Kind); 9] = [
    (GATEWAY_GROUP, Kind::HTTPRoute),
    (GATEWAY_GROUP, Kind::GRPCRoute),
    (GATEWAY_GROUP, Kind::TCPRoute),
    (GATEWAY_GROUP, Kind::TLSRoute),
    ("networking.istio.io", Kind::VirtualService),
    ("networking.istio.io", Kind::DestinationRule),
    ("networking.istio.io", Kind::ServiceEntry),
    ("security.istio.io", Kind::AuthorizationPolicy),
    ("security.istio.io", Kind::PeerAuthentication),
];

/// What is written on a resource.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// `metadata.uid`
    pub uid: String,
    /// Our part of its status; of a route of the Gateway API, the conditions of its first parent.
    pub status: Status,
    /// Our part of the status of a route of the Gateway API.
    pub parents: Vec<ParentStatus>,
}

/// How a write ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is written.
    Done,
    /// The resource is gone, or is another one now.
    Gone,
    /// Not written; to be tried again.
    Failed(String),
}

/// See the module.
pub struct Statuses {
    client: Client,
    recorder: Recorder,
    /// How to reach each kind; None where it has no status or is not there, and since when that is known.
    kinds: HashMap<(String, Kind), (Option<ApiResource>, Instant)>,
}

impl Statuses {
    /// `replica` is named in Events.
    pub fn new(client: Client, replica: &str) -> Self {
        let reporter = Reporter { controller: "causeway.dev/control-plane".into(), instance: Some(replica.to_owned()) };
        let recorder = Recorder::new(client.clone(), reporter);
        Self { client, recorder, kinds: HashMap::new() }
    }

    /// What is written on every resource.
    ///
    /// # Errors
    /// In words, when a list cannot be had. A foreign kind that is not there is none.
    pub async fn read(&mut self) -> Result<HashMap<Key, Written>, String> {
        let mut all = HashMap::new();
        for (group, kind) in Kind::OWN.into_iter().map(|kind| (OWN_GROUP, kind)).chain(FOREIGN) {
            let Some(resource) = self.resource(group, kind).await? else { continue };
            let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
            let mut page = ListParams::default().limit(PAGE);
            loop {
                let list = timeout(ANSWER_DEADLINE * 4, api.list(&page)).await.map_err(|_| "no answer".to_owned())?;
                let list = match list {
                    Ok(list) => list,
                    // Taken away meanwhile.
                    Err(error) if is_status(&error, 404) => break,
                    // An older role beside a newer control plane: what is written is not known, and is written anew.
                    Err(error) if is_status(&error, 403) => {
                        tracing::warn!(group, ?kind, %error, "the status of a kind may not be read");
                        break;
                    }
                    Err(error) => return Err(format!("listing {kind:?}s of {group}: {error}")),
                };
                for object in &list.items {
                    all.insert(key(group, kind, object), written(object, group == OWN_GROUP));
                }
                match list.metadata.continue_.filter(|c| !c.is_empty()) {
                    Some(next) => page = page.continue_token(&next),
                    None => break,
                }
            }
        }
        Ok(all)
    }

    /// How to reach a kind; None where it is not there or has no status.
    ///
    /// # Errors
    /// In words, when the API server cannot say.
    pub async fn resource(&mut self, group: &str, kind: Kind) -> Result<Option<ApiResource>, String> {
        if group == OWN_GROUP {
            return Ok(own_resource(kind));
        }
        let place = (group.to_owned(), kind);
        if let Some((found, since)) = self.kinds.get(&place)
            && (found.is_some() || since.elapsed() < REDISCOVER)
        {
            return Ok(found.clone());
        }
        let asked = timeout(ANSWER_DEADLINE, kube::discovery::group(&self.client, group)).await;
        let found = match asked.map_err(|_| "no answer".to_owned())? {
            Ok(found) => found.recommended_kind(&format!("{kind:?}")),
            Err(error) if is_absent(&error) => None,
            Err(error) => return Err(format!("what {group} is: {error}")),
        };
        let found = found.filter(|(_, can)| can.subresources.iter().any(|(sub, _)| sub.plural == "status"));
        let found = found.map(|(resource, _)| resource);
        self.kinds.insert(place, (found.clone(), clock::now()));
        Ok(found)
    }

    /// Writes our part of the status of the resource that has this uid.
    pub async fn write(&self, key: &Key, resource: &ApiResource, written: &Written) -> Outcome {
        let Written { uid, status, parents } = written;
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &key.namespace, resource);
        let write = async {
            let patch = if key.group == OWN_GROUP {
                own_patch(uid, status)
            } else {
                let object = api.get(&key.name).await?;
                if !uid.is_empty() && object.metadata.uid.as_deref() != Some(uid) {
                    // Another object of the same name; the source will say so too.
                    return Ok(false);
                }
                if is_route(key.kind) { route_patch(&object, parents) } else { foreign_patch(&object, status) }
            };
            let params = PatchParams { field_manager: Some(NAME.to_owned()), ..PatchParams::default() };
            api.patch_status(&key.name, &params, &Patch::Merge(&patch)).await.map(|_| true)
        };
        match timeout(ANSWER_DEADLINE, write).await {
            Ok(Ok(true)) => Outcome::Done,
            Ok(Ok(false)) => Outcome::Gone,
            Ok(Err(error)) if is_status(&error, 404) => Outcome::Gone,
            // Ours is another object now; a foreign one was changed in between and is read anew.
            Ok(Err(error)) if is_status(&error, 409) && key.group == OWN_GROUP => Outcome::Gone,
            Ok(Err(error)) => Outcome::Failed(error.to_string()),
            Err(_) => Outcome::Failed(format!("no answer within {ANSWER_DEADLINE:?}")),
        }
    }

    /// Writes an Event about a resource. One that cannot be written is lost: the status says the same.
    pub async fn tell(&self, key: &Key, resource: &ApiResource, uid: &str, generation: i64, notice: &Notice) {
        let event = Event {
            type_: if notice.is_warning { EventType::Warning } else { EventType::Normal },
            reason: notice.reason.clone(),
            note: Some(notice.note.clone()),
            // Names the generation, so that each has an Event of its own rather than a count on the first one.
            action: format!("JudgeGeneration{generation}"),
            secondary: None,
        };
        let reference = ObjectReference {
            api_version: Some(resource.api_version.clone()),
            kind: Some(resource.kind.clone()),
            namespace: Some(key.namespace.clone()),
            name: Some(key.name.clone()),
            uid: Some(uid.to_owned()).filter(|u| !u.is_empty()),
            ..ObjectReference::default()
        };
        match timeout(ANSWER_DEADLINE, self.recorder.publish(&event, &reference)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%key, %error, "an Event was not written"),
            Err(_) => tracing::debug!(%key, "an Event was not written in time"),
        }
    }
}

fn own_resource(kind: Kind) -> Option<ApiResource> {
    match kind {
        Kind::VirtualService => Some(ApiResource::erase::<crds::VirtualService>(&())),
        Kind::DestinationRule => Some(ApiResource::erase::<crds::DestinationRule>(&())),
        Kind::AuthorizationPolicy => Some(ApiResource::erase::<crds::AuthorizationPolicy>(&())),
        Kind::PeerAuthentication => Some(ApiResource::erase::<crds::PeerAuthentication>(&())),
        Kind::ServiceEntry => Some(ApiResource::erase::<crds::ServiceEntry>(&())),
        Kind::RateLimitPolicy => Some(ApiResource::erase::<crds::RateLimitPolicy>(&())),
        _ => None,
    }
}

/// Whether the error says that there is no such group.
fn is_absent(error: &kube::Error) -> bool {
    is_status(error, 404) || matches!(error, kube::Error::Discovery(_))
}

fn key(group: &str, kind: Kind, object: &DynamicObject) -> Key {
    Key {
        kind,
        namespace: object.metadata.namespace.clone().unwrap_or_default(),
        name: object.metadata.name.clone().unwrap_or_default(),
        group: group.to_owned(),
    }
}

/// Our part of what is written; what is not understood is written anew.
fn written(object: &DynamicObject, is_own: bool) -> Written {
    let parents: Vec<ParentStatus> = entries(object).filter_map(|entry| serde_json::from_value(entry).ok()).collect();
    let parents: Vec<_> = parents.into_iter().filter(|p| p.controller_name == CONTROLLER).collect();
    if let Some(first) = parents.first() {
        let status = Status { conditions: first.conditions.clone(), ..Status::default() };
        return Written { uid: object.metadata.uid.clone().unwrap_or_default(), status, parents };
    }
    let status = object.data.get("status").cloned().unwrap_or_default();
    let mut status: Status = serde_json::from_value(status).unwrap_or_default();
    status.conditions.retain(is_ours);
    if !is_own {
        status = Status { conditions: status.conditions, ..Status::default() };
    }
    Written { uid: object.metadata.uid.clone().unwrap_or_default(), status, parents }
}

fn is_ours(condition: &Condition) -> bool {
    [ACCEPTED, RESOLVED, PROGRAMMED].contains(&condition.type_.as_str())
}

/// The uid keeps it from landing on a successor of the same name.
fn own_patch(uid: &str, status: &Status) -> Value {
    let mut patch = json!({ "status": status });
    if !uid.is_empty() {
        patch["metadata"] = json!({ "uid": uid });
    }
    patch
}

/// Conditions alone, beside those of others; the version keeps it from undoing what somebody else writes.
fn foreign_patch(object: &DynamicObject, status: &Status) -> Value {
    let mine = |c: &&Value| {
        let kind = c.get("type").and_then(Value::as_str).unwrap_or_default();
        [ACCEPTED, RESOLVED, PROGRAMMED].contains(&kind)
    };
    let there = object.data.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut conditions: Vec<Value> = there.iter().filter(|c| !mine(c)).cloned().collect();
    conditions.extend(status.conditions.iter().map(|c| json!(c)));
    json!({
        "metadata": { "resourceVersion": object.metadata.resource_version },
        "status": { "conditions": conditions },
    })
}

/// What all controllers say of a route's parents.
fn entries(object: &DynamicObject) -> impl Iterator<Item = Value> {
    let there = object.data.pointer("/status/parents").and_then(Value::as_array).cloned();
    there.unwrap_or_default().into_iter()
}

/// Our parents beside those of other controllers; the version keeps it from undoing what somebody else writes.
fn route_patch(object: &DynamicObject, ours: &[ParentStatus]) -> Value {
    let is_mine = |entry: &Value| entry.get("controllerName").and_then(Value::as_str) == Some(CONTROLLER);
    let others = entries(object).filter(|entry| !is_mine(entry));
    let parents: Vec<Value> = others.chain(ours.iter().map(|p| json!(p))).collect();
    json!({
        "metadata": { "resourceVersion": object.metadata.resource_version },
        "status": { "parents": parents },
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_other_controllers_say_of_a_route_stays_as_it_is() {
        let gateway = json!({ "parentRef": { "name": "edge" }, "controllerName": "example.com/edge", "x": 1 });
        let stale = json!({ "parentRef": { "name": "gone" }, "controllerName": CONTROLLER, "conditions": [] });
        let object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": { "name": "r", "namespace": "dev", "uid": "u", "resourceVersion": "7" },
            "status": { "parents": [gateway, stale] },
        }))
        .unwrap();
        let found = written(&object, false);
        assert_eq!(found.parents.iter().map(|p| p.parent_ref.name.as_str()).collect::<Vec<_>>(), ["gone"]);
        let parent_ref = json!({ "group": "", "kind": "Service", "name": "shop", "port": 80 });
        let ours = ParentStatus {
            parent_ref: serde_json::from_value(parent_ref.clone()).unwrap(),
            controller_name: CONTROLLER.to_owned(),
            conditions: Vec::new(),
        };
        let patch = route_patch(&object, &[ours]);
        let parents = patch["status"]["parents"].as_array().unwrap();
        assert_eq!((parents.len(), &parents[0]), (2, &gateway));
        assert_eq!((&parents[1]["parentRef"], &parents[1]["controllerName"]), (&parent_ref, &json!(CONTROLLER)));
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        assert_eq!(route_patch(&object, &[])["status"]["parents"], json!([gateway]));
    }

    #[test]
    fn foreign_conditions_stay() {
        let object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": { "name": "v", "namespace": "dev", "uid": "u", "resourceVersion": "7" },
            "status": { "conditions": [{ "type": "Reconciled", "status": "True" }, { "type": "Accepted", "status": "False" }] },
        }))
        .unwrap();
        let ours = json!({
            "type": "Accepted", "status": "True", "reason": "Accepted", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
        });
        let ours = serde_json::from_value(ours).unwrap();
        let status = Status { conditions: vec![ours], ..Status::default() };
        let patch = foreign_patch(&object, &status);
        let types: Vec<_> = patch["status"]["conditions"].as_array().unwrap().iter().map(|c| &c["type"]).collect();
        assert_eq!(types, ["Reconciled", "Accepted"]);
        assert_eq!(patch["status"]["conditions"][1]["status"], "True");
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        assert!(patch.get("spec").is_none());
    }

    #[test]
    fn a_status_of_another_shape_is_no_obstacle() {
        let object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "causeway.dev/v1alpha1", "kind": "VirtualService",
            "metadata": { "name": "v", "uid": "u" }, "status": { "conditions": "no list" },
        }))
        .unwrap();
        assert_eq!(written(&object, true).status, Status::default());
        assert_eq!(own_patch("u", &Status::default())["metadata"]["uid"], "u");
    }
}
