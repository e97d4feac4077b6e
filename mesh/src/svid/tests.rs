//! Tests of the certificate rule: every wrong form in both roles, with the time as an argument.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize, date_time_ymd};
use rustls::NamedGroup;
use rustls::pki_types::{CertificateDer, UnixTime};

use super::*;
use forms::{Form, ID, TRUST_DOMAIN, World};

#[allow(missing_docs, dead_code)] // the keys serve the tests of handshakes
mod forms;

/// 2026-11-21
const NOW: u64 = 1_795_219_200;

fn at(secs: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(secs))
}

fn judge(roots: &Roots, chain: &[Vec<u8>], now: u64, usage: Usage) -> Result<SpiffeId, SvidError> {
    let intermediates: Vec<CertificateDer<'_>> = chain[1..].iter().map(|c| c.as_slice().into()).collect();
    verify(roots, &chain[0], &intermediates, at(now), usage)
}

fn codes(roots: &Roots, form: &Form) -> (Option<&'static str>, Option<&'static str>) {
    let code = |usage| judge(roots, &form.chain, NOW, usage).err().map(|e| e.code());
    (code(Usage::Client), code(Usage::Server))
}

#[test]
fn right_certificates_pass_in_both_roles() {
    let world = World::new();
    let roots = Roots::new(TRUST_DOMAIN, &world.roots()).unwrap();
    for form in world.right() {
        for usage in [Usage::Client, Usage::Server] {
            assert_eq!(judge(&roots, &form.chain, NOW, usage).unwrap().to_string(), ID, "{}", form.name);
        }
    }
}

#[test]
fn every_wrong_form_is_refused_with_its_code_in_both_roles() {
    let world = World::new();
    let roots = Roots::new(TRUST_DOMAIN, &world.roots()).unwrap();
    let wrong = world.wrong();
    assert!(wrong.len() > 60);
    let faults: Vec<String> = wrong
        .iter()
        .filter(|form| codes(&roots, form) != (form.as_client, form.as_server))
        .map(|form| format!("{}: {:?}, not {:?}", form.name, codes(&roots, form), (form.as_client, form.as_server)))
        .collect();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn validity_is_judged_by_the_time_given_to_the_second() {
    let world = World::new();
    let roots = Roots::new(TRUST_DOMAIN, &world.roots()).unwrap();
    let (chain, _) = world.good.leaf(ID);
    let info = leaf_info(&chain[0]).unwrap();
    let ok = |now| judge(&roots, &chain, now, Usage::Server).is_ok();
    assert!(ok(info.not_before) && ok(info.not_after));
    assert!(!ok(info.not_before - 1) && !ok(info.not_after + 1));
}

#[test]
fn a_root_that_expires_takes_its_leaves_along() {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let ca = forms::ca_of("short", key, |p| p.not_after = date_time_ymd(2027, 1, 1));
    let roots = Roots::new(TRUST_DOMAIN, std::slice::from_ref(&ca.der)).unwrap();
    let (chain, _) = ca.leaf(ID);
    let end = roots.not_after().next().unwrap();
    assert!(judge(&roots, &chain, end, Usage::Client).is_ok());
    assert_eq!(judge(&roots, &chain, end + 1, Usage::Client), Err(SvidError::RootExpired));
}

#[test]
fn an_rsa_root_that_somebody_brings_is_accepted() {
    let ca = forms::ca_of("rsa", KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap(), |_| {});
    let roots = Roots::new(TRUST_DOMAIN, std::slice::from_ref(&ca.der)).unwrap();
    let (chain, _) = ca.leaf(ID);
    assert_eq!(judge(&roots, &chain, NOW, Usage::Server).unwrap().to_string(), ID);
}

#[test]
fn identities_with_dots_are_compared_as_parsed() {
    let world = World::new();
    let roots = Roots::new(TRUST_DOMAIN, &world.roots()).unwrap();
    let id = |account: &str| {
        let (chain, _) = world.good.leaf(&format!("spiffe://cluster.local/ns/prod/sa/{account}"));
        judge(&roots, &chain, NOW, Usage::Client).unwrap()
    };
    assert_eq!(id("a.b").account(), "a.b");
    assert_ne!(id("a.b"), id("axb"));
    assert_ne!(id("a.b"), id("a"));
}

#[test]
fn roots_must_be_certificates_of_authorities_and_count_once() {
    let world = World::new();
    let good = world.good.der.clone();
    let twice = Roots::new(TRUST_DOMAIN, &[good.clone(), good.clone()]).unwrap();
    assert_eq!(twice.der().collect::<Vec<_>>(), [good.as_slice()]);
    let code = |roots: &[Vec<u8>]| Roots::new(TRUST_DOMAIN, roots).unwrap_err().code();
    assert_eq!(code(&[]), "svid_no_roots");
    assert_eq!(code(&[b"nothing".to_vec()]), "svid_malformed");
    assert_eq!(code(&[good.clone(), world.good.leaf(ID).0.remove(0)]), "svid_malformed");
    assert_eq!(Roots::new("Cluster.Local", &[good]).unwrap_err().code(), "svid_trust_domain");
}

#[test]
fn any_bytes_are_judged_without_a_panic() {
    let world = World::new();
    let roots = Roots::new(TRUST_DOMAIN, &world.roots()).unwrap();
    let (chain, _) = world.good.leaf(ID);
    let leaf = &chain[0];
    let judge = |bytes: &[u8]| verify(&roots, bytes, &[], at(NOW), Usage::Server);
    for end in 0..leaf.len() {
        assert!(judge(&leaf[..end]).is_err());
    }
    for i in 0..leaf.len() {
        let mut changed = leaf.clone();
        changed[i] ^= 0xff;
        assert!(judge(&changed).is_err(), "byte {i} is not covered by the signature");
    }
}

#[test]
fn the_provider_offers_tls_1_3_and_post_quantum_first() {
    let provider = provider();
    let suites: Vec<String> = provider.cipher_suites.iter().map(|s| format!("{:?}", s.suite())).collect();
    assert_eq!(suites, ["TLS13_AES_128_GCM_SHA256", "TLS13_AES_256_GCM_SHA384", "TLS13_CHACHA20_POLY1305_SHA256"]);
    let groups: Vec<NamedGroup> = provider.kx_groups.iter().map(|g| g.name()).collect();
    assert_eq!(groups, [NamedGroup::X25519MLKEM768, NamedGroup::X25519, NamedGroup::secp256r1]);
    assert!(rustls::crypto::CryptoProvider::get_default().is_none(), "nothing is installed for the process");
}

#[test]
fn the_cause_is_found_in_whatever_wraps_it() {
    let refused = || {
        let source: RootsSource = Arc::new(|| None);
        let verifier = ClientVerifier::required(source);
        let leaf = CertificateDer::from(vec![0]);
        rustls::server::danger::ClientCertVerifier::verify_client_cert(&verifier, &leaf, &[], at(NOW)).unwrap_err()
    };
    assert_eq!(cause(&refused()), Some(&SvidError::NoRoots));
    assert_eq!(cause(&std::io::Error::other(refused())), Some(&SvidError::NoRoots));
    assert_eq!(cause(&std::io::Error::other("else")), None);
}
