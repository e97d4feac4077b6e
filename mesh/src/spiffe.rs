//! The one form of identity in the mesh, `spiffe://<trust domain>/ns/<namespace>/sa/<account>`, and its parser.
//!
//! Identities are compared as parsed, part by part. Source: SPIFFE-ID.md sections 2.1 to 2.4.

use std::fmt;
use std::str::FromStr;

/// A workload's SPIFFE ID.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    trust_domain: Box<str>,
    namespace: Box<str>,
    account: Box<str>,
}

/// Why a text is not a SPIFFE ID of a workload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeError {
    /// Not `spiffe://` in lower case.
    #[error("a SPIFFE ID begins with `spiffe://`")]
    Scheme,
    /// Longer than 2048 bytes (SPIFFE-ID section 2.3).
    #[error("a SPIFFE ID has at most 2048 bytes")]
    TooLong,
    /// The path is not `/ns/<namespace>/sa/<account>`.
    #[error("the path must be `/ns/<namespace>/sa/<account>`")]
    Path,
    /// A part is empty, too long, or holds a character that it may not.
    #[error("{part} `{value}` is empty, too long or has a character that is not allowed")]
    Part {
        /// `trust domain`, `namespace` or `account`.
        part: &'static str,
        /// As given, with control characters escaped.
        value: String,
    },
}

impl SpiffeId {
    /// Builds an ID from its parts.
    ///
    /// The trust domain is lower-case letters, digits, `.`, `-`, `_` (at most 255); the namespace a DNS label; the
    /// account a DNS subdomain. No percent-encoding exists in a SPIFFE ID, so none is accepted.
    ///
    /// # Errors
    /// [`SpiffeError::Part`] names the part that cannot stand in an ID.
    pub fn new(trust_domain: &str, namespace: &str, account: &str) -> Result<Self, SpiffeError> {
        let bad = |part, value: &str| SpiffeError::Part { part, value: value.escape_debug().to_string() };
        if !is_trust_domain(trust_domain) {
            return Err(bad("trust domain", trust_domain));
        }
        if !is_dns_label(namespace) {
            return Err(bad("namespace", namespace));
        }
        if !is_dns_subdomain(account) {
            return Err(bad("account", account));
        }
        Ok(Self { trust_domain: trust_domain.into(), namespace: namespace.into(), account: account.into() })
    }

    /// The trust domain, e.g. `cluster.local`.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// The Kubernetes namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The Kubernetes ServiceAccount.
    pub fn account(&self) -> &str {
        &self.account
    }
}

/// Whether `text` may be a trust domain (SPIFFE-ID section 2.1).
pub fn is_trust_domain(text: &str) -> bool {
    (1..=255).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_'))
}

/// Whether `text` is a DNS label as Kubernetes has it for namespaces (RFC 1123, at most 63 bytes).
pub fn is_dns_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Whether `text` is a DNS subdomain as Kubernetes has it for most names (RFC 1123, at most 253 bytes).
pub fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_label)
}

impl FromStr for SpiffeId {
    type Err = SpiffeError;

    fn from_str(text: &str) -> Result<Self, SpiffeError> {
        if text.len() > 2048 {
            return Err(SpiffeError::TooLong);
        }
        let rest = text.strip_prefix("spiffe://").ok_or(SpiffeError::Scheme)?;
        let mut parts = rest.split('/');
        let trust_domain = parts.next().unwrap_or_default();
        match (parts.next(), parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some("ns"), Some(namespace), Some("sa"), Some(account), None) => {
                Self::new(trust_domain, namespace, account)
            }
            _ => Err(SpiffeError::Path),
        }
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/ns/{}/sa/{}", self.trust_domain, self.namespace, self.account)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests;
