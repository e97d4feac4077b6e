//! The server name that a TLS client asks for, read from its ClientHello and never decrypted, and the route it takes.
//!
//! Reading is bounded and tells nothing apart that a later byte could change; whether a name is worth trusting is left to
//! the server's certificate, which is not ours to see.

use std::sync::Arc;

use crate::split::Split;

/// What the first bytes of a connection say of the server's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sni {
    /// Undecided: ask again with more bytes.
    NeedMore,
    /// The name, lower case.
    Name(String),
    /// A ClientHello without a name, or with one that is no host name.
    Nameless,
    /// No ClientHello, a broken one, or one longer than [`LIMIT`].
    NoHello,
}

/// After this many undecided bytes the answer is [`Sni::NoHello`]. Hellos with post-quantum keys have about 2 KiB.
pub const LIMIT: usize = 32 * 1024;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;
/// A record's longest payload (RFC 8446 section 5.1).
const RECORD: usize = 1 << 14;

/// Reads the server name from the bytes seen so far.
///
/// Once the answer is not [`Sni::NeedMore`] more bytes never change it, and however the bytes arrive in pieces the
/// answer is that of the whole.
pub fn read(bytes: &[u8]) -> Sni {
    let seen = &bytes[..bytes.len().min(LIMIT)];
    match hello(seen) {
        Collected::Whole(body) => match server_name(&body) {
            Some(Some(name)) => Sni::Name(name),
            Some(None) => Sni::Nameless,
            None => Sni::NoHello,
        },
        Collected::Part if bytes.len() < LIMIT => Sni::NeedMore,
        Collected::Part | Collected::Other => Sni::NoHello,
    }
}

enum Collected {
    /// The body of the ClientHello.
    Whole(Vec<u8>),
    Part,
    Other,
}

/// The first handshake message, put together from as many records as it takes.
fn hello(mut rest: &[u8]) -> Collected {
    let mut message: Vec<u8> = Vec::new();
    loop {
        let (head, payload) = rest.split_at(rest.len().min(5));
        let is_record = [HANDSHAKE, 3].iter().zip(head).all(|(want, got)| want == got)
            && head.get(2).is_none_or(|minor| *minor <= 4);
        if !is_record {
            return Collected::Other;
        }
        let &[_, _, _, high, low] = head else { return Collected::Part };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length == 0 || length > RECORD {
            return Collected::Other;
        }
        message.extend_from_slice(&payload[..payload.len().min(length)]);
        match message[..] {
            [kind, ..] if kind != CLIENT_HELLO => return Collected::Other,
            [_, a, b, c, ..] => {
                let whole = u32::from_be_bytes([0, a, b, c]) as usize;
                if whole > LIMIT {
                    return Collected::Other;
                }
                if message.len() - 4 >= whole {
                    return Collected::Whole(message[4..4 + whole].to_vec());
                }
            }
            _ => {}
        }
        if payload.len() < length {
            return Collected::Part;
        }
        rest = &payload[length..];
    }
}

/// The name in the body of a ClientHello (RFC 8446 section 4.1.2, RFC 6066 section 3); None where the body is broken.
fn server_name(body: &[u8]) -> Option<Option<String>> {
    let mut body = Reader(body);
    body.take(2 + 32)?; // version, random
    body.vector(1)?; // session id
    body.vector(2)?; // cipher suites
    body.vector(1)?; // compression methods
    if body.0.is_empty() {
        return Some(None); // before extensions there were
    }
    let mut extensions = Reader(body.vector(2)?);
    while !extensions.0.is_empty() {
        let kind = extensions.number(2)?;
        let content = extensions.vector(2)?;
        if kind == usize::from(SERVER_NAME) {
            let mut list = Reader(Reader(content).vector(2)?);
            let kind = list.take(1)?;
            let name = list.vector(2)?;
            return Some(if kind == [HOST_NAME] { host(name) } else { None });
        }
    }
    Some(None)
}

/// A host name in lower case, without trailing dot.
fn host(name: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(name).ok()?;
    let parsed = crate::name::host_port(text).ok()?;
    (parsed.port.is_none() && !parsed.host.contains(':')).then(|| parsed.host.into_owned())
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// Big-endian, of one or two bytes.
    fn number(&mut self, bytes: usize) -> Option<usize> {
        Some(self.take(bytes)?.iter().fold(0, |sum, b| (sum << 8) | usize::from(*b)))
    }

    /// What a length in front of it bounds.
    fn vector(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let length = self.number(bytes)?;
        self.take(length)
    }
}

/// A route of TLS connections by the name that they ask for.
#[derive(Clone, Debug)]
pub struct TlsRoute {
    /// `namespace/name#index` of the rule that it comes from.
    pub name: Arc<str>,
    /// Any of them; none: every name, and none at all.
    pub hosts: Vec<SniHost>,
    /// Where a connection that it takes goes.
    pub split: Split,
}

/// A name that a route takes, lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SniHost {
    /// This one.
    Exact(Box<str>),
    /// One or more labels in front of this, which begins with a dot.
    Under(Box<str>),
}

impl SniHost {
    /// Reads `name` or `*.name`, lower case; None where it is neither.
    pub fn parse(text: &str) -> Option<Self> {
        let is_name = |name: &str| {
            crate::name::host_port(name).is_ok_and(|h| h.port.is_none() && h.host == name && !name.contains(':'))
        };
        match text.strip_prefix('*') {
            Some(under) => under.strip_prefix('.').is_some_and(is_name).then(|| Self::Under(under.into())),
            None => is_name(text).then(|| Self::Exact(text.into())),
        }
    }

    /// Whether it takes `name`, which is lower case.
    pub fn takes(&self, name: &str) -> bool {
        match self {
            Self::Exact(host) => **host == *name,
            Self::Under(under) => name.len() > under.len() && name.ends_with(&**under),
        }
    }
}

/// The first route that takes `name`; None: the destination's own split holds.
pub fn select<'r>(routes: &'r [TlsRoute], name: Option<&str>) -> Option<&'r TlsRoute> {
    routes.iter().find(|route| {
        route.hosts.is_empty() || name.is_some_and(|name| route.hosts.iter().any(|host| host.takes(name)))
    })
}

#[cfg(test)]
mod tests;
