//! The certificates, keys and kubeconfigs of a test cluster.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use serde_json::json;

/// The files of a cluster's authority: `NAME.crt`, `NAME.key`.
#[derive(Debug)]
pub(super) struct Pki {
    directory: PathBuf,
}

impl Pki {
    /// Makes the authority, the certificates of the components, and the key that signs ServiceAccounts' tokens.
    ///
    /// `names` are the DNS names and addresses of the API server and the kubelet; `node` is the node's name.
    pub(super) fn new(directory: PathBuf, names: &[&str], node: &str) -> Self {
        std::fs::create_dir(&directory).expect("directory of the keys");
        let this = Self { directory };
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, "test-cluster");
        let key = KeyPair::generate().expect("key of the authority");
        let root = params.self_signed(&key).expect("root");
        this.write("ca.crt", &root.pem());
        this.write("ca.key", &key.serialize_pem());
        let issuer = Issuer::new(params, key);

        this.leaf(&issuer, "server", "kube-apiserver", "", names);
        this.leaf(&issuer, "admin", "admin", "system:masters", &[]);
        this.leaf(&issuer, "apiserver-kubelet", "apiserver-kubelet-client", "system:masters", &[]);
        this.leaf(&issuer, "front-proxy", "front-proxy-client", "", &[]);
        for component in ["kube-controller-manager", "kube-scheduler", "kube-proxy"] {
            this.leaf(&issuer, component, &format!("system:{component}"), "", &[]);
        }
        this.leaf(&issuer, "kubelet", &format!("system:node:{node}"), "system:nodes", &[]);

        let tokens = KeyPair::generate().expect("key of the tokens");
        this.write("sa.key", &tokens.serialize_pem());
        this.write("sa.pub", &tokens.public_key_pem());
        this
    }

    /// Path of a file, e.g. `ca.crt`.
    pub(super) fn path(&self, file: &str) -> String {
        self.directory.join(file).display().to_string()
    }

    /// Writes a kubeconfig that holds the certificate of `user`.
    pub(super) fn kubeconfig(&self, user: &str, server: &str, file: &Path) {
        let credentials = json!({
            "client-certificate-data": self.base64(&format!("{user}.crt")),
            "client-key-data": self.base64(&format!("{user}.key")),
        });
        self.kubeconfig_with(&credentials, server, file);
    }

    /// Writes a kubeconfig that holds a ServiceAccount's token.
    pub(super) fn kubeconfig_of_token(&self, token: &str, server: &str, file: &Path) {
        self.kubeconfig_with(&json!({ "token": token }), server, file);
    }

    fn kubeconfig_with(&self, credentials: &serde_json::Value, server: &str, file: &Path) {
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "clusters": [{"name": "test", "cluster": {
                "server": server,
                "certificate-authority-data": self.base64("ca.crt"),
            }}],
            "users": [{"name": "test", "user": credentials}],
        });
        write_private(file, &config.to_string());
    }

    fn base64(&self, file: &str) -> String {
        let bytes = std::fs::read(self.directory.join(file)).expect("a file of the keys");
        base64::engine::general_purpose::STANDARD.encode(bytes)
    }

    fn write(&self, file: &str, text: &str) {
        write_private(&self.directory.join(file), text);
    }

    fn leaf(&self, issuer: &Issuer<'_, KeyPair>, file: &str, name: &str, group: &str, names: &[&str]) {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        if !group.is_empty() {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        let subject = |n: &&str| match n.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName((*n).try_into().expect("a DNS name")),
        };
        params.subject_alt_names = names.iter().map(subject).collect();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("key");
        let certificate = params.signed_by(&key, issuer).expect("leaf");
        self.write(&format!("{file}.crt"), &certificate.pem());
        self.write(&format!("{file}.key"), &key.serialize_pem());
    }
}

fn write_private(file: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(file, text).expect("a file of the keys");
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).expect("its mode");
}
