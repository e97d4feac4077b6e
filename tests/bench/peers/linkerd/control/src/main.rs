//! What a pair of linkerd2-proxies asks of its control plane, answered for the one Service of a benchmark.
//!
//!     linkerd-bench-control LISTEN DIRECTORY
//!
//! serves Identity, Destination and both policy services on one address, without TLS: proxies use it over loopback. The
//! certificates lie in DIRECTORY, signed already, `frontend.der` and `backend.der`. S_IP, VIP, APP_PORT, TCP_PORT and
//! IN_PORT (see ../../../common.sh) say where things are. Every answer stays as it is: streams stay open and silent.

mod clock;
mod identity;
mod inbound;
mod outbound;

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use linkerd2_proxy_api::destination::destination_server::DestinationServer;
use linkerd2_proxy_api::identity::identity_server::IdentityServer;
use linkerd2_proxy_api::inbound::inbound_server_policies_server::InboundServerPoliciesServer;
use linkerd2_proxy_api::meta::{Metadata, Resource, metadata};
use linkerd2_proxy_api::outbound::outbound_policies_server::OutboundPoliciesServer;
use tokio_stream::{Stream, StreamExt};
use tonic::{Response, Status};

/// The cluster of the benchmark, and who answers for it.
#[derive(Clone, Debug)]
pub struct Mesh {
    /// The server's pod.
    pub server: IpAddr,
    /// The Service's address.
    pub service: IpAddr,
    /// HTTP, split 90/10.
    pub app: u16,
    /// Bytes, declared opaque.
    pub bytes: u16,
    /// Where the server's proxy listens, for opaque connections.
    pub inbound: u16,
    /// Where `ACCOUNT.der` are.
    pub certificates: String,
}

/// An answer that comes once, on a stream that stays.
pub type Once<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The stream of one answer that never changes.
pub fn once<T: Send + 'static>(answer: T) -> Response<Once<T>> {
    Response::new(Box::pin(tokio_stream::once(Ok(answer)).chain(tokio_stream::pending())))
}

/// The mesh TLS name of an account in the namespace `dev`.
pub fn name(account: &str) -> String {
    format!("{account}.dev.serviceaccount.identity.linkerd.cluster.local")
}

/// A resource of the namespace `dev`, as metrics name it.
pub fn resource(group: &str, kind: &str, name: &str, port: u16) -> Option<Metadata> {
    let (group, kind, name, namespace) = (group.into(), kind.into(), name.into(), "dev".into());
    let resource = Resource { group, kind, name, namespace, section: String::new(), port: port.into() };
    Some(Metadata { kind: Some(metadata::Kind::Resource(resource)) })
}

/// A length of time as the API has it.
pub fn millis(millis: u64) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(Duration::from_millis(millis)).ok()
}

fn setting<T: std::str::FromStr>(name: &str) -> Result<T, String> {
    let value = std::env::var(name).map_err(|_| format!("{name} is not set; peers/common.sh says what it is"))?;
    value.parse().map_err(|_| format!("{name}={value} is not an address or a port"))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(listen), Some(certificates)) = (arguments.next(), arguments.next()) else {
        return Err("say LISTEN and DIRECTORY".into());
    };
    let listen: SocketAddr = listen.parse().map_err(|_| format!("{listen} is no address with a port"))?;
    let mesh = Mesh {
        server: setting("S_IP")?,
        service: setting("VIP")?,
        app: setting("APP_PORT")?,
        bytes: setting("TCP_PORT")?,
        inbound: setting("IN_PORT")?,
        certificates,
    };
    tonic::transport::Server::builder()
        .add_service(IdentityServer::new(mesh.clone()))
        .add_service(DestinationServer::new(mesh.clone()))
        .add_service(InboundServerPoliciesServer::new(mesh.clone()))
        .add_service(OutboundPoliciesServer::new(mesh))
        .serve(listen)
        .await?;
    Ok(())
}
