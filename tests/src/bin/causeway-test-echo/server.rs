//! The server: HTTP/1.1, HTTP/2 and gRPC on each `--port` and `--grpc`, bytes on `--tcp`; over TLS on a `--tls` port.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What the suite's manifests give: `--port=N`, `--grpc=N`, `--tcp=N`, `--tls=N`, `--crt=FILE`, `--key=FILE`.
#[derive(Default)]
struct Options {
    ports: Vec<u16>,
    bytes: Vec<u16>,
    tls: Vec<u16>,
    certificate: Option<String>,
    key: Option<String>,
}

impl Options {
    fn parse(arguments: &[String]) -> anyhow::Result<Self> {
        let mut options = Self::default();
        for argument in arguments {
            let (name, value) =
                argument.split_once('=').with_context(|| format!("{argument:?} is not --name=value"))?;
            let port = || value.parse().with_context(|| format!("{argument:?} is not a port"));
            match name {
                "--port" | "--grpc" => options.ports.push(port()?),
                "--tcp" => options.bytes.push(port()?),
                "--tls" => options.tls.push(port()?),
                "--crt" => options.certificate = Some(value.to_owned()),
                "--key" => options.key = Some(value.to_owned()),
                _ => anyhow::bail!("unknown argument {argument:?}; see tests/src/bin/causeway-test-echo/server.rs"),
            }
        }
        Ok(options)
    }

    fn acceptor(&self) -> anyhow::Result<Option<TlsAcceptor>> {
        if self.tls.is_empty() {
            return Ok(None);
        }
        let (certificate, key) =
            self.certificate.as_ref().zip(self.key.as_ref()).context("--tls needs --crt, --key")?;
        let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<Vec<_>, _>>()?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut config = builder.with_no_client_auth().with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Some(TlsAcceptor::from(Arc::new(config))))
    }
}

/// Serves until SIGTERM; what is open then is cut, so that the suite's pods are gone at once.
pub(super) async fn run(arguments: &[String]) -> anyhow::Result<()> {
    let options = Options::parse(arguments)?;
    let acceptor = options.acceptor()?;
    let mut servers = tokio::task::JoinSet::new();
    for port in &options.ports {
        let acceptor = acceptor.clone().filter(|_| options.tls.contains(port));
        servers.spawn(serve(listen(*port).await?, *port, acceptor));
    }
    for port in &options.bytes {
        servers.spawn(echo_bytes(listen(*port).await?));
    }
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    terminated.recv().await;
    Ok(())
}

async fn listen(port: u16) -> anyhow::Result<TcpListener> {
    let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

async fn serve(listener: TcpListener, port: u16, acceptor: Option<TlsAcceptor>) {
    while let Ok((stream, peer)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            match acceptor {
                Some(acceptor) => {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        converse(stream, port, peer).await;
                    }
                }
                None => converse(stream, port, peer).await,
            }
        });
    }
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, port: u16, peer: SocketAddr) {
    let service = service_fn(move |request| answer(request, port, peer));
    let builder = auto::Builder::new(TokioExecutor::new());
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

async fn echo_bytes(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let (mut from, mut to) = TcpStream::split(&mut stream);
            let _ = tokio::io::copy(&mut from, &mut to).await;
        });
    }
}

async fn answer(request: Request<Incoming>, port: u16, peer: SocketAddr) -> Result<Response<Body>, Infallible> {
    let told = tell(&request, port, peer);
    let is_grpc = request.headers().get("content-type").is_some_and(|v| v.as_bytes().starts_with(b"application/grpc"));
    // Read to its end, so that the connection can be used again.
    let _ = request.into_body().collect().await;
    if !is_grpc {
        return Ok(Response::new(Full::new(Bytes::from(told)).boxed_unsync()));
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames = [Ok(Frame::data(Bytes::from(super::message(&told)))), Ok(Frame::trailers(trailers))];
    let mut response = Response::new(StreamBody::new(tokio_stream::iter(frames)).boxed_unsync());
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    Ok(response)
}

/// The lines that the suite's parser knows.
fn tell(request: &Request<Incoming>, port: u16, peer: SocketAddr) -> String {
    let headers = request.headers();
    let host = headers.get("host").and_then(|v| v.to_str().ok());
    let host = request.uri().authority().map(hyper::http::uri::Authority::as_str).or(host).unwrap_or_default();
    let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
    let mut text = format!(
        "ServicePort={port}\nHost={host}\nURL={path}\nMethod={}\nProto={:?}\nIP={}\n",
        request.method(),
        request.version(),
        peer.ip(),
    );
    for (name, value) in headers {
        let _ = writeln!(text, "RequestHeader={name}:{}", String::from_utf8_lossy(value.as_bytes()));
    }
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let _ = writeln!(text, "Hostname={}", hostname.trim());
    text
}
