//! TLS that the proxy begins on behalf of an application that speaks plain text, to servers outside of the mesh: what is
//! offered, and how the server's certificate is judged. Nothing of the mesh's own identity takes part.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use causeway_mesh::config::Backend;
use causeway_mesh::config::backend::OriginateTls;
use causeway_mesh::name;
use causeway_mesh::reject::Reject;
use causeway_mesh::svid;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::bulk::Bulk;
use crate::clock;
use crate::reply::Refusal;

/// Files are read again after this, so that certificates may be renewed under the same path.
const KEPT: Duration = Duration::from_secs(60);

/// Where systems keep the roots that they trust; the first that is there is used. `SSL_CERT_FILE` comes before them.
const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Why no TLS can be begun.
#[derive(Debug, thiserror::Error)]
pub enum OriginateError {
    /// A file that is named cannot be used.
    #[error("{path}: {message}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        message: String,
    },
    /// No root is given, and the system has none.
    #[error("there are no roots to judge the server by: set caCertificates, or give the proxy's container a bundle")]
    NoRoots,
    /// The server's name is none.
    #[error("`{0}` is not the name of a server")]
    Name(String),
    /// Rustls refuses what is given.
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
}

/// The configuration of one backend's TLS, kept for a while.
#[derive(Default)]
pub struct Origination {
    kept: Mutex<Option<(Instant, Arc<ClientConfig>)>>,
}

impl Origination {
    fn config(&self, tls: &OriginateTls) -> Result<Arc<ClientConfig>, OriginateError> {
        let now = clock::now();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made, config)) = &*kept
            && now.duration_since(*made) < KEPT
        {
            return Ok(Arc::clone(config));
        }
        match make(tls) {
            Ok(config) => {
                let config = Arc::new(config);
                *kept = Some((now, Arc::clone(&config)));
                Ok(config)
            }
            // A file that is being replaced just now: what was good a minute ago is good enough.
            Err(error) => match &*kept {
                Some((_, config)) => {
                    tracing::warn!(%error, "the last good TLS configuration stays");
                    Ok(Arc::clone(config))
                }
                None => Err(error),
            },
        }
    }

    /// Begins TLS on `stream`, to a server of `backend`; `alpn` is what must be agreed on, empty: nothing is offered.
    ///
    /// # Errors
    /// [`Reject::ConnectFailed`] with the reason.
    pub async fn begin(
        &self,
        backend: &Backend,
        tls: &OriginateTls,
        stream: TcpStream,
        alpn: &[u8],
    ) -> Result<TlsStream<Bulk<TcpStream>>, Refusal> {
        let failed = |why: String| Refusal::new(Reject::ConnectFailed, format!("{} tls: {why}", backend.name));
        let mut config = self.config(tls).map_err(|e| failed(e.to_string()))?;
        if !alpn.is_empty() {
            let mut own = (*config).clone();
            own.alpn_protocols = vec![alpn.to_vec()];
            config = Arc::new(own);
        }
        let server = server_name(backend, tls).map_err(|e| failed(e.to_string()))?;
        let stream =
            TlsConnector::from(config).connect(server, Bulk::new(stream)).await.map_err(|e| failed(e.to_string()))?;
        // A server that knows nothing of ALPN speaks HTTP/1.1.
        let agreed = stream.get_ref().1.alpn_protocol();
        if alpn == b"h2" && agreed != Some(alpn) {
            return Err(failed("the server does not speak HTTP/2".to_owned()));
        }
        Ok(stream)
    }
}

fn server_name(backend: &Backend, tls: &OriginateTls) -> Result<ServerName<'static>, OriginateError> {
    let of_dns = || {
        let parsed = name::host_port(backend.dns.first()?).ok()?;
        Some(parsed.host.into_owned())
    };
    let host = if tls.sni.is_empty() { of_dns().unwrap_or_default() } else { tls.sni.clone() };
    ServerName::try_from(host.clone()).map_err(|_| OriginateError::Name(host))
}

fn make(tls: &OriginateTls) -> Result<ClientConfig, OriginateError> {
    let provider = svid::provider();
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let verifier: Arc<dyn ServerCertVerifier> = if tls.insecure_skip_verify {
        Arc::new(Unverified { provider })
    } else {
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(tls)?), provider);
        let inner = inner.build().map_err(|e| rustls::Error::General(e.to_string()))?;
        let names = tls.subject_alt_names.iter().filter_map(|n| ServerName::try_from(n.clone()).ok()).collect();
        Arc::new(OfNames { inner, names, is_asked: !tls.subject_alt_names.is_empty() })
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    if tls.certificate_path.is_empty() {
        return Ok(builder.with_no_client_auth());
    }
    let chain = certificates(&tls.certificate_path)?;
    let key = PrivateKeyDer::from_pem_file(&tls.key_path).map_err(|e| file(&tls.key_path, &e))?;
    Ok(builder.with_client_auth_cert(chain, key)?)
}

fn file(path: &str, error: &dyn std::fmt::Display) -> OriginateError {
    OriginateError::File { path: path.to_owned(), message: error.to_string() }
}

fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, OriginateError> {
    let all = CertificateDer::pem_file_iter(path).map_err(|e| file(path, &e))?;
    let all: Vec<_> = all.collect::<Result<_, _>>().map_err(|e| file(path, &e))?;
    if all.is_empty() { Err(file(path, &"no certificate in it")) } else { Ok(all) }
}

/// The roots that are given; none: those of the system.
fn roots(tls: &OriginateTls) -> Result<RootCertStore, OriginateError> {
    let mut given: Vec<CertificateDer<'static>> = tls.roots.iter().cloned().map(CertificateDer::from).collect();
    if !tls.roots_path.is_empty() {
        given.extend(certificates(&tls.roots_path)?);
    }
    if given.is_empty() {
        let named = std::env::var("SSL_CERT_FILE").ok();
        let paths = named.as_deref().into_iter().chain(SYSTEM_ROOTS);
        let found = paths.into_iter().find(|path| Path::new(path).is_file()).ok_or(OriginateError::NoRoots)?;
        given = certificates(found)?;
    }
    let mut store = RootCertStore::empty();
    // Bundles of systems hold some that no verifier takes.
    let (added, _) = store.add_parsable_certificates(given);
    if added == 0 { Err(OriginateError::NoRoots) } else { Ok(store) }
}

/// Judges by roots, and by any of several names where some are given.
#[derive(Debug)]
struct OfNames {
    inner: Arc<WebPkiServerVerifier>,
    names: Vec<ServerName<'static>>,
    /// Names were given, though none of them may be one of a host: nothing passes then.
    is_asked: bool,
}

impl ServerCertVerifier for OfNames {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let judge =
            |name: &ServerName<'_>| self.inner.verify_server_cert(end_entity, intermediates, name, ocsp_response, now);
        if !self.is_asked {
            return judge(server_name);
        }
        let mut last = Err(rustls::Error::General("no name that the certificate may have is one of a host".into()));
        for name in &self.names {
            last = judge(name);
            if last.is_ok() {
                break;
            }
        }
        last
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// What `insecureSkipVerify` asks for: any certificate, as long as the server has its key.
#[derive(Debug)]
struct Unverified {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
