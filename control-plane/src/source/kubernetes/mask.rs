//! Objects of the API server, cut down while they are parsed: what a mask does not name is never held, not for a moment.
//! What the fields mean is left to `read`.

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::{Map, Number, Value};
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

/// Which fields of a value are kept. A list has the mask of its items; what is neither object nor list is kept.
#[derive(Debug)]
pub enum Mask {
    /// Everything.
    All,
    /// Only these fields of an object.
    Fields(&'static [(&'static str, Mask)]),
}

use Mask::{All, Fields};

/// The mask of a group of kinds.
pub trait Shape: Clone + Send + Sync + 'static {
    /// What is kept of an object.
    const MASK: Mask;
}

/// Namespaces, ServiceAccounts, Services, EndpointSlices and Pods.
#[derive(Clone, Copy, Debug)]
pub enum Builtin {}

/// Kinds of the user's API: metadata and the whole spec.
#[derive(Clone, Copy, Debug)]
pub enum Custom {}

/// CustomResourceDefinitions: names and versions, never a schema.
#[derive(Clone, Copy, Debug)]
pub enum Definition {}

/// Nodes: their labels, of which two matter.
#[derive(Clone, Copy, Debug)]
pub enum Machine {}

const NAMED: Mask = Fields(&[("name", All), ("namespace", All), ("uid", All), ("resourceVersion", All)]);

const HTTP_GET: (&str, Mask) = ("httpGet", Fields(&[("host", All), ("path", All), ("port", All), ("scheme", All)]));

const PROBE: Mask = Fields(&[HTTP_GET, ("tcpSocket", Fields(&[("port", All)])), ("grpc", Fields(&[("port", All)]))]);

const CONTAINERS: Mask = Fields(&[
    ("name", All),
    ("restartPolicy", All),
    ("ports", Fields(&[("name", All), ("containerPort", All), ("protocol", All)])),
    ("livenessProbe", PROBE),
    ("readinessProbe", PROBE),
    ("startupProbe", PROBE),
    ("lifecycle", Fields(&[("postStart", Fields(&[HTTP_GET])), ("preStop", Fields(&[HTTP_GET]))])),
]);

impl Shape for Builtin {
    const MASK: Mask = Fields(&[
        (
            "metadata",
            Fields(&[
                ("name", All),
                ("namespace", All),
                ("uid", All),
                ("resourceVersion", All),
                ("generation", All),
                ("creationTimestamp", All),
                ("deletionTimestamp", All),
                ("labels", All),
                ("annotations", Fields(&[("causeway.dev/exclude-inbound-ports", All)])),
                ("ownerReferences", Fields(&[("kind", All), ("name", All), ("controller", All)])),
            ]),
        ),
        (
            "spec",
            Fields(&[
                // Service
                ("type", All),
                ("clusterIP", All),
                ("clusterIPs", All),
                ("externalName", All),
                ("selector", All),
                ("ports", All),
                ("publishNotReadyAddresses", All),
                ("sessionAffinity", All),
                ("sessionAffinityConfig", All),
                // Pod
                ("serviceAccountName", All),
                ("serviceAccount", All),
                ("hostname", All),
                ("subdomain", All),
                ("hostNetwork", All),
                ("nodeName", All),
                ("readinessGates", All),
                ("containers", CONTAINERS),
                ("initContainers", CONTAINERS),
            ]),
        ),
        (
            "status",
            Fields(&[
                ("phase", All),
                ("podIP", All),
                ("podIPs", All),
                ("conditions", Fields(&[("type", All), ("status", All)])),
            ]),
        ),
        // EndpointSlice
        ("addressType", All),
        (
            "endpoints",
            Fields(&[
                ("addresses", All),
                ("conditions", All),
                ("hostname", All),
                ("zone", All),
                ("hints", Fields(&[("forZones", All)])),
                ("targetRef", Fields(&[("kind", All), ("name", All), ("namespace", All)])),
            ]),
        ),
        ("ports", All),
    ]);
}

impl Shape for Custom {
    const MASK: Mask = Fields(&[
        (
            "metadata",
            Fields(&[
                ("name", All),
                ("namespace", All),
                ("uid", All),
                ("resourceVersion", All),
                ("generation", All),
                ("creationTimestamp", All),
                ("labels", All),
            ]),
        ),
        ("spec", All),
    ]);
}

impl Shape for Machine {
    const MASK: Mask = Fields(&[(
        "metadata",
        Fields(&[
            ("name", All),
            ("uid", All),
            ("resourceVersion", All),
            ("labels", Fields(&[("topology.kubernetes.io/zone", All), ("topology.kubernetes.io/region", All)])),
        ]),
    )]);
}

impl Shape for Definition {
    const MASK: Mask = Fields(&[
        ("metadata", NAMED),
        ("spec", Fields(&[("group", All), ("versions", Fields(&[("name", All), ("served", All)]))])),
        ("status", Fields(&[("conditions", Fields(&[("type", All), ("status", All)]))])),
    ]);
}

