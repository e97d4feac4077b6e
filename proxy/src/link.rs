//! One HTTP/2 connection to an upstream, over which requests are sent from the tasks that they belong to; which
//! connection a request takes, and whether it is sent again, is decided elsewhere.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use causeway_mesh::reject::Reject;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use h2::{Ping, PingPong, Reason};
use http::header::{CONTENT_LENGTH, HeaderValue};
use http::uri::{Authority, InvalidUri};
use http::{Method, Request, Response};
use http_body::Body as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;

use crate::body::{Payload, Received};
use crate::gather::{Gathered, gather};
use crate::server::{ANSWERED_WITHIN, ASKED_EVERY, SEND_BUFFER};

mod answer;
mod pipe;

pub use answer::Answer;
pub use pipe::Pipe;

/// Streams that are begun before the peer has said how many it takes.
const STREAMS_AT_FIRST: usize = 100;

/// A connection. It is closed once this is dropped and its last stream has ended.
pub struct Link {
    sender: Mutex<SendRequest<Bytes>>,
    /// Nothing more can be sent: the connection ended, or the peer has said that it will.
    is_over: Arc<AtomicBool>,
    /// Streams that the peer takes at once, once a request had to wait for it.
    most: AtomicUsize,
    /// What the last request was sent to: nearly all of a connection have it in common.
    authority: Mutex<Option<Authority>>,
}

/// Why there is no response.
#[derive(Debug)]
pub struct Broken {
    error: h2::Error,
    /// Nothing of the request was sent, and it is where it was.
    pub is_unsent: bool,
}

impl Link {
    /// The handshake of a client; two tasks run until the connection ends.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn open<S>(stream: S) -> Result<Self, h2::Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (stream, gathering) = gather(stream);
        let (sender, mut connection): (_, Connection<Gathered<S>, Bytes>) = Builder::new()
            .initial_window_size(crate::server::STREAM_WINDOW)
            .initial_connection_window_size(crate::server::CONNECTION_WINDOW)
            .max_frame_size(crate::server::FRAME)
            .max_header_list_size(crate::server::HEADER_LIST)
            .max_send_buffer_size(SEND_BUFFER)
            .initial_max_send_streams(STREAMS_AT_FIRST)
            .enable_push(false)
            .handshake(stream)
            .await?;
        let is_over = Arc::new(AtomicBool::new(false));
        let pings = connection.ping_pong();
        // A task of its own: the connection's is woken for every request, and looks at no timer.
        tokio::spawn(watch(tokio::spawn(gathering(connection)), pings, Arc::clone(&is_over)));
        Ok(Self {
            sender: Mutex::new(sender),
            is_over,
            most: AtomicUsize::new(usize::MAX),
            authority: Mutex::new(None),
        })
    }

    /// Whether it is known that nothing more can be sent.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Streams that the peer takes at once, at least one; unbounded until a request has had to wait for it.
    pub fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    /// Sends a request, which is taken out of its place once it is sent. Whoever drops what is returned before the
    /// response came cancels the request.
    ///
    /// # Errors
    /// The connection takes no request, or not this one.
    pub fn send(&self, request: &mut Request<Payload>) -> Result<Sending<'_>, Broken> {
        debug_assert!(!is_of_http1(request), "fields of an HTTP/1 connection: {:?}", request.headers().keys());
        let mut sender = self.sender();
        if let Err(error) = self.ready_now(&mut sender) {
            self.is_over.store(true, Ordering::Relaxed);
            return Err(Broken { error, is_unsent: true });
        }
        let (mut head, body) = std::mem::replace(request, Request::new(Payload::Empty)).into_parts();
        let length = body.size_hint().exact();
        // A length of nothing is only worth a word where something might be expected.
        if let Some(length) = length.filter(|&length| length != 0 || has_content(&head.method)) {
            head.headers.entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
        }
        let is_end = body.is_end_stream();
        let sent = sender.send_request(Request::from_parts(head, ()), is_end);
        drop(sender);
        let (response, stream) = sent.map_err(|error| Broken { error, is_unsent: false })?;
        let pipe = (!is_end).then(|| Pipe::new(body, stream));
        Ok(Sending { link: self, response, pipe, is_done: false })
    }

    /// Parses `text`, or takes what it was parsed to before.
    ///
    /// # Errors
    /// It is no authority.
    pub fn authority(&self, text: &str) -> Result<Authority, InvalidUri> {
        let mut last = self.authority.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some(authority) if authority.as_str() == text => Ok(authority.clone()),
            _ => {
                let authority: Authority = text.parse()?;
                *last = Some(authority.clone());
                Ok(authority)
            }
        }
    }

    /// Whether a request can be sent. One above the number that the peer takes at once waits in its own stream, so that
    /// nobody else waits for it: the sender, which would, is exchanged.
    fn ready_now(&self, sender: &mut SendRequest<Bytes>) -> Result<(), h2::Error> {
        match sender.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(ready) => ready,
            Poll::Pending => {
                self.most.store(sender.current_max_send_streams().max(1), Ordering::Relaxed);
                *sender = sender.clone();
                Ok(())
            }
        }
    }

    fn sender(&self) -> MutexGuard<'_, SendRequest<Bytes>> {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether requests of the method usually have a body.
