#![allow(clippy::unwrap_used)]

use super::*;
use std::path::Path;

const NOW: i64 = 1_800_000_000;

fn tokens(dir: &Path) -> LocalTokens {
    LocalTokens::open(&StateDir::open(dir).unwrap()).unwrap()
}

fn request() -> TokenRequest {
    TokenRequest {
        namespace: "dev".into(),
        account: "web.v2".into(),
        pod: Some("web-1".into()),
        ttl: 600,
        audience: AUDIENCE.into(),
    }
}

/// Signs any JSON with the key of `dir`, as a forger with the key could.
fn sign(dir: &Path, header: &Header, claims: &serde_json::Value) -> String {
    let pem = std::fs::read(dir.join(KEY_FILE)).unwrap();
    jsonwebtoken::encode(header, claims, &EncodingKey::from_ec_pem(&pem).unwrap()).unwrap()
}

fn claims() -> serde_json::Value {
    serde_json::json!({
        "iss": ISSUER, "sub": "system:serviceaccount:dev:web", "aud": ["causeway"],
        "iat": NOW, "nbf": NOW, "exp": NOW + 600,
        "kubernetes.io": { "namespace": "dev", "serviceaccount": { "name": "web", "uid": "ignored" } },
    })
}

#[test]
fn a_token_proves_what_it_was_made_for_until_it_expires() {
    let dir = tempfile::tempdir().unwrap();
    let token = tokens(dir.path()).issue(&request(), NOW).unwrap();
    let proven = Proven { namespace: "dev".into(), account: "web.v2".into(), pod: Some("web-1".into()), pod_uid: None };
    // Another process opens the same key.
    let other = tokens(dir.path());
    assert_eq!(other.verify(&token, NOW), Ok(proven.clone()));
    assert_eq!(other.verify(&token, NOW + 599), Ok(proven));
    assert_eq!(other.verify(&token, NOW + 600), Err(TokenError::Expired(0)));
    assert_eq!(other.verify(&token, NOW + 700), Err(TokenError::Expired(100)));
    assert_eq!(other.verify(&token, NOW - 61), Err(TokenError::NotYetValid(61)));
}

#[test]
fn each_wrong_token_is_refused_with_its_code() {
    let (dir, foreign) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let ours = tokens(dir.path());
    let code = |token: &str| ours.verify(token, NOW).unwrap_err().code();
    let header = Header { kid: Some(ours.key_id.clone()), ..Header::new(Algorithm::ES256) };
    assert!(ours.verify(&sign(dir.path(), &header, &claims()), NOW).is_ok());
    let with = |key: &str, value: serde_json::Value| {
        let mut claims = claims();
        claims[key] = value;
        sign(dir.path(), &header, &claims)
    };

    assert_eq!(code(&tokens(foreign.path()).issue(&request(), NOW).unwrap()), "token_signature");
    // A foreign key under our key's name.
    assert_eq!(code(&sign(foreign.path(), &header, &claims())), "token_signature");
    assert_eq!(code(&with("aud", "api".into())), "token_audience");
    assert_eq!(code(&with("aud", serde_json::json!([]))), "token_audience");
    assert_eq!(code(&with("aud", serde_json::json!(["causeway.example"]))), "token_audience");
    assert_eq!(code(&with("iss", "somebody".into())), "token_issuer");
    assert_eq!(code(&with("exp", (NOW - 1).into())), "token_expired");
    assert_eq!(code(&with("nbf", (NOW + 3600).into())), "token_not_yet_valid");
    assert_eq!(code(&with("sub", "system:serviceaccount:prod:admin".into())), "token_malformed");
    assert_eq!(code(&with("exp", serde_json::Value::Null)), "token_malformed");
    assert_eq!(code(&with("kubernetes.io", serde_json::Value::Null)), "token_malformed");
    assert_eq!(code(""), "token_malformed");
    assert_eq!(code("a.b.c"), "token_malformed");
    assert_eq!(code(&"x".repeat(MAX_TOKEN + 1)), "token_malformed");

    let good = ours.issue(&request(), NOW).unwrap();
    let parts: Vec<_> = good.split('.').collect();
    let encode = |json: serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let none = encode(serde_json::json!({ "alg": "none", "kid": ours.key_id }));
    assert_eq!(code(&format!("{none}.{}.", parts[1])), "token_signature");
    let hmac = encode(serde_json::json!({ "alg": "HS256", "kid": ours.key_id }));
    assert_eq!(code(&format!("{hmac}.{}.{}", parts[1], parts[2])), "token_signature");
    let crit = encode(serde_json::json!({ "alg": "ES256", "kid": ours.key_id, "crit": ["x"] }));
    assert_eq!(code(&format!("{crit}.{}.{}", parts[1], parts[2])), "token_malformed");
    let other_claims = encode(claims());
    assert_eq!(code(&format!("{}.{other_claims}.{}", parts[0], parts[2])), "token_signature");
    assert_eq!(code(&format!("{}.{}", parts[0], parts[1])), "token_malformed");
}

#[test]
fn names_that_kubernetes_would_refuse_get_no_token() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = tokens(dir.path());
    for (namespace, account) in [("", "web"), ("dev", ""), ("Dev", "web"), ("dev", "a/b"), ("a.b", "web")] {
        let request = TokenRequest { namespace: namespace.into(), account: account.into(), ..request() };
        assert!(matches!(tokens.issue(&request, NOW), Err(IssueError::Name(_))), "{namespace}/{account}");
    }
}

#[test]
fn two_processes_that_begin_at_once_end_with_one_key() {
    let dir = tempfile::tempdir().unwrap();
    let ids: Vec<_> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..8).map(|_| scope.spawn(|| tokens(dir.path()).key_id)).collect();
        all.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(ids.windows(2).all(|w| w[0] == w[1]), "{ids:?}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn a_key_that_is_none_is_refused_and_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(KEY_FILE), "rubbish").unwrap();
    assert!(matches!(LocalTokens::open(&StateDir::open(dir.path()).unwrap()), Err(IssueError::Key(_))));
    assert_eq!(std::fs::read(dir.path().join(KEY_FILE)).unwrap(), b"rubbish");
}

#[test]
fn the_key_does_not_show_in_debug() {
    let dir = tempfile::tempdir().unwrap();
    let shown = format!("{:?}", TokenReviewer::Local(tokens(dir.path())));
    assert!(!shown.contains("PRIVATE") && shown.len() < 120, "{shown}");
}
