//! `Host`: none, several, malformed, at odds with the target.

use super::{Case, forward, message, refuse, seen};

pub(super) fn cases() -> Vec<Case> {
    [number(), values(), against_target()].concat()
}

fn with(line: &str, fields: &[&str]) -> String {
    message(line, &[&["X-Marker: CASE"], fields].concat(), "")
}

fn number() -> Vec<Case> {
    let line = "GET /g HTTP/1.1";
    let mut cases = vec![
        refuse("host", "none", &with(line, &[])),
        refuse("host", "none, absolute form", &with("GET http://app.prod/g HTTP/1.1", &[])),
        refuse("host", "two, equal", &with(line, &["Host: app.prod", "Host: app.prod"])),
        refuse("host", "two, different", &with(line, &["Host: app.prod", "Host: other.prod"])),
        refuse("host", "two, the first empty", &with(line, &["Host:", "Host: app.prod"])),
        refuse("host", "two, the second empty", &with(line, &["Host: app.prod", "Host:"])),
        refuse("host", "two, in other letters", &with(line, &["Host: app.prod", "HOST: app.prod"])),
        refuse("host", "two, apart", &with(line, &["Host: app.prod", "X-Between: 1", "host: other.prod"])),
        refuse("host", "three", &with(line, &["Host: app.prod"; 3])),
        refuse("host", "two in HTTP/1.0", &with("GET /g HTTP/1.0", &["Host: app.prod", "Host: app.prod"])),
        refuse("host", "two, one behind a space", &with(line, &["Host: app.prod", " Host: other.prod"])),
        refuse("host", "two, one with a space before the colon", &with(line, &["Host: app.prod", "Host : other.prod"])),
        refuse("host", "one, with a space before the colon", &with(line, &["Host : app.prod"])),
        refuse("host", "one, folded", &with(line, &["Host:\r\n app.prod"])),
        refuse("host", "one, folded into another field", &with(line, &["X-Fold: a\r\n Host: app.prod"])),
        refuse("host", "one, ended by LF", &with(line, &["Host: app.prod\nX-Line: a"])),
        refuse("host", "one, ended by CR", &with(line, &["Host: app.prod\rX-Line: a"])),
    ];
    // Two absolute forms agree, two Hosts do not help.
    let absolute = "GET http://app.prod/g HTTP/1.1";
    cases.push(refuse("host", "two, absolute form", &with(absolute, &["Host: app.prod", "Host: app.prod"])));
    cases
}

fn values() -> Vec<Case> {
    [
        "",
        " ",
        "app.prod, other.prod",
        "app.prod,other.prod",
        "app.prod other.prod",
        "app.prod\tother.prod",
        "app.prod;x",
        "app.prod/",
        "app.prod/path",
        "http://app.prod",
        "//app.prod",
        "user@app.prod",
        "user:pass@app.prod",
        "app.prod@other.prod",
        "app.prod?x",
        "app.prod#x",
        "app.prod:",
        "app.prod:x",
        "app.prod:-1",
        "app.prod:+80",
        "app.prod:80:80",
        "app.prod: 80",
        "app.prod :80",
        "app.prod:080",
        "app.prod:99999",
        "app.prod:0",
        "app.prod:65536",
        "app.prod:80 ,",
        ":80",
        ":",
        "app.prod\\other",
        "app%2eprod",
        "app.prod%00",
        "app.prod%20",
        "app.prod\u{0}",
        "app.prod\u{b}",
        "\u{c}app.prod",
        "app.prod\u{7f}",
        "app.pr\u{f6}d",
        "app.prod\u{a0}",
        "\u{ff}app.prod",
        "\"app.prod\"",
        "'app.prod'",
        "(app.prod)",
        "<app.prod>",
        "{app.prod}",
        "[app.prod]",
        "[::1",
        "::1",
        "[::1]x",
        "[::1]:",
        "[::1]:x",
        "[::g]",
        "[fe80::1%25eth0]",
        "[fe80::1%eth0]",
        "[]",
        "[v1.a]",
        "*",
        "app.prod|",
        "app.prod^",
        "app.prod`x`",
        "app.prod=x",
        "app.prod&x",
        "app.prod+x",
        "app.prod!",
        "$app.prod",
    ]
    .map(|value| refuse("host", &format!("value {value:?}"), &with("GET /g HTTP/1.1", &[&format!("Host: {value}")])))
    .to_vec()
}

fn against_target() -> Vec<Case> {
    let mut cases = Vec::new();
    for (target, host) in [
        ("http://app.prod/g", "other.prod"),
        ("http://other.prod/g", "app.prod"),
        ("http://app.prod/g", "app.prod:8080"),
        ("http://app.prod:8080/g", "app.prod"),
        ("http://app.prod:80/g", "app.prod:8080"),
        ("http://app.prod/g", "app.prod.svc"),
        ("http://app.prod/g", "app.prod."),
        ("http://app.prod?x", "other.prod"),
        ("http://app.prod", "other.prod"),
        ("https://app.prod/g", "app.prod:80"),
        ("http://127.0.0.1/g", "app.prod"),
        ("http://[::1]/g", "app.prod"),
        ("http://app.prod/g", ""),
    ] {
        let line = format!("GET {target} HTTP/1.1");
        let field = format!("Host: {host}");
        cases.push(refuse("host", &format!("{host:?} against {target}"), &with(&line, &[&field])));
    }
    for (target, host, path) in [
        ("http://app.prod/g", "app.prod", "/g"),
        ("http://APP.prod/g", "app.PROD", "/g"),
        ("HTTP://app.prod/g", "app.prod", "/g"),
        ("http://app.prod:80/g", "app.prod", "/g"),
        ("http://app.prod/g", "app.prod:80", "/g"),
        ("http://app.prod?x=1", "app.prod", "/?x=1"),
        ("http://app.prod", "app.prod", "/"),
    ] {
        let line = format!("GET {target} HTTP/1.1");
        let field = format!("Host: {host}");
        let what = format!("{host} agrees with {target}");
        cases.push(forward("host", &what, &with(&line, &[&field]), vec![seen("GET", path, "")]));
    }
    cases
}
