//! The trust bundle file: PEM roots that an installer mounts; read again when its content changes, kept when it breaks.

use std::path::PathBuf;
use std::sync::Arc;

use causeway_mesh::svid::Roots;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Larger files are not bundles.
const MAX_FILE: u64 = 1 << 20;

/// The file and what it said last.
#[derive(Debug)]
pub struct BundleFile {
    path: PathBuf,
    trust_domain: String,
    content: Vec<u8>,
    roots: Option<Arc<Roots>>,
    complained: bool,
}

impl BundleFile {
    /// Nothing is read yet.
    pub fn new(path: PathBuf, trust_domain: &str) -> Self {
        Self { path, trust_domain: trust_domain.to_owned(), content: Vec::new(), roots: None, complained: false }
    }

    /// The roots of the last good content.
    pub fn roots(&self) -> Option<Arc<Roots>> {
        self.roots.clone()
    }

    /// Reads the file and says whether its roots changed. A missing or broken file changes nothing and is told once.
    pub async fn refresh(&mut self) -> bool {
        let parsed = match self.read().await {
            Ok(content) if content == self.content => return false,
            Ok(content) => parse(&self.trust_domain, &content).map(|roots| (content, roots)),
            Err(error) => Err(error.to_string()),
        };
        match parsed {
            Ok((content, roots)) => {
                tracing::info!(path = %self.path.display(), roots = roots.der().count(), "trust bundle read");
                (self.content, self.roots, self.complained) = (content, Some(Arc::new(roots)), false);
                true
            }
            Err(error) => {
                if !self.complained {
                    tracing::warn!(path = %self.path.display(), error, "trust bundle not read; the last one stays");
                }
                self.complained = true;
                false
            }
        }
    }

    async fn read(&self) -> std::io::Result<Vec<u8>> {
        if tokio::fs::metadata(&self.path).await?.len() > MAX_FILE {
            return Err(std::io::Error::other("larger than 1 MiB"));
        }
        tokio::fs::read(&self.path).await
    }
}

fn parse(trust_domain: &str, pem: &[u8]) -> Result<Roots, String> {
    let roots: Vec<Vec<u8>> = CertificateDer::pem_slice_iter(pem)
        .map(|cert| cert.map(|c| c.to_vec()))
        .collect::<Result<_, _>>()
        .map_err(|e| format!("not PEM: {e}"))?;
    Roots::new(trust_domain, &roots).map_err(|e| e.to_string())
}
