#![allow(clippy::unwrap_used)]
use http::Request;

use super::*;

fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    fields.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
}

#[test]
fn hop_by_hop_fields_and_those_that_connection_names_end_here() {
    let mut headers = map(&[
        ("connection", "close, x-private"),
        ("keep-alive", "timeout=5"),
        ("x-private", "1"),
        ("proxy-authorization", "Basic x"),
        ("te", "trailers, deflate"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("accept", "*/*"),
    ]);
    strip(&mut headers, false);
    assert_eq!(headers, map(&[("accept", "*/*"), ("te", "trailers")]));
}

#[test]
fn each_of_them_ends_here_when_it_comes_alone() {
    let hop = ["connection", "upgrade", "keep-alive", "proxy-connection", "http2-settings", "proxy-authenticate"];
    for name in hop.into_iter().chain(["proxy-authorization", "transfer-encoding", "te"]) {
        let mut headers = map(&[(name, "x"), ("accept", "a")]);
        strip(&mut headers, false);
        assert_eq!(headers, map(&[("accept", "a")]), "{name}");
    }
    for name in ["x-forwarded-client-cert", "causeway-http1", "causeway-error", "causeway-else"] {
        let mut headers = map(&[("accept", "a"), (name, "x")]);
        strip_ours(&mut headers);
        assert_eq!(headers, map(&[("accept", "a")]), "{name}");
    }
}

#[test]
fn connection_cannot_name_away_the_host() {
    let mut headers = map(&[("connection", "host"), ("host", "a")]);
    strip(&mut headers, false);
    assert_eq!(headers, map(&[("host", "a")]));
}

#[test]
fn an_upgrade_is_kept_only_where_it_is_meant() {
    let mut headers = map(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
    assert_eq!(upgrade(&headers).unwrap(), "websocket");
    strip(&mut headers, true);
    assert_eq!(headers, map(&[("connection", "upgrade"), ("upgrade", "websocket")]));
    assert_eq!(upgrade(&map(&[("upgrade", "websocket")])), None, "connection does not name it");
    assert_eq!(upgrade(&map(&[("connection", "upgrade"), ("upgrade", "h2c")])), None, "never offered");
}

#[test]
fn nobody_else_speaks_for_us() {
    let mut headers = map(&[
        ("x-forwarded-client-cert", "URI=spiffe://cluster.local/ns/a/sa/b"),
        ("causeway-error", "x"),
        ("causeway-http1", "1"),
        ("x-causeway", "stays"),
    ]);
    strip_ours(&mut headers);
    assert_eq!(headers, map(&[("x-causeway", "stays")]));
}

#[test]
fn grpc_is_told_from_grpc_web() {
    for (value, is) in [
        ("application/grpc", true),
        ("application/grpc+proto", true),
        ("application/grpc; charset=utf-8", true),
        ("application/grpc-web", false),
        ("text/plain", false),
    ] {
        assert_eq!(is_grpc(&map(&[("content-type", value)])), is, "{value}");
    }
}

fn parts(target: &str, hosts: &[&'static str]) -> Parts {
    let mut request = Request::builder().uri(target);
    for host in hosts {
        request = request.header("host", *host);
    }
    request.body(()).unwrap().into_parts().0
}

#[test]
fn there_is_exactly_one_authority() {
    assert_eq!(authority(&parts("/", &["a.b:80"])).unwrap(), "a.b:80");
    assert_eq!(authority(&parts("http://a.b/", &[])).unwrap(), "a.b");
    assert_eq!(authority(&parts("http://A.b/", &["a.B"])).unwrap(), "A.b");
    assert_eq!(authority(&parts("http://a:80/", &["a"])).unwrap(), "a:80");
    assert_eq!(authority(&parts("http://a/", &["a:80"])).unwrap(), "a");
    for (target, hosts) in [
        ("/", &["a", "b"][..]),
        ("/", &["a", "a"]),
        ("http://a/", &["b"]),
        ("http://a/", &["a:443"]),
        ("https://a/", &["a:80"]),
        ("http://a/", &["u@a"]),
        ("http://a/", &["a:"]),
        ("/", &[]),
    ] {
        assert!(authority(&parts(target, hosts)).is_err(), "{target} {hosts:?}");
    }
}

#[test]
fn the_query_survives_the_path_being_normalised() {
    let mut parts = parts("http://a/x/../b%2e?q=/../1", &[]);
    normalise(&mut parts).unwrap();
    assert_eq!(parts.uri, "http://a/b.?q=/../1");
}
