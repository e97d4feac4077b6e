use std::time::Duration;

use proptest::prelude::*;

use super::fault::Abort;
use super::headers::is_value;
use super::path::ChangeError;
use super::redirect::{Asked, Port};
use super::retry::{Cause, Conditions, Outcome};
use super::{ALL_PPM, Fault, Mirror, PathChange, Redirect, RegexChange, Retry, is_changeable};
use crate::text::TextMatch;

mod cors;

fn segments(prefix: &str) -> TextMatch {
    TextMatch::PathPrefix(prefix.into())
}

fn prefix(new: &str, by: &TextMatch, path: &str) -> String {
    PathChange::Prefix(new.into()).apply(path, None, Some(by)).unwrap()
}

#[test]
fn a_prefix_by_segments_is_replaced_as_the_gateway_api_has_it() {
    // The table of `HTTPPathModifier.replacePrefixMatch`.
    for (path, by, new, want) in [
        ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
        ("/foo", "/foo", "/xyz", "/xyz"),
        ("/foo/", "/foo", "/xyz", "/xyz/"),
        ("/foo/bar", "/foo", "", "/bar"),
        ("/foo/", "/foo", "", "/"),
        ("/foo", "/foo", "", "/"),
        ("/foo/", "/foo", "/", "/"),
        ("/foo", "/foo", "/", "/"),
        ("/foo", "/", "/xyz", "/xyz/foo"),
        ("/", "/", "/xyz", "/xyz/"),
    ] {
        assert_eq!(prefix(new, &segments(by), path), want, "{path} by {by} with {new}");
    }
}

#[test]
fn a_prefix_by_letters_is_replaced_by_letters() {
    let by = TextMatch::Prefix("/shop".into());
    assert_eq!(prefix("/v2", &by, "/shopping/a"), "/v2ping/a");
    assert_eq!(prefix("/", &by, "/shop/a"), "//a", "as written: the author asks for letters");
    assert_eq!(prefix("", &by, "/shop/a"), "/a");
}

#[test]
fn another_kind_of_match_has_taken_the_whole_path_and_none_takes_nothing() {
    for by in [TextMatch::Exact("/a/b".into()), TextMatch::regex("/a/.*").unwrap()] {
        assert_eq!(prefix("/new", &by, "/a/b"), "/new");
    }
    let without = |path| PathChange::Prefix("/v2".into()).apply(path, Some("q=1"), None).unwrap();
    assert_eq!((without("/a"), without("/")), ("/v2/a?q=1".to_owned(), "/v2/?q=1".to_owned()));
}

#[test]
fn the_query_stays_unless_the_new_path_has_its_own() {
    let full = |new: &str| PathChange::Full(new.into()).apply("/a", Some("x=1"), None).unwrap();
    assert_eq!((full("/b"), full("/b?y=2")), ("/b?x=1".to_owned(), "/b?y=2".to_owned()));
    assert_eq!(PathChange::Full("/b".into()).apply("*", None, None).unwrap(), "*", "of the server, not of a path");
}

#[test]
fn a_path_that_climbs_out_of_its_prefix_is_refused() {
    let by = TextMatch::Prefix("/a".into());
    let climbed = PathChange::Prefix("/b/".into()).apply("/a../secret", None, Some(&by));
    assert_eq!(climbed, Err(ChangeError::Dots));
    let broken = PathChange::Regex(RegexChange::new("2F", "").unwrap()).apply("/a%2Fb", None, None);
    assert!(matches!(broken, Err(ChangeError::NoPath(_))), "{broken:?}");
    let long = PathChange::Regex(RegexChange::new("a", "bbbbbbbbbb").unwrap());
    assert_eq!(long.apply(&format!("/{}", "a".repeat(4000)), None, None), Err(ChangeError::Long));
}

#[test]
fn a_regex_replaces_every_match_with_its_groups() {
    let change = |pattern, new| PathChange::Regex(RegexChange::new(pattern, new).unwrap());
    let users = change("^/service/([^/]+)(/.*)$", r"\2/instance/\1");
    assert_eq!(users.apply("/service/foo/v1/api", Some("k"), None).unwrap(), "/v1/api/instance/foo?k");
    assert_eq!(change("one", "two").apply("/xxx/one/yyy/one/zzz", None, None).unwrap(), "/xxx/two/yyy/two/zzz");
    assert_eq!(change("(?i)/ONE/", r"/\0$1\\").apply("/one/", None, None).unwrap(), "//one/$1/");
    for (pattern, new) in
        [("(", ""), ("a", r"\1"), ("(a)", r"\2"), ("a", r"\x"), ("a", "\\"), ("a", "b c"), ("a", "b#")]
    {
        assert!(RegexChange::new(pattern, new).is_err(), "{pattern} {new}");
    }
}

