//! The client: a steady stream of HTTP requests through its proxy, each counted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::backend::{CALLER, VERSION, part};
use super::board::{Board, Version};
use crate::clock;

/// What the client asks for, by the name that an application would use.
pub(super) const TARGET: &str = "http://prodsvc.prod.svc.cluster.local/";

const CONNECTIONS: u32 = 8;
const PATIENCE: Duration = Duration::from_secs(10);

/// What came back.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The application's version, when an application answered.
    pub version: Option<Version>,
    /// SPIFFE ID of the caller as the application was told.
    pub caller: Option<String>,
    /// SPIFFE ID of the application's own proxy.
    pub own: Option<String>,
    /// Header `causeway-error`, when a proxy answered.
    pub error: Option<String>,
    /// As text.
    pub body: String,
}

/// One connection to a proxy, kept alive between requests.
#[derive(Debug)]
pub(super) struct Client {
    proxy: SocketAddr,
    line: Option<Line>,
}

#[derive(Debug)]
struct Line {
    sender: SendRequest<Empty<Bytes>>,
    driver: AbortHandle,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Client {
    /// A client of the proxy at `proxy`; connects with the first request.
    pub(super) fn new(proxy: SocketAddr) -> Self {
        Self { proxy, line: None }
    }

    /// Asks for `target`, an absolute URI as for any HTTP proxy.
    ///
    /// # Errors
    /// No whole answer came in time.
    pub(super) async fn ask(&mut self, target: &str) -> anyhow::Result<Answer> {
        let answer = timeout(PATIENCE, self.exchange(target)).await;
        let answer = answer.map_err(|_| anyhow!("no answer within {} s", PATIENCE.as_secs())).and_then(|a| a);
        if answer.is_err() {
            self.line = None;
        }
        answer
    }

    async fn exchange(&mut self, target: &str) -> anyhow::Result<Answer> {
        let mut line = match self.line.take() {
            Some(line) => line,
            None => self.connect().await?,
        };
        if line.sender.ready().await.is_err() {
            line = self.connect().await?; // the proxy closed it while it was idle
        }
        let request = || Request::get(target).header("host", "prodsvc.prod.svc.cluster.local").body(Empty::new());
        let response = match line.sender.send_request(request()?).await {
            // The proxy closed the idle connection at the same moment; nothing was sent.
            Err(error) if error.is_canceled() => {
                line = self.connect().await?;
                line.sender.send_request(request()?).await?
            }
            other => other?,
        };
        let (head, body) = response.into_parts();
        let body = Limited::new(body, 1 << 20).collect().await.map_err(|e| anyhow!("reading the body: {e}"))?;
        self.line = Some(line);
        let header = |name: &str| head.headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let stamp = header(CALLER).unwrap_or_default();
        Ok(Answer {
            status: head.status.as_u16(),
            version: match header(VERSION).as_deref() {
                Some("v1-stable") => Some(Version::Stable),
                Some("v1-canary") => Some(Version::Canary),
                _ => None,
            },
            caller: part(&stamp, "URI").map(str::to_owned),
            own: part(&stamp, "By").map(str::to_owned),
            error: header("causeway-error"),
            body: String::from_utf8_lossy(&body.to_bytes()).trim().to_owned(),
        })
    }

    async fn connect(&self) -> anyhow::Result<Line> {
        let stream = TcpStream::connect(self.proxy).await.context("the proxy did not accept the connection")?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(async move {
            // The error reaches the request that was under way.
            let _ = connection.await;
        });
        Ok(Line { sender, driver: driver.abort_handle() })
    }
}

/// Traffic that flows until it is stopped.
#[derive(Debug)]
pub(super) struct Traffic {
    stop: watch::Sender<bool>,
    workers: JoinSet<()>,
}

impl Traffic {
    /// Starts `rate` requests per second through `proxy`.
    pub(super) fn start(proxy: SocketAddr, rate: u32, board: &Arc<Board>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut workers = JoinSet::new();
        let period = Duration::from_secs(1) * CONNECTIONS / rate.max(1);
        board.begin_traffic();
        for index in 0..CONNECTIONS {
            let first = Instant::from_std(clock::now()) + period * index / CONNECTIONS;
            workers.spawn(work(Client::new(proxy), first, period, Arc::clone(board), stopped.clone()));
        }
        Self { stop, workers }
    }

    /// Sends nothing more and waits for the answers that are under way.
    pub(super) async fn stop(mut self) {
        // Nobody listens only when every worker has ended already.
        let _ = self.stop.send(true);
        while self.workers.join_next().await.is_some() {}
    }
}

async fn work(
    mut client: Client,
    first: Instant,
    period: Duration,
    board: Arc<Board>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut ticks = interval_at(first, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            biased;
            _ = stopped.changed() => return,
            _ = ticks.tick() => {}
        }
        let epoch = board.epoch();
        let began = clock::now();
        match client.ask(TARGET).await {
            Ok(Answer { status: 200, version: Some(version), caller, own, .. }) => {
                board.answered(epoch, version, clock::now().duration_since(began));
                board.saw(version, caller.as_deref().unwrap_or_default(), own.as_deref().unwrap_or_default());
            }
            Ok(Answer { status, error, body, .. }) => {
                board.failed(format!("{status} {} {body}", error.unwrap_or_default()));
            }
            Err(error) => board.failed(format!("{error:#}")),
        }
    }
}
