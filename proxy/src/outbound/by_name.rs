//! Connections to addresses that the mesh does not know: refused or passed, unless the name that they carry (the `Host`
//! of a request, the server name of a ClientHello) is of a ServiceEntry. Such a name leads to where DNS has it and never
//! to the address that was dialled, and it never leads into the mesh. See docs/decisions/0025.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use causeway_mesh::config::Kind;
use causeway_mesh::detect::Detected;
use causeway_mesh::name;
use causeway_mesh::reject::Reject;
use tokio::io::AsyncWriteExt;

use super::{Named, Outbound, dial, http, tcp};
use crate::connect::Upstream;
use crate::relay::Io;
use crate::reply::Refusal;
use crate::resolve::is_local;
use crate::sniff::{self, Heard};
use crate::target::Target;

/// How long a client whose connection is to be refused may take to show whether it can be told why.
const EXPLAIN: Duration = Duration::from_secs(1);

/// Serves a connection to a destination of the kind unknown.
pub async fn serve<S: Io>(outbound: Arc<Outbound>, stream: S, target: Arc<Target>, named: Named) {
    let original = match &named {
        Named::Fixed(_, original) => *original,
        Named::ByRequest => None,
    };
    // What the node itself serves there (metadata) is no host of the outside, whatever a request calls it.
    let is_nodes = original.is_some_and(|o| is_local(o.ip()));
    let by_name = target.destination.by_name && !is_nodes;
    match (outbound.own.egress_allowed(), by_name) {
        (true, false) => pass(&outbound, stream, BytesMut::new(), &target, original, None).await,
        (true, true) => Box::pin(listen(outbound, stream, target, named, original)).await,
        (false, _) => Box::pin(explain(outbound, stream, target, named, by_name)).await,
    }
}

/// Egress is allowed: whoever speaks first decides, as for any undeclared port.
async fn listen<S: Io>(
    outbound: Arc<Outbound>,
    mut stream: S,
    target: Arc<Target>,
    named: Named,
    original: Option<SocketAddr>,
) {
    let mut first = BytesMut::new();
    let dial = async {
        let stream = dial::unknown(&outbound, &target.text, original).await.ok()?;
        Some((Upstream::Plain(stream), ()))
    };
    match sniff::both(&mut stream, &mut first, &target.habit, dial).await {
        Heard::Nobody => {}
        Heard::Server(dialled, said) => {
            if stream.write_all(&said).await.is_ok() {
                tcp::relay(&outbound, stream, first, dialled.0, &target.text, "", None).await;
            }
        }
        Heard::Client(Detected::Http1 | Detected::Http2, _) => {
            Box::pin(http::serve(outbound, stream, first, named)).await;
        }
        Heard::Client(Detected::Tls, dialled) => match server(&outbound, &mut stream, &mut first, &target).await {
            Some(entry) => Box::pin(tcp::serve_tls(outbound, stream, first, entry)).await,
            None => pass(&outbound, stream, first, &target, original, dialled.map(|d| d.0)).await,
        },
        Heard::Client(_, dialled) => pass(&outbound, stream, first, &target, original, dialled.map(|d| d.0)).await,
    }
}

/// Egress is denied: a name may still be of a ServiceEntry, and a client that speaks HTTP is told why it is refused.
async fn explain<S: Io>(outbound: Arc<Outbound>, mut stream: S, target: Arc<Target>, named: Named, by_name: bool) {
    let mut first = BytesMut::new();
    let found = tokio::time::timeout(EXPLAIN, sniff::client(&mut stream, &mut first)).await.unwrap_or_default();
    match found {
        Some(Detected::Http1 | Detected::Http2) => {
            return Box::pin(http::serve(outbound, stream, first, named)).await;
        }
        Some(Detected::Tls) if by_name => {
            if let Some(entry) = server(&outbound, &mut stream, &mut first, &target).await {
                return Box::pin(tcp::serve_tls(outbound, stream, first, entry)).await;
            }
        }
        _ => {}
    }
    outbound.metrics.refuse("outbound", Reject::EgressDenied.code());
    tracing::info!(destination = %target.text, "refused: egress is denied");
}

/// As it is.
async fn pass<S: Io>(
    outbound: &Arc<Outbound>,
    stream: S,
    first: BytesMut,
    target: &Target,
    original: Option<SocketAddr>,
    dialled: Option<Upstream>,
) {
    let upstream = match dialled {
        Some(upstream) => Ok(upstream),
        None => dial::unknown(outbound, &target.text, original).await.map(Upstream::Plain),
    };
    match upstream {
        Ok(upstream) => tcp::relay(outbound, stream, first, upstream, &target.text, "", None).await,
        Err(refusal) => refuse(outbound, target, &refusal),
    }
}

fn refuse(outbound: &Outbound, target: &Target, refusal: &Refusal) {
    outbound.metrics.refuse("outbound", refusal.reject.code());
    tracing::debug!(destination = %target.text, reason = %refusal.header(), "cannot connect");
}

/// The ServiceEntry whose host the ClientHello names.
async fn server<S: Io>(
    outbound: &Outbound,
    stream: &mut S,
    first: &mut BytesMut,
    target: &Target,
) -> Option<Arc<Target>> {
    let host = sniff::server_name(stream, first).await??;
    entry(outbound, target, &host).await
}

/// The target of a request to an unknown address whose `Host` is `host`: that of a ServiceEntry, else `target`.
pub async fn of_request(outbound: &Outbound, target: Arc<Target>, host: &str) -> Arc<Target> {
    if target.destination.kind != Kind::Unknown || !target.destination.by_name {
        return target;
    }
    Box::pin(entry(outbound, &target, host)).await.unwrap_or(target)
}

/// The ServiceEntry that has `host` at the port that was dialled. Nothing of the mesh is reached so.
async fn entry(outbound: &Outbound, target: &Target, host: &str) -> Option<Arc<Target>> {
    let port = name::host_port(&target.text).ok()?.port?;
    let host = name::host_port(host).ok().filter(|h| h.port.is_none() && h.host.parse::<IpAddr>().is_err())?;
    let text = name::subscription(&host.host, port);
    let found = outbound.targets.resolve(&text).await.ok()?;
    found.touch(|| outbound.targets.touch(&text));
    (found.destination.kind == Kind::Entry).then_some(found)
}