fn redirect() -> Redirect {
    Redirect { status: 302, scheme: None, host: None, port: Port::Kept, path: None }
}

const ASKED: Asked<'static> =
    Asked { scheme: "http", host: "shop.prod", port: Some(8080), path: "/a/b", query: Some("q=1") };

#[test]
fn a_redirect_takes_from_the_request_what_it_leaves_out() {
    let location = |redirect: Redirect| redirect.location(&ASKED, Some(&segments("/a"))).unwrap();
    assert_eq!(location(redirect()), "http://shop.prod:8080/a/b?q=1");
    assert_eq!(
        location(Redirect { host: Some("example.org".into()), ..redirect() }),
        "http://example.org:8080/a/b?q=1"
    );
    assert_eq!(location(Redirect { scheme: Some("https".into()), ..redirect() }), "https://shop.prod/a/b?q=1");
    assert_eq!(location(Redirect { scheme: Some("http".into()), ..redirect() }), "http://shop.prod:8080/a/b?q=1");
    assert_eq!(location(Redirect { port: Port::OfScheme, ..redirect() }), "http://shop.prod/a/b?q=1");
    for (scheme, port, want) in [
        ("http", 80, "http://shop.prod/"),
        ("https", 443, "https://shop.prod/"),
        ("https", 80, "https://shop.prod:80/"),
        ("http", 8081, "http://shop.prod:8081/"),
    ] {
        let path = Some(PathChange::Full("/".into()));
        let redirect = Redirect { scheme: Some(scheme.into()), port: Port::Number(port), path, ..redirect() };
        let asked = Asked { query: None, ..ASKED };
        assert_eq!(redirect.location(&asked, None).unwrap(), want);
    }
    let path = Some(PathChange::Prefix("/new".into()));
    assert_eq!(location(Redirect { path, ..redirect() }), "http://shop.prod:8080/new/b?q=1");
}

#[test]
fn headers_that_frame_a_message_or_are_ours_may_not_be_changed() {
    for fixed in [
        "Host",
        ":path",
        "connection",
        "Content-Length",
        "transfer-encoding",
        "TE",
        "upgrade",
        "keep-alive",
        "trailer",
        "Causeway-Error",
        "causeway-http1",
        "x-forwarded-client-cert",
        "",
        "a b",
        "a:",
    ] {
        assert!(!is_changeable(fixed), "{fixed}");
    }
    for free in ["x-user", "Cache-Control", "set-cookie", "authorization", "x-envoy-attempt-count", "causeway"] {
        assert!(is_changeable(free), "{free}");
    }
    assert!(is_value("a\tb ü") && !is_value("a\r\nb") && !is_value("\0"));
}

#[test]
fn a_share_is_exact_over_a_million_points() {
    for share_ppm in [0, 1, 999_999, ALL_PPM] {
        let mirror = Mirror { backend: 0, share_ppm };
        let taken = (0..u64::from(ALL_PPM)).filter(|point| mirror.takes(*point)).count();
        assert_eq!(taken, share_ppm as usize);
    }
    let fault = Fault { delay: Duration::ZERO, delay_ppm: ALL_PPM, abort: Some(Abort::Grpc(14)), abort_ppm: 1 };
    assert_eq!(fault.strikes(0, 0), (None, Some(Abort::Grpc(14))), "a delay of nothing is none");
    let late = Fault { delay: Duration::from_secs(1), abort: None, ..fault };
    assert_eq!(late.strikes(7, 0), (Some(Duration::from_secs(1)), None));
}

fn retry(on: Conditions) -> Retry {
    Retry {
        attempts: 3,
        on,
        statuses: [418].into(),
        grpc_codes: [14].into(),
        try_timeout: None,
        backoff: Duration::from_millis(25),
        backoff_max: Duration::from_millis(250),
        backoff_min: Duration::ZERO,
    }
}

fn answered(status: u16) -> Outcome {
    Outcome { cause: None, status, grpc: None }
}

