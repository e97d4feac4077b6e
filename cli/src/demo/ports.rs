//! Free TCP ports of the loopback address.

use std::io;
use std::net::{Ipv4Addr, TcpListener};

/// `count` different ports that nobody listens on now. Somebody else may take one before it is used; whoever starts a
/// process on it must be ready to try again with others.
///
/// # Errors
/// No socket could be bound.
pub(super) fn free(count: usize) -> io::Result<Vec<u16>> {
    // All are held until all are known, so that they differ.
    let held = (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<io::Result<Vec<_>>>()?;
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn free_ports_differ() {
        let mut ports = super::free(16).expect("ports");
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 16);
    }
}
