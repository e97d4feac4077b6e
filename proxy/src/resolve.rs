//! Endpoints of backends that are known by name: asks DNS again and again, and keeps the last good answer. The system's
//! resolver says nothing of how long an answer holds, so the pause is ours.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Weak};
use std::time::Duration;

use causeway_mesh::config::Endpoint;
use causeway_mesh::name;
use tokio::sync::watch;

use crate::clock;
use crate::endpoint::BackendState;

/// Between two questions.
const EVERY: Duration = Duration::from_secs(5);

/// After a question that nobody answered.
const AGAIN: Duration = Duration::from_secs(1);

/// For one answer.
const ANSWER: Duration = Duration::from_secs(4);

/// Addresses of one backend that are used.
const MOST: usize = 256;

/// Whether the first question was answered, or could not be.
pub type Asked = watch::Receiver<bool>;

/// Keeps the endpoints of `state` as DNS has them, for as long as somebody uses it. None: it is not known by name.
pub fn follow(state: &Arc<BackendState>) -> Option<Asked> {
    let names = state.backend.dns.clone();
    if names.is_empty() {
        return None;
    }
    let (told, asked) = watch::channel(false);
    tokio::spawn(keep(Arc::downgrade(state), names, told));
    Some(asked)
}

/// Waits until the first question is answered.
pub async fn first(mut asked: Asked) {
    // A sender that is gone went with the backend.
    let _ = tokio::time::timeout(ANSWER, asked.wait_for(|is| *is)).await;
}

async fn keep(state: Weak<BackendState>, names: Vec<String>, told: watch::Sender<bool>) {
    let mut known: Vec<Vec<SocketAddr>> = vec![Vec::new(); names.len()];
    let mut used: Vec<SocketAddr> = Vec::new();
    loop {
        let mut is_good = true;
        for (name, known) in names.iter().zip(&mut known) {
            match ask(name).await {
                Ok(found) => *known = found,
                Err(error) => {
                    is_good = false;
                    tracing::debug!(%name, %error, "not resolved; the last answer stays");
                }
            }
        }
        let Some(state) = state.upgrade() else { return };
        let now = chosen(known.concat(), is_reachable);
        if now != used && !now.is_empty() {
            let endpoints: Arc<[Endpoint]> = now.iter().map(|address| endpoint(*address)).collect();
            state.update(&endpoints, |_| false);
            used = now;
        }
        drop(state);
        told.send_replace(true);
        // Not all proxies at once.
        tokio::time::sleep(if is_good { EVERY.mul_f64(0.8 + 0.4 * clock::unit()) } else { AGAIN }).await;
    }
}

async fn ask(text: &str) -> std::io::Result<Vec<SocketAddr>> {
    let invalid = || std::io::Error::from(std::io::ErrorKind::InvalidInput);
    let parsed = name::host_port(text).map_err(|_| invalid())?;
    let port = parsed.port.ok_or_else(invalid)?;
    let found = tokio::time::timeout(ANSWER, tokio::net::lookup_host((&*parsed.host, port))).await??;
    let found: Vec<SocketAddr> = found.collect();
    if found.is_empty() { Err(std::io::ErrorKind::NotFound.into()) } else { Ok(found) }
}

/// Addresses that are used, in order: never our own machine's or node's, whoever writes the DNS; and of the two families
/// only what there is a way to, unless there is none to any.
fn chosen(all: Vec<SocketAddr>, is_reachable: impl Fn(SocketAddr) -> bool) -> Vec<SocketAddr> {
    let fit = all.into_iter().map(|a| SocketAddr::new(a.ip().to_canonical(), a.port())).filter(|a| !is_local(a.ip()));
    let mut fit: Vec<SocketAddr> = fit.collect();
    fit.sort();
    fit.dedup();
    let family = |v6: bool| fit.iter().find(|a| a.is_ipv6() == v6).is_some_and(|a| is_reachable(*a));
    let (v4, v6) = (family(false), family(true));
    if v4 != v6 {
        fit.retain(|a| a.is_ipv6() == v6);
    }
    fit.truncate(MOST);
    fit
}

/// Whether there is a route; nothing is sent.
fn is_reachable(address: SocketAddr) -> bool {
    let any: SocketAddr = if address.is_ipv6() { ([0u16; 8], 0).into() } else { ([0u8; 4], 0).into() };
    UdpSocket::bind(any).is_ok_and(|socket| socket.connect(address).is_ok())
}

/// Addresses that no name may lead to: the client's own machine, and its node's, where admin ports and metadata live.
pub fn is_local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local() || ip.is_unspecified() || ip.is_multicast(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unspecified() || ip.is_multicast(),
    }
}

fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint {
        address: address.ip(),
        port: address.port(),
        identity: None,
        workload_name: String::new(),
        pod: String::new(),
        namespace: String::new(),
        zone: String::new(),
        region: String::new(),
        for_zones: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use causeway_mesh::config::Backend;

    use super::*;

    fn all(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|t| t.parse().unwrap()).collect()
    }

    #[test]
    fn no_name_leads_to_the_own_machine_or_node() {
        let bad =
            ["127.0.0.1:80", "[::1]:80", "169.254.169.254:80", "[fe80::1]:80", "0.0.0.0:80", "[::ffff:127.0.0.1]:80"];
        assert_eq!(chosen(all(&bad), |_| true), []);
        assert_eq!(chosen(all(&["192.0.2.1:80", "127.0.0.1:80"]), |_| true), all(&["192.0.2.1:80"]));
    }

    #[test]
    fn a_family_without_a_route_is_left_out_unless_it_is_the_only_one() {
        let both = all(&["[2001:db8::1]:80", "192.0.2.1:80", "192.0.2.1:80"]);
        assert_eq!(chosen(both.clone(), |a| a.is_ipv4()), all(&["192.0.2.1:80"]));
        assert_eq!(chosen(both.clone(), |a| a.is_ipv6()), all(&["[2001:db8::1]:80"]));
        assert_eq!(chosen(both.clone(), |_| true).len(), 2);
        assert_eq!(chosen(both, |_| false).len(), 2);
        assert_eq!(chosen(all(&["[2001:db8::1]:80"]), |_| false).len(), 1);
    }

    #[tokio::test]
    async fn the_first_answer_is_waited_for_and_an_address_is_its_own() {
        let backend = Backend { dns: vec!["192.0.2.7:8080".into()], ..Backend::new("a.b:80", "a", "b", 80) };
        let state = Arc::new(BackendState::new(Arc::new(backend)));
        first(follow(&state).unwrap()).await;
        let found = state.choose(&[], None).unwrap().address();
        assert_eq!(found, "192.0.2.7:8080".parse().unwrap());
    }
}
