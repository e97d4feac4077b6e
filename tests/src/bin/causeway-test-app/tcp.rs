//! TCP servers that echo, greet first or push without end, and clients that talk, hold or stall.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::Options;

/// What a TCP server does with a connection.
#[derive(Clone, Copy)]
pub(super) enum Behaviour {
    /// Sends back what arrives; after the client's end of data it sends `end <bytes>\n` and closes.
    Echo,
    /// Speaks first, then echoes.
    Greet,
    /// A line each 20 ms for as long as the connection lives.
    Push,
}

/// Serves on every `--listen`; `--name` is the greeting.
pub(super) async fn serve(options: &Options, behaviour: Behaviour) -> anyhow::Result<()> {
    let name = options.optional("name").unwrap_or("tcp").to_owned();
    let mut servers = tokio::task::JoinSet::new();
    for address in options.all("listen") {
        let listener = TcpListener::bind(address.parse::<SocketAddr>()?).await?;
        let name = name.clone();
        servers.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(behave(stream, behaviour, name.clone()));
            }
        });
    }
    println!("listening");
    servers.join_next().await;
    Ok(())
}

async fn behave(mut stream: TcpStream, behaviour: Behaviour, name: String) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    match behaviour {
        Behaviour::Echo => {}
        Behaviour::Greet => stream.write_all(format!("hello from {name}\n").as_bytes()).await?,
        Behaviour::Push => loop {
            stream.write_all(format!("{name}\n").as_bytes()).await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        },
    }
    let mut buffer = vec![0; 64 * 1024];
    let mut total = 0;
    loop {
        match stream.read(&mut buffer).await? {
            0 => break,
            read => {
                total += read;
                stream.write_all(&buffer[..read]).await?;
            }
        }
    }
    stream.write_all(format!("end {total}\n").as_bytes()).await?;
    stream.shutdown().await
}

/// `--connect A [--from-port P] [--send TEXT]... [--file F] [--half-close yes] [--until BYTES] [--timeout-ms T]`: sends,
/// reads to the end (or until so many bytes or the timeout) and prints JSON: what arrived, when the first byte did, how it
/// ended. In `--send`, `\r`, `\n` and `\0` are escapes; each further `--send` waits for an answer to the one before.
pub(super) async fn talk(options: &Options) -> anyhow::Result<()> {
    let timeout = Duration::from_millis(options.number("timeout-ms", 5_000)?);
    let begun = Instant::now();
    let target = options.text("connect")?;
    let port = u16::try_from(options.number("from-port", 0)?)?;
    let mut stream = match tokio::time::timeout(timeout, connect(target, port)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            println!("{}", json!({"text": "", "end": format!("connect: {}", error.kind()), "bytes": 0}));
            return Ok(());
        }
        Err(_) => {
            println!("{}", json!({"text": "", "end": "connect: timeout", "bytes": 0}));
            return Ok(());
        }
    };
    stream.set_nodelay(true)?;
    let mut heard = Heard { text: Vec::new(), bytes: 0, first: None, begun };
    let until = options.number("until", u64::MAX)?;
    let messages = options.all("send");
    let mut ended = None;
    for (index, message) in messages.iter().enumerate() {
        let bytes = message.replace("\\r", "\r").replace("\\n", "\n").replace("\\0", "\0");
        if let Err(error) = stream.write_all(bytes.as_bytes()).await {
            ended = Some(error.kind().to_string());
            break;
        }
        if index + 1 < messages.len() {
            ended = heard.some(&mut stream, timeout).await;
        }
    }
    let (mut reading, mut writing) = stream.into_split();
    let file = options.optional("file").map(std::fs::read).transpose()?;
    let close = options.optional("half-close") == Some("yes");
    let write = async move {
        if let Some(content) = file {
            writing.write_all(&content).await?;
        }
        if close {
            writing.shutdown().await?;
        }
        Ok::<_, std::io::Error>(writing) // kept open until all is read
    };
    let read = async {
        while ended.is_none() && heard.bytes < until {
            ended = heard.some(&mut reading, timeout).await;
        }
    };
    let (written, ()) = tokio::join!(write, read);
    if let Err(error) = written {
        ended.get_or_insert(error.kind().to_string());
    }
    let document = json!({
        "text": String::from_utf8_lossy(&heard.text), "bytes": heard.bytes,
        "first_ms": heard.first.map(|d| d.as_millis() as u64), "total_ms": begun.elapsed().as_millis() as u64,
        "end": ended.unwrap_or_else(|| "enough".to_owned()),
    });
    println!("{document}");
    Ok(())
}

/// Connects, from a port if it is not zero.
async fn connect(target: &str, port: u16) -> std::io::Result<TcpStream> {
    if port == 0 {
        return TcpStream::connect(target).await;
    }
    let target: SocketAddr = target.parse().map_err(std::io::Error::other)?;
    let (socket, any) = match target {
        SocketAddr::V4(_) => (TcpSocket::new_v4()?, IpAddr::from(Ipv4Addr::UNSPECIFIED)),
        SocketAddr::V6(_) => (TcpSocket::new_v6()?, IpAddr::from(Ipv6Addr::UNSPECIFIED)),
    };
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::new(any, port))?;
    socket.connect(target).await
}

struct Heard {
    /// The first 64 KiB.
    text: Vec<u8>,
    bytes: u64,
    first: Option<Duration>,
    begun: Instant,
}

impl Heard {
    /// Reads once; the answer says why nothing more will come.
    async fn some(&mut self, stream: &mut (impl AsyncRead + Unpin), timeout: Duration) -> Option<String> {
        let mut buffer = [0; 16 * 1024];
        match tokio::time::timeout(timeout, stream.read(&mut buffer)).await {
            Err(_) => Some("timeout".to_owned()),
            Ok(Ok(0)) => Some("closed".to_owned()),
            Ok(Ok(read)) => {
                self.first.get_or_insert(self.begun.elapsed());
                self.bytes += read as u64;
                if self.text.len() < 64 * 1024 {
                    self.text.extend_from_slice(&buffer[..read]);
                }
                None
            }
            Ok(Err(error)) => Some(error.kind().to_string()),
        }
    }
}

/// `--connect A --count N [--send TEXT] [--stop-file F] [--seconds S] [--drip-ms D]`: opens N connections, sends the
/// text on each, then holds them all without reading; with `--drip-ms` each sends one more byte that often.
pub(super) async fn hold(options: &Options) -> anyhow::Result<()> {
    let target = options.text("connect")?;
    let text = options.optional("send").unwrap_or_default().replace("\\r", "\r").replace("\\n", "\n");
    let until = Instant::now() + Duration::from_secs(options.number("seconds", 600)?);
    let drip = options.number("drip-ms", 0)?;
    let (mut held, mut failed) = (Vec::new(), 0);
    for _ in 0..options.number("count", 1)? {
        match tokio::time::timeout(Duration::from_secs(3), TcpStream::connect(target)).await {
            Ok(Ok(mut stream)) => {
                if stream.write_all(text.as_bytes()).await.is_err() {
                    failed += 1;
                }
                held.push(stream);
            }
            _ => failed += 1,
        }
    }
    println!("{}", json!({"held": held.len(), "failed": failed}));
    let stop = options.optional("stop-file");
    while Instant::now() < until && !stop.is_some_and(|f| std::path::Path::new(f).exists()) {
        tokio::time::sleep(Duration::from_millis(if drip == 0 { 50 } else { drip })).await;
        if drip > 0 {
            for stream in &mut held {
                let _ = stream.try_write(b"x");
            }
        }
    }
    Ok(())
}
