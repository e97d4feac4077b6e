//! Addresses of admin ports as people write them.

use std::net::{SocketAddr, ToSocketAddrs};

/// Parses `http://host:port`, `host:port` or `port` into a socket address.
///
/// # Errors
/// What is wrong with `text`, and the form that is asked for.
pub fn admin_address(text: &str) -> Result<SocketAddr, String> {
    let rest = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    if text.starts_with("https://") {
        return Err("admin ports speak plain HTTP on loopback; write http://HOST:PORT".to_owned());
    }
    let with_host = if rest.parse::<u16>().is_ok() { format!("127.0.0.1:{rest}") } else { rest.to_owned() };
    if let Ok(address) = with_host.parse() {
        return Ok(address);
    }
    with_host.to_socket_addrs().ok().and_then(|mut found| found.next()).ok_or_else(|| {
        format!("`{text}` is not an address; write http://HOST:PORT, for example http://127.0.0.1:15000")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_an_admin_address_is_understood() {
        for text in ["http://127.0.0.1:15000", "http://127.0.0.1:15000/", "127.0.0.1:15000", "15000"] {
            assert_eq!(admin_address(text), Ok(SocketAddr::from(([127, 0, 0, 1], 15000))), "{text}");
        }
        assert_eq!(admin_address("http://[::1]:1"), Ok("[::1]:1".parse().expect("an address")));
    }

    #[test]
    fn a_wrong_admin_address_says_what_to_write() {
        assert!(admin_address("https://127.0.0.1:15000").expect_err("https").contains("http://HOST:PORT"));
        assert!(admin_address("nonsense").expect_err("no port").contains("http://HOST:PORT"));
    }
}
