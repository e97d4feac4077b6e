//! A certificate authority of the test's own, so that it can forge certificates that the mesh must refuse.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};

/// A root with its key.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    key: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

impl Authority {
    /// Makes a root for a trust domain.
    pub fn new(trust_domain: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::OrganizationName, trust_domain);
        let key = KeyPair::generate().expect("key");
        let certificate = params.self_signed(&key).expect("root");
        let (pem, text) = (certificate.pem(), key.serialize_pem());
        Self { issuer: Issuer::new(params, key), pem, key: text }
    }

    /// Writes `ca.crt` and `ca.key` into a directory.
    pub fn write(&self, directory: &Path) -> (PathBuf, PathBuf) {
        use std::os::unix::fs::PermissionsExt as _;
        let (cert, key) = (directory.join("ca.crt"), directory.join("ca.key"));
        std::fs::write(&cert, &self.pem).expect("ca.crt");
        std::fs::write(&key, &self.key).expect("ca.key");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("mode of ca.key");
        (cert, key)
    }

    /// Issues a leaf with these URI names and writes `NAME.crt` and `NAME.key`.
    pub fn leaf(&self, directory: &Path, name: &str, uris: &[&str]) -> (PathBuf, PathBuf) {
        let names = uris.iter().map(|u| SanType::URI((*u).try_into().expect("an URI")));
        self.issue(directory, name, names.collect())
    }

    /// As [`Self::leaf`], for a server of these hosts.
    pub fn server(&self, directory: &Path, name: &str, hosts: &[&str]) -> (PathBuf, PathBuf) {
        let names = hosts.iter().map(|h| SanType::DnsName((*h).try_into().expect("a host")));
        self.issue(directory, name, names.collect())
    }

    fn issue(&self, directory: &Path, name: &str, names: Vec<SanType>) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("key");
        let certificate = params.signed_by(&key, &self.issuer).expect("leaf");
        let (cert, secret) = (directory.join(format!("{name}.crt")), directory.join(format!("{name}.key")));
        std::fs::write(&cert, certificate.pem()).expect("leaf certificate");
        std::fs::write(&secret, key.serialize_pem()).expect("leaf key");
        (cert, secret)
    }
}
