//! Serves HTTP/2: the requests of one connection, each in a task of its own.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use h2::server::{Builder, Connection, Handshake, SendResponse};
use h2::{PingPong, Reason, RecvStream};
use http::header::{CONTENT_LENGTH, DATE, HeaderValue};
use http::{Method, Request, Response};
use http_body::Body as _;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::body::{Body, Received};
use crate::date;
use crate::drain::{Drain, Phase};
use crate::gather::{Gathered, gather};
use crate::link::{Answer, Pipe, silence};
use crate::relay::Io;
use crate::server::{APP_FRAME, CONNECTION_WINDOW, FRAME, HEADER_LIST, SEND_BUFFER, STREAM_WINDOW, STREAMS, over};

mod tunnel;

pub use tunnel::{Tunnel, Turn};

/// Resets that a peer may have under way before its connection is ended: those of requests that were not looked at yet,
/// and those that its mistakes have caused (CVE-2023-44487 and its kin).
const RESETS: usize = 64;

/// Serves HTTP/2 on `stream`, extended CONNECT (RFC 8441) included. Ends early when the proxy aborts. After
/// `until`, when the certificate of a peer of the mesh ends, the peer is told to open another connection for what follows.
pub async fn serve<S, H, F>(stream: S, until: Option<Instant>, drain: &Drain, handle: H)
where
    S: Io,
    H: Fn(Request<Received>) -> F + Send + Unpin + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let (stream, gathering) = gather(stream);
    let handshake = Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(if until.is_some() { FRAME } else { APP_FRAME })
        .enable_connect_protocol()
        .max_header_list_size(HEADER_LIST)
        .max_concurrent_streams(STREAMS)
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(Some(RESETS))
        .handshake(stream);
    let (ask, asked) = oneshot::channel();
    let (give, pings) = oneshot::channel();
    // A task of its own: it is woken for every request, and looks neither at timers nor at the drain.
    let accepting = Accepting { state: State::Handshake(handshake, Some(give)), asked: Some(asked), handle };
    let mut connection = Owned(tokio::spawn(gathering(accepting)));
    let mut silent = std::pin::pin!(silent(pings));
    let ended = tokio::select! {
        biased;
        ended = &mut connection.0 => Some(ended),
        () = drain.reached(Phase::Draining) => None,
        () = over(until) => None,
        () = silent.as_mut() => return,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            let _ = ask.send(()); // it may have ended just now
            tokio::select! {
                biased;
                ended = &mut connection.0 => ended,
                () = drain.reached(Phase::Abort) => return,
                () = silent => return,
            }
        }
    };
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an http/2 connection ended"),
        Err(error) => tracing::debug!(%error, "an http/2 connection's task ended"),
    }
}

/// A task that ends with who started it.
struct Owned<T>(JoinHandle<T>);

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Returns once the peer gives no sign of life.
async fn silent(pings: oneshot::Receiver<PingPong>) {
    silence(pings.await.ok()).await;
    tracing::debug!("the peer of an http/2 connection is silent");
}

/// Runs a connection and starts a task for each request.
struct Accepting<S, H> {
    state: State<S>,
    /// Tells when the peer is to be told to go.
    asked: Option<oneshot::Receiver<()>>,
    handle: H,
}

enum State<S> {
    Handshake(Handshake<Gathered<S>, Bytes>, Option<oneshot::Sender<PingPong>>),
    Open(Connection<Gathered<S>, Bytes>),
}

impl<S, H, F> Future for Accepting<S, H>
where
    S: Io,
    H: Fn(Request<Received>) -> F + Unpin,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    type Output = Result<(), h2::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            match &mut this.state {
                State::Handshake(handshake, give) => {
                    let mut connection = ready!(Pin::new(handshake).poll(cx))?;
                    if let (Some(give), Some(pings)) = (give.take(), connection.ping_pong()) {
                        let _ = give.send(pings); // nobody waits any more: we are about to be ended
                    }
                    this.state = State::Open(connection);
                }
                State::Open(connection) => {
                    if let Some(asked) = &mut this.asked
                        && Pin::new(asked).poll(cx).is_ready()
                    {
                        this.asked = None;
                        connection.graceful_shutdown();
                    }
                    match ready!(connection.poll_accept(cx)) {
                        Some(accepted) => {
                            let (request, respond) = accepted?;
                            begin(&this.handle, request, respond);
                        }
                        None => return Poll::Ready(Ok(())),
                    }
                }
            }
        }
    }
}

/// Starts the task of a request.
fn begin<H, F>(handle: &H, request: Request<RecvStream>, respond: SendResponse<Bytes>)
where
    H: Fn(Request<Received>) -> F,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let (mut head, body) = request.into_parts();
    let (body, turn) = if head.method == Method::CONNECT {
        // Nothing is a body where all that follows is a tunnel.
        let (turn, tells) = Turn::new();
        head.extensions.insert(turn);
        (Received::Empty, Some((body, tells)))
    } else if body.is_end_stream() {
        (Received::Empty, None)
    } else {
        (Received::Stream(Answer::new(body, &head.headers)), None)
    };
    // In a box: what stands in a task is moved many times over.
    let handled = Box::pin(handle(Request::from_parts(head, body)));
    tokio::spawn(answer(handled, respond, turn));
}

/// Awaits the response for as long as the peer does, and sends it. Where it opens a tunnel, `turn` is what of it is there
/// and who waits for it.
async fn answer<F>(
    mut handled: Pin<Box<F>>,
    mut respond: SendResponse<Bytes>,
    turn: Option<(RecvStream, oneshot::Sender<Tunnel>)>,
) where
    F: Future<Output = Response<Body>>,
{
    let response = std::future::poll_fn(|cx| match handled.as_mut().poll(cx) {
        Poll::Ready(response) => Poll::Ready(Some(response)),
        Poll::Pending => respond.poll_reset(cx).map(|_| None),
    });
    let Some(response) = response.await else { return };
    drop(handled);
    let (mut head, body) = response.into_parts();
    if !head.headers.contains_key(DATE) {
        head.headers.insert(DATE, date::today());
    }
    let turn = turn.filter(|_| head.status.is_success());
    let is_end = turn.is_none() && body.is_end_stream();
    if let (false, None, Some(length)) = (is_end, &turn, body.size_hint().exact())
        && !head.headers.contains_key(CONTENT_LENGTH)
    {
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    match (respond.send_response(Response::from_parts(head, ()), is_end), turn) {
        (Ok(send), Some((receive, tells))) => {
            let _ = tells.send(Tunnel::new(receive, send)); // nobody waits: the stream is reset
        }
        (Ok(send), None) if !is_end => Pipe::new(body, send).await,
        (Ok(_), None) => {}
        (Err(error), _) => {
            tracing::debug!(%error, "a response was not sent");
            respond.send_reset(Reason::INTERNAL_ERROR);
        }
    }
}

#[cfg(test)]
mod tests;
