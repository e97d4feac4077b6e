//! The key of a request for consistent hash, and the cookie that makes a client's requests have one.

use std::time::Duration;

use causeway_mesh::balance::hash;
use causeway_mesh::config::Backend;
use causeway_mesh::config::backend::{Algorithm, HashKey};
use causeway_mesh::{route, split};
use http::header::{self, HeaderValue};
use http::request::Parts;

use crate::clock;
use crate::run::Own;

/// What a request's key comes to.
#[derive(Debug, Default)]
pub struct Hashed {
    /// None: no consistent hash, or the request has no key.
    pub value: Option<u64>,
    /// To be added to the response.
    pub set_cookie: Option<HeaderValue>,
}

/// The key of a request to `backend`.
pub fn of(own: &Own, backend: &Backend, parts: &Parts) -> Hashed {
    let Algorithm::ConsistentHash { keys, .. } = &backend.load_balancing.algorithm else { return Hashed::default() };
    if let Some(value) = keys.iter().find_map(|key| value(own, key, parts)) {
        return Hashed { value: Some(value), set_cookie: None };
    }
    keys.iter().find_map(new_cookie).unwrap_or_default()
}

/// The key of a connection for bytes to `backend`.
pub fn of_connection(own: &Own, backend: &Backend) -> Option<u64> {
    let Algorithm::ConsistentHash { keys, .. } = &backend.load_balancing.algorithm else { return None };
    keys.iter().find_map(|key| of_caller(own, key))
}

fn value(own: &Own, key: &HashKey, parts: &Parts) -> Option<u64> {
    match key {
        HashKey::Header(name) => parts.headers.get(name).map(|v| hash::key(v.as_bytes())),
        HashKey::Cookie { name, .. } => {
            let cookies = parts.headers.get_all(header::COOKIE).iter().filter_map(|v| v.to_str().ok());
            split::cookie(cookies, name).map(|v| hash::key(v.as_bytes()))
        }
        HashKey::Query(name) => {
            route::query_value(parts.uri.query().unwrap_or_default(), name).map(|v| hash::key(v.as_bytes()))
        }
        HashKey::SourceAddress | HashKey::SourceIdentity => of_caller(own, key),
    }
}

/// Every caller of this proxy is the application of one pod, so its address is the pod.
fn of_caller(own: &Own, key: &HashKey) -> Option<u64> {
    match key {
        HashKey::SourceAddress => Some(hash::key(own.workload().as_bytes())),
        HashKey::SourceIdentity => Some(hash::key(&own.id_bytes())),
        HashKey::Header(_) | HashKey::Cookie { .. } | HashKey::Query(_) => None,
    }
}

fn new_cookie(key: &HashKey) -> Option<Hashed> {
    let HashKey::Cookie { name, path, ttl: Some(ttl) } = key else { return None };
    let value = format!("{:016x}", clock::draw());
    let set_cookie = HeaderValue::from_str(&cookie(name, &value, path, *ttl)).ok();
    Some(Hashed { value: Some(hash::key(value.as_bytes())), set_cookie })
}

fn cookie(name: &str, value: &str, path: &str, ttl: Duration) -> String {
    let mut text = format!("{name}={value}; HttpOnly");
    if !path.is_empty() {
        text.push_str("; Path=");
        text.push_str(path);
    }
    if !ttl.is_zero() {
        text.push_str(&format!("; Max-Age={}", ttl.as_secs()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_says_how_long_and_where_it_is_kept() {
        assert_eq!(cookie("k", "v", "/shop", Duration::from_secs(60)), "k=v; HttpOnly; Path=/shop; Max-Age=60");
        assert_eq!(cookie("k", "v", "", Duration::ZERO), "k=v; HttpOnly");
    }

    #[test]
    fn only_a_cookie_with_a_life_is_made() {
        let cookie = |ttl| HashKey::Cookie { name: "k".into(), path: String::new(), ttl };
        assert!(new_cookie(&cookie(None)).is_none());
        let made = new_cookie(&cookie(Some(Duration::ZERO))).unwrap_or_default();
        assert!(made.value.is_some() && made.set_cookie.is_some());
        assert!(new_cookie(&HashKey::SourceAddress).is_none());
    }
}
