use proptest::prelude::*;

use super::Detected::{Http1, Http2, NeedMore, Opaque, Tls};
use super::{Detected, LIMIT, classify};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[test]
fn http_is_known_by_its_request_line() {
    for line in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"GET /",
        b"POST /a?b HTTP/1.0\r\n",
        b"GET http://a/ HTTP/1.1\r\n",
        b"get / HTTP/1.1\r\n",
        b"CONNECT a:443 HTTP/1.1\r\n",
        b"OPTIONS * HTTP/1.1\r\n",
        b"PROPFIND /dav HTTP/1.1\r\n",
        b"X-MY-METHOD /x HTTP/1.1\n",
        b"PRI * HTTP/2.0\r\n\r\nXX",
        b"PRI /x HTTP/1.1\r\n",
    ] {
        assert_eq!(classify(line), Http1, "{}", line.escape_ascii());
    }
}

#[test]
fn malformed_http_is_still_http_so_that_it_is_refused_as_such() {
    for line in [
        &b"GET /\0 HTTP/1.1\r\n"[..],
        b"GET  / HTTP/1.1\r\n",
        b"GET /a b HTTP/1.1\r\n",
        b"\r\n\r\nGET / HTTP/1.1\r\n",
        b"\nFOO / HTTP/1.1\r\n",
        b"GET / HTTP/9.9\r\n",
        b"GET / http/1.1\r\n",
        b"GET /old\r\n",
        b"FOO / HTTP/1.1 \r\n",
    ] {
        assert_eq!(classify(line), Http1, "{}", line.escape_ascii());
    }
}

#[test]
fn http2_is_known_by_its_whole_preface() {
    assert_eq!(classify(PREFACE), Http2);
    assert_eq!(classify(&[PREFACE, b"\0\0\0\x04\0\0\0\0\0"].concat()), Http2);
    for len in 0..PREFACE.len() {
        assert_eq!(classify(&PREFACE[..len]), NeedMore, "{len} bytes");
    }
}

#[test]
fn tls_is_known_by_three_bytes() {
    assert_eq!(classify(&[0x16]), NeedMore);
    assert_eq!(classify(&[0x16, 3]), NeedMore);
    for minor in 0..=4 {
        assert_eq!(classify(&[0x16, 3, minor]), Tls);
    }
    assert_eq!(classify(&[0x16, 3, 5]), Opaque);
    assert_eq!(classify(&[0x16, 2]), Opaque);
}

#[test]
fn other_protocols_are_opaque_as_soon_as_they_differ() {
    for bytes in [
        &b"\0\0\0\x08\x04\xd2\x16\x2f"[..], // PostgreSQL SSLRequest
        b"*1\r\n$4\r\nPING\r\n",            // Redis
        b"PING\r\n",
        b"SSH-2.0-OpenSSH_9.6 Debian\r\n",
        b"EHLO mail.example.com\r\n",
        b"USER anonymous\r\n",
        b"get some_key\r\n",                // memcached
        b"CONNECT\naccept-version:1.2\n",   // STOMP
        b"CONNECT {\"verbose\":false}\r\n", // NATS
        b"OPTIONS rtsp://camera/ RTSP/1.0\r\n",
        b"\x10\x0c\0\x04MQTT",
        b"GET\t/ HTTP/1.1\r\n",
        b" GET / HTTP/1.1\r\n",
    ] {
        assert_eq!(classify(bytes), Opaque, "{}", bytes.escape_ascii());
    }
}

#[test]
fn an_endless_undecided_beginning_is_opaque_at_the_limit() {
    for (bytes, below) in [(vec![b'\n'; LIMIT], NeedMore), (vec![b'A'; LIMIT], Opaque)] {
        assert_eq!(classify(&bytes[..LIMIT - 1]), below);
        assert_eq!(classify(&bytes), Opaque);
    }
    let line = [b"FOO ".to_vec(), vec![b'a'; LIMIT]].concat();
    assert_eq!(classify(&line[..LIMIT - 1]), NeedMore);
    assert_eq!(classify(&line), Opaque);
}

#[test]
fn a_method_has_at_most_32_bytes() {
    let line = |length| format!("{} / HTTP/1.1\r\n", "M".repeat(length));
    assert_eq!(byte_by_byte(line(32).as_bytes()), Http1);
    assert_eq!(byte_by_byte(line(33).as_bytes()), Opaque);
    assert_eq!(classify(line(33).as_bytes()), Opaque, "nor once the whole line is there");
}

/// The answer at the first split point that decides, as a connection sees it that gets one byte at a time.
fn byte_by_byte(bytes: &[u8]) -> Detected {
    (0..=bytes.len()).map(|end| classify(&bytes[..end])).find(|d| *d != NeedMore).unwrap_or(NeedMore)
}

fn beginnings() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        Just(b"GET".to_vec()),
        Just(b"PRI".to_vec()),
        Just(b" ".to_vec()),
        Just(b"/".to_vec()),
        Just(b"*".to_vec()),
        Just(b"HTTP/1.1".to_vec()),
        Just(b"HTTP/2.0".to_vec()),
        Just(b"http://".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"\r".to_vec()),
        Just(b"SM".to_vec()),
        Just(vec![0x16, 3, 1]),
        prop::collection::vec(any::<u8>(), 0..6),
        "[A-Za-z]{1,12}".prop_map(String::into_bytes),
    ];
    prop_oneof![
        prop::collection::vec(word, 0..12).prop_map(|words| words.concat()),
        (0usize..=24, prop::collection::vec(any::<u8>(), 0..8)).prop_map(|(n, rest)| [&PREFACE[..n], &rest].concat()),
        prop::collection::vec(any::<u8>(), 0..64),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_decision_never_changes_however_the_bytes_arrive(bytes in beginnings()) {
        prop_assert_eq!(byte_by_byte(&bytes), classify(&bytes));
        let mut decided = NeedMore;
        for end in 0..=bytes.len() {
            let now = classify(&bytes[..end]);
            prop_assert!(decided == NeedMore || now == decided, "{decided:?} became {now:?} at {end}");
            decided = now;
        }
    }

    #[test]
    fn a_request_line_of_any_method_is_http(method in "[A-Za-z0-9!#$%&'*+.^_`|~-]{1,32}", target in "/[!-~]{0,40}") {
        prop_assert_eq!(classify(format!("{method} {target} HTTP/1.1\r\n").as_bytes()), Http1);
    }
}
