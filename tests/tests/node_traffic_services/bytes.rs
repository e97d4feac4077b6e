//! Connections that are no requests: by weight, by port, and by the name that their TLS asks for.

use std::collections::BTreeMap;

use causeway_tests::until;

use crate::stage::{SOON, Stage};

const BYTES: &str = include_str!("../../fixtures/services/bytes.yaml");
const STRICT: &str = include_str!("../../fixtures/services/strict.yaml");
const TLS: &str = include_str!("../../fixtures/services/tls.yaml");

/// Who greets `times` connections to a port of `bytes`.
fn greeted(stage: &Stage, port: u16, times: u32) -> BTreeMap<String, u32> {
    let mut answers = BTreeMap::new();
    for _ in 0..times {
        let heard = stage.client.talk(&[&format!("bytes.prod:{port}"), "--until", "14"]);
        let who = heard["text"].as_str().unwrap().trim_start_matches("hello from ").trim().to_owned();
        *answers.entry(who).or_default() += 1;
    }
    answers
}

pub fn split(stage: &Stage) {
    let taken = |n: usize| {
        let secured = ["connection_security_policy=\"mutual_tls\"", "reporter=\"destination\""];
        stage.versions[n].metric("istio_tcp_connections_opened_total", &secured)
    };
    let before = [taken(0), taken(1)];
    stage.apply(&BYTES.replace("V1", "25").replace("V2", "75"));
    let seen = greeted(stage, 9001, 120);
    let of = |name: &str| seen.get(name).copied().unwrap_or_default();
    // A quarter of 120, within six standard deviations.
    assert!((2..=58).contains(&of("v1")) && of("v1") + of("v2") == 120, "{seen:?}");
    assert_eq!(greeted(stage, 9002, 12), BTreeMap::from([("v2".to_owned(), 12)]), "its port has a route of its own");
    for (weights, wanted) in [(("100", "0"), "v1"), (("0", "100"), "v2")] {
        stage.apply(&BYTES.replace("V1", weights.0).replace("V2", weights.1));
        for port in [9001, 9003] {
            assert_eq!(greeted(stage, port, 12), BTreeMap::from([(wanted.to_owned(), 12)]), "port {port}");
        }
    }
    for (n, before) in before.into_iter().enumerate() {
        assert!(taken(n) >= before + 24.0, "with mutual TLS: {before} {}", taken(n));
    }
}

/// Who answers `times` requests over TLS for a name.
fn asked(stage: &Stage, port: u16, name: &str, times: u32) -> BTreeMap<String, u32> {
    let mut answers = BTreeMap::new();
    for _ in 0..times {
        let to = format!("{name}:{port}:tls.prod:{port}");
        let reply = stage.client.curl(&["-k", "--connect-to", &to, &format!("https://{name}:{port}/")]);
        let host = reply.body.lines().find_map(|line| line.strip_prefix("Hostname=")).unwrap_or_default();
        let who = host.split('-').next().unwrap_or_default().to_owned();
        *answers.entry(if reply.status == 200 { who } else { reply.error }).or_default() += 1;
    }
    answers
}

pub fn by_name(stage: &Stage) {
    stage.apply(TLS);
    for port in [443, 444] {
        for (name, version) in [("one.example", "v1"), ("a.two.example", "v2"), ("a.b.two.example", "v2")] {
            let wanted = BTreeMap::from([(version.to_owned(), 10)]);
            assert_eq!(asked(stage, port, name, 10), wanted, "{name} on {port}");
        }
        for name in ["two.example", "other.example"] {
            let mut seen = BTreeMap::new();
            until("what no route takes goes to all", SOON, || {
                seen.append(&mut asked(stage, port, name, 4));
                if seen.len() == 2 { Ok(()) } else { Err(format!("{seen:?}")) }
            });
            assert!(seen.contains_key("v1") && seen.contains_key("v2"), "{name} on {port}: {seen:?}");
        }
    }
}

/// What a server of bytes, which speaks first, seems to say to a client that does not speak HTTP.
fn heard(stage: &Stage, to: &str) -> String {
    let heard = stage.client.talk(&[to, "--send", "no request\\r\\n\\r\\n", "--timeout-ms", "3000"]);
    heard["text"].as_str().unwrap().to_owned()
}

/// A port that declares HTTP, by its name or by `appProtocol`, is HTTP whatever is behind it.
pub fn declared(stage: &Stage) {
    for (port, says) in [
        (9011, "HTTP/1.1 400"),
        (9012, "hello from v"),
        (9013, "HTTP/1.1 400"),
        (9014, "hello from v"),
        // Who declares HTTP/2 is told nothing that it would not understand.
        (9015, ""),
    ] {
        let text = heard(stage, &format!("declared.prod:{port}"));
        assert!(text.starts_with(says) && (says.starts_with("hello") || !text.contains("hello")), "{port}: {text}");
    }
}

/// A port that declares nothing and whose server speaks first, before and after somebody has routes for requests to it.
pub fn never_bytes(stage: &Stage) {
    let talk = |port: u16| heard(stage, &format!("strict.prod:{port}"));
    assert!(talk(9003).starts_with("hello from v"), "{}", talk(9003));
    stage.apply(STRICT);
    let refused = talk(9003);
    assert!(refused.starts_with("HTTP/1.1 400") && !refused.contains("hello"), "{refused}");
    assert!(talk(9001).starts_with("hello from v"), "what is declared as bytes has no such routes: {}", talk(9001));
}
