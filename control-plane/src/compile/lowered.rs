//! Routes of any API in one shape. Each API is turned into it once per change (`virtual_service`, `gateway`); lookups then
//! only choose what applies to a client and resolve destinations against the catalog.

use super::Name;
use super::scope::Described;
use crate::source::Meta;
use causeway_crds::common::Destination;
use causeway_mesh::wire;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// One route resource of any API. What is not understood of it is left out already.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RouteResource {
    pub(super) meta: Arc<Meta>,
    /// The Services whose traffic it routes.
    pub(super) attachments: Vec<Attachment>,
    /// Namespaces that see it; empty: by the rule of producer and consumer alone.
    pub(super) export_to: Vec<String>,
    pub(super) http: Vec<HttpRule>,
    pub(super) tcp: Vec<TcpRule>,
    pub(super) tls: Vec<TlsRule>,
    /// The author's order holds within the resource (VirtualService), rather than the precedence of each match.
    pub(super) in_order: bool,
    /// Other resources that it is made of: VirtualServices that it delegates to.
    pub(super) delegates: Vec<Arc<Meta>>,
}

/// A Service whose traffic a resource routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attachment {
    pub(super) service: Name,
    /// The Service's port; None: all of them.
    pub(super) port: Option<u16>,
    /// Not by a wildcard.
    pub(super) is_exact: bool,
    /// Length of the host as written.
    pub(super) host_length: usize,
}

/// One rule for HTTP requests.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct HttpRule {
    /// Within the list as the author wrote it.
    pub(super) index: usize,
    /// `spec.http[3]`, `spec.rules[3]`
    pub(super) field: String,
    /// The other resource that it stands in; None: the resource itself.
    pub(super) written_in: Option<Arc<Meta>>,
    /// Any of them; none: every request.
    pub(super) matches: Vec<RuleMatch>,
    /// None where `template.action` answers by itself (redirect, direct response).
    pub(super) forward: Option<Forward>,
    pub(super) mirrors: Vec<MirrorTo>,
    /// All the rest: name, timeout, headers, rewrite, CORS, fault, retry, redirect or direct response.
    pub(super) template: wire::Route,
}

/// A copy of a share of the requests.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct MirrorTo {
    pub(super) to: Reference,
    pub(super) share_ppm: u32,
    /// `spec.http[0].mirrors[1].destination`
    pub(super) field: String,
}

/// Conditions of a rule. Those on the client are decided by the compiler, those on the request by the proxy.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct RuleMatch {
    pub(super) client: ClientMatch,
    pub(super) request: wire::Match,
}

/// What a rule asks of the client and of the address that it uses. All that is set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ClientMatch {
    /// The Service's port.
    pub(super) port: Option<u16>,
    pub(super) namespace: Option<String>,
    /// Labels of its pod.
    pub(super) labels: BTreeMap<String, String>,
    /// `(namespace, name)` of its ServiceAccount.
    pub(super) account: Option<Name>,
    /// One of them must hold the client's address; none: any.
    pub(super) sources: Vec<Subnet>,
    /// One of them must hold an address of the Service; none: any.
    pub(super) destinations: Vec<Subnet>,
}

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subnet {
    pub(super) address: IpAddr,
    /// Bits that count.
    pub(super) length: u8,
}

/// Where requests go.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Forward {
    pub(super) destinations: Vec<Weighted>,
    pub(super) key: Option<wire::SplitKey>,
    /// Lower case; empty: off. See `wire::Split`.
    pub(super) version_header: String,
}

/// A destination with its share.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Weighted {
    pub(super) to: Reference,
    pub(super) weight: u32,
    pub(super) request_headers: Option<wire::HeaderChanges>,
    pub(super) response_headers: Option<wire::HeaderChanges>,
    /// `spec.http[0].route[1]`, `spec.rules[0].backendRefs[1]`
    pub(super) field: String,
}

/// What a destination is, as far as the resource itself says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reference {
    /// Istio's way: a host, resolved in the namespace of the resource when it is looked up. While it does not exist, its
    /// share goes to the others.
    Named(Destination),
    /// A Service that exists and that may be named from here.
    Service { service: Name, port: u16 },
    /// Its share is answered with 500 and this text.
    Broken(String),
}

