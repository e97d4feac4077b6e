//! Serves HTTP/1 on one connection, behind the guard, until it ends or is drained; and the limits of every HTTP/2 one.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};

use crate::body::{Body, Received};
use crate::drain::{Drain, Phase};
use crate::guarded::{Guarded, Verdict};
use crate::relay::Io;
use crate::simple;

/// Flow-control window of a stream, bytes.
pub const STREAM_WINDOW: u32 = 1 << 20;
/// Flow-control window of a connection, bytes: what a peer can make us hold.
pub const CONNECTION_WINDOW: u32 = 4 << 20;
/// Largest frame between proxies, bytes.
pub const FRAME: u32 = 32 * 1024;
/// Largest frame from an application, bytes: what RFC 9113 section 6.5.2 has everybody begin with.
pub const APP_FRAME: u32 = 16 * 1024;
/// Largest decoded header list, bytes.
pub const HEADER_LIST: u32 = 64 * 1024;
/// Streams that a peer may have open at once.
pub const STREAMS: u32 = 1024;

/// What is buffered of one stream before its body waits, bytes.
pub const SEND_BUFFER: usize = 256 * 1024;
/// How often the peer of an HTTP/2 connection is asked whether it is still there.
pub const ASKED_EVERY: Duration = Duration::from_secs(10);
/// A peer that has not answered by then is gone.
pub const ANSWERED_WITHIN: Duration = Duration::from_secs(15);

/// Serves HTTP/1 on `stream`, of which `first` has been read. Ends early when the proxy aborts. No request is read after
/// `until`, when the certificate of a peer of the mesh ends.
pub async fn http1<S, H, F>(stream: S, first: BytesMut, until: Option<Instant>, drain: &Drain, handle: H)
where
    S: Io,
    H: Fn(Request<Received>, Arc<Verdict>) -> F,
    F: Future<Output = Response<Body>>,
{
    let rest = {
        let mut simple = std::pin::pin!(simple::serve(stream, first, until, drain, &handle));
        tokio::select! {
            biased;
            rest = simple.as_mut() => rest,
            () = drain.reached(Phase::Abort) => None,
        }
    };
    let Some((stream, first)) = rest else { return };
    // In a box: few connections come here, and those that do not have no room for it.
    Box::pin(by_hyper(stream, first, until, drain, handle)).await;
}

/// The rest of a connection, all of which hyper reads.
async fn by_hyper<S, H, F>(stream: S, first: BytesMut, until: Option<Instant>, drain: &Drain, handle: H)
where
    S: Io,
    H: Fn(Request<Received>, Arc<Verdict>) -> F,
    F: Future<Output = Response<Body>>,
{
    let guarded = Guarded::new(stream, first);
    let verdict = guarded.verdict();
    let service = service_fn(|request: Request<Incoming>| {
        let response = handle(request.map(Received::from), Arc::clone(&verdict));
        async { Ok::<_, Infallible>(response.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(None) // the guard times heads; an idle connection may stay
        .max_headers(100)
        // No `pipeline_flush`: with it hyper buffers a response without bound while its reader stalls.
        .serve_connection(TokioIo::new(guarded), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        r = connection.as_mut() => Some(r),
        () = drain.reached(Phase::Draining) => None,
        () = over(until) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                r = connection => r,
                () = drain.reached(Phase::Abort) => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an http/1 connection ended");
    }
}

/// Returns at `until`, where there is an end.
pub async fn over(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