#[test]
fn each_condition_covers_what_it_says() {
    let none = Conditions::default();
    let failed = |cause, status| Outcome { cause: Some(cause), status, grpc: None };
    let (connect, refused) = (failed(Cause::Connect, 503), failed(Cause::Refused, 502));
    let (reset, late) = (failed(Cause::Reset, 502), failed(Cause::Timeout, 504));
    let covers = |on: Conditions| {
        [connect, refused, reset, late, answered(500), answered(503), answered(409), answered(200)]
            .map(|o| retry(on).covers(&o))
    };
    assert_eq!(covers(none), [false; 8]);
    let connect = Conditions { connect_failure: true, ..none };
    assert_eq!(covers(connect), [true, false, false, false, false, false, false, false]);
    let refused = Conditions { refused_stream: true, ..none };
    assert_eq!(covers(refused), [false, true, false, false, false, false, false, false]);
    assert_eq!(covers(Conditions { reset: true, ..none }), [true, true, true, false, false, false, false, false]);
    let late = Conditions { try_timeout: true, ..none };
    assert_eq!(covers(late), [false, false, false, true, false, false, false, false]);
    let error = Conditions { server_error: true, ..none };
    assert_eq!(covers(error), [true, true, true, true, true, true, false, false]);
    let gateway = Conditions { gateway_error: true, ..none };
    assert_eq!(covers(gateway), [true, true, true, true, false, true, false, false]);
    let conflict = Conditions { conflict: true, ..none };
    assert_eq!(covers(conflict), [false, false, false, false, false, false, true, false]);
    assert!(retry(none).covers(&answered(418)) && !retry(none).covers(&failed(Cause::Reset, 418)), "of responses");
    let grpc = |code| Outcome { grpc: Some(code), ..answered(200) };
    assert!(retry(none).covers(&grpc(14)) && !retry(none).covers(&grpc(13)));
}

proptest! {
    #[test]
    fn the_wait_is_within_its_bounds(number in 0u32..100, unit in prop_oneof![0.0..1.0, Just(f64::NAN), Just(2.0)]) {
        let retry = retry(Conditions::default());
        let bound = Duration::from_millis(25).saturating_mul(1 << number.saturating_sub(1).min(10)).min(Duration::from_millis(250));
        prop_assert!(retry.wait(number, unit) <= bound);
        prop_assert_eq!(retry.wait(number, 0.0), Duration::ZERO);
        let least = Retry { backoff_min: Duration::from_millis(20), ..retry };
        let wait = least.wait(number, unit);
        prop_assert!(wait >= least.backoff_min && wait <= bound.max(least.backoff_min));
    }

    /// Whatever is asked for, what comes out can be forwarded: a normal path.
    #[test]
    fn a_changed_path_is_normal_or_refused(
        path in "/[a-c./%]{0,12}", new in "(/[a-c./]{0,6})?", by in "/[a-c./]{0,6}", kind in 0usize..4,
    ) {
        let Ok(path) = crate::path::normalise(&path) else { return Ok(()) };
        let by = match kind {
            0 => Some(TextMatch::Prefix(by.into())),
            1 => Some(TextMatch::PathPrefix(by.into())),
            2 => Some(TextMatch::Exact(by.into())),
            _ => None,
        };
        prop_assume!(by.as_ref().is_none_or(|by| by.is_match(&path)));
        if let Ok(changed) = PathChange::Prefix(new.into()).apply(&path, None, by.as_ref()) {
            prop_assert!(changed.starts_with('/'));
            let normal = crate::path::normalise(&changed).unwrap().into_owned();
            prop_assert_eq!(&normal, &changed);
        }
    }

    /// By whole segments nothing of the rest of the path is lost, and no segment is glued to another one.
    #[test]
    fn the_rest_of_the_path_survives_a_prefix_by_segments(taken in "(/[ab]{1,2}){1,2}", rest in "(/[ab]{0,2}){0,3}", new in "(/[cd]{1,2}){0,2}/?") {
        let changed = PathChange::Prefix(new.clone().into()).apply(&format!("{taken}{rest}"), None, Some(&segments(&taken))).unwrap();
        let words = |path: &str| path.split('/').filter(|s| !s.is_empty()).map(str::to_owned).collect::<Vec<_>>();
        prop_assert_eq!(words(&changed), [words(&new), words(&rest)].concat());
        prop_assert!(rest.contains("//") || !changed.contains("//"));
    }
}
