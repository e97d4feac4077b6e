//! Where redirects point and what rewritten requests look like, by the letter of the standard: the conformance suite
//! looks at the status alone.

use crate::{TOWN_NAME, Town, parent};

const REDIRECTS: &str = "  rules:
  - matches: [{path: {value: /scheme}}]
    filters: [{type: RequestRedirect, requestRedirect: {scheme: https}}]
  - matches: [{path: {value: /host}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: example.org}}]
  - matches: [{path: {value: /port}}]
    filters: [{type: RequestRedirect, requestRedirect: {port: 8083}}]
  - matches: [{path: {value: /https-443}}]
    filters: [{type: RequestRedirect, requestRedirect: {scheme: https, port: 443}}]
  - matches: [{path: {value: /https-8443}}]
    filters: [{type: RequestRedirect, requestRedirect: {scheme: https, port: 8443, hostname: example.org, statusCode: 301}}]
  - matches: [{path: {value: /prefix}}]
    filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /lime}}}]
  - matches: [{path: {value: /slash}}]
    filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /lime/}}}]
  - matches: [{path: {value: /strip}}]
    filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}]
  - matches: [{path: {value: /full}}]
    filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplaceFullPath, replaceFullPath: /new}}}]
  - matches: [{path: {value: /see-other}}]
    filters: [{type: RequestRedirect, requestRedirect: {statusCode: 303, hostname: example.org}}]
  - matches: [{path: {value: /temporary}}]
    filters: [{type: RequestRedirect, requestRedirect: {statusCode: 307, hostname: example.org}}]
  - matches: [{path: {value: /permanent}}]
    filters: [{type: RequestRedirect, requestRedirect: {statusCode: 308, hostname: example.org}}]
";

const REWRITES: &str = "  rules:
  - matches: [{path: {value: /prefix/one}}]
    filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /one}}}]
    backendRefs: [{name: v1, port: 80}]
  - matches: [{path: {value: /strip}}]
    filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}]
    backendRefs: [{name: v1, port: 80}]
  - matches: [{path: {value: /slash}}]
    filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /one/}}}]
    backendRefs: [{name: v1, port: 80}]
  - matches: [{path: {value: /full}}]
    filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /one}}}]
    backendRefs: [{name: v1, port: 80}]
  - matches: [{path: {value: /host}}]
    filters:
    - type: URLRewrite
      urlRewrite: {hostname: one.example.org, path: {type: ReplaceFullPath, replaceFullPath: /headers}}
    backendRefs: [{name: v1, port: 80}]
";

#[test]
fn redirects_point_where_the_standard_says() {
    let Some(town) = Town::shared() else { return };
    let _told = town.node.told(&[TOWN_NAME]);
    town.route("HTTPRoute", "redirects", &parent("redirects", REDIRECTS));
    let cases = [
        ("http://redirects/scheme", 302, "https://redirects/scheme"),
        ("http://redirects.town.svc.cluster.local/scheme", 302, "https://redirects.town.svc.cluster.local/scheme"),
        ("http://redirects/host?a=b", 302, "http://example.org/host?a=b"),
        ("http://redirects/port", 302, "http://redirects:8083/port"),
        ("http://redirects/https-443", 302, "https://redirects/https-443"),
        ("http://redirects/https-8443", 301, "https://example.org:8443/https-8443"),
        // The port of the request stays, unless the scheme changes.
        ("http://redirects:8080/host", 302, "http://example.org:8080/host"),
        ("http://redirects:8080/scheme", 302, "https://redirects/scheme"),
        ("http://redirects/prefix/lemon?a=b", 302, "http://redirects/lime/lemon?a=b"),
        ("http://redirects/prefix", 302, "http://redirects/lime"),
        ("http://redirects/prefix/", 302, "http://redirects/lime/"),
        ("http://redirects/slash/lemon", 302, "http://redirects/lime/lemon"),
        ("http://redirects/strip/lemon", 302, "http://redirects/lemon"),
        ("http://redirects/strip", 302, "http://redirects/"),
        ("http://redirects/full/lemon?a=b", 302, "http://redirects/new?a=b"),
        ("http://redirects/see-other", 303, "http://example.org/see-other"),
        ("http://redirects/temporary", 307, "http://example.org/temporary"),
        ("http://redirects/permanent", 308, "http://example.org/permanent"),
    ];
    for (url, status, location) in cases {
        let reply = town.client.curl(&[url]);
        assert_eq!((reply.status, reply.header("location")), (status, location), "{url}: {reply:?}");
    }
    // Not a whole segment, so no redirect; and no other rule is there.
    let reply = town.client.curl(&["http://redirects/schemes"]);
    assert_eq!((reply.status, reply.code()), (404, "no_route"), "{reply:?}");
}

#[test]
fn rewritten_requests_arrive_as_the_standard_says() {
    let Some(town) = Town::shared() else { return };
    let _told = town.node.told(&[TOWN_NAME]);
    town.route("HTTPRoute", "rewrites", &parent("rewrites", REWRITES));
    let cases = [
        ("http://rewrites/prefix/one/two?a=b", "/one/two?a=b"),
        ("http://rewrites/prefix/one", "/one"),
        ("http://rewrites/strip/three", "/three"),
        ("http://rewrites/strip", "/"),
        ("http://rewrites/strip?a=b", "/?a=b"),
        ("http://rewrites/slash/two", "/one/two"),
        ("http://rewrites/full/two?a=b", "/one?a=b"),
    ];
    for (url, target) in cases {
        let reply = town.client.curl(&[url]);
        assert_eq!((reply.status, reply.header("x-target")), (200, target), "{url}: {reply:?}");
    }
    let told = town.client.curl(&["http://rewrites/host/x"]).json();
    let header = |name: &str| {
        let mut all = told["headers"].as_array().into_iter().flatten();
        all.find(|h| h[0] == name).and_then(|h| h[1].as_str()).unwrap_or_default().to_owned()
    };
    assert_eq!((told["target"].as_str(), header("host").as_str()), (Some("/headers"), "one.example.org"), "{told}");
    // It came over mutual TLS: the server's proxy knows who called.
    let caller = "URI=spiffe://cluster.local/ns/town/sa/client";
    assert!(header("x-forwarded-client-cert").contains(caller), "{told}");
}
