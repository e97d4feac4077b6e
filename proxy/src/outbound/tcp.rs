//! Bytes to a destination: one split decision per connection, for TLS by the name that it asks for.

use std::sync::Arc;

use bytes::BytesMut;
use causeway_mesh::config::backend::Limits;
use causeway_mesh::sni;
use tokio::io::AsyncWriteExt;

use super::{Outbound, dial};
use crate::access_log::Line;
use crate::clock;
use crate::connect::Upstream;
use crate::drain::Phase;
use crate::metrics::Series;
use crate::relay::{self, Io};
use crate::reply::Refusal;
use crate::sniff;
use crate::target::Target;

/// Connects and relays; the caller's connection is closed when no endpoint takes it.
pub async fn serve<S: Io>(outbound: Arc<Outbound>, stream: S, first: BytesMut, target: Arc<Target>) {
    let dialled = dial::tcp(&outbound, &target).await;
    relay_to(&outbound, stream, first, dialled, &target, "").await;
}

/// As [`serve`], by the name that the ClientHello in `first`, of which some has come, asks for.
pub async fn serve_tls<S: Io>(outbound: Arc<Outbound>, mut stream: S, mut first: BytesMut, target: Arc<Target>) {
    let Some(name) = sniff::server_name(&mut stream, &mut first).await else {
        tracing::debug!(destination = %target.text, "closed: no whole ClientHello came");
        return;
    };
    let Some(route) = sni::select(&target.destination.tls_routes, name.as_deref()) else {
        return serve(outbound, stream, first, target).await;
    };
    let dialled = dial::tcp_by(&outbound, &target, &route.split).await;
    relay_to(&outbound, stream, first, dialled, &target, &route.name).await;
}

/// Relays to what was dialled, or tells why nothing was.
pub async fn relay_to<S: Io>(
    outbound: &Arc<Outbound>,
    stream: S,
    first: BytesMut,
    dialled: Result<(Upstream, dial::Endpoint), Refusal>,
    target: &Target,
    route: &str,
) {
    match dialled {
        Ok((upstream, endpoint)) => {
            let series = super::series::series(outbound, target, &endpoint.backend, &endpoint.state);
            let _pending = endpoint.state.begin();
            let via = Via { series: &series, limits: &endpoint.backend.backend.limits };
            relay(outbound, stream, first, upstream, &target.text, route, Some(via)).await;
        }
        Err(refusal) => {
            outbound.metrics.refuse("outbound", refusal.reject.code());
            tracing::debug!(destination = %target.text, reason = %refusal.header(), "no connection");
            if outbound.log.is_on() {
                outbound.log.write(Line {
                    direction: "outbound",
                    kind: "tcp",
                    authority: target.text.to_string(),
                    route: route.to_owned(),
                    error: refusal.header(),
                    flags: refusal.reject.flag(),
                    ..Line::default()
                });
            }
        }
    }
}

/// Relays where the server has spoken first.
pub async fn relay_started<S: Io>(
    outbound: &Arc<Outbound>,
    mut stream: S,
    first: BytesMut,
    (upstream, endpoint): (Upstream, dial::Endpoint),
    said: BytesMut,
    target: &Target,
) {
    let series = super::series::series(outbound, target, &endpoint.backend, &endpoint.state);
    let _pending = endpoint.state.begin();
    if stream.write_all(&said).await.is_ok() {
        series.tcp_bytes(said.len() as u64, 0);
        let via = Via { series: &series, limits: &endpoint.backend.backend.limits };
        relay(outbound, stream, first, upstream, &target.text, "", Some(via)).await;
    }
}

/// What is known of an endpoint that bytes go to.
pub struct Via<'v> {
    /// Metric handles.
    pub series: &'v Series,
    /// Of its backend.
    pub limits: &'v Limits,
}

/// Ends when a connection has lived for as long as it may.
async fn life(via: Option<&Via<'_>>) {
    match via.and_then(|v| v.limits.connection_life) {
        Some(life) => tokio::time::sleep(life).await,
        None => std::future::pending().await,
    }
}

/// Sends `first`, then copies both ways until both ends are done, a limit of the connection is reached, or the proxy
/// aborts.
pub async fn relay<S: Io>(
    outbound: &Outbound,
    stream: S,
    first: BytesMut,
    mut upstream: Upstream,
    text: &str,
    route: &str,
    via: Option<Via<'_>>,
) {
    let series = via.as_ref().map(|v| v.series);
    let idle = via.as_ref().and_then(|v| v.limits.tcp_idle);
    let started = clock::now();
    if let Some(series) = series {
        series.tcp_opened();
        series.tcp_bytes(0, first.len() as u64);
    }
    let copied = async {
        upstream.write_all(&first).await?;
        drop(first);
        let (sent, result) = relay::run_reported(stream, upstream, series, idle).await;
        result.map(|()| sent)
    };
    let result: std::io::Result<u64> = tokio::select! {
        result = copied => result,
        () = life(via.as_ref()) => Ok(0),
        () = outbound.drain.reached(Phase::Abort) => Ok(0),
    };
    if let Some(series) = series {
        series.tcp_closed();
    }
    if outbound.log.is_on() {
        outbound.log.write(Line {
            direction: "outbound",
            kind: "tcp",
            authority: text.to_owned(),
            route: route.to_owned(),
            duration_ms: clock::now().duration_since(started).as_secs_f64() * 1e3,
            bytes_sent: *result.as_ref().unwrap_or(&0),
            flags: if result.is_err() { "UC" } else { "-" },
            ..Line::default()
        });
    }
}
