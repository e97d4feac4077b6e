//! TLS to the endpoints.

use super::Tls;
use crate::compile::virtual_service::Report;
use causeway_crds::traffic_policy::{ClientTls, TlsMode};
use causeway_mesh::wire;

/// None where no mode is set, or where it cannot be, which is said.
pub(super) fn tls(report: &mut Report<'_>, at: &str, asked: &ClientTls) -> Option<Tls> {
    let mode = match asked.mode? {
        TlsMode::Disable => return Some(Tls::Off),
        TlsMode::IstioMutual => return Some(Tls::Mesh),
        mode @ (TlsMode::Simple | TlsMode::Mutual) => mode,
    };
    let path = |text: &Option<String>| text.clone().unwrap_or_default();
    let mut found = wire::OriginateTls {
        sni: asked.sni.clone().unwrap_or_default().to_ascii_lowercase(),
        subject_alt_names: asked.subject_alt_names.clone(),
        insecure_skip_verify: asked.insecure_skip_verify.unwrap_or_default(),
        roots_path: path(&asked.ca_certificates),
        ..wire::OriginateTls::default()
    };
    if mode == TlsMode::Mutual {
        for (name, value) in [("clientCertificate", &asked.client_certificate), ("privateKey", &asked.private_key)] {
            if value.as_deref().is_none_or(str::is_empty) {
                let message = "this field is required for MUTUAL; the server will see no certificate";
                report.error("missing_field", &format!("{at}.{name}"), message, "Write a path within the pod.");
            }
        }
        let both = Some((path(&asked.client_certificate), path(&asked.private_key)));
        let both = both.filter(|(certificate, key)| !certificate.is_empty() && !key.is_empty());
        (found.certificate_path, found.key_path) = both.unwrap_or_default();
    } else if asked.client_certificate.is_some() || asked.private_key.is_some() {
        let message = "with SIMPLE no certificate is shown to the server";
        report.warning("no_effect", at, message, "Use MUTUAL, or remove clientCertificate and privateKey.");
    }
    Some(Tls::Originate(found))
}
