//! Inbound policy: the ports of the Service admit the frontend's mesh TLS identity and nobody else.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use linkerd2_proxy_api::inbound::authn::permit_mesh_tls::{Clients, PermitClientIdentities};
use linkerd2_proxy_api::inbound::authn::{Permit, PermitMeshTls, PermitUnauthenticated};
use linkerd2_proxy_api::inbound::inbound_server_policies_server::InboundServerPolicies;
use linkerd2_proxy_api::inbound::proxy_protocol::{Detect, Kind, Opaque};
use linkerd2_proxy_api::inbound::{Authn, Authz, Identity, Network, PortSpec, ProxyProtocol, Server};
use linkerd2_proxy_api::net::IpNetwork;
use tonic::{Request, Response, Status};

use crate::{Mesh, Once, millis, name, once, resource};

impl Mesh {
    fn server_of(&self, port: u32) -> Server {
        let detect = Detect { timeout: millis(10_000), ..Detect::default() };
        let opaque = port == u32::from(self.bytes);
        let permit = if opaque || port == u32::from(self.app) {
            let identities =
                PermitClientIdentities { identities: vec![Identity { name: name("frontend") }], suffixes: vec![] };
            Permit::MeshTls(PermitMeshTls { clients: Some(Clients::Identities(identities)) })
        } else {
            Permit::Unauthenticated(PermitUnauthenticated {}) // the proxy's own admin port
        };
        let kind = if opaque { Kind::Opaque(Opaque {}) } else { Kind::Detect(detect) };
        let everywhere = IpNetwork { ip: Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED).into()), prefix_len: 0 };
        let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let labels =
            |kind, name| HashMap::from([label("group", "policy.linkerd.io"), label("kind", kind), label("name", name)]);
        Server {
            protocol: Some(ProxyProtocol { kind: Some(kind) }),
            server_ips: vec![self.server.into()],
            authorizations: vec![Authz {
                networks: vec![Network { net: Some(everywhere), except: vec![] }],
                authentication: Some(Authn { permit: Some(permit) }),
                labels: labels("authorizationpolicy", "frontend"),
                metadata: resource("policy.linkerd.io", "AuthorizationPolicy", "frontend", 0),
            }],
            labels: labels("server", "backend"),
        }
    }
}

#[tonic::async_trait]
impl InboundServerPolicies for Mesh {
    type WatchPortStream = Once<Server>;

    async fn get_port(&self, request: Request<PortSpec>) -> Result<Response<Server>, Status> {
        Ok(Response::new(self.server_of(request.get_ref().port)))
    }

    async fn watch_port(&self, request: Request<PortSpec>) -> Result<Response<Once<Server>>, Status> {
        Ok(once(self.server_of(request.get_ref().port)))
    }
}