fn has_content(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::DELETE | Method::CONNECT)
}

/// Whether the request has what RFC 9113 section 8.2.2 forbids.
fn is_of_http1(request: &Request<Payload>) -> bool {
    let headers = request.headers();
    let names = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];
    names.iter().any(|name| headers.contains_key(*name)) || headers.get("te").is_some_and(|te| te != "trailers")
}

/// A request on its way: its body is sent, and its response awaited.
pub struct Sending<'l> {
    link: &'l Link,
    response: ResponseFuture,
    /// None: the body has been sent.
    pipe: Option<Pipe>,
    is_done: bool,
}

impl Future for Sending<'_> {
    type Output = Result<Response<Received>, Broken>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some(pipe) = &mut this.pipe
            && Pin::new(pipe).poll(cx).is_ready()
        {
            this.pipe = None;
        }
        let response = ready!(Pin::new(&mut this.response).poll(cx));
        this.is_done = true;
        match response {
            Ok(response) => {
                if let Some(pipe) = this.pipe.take() {
                    // The response may end long before the request does.
                    tokio::spawn(pipe);
                }
                let (head, stream) = response.into_parts();
                let body = Answer::new(stream, &head.headers);
                Poll::Ready(Ok(Response::from_parts(head, Received::Stream(body))))
            }
            Err(error) => Poll::Ready(Err(Broken { error, is_unsent: false })),
        }
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            // Where the stream waits for its turn, the sender may still hold it, and it would be begun for nobody.
            let _ = self.link.ready_now(&mut self.link.sender());
        }
    }
}

impl Broken {
    /// The peer says that it has not looked at the request (RFC 9113 section 8.7): it refused the stream, or names an
    /// earlier one as the last of a connection that it closes in good order.
    pub fn is_unprocessed(&self) -> bool {
        self.is_closing() || (self.error.is_reset() && self.error.reason() == Some(Reason::REFUSED_STREAM))
    }

    /// The second of these.
    pub fn is_closing(&self) -> bool {
        self.error.is_go_away() && self.error.is_remote() && self.error.reason() == Some(Reason::NO_ERROR)
    }

    /// What stands for it in an answer.
    pub fn reject(&self) -> Reject {
        if self.is_unprocessed() { Reject::UpstreamRefused } else { Reject::UpstreamReset }
    }
}

impl fmt::Display for Broken {
    /// Without what the peer may have written beside its reason.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.error.reason(), self.error.get_io()) {
            (Some(reason), _) if self.error.is_remote() => write!(f, "http/2: the peer says: {reason}"),
            (Some(reason), _) => write!(f, "http/2: {reason}"),
            (None, Some(error)) => write!(f, "http/2: {}", error.kind()),
            (None, None) => write!(f, "http/2: {}", self.error),
        }
    }
}

impl std::error::Error for Broken {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// Follows the connection to its end, which comes at the latest when its peer gives no sign of life.
async fn watch(mut connection: JoinHandle<Result<(), h2::Error>>, pings: Option<PingPong>, is_over: Arc<AtomicBool>) {
    tokio::select! {
        ended = &mut connection => match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "an upstream connection ended"),
            Err(error) => tracing::debug!(%error, "an upstream connection's task ended"),
        },
        () = silence(pings) => {
            tracing::debug!("an upstream connection is silent");
            connection.abort(); // with it every stream
        }
    }
    is_over.store(true, Ordering::Relaxed);
}

/// Returns once the peer does not answer any more.
pub async fn silence(pings: Option<PingPong>) {
    if let Some(mut pings) = pings {
        loop {
            tokio::time::sleep(ASKED_EVERY).await;
            match tokio::time::timeout(ANSWERED_WITHIN, pings.ping(Ping::opaque())).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) => break, // the connection has ended
                Err(_) => return,
            }
        }
    }
    std::future::pending::<()>().await;
}

#[cfg(test)]
mod tests;
