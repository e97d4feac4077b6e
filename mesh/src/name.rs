//! Host names as traffic and configuration write them: authorities, the Kubernetes short forms, subscriptions.

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::spiffe::{is_dns_label, is_dns_subdomain};

/// An authority, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort<'a> {
    /// Lower case, without trailing dot; an IP address in its canonical form and without brackets.
    pub host: Cow<'a, str>,
    /// None where the text has none.
    pub port: Option<u16>,
}

/// Why a text is not `host` or `host:port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing before the port.
    #[error("the host is empty")]
    EmptyHost,
    /// Longer than a DNS name may be.
    #[error("the host is longer than 253 bytes")]
    TooLong,
    /// Something that is neither a letter, a digit, `-`, `_` nor a dot between labels.
    #[error("the host has a character or an empty label that a host name may not have")]
    Character,
    /// Brackets without an IPv6 address, or an IPv6 address without brackets.
    #[error("an IPv6 address must be valid, without zone, and stand in brackets")]
    Ipv6,
    /// A host that ends in a number and is no IPv4 address in dotted decimal form.
    #[error("a host that ends in a number must be an IPv4 address in dotted decimal form")]
    Ipv4,
    /// Not 1 to 65535 in plain digits.
    #[error("the port must be a number from 1 to 65535 without leading zeros")]
    Port,
}

/// Parses the value of `Host`, `:authority`, or of a CONNECT target.
///
/// # Errors
/// What makes the text ambiguous or invalid, see [`NameError`]. Userinfo, percent-encoding and anything that is not
/// ASCII are refused, since two readers could take them differently.
pub fn host_port(text: &str) -> Result<HostPort<'_>, NameError> {
    if let Some(rest) = text.strip_prefix('[') {
        let (inside, after) = rest.split_once(']').ok_or(NameError::Ipv6)?;
        let address: Ipv6Addr = inside.parse().map_err(|_| NameError::Ipv6)?;
        let canonical = address.to_string();
        let host = if canonical == inside { Cow::Borrowed(inside) } else { Cow::Owned(canonical) };
        let port = match after.strip_prefix(':') {
            Some(digits) => Some(port(digits)?),
            None if after.is_empty() => None,
            None => return Err(NameError::Character),
        };
        return Ok(HostPort { host, port });
    }
    let (host, port) = match memchr::memchr(b':', text.as_bytes()).map(|colon| text.split_at(colon)) {
        Some((_, rest)) if memchr::memchr(b':', &rest.as_bytes()[1..]).is_some() => return Err(NameError::Ipv6),
        Some((host, rest)) => (host, Some(port(&rest[1..])?)),
        None => (text, None),
    };
    Ok(HostPort { host: host_name(host)?, port })
}

fn port(digits: &str) -> Result<u16, NameError> {
    let is_plain = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
    if is_plain { digits.parse().map_err(|_| NameError::Port) } else { Err(NameError::Port) }
}

fn host_name(text: &str) -> Result<Cow<'_, str>, NameError> {
    let host = text.strip_suffix('.').unwrap_or(text);
    if host.is_empty() {
        return Err(NameError::EmptyHost);
    }
    if host.len() > 253 {
        return Err(NameError::TooLong);
    }
    let mut has_upper = false;
    for byte in host.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {}
            b'A'..=b'Z' => has_upper = true,
            _ => return Err(NameError::Character),
        }
    }
    if host.split('.').any(str::is_empty) {
        return Err(NameError::Character);
    }
    // Resolvers read `127.1`, `0x7f000001` and `0177.0.0.1` as addresses; a policy would read them as names.
    let last = host.rsplit('.').next().unwrap_or_default();
    let is_number = last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x") || last.starts_with("0X");
    if is_number && host.parse::<Ipv4Addr>().is_err() {
        return Err(NameError::Ipv4);
    }
    Ok(if has_upper { Cow::Owned(host.to_ascii_lowercase()) } else { Cow::Borrowed(host) })
}

/// A host name read as the name of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName {
    /// The Service.
    pub service: String,
    /// Its namespace.
    pub namespace: String,
    /// The one pod of a headless Service that is meant, by its hostname.
    pub pod: Option<String>,
}

/// Reads `host` (lower case, no trailing dot) as a pod in `namespace` would through its DNS search path.
///
/// Known forms: `svc`, `svc.ns`, `svc.ns.svc`, `svc.ns.svc.<cluster domain>`, and one pod of a headless Service as
/// `pod.svc.ns`, `pod.svc.ns.svc`, `pod.svc.ns.svc.<cluster domain>`. The short forms cannot be told from names of
/// the outside world (`example.com`): whether such a Service exists is for the caller to look up.
pub fn service(host: &str, namespace: &str, cluster_domain: &str) -> Option<ServiceName> {
    if !is_dns_subdomain(host) {
        return None;
    }
    let in_cluster =
        host.strip_suffix(cluster_domain).and_then(|h| h.strip_suffix('.')).filter(|_| !cluster_domain.is_empty());
    let (name, is_qualified) = match in_cluster {
        Some(rest) => (rest.strip_suffix(".svc")?, true),
        None => match host.strip_suffix(".svc") {
            Some(rest) if rest.contains('.') => (rest, true),
            _ => (host, false),
        },
    };
    let labels: Vec<&str> = name.split('.').collect();
    if !labels.iter().all(|l| is_dns_label(l)) {
        return None;
    }
    let found = |service: &str, namespace: &str, pod: Option<&str>| {
        Some(ServiceName { service: service.to_owned(), namespace: namespace.to_owned(), pod: pod.map(str::to_owned) })
    };
    match labels[..] {
        [service] if !is_qualified => found(service, namespace, None),
        [service, namespace] => found(service, namespace, None),
        [pod, service, namespace] => found(service, namespace, Some(pod)),
        _ => None,
    }
}

/// The text by which a destination is subscribed: `host:port`, IPv6 in brackets.
pub fn subscription(host: &str, port: u16) -> String {
    match host.parse::<Ipv6Addr>() {
        Ok(address) => format!("[{address}]:{port}"),
        Err(_) => format!("{host}:{port}"),
    }
}

#[cfg(test)]
mod tests;
