//! The certificate rule as rustls sees it: the one crypto provider, a verifier for each side, and the two
//! configurations that every TLS connection of Causeway is made from.
//!
//! TLS 1.3 only; no tickets, no resumption and no early data, so that each connection is judged by the rule and the
//! roots of its own moment.

use std::error::Error as StdError;
use std::fmt;
use std::sync::{Arc, LazyLock};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, CommonState, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    ServerConfig, SignatureScheme,
};

use super::{Roots, SvidError, Usage, leaf_identity, verify};
use crate::spiffe::SpiffeId;

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    Arc::new(CryptoProvider {
        // AES-128 first: it is the cheapest where the processor has AES, which servers have.
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        // Post-quantum first.
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1],
        ..default_provider()
    })
});

/// The one crypto provider: aws-lc-rs, TLS 1.3 suites only, X25519MLKEM768 preferred. Never installed for the process.
pub fn provider() -> Arc<CryptoProvider> {
    PROVIDER.clone()
}

/// Where a verifier finds the roots of the moment; `None` refuses every peer.
pub type RootsSource = Arc<dyn Fn() -> Option<Arc<Roots>> + Send + Sync>;

/// Judges the certificates of those who connect to us.
pub struct ClientVerifier {
    roots: RootsSource,
    mandatory: bool,
}

impl ClientVerifier {
    /// Every client must present a certificate that passes.
    pub fn required(roots: RootsSource) -> Self {
        Self { roots, mandatory: true }
    }

    /// A client may present none; one that it does present must pass.
    pub fn optional(roots: RootsSource) -> Self {
        Self { roots, mandatory: false }
    }
}

/// Judges the certificate of the endpoint that we chose to connect to: it must be exactly that identity.
pub struct ServerVerifier {
    roots: RootsSource,
    expected: SpiffeId,
}

impl ServerVerifier {
    /// Whatever name the connection was made with, only `expected` passes.
    pub fn new(expected: SpiffeId, roots: RootsSource) -> Self {
        Self { roots, expected }
    }
}

fn refuse(error: SvidError) -> Error {
    // The peer learns only that its certificate was refused; our side reads why through `cause`.
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
}

fn judge(
    roots: &RootsSource,
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
    usage: Usage,
) -> Result<SpiffeId, Error> {
    let roots = roots().ok_or_else(|| refuse(SvidError::NoRoots))?;
    verify(&roots, leaf, intermediates, now, usage).map_err(refuse)
}

fn only_tls13() -> Error {
    Error::General("TLS 1.2 is not offered".to_owned())
}

fn check_signature(
    message: &[u8],
    cert: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    verify_tls13_signature(message, cert, dss, &PROVIDER.signature_verification_algorithms)
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        judge(&self.roots, leaf, intermediates, now, Usage::Client).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        check_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        PROVIDER.signature_verification_algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let found = judge(&self.roots, leaf, intermediates, now, Usage::Server)?;
        if found == self.expected {
            return Ok(ServerCertVerified::assertion());
        }
        Err(refuse(SvidError::Identity { expected: self.expected.clone(), found }))
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        check_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        PROVIDER.signature_verification_algorithms.supported_schemes()
    }
}

impl fmt::Debug for ClientVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientVerifier").field("mandatory", &self.mandatory).finish_non_exhaustive()
    }
}

impl fmt::Debug for ServerVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerVerifier").field("expected", &self.expected).finish_non_exhaustive()
    }
}

/// The configuration of a side that accepts, presenting `key`; `alpn` in order of preference.
///
/// # Errors
/// Only where the provider has no TLS 1.3 suite, which the provider of this module has.
pub fn server_config(key: Arc<CertifiedKey>, clients: ClientVerifier, alpn: &[&[u8]]) -> Result<ServerConfig, Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(clients))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    Ok(config)
}

/// The configuration of a side that connects to exactly one identity, presenting `key` where there is one.
///
/// No SNI is sent: the server's name for the connection means nothing, its SPIFFE ID everything.
///
/// # Errors
/// As [`server_config`].
pub fn client_config(
    key: Option<Arc<CertifiedKey>>,
    server: ServerVerifier,
    alpn: &[&[u8]],
) -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous() // rustls' word for any verifier of one's own
        .with_custom_certificate_verifier(Arc::new(server));
    let mut config = match key {
        Some(key) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key))),
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.enable_sni = false;
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    Ok(config)
}

/// The identity of the peer of a finished handshake; `None` where it presented no certificate.
///
/// Only for connections made with the verifiers of this module, which have judged the certificate already.
pub fn identified(connection: &CommonState) -> Option<SpiffeId> {
    let [leaf, ..] = connection.peer_certificates()? else { return None };
    leaf_identity(leaf).ok()
}

/// The part of the rule that ended a handshake, found in whatever error wraps it (rustls or `std::io`).
pub fn cause<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a SvidError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(svid) = error.downcast_ref::<SvidError>() {
            return Some(svid);
        }
        if let Some(Error::InvalidCertificate(CertificateError::Other(OtherError(inner)))) = error.downcast_ref() {
            return inner.downcast_ref();
        }
        // An io::Error shows what it wraps by `get_ref`; its `source` skips one level.
        next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}
