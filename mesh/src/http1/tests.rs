//! The guard against the shared corpus, against any splitting of a stream, and against another parser.
#![allow(clippy::unwrap_used)]

#[path = "../../../tests/desync/corpus.rs"]
#[allow(dead_code, reason = "the end-to-end suite uses all of it")]
mod corpus;
mod generated;

use std::collections::BTreeSet;

use corpus::Expected;

use super::*;

/// What the guard let pass of a stream that comes in pieces of these sizes, over and over.
fn run(stream: &[u8], pieces: &[usize]) -> (Vec<u8>, Option<Violation>, Guard) {
    let mut guard = Guard::new(Limits::default());
    let (mut passed, mut buffer, mut rest) = (Vec::new(), Vec::new(), stream);
    let mut sizes = pieces.iter().copied().cycle();
    loop {
        match guard.step(&buffer) {
            Step::Pass(length) => {
                assert!(length > 0 && length <= buffer.len());
                passed.extend(buffer.drain(..length));
            }
            Step::NeedMore if rest.is_empty() => return (passed, None, guard),
            Step::NeedMore => {
                let (now, later) = rest.split_at(sizes.next().unwrap_or(1).clamp(1, rest.len()));
                buffer.extend_from_slice(now);
                rest = later;
            }
            Step::Refuse(violation) => {
                assert_eq!(guard.step(&buffer), Step::Refuse(violation), "a refusal is final");
                return (passed, Some(violation), guard);
            }
        }
    }
}

#[test]
fn every_case_of_the_corpus_meets_its_verdict() {
    let cases = corpus::all();
    let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len(), "names are unique");
    assert!(cases.len() >= 400, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        for pieces in [&[usize::MAX][..], &[1], &[3, 7, 1]] {
            let (passed, violation, guard) = run(&case.bytes, pieces);
            let as_expected = match (&case.expected, violation) {
                (Expected::Forward(_), None) => passed == case.bytes && guard.is_between_messages(),
                (Expected::RefuseHead(_), Some(_)) => guard_passed_only(&case.expected, &passed),
                (Expected::RefuseBody(_), Some(_)) => passed.len() < case.bytes.len(),
                _ => false,
            };
            if !as_expected {
                wrong.push(format!("{} in {pieces:?}: {violation:?}, {} bytes passed", case.name, passed.len()));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Nothing but the requests before the refused head.
fn guard_passed_only(expected: &Expected, passed: &[u8]) -> bool {
    let Expected::RefuseHead(before) = expected else { return false };
    if before.is_empty() { passed.is_empty() } else { !corpus::text(passed).contains("CASE") && !passed.is_empty() }
}

#[test]
fn refusals_name_the_rule() {
    let violation = |text: &str| run(&corpus::latin1(text), &[usize::MAX]).1.unwrap();
    for (text, expected) in [
        ("GET / HTTP/1.1\r\n\r\n", Violation::HostMissing),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Violation::HostRepeated),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Violation::HostInvalid),
        ("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", Violation::HostDiffers),
        ("GET /#a HTTP/1.1\r\nHost: a\r\n\r\n", Violation::Target),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", Violation::Version),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Violation::RequestLine),
        ("G@T / HTTP/1.1\r\nHost: a\r\n\r\n", Violation::Method),
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", Violation::BareLineFeed),
        ("GET / HTTP/1.1\r\nX: a\rb\r\n\r\n", Violation::BareCarriageReturn),
        ("GET / HTTP/1.1\r\nX: a\0b\r\n\r\n", Violation::Nul),
        ("GET / HTTP/1.1\r\nX: a\u{1}b\r\n\r\n", Violation::FieldValue),
        ("GET / HTTP/1.1\r\nX : a\r\n\r\n", Violation::SpaceBeforeColon),
        ("GET / HTTP/1.1\r\nX@: a\r\n\r\n", Violation::FieldName),
        ("GET / HTTP/1.1\r\nX: a\r\n b\r\n\r\n", Violation::LineFolding),
        ("\r\n\r\nGET / HTTP/1.1\r\n", Violation::LeadingEmptyLines),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", Violation::LengthInvalid),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 0\r\n\r\n", Violation::ConnectWithBody),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Violation::EncodingInOldVersion),
        ("GET / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n", Violation::Expectation),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: host\r\n\r\n", Violation::ConnectionNamesFraming),
    ] {
        assert_eq!(violation(text), expected, "{text:?}");
        assert!(expected.to_string().contains("RFC"), "{expected}");
    }
}

#[test]
fn every_refusal_is_answered_with_a_client_error() {
    use crate::reject::Reject;
    assert_eq!(Violation::HeadTooLarge.reject(), Reject::HeadTooLarge);
    assert_eq!(Violation::LengthWithEncoding.reject(), Reject::AmbiguousRequest);
    assert_eq!(Violation::Version.reject(), Reject::BadRequest);
}

#[test]
fn a_head_is_held_back_until_it_is_complete() {
    let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut guard = Guard::new(Limits::default());
    assert!(guard.is_between_messages() && !guard.is_in_head());
    assert_eq!(guard.step(b"\r\n"), Step::NeedMore);
    assert!(guard.is_between_messages(), "an empty line begins no request");
    let mut guard = Guard::new(Limits::default());
    for end in 1..head.len() {
        assert_eq!(guard.step(&head[..end]), Step::NeedMore);
        assert!(guard.is_in_head() && !guard.is_between_messages());
    }
    assert_eq!(guard.step(head), Step::Pass(head.len()));
    assert!(guard.is_between_messages());
}

#[test]
fn limits_are_exact() {
    let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let limited = |head_bytes, headers| Guard::new(Limits { head_bytes, headers, ..Limits::default() });
    assert_eq!(limited(head.len(), 1).step(head), Step::Pass(head.len()));
    assert_eq!(limited(head.len() - 1, 1).step(head), Step::Refuse(Violation::HeadTooLarge));
    assert_eq!(limited(head.len(), 0).step(head), Step::Refuse(Violation::TooManyFields));
    assert_eq!(limited(10, 1).step(&head[..10]), Step::NeedMore);
    assert_eq!(limited(10, 1).step(&head[..11]), Step::Refuse(Violation::HeadTooLarge));
}

#[test]
fn facts_of_a_head_are_told() {
    let facts = |text: &str| run(text.as_bytes(), &[usize::MAX]).2.last_head();
    let upgrade = facts("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Upgrade\r\nUpgrade: h2c, websocket\r\n\r\n");
    assert!(upgrade.is_upgrade && upgrade.names_h2c && upgrade.asks_for_tunnel() && !upgrade.is_connect);
    assert!(!facts("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n").asks_for_tunnel());
    assert!(facts("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n").asks_for_tunnel());
    let old = facts("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 7\r\n\r\n");
    assert!(old.is_http_1_0 && old.expects_continue && old.content_length == 7);
}
