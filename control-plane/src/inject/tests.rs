#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::*;

fn settings() -> Settings {
    Settings::new("causeway/proxy:1", "https://causeway-control-plane.causeway-system.svc:15010", "cluster.local")
}

fn injected(pod: &Value) -> Value {
    let mut after = pod.clone();
    apply(&mut after, patch(pod, &settings()).unwrap());
    after
}

fn is_ours(value: &Value) -> bool {
    name_of(value).is_some_and(|n| is_our_container(n) || VOLUMES.contains(&n))
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
        let (plain, tuned) = {
            let (mut pod, mut annotated) = (pod, annotated);
            apply(&mut pod, plain);
            apply(&mut annotated, tuned);
            (pod, annotated)
        };
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
    assert_eq!(redirect["resources"], proxy["resources"]);
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
        ("causeway.dev/proxy-memory-request", "0"),
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

#[test]
fn what_the_api_server_and_other_webhooks_do_to_ours_is_no_difference() {
    let mut pod = plain();
    pod["metadata"]["annotations"] = json!({"causeway.dev/proxy-cpu-request": "0.5"});
    let mut after = injected(&pod);
    for container in after["spec"]["initContainers"].as_array_mut().unwrap() {
        container["imagePullPolicy"] = json!("Always");
        container["resources"]["requests"]["cpu"] = json!("500m");
        container["resources"]["limits"] = json!({"memory": "1Gi"});
        container["lifecycle"] = json!({});
    }
    assert_eq!(patch(&after, &settings()).unwrap(), vec![]);
}

#[test]
fn what_others_add_to_ours_is_taken_out_and_what_they_may_decide_stays() {
    let mut pod = injected(&plain());
    let proxy = &mut pod["spec"]["initContainers"][1];
    proxy["env"].as_array_mut().unwrap().push(json!({"name": "CAUSEWAY_TRUST_DOMAIN", "value": "evil"}));
    proxy["resources"]["limits"] = json!({"memory": "1Gi"});
    let again = injected(&pod);
    let proxy = &again["spec"]["initContainers"][1];
    assert_eq!(proxy["env"], injected(&plain())["spec"]["initContainers"][1]["env"]);
    assert_eq!(proxy["resources"]["limits"], json!({"memory": "1Gi"}));
}

#[test]
fn containers_that_come_after_ours_from_another_webhook_stay_and_come_after() {
    let mut pod = injected(&plain());
    pod["spec"]["initContainers"].as_array_mut().unwrap().insert(0, json!({"name": "other", "image": "i"}));
    let again = injected(&pod);
    let names: Vec<_> = again["spec"]["initContainers"].as_array().unwrap().iter().filter_map(name_of).collect();
    assert_eq!(names, [REDIRECT, PROXY, "other"]);
}

#[test]
fn what_would_read_the_proxys_secrets_or_take_its_names_and_ports_is_refused_with_the_field() {
    let with = |pointer: &str, value: Value| {
        let mut pod = plain();
        pod["spec"]["containers"][0][pointer] = value;
        patch(&pod, &settings()).unwrap_err()
    };
    for (name, value, field) in [
        ("volumeMounts", json!([{"name": "causeway-token"}]), "spec.containers[0].volumeMounts[0].name"),
        ("volumeMounts", json!([{"name": "a"}, {"name": "causeway-state"}]), "spec.containers[0].volumeMounts[1].name"),
        ("volumeDevices", json!([{"name": "causeway-state"}]), "spec.containers[0].volumeDevices[0].name"),
        ("name", json!("causeway-proxy"), "spec.containers[0].name"),
        ("ports", json!([{"containerPort": 15006}]), "spec.containers[0].ports[0].containerPort"),
    ] {
        let refused = with(name, value);
        assert_eq!(refused.field(), field);
        assert!(refused.to_string().starts_with(field), "{refused}");
    }
    let mut later = plain();
    later["spec"]["ephemeralContainers"] = json!([{"name": "debug", "securityContext": {"runAsUser": 2102}}]);
    let field = patch(&later, &settings()).unwrap_err().field();
    assert_eq!(field, "spec.ephemeralContainers[0].securityContext.runAsUser");
    let mut windows = plain();
    windows["spec"]["os"] = json!({"name": "windows"});
    assert_eq!(patch(&windows, &settings()).unwrap_err().field(), "spec.os.name");
}

#[test]
fn the_drain_fits_into_the_grace_period() {
    let drain = |grace: Option<u32>, asked: Option<&str>| {
        let mut pod = plain();
        if let Some(grace) = grace {
            pod["spec"]["terminationGracePeriodSeconds"] = json!(grace);
        }
        if let Some(asked) = asked {
            pod["metadata"]["annotations"] = json!({"causeway.dev/drain-seconds": asked});
        }
        patch(&pod, &settings()).map(|operations| {
            let mut pod = pod;
            apply(&mut pod, operations);
            let args = pod["spec"]["initContainers"][1]["args"].as_array().unwrap().clone();
            args.iter().find_map(|a| a.as_str()?.strip_prefix("--drain-deadline=").map(str::to_owned)).unwrap()
        })
    };
    assert_eq!(drain(None, None).unwrap(), "25s");
    assert_eq!(drain(Some(120), None).unwrap(), "30s");
    assert_eq!(drain(Some(3), None).unwrap(), "0s");
    assert_eq!(drain(Some(120), Some("100")).unwrap(), "100s");
    let refused = drain(Some(30), Some("28")).unwrap_err();
    assert!(refused.to_string().contains("terminationGracePeriodSeconds (30)"), "{refused}");
}

#[test]
fn a_limit_below_the_usual_request_lowers_it_and_one_below_an_asked_request_is_refused() {
    let resources = |annotations: Value, spec: Value| {
        let mut pod = plain();
        pod["metadata"]["annotations"] = annotations;
        if !spec.is_null() {
            pod["spec"]["resources"] = spec;
        }
        patch(&pod, &settings()).map(|operations| {
            let mut pod = pod;
            apply(&mut pod, operations);
            pod["spec"]["initContainers"][1]["resources"].clone()
        })
    };
    let low = resources(json!({"causeway.dev/proxy-memory-limit": "16Mi"}), Value::Null).unwrap();
    assert_eq!(low["requests"]["memory"], "16Mi");
    let both = json!({"causeway.dev/proxy-cpu-limit": "100m", "causeway.dev/proxy-cpu-request": "1"});
    let refused = resources(both, Value::Null).unwrap_err();
    assert!(refused.to_string().starts_with("metadata.annotations[causeway.dev/proxy-cpu-request]"), "{refused}");
    // A Pod with resources as a whole: nothing on top of them.
    assert_eq!(resources(json!({}), json!({"limits": {"memory": "1Gi"}})).unwrap(), json!({}));
}

#[test]
fn neither_of_ours_gets_the_applications_api_token() {
    for container in injected(&plain())["spec"]["initContainers"].as_array().unwrap() {
        let mounts = container["volumeMounts"].as_array().unwrap();
        let masked = mounts.iter().find(|m| m["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount");
        assert_eq!(masked.unwrap()["name"], TRUST_VOLUME);
    }
}

#[test]
fn files_for_tls_that_the_proxy_begins_come_from_a_secret_that_the_pod_names() {
    let with = |value: Value| {
        let mut pod = plain();
        pod["metadata"]["annotations"] = json!({"causeway.dev/proxy-tls-secret": value});
        pod
    };
    let pod = injected(&with(json!("payments.tls")));
    let volume = pod["spec"]["volumes"].as_array().unwrap().last().cloned();
    let secret = json!({"name": TLS_VOLUME, "secret": {"secretName": "payments.tls", "defaultMode": 420}});
    assert_eq!(volume, Some(secret));
    let mounted = |container: &Value| container["volumeMounts"].to_string().contains("/var/run/causeway/tls");
    assert!(mounted(&pod["spec"]["initContainers"][1]) && !mounted(&pod["spec"]["initContainers"][0]));
    assert_eq!(patch(&pod, &settings()), Ok(vec![]), "again");
    assert!(!injected(&plain()).to_string().contains(TLS_VOLUME));
    for wrong in [json!(""), json!("a,b"), json!("../a"), json!("A"), json!("-a"), json!("a..b"), json!(1)] {
        let refused = patch(&with(wrong.clone()), &settings()).unwrap_err();
        assert_eq!(refused.field(), "metadata.annotations[causeway.dev/proxy-tls-secret]", "{wrong}");
    }
    let mut taken = with(json!("a"));
    taken["spec"]["containers"][0]["volumeMounts"] = json!([{"name": TLS_VOLUME}]);
    assert_eq!(patch(&taken, &settings()).unwrap_err().field(), "spec.containers[0].volumeMounts[0].name");
}

#[test]
fn the_picture_of_a_static_pod_is_left_alone() {
    let mut pod = plain();
    pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    assert_eq!(patch(&pod, &settings()), Ok(vec![]));
}

#[test]
fn what_is_probably_not_meant_is_warned_about() {
    let mut pod = plain();
    pod["spec"]["containers"][0]["securityContext"] =
        json!({"privileged": true, "capabilities": {"add": ["NET_ADMIN"]}});
    pod["spec"]["containers"][0]["livenessProbe"] = json!({"httpGet": {"scheme": "HTTPS", "port": "web"}});
    let token = json!({"serviceAccountToken": {"audience": "causeway", "path": "t"}});
    pod["spec"]["volumes"] = json!([{"name": "mine", "projected": {"sources": [token]}}]);
    let found = warnings(&pod);
    for part in ["privileged", "NET_ADMIN", "port web", "spec.volumes[0]"] {
        assert!(found.iter().any(|w| w.contains(part)), "{part}: {found:?}");
    }
    assert!(warnings(&injected(&plain())).is_empty());
}

#[test]
fn whatever_makes_pods_is_injected_at_its_template() {
    let template = json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "a"}]}});
    for (api, kind, pointer) in [
        ("apps/v1", "Deployment", "/spec/template"),
        ("batch/v1", "CronJob", "/spec/jobTemplate/spec/template"),
        ("v1", "Pod", ""),
    ] {
        let mut object = match pointer {
            "" => template.clone(),
            "/spec/template" => json!({"spec": {"template": template}}),
            _ => json!({"spec": {"jobTemplate": {"spec": {"template": template}}}}),
        };
        object["apiVersion"] = json!(api);
        object["kind"] = json!(kind);
        let place = place(&object).unwrap();
        assert_eq!(place.pointer, pointer);
        assert_eq!(inject_object(&mut object, place, &settings()), Ok(true), "{kind}");
        assert_eq!(object.pointer(pointer).unwrap()["spec"]["initContainers"][1]["name"], PROXY);
        assert_eq!(inject_object(&mut object, place, &settings()), Ok(false), "{kind} again");
    }
    assert_eq!(place(&json!({"apiVersion": "v1", "kind": "Service", "spec": {}})), None);
}
