//! The applications of the demo: small HTTP servers that say which version they are and who called them.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};

/// Header of the answer that says the version.
pub(super) const VERSION: &str = "x-demo-version";
/// Header of the answer that repeats the caller's certificate as the proxy stamped it.
pub(super) const CALLER: &str = "x-demo-caller";

const STAMP: &str = "x-forwarded-client-cert";

/// A running application; it ends when dropped.
#[derive(Debug)]
pub(super) struct Backend {
    /// Where it listens.
    pub address: SocketAddr,
    callers: Arc<Mutex<BTreeMap<String, u64>>>,
    accepting: AbortHandle,
}

impl Backend {
    /// Starts the application `version` on a free port of the loopback address.
    ///
    /// # Errors
    /// No port could be bound.
    pub(super) async fn start(version: &'static str) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let callers = Arc::new(Mutex::new(BTreeMap::new()));
        let accepting = tokio::spawn(accept(listener, version, Arc::clone(&callers))).abort_handle();
        Ok(Self { address, callers, accepting })
    }

    /// Requests by the SPIFFE ID of the caller; the empty text stands for callers without one.
    pub(super) fn callers(&self) -> BTreeMap<String, u64> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, version: &'static str, callers: Arc<Mutex<BTreeMap<String, u64>>>) {
    // The connections end with this task.
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await; // out of descriptors: do not spin
            continue;
        };
        // Only a delay is lost when it cannot be set.
        let _ = stream.set_nodelay(true);
        while connections.try_join_next().is_some() {}
        let callers = Arc::clone(&callers);
        let service = service_fn(move |request| {
            let answer = answer(version, &request, &callers);
            async move { Ok::<_, Infallible>(answer) }
        });
        connections.spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

fn answer(
    version: &'static str,
    request: &Request<Incoming>,
    callers: &Mutex<BTreeMap<String, u64>>,
) -> Response<Full<Bytes>> {
    let stamp = request.headers().get(STAMP).cloned();
    let caller = stamp.as_ref().and_then(|s| s.to_str().ok()).and_then(|s| part(s, "URI")).unwrap_or_default();
    *callers.lock().unwrap_or_else(PoisonError::into_inner).entry(caller.to_owned()).or_default() += 1;
    let who = if caller.is_empty() { "somebody without an identity" } else { caller };
    let body = format!("prodsvc {version}, called by {who}\n");
    let mut response = Response::new(Full::new(Bytes::from(body)));
    let headers = response.headers_mut();
    headers.insert("content-type", hyper::header::HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(VERSION, hyper::header::HeaderValue::from_static(version));
    if let Some(stamp) = stamp {
        headers.insert(CALLER, stamp);
    }
    response
}

/// The value of `key` in a certificate stamp of Envoy's form, `By=...;URI=...`.
pub(super) fn part<'a>(stamp: &'a str, key: &str) -> Option<&'a str> {
    stamp
        .split([';', ','])
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| name.eq_ignore_ascii_case(key))
        .map(|(_, value)| value.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_are_read_from_a_stamp() {
        let stamp = "By=spiffe://cluster.local/ns/prod/sa/prodsvc;URI=\"spiffe://cluster.local/ns/dev/sa/web\"";
        assert_eq!(part(stamp, "URI"), Some("spiffe://cluster.local/ns/dev/sa/web"));
        assert_eq!(part(stamp, "By"), Some("spiffe://cluster.local/ns/prod/sa/prodsvc"));
        assert_eq!(part("", "URI"), None);
    }
}
