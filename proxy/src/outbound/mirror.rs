//! Copies of requests to other backends. The request itself waits for none of it: its body is copied as it passes, the
//! copies are sent once it has passed whole, and their answers are read to the end and dropped.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use causeway_mesh::config::action::Mirror;
use http::Request;
use http::request::Parts;
use http_body_util::BodyExt as _;

use super::Outbound;
use super::attempt::Got;
use super::call::Call;
use crate::body::copied::Source;
use crate::body::{Payload, Received};
use crate::clock;
use crate::endpoint::BackendState;
use crate::target::Target;

/// Copies under way in one proxy; more are not begun.
pub const MOST: usize = 256;

/// One copy ends after this, whatever it waits for.
const DEADLINE: Duration = Duration::from_secs(60);

/// Begins the copies that are drawn. What is returned is the request's body, to be sent instead of `body`.
pub fn begin(
    outbound: &Arc<Outbound>,
    target: &Arc<Target>,
    mirrors: &[Mirror],
    (parts, body): (&Parts, Received),
    authority: &str,
    is_http2: bool,
) -> Source {
    let backends: Vec<Arc<BackendState>> = mirrors
        .iter()
        .filter(|mirror| mirror.takes(clock::draw()))
        .filter_map(|mirror| target.backends.get(mirror.backend).map(Arc::clone))
        .collect();
    if backends.is_empty() {
        return Source::from(body);
    }
    let Ok(permits) = Arc::clone(&outbound.mirrors).try_acquire_many_owned(backends.len() as u32) else {
        backends.iter().for_each(|_| outbound.metrics.mirrored("too_many"));
        return Source::from(body);
    };
    let (source, copy) = Source::copied(body);
    let whole = source.is_end_stream().then(Bytes::new);
    let mut head = Request::new(()).into_parts().0;
    (head.method, head.uri) = (parts.method.clone(), parts.uri.clone());
    (head.version, head.headers) = (parts.version, parts.headers.clone());
    let outbound = Arc::clone(outbound);
    let target = Arc::clone(target);
    let authority = shadow(authority);
    tokio::spawn(async move {
        let _permits = permits;
        let copies = async {
            let whole = match whole {
                Some(whole) => whole,
                // The request broke off, or its body is longer than is copied.
                None => match copy.await {
                    Ok(whole) => whole,
                    Err(_) => return backends.iter().for_each(|_| outbound.metrics.mirrored("no_body")),
                },
            };
            let one = |backend| {
                let request = Request::from_parts(head.clone(), Payload::Full(whole.clone()));
                send(&outbound, &target, backend, request, &authority, is_http2)
            };
            join(backends.into_iter().map(one)).await;
        };
        let _ = tokio::time::timeout(DEADLINE, copies).await;
    });
    source
}

/// Waits for all of them, which go on beside each other.
async fn join(copies: impl Iterator<Item = impl Future<Output = ()>>) {
    let mut copies: Vec<_> = copies.map(Box::pin).collect();
    std::future::poll_fn(|cx| {
        copies.retain_mut(|copy| copy.as_mut().poll(cx).is_pending());
        if copies.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

async fn send(
    outbound: &Arc<Outbound>,
    target: &Arc<Target>,
    backend: Arc<BackendState>,
    request: Request<Payload>,
    authority: &str,
    is_http2: bool,
) {
    let backend = Some(backend);
    let call =
        Call { outbound, target, backend, authority, host: None, is_http2, retry: None, hash: None, until: None };
    match call.send_copy(request).await {
        Ok(Got { response, lease, cause, .. }) => {
            // With a cause it is the endpoint's proxy that answers, in place of its application.
            outbound.metrics.mirrored(if cause.is_some() { "failed" } else { "sent" });
            // To the end: the application is to serve a copy as it serves the request.
            let mut body = Payload::from(response.into_body());
            while let Some(frame) = body.frame().await {
                if frame.is_err() {
                    return;
                }
            }
            lease.reuse();
        }
        Err(refusal) => {
            outbound.metrics.mirrored("failed");
            tracing::debug!(reason = %refusal.header(), "a copy was not sent");
        }
    }
}

/// The authority that tells an application of a copy: `-shadow` behind the host, as Envoy writes it.
fn shadow(authority: &str) -> String {
    match authority.rsplit_once(':') {
        // An IPv6 address has no such form.
        _ if authority.starts_with('[') || authority.is_empty() => authority.to_owned(),
        Some((host, port)) => format!("{host}-shadow:{port}"),
        None => format!("{authority}-shadow"),
    }
}

#[cfg(test)]
mod tests {
    use super::shadow;

    #[test]
    fn a_copy_is_marked_in_its_host() {
        for (authority, want) in [
            ("shop.prod", "shop.prod-shadow"),
            ("shop.prod:8080", "shop.prod-shadow:8080"),
            ("10.0.0.1:80", "10.0.0.1-shadow:80"),
            ("[fd00::1]:80", "[fd00::1]:80"),
            ("[fd00::1]", "[fd00::1]"),
            ("", ""),
        ] {
            assert_eq!(shadow(authority), want);
        }
    }
}
