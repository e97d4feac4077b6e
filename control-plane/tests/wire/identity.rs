//! Who gets a certificate, and who does not.

use causeway_mesh::svid;
use causeway_mesh::wire;
use causeway_mesh::wire::identity_client::IdentityClient;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, SanType};
use tonic::Code;

use crate::client::{Plane, assert_refused, csr, now};

#[tokio::test]
async fn a_token_gets_a_certificate_for_exactly_its_account() {
    let plane = Plane::start(&["--leaf-ttl", "1h"]).await;
    let key = KeyPair::generate().unwrap();
    // What the CSR asks for is not looked at.
    let mut wishes = CertificateParams::default();
    wishes.subject_alt_names = vec![SanType::URI("spiffe://cluster.local/ns/prod/sa/admin".try_into().unwrap())];
    let request = wishes.serialize_request(&key).unwrap().der().to_vec();
    let reply = plane.certify(plane.token("dev", "web", Some("web-1")), request).await.unwrap();
    let leaf = svid::leaf_info(&reply.chain_der[0]).unwrap();
    assert_eq!(leaf.id.to_string(), "spiffe://cluster.local/ns/dev/sa/web");
    assert_eq!((reply.roots_der, reply.chain_der.len()), (plane.roots(), 1));
    assert!((reply.now_unix - now()).abs() < 5);
    let left = leaf.not_after as i64 - reply.now_unix;
    assert!((3590..=3600).contains(&left) && (leaf.not_before as i64) < reply.now_unix - 300, "{leaf:?}");
    assert_eq!(plane.metric("causeway_control_plane_certificates_issued_total").await, 1.0);
}

#[tokio::test]
async fn each_bad_token_is_refused_with_its_code() {
    let plane = Plane::start(&[]).await;
    let foreign = Plane::start(&[]).await;
    let csr = csr(&KeyPair::generate().unwrap());
    let expired = plane.token_with(|r| r.ttl = -1);
    let audience = plane.token_with(|r| r.audience = "api".into());
    let good = plane.token("dev", "web", None);
    let parts: Vec<_> = good.split('.').collect();
    // {"alg":"none"}
    let none = format!("eyJhbGciOiJub25lIn0.{}.", parts[1]);
    let cases = [
        (expired, Code::Unauthenticated, "token_expired"),
        (audience, Code::Unauthenticated, "token_audience"),
        (foreign.token("dev", "web", None), Code::Unauthenticated, "token_signature"),
        (none, Code::Unauthenticated, "token_signature"),
        (String::new(), Code::Unauthenticated, "token_malformed"),
        ("x".repeat(20_000), Code::Unauthenticated, "token_malformed"),
        (plane.token("dev", "web", Some("gone-1")), Code::PermissionDenied, "token_pod_unknown"),
        (plane.token("dev", "admin", Some("web-1")), Code::PermissionDenied, "token_account_mismatch"),
        (plane.token("prod", "web", Some("web-1")), Code::PermissionDenied, "token_pod_unknown"),
        (plane.token("causeway-system", "causeway-control-plane", None), Code::PermissionDenied, "identity_reserved"),
    ];
    for (token, code, stable) in cases {
        assert_refused(plane.certify(token, csr.clone()).await, code, stable);
    }
    let refused = r#"causeway_control_plane_certificates_refused_total{reason="token_signature"}"#;
    assert_eq!(plane.metric(refused).await, 2.0);
    assert_eq!(plane.metric("causeway_control_plane_certificates_issued_total").await, 0.0);
}

#[tokio::test]
async fn each_bad_request_is_refused_with_its_code() {
    let plane = Plane::start(&[]).await;
    let key = KeyPair::generate().unwrap();
    let mut forged = csr(&key);
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = ca.serialize_request(&key).unwrap().der().to_vec();
    let rsa = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    let cases = [
        (forged, "csr_signature"),
        (ca, "csr_ca"),
        (csr(&rsa), "csr_key"),
        (vec![0x30; 17_000], "csr_too_large"),
        (Vec::new(), "csr_malformed"),
    ];
    for (request, stable) in cases {
        assert_refused(plane.certify(plane.token("dev", "web", None), request).await, Code::InvalidArgument, stable);
    }
    // 1 MiB does not even get into memory.
    let huge = plane.certify(plane.token("dev", "web", None), vec![0x30; 1 << 20]).await.unwrap_err();
    assert_eq!(huge.code(), Code::OutOfRange);
    assert!(plane.certify(plane.token("dev", "web", None), csr(&key)).await.is_ok(), "still serves");
}

#[tokio::test]
async fn a_token_of_a_pod_that_was_deleted_gets_nothing_more() {
    let plane = Plane::start(&[]).await;
    let token = plane.token("dev", "web", Some("web-1"));
    let csr = csr(&KeyPair::generate().unwrap());
    assert!(plane.certify(token.clone(), csr.clone()).await.is_ok());
    plane.write("mesh.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: { name: dev }\n");
    let mut client = IdentityClient::new(plane.channel(None).await);
    for _ in 0..500 {
        let request = wire::CertifyRequest { token: token.clone(), csr_der: csr.clone() };
        if let Err(status) = client.certify(request).await {
            return assert_refused::<()>(Err(status), Code::PermissionDenied, "token_pod_unknown");
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("10 s after the pod's end its token still gets certificates");
}

#[tokio::test]
async fn a_restart_on_the_same_state_keeps_ca_and_tokens() {
    let plane = Plane::start(&[]).await;
    let (roots, token) = (plane.roots(), plane.token("dev", "web", None));
    let key = plane.key("dev", "web").await;
    plane.running.shut_down().await.unwrap();
    let plane = Plane::start_in(plane.dir, &[]).await;
    assert_eq!(plane.roots(), roots);
    assert!(plane.certify(token, csr(&KeyPair::generate().unwrap())).await.is_ok());
    let mut stream = plane.watch_with(Some(key), crate::client::hello("dev/web-1")).await.unwrap();
    assert!(!stream.apply().await.resources.is_empty());
}
