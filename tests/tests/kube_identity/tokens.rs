//! Tokens as kubelet projects them, and every way in which they can be wrong.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use causeway_control_plane::metrics::Metrics;
use causeway_control_plane::token::{KubernetesTokens, Proven, TokenError};
use causeway_tests::until;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Validation};
use serde_json::{Value, json};

use super::api::Api;

struct Tokens {
    api: Api,
    reviewer: KubernetesTokens,
}

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

impl Tokens {
    fn start() -> Option<Self> {
        let api = Api::start()?;
        let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
        let reviewer = KubernetesTokens::new(api.client.clone(), metrics);
        for namespace in ["dev", "prod"] {
            api.kube.create_namespace(namespace, &[]);
            api.kube.create_service_account(namespace, "web");
        }
        api.kube.create_service_account("dev", "other");
        Some(Self { api, reviewer })
    }

    fn pod(&self, namespace: &str, name: &str, change: impl FnOnce(&mut Value)) {
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "namespace": namespace, "labels": { "causeway.dev/injected": "true" } },
            "spec": { "serviceAccountName": "web", "containers": [ { "name": "a", "image": "a" } ] },
        });
        change(&mut pod);
        self.api.kube.apply(&pod.to_string()).unwrap();
    }

    /// A token as kubelet gets it for a pod.
    fn of(&self, pod: &str) -> String {
        self.api.kube.token("dev", "web", Some(pod), Some("causeway")).unwrap()
    }

    fn review(&self, token: &str) -> Result<Proven, TokenError> {
        self.api.run(self.reviewer.review(token, now()))
    }

    fn code(&self, token: &str) -> &'static str {
        self.review(token).map_or_else(|e| e.code(), |_| "proven")
    }

    /// Waits until the API server, which looks pods up in a cache of its own, agrees.
    fn becomes(&self, token: &str, codes: &[&str]) {
        until(&format!("the token is {codes:?}"), Duration::from_secs(10), || {
            let code = self.code(token);
            if codes.contains(&code) { Ok(()) } else { Err(code.to_owned()) }
        });
    }

    /// A token that the API server signed, with other claims, signed again by its key.
    fn forged(&self, token: &str, change: impl FnOnce(&mut Value)) -> String {
        let header = jsonwebtoken::decode_header(token).unwrap();
        let mut rules = Validation::new(Algorithm::ES256);
        (rules.validate_exp, rules.validate_aud) = (false, false);
        let pem = |file: &str| std::fs::read(self.api.kube.ca().with_file_name(file)).unwrap();
        let key = DecodingKey::from_ec_pem(&pem("sa.pub")).unwrap();
        let mut claims = jsonwebtoken::decode::<Value>(token, &key, &rules).unwrap().claims;
        change(&mut claims);
        jsonwebtoken::encode(&header, &claims, &EncodingKey::from_ec_pem(&pem("sa.key")).unwrap()).unwrap()
    }
}

