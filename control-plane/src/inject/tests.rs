#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::*;

fn settings() -> Settings {
    Settings {
        image: "causeway/proxy:1".into(),
        control_plane: "https://causeway-control-plane.causeway-system.svc:15010".into(),
        trust_domain: "cluster.local".into(),
        trust_bundle_config_map: "causeway-trust-bundle".into(),
        proxy_uid: 2102,
        token_seconds: 3600,
    }
}

/// Applies `add` as RFC 6902 has it for members of objects, which is all that `patch` uses.
fn apply(mut pod: Value, operations: &[Operation]) -> Value {
    for operation in operations {
        let (parent, name) = operation.path.rsplit_once('/').unwrap();
        let parent = if parent.is_empty() { &mut pod } else { pod.pointer_mut(parent).unwrap() };
        parent.as_object_mut().unwrap().insert(name.to_owned(), operation.value.clone());
    }
    pod
}

fn injected(pod: &Value) -> Value {
    apply(pod.clone(), &patch(pod, &settings()).unwrap())
}

fn container() -> impl Strategy<Value = Value> {
    ("[a-z]{1,8}", any::<bool>(), proptest::option::of(0u32..2000)).prop_map(|(name, always, uid)| {
        let mut value = json!({"name": format!("user-{name}"), "image": "i"});
        if always {
            value["restartPolicy"] = json!("Always");
        }
        if let Some(uid) = uid {
            value["securityContext"] = json!({"runAsUser": uid});
        }
        value
    })
}

fn pod() -> impl Strategy<Value = Value> {
    let list = || proptest::option::of(proptest::collection::vec(container(), 0..4));
    let labels = proptest::option::of(proptest::collection::btree_map("[a-z]{1,6}", "[a-z]{0,6}", 0..3));
    (proptest::collection::vec(container(), 1..4), list(), list(), labels).prop_map(
        |(containers, init, volumes, labels)| {
            let mut pod =
                json!({"metadata": {"name": "p"}, "spec": {"containers": containers, "serviceAccountName": "web"}});
            for (name, value) in [("initContainers", init), ("volumes", volumes)] {
                if let Some(value) = value {
                    pod["spec"][name] = json!(value);
                }
            }
            if let Some(labels) = labels {
                pod["metadata"]["labels"] = json!(labels);
            }
            pod
        },
    )
}

fn users(pod: &Value, list: &str) -> Vec<Value> {
    let all = pod["spec"][list].as_array().cloned().unwrap_or_default();
    all.into_iter().filter(|v| !is_ours(v)).collect()
}

proptest! {
    #[test]
    fn patching_twice_is_patching_once(pod in pod()) {
        let once = injected(&pod);
        prop_assert_eq!(patch(&once, &settings()).unwrap(), vec![]);
    }

    #[test]
    fn what_the_user_wrote_stays_in_its_order(pod in pod()) {
        let after = injected(&pod);
        for list in ["containers", "initContainers", "volumes"] {
            prop_assert_eq!(users(&after, list), users(&pod, list), "{}", list);
        }
        prop_assert_eq!(&after["spec"]["containers"], &pod["spec"]["containers"]);
        prop_assert_eq!(&after["spec"]["serviceAccountName"], "web");
    }

    #[test]
    fn the_redirect_and_the_proxy_come_before_every_other_init_container(pod in pod()) {
        let after = injected(&pod);
        let names: Vec<_> = after["spec"]["initContainers"].as_array().unwrap().iter().filter_map(name_of).collect();
        prop_assert_eq!(&names[..2], [REDIRECT, PROXY]);
        prop_assert_eq!(&after["spec"]["initContainers"][1]["restartPolicy"], "Always");
        prop_assert_eq!(&after["metadata"]["labels"][INJECTED_LABEL], "true");
    }

    #[test]
    fn no_annotation_changes_privileges_image_or_identity(
        pod in pod(),
        annotations in proptest::collection::btree_map("causeway\\.dev/[a-z-]{1,24}", "[ -~]{0,12}", 0..6),
    ) {
        let mut annotated = pod.clone();
        annotated["metadata"]["annotations"] = json!(annotations);
        let (Ok(plain), Ok(tuned)) = (patch(&pod, &settings()), patch(&annotated, &settings())) else { return Ok(()) };
        let (plain, tuned) = (apply(pod, &plain), apply(annotated, &tuned));
        for index in 0..2 {
            for field in ["securityContext", "image", "env", "volumeMounts", "restartPolicy"] {
                let at = |pod: &Value| pod["spec"]["initContainers"][index].get(field).cloned();
                prop_assert_eq!(at(&plain), at(&tuned), "{}", field);
            }
        }
        prop_assert_eq!(&plain["spec"]["volumes"], &tuned["spec"]["volumes"]);
        prop_assert_eq!(&plain["spec"]["serviceAccountName"], &tuned["spec"]["serviceAccountName"]);
    }
}

