#![allow(clippy::unwrap_used)]

use super::*;

struct Request(Vec<(&'static str, String)>);

impl RequestView for Request {
    fn path(&self) -> &str {
        "/"
    }
    fn query(&self) -> &str {
        ""
    }
    fn method(&self) -> &str {
        "GET"
    }
    fn host(&self) -> &str {
        "shop"
    }
    fn header<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| *n == name).map(|(_, v)| v.as_str())
    }
}

fn plain() -> Request {
    Request(Vec::new())
}

fn limit(name: &str, requests: u32, key: Key) -> Arc<Limit> {
    let rate = Rate::new(requests, Duration::from_secs(3600), requests).unwrap();
    Arc::new(Limit { name: name.into(), matches: Vec::new(), ports: Vec::new(), rate, key })
}

fn admit(limits: &Limits, source: &Arc<[Arc<Limit>]>, request: &Request) -> Result<Option<Told>, Refusal> {
    limits.admit(source, None, 8080, request)
}

#[test]
fn the_narrowest_limit_is_told_and_the_empty_one_is_named() {
    let limits = Limits::default();
    let source: Arc<[_]> = Arc::new([limit("prod/wide#0", 10, Key::All), limit("prod/narrow#0", 2, Key::All)]);
    assert_eq!(admit(&limits, &source, &plain()).unwrap().unwrap().remaining, 1);
    assert_eq!(admit(&limits, &source, &plain()).unwrap().unwrap().limit, 2);
    let refused = admit(&limits, &source, &plain()).unwrap_err();
    assert_eq!((refused.reject, refused.subject.as_str()), (Reject::RateLimited, "limit prod/narrow#0"));
    // What one limit refused, the others have not counted.
    let wide: Arc<[_]> = Arc::new([Arc::clone(&source[0])]);
    assert_eq!(admit(&limits, &wide, &plain()).unwrap().unwrap().remaining, 7);
}

#[test]
fn a_new_configuration_keeps_the_counts_of_limits_that_are_the_same() {
    let limits = Limits::default();
    let first: Arc<[_]> = Arc::new([limit("a#0", 1, Key::All)]);
    assert!(admit(&limits, &first, &plain()).is_ok());
    let second: Arc<[_]> = Arc::new([limit("b#0", 5, Key::All), limit("a#0", 1, Key::All)]);
    assert!(admit(&limits, &second, &plain()).is_err());
    let changed: Arc<[_]> = Arc::new([limit("a#0", 2, Key::All)]);
    assert!(admit(&limits, &changed, &plain()).is_ok());
}

#[test]
fn each_value_of_a_header_has_its_own_count_and_requests_without_it_share_one() {
    let limits = Limits::default();
    let source: Arc<[_]> = Arc::new([limit("a#0", 1, Key::Header("x-user".into()))]);
    let of = |user: &str| Request(vec![("x-user", user.to_owned())]);
    for request in [of("anna"), of("bert"), plain()] {
        assert!(admit(&limits, &source, &request).is_ok());
        assert!(admit(&limits, &source, &request).is_err());
    }
}

#[test]
fn keys_that_are_made_up_cost_bounded_memory_and_share_what_is_left() {
    let limits = Limits::default();
    let source: Arc<[_]> = Arc::new([limit("a#0", 1, Key::Header("x-user".into()))]);
    let admitted = (0..MOST_KEYS + 500)
        .filter(|n| admit(&limits, &source, &Request(vec![("x-user", n.to_string())])).is_ok())
        .count();
    assert_eq!(admitted, MOST_KEYS + 1);
    let counted = limits.counted.lock().unwrap();
    assert_eq!(counted.counters[0].keyed.len(), MOST_KEYS);
}

#[test]
fn other_ports_are_not_counted() {
    let limits = Limits::default();
    let mut one = (*limit("a#0", 1, Key::All)).clone();
    one.ports = vec![9090];
    let source: Arc<[_]> = Arc::new([Arc::new(one)]);
    assert_eq!(admit(&limits, &source, &plain()).unwrap(), None);
    assert!(limits.admit(&source, None, 9090, &plain()).unwrap().is_some());
    assert!(limits.admit(&source, None, 9090, &plain()).is_err());
}