/// One object, cut down.
#[derive(Clone, Debug, PartialEq)]
pub struct Object<S> {
    /// What is left of it. Items of lists have neither `apiVersion` nor `kind`.
    pub value: Value,
    shape: PhantomData<fn() -> S>,
}

impl<S> Object<S> {
    /// A text of its metadata, empty where there is none.
    pub fn metadata(&self, field: &str) -> &str {
        self.value.get("metadata").and_then(|m| m.get(field)).and_then(Value::as_str).unwrap_or_default()
    }

    /// Says what it is; items of lists do not say it themselves.
    pub fn of_kind(mut self, api_version: &str, kind: &str) -> Value {
        if let Value::Object(object) = &mut self.value {
            object.insert("apiVersion".to_owned(), api_version.into());
            object.insert("kind".to_owned(), kind.into());
        }
        self.value
    }
}

impl<'de, S: Shape> Deserialize<'de> for Object<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Pruned(&S::MASK).deserialize(deserializer)?;
        Ok(Self { value, shape: PhantomData })
    }
}

/// One page of a list, or all of it.
#[derive(Debug, Deserialize)]
#[serde(bound = "S: Shape")]
pub struct Page<S> {
    /// Where it ends and what it is a picture of.
    #[serde(default)]
    pub metadata: PageMeta,
    /// Absent or null means none.
    pub items: Option<Vec<Object<S>>>,
}

/// Metadata of a [`Page`].
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PageMeta {
    /// Asks for the next page; absent or empty on the last one.
    #[serde(rename = "continue")]
    pub next: Option<String>,
    /// Where a watch begins.
    pub resource_version: Option<String>,
}

struct Pruned<'m>(&'m Mask);

impl<'de> DeserializeSeed<'de> for Pruned<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Pruned<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(Pruned(self.0))? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = access.next_key::<Cow<'de, str>>()? {
            let kept = match self.0 {
                All => Some(&All),
                Fields(fields) => fields.iter().find(|(name, _)| *name == key).map(|(_, mask)| mask),
            };
            match kept {
                Some(mask) => {
                    let value = access.next_value_seed(Pruned(mask))?;
                    object.insert(key.into_owned(), value);
                }
                None => drop(access.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use serde_json::json;

    #[test]
    fn of_a_pod_only_what_is_used_is_kept() {
        let whole = json!({
            "metadata": {"name": "a", "namespace": "b", "uid": "u", "resourceVersion": "7", "labels": {"app": "x"},
                "annotations": {"big": "text"}, "managedFields": [{"manager": "m"}]},
            "spec": {"serviceAccountName": "s", "volumes": [{"name": "v"}], "containers": [{"name": "c", "image": "i",
                "env": [{"name": "SECRET", "value": "x"}], "ports": [{"containerPort": 80, "hostPort": 1}],
                "readinessProbe": {"periodSeconds": 1, "httpGet": {"path": "/", "port": "web", "scheme": "HTTP"}}}]},
            "status": {"podIP": "10.0.0.1", "hostIP": "192.0.2.1", "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "now"}], "containerStatuses": [{"name": "c"}]},
        });
        let object: Object<Builtin> = serde_json::from_str(&whole.to_string()).unwrap();
        assert_eq!((object.metadata("name"), object.metadata("resourceVersion")), ("a", "7"));
        assert_eq!(
            object.of_kind("v1", "Pod"),
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "a", "namespace": "b", "uid": "u", "resourceVersion": "7", "labels": {"app": "x"},
                    "annotations": {}},
                "spec": {"serviceAccountName": "s", "containers": [{"name": "c", "ports": [{"containerPort": 80}],
                    "readinessProbe": {"httpGet": {"path": "/", "port": "web", "scheme": "HTTP"}}}]},
                "status": {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
            })
        );
    }

    #[test]
    fn a_spec_of_the_users_api_is_kept_whole_and_status_is_not() {
        let whole = json!({"metadata": {"name": "a", "annotations": {"k": "v"}}, "status": {"acked": 3},
            "spec": {"http": [{"route": [{"weight": 0.5, "x": null, "deep": [[1], -2, true]}]}]}});
        let object: Object<Custom> = serde_json::from_str(&whole.to_string()).unwrap();
        assert_eq!(object.value, json!({"metadata": {"name": "a"}, "spec": whole["spec"].clone()}));
    }

    #[test]
    fn a_page_without_items_is_empty_and_one_with_strange_items_is_read() {
        let page: Page<Custom> = serde_json::from_str(r#"{"kind": "List", "metadata": {}, "items": null}"#).unwrap();
        assert!(page.items.is_none() && page.metadata.next.is_none());
        let strange = r#"{"metadata": {"continue": "x", "resourceVersion": "4", "remainingItemCount": 3},
            "items": [7, "a", {"metadata": "none", "spec": 3}, {"metadata": {"name": 5}}]}"#;
        let page: Page<Custom> = serde_json::from_str(strange).unwrap();
        assert_eq!(page.items.unwrap().len(), 4);
        assert_eq!(page.metadata.next.as_deref(), Some("x"));
    }
}