fn plain() -> Value {
    json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}]}})
}

#[test]
fn only_the_redirect_has_a_capability_and_only_that_one() {
    let after = injected(&plain());
    let of = |index: usize| after["spec"]["initContainers"][index]["securityContext"]["capabilities"].clone();
    assert_eq!(of(0), json!({"drop": ["ALL"], "add": ["NET_ADMIN"]}));
    assert_eq!(of(1), json!({"drop": ["ALL"]}));
}

#[test]
fn a_forged_proxy_container_or_volume_is_replaced() {
    let mut pod = plain();
    pod["spec"]["initContainers"] = json!([{"name": PROXY, "image": "evil", "securityContext": {"privileged": true}}]);
    pod["spec"]["volumes"] = json!([{"name": TOKEN_VOLUME, "hostPath": {"path": "/"}}]);
    assert_eq!(injected(&pod)["spec"]["initContainers"], injected(&plain())["spec"]["initContainers"]);
    assert_eq!(injected(&pod)["spec"]["volumes"], injected(&plain())["spec"]["volumes"]);
}

#[test]
fn a_pod_that_would_bypass_the_proxy_is_refused() {
    let mut by_container = plain();
    by_container["spec"]["containers"][0]["securityContext"] = json!({"runAsUser": 2102});
    let error = patch(&by_container, &settings()).unwrap_err();
    assert!(error.to_string().starts_with("spec.containers[0].securityContext.runAsUser"), "{error}");
    let mut by_pod = plain();
    by_pod["spec"]["securityContext"] = json!({"runAsUser": 2102});
    assert!(matches!(patch(&by_pod, &settings()), Err(Refused::ProxyUid { .. })));
    let mut host = plain();
    host["spec"]["hostNetwork"] = json!(true);
    assert_eq!(patch(&host, &settings()), Err(Refused::HostNetwork));
}

#[test]
fn annotations_tune_what_they_may() {
    let mut pod = plain();
    pod["metadata"]["annotations"] = json!({
        "causeway.dev/proxy-cpu-request": "250m", "causeway.dev/proxy-memory-limit": "128Mi",
        "causeway.dev/drain-seconds": "5", "causeway.dev/exclude-outbound-ports": "9090, 22,22",
    });
    let after = injected(&pod);
    let [redirect, proxy] = [0, 1].map(|i| after["spec"]["initContainers"][i].clone());
    assert_eq!(
        proxy["resources"],
        json!({"requests": {"cpu": "250m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}})
    );
    assert!(proxy["args"].as_array().unwrap().contains(&json!("--drain-deadline=5s")));
    assert!(redirect["args"].as_array().unwrap().contains(&json!("--exclude-outbound-ports=22,9090")));
}

#[test]
fn an_annotation_that_cannot_be_read_is_refused_by_name() {
    for (name, value) in [
        ("causeway.dev/drain-seconds", "soon"),
        ("causeway.dev/drain-seconds", "999999"),
        ("causeway.dev/exclude-inbound-ports", "80;443"),
        ("causeway.dev/exclude-inbound-ports", "0"),
        ("causeway.dev/proxy-cpu-limit", "-1"),
        ("causeway.dev/proxy-memory-request", "1e9Mi"),
    ] {
        let mut pod = plain();
        pod["metadata"]["annotations"] = json!({ name: value });
        let error = patch(&pod, &settings()).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn a_pod_that_wants_to_be_left_alone_is() {
    let mut pod = plain();
    pod["metadata"]["labels"] = json!({ INJECT_LABEL: "false" });
    assert_eq!(patch(&pod, &settings()), Ok(vec![]));
}

#[test]
fn what_is_no_pod_is_refused_with_the_field() {
    for (pod, field) in [
        (json!({}), "spec"),
        (json!({"spec": []}), "spec"),
        (json!({"spec": {"initContainers": {}}}), "spec.initContainers"),
        (json!({"metadata": {"labels": "a"}, "spec": {}}), "metadata.labels"),
    ] {
        let error = patch(&pod, &settings()).unwrap_err().to_string();
        assert!(error.starts_with(field), "{error}");
    }
}
