//! Pods: injected, left alone, refused.

use serde_json::{Value, json};

use crate::rig::{Rig, pod};

/// After the API server's defaults, a LimitRange's and a second pass there is nothing left to patch: what was stored
/// and is created again comes out equal.
pub fn are_injected_once_and_for_all(rig: &Rig) {
    let limits = json!({
        "apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "limits", "namespace": "dev"},
        "spec": {"limits": [{
            "type": "Container", "default": {"memory": "256Mi", "cpu": "500m"}, "defaultRequest": {"memory": "64Mi"},
        }]},
    });
    rig.apply(&limits.to_string()).unwrap();
    let spec = json!({
        "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "fsGroup": 2000},
        "initContainers": [{"name": "mine", "image": "a:1"}],
    });
    rig.apply(&pod("dev", "web", &json!({"app": "web"}), &spec)).unwrap();
    let mut stored = rig.get(&["-n", "dev", "pod", "web"]).unwrap();
    assert!(rig.is_injected("dev", "web"));
    let init = stored["spec"]["initContainers"].clone();
    assert_eq!(init[2]["name"], "mine");
    assert_eq!(init[1]["restartPolicy"], "Always");
    assert_eq!(init[0]["resources"]["limits"]["memory"], "256Mi");
    assert_eq!(init[0]["securityContext"]["capabilities"], json!({"drop": ["ALL"], "add": ["NET_ADMIN"]}));
    for container in init.as_array().unwrap().iter().take(2) {
        let mounts = container["volumeMounts"].as_array().unwrap();
        assert!(mounts.iter().all(|m| m["name"].as_str().unwrap().starts_with("causeway-")), "{container}");
    }

    // As somebody who exports a pod and creates it again.
    let metadata = stored["metadata"].as_object_mut().unwrap();
    metadata.retain(|key, _| matches!(key.as_str(), "labels" | "annotations" | "namespace"));
    metadata.insert("generateName".to_owned(), json!("web-"));
    let created = rig.kubectl_with_input(&["create", "-o", "json", "-f", "-"], &stored.to_string()).unwrap();
    let created: Value = serde_json::from_str(&created).unwrap();
    assert_eq!(created["spec"]["initContainers"], init);
    assert_eq!(created["spec"]["volumes"], stored["spec"]["volumes"]);
}

pub fn opt_in_and_out_by_label(rig: &Rig) {
    for (namespace, name, label, injected) in [
        ("dev", "in", None, true),
        ("dev", "out", Some("false"), false),
        ("plain", "not", None, false),
        ("plain", "in", Some("true"), true),
        ("kube-system", "never", Some("true"), false),
        ("causeway-system", "never", Some("true"), false),
    ] {
        let labels = label.map_or(json!({}), |l| json!({"causeway.dev/inject": l}));
        rig.apply(&pod(namespace, name, &labels, &json!({"automountServiceAccountToken": false}))).unwrap();
        assert_eq!(rig.is_injected(namespace, name), injected, "{namespace}/{name}");
    }
}

pub fn that_cannot_be_injected_are_refused_by_field(rig: &Rig) {
    let container = |more: Value| {
        let mut container = json!({"name": "a", "image": "a:1"});
        for (key, value) in more.as_object().unwrap() {
            container[key] = value.clone();
        }
        json!({"containers": [container]})
    };
    for (spec, field) in [
        (json!({"hostNetwork": true}), "spec.hostNetwork"),
        (json!({"os": {"name": "windows"}}), "spec.os.name"),
        (json!({"securityContext": {"runAsUser": 2102}}), "spec.securityContext.runAsUser"),
        (container(json!({"securityContext": {"runAsUser": 2102}})), "spec.containers[0].securityContext.runAsUser"),
        (container(json!({"ports": [{"containerPort": 15001}]})), "spec.containers[0].ports[0].containerPort"),
        (
            container(json!({"volumeMounts": [{"name": "causeway-token", "mountPath": "/t"}]})),
            "spec.containers[0].volumeMounts[0].name",
        ),
    ] {
        let mut spec = spec;
        if field.contains("volumeMounts") {
            spec["volumes"] = json!([{"name": "causeway-token", "emptyDir": {}}]);
        }
        let refused = rig.apply(&pod("dev", "refused", &json!({}), &spec)).unwrap_err();
        assert!(refused.contains(field), "{field}: {refused}");
    }
}

/// By the policy that the API server judges itself.
pub fn cannot_look_meshed_or_get_at_the_proxy_later(rig: &Rig) {
    let claim = json!({"causeway.dev/injected": "true"});
    let refused = rig.apply(&pod("plain", "claims", &claim, &json!({}))).unwrap_err();
    assert!(refused.contains("must not say so"), "{refused}");
    let label = |namespace: &str, name: &str, label: &str| {
        rig.kubectl(&["-n", namespace, "label", "--overwrite", "pod", name, label])
    };
    assert!(label("plain", "not", "causeway.dev/injected=true").unwrap_err().contains("set at creation"));
    assert!(label("dev", "web", "causeway.dev/injected-").unwrap_err().contains("set at creation"));
    label("dev", "web", "team=a").unwrap();

    let web = rig.get(&["-n", "dev", "pod", "web"]).unwrap();
    let attach = |debug: Value| {
        let mut web = web.clone();
        web["metadata"].as_object_mut().unwrap().remove("resourceVersion");
        web["spec"]["ephemeralContainers"] = json!([debug]);
        let path = "/api/v1/namespaces/dev/pods/web/ephemeralcontainers";
        rig.kubectl_with_input(&["replace", "--raw", path, "-f", "-"], &web.to_string())
    };
    let as_proxy = json!({"name": "debug", "image": "a:1", "securityContext": {"runAsUser": 2102}});
    assert!(attach(as_proxy).unwrap_err().contains("uid 2102"));
    let reading = json!({
        "name": "debug", "image": "a:1", "volumeMounts": [{"name": "causeway-state", "mountPath": "/s"}],
    });
    assert!(attach(reading).unwrap_err().contains("token and key"));
    attach(json!({"name": "debug", "image": "a:1"})).unwrap();
}