/// One rule for TCP connections.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TcpRule {
    pub(super) index: usize,
    /// Any of them; none: every connection.
    pub(super) matches: Vec<ClientMatch>,
    pub(super) destinations: Vec<Weighted>,
}

/// One rule for TLS connections that are not ended here.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TlsRule {
    pub(super) index: usize,
    /// Any of them; none: every connection.
    pub(super) matches: Vec<SniMatch>,
    pub(super) destinations: Vec<Weighted>,
}

/// Conditions of a [`TlsRule`].
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct SniMatch {
    pub(super) client: ClientMatch,
    /// Lower case, `*.` in front takes one or more labels; none: every name, and none at all.
    pub(super) hosts: Vec<String>,
}

impl Described for RouteResource {
    fn meta(&self) -> &Meta {
        &self.meta
    }
}

impl RouteResource {
    /// The Services that it routes, one for each attachment.
    pub(super) fn services(&self) -> impl Iterator<Item = &Name> {
        self.attachments.iter().map(|at| &at.service)
    }

    /// Every destination that gets traffic of its own, mirrors left out.
    pub(super) fn destinations(&self) -> impl Iterator<Item = &Weighted> {
        let http = self.http.iter().filter_map(|r| r.forward.as_ref()).flat_map(|f| &f.destinations);
        let tcp = self.tcp.iter().flat_map(|r| &r.destinations);
        http.chain(tcp).chain(self.tls.iter().flat_map(|r| &r.destinations))
    }

    /// Everything that it names as a destination.
    pub(super) fn references(&self) -> impl Iterator<Item = &Reference> {
        let mirrors = self.http.iter().flat_map(|r| &r.mirrors).map(|m| &m.to);
        self.destinations().map(|d| &d.to).chain(mirrors)
    }

    /// Every condition on the client.
    pub(super) fn clients(&self) -> impl Iterator<Item = &ClientMatch> {
        let http = self.http.iter().flat_map(|r| &r.matches).map(|m| &m.client);
        let tcp = self.tcp.iter().flat_map(|r| &r.matches);
        http.chain(tcp).chain(self.tls.iter().flat_map(|r| &r.matches).map(|m| &m.client))
    }
}

impl ClientMatch {
    /// Whether nothing is asked, so that the condition is the same for everybody.
    pub(super) fn is_for_everybody(&self) -> bool {
        *self == Self::default()
    }
}

impl Subnet {
    /// Reads `10.1.0.0/16`, `fd00::/8` or a single address.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/').map_or((text, None), |(a, l)| (a, Some(l)));
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            Some(l) => l.parse().ok().filter(|l| *l <= most)?,
            None => most,
        };
        Some(Self { address, length })
    }

    pub(super) fn holds(&self, other: IpAddr) -> bool {
        match (self.address, other) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                (a.to_bits() ^ b.to_bits()).checked_shr(32 - u32::from(self.length)).unwrap_or(0) == 0
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                (a.to_bits() ^ b.to_bits()).checked_shr(128 - u32::from(self.length)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::Subnet;

    #[test]
    fn a_subnet_holds_what_begins_with_its_bits() {
        let holds = |subnet: &str, address: &str| Subnet::parse(subnet).unwrap().holds(address.parse().unwrap());
        assert!(holds("10.1.0.0/16", "10.1.255.1") && !holds("10.1.0.0/16", "10.2.0.1"));
        assert!(
            holds("0.0.0.0/0", "255.255.255.255") && holds("10.1.0.1", "10.1.0.1") && !holds("10.1.0.1", "10.1.0.2")
        );
        assert!(holds("fd00::/8", "fdff::1") && !holds("fd00::/8", "fe00::1") && !holds("::/0", "10.0.0.1"));
        ["", "10.1/16", "10.1.0.0/33", "::/129", "a", "10.0.0.0/-1"]
            .iter()
            .for_each(|t| assert!(Subnet::parse(t).is_none()));
    }
}
