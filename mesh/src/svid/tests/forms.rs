//! Certificates in every form that a peer may try, each with the code by which it must be refused; shared by the tests
//! of the rule and by those of real handshakes.
//!
//! Names are written in DER by hand, since no library makes the forms that an attacker does.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose as Eku,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, SignatureAlgorithm,
    date_time_ymd,
};

pub const TRUST_DOMAIN: &str = "cluster.local";
/// The identity that every form claims in its way.
pub const ID: &str = "spiffe://cluster.local/ns/prod/sa/web";

const URI: u8 = 0x86;
const DNS: u8 = 0x82;
const EMAIL: u8 = 0x81;
const IP: u8 = 0x87;
const OTHER: u8 = 0xa0;

/// A certificate authority.
pub struct Ca {
    pub params: CertificateParams,
    pub key: KeyPair,
    pub der: Vec<u8>,
}

/// What a peer presents.
pub struct Form {
    pub name: &'static str,
    pub chain: Vec<Vec<u8>>,
    pub key: Vec<u8>,
    /// The code by which a server refuses it from a client, `None`: it passes.
    pub as_client: Option<&'static str>,
    /// The code by which a client refuses it from a server.
    pub as_server: Option<&'static str>,
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        n @ 0..=0x7f => out.push(n as u8),
        n @ 0x80..=0xff => out.extend([0x81, n as u8]),
        n => out.extend([0x82, (n >> 8) as u8, n as u8]),
    }
    out.extend(content);
    out
}

/// The subject alternative name extension with these `(tag, content)` names.
pub fn san(names: &[(u8, &[u8])]) -> CustomExtension {
    let names: Vec<u8> = names.iter().flat_map(|(tag, content)| tlv(*tag, content)).collect();
    CustomExtension::from_oid_content(&[2, 5, 29, 17], tlv(0x30, &names))
}

/// otherName (RFC 5280 section 4.2.1.6) of type UPN with a UTF8String.
fn other_name(text: &str) -> Vec<u8> {
    let oid = [0x06, 0x0a, 0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x14, 0x02, 0x03];
    [oid.to_vec(), tlv(0xa0, &tlv(0x0c, text.as_bytes()))].concat()
}

fn fresh_key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

/// Valid from 2020 to 2100, for tests that must not know the day.
pub fn ca(name: &str, algorithm: &'static SignatureAlgorithm) -> Ca {
    ca_of(name, KeyPair::generate_for(algorithm).unwrap(), |_| {})
}

pub fn ca_of(name: &str, key: KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Ca {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2100, 1, 1);
    change(&mut params);
    let der = params.self_signed(&key).unwrap().der().to_vec();
    Ca { params, key, der }
}

/// A leaf as it must be, for `id`.
pub fn leaf_params(id: &str) -> CertificateParams {
    let mut params = bare_params();
    params.custom_extensions = vec![san(&[(URI, id.as_bytes())])];
    params
}

fn bare_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![Eku::ServerAuth, Eku::ClientAuth];
    params.not_before = date_time_ymd(2021, 1, 1);
    params.not_after = date_time_ymd(2099, 1, 1);
    params
}

impl Ca {
    /// A certificate of `params` for `key`.
    pub fn sign(&self, params: &CertificateParams, key: &KeyPair) -> Vec<u8> {
        let issuer = Issuer::from_params(&self.params, &self.key);
        params.signed_by(key, &issuer).unwrap().der().to_vec()
    }

    /// `(chain, key)` for a well-formed leaf of `id`.
    pub fn leaf(&self, id: &str) -> (Vec<Vec<u8>>, Vec<u8>) {
        let key = fresh_key();
        (vec![self.sign(&leaf_params(id), &key)], key.serialize_der())
    }

    fn intermediate(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Ca {
        let mut child = ca_of(name, fresh_key(), change);
        child.der = self.sign(&child.params, &child.key);
        child
    }
}

/// The trust bundle of the forms: one good root and some that are out of their time.
pub struct World {
    pub good: Ca,
    expired: Ca,
    future: Ca,
    stranger: Ca,
}

impl World {
    pub fn new() -> Self {
        let algorithm = &PKCS_ECDSA_P256_SHA256;
        Self {
            good: ca("good", &PKCS_ECDSA_P384_SHA384),
            expired: ca_of("expired", fresh_key(), |p| p.not_after = date_time_ymd(2024, 1, 1)),
            future: ca_of("future", fresh_key(), |p| p.not_before = date_time_ymd(2098, 1, 1)),
            stranger: ca("stranger", algorithm),
        }
    }

    /// DER of the bundle that both sides hold.
    pub fn roots(&self) -> Vec<Vec<u8>> {
        vec![self.expired.der.clone(), self.good.der.clone(), self.future.der.clone()]
    }

    fn form(
        &self,
        name: &'static str,
        code: Option<&'static str>,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Form {
        self.form_by(&self.good, name, code, change)
    }

