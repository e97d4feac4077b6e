//! Accepts connections without ever ending or spinning: a permit before each accept, a back-off after each error.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::drain::Drain;

/// Binds a listener; `[::]` takes IPv4 too, and is `0.0.0.0` where the kernel has no IPv6.
///
/// # Errors
/// Names the address that could not be bound.
pub fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    match listen(address) {
        Err(error) if address.ip() == std::net::Ipv6Addr::UNSPECIFIED && is_no_ipv6(&error) => {
            let v4 = SocketAddr::from((std::net::Ipv4Addr::UNSPECIFIED, address.port()));
            tracing::info!(wanted = %address, listening = %v4, %error, "no IPv6 on this machine: IPv4 only");
            listen(v4).map_err(|e| failed(v4, &e))
        }
        other => other.map_err(|e| failed(address, &e)),
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    TcpListener::from_std(socket.into())
}

fn failed(address: SocketAddr, error: &std::io::Error) -> anyhow::Error {
    anyhow::anyhow!("cannot listen on {address}: {error}; choose another address or end what holds this one")
}

fn is_no_ipv6(error: &std::io::Error) -> bool {
    // EAFNOSUPPORT and EADDRNOTAVAIL on Linux; the kinds are not stable for the first.
    matches!(error.raw_os_error(), Some(97)) || error.kind() == std::io::ErrorKind::AddrNotAvailable
}

/// An accepted connection; the permit goes with it, so that the limit counts connections, not accepts.
pub struct Accepted {
    /// The connection, `TCP_NODELAY` and keep-alive set.
    pub stream: TcpStream,
    /// The other end.
    pub from: SocketAddr,
    /// Held for the life of the connection.
    pub permit: OwnedSemaphorePermit,
}

/// Accepts until the proxy aborts. `serve` must spawn.
pub async fn run(listener: TcpListener, name: &'static str, max: usize, drain: Drain, mut serve: impl FnMut(Accepted)) {
    let permits = Arc::new(Semaphore::new(max));
    let mut failures = 0u32;
    let aborted = drain.reached(crate::drain::Phase::Abort);
    tokio::pin!(aborted);
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let accepted = tokio::select! {
            r = listener.accept() => r,
            () = &mut aborted => return,
        };
        match accepted {
            Ok((stream, from)) => {
                failures = 0;
                tune(&stream);
                serve(Accepted { stream, from: unmap(from), permit });
            }
            Err(error) if is_peer_fault(&error) => {
                tracing::debug!(listener = name, %error, "a connection ended before it was accepted");
            }
            Err(error) => {
                // Mostly EMFILE: the descriptors come back when connections end, so wait for that.
                let wait = causeway_mesh::backoff::delay(
                    failures,
                    Duration::from_millis(10),
                    Duration::from_secs(1),
                    crate::clock::unit(),
                );
                if failures == 0 {
                    tracing::warn!(listener = name, %error, "cannot accept; backing off");
                }
                failures = failures.saturating_add(1);
                tokio::time::sleep(wait).await;
            }
        }
    }
}

fn is_peer_fault(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

/// Sets what every connection of the data plane has: no delay, and keep-alive that finds a dead peer in about 30 s.
pub fn tune(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    // Failing to set an option is no reason to refuse the connection.
    let _ = socket.set_tcp_nodelay(true);
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(15)).with_interval(Duration::from_secs(5));
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    let keepalive = keepalive.with_retries(3);
    let _ = socket.set_tcp_keepalive(&keepalive);
}

/// Sets other times of keep-alive; what is not said stays.
pub fn keep_alive(stream: &TcpStream, times: &causeway_mesh::config::backend::Keepalive) {
    let mut keepalive = TcpKeepalive::new();
    if let Some(time) = times.time {
        keepalive = keepalive.with_time(time);
    }
    if let Some(interval) = times.interval {
        keepalive = keepalive.with_interval(interval);
    }
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    if let Some(probes) = times.probes {
        keepalive = keepalive.with_retries(probes);
    }
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

/// Ends a connection whose peer has not acknowledged what was sent for as long as its silence would be borne if nothing were:
/// without it what is on its way to a machine that is gone is sent again for a quarter of an hour. Not for who sends to a
/// reader that may pause.
#[cfg(target_os = "linux")]
pub fn give_up(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let borne = || {
        let probing = socket.tcp_keepalive_interval()?.saturating_mul(socket.tcp_keepalive_retries()?);
        std::io::Result::Ok(socket.tcp_keepalive_time()?.saturating_add(probing))
    };
    let _ = borne().and_then(|borne| socket.set_tcp_user_timeout(Some(borne)));
}

/// As on Linux, where the system can.
#[cfg(not(target_os = "linux"))]
pub fn give_up(_: &TcpStream) {}

/// An IPv4 address that came through a dual-stack socket, as IPv4.
pub fn unmap(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Where a redirected connection was going; None where nothing redirected it.
#[cfg(target_os = "linux")]
pub fn original_dst(stream: &TcpStream) -> Option<SocketAddr> {
    let socket = SockRef::from(stream);
    let local = stream.local_addr().ok().map(unmap)?;
    let original = if local.is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
    let original = unmap(original.ok()?.as_socket()?);
    (original != local).then_some(original)
}

/// Where a redirected connection was going; nothing redirects here.
#[cfg(not(target_os = "linux"))]
pub fn original_dst(_: &TcpStream) -> Option<SocketAddr> {
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use causeway_mesh::config::backend::Keepalive;

    use super::*;

    #[tokio::test]
    async fn what_is_said_of_keep_alive_is_set_and_the_rest_stays() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        tune(&stream);
        keep_alive(&stream, &Keepalive { probes: Some(7), time: Some(Duration::from_secs(99)), interval: None });
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(99));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(5));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 7);
        give_up(&stream);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(99 + 7 * 5)));
    }
}
