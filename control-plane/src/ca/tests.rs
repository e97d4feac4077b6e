#![allow(clippy::unwrap_used)]

use super::*;
use rcgen::{BasicConstraints, DnType, Issuer, KeyPair};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

const NOW: i64 = 1_800_000_000;
const DAY: i64 = 24 * 3600;

fn open_with(dir: &Path, files: CaFiles, now: i64) -> Result<Authority, CaError> {
    let state = StateDir::open(dir).unwrap();
    Authority::open(state, files, "cluster.local", Duration::from_secs(24 * 3600), now)
}

fn open(dir: &Path) -> Result<Authority, CaError> {
    open_with(dir, CaFiles::Own, NOW)
}

fn id() -> SpiffeId {
    SpiffeId::new("cluster.local", "dev", "web.v2").unwrap()
}

/// A CA of an operator: what signs it, and its life.
struct Made {
    key: KeyPair,
    params: CertificateParams,
    pem: String,
}

fn make_ca(name: &str, by: Option<&Made>, not_after: i64, is_ca: IsCa) -> Made {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = is_ca;
    params.not_before = signer::date(NOW - DAY);
    params.not_after = signer::date(not_after);
    let cert = match by {
        Some(by) => params.signed_by(&key, &Issuer::from_params(&by.params, &by.key)),
        None => params.self_signed(&key),
    };
    Made { pem: cert.unwrap().pem(), key, params }
}

const CA: IsCa = IsCa::Ca(BasicConstraints::Unconstrained);

fn given(dir: &Path, chain: &[&Made], key: &KeyPair) -> CaFiles {
    let (cert_file, key_file) = (dir.join("given.pem"), dir.join("given-key.pem"));
    std::fs::write(&cert_file, chain.iter().map(|c| c.pem.as_str()).collect::<String>()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    CaFiles::Given { cert: cert_file, key: key_file }
}

fn verify(authority: &Authority, issued: &Issued, now: i64) -> Result<SpiffeId, SvidError> {
    let roots = Roots::new("cluster.local", &authority.bundle(now).roots_der).unwrap();
    let rest: Vec<_> = issued.chain[1..].iter().map(|c| CertificateDer::from(c.clone())).collect();
    let at = rustls_pki_types::UnixTime::since_unix_epoch(Duration::from_secs(now as u64));
    svid::verify(&roots, &issued.chain[0], &rest, at, svid::Usage::Client)
}

#[test]
fn a_restart_keeps_the_ca_and_files_have_the_right_modes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let first = open(&path).unwrap();
    let issued = first.issue(&id(), &KeyPair::generate().unwrap(), NOW).unwrap();
    drop(first);
    let second = open(&path).unwrap();
    assert_eq!(verify(&second, &issued, NOW), Ok(id()));
    let mode = |name: &str| std::fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(""), mode(CA_FILE), mode(BUNDLE_FILE)), (0o700, 0o600, 0o644));
    let bundle = std::fs::read_to_string(path.join(BUNDLE_FILE)).unwrap();
    assert!(bundle.contains("BEGIN CERTIFICATE") && !bundle.contains("PRIVATE"));
}

#[test]
fn a_leaf_has_the_form_that_the_standard_asks_for() {
    let dir = tempfile::tempdir().unwrap();
    let authority = open(dir.path()).unwrap();
    let issued = authority.issue(&id(), &KeyPair::generate().unwrap(), NOW).unwrap();
    let (_, cert) = X509Certificate::from_der(&issued.chain[0]).unwrap();
    let san = cert.subject_alternative_name().unwrap().unwrap();
    assert!(san.critical);
    assert_eq!(san.value.general_names, [GeneralName::URI("spiffe://cluster.local/ns/dev/sa/web.v2")]);
    assert_eq!(cert.subject().iter().count(), 0);
    assert!(!cert.basic_constraints().unwrap().unwrap().value.ca);
    let usage = cert.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && !usage.key_cert_sign() && !usage.crl_sign());
    let extended = cert.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.server_auth && extended.client_auth && !extended.any);
    assert!(cert.raw_serial().len() <= 20 && cert.raw_serial().len() >= 16 && cert.raw_serial()[0] < 0x80);
    assert_eq!(cert.validity().not_before.timestamp(), NOW - BACKDATE.min(3600));
    assert_eq!(cert.validity().not_after.timestamp(), NOW + DAY);
    let again = authority.issue(&id(), &KeyPair::generate().unwrap(), NOW).unwrap();
    assert_ne!(issued.serial, again.serial);
}

#[test]
fn a_lost_or_broken_ca_is_refused_and_never_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    let file = dir.path().join(CA_FILE);
    let good = std::fs::read_to_string(&file).unwrap();
    let (key, cert) = good.split_at(good.find("-----BEGIN CERT").unwrap());

    std::fs::remove_file(&file).unwrap();
    assert!(matches!(open(dir.path()), Err(CaError::Lost { .. })));
    assert!(!file.exists());
    for broken in ["", "rubbish", key, cert, &good[..good.len() / 2]] {
        std::fs::write(&file, broken).unwrap();
        let error = open(dir.path()).err().expect("a broken CA must be refused").to_string();
        assert!(error.contains(CA_FILE), "{error}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), broken, "the file is left as it is");
    }
    let foreign = KeyPair::generate().unwrap().serialize_pem() + cert;
    std::fs::write(&file, foreign).unwrap();
    assert!(open(dir.path()).err().unwrap().to_string().contains("not that of the first certificate"));
    std::fs::write(&file, &good).unwrap();
    assert!(open(dir.path()).is_ok());
}

