//! The two clients that must be refused: one with a foreign identity, one with none.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::board::Refusal;
use super::traffic::{Client, TARGET};

/// The policy that refuses the intruder.
const POLICY: &str = "prod/prodsvc-callers";

/// Sends one request through the intruder's own proxy.
pub(super) async fn foreign_identity(proxy: SocketAddr) -> Refusal {
    match Client::new(proxy).ask(TARGET).await {
        Ok(answer) => {
            // The header is `code subject`, and the subject names the policy.
            let error = answer.error.unwrap_or_default();
            let code = error.split(' ').next().unwrap_or_default();
            let is_named = error.contains(POLICY) || answer.body.contains(POLICY);
            let holds = answer.status == 403 && code == "policy_denied" && is_named;
            let what = if holds { format!("403 {code} by {POLICY}") } else { format!("{} {error}", answer.status) };
            Refusal { holds, what }
        }
        Err(error) => Refusal { holds: false, what: format!("no answer: {error:#}") },
    }
}

/// Speaks plain HTTP straight to the inbound listener of a proxy, as somebody on the same network could.
pub(super) async fn plain_text(inbound: SocketAddr) -> Refusal {
    let stream = match TcpStream::connect(inbound).await {
        Ok(stream) => stream,
        Err(error) => return Refusal { holds: false, what: format!("nobody listens there ({error})") },
    };
    match timeout(Duration::from_secs(10), speak(stream)).await {
        Err(_) => Refusal { holds: false, what: "neither an answer nor an end".to_owned() },
        Ok(Err(error)) => Refusal { holds: true, what: format!("connection ended ({})", error.kind()) },
        Ok(Ok(answer)) if answer.is_empty() => {
            Refusal { holds: true, what: "connection closed without a byte".to_owned() }
        }
        Ok(Ok(answer)) => {
            let text = String::from_utf8_lossy(&answer);
            let status = text.split_whitespace().nth(1).unwrap_or_default().to_owned();
            let code = text
                .lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(name, _)| name.eq_ignore_ascii_case("causeway-error"))
                .map(|(_, value)| value.trim().to_owned())
                .unwrap_or_default();
            Refusal { holds: status.starts_with('4') && !code.is_empty(), what: format!("{status} {code}") }
        }
    }
}

async fn speak(mut stream: TcpStream) -> std::io::Result<Vec<u8>> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: prodsvc.prod\r\nConnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.take(64 << 10).read_to_end(&mut answer).await?;
    Ok(answer)
}
