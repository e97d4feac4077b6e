//! Ports of loopback for servers that a suite starts.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

const FIRST: u16 = 20_000;
/// Up to 29999: above are the node ports of Kubernetes, and from 32768 on those that the kernel gives to clients.
const COUNT: u16 = 10_000;

/// A port that nobody listens on, below those that the kernel gives to outgoing connections: else a client that keeps
/// trying a stopped server, or any other, could be given the very port and keep the server from it. No two calls of a
/// process get the same one.
///
/// # Panics
/// All of them are taken.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Each test process begins elsewhere.
    let offset = u16::try_from(std::process::id().wrapping_mul(37) % u32::from(COUNT)).expect("below COUNT");
    (0..COUNT)
        .map(|_| FIRST + offset.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}
