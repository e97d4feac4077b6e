#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use k8s_openapi::api::authentication::v1::UserInfo;

use super::*;

fn review(username: &str, extra: &[(&str, &[&str])], audiences: &[&str]) -> TokenReviewStatus {
    let extra: BTreeMap<_, _> = extra
        .iter()
        .map(|(key, values)| {
            (format!("authentication.kubernetes.io/{key}"), values.iter().map(|v| (*v).to_owned()).collect())
        })
        .collect();
    TokenReviewStatus {
        authenticated: Some(true),
        audiences: Some(audiences.iter().map(|a| (*a).to_owned()).collect()),
        user: Some(UserInfo { username: Some(username.to_owned()), extra: Some(extra), ..UserInfo::default() }),
        error: None,
    }
}

const BOUND: &[(&str, &[&str])] = &[("pod-name", &["web-1"]), ("pod-uid", &["u1"])];
const WEB: &str = "system:serviceaccount:dev:web";

fn because(status: &TokenReviewStatus) -> &'static str {
    match proven(status) {
        Err(Refusal::Because(error)) => error.code(),
        Err(Refusal::Unauthenticated) => "unauthenticated",
        Ok(_) => "proven",
    }
}

fn web() -> Proven {
    proven(&review(WEB, BOUND, &["causeway"])).unwrap()
}

#[test]
fn a_bound_token_proves_namespace_account_and_pod() {
    let expected = Proven {
        namespace: "dev".to_owned(),
        account: "web".to_owned(),
        pod: Some("web-1".to_owned()),
        pod_uid: Some("u1".to_owned()),
    };
    assert_eq!(web(), expected);
}

#[test]
fn an_answer_without_our_audience_proves_nothing() {
    assert_eq!(because(&review(WEB, BOUND, &["https://kubernetes.default.svc"])), "token_audience");
    assert_eq!(because(&review(WEB, BOUND, &[])), "token_audience");
    let mut none = review(WEB, BOUND, &["causeway"]);
    none.audiences = None;
    assert_eq!(because(&none), "token_audience");
}

#[test]
fn only_an_authenticated_answer_counts() {
    for authenticated in [None, Some(false)] {
        let status = TokenReviewStatus { authenticated, ..review(WEB, BOUND, &["causeway"]) };
        assert_eq!(because(&status), "unauthenticated");
    }
    assert_eq!(because(&TokenReviewStatus::default()), "unauthenticated");
}

#[test]
fn only_the_exact_name_of_a_service_account_counts() {
    for name in [
        "",
        "system:admin",
        "system:serviceaccount:dev",
        "system:serviceaccount::web",
        "system:serviceaccount:dev:",
        "system:serviceaccount:dev:web:x",
        "system:serviceaccount:Dev:web",
        "system:serviceaccount:dev/prod:web",
        "x-system:serviceaccount:dev:web",
        " system:serviceaccount:dev:web",
    ] {
        assert_eq!(because(&review(name, BOUND, &["causeway"])), "token_subject", "{name}");
    }
}

#[test]
fn a_token_that_is_not_bound_to_exactly_one_pod_is_refused() {
    let cases: [&[(&str, &[&str])]; 6] = [
        &[],
        &[("pod-name", &["web-1"])],
        &[("pod-uid", &["u1"])],
        &[("pod-name", &["web-1", "web-2"]), ("pod-uid", &["u1"])],
        &[("pod-name", &["web-1"]), ("pod-uid", &[""])],
        &[("pod-name", &["../x"]), ("pod-uid", &["u1"])],
    ];
    for extra in cases {
        assert_eq!(because(&review(WEB, extra, &["causeway"])), "token_unbound", "{extra:?}");
    }
}

fn pod(change: impl FnOnce(&mut serde_json::Value)) -> Pod {
    let mut value = serde_json::json!({
        "metadata": { "name": "web-1", "uid": "u1", "labels": { "causeway.dev/injected": "true" } },
        "spec": { "serviceAccountName": "web", "containers": [] },
        "status": { "phase": "Pending" },
    });
    change(&mut value);
    serde_json::from_value(value).unwrap()
}

fn refusal(change: impl FnOnce(&mut serde_json::Value)) -> &'static str {
    fits(&web(), Some(&pod(change))).map_or_else(|e| e.code(), |()| "fits")
}

#[test]
fn the_pod_must_be_the_one_that_the_token_is_bound_to() {
    assert_eq!(refusal(|_| {}), "fits");
    assert_eq!(fits(&web(), None).unwrap_err().code(), "token_pod_unknown");
    assert_eq!(refusal(|p| p["metadata"]["uid"] = "u2".into()), "token_pod_unknown");
    assert_eq!(refusal(|p| p["metadata"]["uid"] = serde_json::Value::Null), "token_pod_unknown");
    assert_eq!(refusal(|p| p["spec"]["serviceAccountName"] = "other".into()), "token_account_mismatch");
    assert_eq!(refusal(|p| p["spec"]["serviceAccountName"] = "".into()), "token_account_mismatch");
}

#[test]
fn a_pod_that_has_ended_or_is_being_deleted_gets_nothing() {
    assert_eq!(refusal(|p| p["status"]["phase"] = "Succeeded".into()), "token_pod_finished");
    assert_eq!(refusal(|p| p["status"]["phase"] = "Failed".into()), "token_pod_finished");
    let deleted = refusal(|p| p["metadata"]["deletionTimestamp"] = "2026-11-21T10:00:00Z".into());
    assert_eq!(deleted, "token_pod_finished");
}

#[test]
fn a_pod_that_is_not_in_the_mesh_gets_nothing() {
    assert_eq!(refusal(|p| p["metadata"]["labels"] = serde_json::Value::Null), "pod_not_meshed");
    assert_eq!(refusal(|p| p["metadata"]["labels"]["causeway.dev/injected"] = "yes".into()), "pod_not_meshed");
    assert_eq!(refusal(|p| p["spec"]["hostNetwork"] = true.into()), "pod_not_meshed");
}

#[test]
fn a_hint_never_makes_a_token_good_and_names_the_likeliest_cause() {
    use base64::Engine as _;
    let token = |claims: &str| format!("e30.{}.x", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims));
    let why = |claims: &str| hint::why(&token(claims), 1000).code();
    assert_eq!(hint::why("x", 1000).code(), "token_malformed");
    assert_eq!(hint::why("a.b.c.d", 1000).code(), "token_malformed");
    assert_eq!(why("no json"), "token_malformed");
    assert_eq!(why(r#"{"exp": 900, "aud": ["x"]}"#), "token_expired");
    assert_eq!(why(r#"{"exp": 1100, "nbf": 1050}"#), "token_not_yet_valid");
    assert_eq!(why(r#"{"exp": 1100, "aud": "other"}"#), "token_audience");
    assert_eq!(why(r#"{"exp": 1100, "aud": ["causeway"]}"#), "token_refused");
    assert_eq!(why(r#"{"exp": -9223372036854775808}"#), "token_expired");
}