#[test]
fn a_secret_that_others_can_read_is_closed_to_them() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    let file = dir.path().join(CA_FILE);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    drop(open(dir.path()).unwrap());
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn two_control_planes_do_not_share_a_state_directory() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let left = dir.path().join(".ca.pem.0123456789abcdef");
    std::fs::write(&left, "half a key").unwrap();
    let first = state.lock().unwrap();
    assert!(!left.exists(), "what a crash left is cleared away");
    assert!(matches!(state.lock(), Err(StateError::InUse(_))));
    drop(first);
    assert!(state.lock().is_ok());
}

#[test]
fn an_intermediate_is_sent_along_and_a_leaf_never_outlives_its_issuer() {
    let dir = tempfile::tempdir().unwrap();
    let root = make_ca("root", None, NOW + 100 * DAY, CA);
    let middle = make_ca("middle", Some(&root), NOW + 3600, CA);
    let files = given(dir.path(), &[&middle, &root], &middle.key);
    let authority = open_with(dir.path(), files, NOW).unwrap();
    let issued = authority.issue(&id(), &KeyPair::generate().unwrap(), NOW).unwrap();
    assert_eq!((issued.chain.len(), issued.not_after), (2, NOW + 3600));
    assert_eq!(verify(&authority, &issued, NOW), Ok(id()));
    let late = authority.issue(&id(), &KeyPair::generate().unwrap(), NOW + 3600);
    assert!(matches!(late, Err(CaError::Expired(0))));
}

#[test]
fn a_ca_whose_certificates_nobody_would_accept_is_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |files, what: &str| {
        let error = open_with(dir.path(), files, NOW).err().expect(what).to_string();
        assert!(!dir.path().join(BUNDLE_FILE).exists(), "{what}: {error}");
        error
    };
    let old = make_ca("old", None, NOW - 1, CA);
    assert!(refused(given(dir.path(), &[&old], &old.key), "expired").contains("ca_expired"));
    let no_ca = make_ca("no CA", None, NOW + DAY, IsCa::ExplicitNoCa);
    assert!(refused(given(dir.path(), &[&no_ca], &no_ca.key), "not a CA").contains("CA:true"));
    let (root, other) = (make_ca("root", None, NOW + DAY, CA), make_ca("other", None, NOW + DAY, CA));
    let middle = make_ca("middle", Some(&root), NOW + DAY, CA);
    refused(given(dir.path(), &[&middle, &other], &middle.key), "a chain that does not hang together");
    refused(given(dir.path(), &[&root], &other.key), "a foreign key");
    refused(CaFiles::Given { cert: dir.path().join("none"), key: dir.path().join("none") }, "no file");
}

#[test]
fn more_roots_are_told_and_expired_ones_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let authority = open(dir.path()).unwrap();
    assert_eq!(authority.bundle(NOW).roots_der.len(), 1);
    let (fresh, old) = (make_ca("fresh", None, NOW + DAY, CA), make_ca("old", None, NOW - 1, CA));
    let extra = dir.path().join(EXTRA_ROOTS_FILE);
    std::fs::write(&extra, format!("{}{}{}", fresh.pem, old.pem, fresh.pem)).unwrap();
    assert!(authority.reload(NOW).unwrap());
    assert!(!authority.reload(NOW).unwrap(), "nothing changed since");
    assert_eq!(authority.bundle(NOW).roots_der.len(), 2);
    assert_eq!(authority.bundle(NOW + DAY).roots_der.len(), 1);
    let written = std::fs::read_to_string(dir.path().join(BUNDLE_FILE)).unwrap();
    assert_eq!(written.matches("BEGIN CERTIFICATE").count(), 2);

    std::fs::write(&extra, "-----BEGIN CERTIFICATE-----\nrubbish").unwrap();
    assert!(authority.reload(NOW).is_err());
    assert_eq!(authority.bundle(NOW).roots_der.len(), 2, "what was in force stays");
    std::fs::remove_file(&extra).unwrap();
    assert!(authority.reload(NOW).unwrap());
    assert_eq!(authority.bundle(NOW).roots_der.len(), 1);
}

#[test]
fn a_root_is_changed_without_a_restart_when_it_was_announced() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (make_ca("old", None, NOW + 90 * DAY, CA), make_ca("new", None, NOW + 900 * DAY, CA));
    let authority = open_with(dir.path(), given(dir.path(), &[&old], &old.key), NOW).unwrap();
    let of_old = authority.issue(&id(), &KeyPair::generate().unwrap(), NOW).unwrap();

    given(dir.path(), &[&new], &new.key);
    assert!(matches!(authority.reload(NOW), Err(CaError::UnannouncedRoot(_))));
    assert_eq!(authority.expires(), NOW + 90 * DAY, "the old issuer stays in force");

    std::fs::write(dir.path().join(EXTRA_ROOTS_FILE), &new.pem).unwrap();
    given(dir.path(), &[&old], &old.key);
    assert!(authority.reload(NOW).unwrap());
    given(dir.path(), &[&new], &new.key);
    assert!(authority.reload(NOW).unwrap());
    let of_new = authority.issue(&id(), &KeyPair::generate().unwrap(), NOW).unwrap();
    for issued in [&of_old, &of_new] {
        assert_eq!(verify(&authority, issued, NOW), Ok(id()));
    }
    // One leaf life later nothing of the old one is about.
    assert!(authority.reload(NOW + DAY).unwrap());
    assert_eq!(authority.bundle(NOW + DAY).roots_der.len(), 1);
}
