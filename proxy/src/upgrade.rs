//! Requests with `Upgrade` (WebSocket): only 101 switches, and only to what was asked for.

use causeway_mesh::reject::Reject;
use http::{Request, Response, StatusCode, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use crate::body::{Body, Payload};
use crate::drain::{Drain, Phase};
use crate::guarded::Verdict;
use crate::headers;
use crate::metrics::Exchange;
use crate::relay::{self, Count};
use crate::reply::Refusal;

/// Sends `request` (origin form, `Upgrade` kept) on a connection of its own, and after 101 carries bytes until both
/// ends are done, the proxy aborts, or `cut` resolves. What `subject` names stands in errors.
///
/// # Errors
/// [`Reject::UpstreamReset`], or [`Reject::UpgradeRefused`] when the server switches to something else.
pub async fn switch(
    mut request: Request<Payload>,
    mut sender: http1::SendRequest<Payload>,
    verdict: &Verdict,
    drain: &Drain,
    subject: &str,
    exchange: impl FnOnce(u16) -> Option<Exchange>,
    cut: impl Future<Output = ()> + Send + 'static,
) -> Result<Response<Body>, Refusal> {
    let from_client = hyper::upgrade::on(&mut request);
    let asked = request.headers().get(header::UPGRADE).cloned();
    let mut response = sender
        .send_request(request)
        .await
        .map_err(|e| Refusal::new(Reject::UpstreamReset, format!("{subject} ({e})")))?;
    let exchange = exchange(response.status().as_u16());
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        headers::strip(response.headers_mut(), false);
        return Ok(response.map(|body| Body::new(Payload::from(body), exchange)));
    }
    let agreed = response.headers().get(header::UPGRADE);
    let same = matches!((&asked, agreed), (Some(a), Some(b)) if a.as_bytes().eq_ignore_ascii_case(b.as_bytes()));
    if !same {
        return Err(Refusal::new(Reject::UpgradeRefused, subject));
    }
    let from_server = hyper::upgrade::on(&mut response);
    verdict.tunnel();
    let (busy, drain) = (drain.busy(), drain.clone());
    tokio::spawn(async move {
        let _busy = busy;
        let (Ok(client), Ok(server)) = tokio::join!(from_client, from_server) else { return };
        let count = Count::default();
        tokio::select! {
            r = relay::run(TokioIo::new(client), TokioIo::new(server), &count) => {
                if let Err(error) = r {
                    tracing::debug!(%error, "an upgraded connection ended");
                }
            }
            () = drain.reached(Phase::Abort) => {}
            () = cut => {}
        }
    });
    headers::strip(response.headers_mut(), true);
    Ok(response.map(|_| Body::new(Payload::Empty, exchange)))
}
