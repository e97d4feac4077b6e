//! The client: `client URL [--method=M] [-H name:value]... [--count=N]`, with `http` or `grpc` as the URL's scheme.
//!
//! Prints one block of lines for each answer, with an empty line after it, whatever the answer's status. Ends with an
//! error where there is no answer, or a call has another status than 0.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::{HeaderMap, Request, Response, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

/// Longest wait for one answer.
const LIMIT: Duration = Duration::from_secs(10);

struct Plan {
    url: Uri,
    method: String,
    headers: Vec<(String, String)>,
    count: u32,
}

impl Plan {
    fn parse(arguments: &[String]) -> anyhow::Result<Self> {
        let mut arguments = arguments.iter();
        let mut plan = Self { url: Uri::default(), method: "GET".to_owned(), headers: Vec::new(), count: 1 };
        while let Some(argument) = arguments.next() {
            if let Some(method) = argument.strip_prefix("--method=") {
                method.clone_into(&mut plan.method);
            } else if let Some(count) = argument.strip_prefix("--count=") {
                plan.count = count.parse().context("--count is not a number")?;
            } else if argument == "-H" {
                let header = arguments.next().context("-H needs name:value")?;
                let (name, value) = header.split_once(':').with_context(|| format!("{header:?} is not name:value"))?;
                plan.headers.push((name.to_owned(), value.trim().to_owned()));
            } else if argument.starts_with('-') {
                bail!("unknown argument {argument:?}; see tests/src/bin/causeway-test-echo/client.rs");
            } else {
                plan.url = argument.parse().with_context(|| format!("{argument:?} is not a URL"))?;
            }
        }
        Ok(plan)
    }

    fn is_grpc(&self) -> bool {
        self.url.scheme_str() == Some("grpc")
    }

    async fn connect(&self) -> anyhow::Result<Connection> {
        let host = self.url.host().context("the URL has no host")?.trim_matches(['[', ']']);
        let port = match (self.url.port_u16(), self.url.scheme_str()) {
            (Some(port), _) => port,
            (None, Some("http")) => 80,
            _ => bail!("{}: http, or grpc with a port, is what this client speaks", self.url),
        };
        let stream =
            TcpStream::connect((host, port)).await.with_context(|| format!("cannot connect to {host}:{port}"))?;
        stream.set_nodelay(true)?;
        let stream = TokioIo::new(stream);
        if self.is_grpc() {
            let (sender, driver) = http2::handshake(TokioExecutor::new(), stream).await?;
            tokio::spawn(driver);
            return Ok(Connection::Two(sender));
        }
        let (sender, driver) = http1::handshake(stream).await?;
        tokio::spawn(driver);
        Ok(Connection::One(sender))
    }

    fn request(&self) -> anyhow::Result<Request<Full<Bytes>>> {
        if self.is_grpc() {
            let authority = self.url.authority().context("the URL has no host")?;
            let request = Request::post(format!("http://{authority}{}", super::METHOD));
            let request = request.header("content-type", "application/grpc").header("te", "trailers");
            let request = self.headers.iter().fold(request, |r, (name, value)| r.header(name, value));
            return Ok(request.body(Full::from(super::message("")))?);
        }
        let path = self.url.path_and_query().map_or("/", |p| p.as_str());
        let mut request = Request::builder().method(self.method.as_str()).uri(path);
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            request = request.header("host", self.url.authority().map_or("", |a| a.as_str()));
        }
        request = self.headers.iter().fold(request, |r, (name, value)| r.header(name, value));
        Ok(request.body(Full::default())?)
    }
}

enum Connection {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    async fn ready(&mut self) -> bool {
        match self {
            Self::One(sender) => sender.ready().await.is_ok(),
            Self::Two(sender) => sender.ready().await.is_ok(),
        }
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> anyhow::Result<Response<Incoming>> {
        Ok(match self {
            Self::One(sender) => sender.send_request(request).await?,
            Self::Two(sender) => sender.send_request(request).await?,
        })
    }
}

/// Sends what the arguments say, one request after another, on one connection for as long as the server keeps it.
pub(super) async fn run(arguments: &[String]) -> anyhow::Result<()> {
    let plan = Plan::parse(arguments)?;
    let mut kept: Option<Connection> = None;
    for number in 0..plan.count {
        let answered = tokio::time::timeout(LIMIT, once(&plan, &mut kept)).await;
        let (head, body) = answered.with_context(|| format!("no answer within {LIMIT:?}"))??;
        print!("{}", tell(number, &plan.url, &head, &body));
    }
    Ok(())
}

async fn once(plan: &Plan, kept: &mut Option<Connection>) -> anyhow::Result<(hyper::http::response::Parts, String)> {
    let mut connection = match kept.take() {
        Some(connection) => connection,
        None => plan.connect().await?,
    };
    if !connection.ready().await {
        connection = plan.connect().await?; // the other side said goodbye between two requests; that loses nothing
    }
    let (head, body) = connection.send(plan.request()?).await?.into_parts();
    let body = body.collect().await?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    let body = body.to_bytes();
    *kept = Some(connection);
    if !plan.is_grpc() {
        return Ok((head, String::from_utf8_lossy(&body).into_owned()));
    }
    let status = |fields: &HeaderMap| fields.get("grpc-status").cloned();
    match status(&trailers).or_else(|| status(&head.headers)) {
        Some(status) if status == "0" => {}
        status => bail!("the call ended with HTTP {} and grpc-status {status:?}", head.status),
    }
    let text = super::text(&body).context("the answer is not the echo server's message")?;
    Ok((head, text))
}

/// The block of one answer: the client's own lines, then the server's.
fn tell(number: u32, url: &Uri, head: &hyper::http::response::Parts, body: &str) -> String {
    let mut text = format!("[{number}] Url={url}\n[{number}] StatusCode={}\n", head.status.as_u16());
    for (name, value) in &head.headers {
        let _ = writeln!(text, "[{number}] ResponseHeader={name}:{}", String::from_utf8_lossy(value.as_bytes()));
    }
    for line in body.lines().filter(|line| !line.trim().is_empty()) {
        let _ = writeln!(text, "[{number} body] {line}");
    }
    text.push('\n');
    text
}
