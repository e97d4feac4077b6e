//! Admission against a real API server: injection, the back-stop policy, validation, certificate and `caBundle`, and
//! what strangers send to the listener. The control plane is a real process with the rights that the manifest gives it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test")]

#[path = "kube_admission/listener.rs"]
mod listener;
#[path = "kube_admission/pods.rs"]
mod pods;
#[path = "kube_admission/resources.rs"]
mod resources;
#[path = "kube_admission/rig.rs"]
mod rig;

use std::time::Duration;

use causeway_tests::capability::{Need, has};
use causeway_tests::until;
use rig::Rig;
use serde_json::json;

/// One cluster for what does not take its control plane away.
#[test]
fn admission() {
    if !has(&[Need::Kubernetes, Need::Program("curl")]) {
        return;
    }
    let mut rig = Rig::start();
    pods::are_injected_once_and_for_all(&rig);
    pods::opt_in_and_out_by_label(&rig);
    pods::that_cannot_be_injected_are_refused_by_field(&rig);
    pods::cannot_look_meshed_or_get_at_the_proxy_later(&rig);
    resources::are_refused_by_the_schema_with_a_message(&rig);
    resources::are_refused_by_the_webhook_with_every_field(&rig);
    resources::of_the_documents_are_accepted_as_written(&rig);
    listener::answers_reviews_only_and_outlives_garbage(&rig);
    the_bundle_is_put_back(&rig);
    the_bundle_holds_every_root_that_is_trusted(&rig);
    the_certificate_renews_itself(&rig);
    // Last: it takes the control plane away.
    nothing_but_what_asked_for_injection_waits_while_the_webhook_is_away(&mut rig);
}

fn the_bundle_is_put_back(rig: &Rig) {
    let right = rig.bundle("mutatingwebhookconfiguration", "causeway-injector");
    let path = "/webhooks/1/clientConfig/caBundle";
    let patch = json!([{"op": "replace", "path": path, "value": rig.foreign_bundle()}]).to_string();
    rig.kubectl(&["patch", "mutatingwebhookconfiguration", "causeway-injector", "--type=json", "-p", &patch]).unwrap();
    until("the leader puts the bundle back", Duration::from_secs(60), || {
        if rig.bundle("mutatingwebhookconfiguration", "causeway-injector") == right {
            Ok(())
        } else {
            Err("not yet".to_owned())
        }
    });
    assert_eq!(rig.bundle("validatingwebhookconfiguration", "causeway-validator"), right);
}

/// Through a rotation two roots are trusted, and replicas may show certificates of either.
fn the_bundle_holds_every_root_that_is_trusted(rig: &Rig) {
    let extra = json!({"data": {"extra-roots.pem": rig.foreign_bundle()}}).to_string();
    rig.kubectl(&["-n", "causeway-system", "patch", "secret", "causeway-ca", "--type=merge", "-p", &extra]).unwrap();
    until("both roots are in the bundle", Duration::from_secs(90), || {
        let roots = std::fs::read_to_string(rig.roots()).unwrap();
        match roots.matches("BEGIN CERTIFICATE").count() {
            2 => Ok(()),
            count => Err(format!("{count} roots")),
        }
    });
    rig.kubectl_with_input(&["create", "-f", "-"], &rig::pod("dev", "rotating", &json!({}), &json!({}))).unwrap();
    let none = r#"[{"op":"remove","path":"/data/extra-roots.pem"}]"#;
    rig.kubectl(&["-n", "causeway-system", "patch", "secret", "causeway-ca", "--type=json", "-p", none]).unwrap();
    until("the announced root is gone from the bundle", Duration::from_secs(90), || {
        let roots = std::fs::read_to_string(rig.roots()).unwrap();
        if roots.matches("BEGIN CERTIFICATE").count() == 1 { Ok(()) } else { Err("still two".to_owned()) }
    });
}

fn the_certificate_renews_itself(rig: &Rig) {
    let first = rig.certificate_expiry();
    until("the first certificate is over", Duration::from_secs(120), || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        if now > first + 1.0 { Ok(()) } else { Err("still valid".to_owned()) }
    });
    assert!(rig.certificate_expiry() > first);
    rig.kubectl_with_input(&["create", "-f", "-"], &rig::pod("dev", "renewed", &json!({}), &json!({}))).unwrap();
    assert!(rig.is_injected("dev", "renewed"));
}

fn nothing_but_what_asked_for_injection_waits_while_the_webhook_is_away(rig: &mut Rig) {
    rig.kubectl_with_input(&["apply", "-f", "-"], resources::ROUTE).unwrap();
    rig.stop_control_plane();
    let create = |namespace: &str, name: &str, labels: serde_json::Value| {
        rig.kubectl_with_input(&["create", "-f", "-"], &rig::pod(namespace, name, &labels, &json!({})))
    };
    let refused = create("dev", "away", json!({})).unwrap_err();
    assert!(refused.contains("namespace.inject.causeway.dev"), "{refused}");
    create("dev", "away-out", json!({"causeway.dev/inject": "false"})).unwrap();
    create("plain", "away", json!({})).unwrap();
    create("kube-system", "away", json!({})).unwrap();
    create("causeway-system", "away", json!({})).unwrap();
    // Our resources wait, but never their finalizers and labels: a namespace can always be emptied.
    rig.kubectl(&["-n", "dev", "label", "virtualservices.causeway.dev", "r", "team=a"]).unwrap();
    let patch = r#"{"spec":{"hosts":["other"]}}"#;
    let edited = rig.kubectl(&["-n", "dev", "patch", "virtualservices.causeway.dev", "r", "--type=merge", "-p", patch]);
    assert!(edited.unwrap_err().contains("validate.causeway.dev"));
    rig.kubectl(&["-n", "dev", "delete", "virtualservices.causeway.dev", "r"]).unwrap();
    // Somebody who takes the webhook out of the way gets no unmeshed pod either.
    rig.kubectl(&["delete", "mutatingwebhookconfiguration", "causeway-injector"]).unwrap();
    until("the back-stop speaks", Duration::from_secs(30), || match create("dev", "bare", json!({})) {
        Err(error) if error.contains("asks for injection") => Ok(()),
        other => Err(format!("{other:?}")),
    });
}