#[test]
fn only_a_token_of_a_running_pod_in_the_mesh_for_our_audience_proves_anything() {
    let Some(tokens) = Tokens::start() else { return };
    let kube = &tokens.api.kube;
    tokens.pod("dev", "web-1", |_| {});
    tokens.pod("prod", "shop-1", |_| {});
    tokens.pod("dev", "bare", |p| p["metadata"]["labels"] = json!({}));
    tokens.pod("dev", "host", |p| p["spec"]["hostNetwork"] = true.into());
    let good = tokens.of("web-1");
    let proven = tokens.review(&good).unwrap();
    assert_eq!((proven.namespace.as_str(), proven.account.as_str()), ("dev", "web"));
    assert_eq!(proven.pod.as_deref(), Some("web-1"));
    let uid = kube.get(&["-n", "dev", "pod", "web-1"]).unwrap()["metadata"]["uid"].as_str().map(str::to_owned);
    assert_eq!(proven.pod_uid, uid);

    let for_others = kube.token("dev", "web", Some("web-1"), Some("vault")).unwrap();
    assert_eq!(tokens.code(&for_others), "token_audience");
    let for_the_api_server = kube.token("dev", "web", Some("web-1"), None).unwrap();
    assert_eq!(tokens.code(&for_the_api_server), "token_audience");
    let unbound = kube.token("dev", "web", None, Some("causeway")).unwrap();
    assert_eq!(tokens.code(&unbound), "token_unbound");
    assert_eq!(tokens.code(&tokens.of("bare")), "pod_not_meshed");
    assert_eq!(tokens.code(&tokens.of("host")), "pod_not_meshed");

    assert_eq!(tokens.code(""), "token_malformed");
    assert_eq!(tokens.code("garbage"), "token_malformed");
    assert_eq!(tokens.code(&"a".repeat(17 * 1024)), "token_malformed");
    let (signed, _) = good.rsplit_once('.').unwrap();
    assert_eq!(tokens.code(&format!("{signed}.AAAA")), "token_refused");

    assert_eq!(tokens.code(&tokens.forged(&good, |_| {})), "proven", "the key is the API server's");
    let expired = tokens.forged(&good, |c| {
        (c["exp"], c["nbf"], c["iat"]) = ((now() - 60).into(), (now() - 600).into(), (now() - 600).into());
    });
    assert_eq!(tokens.code(&expired), "token_expired");
    let of_prod = tokens.forged(&good, |c| c["kubernetes.io"]["pod"]["name"] = "shop-1".into());
    assert_eq!(tokens.code(&of_prod), "token_refused");
    let other_uid = tokens.forged(&good, |c| c["kubernetes.io"]["pod"]["uid"] = "u".into());
    assert_eq!(tokens.code(&other_uid), "token_refused");
    let account = kube.get(&["-n", "dev", "serviceaccount", "other"]).unwrap()["metadata"]["uid"].clone();
    let somebody_else = tokens.forged(&good, |c| {
        c["sub"] = "system:serviceaccount:dev:other".into();
        c["kubernetes.io"]["serviceaccount"] = json!({ "name": "other", "uid": account });
    });
    assert_eq!(tokens.code(&somebody_else), "token_account_mismatch");
}

#[test]
fn a_token_ends_with_its_pod_and_not_with_the_api_servers_absence() {
    let Some(mut tokens) = Tokens::start() else { return };
    for name in ["gone", "again", "held", "done", "stays"] {
        tokens.pod("dev", name, |p| {
            if name == "held" {
                p["metadata"]["finalizers"] = json!(["test.causeway.dev/held"]);
            }
        });
    }
    let of = ["gone", "again", "held", "done", "stays"].map(|name| tokens.of(name));
    for token in &of {
        assert_eq!(tokens.code(token), "proven");
    }
    let [gone, again, held, done, stays] = of;
    let kubectl = |arguments: &[&str]| tokens.api.kube.kubectl(&[&["-n", "dev"], arguments].concat()).unwrap();
    let ended = ["token_refused", "token_pod_unknown"];
    kubectl(&["delete", "pod", "gone"]);
    assert!(ended.contains(&tokens.code(&gone)), "at once, not when a cache has heard of it");

    kubectl(&["delete", "pod", "again"]);
    tokens.pod("dev", "again", |_| {});
    assert!(ended.contains(&tokens.code(&again)), "of the former pod of that name");
    assert_eq!(tokens.code(&tokens.of("again")), "proven");

    kubectl(&["delete", "pod", "held", "--wait=false"]);
    assert_eq!(tokens.code(&held), "token_pod_finished");
    kubectl(&["patch", "pod", "done", "--subresource=status", "-p", r#"{"status":{"phase":"Succeeded"}}"#]);
    assert_eq!(tokens.code(&done), "token_pod_finished");
    kubectl(&["patch", "pod", "held", "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#]);
    tokens.becomes(&held, &ended);

    tokens.api.kube.stop_server();
    let began = Instant::now();
    assert_eq!(tokens.code(&stays), "token_review_unavailable");
    assert!(began.elapsed() < Duration::from_secs(7), "it took {:?}", began.elapsed());
    tokens.api.kube.start_server();
    tokens.becomes(&stays, &["proven"]);
}
