#![allow(clippy::unwrap_used)]

use super::*;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose, PublicKeyData, SanType};

fn params() -> CertificateParams {
    CertificateParams::default()
}

fn request(params: &CertificateParams, key: &KeyPair) -> Vec<u8> {
    params.serialize_request(key).unwrap().der().to_vec()
}

#[test]
fn the_public_key_is_taken_and_the_names_are_not() {
    let key = KeyPair::generate().unwrap();
    let mut params = params();
    params.subject_alt_names = vec![
        SanType::URI("spiffe://cluster.local/ns/prod/sa/admin".try_into().unwrap()),
        SanType::DnsName("example.org".try_into().unwrap()),
    ];
    let taken = public_key(&request(&params, &key)).unwrap();
    assert_eq!(taken.der_bytes(), key.der_bytes());
}

#[test]
fn a_request_to_become_a_ca_is_refused() {
    let key = KeyPair::generate().unwrap();
    let mut params = params();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    assert_eq!(public_key(&request(&params, &key)).unwrap_err(), CsrError::Ca);
    let mut params = self::params();
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    assert_eq!(public_key(&request(&params, &key)).unwrap_err(), CsrError::Ca);
}

#[test]
fn a_forged_signature_is_refused() {
    let key = KeyPair::generate().unwrap();
    let good = request(&params(), &key);
    for at in [good.len() - 1, good.len() - 20] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert_eq!(public_key(&bad).unwrap_err(), CsrError::Signature);
    }
    // Somebody else's public key within a request that is signed by mine: both keys have the same length.
    let other = KeyPair::generate().unwrap();
    let place = good.windows(65).position(|w| w == key.der_bytes()).unwrap();
    let mut bad = good;
    bad[place..place + 65].copy_from_slice(other.der_bytes());
    assert_eq!(public_key(&bad).unwrap_err(), CsrError::Signature);
}

#[test]
fn a_key_that_is_not_p256_is_refused() {
    for algorithm in [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        assert_eq!(public_key(&request(&params(), &key)).unwrap_err(), CsrError::Key);
    }
    let rsa = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    assert_eq!(public_key(&request(&params(), &rsa)).unwrap_err(), CsrError::Key);
}

#[test]
fn what_is_no_request_is_refused_and_never_panics() {
    let good = request(&params(), &KeyPair::generate().unwrap());
    assert_eq!(public_key(&vec![0x30; MAX_CSR + 1]).unwrap_err(), CsrError::TooLarge);
    assert_eq!(public_key(&[]).unwrap_err(), CsrError::Malformed);
    let mut followed = good.clone();
    followed.push(0);
    assert_eq!(public_key(&followed).unwrap_err(), CsrError::Malformed);
    for end in 0..good.len() {
        assert!(public_key(&good[..end]).is_err());
    }
}

#[test]
fn a_request_with_any_byte_changed_never_passes() {
    let good = request(&params(), &KeyPair::generate().unwrap());
    for at in 0..good.len() {
        for by in [1, 2, 4, 8, 16, 32, 64, 128, 255] {
            let mut bad = good.clone();
            bad[at] ^= by;
            assert!(public_key(&bad).is_err(), "byte {at} changed by {by}");
        }
    }
}

proptest::proptest! {
    #[test]
    fn rubbish_never_passes_and_never_panics(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..600)) {
        proptest::prop_assert!(public_key(&bytes).is_err());
    }
}
