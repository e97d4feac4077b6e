//! What a Service's port declares that it speaks: `appProtocol` where there is one, else the first word of the port's name.

use crate::problem::{Problem, Severity};
use crate::source::resource::{Service, ServicePort};
use causeway_mesh::wire::Protocol;

/// What the port declares; nothing where nobody knows the word, so that the proxy finds out for itself.
pub(super) fn protocol(port: &ServicePort) -> Protocol {
    match &port.app_protocol {
        Some(declared) => by_app_protocol(declared).unwrap_or_default(),
        None => by_name(&port.name).unwrap_or_default(),
    }
}

/// Words that others than Kubernetes prefix with a domain of theirs are theirs to define (KEP-3726).
fn by_app_protocol(declared: &str) -> Option<Protocol> {
    let declared = declared.to_ascii_lowercase();
    match declared.strip_prefix("kubernetes.io/") {
        Some(word @ ("h2c" | "ws" | "wss")) => by_word(word),
        Some(_) => None,
        None => by_word(&declared),
    }
}

fn by_name(name: &str) -> Option<Protocol> {
    let name = name.to_ascii_lowercase();
    // The one word of the list that has a dash of its own.
    let word = if name.starts_with("grpc-web") { "grpc-web" } else { name.split('-').next().unwrap_or_default() };
    by_word(word)
}

fn by_word(word: &str) -> Option<Protocol> {
    Some(match word {
        // gRPC-Web is HTTP of any version; a client's HTTP/2 is known by its preface.
        "http" | "http1" | "ws" | "grpc-web" => Protocol::Http1,
        "http2" | "h2c" | "grpc" => Protocol::Http2,
        "tls" | "https" | "wss" => Protocol::Tls,
        "tcp" | "mongo" | "mongodb" | "mysql" | "redis" | "postgres" | "postgresql" | "kafka" | "amqp" | "mqtt" => {
            Protocol::Tcp
        }
        _ => return None,
    })
}

/// Reports the words that nobody knows.
pub(super) fn examine(service: &Service, problems: &mut Vec<Problem>) {
    for port in &service.ports {
        let Some(declared) = port.app_protocol.as_deref().filter(|p| by_app_protocol(p).is_none()) else { continue };
        let message = format!(
            "`{}` is no protocol that Causeway knows; what the port speaks is found out from each connection",
            declared.escape_debug()
        );
        let field = format!("spec.ports[{}].appProtocol", port.index);
        let advice = "Write http, http2, grpc, grpc-web, https, tls, tcp, mongo, mysql, redis, kubernetes.io/h2c, \
                      kubernetes.io/ws or kubernetes.io/wss; or leave it out.";
        problems.push(service.meta.problem(Severity::Warning, "unknown_app_protocol", &field, &message, advice));
    }
}