    fn form_by(
        &self,
        ca: &Ca,
        name: &'static str,
        code: Option<&'static str>,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Form {
        let (mut params, key) = (leaf_params(ID), fresh_key());
        change(&mut params);
        let chain = vec![ca.sign(&params, &key)];
        Form { name, chain, key: key.serialize_der(), as_client: code, as_server: code }
    }

    /// Those that must pass.
    pub fn right(&self) -> Vec<Form> {
        let child = self.good.intermediate("child", |_| {});
        let grandchild = child.intermediate("grandchild", |_| {});
        let mut through = self.form_by(&grandchild, "two intermediates", None, |_| {});
        through.chain.extend([grandchild.der, child.der]);
        vec![
            self.form("plain", None, |_| {}),
            through,
            self.form("explicitly no CA", None, |p| p.is_ca = IsCa::ExplicitNoCa),
        ]
    }

    /// Those that must not.
    pub fn wrong(&self) -> Vec<Form> {
        let mut all = self.wrong_names();
        all.extend(self.wrong_uses());
        all.extend(self.wrong_chains());
        all
    }

    fn wrong_names(&self) -> Vec<Form> {
        let id = ID.as_bytes();
        let other = other_name(ID);
        let other_nul = other_name("spiffe://cluster.local/ns/prod/sa/web\0.evil");
        let named =
            |name, code, names: &[(u8, &[u8])]| self.form(name, Some(code), |p| p.custom_extensions = vec![san(names)]);
        let uri = |name, code, text: &str| named(name, code, &[(URI, text.as_bytes())]);
        vec![
            uri("other trust domain", "svid_trust_domain", "spiffe://other.local/ns/prod/sa/web"),
            uri("longer trust domain", "svid_trust_domain", "spiffe://cluster.local.evil/ns/prod/sa/web"),
            named("two URIs", "svid_san", &[(URI, id), (URI, b"spiffe://cluster.local/ns/prod/sa/other")]),
            named("the same URI twice", "svid_san", &[(URI, id), (URI, id)]),
            named("URI and DNS", "svid_san", &[(URI, id), (DNS, b"web.prod")]),
            named("DNS and URI", "svid_san", &[(DNS, b"web.prod"), (URI, id)]),
            named("URI and email", "svid_san", &[(URI, id), (EMAIL, b"a@b")]),
            named("URI and IP", "svid_san", &[(URI, id), (IP, &[127, 0, 0, 1])]),
            named("URI and otherName", "svid_san", &[(URI, id), (OTHER, &other)]),
            named("DNS alone", "svid_san", &[(DNS, id)]),
            named("email alone", "svid_san", &[(EMAIL, id)]),
            named("otherName alone", "svid_san", &[(OTHER, &other)]),
            named("otherName with NUL", "svid_san", &[(OTHER, &other_nul)]),
            named("empty", "svid_san", &[]),
            named("empty URI", "svid_san", &[(URI, b"")]),
            named("not ASCII", "svid_san", &[(URI, "spiffe://cluster.local/ns/prod/sa/wéb".as_bytes())]),
            uri("NUL at the end", "svid_san", "spiffe://cluster.local/ns/prod/sa/web\0"),
            uri("NUL and more", "svid_san", "spiffe://cluster.local/ns/prod/sa/web\0.evil"),
            uri("percent", "svid_san", "spiffe://cluster.local/ns/prod/sa/%77eb"),
            uri("percent slash", "svid_san", "spiffe://cluster.local/ns/prod%2Fsa/web"),
            uri("upper-case scheme", "svid_san", "SPIFFE://cluster.local/ns/prod/sa/web"),
            uri("upper-case trust domain", "svid_san", "spiffe://Cluster.Local/ns/prod/sa/web"),
            uri("upper-case account", "svid_san", "spiffe://cluster.local/ns/prod/sa/Web"),
            uri("slash at the end", "svid_san", "spiffe://cluster.local/ns/prod/sa/web/"),
            uri("two slashes", "svid_san", "spiffe://cluster.local//ns/prod/sa/web"),
            uri("dot segments", "svid_san", "spiffe://cluster.local/ns/dev/../prod/sa/web"),
            uri("port", "svid_san", "spiffe://cluster.local:443/ns/prod/sa/web"),
            uri("user", "svid_san", "spiffe://a@cluster.local/ns/prod/sa/web"),
            uri("query", "svid_san", "spiffe://cluster.local/ns/prod/sa/web?x"),
            uri("fragment", "svid_san", "spiffe://cluster.local/ns/prod/sa/web#x"),
            uri("https", "svid_san", "https://cluster.local/ns/prod/sa/web"),
            uri("another path", "svid_san", "spiffe://cluster.local/sa/web/ns/prod"),
            self.form("no name at all", Some("svid_san"), |p| p.custom_extensions.clear()),
            self.form("common name alone", Some("svid_san"), |p| {
                p.custom_extensions.clear();
                p.distinguished_name.push(DnType::CommonName, ID);
            }),
            self.form("two name extensions", Some("svid_san"), |p| {
                p.custom_extensions.push(san(&[(URI, b"spiffe://cluster.local/ns/prod/sa/other")]));
            }),
            self.form("name extension that is no list", Some("svid_san"), |p| {
                p.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 5, 29, 17], vec![0x05, 0x00])];
            }),
        ]
    }

    fn wrong_uses(&self) -> Vec<Form> {
        let eku = |name, ekus: &[Eku], as_client, as_server| {
            let form = self.form(name, None, |p| p.extended_key_usages = ekus.to_vec());
            Form { as_client, as_server, ..form }
        };
        let refused = Some("svid_eku");
        let usage = |name, usages: &[KeyUsagePurpose]| {
            self.form(name, Some("svid_key_usage"), |p| p.key_usages = usages.to_vec())
        };
        let sign = KeyUsagePurpose::DigitalSignature;
        vec![
            eku("server use alone", &[Eku::ServerAuth], refused, None),
            eku("client use alone", &[Eku::ClientAuth], None, refused),
            eku("no extended use", &[], refused, refused),
            eku("any extended use", &[Eku::Any], refused, refused),
            eku("code signing", &[Eku::CodeSigning], refused, refused),
            usage("no key usage", &[]),
            usage("key agreement alone", &[KeyUsagePurpose::KeyAgreement]),
            usage("signs certificates", &[sign, KeyUsagePurpose::KeyCertSign]),
            usage("signs lists", &[sign, KeyUsagePurpose::CrlSign]),
            self.form("CA", Some("svid_is_ca"), |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
            self.form("CA of length 0", Some("svid_is_ca"), |p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0))),
            self.form("expired", Some("svid_expired"), |p| p.not_after = date_time_ymd(2024, 1, 1)),
            self.form("not yet valid", Some("svid_not_yet_valid"), |p| p.not_before = date_time_ymd(2098, 1, 1)),
            self.form("unknown critical extension", Some("svid_malformed"), |p| {
                let mut unknown = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![0x05, 0x00]);
                unknown.set_criticality(true);
                p.custom_extensions.push(unknown);
            }),
            self.form("20 KiB", Some("svid_too_large"), |p| {
                let padding = tlv(0x04, &[0; 20 * 1024]);
                p.custom_extensions.push(CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 2], padding));
            }),
        ]
    }

    fn wrong_chains(&self) -> Vec<Form> {
        let by = |ca: &Ca, name, code| self.form_by(ca, name, Some(code), |_| {});
        let behind = |ca: Ca, name, code| {
            let mut form = self.form_by(&ca, name, Some(code), |_| {});
            form.chain.push(ca.der);
            form
        };
        let key = fresh_key();
        let self_signed = leaf_params(ID).self_signed(&key).unwrap().der().to_vec();
        let self_signed = Form {
            chain: vec![self_signed],
            key: key.serialize_der(),
            ..by(&self.good, "self-signed", "svid_unknown_root")
        };
        // A leaf of ours that plays CA: its key signs for a name that it does not have.
        let leaf_key = fresh_key();
        let leaf_der = self.good.sign(&leaf_params("spiffe://cluster.local/ns/dev/sa/thief"), &leaf_key);
        let thief = Ca { params: leaf_params("spiffe://cluster.local/ns/dev/sa/thief"), key: leaf_key, der: leaf_der };
        let mut forged = by(&self.good, "forged signature", "svid_chain");
        forged.chain[0].last_mut().map(|b| *b ^= 1).unwrap();
        let mut trailing = by(&self.good, "bytes after the certificate", "svid_malformed");
        trailing.chain[0].push(0);
        let mut many = by(&self.good, "five intermediates", "svid_too_large");
        many.chain.extend(std::iter::repeat_n(self.good.der.clone(), 5));
        let fake = ca_of("good", fresh_key(), |_| {});
        vec![
            by(&self.expired, "expired root", "svid_root_expired"),
            by(&self.future, "root not yet valid", "svid_root_expired"),
            by(&self.stranger, "unknown root", "svid_unknown_root"),
            behind(ca("stranger", &PKCS_ECDSA_P256_SHA256), "brings its own root", "svid_unknown_root"),
            behind(fake, "root of the same name", "svid_chain"),
            self_signed,
            behind(thief, "signed by a leaf", "svid_chain"),
            behind(
                self.good.intermediate("old", |p| p.not_after = date_time_ymd(2024, 1, 1)),
                "expired intermediate",
                "svid_expired",
            ),
            behind(
                self.good.intermediate("servers", |p| p.extended_key_usages = vec![Eku::CodeSigning]),
                "intermediate for another use",
                "svid_chain",
            ),
            forged,
            trailing,
            many,
        ]
    }
}
